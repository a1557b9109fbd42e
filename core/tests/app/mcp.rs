//! The Model Context Protocol over HTTP, message by message.

use crate::server::{Reply, Server, settings, values};
use http::{Request, StatusCode};
use kubeagents_core::AuthMode;
use kubeagents_core::mcp::{ProtocolVersion, Tool};
use serde_json::{Value, json};

fn server() -> Server {
    Server::new(settings(AuthMode::Open))
}

fn send(server: &Server, headers: &[(&str, &str)], body: &Value) -> Reply {
    let mut request = Request::post("/mcp");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(body.to_string()).unwrap())
}

fn call(tool: &str, arguments: Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
}

/// A message in the revision without a handshake.
fn stateless(method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": "x", "method": method, "params": params})
}

/// Its headers.
fn headers<'a>(method: &'a str, name: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", method),
        ("mcp-name", name),
    ]
}

/// What a call in the latest revision with a handshake answers.
fn result(server: &Server, tool: &str, arguments: Value) -> Value {
    let headers = [("mcp-protocol-version", "2025-11-25")];
    let reply = send(server, &headers, &call(tool, arguments));
    assert_eq!(reply.status, StatusCode::OK);
    reply.json()["result"].clone()
}

fn error(reply: &Reply) -> (u16, i64, String) {
    let error = &reply.json()["error"];
    (
        reply.status.as_u16(),
        error["code"].as_i64().unwrap(),
        error["message"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn initialize_agrees_to_what_is_spoken_and_else_offers_the_newest_with_a_handshake() {
    for (asked, agreed) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("next", "2025-11-25"),
    ] {
        let message = json!({
            "jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": {
                "protocolVersion": asked, "capabilities": {},
                "clientInfo": {"name": "c", "version": "1"},
            },
        });
        let reply = send(&server(), &[], &message);
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.response.headers().get("mcp-session-id"), None);
        let answer = reply.json();
        assert_eq!(answer["id"], 0);
        let result = &answer["result"];
        assert_eq!(result["protocolVersion"], agreed, "{asked}");
        assert_eq!(result["serverInfo"]["name"], "kubeagents");
        assert_eq!(result["capabilities"], json!({"tools": {}}));
        assert_eq!(result.get("resultType"), None);
    }
}

#[test]
fn a_whole_task_can_be_reported_and_is_read_back_over_rest() {
    let server = server();
    let names = json!({"agent_id": "a", "session_topic": "t/1"});
    let with = |more: Value| {
        let mut arguments = names.clone();
        for (name, value) in more.as_object().unwrap() {
            arguments[name] = value.clone();
        }
        arguments
    };
    for (tool, arguments) in [
        (
            "start_session",
            with(json!({
                "agent_name": "A", "agent_source": "cursor", "ttl_minutes": 7,
                "session_title": "The task",
            })),
        ),
        (
            "report_status",
            with(json!({"status": "pending", "reason": "question", "message": "asked"})),
        ),
        (
            "end_session",
            with(json!({"status": "success", "message": "done", "content": "all of it"})),
        ),
    ] {
        assert_eq!(
            result(&server, tool, arguments),
            json!({
                "content": [{"type": "text", "text": "Status reported successfully"}],
                "isError": false,
            })
        );
    }
    let agent = server.get("/api/agents/a").json();
    assert_eq!(
        (&agent["name"], &agent["source"]),
        (&json!("A"), &json!("cursor"))
    );
    let detail = server.get("/api/agents/a/sessions/t%2F1").json();
    assert_eq!(detail["session"]["ttl_minutes"], 7);
    assert_eq!(detail["session"]["title"], "The task");
    let history = detail["status_history"].as_array().unwrap();
    let statuses: Vec<_> = history.iter().map(|status| &status["status"]).collect();
    assert_eq!(statuses, ["success", "pending", "running"]);
    assert_eq!(history[0]["content"], "all of it");
    assert_eq!(history[1]["reason"], "question");

    let read = result(&server, "get_session", names);
    assert_eq!(read["structuredContent"], detail);
    let text = read["content"][0]["text"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), detail);
}

