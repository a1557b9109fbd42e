use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

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

#[tokio::test]
async fn a_request_under_way_is_finished_and_new_ones_are_refused() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(&[]);
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
