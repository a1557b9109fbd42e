use kubeagents_contract::openapi::check;

use crate::support::Server;

#[tokio::test]
async fn the_server_keeps_to_its_openapi_document() {
    // The document is of what programs use, and the page has a view at the path of an endpoint.
    let server = Server::start(&[("DASHBOARD_ENABLED", "false")]);
    let account = server.account("openapi@example.com").await;
    let token = account["access_token"].as_str().unwrap();
    check(&format!("http://{}", server.address), token);
}
