//! What is under way at once: lists of one workspace, and bodies and answers of all.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{Full, StreamBody};
use kubeagents_core::ports::Clock;
use kubeagents_core::{AuthMode, Settings};
use serde_json::json;

use crate::server::{Reply, Server, settings, values};

fn get(server: &Server, path: &str) -> Pin<Box<impl Future<Output = Response<Bytes>>>> {
    let request = Request::get(path).body(Full::new(Bytes::new()));
    let answer = server.app.handle(request.unwrap());
    Box::pin(async move { answer.await.map(kubeagents_core::Reply::into_whole) })
}

/// Reports on a session of the agent `a`.
fn report_on(server: &Server, topic: usize) {
    let report = json!({
        "agent_id": "a", "session_topic": topic.to_string(), "status": "running",
        "timestamp": "2026-01-01T00:00:00Z",
    });
    assert_eq!(server.post("/webhook/status", &report).status, 200);
}

/// Reports 5 MB on the session `t` of the agent `a`.
fn report_more_than_a_page(server: &Server) {
    for _ in 0..500 {
        let report = json!({
            "agent_id": "a", "session_topic": "t", "status": "running",
            "timestamp": "2026-01-01T00:00:00Z", "content": "x".repeat(10_000),
        });
        assert_eq!(server.post("/webhook/status", &report).status, 200);
    }
}

fn is_at_work(request: &mut Pin<Box<impl Future>>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    matches!(request.as_mut().poll(&mut context), Poll::Pending)
}

