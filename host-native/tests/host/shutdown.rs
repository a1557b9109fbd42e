use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use http::{Request, StatusCode};
use rustix::process::Signal;

use crate::support::{PATIENCE, Receiver, Reply, Server, eventually, report};

/// Begins a report without its end.
fn half_a_report(address: SocketAddr) -> (TcpStream, String) {
    let body = report("topic", "running").to_string();
    let (begin, end) = body.split_at(10);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "POST /webhook/status HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n";
    let length = body.len();
    write!(stream, "{head}Content-Length: {length}\r\n\r\n{begin}").unwrap();
    // The server asks for the body once the request has come as far as the body.
    let mut interim = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut interim).unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100"));
    (stream, end.to_owned())
}

async fn refuses_connections(server: &Server) {
    eventually("connections to be refused", || {
        let outcome = TcpStream::connect(server.address);
        outcome
            .err()
            .filter(|error| error.kind() == ErrorKind::ConnectionRefused)
    })
    .await;
}

/// A server that does not ignore SIGHUP, even where these tests run under `nohup`.
fn heeding_hangups(delay: &str) -> Server {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_kubeagents")]);
    command.env_clear().env("PORT", "0");
    Server::of(command.env("SHUTDOWN_DELAY_SECONDS", delay))
}

#[tokio::test]
async fn a_request_under_way_is_finished_and_new_ones_are_refused() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut server = heeding_hangups("0");
        let idle = TcpStream::connect(server.address).unwrap();
        let (mut stream, rest) = half_a_report(server.address);
        server.signal(signal);
        refuses_connections(&server).await;
        stream.write_all(rest.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(server.exit_code().await, Some(0));
        drop(idle);
    }
}

#[tokio::test]
async fn a_terminal_that_closes_may_say_so_twice() {
    let mut server = heeding_hangups("300");
    server.signal(Signal::HUP);
    server.logged(&["stopping"]).await;
    server.signal(Signal::HUP);
    for _ in 0..20 {
        assert_eq!(server.get("/health").await.status, StatusCode::OK);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(1));
}

#[tokio::test]
async fn under_nohup_a_terminal_that_closes_stops_nothing() {
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_kubeagents"));
    command.env_clear().env("PORT", "0");
    let mut server = Server::of(&mut command);
    let (mut stream, rest) = half_a_report(server.address);
    server.signal(Signal::HUP);
    server.signal(Signal::TERM);
    server.logged(&["stopping"]).await;
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(server.exit_code().await, Some(0));
}

/// Sends a request on a connection and reads its answer's head.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let length = String::from_utf8(head.clone()).unwrap();
    let (_, length) = length.split_once("content-length: ").unwrap();
    let length = length.lines().next().unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).unwrap();
    String::from_utf8(head).unwrap()
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server.address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[tokio::test]
async fn until_balancers_have_noticed_requests_are_served_and_connections_closed() {
    let mut server = Server::start(&[("SHUTDOWN_DELAY_SECONDS", "300")]);
    let mut kept = connect(&server);
    let head = ask(&mut kept, "/ready");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(!head.contains("connection: close"), "{head}");

    server.signal(Signal::TERM);
    eventually("the server to be no longer ready", || {
        let head = ask(&mut connect(&server), "/ready");
        head.starts_with("HTTP/1.1 503 ").then_some(())
    })
    .await;
    for mut stream in [kept, connect(&server)] {
        let head = ask(&mut stream, "/api/agents");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(1));
}

#[tokio::test]
async fn a_client_of_http_2_is_told_that_the_server_ends() {
    let mut server = Server::start(&[]);
    let stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let body = report("topic", "running").to_string();
    let (begin, end) = body.split_at(10);
    let request = Request::post("http://localhost/webhook/status");
    let request = request.body(()).unwrap();
    let (answer, mut sender) = client.send_request(request, false).unwrap();
    sender
        .send_data(begin.to_owned().into_bytes().into(), false)
        .unwrap();

    server.signal(Signal::TERM);
    let refusal = eventually("the client to be told", || {
        let request = Request::get("http://localhost/health").body(()).unwrap();
        client.send_request(request, true).err()
    })
    .await;
    assert!(refusal.is_go_away() && refusal.is_remote(), "{refusal}");
    sender
        .send_data(end.to_owned().into_bytes().into(), true)
        .unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    connection.await.unwrap().unwrap();
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_server_ends_when_the_delay_is_over() {
    let mut server = Server::start(&[("SHUTDOWN_DELAY_SECONDS", "1")]);
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn connections_that_are_not_yet_accepted_are_served() {
    let mut server = Server::start(&[]);
    server.signal(Signal::STOP);
    // More than 128: the queue is as long as a burst needs it.
    let waiting: Vec<_> = (0..500).map(|_| connect(&server)).collect();
    let body = report("topic", "running").to_string();
    for mut stream in &waiting {
        let head = "POST /webhook/status HTTP/1.1\r\nHost: localhost\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    for mut stream in waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let server = Server::start(&[("KEEP_ALIVE_SECONDS", "1")]);
    let mut stream = connect(&server);
    let head = ask(&mut stream, "/health");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[tokio::test]
async fn queued_notifications_are_delivered_before_the_end() {
    // The first attempts fail, so the queue is not empty when the signal comes.
    let receiver =
        Receiver::start(|before| Reply::Status(if before < 8 { 503 } else { 200 })).await;
    let mut server = Server::start(&[("NOTIFICATION_WEBHOOK_URL", &receiver.url())]);
    for topic in 0..20 {
        server.finish(&topic.to_string()).await;
    }
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(0));
    assert_eq!(receiver.attempts().len(), 20);
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_keep_the_server_from_ending() {
    let receiver = Receiver::start(|_| Reply::Hang).await;
    let mut server = Server::start(&[
        ("NOTIFICATION_WEBHOOK_URL", &receiver.url()),
        ("NOTIFICATION_TIMEOUT_SECONDS", "60"),
    ]);
    server.finish("topic").await;
    receiver.wait_for(1).await;
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(0));
    assert_eq!(receiver.deliveries().len(), 1);
    server.logged(&["WARN", "not delivered"]).await;
}

#[tokio::test]
async fn a_second_signal_ends_the_server_at_once() {
    let mut server = Server::start(&[]);
    let (mut stream, _) = half_a_report(server.address);
    server.signal(Signal::TERM);
    server.logged(&["second signal"]).await;
    server.signal(Signal::INT);
    assert_eq!(server.exit_code().await, Some(1));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    assert_eq!(answer, b"", "the request was not waited for");
}
