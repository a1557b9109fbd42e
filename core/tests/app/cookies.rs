//! The cookie with a page's refresh token: behind proxies, and beside other instances.

use http::Request;
use http::header::{ORIGIN, SET_COOKIE};
use kubeagents_core::{AuthMode, Encrypted, Peer, Settings};
use serde_json::{Value, json};

use crate::server::{Reply, Server, settings, values};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse";

/// A server with a verified account, behind a proxy at 10.0.0.1.
fn server(variables: &[(&'static str, &str)]) -> Server {
    let proxies = ("TRUSTED_PROXIES", "10.0.0.1");
    let server = Server::new(Settings {
        values: values(&[variables, &[proxies]].concat()),
        ..settings(AuthMode::Required)
    });
    let body = json!({"email": EMAIL, "password": PASSWORD});
    server.post("/api/auth/register", &body);
    let path = format!("/api/auth/verify?token={}", server.mailed_token());
    assert_eq!(server.get(&path).status, 200);
    server
}

/// Asks for the cookie, from this address and with these headers.
fn ask(server: &Server, peer: &str, path: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::post(path).extension(Peer(peer.parse().unwrap()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(body.to_string()).unwrap())
}

fn log_in(server: &Server, peer: &str, headers: &[(&str, &str)]) -> Reply {
    let body = json!({"email": EMAIL, "password": PASSWORD, "cookie": true});
    ask(server, peer, "/api/auth/login", &body, headers)
}

/// The cookie that an answer sets, if it was given.
fn cookie(reply: &Reply) -> Option<String> {
    let cookie = reply.response.headers().get(SET_COOKIE);
    assert_eq!(cookie.is_some(), reply.status == 200);
    cookie.map(|cookie| cookie.to_str().unwrap().to_owned())
}

const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "10.0.0.2";

#[test]
fn a_trusted_proxy_says_under_which_name_and_scheme_the_page_was_asked_for() {
    let server = server(&[]);
    let forwarded = [
        ("host", "backend:8080"),
        ("x-forwarded-host", "agents.example.com"),
        ("x-forwarded-proto", "https"),
        ("origin", "https://agents.example.com"),
    ];
    let cookie_of = |peer, headers| cookie(&log_in(&server, peer, headers));
    assert!(cookie_of(PROXY, &forwarded).unwrap().ends_with("; Secure"));
    assert_eq!(cookie_of(STRANGER, &forwarded), None);

    let by_http = forwarded.map(|(name, value)| match name {
        "origin" => (name, "http://agents.example.com"),
        _ => (name, value),
    });
    assert_eq!(cookie_of(PROXY, &by_http), None, "another scheme");
    let own = [
        ("sec-fetch-site", "same-origin"),
        ("x-forwarded-proto", "https"),
    ];
    assert!(cookie_of(PROXY, &own).unwrap().starts_with("__Secure-"));
    let believed = cookie_of(STRANGER, &own).unwrap();
    assert!(!believed.contains("Secure"), "{believed}");
}

#[test]
fn a_host_that_takes_tls_off_says_so() {
    let server = server(&[]);
    let body = json!({"email": EMAIL, "password": PASSWORD, "cookie": true});
    let request = Request::post("/api/auth/login").header("sec-fetch-site", "same-origin");
    let request = request.extension(Encrypted).body(body.to_string());
    let reply = server.send(request.unwrap());
    assert!(cookie(&reply).unwrap().ends_with("; Secure"));
}

#[test]
fn the_dashboard_at_its_own_address_may_use_the_cookie() {
    let server = server(&[("APP_BASE_URL", "https://app.example.com/kube")]);
    for (origin, is_allowed) in [
        ("https://app.example.com", true),
        ("https://app.example.com:443", true),
        ("http://app.example.com", false),
        ("https://app.example.com:8443", false),
        ("https://example.com", false),
        ("null", false),
    ] {
        let reply = log_in(&server, STRANGER, &[(ORIGIN.as_str(), origin)]);
        assert_eq!(cookie(&reply).is_some(), is_allowed, "{origin}");
    }
}

#[test]
fn the_cookie_lives_as_long_as_its_token() {
    let server = server(&[("JWT_REFRESH_TOKEN_EXPIRY", "90s")]);
    let reply = log_in(&server, STRANGER, &[("sec-fetch-site", "same-origin")]);
    assert!(cookie(&reply).unwrap().contains("; Max-Age=90;"));
}

#[test]
fn instances_have_cookies_of_their_own_unless_they_share_their_secret() {
    let name = |jwt_secret: &str| {
        let server = Server::new(Settings {
            jwt_secret: jwt_secret.into(),
            ..settings(AuthMode::Required)
        });
        let body = json!({"email": EMAIL, "password": PASSWORD});
        server.post("/api/auth/register", &body);
        server.get(&format!("/api/auth/verify?token={}", server.mailed_token()));
        let reply = log_in(&server, STRANGER, &[("sec-fetch-site", "same-origin")]);
        cookie(&reply)
            .unwrap()
            .split_once('=')
            .unwrap()
            .0
            .to_owned()
    };
    let (one, other) = ("one secret of some length", "another secret of some length");
    assert_eq!(name(one), name(one));
    assert_ne!(name(one), name(other));
}

#[test]
fn one_of_several_cookies_of_a_name_is_not_taken_for_the_own() {
    let server = server(&[]);
    let own = [("sec-fetch-site", "same-origin")];
    let kept = cookie(&log_in(&server, STRANGER, &own)).unwrap();
    let kept = kept.split(';').next().unwrap();
    let name = kept.split_once('=').unwrap().0;
    let body = json!({"cookie": true});
    let refresh = |cookies: &str| {
        let headers = [own[0], ("cookie", cookies)];
        ask(&server, STRANGER, "/api/auth/refresh", &body, &headers)
    };
    for cookies in [format!("{name}=x; {kept}"), format!("{kept};{name}=x")] {
        assert_eq!(cookie(&refresh(&cookies)), None);
    }
    assert!(cookie(&refresh(&format!("x{name}=x; {kept};y={name}"))).is_some());
}