#[test]
fn reading_tools_page_through_what_rest_shows() {
    let server = server();
    for agent in ["a", "b", "c"] {
        result(
            &server,
            "start_session",
            json!({"agent_id": agent, "session_topic": "t"}),
        );
    }
    let first = result(&server, "list_agents", json!({"limit": 2}))["structuredContent"].clone();
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = result(
        &server,
        "list_agents",
        json!({"limit": 2, "cursor": cursor}),
    )["structuredContent"]
        .clone();
    assert_eq!(rest.get("next_cursor"), None);
    let both: Vec<_> = [&first, &rest]
        .into_iter()
        .flat_map(|page| page["agents"].as_array().unwrap())
        .cloned()
        .collect();
    let all = server.get("/api/agents").json()["agents"].clone();
    assert_eq!(Value::from(both), all);

    let found = result(
        &server,
        "list_agents",
        json!({"search": "B", "status": "running"}),
    );
    assert_eq!(found["structuredContent"]["agents"][0]["agent_id"], "b");
    let none = result(&server, "list_agents", json!({"status": "failed"}));
    assert_eq!(none["structuredContent"], json!({"agents": []}));
}

#[test]
fn an_agents_sessions_are_listed_as_rest_lists_them() {
    let server = server();
    for topic in ["a/b", "c", "d"] {
        let arguments = json!({"agent_id": "a", "session_topic": topic});
        result(&server, "start_session", arguments);
    }
    let page = |cursor: Value| {
        let arguments = json!({"agent_id": "a", "limit": 2, "cursor": cursor});
        result(&server, "list_sessions", arguments)["structuredContent"].clone()
    };
    let first = page(Value::Null);
    let rest = page(first["next_cursor"].clone());
    assert_eq!(rest.get("next_cursor"), None);
    let both: Vec<_> = [&first, &rest]
        .into_iter()
        .flat_map(|page| page["sessions"].as_array().unwrap())
        .cloned()
        .collect();
    let all = server.get("/api/agents/a/sessions").json()["sessions"].clone();
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(Value::from(both), all);
}

/// A server with a session of so many statuses, each 60 KB of JSON.
fn server_with_long_texts(statuses: usize) -> Server {
    let server = server();
    for n in 0..statuses {
        let report = json!({
            "agent_id": "a", "session_topic": "t", "status": "running", "message": n.to_string(),
            "content": "\u{1}".repeat(10_000), "timestamp": "2026-01-01T00:00:00Z",
        });
        assert_eq!(
            server.post("/webhook/status", &report).status,
            StatusCode::OK
        );
    }
    server
}

/// What one of those statuses takes up in an answer at most.
const LONG_ROW: usize = 140_000;

