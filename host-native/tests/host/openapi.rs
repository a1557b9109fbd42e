use kubeagents_contract::openapi::check;

use crate::support::Server;

#[tokio::test]
async fn the_server_keeps_to_its_openapi_document() {
    let server = Server::start(&[]);
    let account = server.account("openapi@example.com").await;
    let token = account["access_token"].as_str().unwrap();
    check(&format!("http://{}", server.address), token);
}
