//! The log of accesses.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::events::Reader;
use crate::support::{Answer, Receiver, Reply, Server, eventually, report};

/// Sends a request under this id, as a proxy does for `203.0.113.9`.
async fn ask(server: &Server, method: Method, path: &str, id: &str, body: &Value) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", server.address))
        .header("x-request-id", id)
        .header("x-forwarded-for", "203.0.113.9");
    let body = match body {
        Value::Null => Bytes::new(),
        body => body.to_string().into(),
    };
    let request = request.body(Full::new(body)).unwrap();
    server.exchange(request).await.unwrap()
}

#[tokio::test]
async fn every_request_has_a_line_in_either_form() {
    for format in ["text", "json"] {
        let server = Server::start(&[
            ("ACCESS_LOG", "true"),
            ("LOG_FORMAT", format),
            ("TRUSTED_PROXIES", "127.0.0.1"),
        ]);
        let secret = "a-secret-that-nobody-logs";
        let verify = format!("/api/auth/verify?token={secret}");
        let body = report("t", "running");
        let mut bytes = Vec::new();
        for (id, method, path, body) in [
            ("reported", Method::POST, "/webhook/status", &body),
            ("verified", Method::GET, &verify, &Value::Null),
            ("unknown", Method::GET, "/api/unknown", &Value::Null),
            ("head", Method::HEAD, "/api/agents", &Value::Null),
        ] {
            let is_head = method == Method::HEAD;
            let answer = ask(&server, method, path, id, body).await;
            let length = answer.headers["content-length"].to_str().unwrap();
            bytes.push(if is_head { 0 } else { length.parse().unwrap() });
        }
        for ((id, method, path, status), bytes) in [
            ("reported", "POST", "/webhook/status", 200),
            ("verified", "GET", "/api/auth/verify", 400),
            ("unknown", "GET", "/api/unknown", 404),
            ("head", "HEAD", "/api/agents", 200),
        ]
        .into_iter()
        .zip(bytes)
        {
            let line = server.logged(&["answered", id]).await;
            if format == "text" {
                assert!(
                    line.contains(" INFO kubeagents::access: answered "),
                    "{line}"
                );
                for part in [
                    format!(" method={method} path=\"{path}\" status={status} bytes={bytes} "),
                    " duration_ms=".to_owned(),
                    format!(" client=203.0.113.9 request_id={id}"),
                ] {
                    assert!(line.contains(&part), "{part} in {line}");
                }
            } else {
                let mut line: Value = serde_json::from_str(&line).unwrap();
                let fields = line.as_object_mut().unwrap();
                assert!(fields.remove("timestamp").is_some_and(|at| at.is_string()));
                assert!(fields.remove("duration_ms").unwrap().as_f64() >= Some(0.0));
                let expected = json!({
                    "level": "INFO", "target": "kubeagents::access", "message": "answered",
                    "method": method, "path": path, "status": status, "bytes": bytes,
                    "client": "203.0.113.9", "request_id": id,
                });
                assert_eq!(line, expected);
            }
        }
        let log = server.process.log().lines();
        assert!(!log.iter().any(|line| line.contains(secret)), "{log:?}");
    }
}

#[tokio::test]
async fn a_stream_has_its_line_at_its_end() {
    let mut server = Server::start(&[("ACCESS_LOG", "true")]);
    let mut reader = Reader::follow(&server).await;
    server.report("seen", "running").await;
    reader.topic("seen").await;
    server.logged(&["answered", "/webhook/status"]).await;
    let is_stream = |line: &String| line.contains("path=\"/api/events\"");
    let before = server.process.log().lines();
    assert!(!before.iter().any(is_stream), "{before:?}");
    drop(reader);
    let line = server.logged(&["answered", "path=\"/api/events\""]).await;
    assert!(line.contains(" status=200 "), "{line}");
    assert!(!line.contains(" bytes=0 "), "{line}");
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_has_a_line() {
    let server = Server::start(&[
        ("ACCESS_LOG", "true"),
        ("NOTIFICATION_TIMEOUT_SECONDS", "60"),
    ]);
    let receiver = Receiver::start(|_| Reply::Hang).await;
    let channel = json!({"name": "n", "url": receiver.url(), "format": "webhook"});
    let channel = server.post("/api/channels", &channel).await.body;
    let path = format!("/api/channels/{}/test", channel["id"].as_str().unwrap());
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: left\r\nContent-Length: 0\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    eventually("the test's message", || {
        (receiver.in_flight() > 0).then_some(())
    })
    .await;
    drop(client);
    let line = server.logged(&["answered", &path]).await;
    assert!(line.contains(" status=499 bytes=0 "), "{line}");
    assert!(line.contains(" client=127.0.0.1 request_id=left"), "{line}");
}

#[tokio::test]
async fn unless_it_is_asked_for_there_are_no_lines() {
    let mut server = Server::start(&[]);
    server.report("t", "running").await;
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(0));
    server.logged(&["stopped"]).await;
    let log = server.process.log().lines();
    assert!(!log.iter().any(|line| line.contains("answered")), "{log:?}");
}