#[test]
fn what_a_tool_answers_ends_at_its_bytes_and_goes_on_there() {
    let server = server_with_long_texts(100);
    for version in ["2025-03-26", "2025-06-18"] {
        let mut messages = Vec::new();
        let mut cursor = Value::Null;
        loop {
            let arguments =
                json!({"agent_id": "a", "session_topic": "t", "limit": 100, "cursor": cursor});
            let headers = [("mcp-protocol-version", version)];
            let reply = send(&server, &headers, &call("get_session", arguments));
            let bytes = reply.response.body().len();
            assert!(bytes < (4 << 20) + LONG_ROW, "{bytes}");
            let answer = reply.json();
            let text = answer["result"]["content"][0]["text"].as_str().unwrap();
            let page: Value = serde_json::from_str(text).unwrap();
            let rows = page["status_history"].as_array().unwrap().iter();
            messages.extend(rows.map(|row| row["message"].as_str().unwrap().to_owned()));
            cursor = page["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        assert!(
            messages
                .into_iter()
                .eq((0..100).rev().map(|n| n.to_string()))
        );
    }
}

#[test]
fn the_answers_of_a_batch_share_the_bytes_of_one() {
    let server = server_with_long_texts(40);
    let names = json!({"agent_id": "a", "session_topic": "t", "limit": 100});
    let mut batch = vec![call("get_session", names.clone()); 15];
    batch.push(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    let mut end = names;
    end["status"] = "success".into();
    batch.push(call("end_session", end));
    let reply = send(&server, &[], &batch.into());
    let bytes = reply.response.body().len();
    assert!(bytes < (4 << 20) + LONG_ROW, "{bytes}");
    let answers = reply.json();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 17);
    assert_eq!(answers[0]["result"]["isError"], false);
    for refused in &answers[2..16] {
        let error = &refused["error"];
        assert_eq!(error["code"], -32000);
        assert!(
            error["message"].as_str().unwrap().contains("by itself"),
            "{error}"
        );
    }
    assert_eq!(
        answers[16]["result"]["isError"], false,
        "reports are stored"
    );
    let status = server.get("/api/agents/a/status").json();
    assert_eq!(status["status"], "success");
}

#[test]
fn text_that_was_cut_in_the_middle_of_a_character_is_taken() {
    let server = server();
    let arguments = json!({"agent_id": "a", "session_topic": "t", "message": "CUT"});
    let body = call("start_session", arguments).to_string();
    let (before, after) = body.split_once("CUT").unwrap();
    let mut cuts = vec![[before, r"\ud83d", after].concat().into_bytes()];
    cuts.push([before.as_bytes(), b"\xf0\x9f", after.as_bytes()].concat());
    for body in cuts {
        let reply = server.send(Request::post("/mcp").body(body).unwrap());
        assert_eq!(reply.json()["result"]["isError"], false);
        let status = server.get("/api/agents/a/status").json();
        assert_eq!(status["message"], "\u{fffd}");
    }
}

#[test]
fn what_a_session_lives_is_said_as_it_is_configured() {
    let server = Server::new(kubeagents_core::Settings {
        values: values(&[("DEFAULT_TTL_MINUTES", "8")]),
        ..settings(AuthMode::Open)
    });
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let tools = send(&server, &[], &list).json()["result"]["tools"].clone();
    let ttl = &tools[0]["inputSchema"]["properties"]["ttl_minutes"];
    let description = ttl["description"].as_str().unwrap();
    assert!(description.contains("8 at first"), "{description}");
    let description = tools[1]["description"].as_str().unwrap();
    assert!(description.contains("every 4 minutes"), "{description}");
}

#[test]
fn what_a_model_can_mend_is_a_tool_error() {
    let server = server();
    for (tool, arguments, text) in [
        ("start_session", json!({}), "agent_id is required"),
        (
            "end_session",
            json!({"agent_id": "a", "session_topic": "t", "status": "running"}),
            "status must be one of: success, failed",
        ),
        (
            "get_session",
            json!({"agent_id": "a", "session_topic": "t"}),
            "Agent not found",
        ),
        ("list_agents", json!({"cursor": "?"}), "cursor is invalid"),
    ] {
        assert_eq!(
            result(&server, tool, arguments),
            json!({"content": [{"type": "text", "text": text}], "isError": true})
        );
    }
    assert_eq!(server.get("/api/agents").json(), json!({"agents": []}));
}

#[test]
fn what_only_a_client_can_mend_is_an_error_of_the_protocol() {
    let request = |method: &str, params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    for (body, status, code) in [
        ("{", 400, -32700),
        ("", 400, -32700),
        (r#"{"jsonrpc":"2.0"} x"#, 400, -32700),
        ("1", 400, -32600),
        ("null", 400, -32600),
        (
            r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}"#,
            400,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            400,
            -32600,
        ),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping","id":2}]"#,
            400,
            -32600,
        ),
        (r#"{"id":1,"method":"ping"}"#, 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1}"#, 400, -32600),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            400,
            -32600,
        ),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, 400, -32600),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
            200,
            -32602,
        ),
        (&request("nothing", json!({})).to_string(), 200, -32601),
        (
            &request("server/discover", json!({})).to_string(),
            200,
            -32601,
        ),
        (&request("initialize", json!({})).to_string(), 200, -32602),
        (
            &request("tools/list", json!({"cursor": "x"})).to_string(),
            200,
            -32602,
        ),
        (&request("tools/call", json!({})).to_string(), 200, -32602),
        (&call("nothing", json!({})).to_string(), 200, -32602),
        (&call("list_agents", json!([])).to_string(), 200, -32602),
    ] {
        let request = Request::post("/mcp").body(body.to_owned()).unwrap();
        let reply = server().send(request);
        let (got_status, got_code, _) = error(&reply);
        assert_eq!((got_status, got_code), (status, code), "{body}");
    }
}

