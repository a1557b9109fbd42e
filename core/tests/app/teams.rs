//! Membership of the shared workspace, which ends with a change of the configuration.

use chrono::TimeDelta;
use http::Request;
use kubeagents_core::{AuthMode, Settings};
use serde_json::{Value, json};

use crate::server::{Reply, Server, settings, values};

const EMAIL: &str = "ann@example.com";

fn with_members(members: &str) -> Settings {
    Settings {
        values: values(&[("SHARED_WORKSPACE_MEMBERS", members)]),
        ..settings(AuthMode::Required)
    }
}

fn post_as(server: &Server, token: &str, path: &str, body: &Value) -> Reply {
    let request = Request::post(path).header("authorization", format!("Bearer {token}"));
    server.send(request.body(body.to_string()).unwrap())
}

/// The tokens of a verified account.
fn verified(server: &Server, email: &str) -> Value {
    let body = json!({"email": email, "password": "correct horse"});
    server.post("/api/auth/register", &body);
    let path = format!("/api/auth/verify?token={}", server.mailed_token());
    server.get(&path).json()
}

#[test]
fn who_is_no_member_any_more_has_no_access_at_the_changed_server() {
    let before = Server::new(with_members(EMAIL));
    let tokens = verified(&before, EMAIL);
    assert_eq!(tokens["user"]["shared_workspace"], true);
    let access = tokens["access_token"].as_str().unwrap();
    let request = json!({"name": "k", "scopes": ["read"], "workspace": "shared"});
    let created = post_as(&before, access, "/api/apikeys", &request).json();
    let key = created["key"].as_str().unwrap();
    let statuses = |server: &Server| {
        let shared = "/api/agents?workspace=shared";
        [
            (access, shared),
            (access, "/api/agents"),
            (key, "/api/agents"),
        ]
        .map(|(token, path)| server.get_as(token, path).status.as_u16())
    };
    assert_eq!(statuses(&before), [200, 200, 200]);
    let after = before.beside(with_members("somebody@example.com"));
    assert_eq!(statuses(&after), [403, 200, 403]);
    let user = after.get_as(access, "/api/auth/me").json();
    assert_eq!(user.get("shared_workspace"), None);
    let again = after.beside(with_members("@example.com"));
    assert_eq!(statuses(&again), [200, 200, 200]);
}

#[test]
fn a_key_of_a_member_that_another_host_deleted_is_refused_after_five_seconds() {
    let server = Server::new(with_members(EMAIL));
    let tokens = verified(&server, EMAIL);
    let access = tokens["access_token"].as_str().unwrap();
    let read = "/api/agents?workspace=shared";
    assert_eq!(server.get_as(access, read).status, 200);
    let other = server.beside(with_members(EMAIL));
    let request =
        Request::delete("/api/auth/me").header("authorization", format!("Bearer {access}"));
    let body = json!({"password": "correct horse"}).to_string();
    assert_eq!(other.send(request.body(body).unwrap()).status, 200);
    server.clock.advance(TimeDelta::seconds(5));
    assert_eq!(server.get_as(access, read).status, 401);
}

#[test]
fn in_open_mode_everybody_works_in_the_shared_workspace_whatever_they_ask_for() {
    let server = Server::new(settings(AuthMode::Open));
    let tokens = verified(&server, EMAIL);
    let access = tokens["access_token"].as_str().unwrap();
    for (path, status) in [
        ("/api/agents", 200),
        ("/api/agents?workspace=shared", 200),
        ("/api/agents?workspace=own", 200),
        ("/api/agents?workspace=other", 400),
    ] {
        assert_eq!(server.get(path).status.as_u16(), status, "{path}");
        assert_eq!(
            server.get_as(access, path).status.as_u16(),
            status,
            "{path}"
        );
    }
}