#[test]
fn a_workspace_reads_so_many_lists_at_once_and_others_are_told_to_come_again() {
    let server = Server::new(Settings {
        values: values(&[("READS_IN_FLIGHT", "2")]),
        ..settings(AuthMode::Open)
    });
    // A list that finds none of them gives way, and is under way until it is polled again.
    for n in 0..300 {
        let report = json!({
            "agent_id": n.to_string(), "session_topic": "t", "status": "running",
            "timestamp": "2026-01-01T00:00:00Z",
        });
        assert_eq!(server.post("/webhook/status", &report).status, 200);
    }
    let mut first = get(&server, "/api/agents?status=failed");
    let mut second = get(&server, "/api/agents?status=failed&limit=9");
    assert!(is_at_work(&mut first) && is_at_work(&mut second));

    // The clock of these tests does not wait.
    let message = |refused: &Reply| {
        assert_eq!(refused.status, 503);
        let body = refused.json();
        assert_eq!(body["code"], "unavailable");
        body["message"].as_str().unwrap().to_owned()
    };
    let resume = Request::get("/api/events").header("last-event-id", "1-1");
    for refused in [
        server.get("/api/agents?limit=1"),
        server.get("/api/agents/1/sessions"),
        server.get("/api/agents/1/history"),
        server.get("/api/events?after=1-1"),
        server.send(resume.body("").unwrap()),
    ] {
        let message = message(&refused);
        assert!(message.contains("READS_IN_FLIGHT"), "{message}");
        assert_eq!(refused.response.headers()["retry-after"], "1");
    }
    // A stream without a past reads nothing, and gets as far as the readers who are there.
    for path in ["/api/events", "/api/events?after="] {
        let message = message(&server.get(path));
        assert!(message.contains("streams"), "{message}");
    }
    let params = json!({"name": "list_agents", "arguments": {}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let refused = server.post("/mcp", &call).json();
    assert_eq!(refused["result"]["isError"], true, "{refused}");

    // What is no list goes on.
    assert_eq!(server.get("/api/agents/1").status, 200);
    assert_eq!(server.get("/ready").status, 200);

    let mut context = Context::from_waker(Waker::noop());
    let answer = loop {
        if let Poll::Ready(answer) = first.as_mut().poll(&mut context) {
            break answer;
        }
    };
    assert_eq!(answer.status(), 200);
    assert_eq!(server.get("/api/agents?limit=1").status, 200);
    drop(second);
    let answered = server.post("/mcp", &call).json();
    assert_eq!(answered["result"]["isError"], false);
}

#[test]
fn long_lists_are_written_at_leisure_whatever_number_of_rows_they_have() {
    let server = Server::new(settings(AuthMode::Open));
    let report = |agent: &str, topic: usize, content: usize| {
        let report = json!({
            "agent_id": agent, "session_topic": topic.to_string(), "status": "running",
            "content": "x".repeat(content), "timestamp": "2026-01-01T00:00:00Z",
        });
        assert_eq!(server.post("/webhook/status", &report).status, 200);
    };
    (0..300).for_each(|topic| report("many", topic, 0));
    (0..110).for_each(|_| report("large", 0, 10_000));
    for (path, is_long) in [
        ("/api/agents", false),
        ("/api/agents/many/sessions", false),
        ("/api/agents/many/history", false),
        ("/api/agents/large/history", true),
        ("/api/agents/large/history?limit=101", false),
        ("/api/agents/large/history?limit=102", true),
        ("/api/agents/large/sessions/0", true),
    ] {
        let before = server.leisurely();
        assert_eq!(server.get(path).status, 200);
        assert_eq!(server.leisurely() > before, is_long, "{path}");
    }
}

#[test]
fn beside_reports_shorter_lists_are_written_at_leisure_too() {
    let server = Server::new(settings(AuthMode::Open));
    let report = |topic: usize| report_on(&server, topic);
    (0..300).for_each(report);
    for comes in [false, true] {
        let before = server.leisurely();
        let mut list = get(&server, "/api/agents/a/sessions");
        assert!(is_at_work(&mut list));
        if comes {
            report(0);
        }
        while is_at_work(&mut list) {}
        assert_eq!(server.leisurely() > before, comes);
    }
}

/// The answer, once reports made meanwhile let it through: what is read beside reports is written at leisure,
/// which is counted.
fn beside_reports(
    server: &Server,
    list: &mut Pin<Box<impl Future<Output = Response<Bytes>>>>,
) -> Response<Bytes> {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(answer) = list.as_mut().poll(&mut context) {
            return answer;
        }
        report_on(server, 1);
    }
}

#[test]
fn those_who_ask_for_the_same_list_meanwhile_share_a_reading_that_has_what_was_reported_before() {
    let server = Server::new(settings(AuthMode::Open));
    (0..300).for_each(|topic| report_on(&server, topic));
    let path = "/api/agents/a/sessions?limit=299";
    let mut readers = [(); 2].map(|()| get(&server, path));
    assert!(readers.iter_mut().all(is_at_work));
    server.clock.advance(TimeDelta::seconds(1));
    report_on(&server, 300);
    let mut others: Vec<_> = (0..5).map(|_| get(&server, path)).collect();
    assert!(others.iter_mut().all(is_at_work));
    assert_eq!(
        server.get("/api/agents/a/sessions").status,
        200,
        "another list does not wait"
    );
    for reader in readers {
        futures_executor::block_on(reader);
    }

    let before = server.leisurely();
    for other in &mut others {
        let answer = beside_reports(&server, other);
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        let sessions = body["sessions"].as_array().unwrap();
        let has_last = sessions
            .iter()
            .any(|session| session["session_topic"] == "300");
        assert_eq!((answer.status(), has_last), (StatusCode::OK, true));
        assert!(answer.headers()["link"].to_str().unwrap().contains("next"));
    }
    assert_eq!(server.leisurely(), before + 1);
}

#[test]
fn a_shared_answer_is_to_each_what_they_asked_for() {
    let server = Server::new(settings(AuthMode::Open));
    (0..300).for_each(|topic| report_on(&server, topic));
    let path = "/api/agents/a/sessions";
    let whole = server.get(path).response;
    let tag = whole.headers()["etag"].clone();
    let mut readers = [(); 2].map(|()| get(&server, path));
    assert!(readers.iter_mut().all(is_at_work));
    let ask = |request: http::request::Builder| {
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let mut asking = Box::pin(server.app.handle(request));
        assert!(is_at_work(&mut asking));
        asking
    };
    let asking = [
        ask(Request::get(path).header("x-request-id", "first")),
        ask(Request::get(path).header("if-none-match", &tag)),
        ask(Request::head(path)),
    ];
    for reader in readers {
        futures_executor::block_on(reader);
    }
    let answers = asking.map(|asking| {
        let answer = futures_executor::block_on(asking);
        answer.map(kubeagents_core::Reply::into_whole)
    });
    let [first, known, head] = answers;
    assert_eq!(first.headers()["x-request-id"], "first");
    assert_eq!(first.body(), whole.body());
    assert_eq!(
        (known.status(), known.body().len()),
        (StatusCode::NOT_MODIFIED, 0)
    );
    assert_eq!((head.status(), head.body().len()), (StatusCode::OK, 0));
    assert_eq!(
        head.headers()["content-length"],
        whole.body().len().to_string()
    );
    assert_ne!(
        known.headers()["x-request-id"],
        head.headers()["x-request-id"]
    );
}

#[test]
fn what_is_shared_takes_up_room_until_it_is_sent_to_all() {
    let server = Server::new(settings(AuthMode::Open));
    report_more_than_a_page(&server);
    let mut unsent = Vec::new();
    for n in 0..20 {
        let path = format!("/api/agents/a/history?n={n}");
        let mut asking: Vec<_> = (0..4).map(|_| get(&server, &path)).collect();
        let mut at_work = asking.iter_mut().map(is_at_work);
        assert!(at_work.all(|is_at_work| is_at_work));
        let answers: Vec<_> = asking.into_iter().map(futures_executor::block_on).collect();
        if answers
            .iter()
            .any(|answer| answer.status() != StatusCode::OK)
        {
            let limit = answers.last().unwrap();
            assert_eq!(limit.status(), StatusCode::SERVICE_UNAVAILABLE);
            break;
        }
        unsent.push(answers);
    }
    // Of 64 MiB, of which one workspace leaves a sixteenth, three pages of 4 MiB for each four requests.
    assert!((4..=5).contains(&unsent.len()), "{}", unsent.len());
    drop(unsent);
    assert_eq!(server.get("/api/agents/a/history").status, 200);
}

#[test]
fn reports_of_other_servers_are_seen_in_storage() {
    let server = Server::new(settings(AuthMode::Open));
    let other = server.beside(settings(AuthMode::Open));
    let report = |topic: usize| report_on(&other, topic);
    (0..300).for_each(report);
    for (reports, is_quiet) in [(0, true), (0, true), (1, false), (0, true)] {
        (0..reports).for_each(report);
        let before = server.leisurely();
        assert_eq!(server.get("/api/agents/a/sessions").status, 200);
        assert_eq!(server.leisurely() == before, is_quiet);
        server.clock.advance(TimeDelta::milliseconds(60));
    }
}

#[test]
fn few_lists_are_read_at_once_while_reports_come() {
    let server = Server::new(settings(AuthMode::Open));
    let report = |agent: usize| {
        let report = json!({
            "agent_id": agent.to_string(), "session_topic": "t", "status": "running",
            "timestamp": "2026-01-01T00:00:00Z",
        });
        assert_eq!(server.post("/webhook/status", &report).status, 200);
    };
    (0..300).for_each(report);
    let mut first = get(&server, "/api/agents?status=failed");
    assert!(is_at_work(&mut first));
    report(0);
    let mut second = get(&server, "/api/agents?status=failed&limit=9");
    for _ in 0..100 {
        assert!(is_at_work(&mut second), "it reads beside the first");
    }
    report(1);
    assert_eq!(server.get("/api/agents/1").status, 200, "this is no list");
    while is_at_work(&mut first) {}
    beside_reports(&server, &mut second);
}

#[test]
fn health_is_answered_between_the_large_pages_that_a_batch_reads() {
    let server = Server::new(settings(AuthMode::Open));
    report_more_than_a_page(&server);
    let arguments = json!({"agent_id": "a", "session_topic": "t", "limit": 1000});
    let params = json!({"name": "get_session", "arguments": arguments});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let batch = json!(vec![call; 20]);
    let request = Request::post("/mcp").body(Full::new(Bytes::from(batch.to_string())));
    let mut batch = Box::pin(server.app.handle(request.unwrap()));
    let mut rests = 0;
    while is_at_work(&mut batch) {
        assert_eq!(server.get("/health").status, 200);
        rests += 1;
    }
    // After each message of the batch.
    assert!(rests >= 20, "{rests} rests");
}

/// A body of which so many bytes come, and no end.
fn unfinished(bytes: usize) -> impl Body<Data = Bytes, Error = Infallible> {
    let frame = Frame::data(Bytes::from(vec![b' '; bytes]));
    StreamBody::new(stream::iter([Ok(frame)]).chain(stream::pending()))
}

#[test]
fn who_sends_a_body_without_end_takes_no_turn_at_reading() {
    let server = Server::new(Settings {
        values: values(&[("READS_IN_FLIGHT", "1")]),
        ..settings(AuthMode::Open)
    });
    let request = Request::get("/api/agents").body(unfinished(1));
    let mut slow = Box::pin(server.app.handle(request.unwrap()));
    assert!(is_at_work(&mut slow));
    assert_eq!(server.get("/api/agents").status, 200);
}

#[test]
fn who_sends_a_body_for_longer_than_the_account_lasts_stores_nothing() {
    let server = Server::new(settings(AuthMode::Required));
    let token = server.verified("a@example.com", "correct horse");
    let bearer = format!("Bearer {token}");
    let key = Request::post("/api/apikeys")
        .header("authorization", &bearer)
        .body(json!({"name": "k"}).to_string());
    let key = server.send(key.unwrap()).json()["key"].clone();
    let (ends, end) = futures_channel::oneshot::channel::<()>();
    let report = json!({
        "agent_id": "late", "session_topic": "t", "status": "running",
        "timestamp": "2026-01-01T00:00:00Z",
    });
    let first = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from(
        report.to_string(),
    )))]);
    let rest = stream::once(end).map(|_| Ok(Frame::data(Bytes::from_static(b" "))));
    let request = Request::post("/webhook/status")
        .header("authorization", format!("Bearer {}", key.as_str().unwrap()))
        .body(StreamBody::new(first.chain(rest)));
    let mut slow = Box::pin(server.app.handle(request.unwrap()));
    assert!(is_at_work(&mut slow));

    let delete = Request::delete("/api/auth/me")
        .header("authorization", &bearer)
        .body(json!({"password": "correct horse"}).to_string());
    assert_eq!(server.send(delete.unwrap()).status, 200);
    server.clock.advance(TimeDelta::minutes(2));
    ends.send(()).unwrap();
    assert_eq!(futures_executor::block_on(slow).status(), 401);
}