#[test]
fn tools_are_listed_as_each_revision_knows_them() {
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let names = Tool::ALL.map(Tool::name);
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let reply = send(&server(), &[("mcp-protocol-version", version)], &list);
        let tools = reply.json()["result"]["tools"].clone();
        let listed: Vec<_> = tools.as_array().unwrap().iter().collect();
        assert_eq!(listed.iter().map(|t| &t["name"]).collect::<Vec<_>>(), names);
        let has_titles = version != "2025-03-26";
        assert!(
            listed
                .iter()
                .all(|tool| tool.get("title").is_some() == has_titles)
        );
        let outputs = listed
            .iter()
            .filter(|tool| tool.get("outputSchema").is_some());
        assert_eq!(outputs.count(), if has_titles { 3 } else { 0 });
        for tool in listed {
            let reads = tool["annotations"]["readOnlyHint"] == true;
            let reading = ["list_agents", "list_sessions", "get_session"];
            assert_eq!(reads, reading.contains(&tool["name"].as_str().unwrap()));
        }
    }
    let old = send(&server(), &[], &call("list_agents", json!({}))).json();
    assert_eq!(old["result"].get("structuredContent"), None);
    assert_eq!(old["result"]["content"][0]["text"], r#"{"agents":[]}"#);
}

#[test]
fn what_wants_no_answer_is_accepted_without_a_body() {
    for message in [
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}),
        json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
        json!([{"jsonrpc": "2.0", "method": "notifications/initialized"}]),
    ] {
        let reply = send(&server(), &[], &message);
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{message}");
        assert!(reply.response.body().is_empty());
    }
}

#[test]
fn batches_are_answered_where_the_revision_has_them() {
    let server = server();
    let ping = |id: Value| json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
    let batch = json!([
        ping(json!("a")),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        call("start_session", json!({"agent_id": "a", "session_topic": "t"})),
        {"jsonrpc": "2.0", "id": 3, "method": "initialize", "params": {"protocolVersion": "2025-03-26"}},
        7,
    ]);
    for headers in [&[][..], &[("mcp-protocol-version", "2025-03-26")]] {
        let reply = send(&server, headers, &batch);
        assert_eq!(reply.status, StatusCode::OK);
        let answers = reply.json();
        let ids: Vec<_> = answers
            .as_array()
            .unwrap()
            .iter()
            .map(|a| &a["id"])
            .collect();
        assert_eq!(ids, [&json!("a"), &json!(1), &json!(3), &json!(null)]);
        assert_eq!(answers[1]["result"]["isError"], false);
        assert_eq!(answers[2]["error"]["code"], -32600);
        assert_eq!(answers[3]["error"]["code"], -32600);
    }
    assert_eq!(server.get("/api/agents/a").json()["session_count"], 1);

    let too_many = Value::from(vec![ping(json!(1)); 101]);
    for (version, batch) in [
        ("2025-03-26", json!([])),
        ("2025-03-26", too_many),
        ("2025-06-18", batch.clone()),
        ("2026-07-28", batch),
    ] {
        let reply = send(&server, &[("mcp-protocol-version", version)], &batch);
        let (status, code, _) = error(&reply);
        assert_eq!((status, code), (400, -32600), "{version}");
    }
}

#[test]
fn the_reports_of_a_batch_are_stored_in_its_order() {
    let server = server();
    let report = |n: usize| {
        let tool = ["start_session", "report_status"][n.min(1)];
        let mut arguments =
            json!({"agent_id": "a", "session_topic": "t", "message": n.to_string()});
        if n > 0 {
            arguments["status"] = "running".into();
        }
        call(tool, arguments)
    };
    let batch = (0..50).map(report).collect();
    let reply = send(&server, &[("mcp-protocol-version", "2025-03-26")], &batch);
    for answer in reply.json().as_array().unwrap() {
        assert_eq!(answer["result"]["isError"], false, "{answer}");
    }
    let session = server.get("/api/agents/a/sessions/t").json();
    let history = session["status_history"].as_array().unwrap();
    let messages = history.iter().rev().map(|status| &status["message"]);
    assert!(messages.eq((0..50).map(|n| n.to_string()).collect::<Vec<_>>().iter()));
}

