//! Where the links in mails lead.

use http::Request;
use kubeagents_core::settings::Host;
use kubeagents_core::{AuthMode, Encrypted, Settings};
use serde_json::json;

use crate::server::{Server, settings, values};

/// The start of a link that is mailed to who asks under this name.
fn link(server: &Server, host: &str, encrypted: bool) -> String {
    let body = json!({"email": "ada@example.com", "password": "correct horse"}).to_string();
    let mut request = Request::post("/api/auth/register").header("host", host);
    if encrypted {
        request = request.extension(Encrypted);
    }
    assert_eq!(server.send(request.body(body).unwrap()).status, 201);
    let link = server.mailed_link();
    link.split_once("/verify?token=").unwrap().0.to_owned()
}

#[test]
fn links_lead_to_the_page_and_never_where_a_stranger_says() {
    let known = |variables: &[_], own_url: Option<&str>, host| {
        Server::new(Settings {
            values: values(variables),
            own_url: own_url.map(str::to_owned),
            host,
            ..settings(AuthMode::Required)
        })
    };
    let own = Some("http://192.0.2.1:8080");
    let configured = [("APP_BASE_URL", "https://app.example.com/kube/")];
    let named = [("ALLOWED_HOSTS", "agents.example.com")];
    for (server, host, encrypted, expected) in [
        (
            known(&configured, own, Host::Native),
            "evil.example",
            false,
            "https://app.example.com/kube",
        ),
        (
            known(&configured, None, Host::Spin),
            "localhost",
            false,
            "https://app.example.com/kube",
        ),
        (
            known(&[], own, Host::Native),
            "evil.example",
            false,
            "http://192.0.2.1:8080",
        ),
        (
            known(&named, own, Host::Native),
            "agents.example.com",
            false,
            "http://192.0.2.1:8080",
        ),
        (
            known(&named, None, Host::Spin),
            "agents.example.com",
            true,
            "https://agents.example.com",
        ),
        (
            known(&named, None, Host::Spin),
            "agents.example.com:81",
            false,
            "http://agents.example.com:81",
        ),
        (
            known(&[], None, Host::Spin),
            "127.0.0.1:3001",
            false,
            "http://127.0.0.1:3001",
        ),
        (
            known(&[], None, Host::Spin),
            "evil.example",
            false,
            "http://localhost:3000",
        ),
        (
            known(&[], None, Host::Wasmcloud),
            "evil.example",
            true,
            "http://localhost:8000",
        ),
        (
            known(&named, None, Host::Spin),
            "agents.example.com@evil.example",
            false,
            "http://localhost:3000",
        ),
    ] {
        assert_eq!(link(&server, host, encrypted), expected, "{host}");
    }
}
