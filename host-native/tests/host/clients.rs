use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::support::{PATIENCE, Server, ready, report};

/// How many connections are held idle, where the limit on open files allows it.
const IDLE_CONNECTIONS: u64 = 10_000;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What the server says until it closes the connection in an orderly way.
fn read_to_end(mut stream: &TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// What the server says to these bytes until it closes the connection.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    read_to_end(&stream)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_cut_off_and_others_are_served() {
    let server = Server::start(&[]);
    let address = server.address;
    // Both protocols begin with some of these letters.
    let slow: Vec<_> = ["P", "PRI * HTTP/2.0\r\n", "GET /health HTTP/1.1\r\nHost: "]
        .map(|head| {
            let mut stream = connect(address);
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .into_iter()
        .map(|stream| spawn_blocking(move || drip(&stream, b"x")))
        .collect();
    server.report("meanwhile", "running").await;
    for slow in slow {
        slow.await.unwrap();
    }
    server.report("meanwhile", "running").await;
}

/// Sends a byte every now and then until the server hangs up.
fn drip(mut stream: &TcpStream, byte: &[u8]) {
    let pause = Some(Duration::from_millis(200));
    stream.set_read_timeout(pause).unwrap();
    let start = std::time::Instant::now();
    while start.elapsed() < PATIENCE {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        if stream.write_all(byte).is_err() {
            return;
        }
    }
    panic!("the server puts up with a slow client");
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_answered_408() {
    let server = Server::start(&[]);
    let address = server.address;
    let slow = spawn_blocking(move || {
        let mut stream = connect(address);
        let head =
            "POST /webhook/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{";
        stream.write_all(head.as_bytes()).unwrap();
        read_to_end(&stream)
    });
    server.report("meanwhile", "running").await;
    let answer = slow.await.unwrap();
    assert_eq!(status(&answer), "408", "{answer}");
    assert!(answer.contains(r#""code":"timeout""#), "{answer}");
}

#[tokio::test]
async fn heads_that_cannot_be_read_are_answered_in_words() {
    let server = Server::start(&[]);
    let address = server.address;
    let long = format!(
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: {}",
        "x".repeat(1 << 20)
    );
    let many = "X-Many: x\r\n".repeat(1000);
    let many = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    let wrong = "GET /health HTTP/1.1\r\nHost: localhost\r\nno header\r\n\r\n".to_owned();
    for (head, expected, code) in [
        (long, "431", "too_large"),
        (many, "431", "too_large"),
        (wrong, "400", "bad_request"),
    ] {
        let answer = spawn_blocking(move || exchange(address, head.as_bytes()));
        let answer = answer.await.unwrap();
        assert_eq!(status(&answer), expected, "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nconnection: close"), "{head}");
        assert!(
            head.contains("\r\ncontent-type: application/json"),
            "{head}"
        );
        assert!(
            head.contains(&format!("\r\ncontent-length: {}", body.len())),
            "{head}"
        );
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["code"], &body["error"]),
            (&json!(code), &json!(code))
        );
        assert!(body["message"].is_string(), "{body}");
    }
    let allowed = format!(
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: {}\r\n\r\n",
        "x".repeat(16 * 1024)
    );
    let answer = spawn_blocking(move || exchange(address, allowed.as_bytes()));
    assert_eq!(status(&answer.await.unwrap()), "200");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_can_be_read() {
    let open = Server::start(&[]);
    let required = Server::start(&[("AUTH_MODE", "required")]);
    for (server, expected) in [(&open, "413"), (&required, "401")] {
        let address = server.address;
        let answer = spawn_blocking(move || {
            let length = 4 << 20;
            let head = format!(
                "POST /webhook/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            );
            exchange(address, &[head.as_bytes(), &vec![b'x'; length]].concat())
        });
        let answer = answer.await.unwrap();
        assert_eq!(status(&answer), expected, "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_reads_no_answer_is_cut_off() {
    let server = Server::start(&[]);
    let mut large = report("large", "running");
    large["content"] = "x".repeat(10_000).into();
    for _ in 0..200 {
        assert_eq!(
            server.post("/webhook/status", &large).await.status,
            StatusCode::OK
        );
    }
    let address = server.address;
    let cut_off = spawn_blocking(move || {
        let stream = connect(address);
        let request =
            "GET /api/agents/agent/history HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(16);
        // 32 MB of answers; what the server's kernel and ours buffer is a fraction of that.
        (&stream).write_all(request.as_bytes()).unwrap();
        let start = std::time::Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(200));
            if (&stream).write_all(b"\r\n").is_err() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "the client is still connected");
        }
    });
    cut_off.await.unwrap();
}

#[tokio::test]
async fn a_client_that_reads_no_answer_but_sends_pings_is_cut_off() {
    let server = Server::start(&[]);
    let mut large = report("large", "running");
    large["content"] = "x".repeat(10_000).into();
    for _ in 0..50 {
        assert_eq!(
            server.post("/webhook/status", &large).await.status,
            StatusCode::OK
        );
    }
    let stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let answers: Vec<_> = (0..8)
        .map(|_| {
            let uri = "http://localhost/api/agents/agent/history";
            let request = Request::get(uri).body(()).unwrap();
            client.send_request(request, true).unwrap().0
        })
        .collect();
    let mut bodies = Vec::new();
    for answer in answers {
        bodies.push(answer.await.unwrap().into_body());
    }
    let pinging = async {
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let cut_off = tokio::time::timeout(PATIENCE, pinging).await;
    cut_off.expect("the client is still connected");
    drop(connection.await.unwrap());
    drop(bodies);
}

#[tokio::test]
async fn http_2_is_spoken_without_tls() {
    let server = Server::start(&[]);
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Empty<Bytes>>();
    let mut lengths = Vec::new();
    for method in [Method::GET, Method::HEAD] {
        let uri = format!("http://{}/health", server.address);
        let request = Request::builder().method(method).uri(uri);
        let answer = client
            .request(request.body(Empty::new()).unwrap())
            .await
            .unwrap();
        assert_eq!(
            (answer.version(), answer.status()),
            (Version::HTTP_2, StatusCode::OK)
        );
        lengths.push(answer.headers()["content-length"].clone());
        lengths.push(answer.collect().await.unwrap().to_bytes().len().into());
    }
    // The body of GET is as long as both say; HEAD has none.
    assert_eq!(lengths[0], lengths[1]);
    assert_eq!(lengths[0], lengths[2]);
    assert_eq!(lengths[3], "0");
}

#[tokio::test]
async fn head_has_the_length_of_get_and_no_body() {
    let server = Server::start(&[]);
    let address = server.address;
    let answer = spawn_blocking(move || {
        let head = "HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        exchange(address, head.as_bytes())
    });
    let answer = answer.await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 57"), "{answer}");
    assert_eq!(body, "");
}

#[tokio::test]
async fn ten_thousand_idle_connections_do_not_keep_a_report_from_its_answer() {
    let server = Server::start(&[]);
    // Both ends need a file for each connection, and the server keeps some for itself.
    let limit = rlimit::increase_nofile_limit(rlimit::INFINITY).unwrap();
    let count = IDLE_CONNECTIONS.min(limit.saturating_sub(1000));
    if count < IDLE_CONNECTIONS {
        eprintln!("only {count} connections: the limit on open files is {limit}");
    }
    let address = server.address;
    let idle = spawn_blocking(move || (0..count).map(|_| connect(address)).collect::<Vec<_>>());
    let mut idle = idle.await.unwrap();
    server.report("meanwhile", "running").await;
    let answer = server.get("/api/agents/agent").await;
    assert_eq!(answer.body["session_count"], 1);

    // They are not only connected but served, one of a hundred standing for the rest.
    let served = spawn_blocking(move || {
        for stream in idle.iter_mut().step_by(100) {
            let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).unwrap();
            assert_eq!(status(&read_to_end(stream)), "200");
        }
    });
    served.await.unwrap();
}

#[tokio::test]
async fn when_every_place_is_taken_health_is_still_served() {
    let mut limited = std::process::Command::new("sh");
    limited
        .args([
            "-c",
            "ulimit -n 64 && exec \"$0\"",
            env!("CARGO_BIN_EXE_kubeagents"),
        ])
        .env_clear()
        .env("PORT", "0");
    let server = Server::of(&mut limited);
    let address = server.address;
    let idle = spawn_blocking(move || (0..32).map(|_| connect(address)).collect::<Vec<_>>());
    let idle = idle.await.unwrap();
    let ask = |path: &'static str| {
        spawn_blocking(move || {
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            exchange(address, head.as_bytes())
        })
    };
    for _ in 0..10 {
        let answer = ask("/health").await.unwrap();
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    let answer = ask("/api/agents").await.unwrap();
    assert_eq!(status(&answer), "503", "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    let lines = server.process.log().lines();
    let told = lines.iter().filter(|line| line.contains("is taken"));
    assert_eq!(told.count(), 1, "{lines:?}");
    drop(idle);
    ready(&server).await;
    server.report("afterwards", "running").await;
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let server = Server::start(&[]);
    let address = server.address;
    let statuses = spawn_blocking(move || {
        let body = report("topic", "running").to_string();
        let length = body.len();
        let one = format!(
            "POST /webhook/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let last = "GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        exchange(address, format!("{one}{one}{last}").as_bytes())
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|answer| answer[..3].to_owned())
            .collect::<Vec<_>>()
    });
    assert_eq!(statuses.await.unwrap(), ["200", "200", "404"]);
    let answer = server.get("/api/agents/agent/history").await;
    let history = answer.body["status_history"].as_array().map(Vec::len);
    assert_eq!(history, Some(2));
}