#[test]
fn without_a_handshake_each_request_says_what_it_is() {
    let server = server();
    let reply = send(
        &server,
        &headers("server/discover", "-")[..2],
        &stateless("server/discover", json!({})),
    );
    assert_eq!(reply.status, StatusCode::OK);
    let answer = reply.json();
    assert_eq!(answer["id"], "x");
    let result = &answer["result"];
    let spoken = ProtocolVersion::ALL.map(ProtocolVersion::as_str);
    assert_eq!(result["supportedVersions"], json!(spoken));
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["cacheScope"], "public");
    let info = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
    assert_eq!(info["name"], "kubeagents");

    let list = send(
        &server,
        &headers("tools/list", "-")[..2],
        &stateless("tools/list", json!({})),
    );
    assert!(list.json()["result"]["ttlMs"].is_u64());

    let arguments = json!({"agent_id": "a", "session_topic": "t"});
    let message = stateless(
        "tools/call",
        json!({"name": "start_session", "arguments": arguments}),
    );
    // "start_session", in Base64.
    for name in ["start_session", "=?base64?c3RhcnRfc2Vzc2lvbg==?="] {
        let reply = send(&server, &headers("tools/call", name), &message);
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.json()["result"]["isError"], false);
        assert_eq!(reply.json()["result"]["resultType"], "complete");
    }
}

#[test]
fn headers_that_contradict_the_body_are_refused() {
    let message = stateless("tools/call", json!({"name": "list_agents"}));
    let version = ("mcp-protocol-version", "2026-07-28");
    let method = ("mcp-method", "tools/call");
    let name = ("mcp-name", "list_agents");
    assert_eq!(
        send(&server(), &[version, method, name], &message).status,
        200
    );
    for headers in [
        vec![method, name],
        vec![version, name],
        vec![version, method],
        vec![version, method, ("mcp-name", "get_session")],
        vec![version, method, ("mcp-name", "=?base64?!?=")],
        vec![version, ("mcp-method", "tools/list"), name],
        vec![("mcp-protocol-version", "2025-11-25"), method, name],
        vec![version, version, method, name],
        vec![version, method, method, name],
        vec![version, method, name, name],
    ] {
        let (status, code, _) = error(&send(&server(), &headers, &message));
        assert_eq!((status, code), (400, -32020), "{headers:?}");
    }
    let mut incomplete = message.clone();
    incomplete["params"]["_meta"]
        .as_object_mut()
        .unwrap()
        .remove("io.modelcontextprotocol/clientCapabilities");
    let bare = call("list_agents", json!({}));
    for message in [&incomplete, &bare] {
        let (status, code, _) = error(&send(&server(), &[version, method, name], message));
        assert_eq!((status, code), (400, -32602));
    }
}

#[test]
fn a_revision_that_is_not_spoken_is_answered_with_those_that_are() {
    let mut message = stateless("tools/list", json!({}));
    message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2099-01-01");
    let headers = [("mcp-protocol-version", "2099-01-01")];
    let bare = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    for message in [message, bare, notification] {
        let reply = send(&server(), &headers, &message);
        let (status, code, _) = error(&reply);
        assert_eq!((status, code), (400, -32022));
        let data = &reply.json()["error"]["data"];
        assert_eq!(data["requested"], "2099-01-01");
        assert_eq!(data["supported"][0], "2026-07-28");
    }
}

#[test]
fn methods_that_the_revision_has_not_are_not_found() {
    for method in [
        "initialize",
        "ping",
        "subscriptions/listen",
        "resources/list",
    ] {
        let message = stateless(method, json!({"protocolVersion": "2025-11-25"}));
        let (status, code, _) = error(&send(&server(), &headers(method, "-")[..2], &message));
        assert_eq!((status, code), (404, -32601), "{method}");
    }
}