#[test]
fn one_workspace_leaves_others_memory_for_their_bodies_and_answers() {
    const REPORTS: usize = 120;
    let server = Server::new(Settings {
        values: values(&[("KUBEAGENTS_API_KEY", "a-static-key-of-all")]),
        ..settings(AuthMode::Required)
    });
    let (greedy, other) = (
        server.verified("a@example.com", "correct horse"),
        "a-static-key-of-all",
    );
    let report = |token: &str, n: usize| {
        let report = json!({
            "agent_id": "a", "session_topic": n.to_string(), "status": "running",
            "content": "x".repeat(10_000), "timestamp": "2026-01-01T00:00:00Z",
        });
        let request = Request::post("/webhook/status")
            .header("authorization", format!("Bearer {token}"))
            .body(report.to_string());
        server.send(request.unwrap()).status
    };
    for n in 0..REPORTS {
        assert_eq!(report(&greedy, n), 200);
    }
    assert_eq!(report(other, 0), 200);

    let hook = |bytes| {
        let request =
            Request::post("/hooks/goose").header("authorization", format!("Bearer {greedy}"));
        let mut body = Box::pin(server.app.handle(request.body(unfinished(bytes)).unwrap()));
        is_at_work(&mut body).then_some(body)
    };
    let mut bodies = Vec::new();
    for bytes in [8 << 20, 1 << 20, 1 << 10, 1] {
        while let Some(body) = hook(bytes) {
            bodies.push(body);
            assert!(bodies.len() < 100, "there is no bound");
        }
    }
    assert_eq!(report(&greedy, 0), 503);
    assert_eq!(report(other, 1), 200);
    drop(bodies);
    assert_eq!(report(&greedy, 0), 200);

    let mut unread = Vec::new();
    for limit in [REPORTS, REPORTS / 10, 1] {
        let path = format!("/api/agents/a/history?limit={limit}");
        loop {
            let begin = server.clock.now();
            let answer = server.get_as(&greedy, &path);
            let took = server.clock.now() - begin;
            if answer.status != 200 {
                assert_eq!(answer.status, 503);
                // Whoever asks again and again keeps its turn meanwhile.
                assert_eq!(took, TimeDelta::milliseconds(100));
                break;
            }
            assert_eq!(took, TimeDelta::zero());
            unread.push(answer);
            assert!(unread.len() < 200, "there is no bound");
        }
    }
    let history = server.get_as(other, "/api/agents/a/history");
    assert_eq!(history.status, 200);
    assert!(history.response.body().len() > 20_000);
    drop(unread);
    assert_eq!(server.get_as(&greedy, "/api/agents/a/history").status, 200);
}