#[test]
fn pages_that_may_not_use_the_instance_cannot_send_to_it() {
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let origin = |server: &Server, origin: &str| send(server, &[("origin", origin)], &ping).status;

    let open = server();
    assert_eq!(origin(&open, "http://localhost:5173"), 200);
    assert_eq!(origin(&open, "http://[::1]:9"), 200);
    assert_eq!(origin(&open, "https://evil.example"), 403);
    assert_eq!(origin(&open, "null"), 403);

    let listed = Server::new(kubeagents_core::Settings {
        values: values(&[("CORS_ALLOWED_ORIGINS", "https://app.example.com")]),
        ..settings(AuthMode::Open)
    });
    assert_eq!(origin(&listed, "https://app.example.com"), 200);
    assert_eq!(origin(&listed, "http://127.0.0.1:6274"), 200);
    assert_eq!(origin(&listed, "https://evil.example"), 403);

    let reply = send(&open, &[("origin", "https://evil.example")], &ping);
    assert_eq!(
        reply.json(),
        json!({
            "error": "forbidden",
            "message": "origin is not allowed: the setting CORS_ALLOWED_ORIGINS names those that are",
            "code": "forbidden",
        })
    );
}

#[test]
fn the_gates_are_those_of_every_route() {
    let required = Server::new(settings(AuthMode::Required));
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let reply = send(&required, &[], &ping);
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(reply.response.headers()["www-authenticate"], "Bearer");
    assert_eq!(reply.json()["error"], "missing authorization header");

    for method in ["GET", "DELETE", "HEAD", "PUT"] {
        let request = Request::builder().method(method).uri("/mcp");
        let reply = required.send(request.body(String::new()).unwrap());
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(reply.response.headers()["allow"], "POST, OPTIONS");
    }

    let mut large = ping;
    large["params"] = json!({"x": "x".repeat(1 << 20)});
    assert_eq!(
        send(&server(), &[], &large).status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[test]
fn a_client_that_would_register_for_oauth_is_told_that_it_lacks_a_key() {
    let required = Server::new(settings(AuthMode::Required));
    for path in [
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
    ] {
        assert_eq!(required.get(path).status, StatusCode::NOT_FOUND);
    }
    let reply = required.post("/register", &json!({"redirect_uris": []}));
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let description = reply.json()["error_description"].clone();
    let description = description.as_str().unwrap();
    assert!(description.starts_with("API key missing"), "{description}");
}

#[test]
fn each_tool_takes_its_scope() {
    let server = Server::new(settings(AuthMode::Required));
    let account = json!({"email": "a@example.com", "password": "correct horse"});
    assert_eq!(server.post("/api/auth/register", &account).status, 201);
    let path = format!("/api/auth/verify?token={}", server.mailed_token());
    let access = server.get(&path).json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let key = |scopes: Value| {
        let body = json!({"name": "k", "scopes": scopes});
        let request =
            Request::post("/api/apikeys").header("authorization", format!("Bearer {access}"));
        let reply = server.send(request.body(body.to_string()).unwrap());
        format!("Bearer {}", reply.json()["key"].as_str().unwrap())
    };
    let start = call(
        "start_session",
        json!({"agent_id": "a", "session_topic": "t"}),
    );
    let list = call("list_agents", json!({}));
    for (scopes, message, error) in [
        (json!(["report"]), &start, None),
        (
            json!(["report"]),
            &list,
            Some("this key lacks the scope read"),
        ),
        (
            json!(["read"]),
            &start,
            Some("this key lacks the scope report"),
        ),
        (json!(["read"]), &list, None),
    ] {
        let reply = send(&server, &[("authorization", &key(scopes))], message);
        assert_eq!(reply.status, StatusCode::OK);
        let result = &reply.json()["result"];
        assert_eq!(result["isError"], error.is_some());
        if let Some(error) = error {
            assert_eq!(result["content"][0]["text"], error);
        }
    }
}

#[test]
fn a_page_may_send_the_headers_of_the_protocol() {
    let preflight = |path: &str| {
        let request = Request::options(path)
            .header("origin", "http://localhost:6274")
            .header("access-control-request-method", "POST");
        let reply = server().send(request.body(String::new()).unwrap());
        reply.response.headers()["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert!(preflight("/mcp").contains("MCP-Protocol-Version"));
    assert!(!preflight("/webhook/status").contains("MCP-Protocol-Version"));
}
