use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::configuration::run;
use crate::support::{PATIENCE, Receiver, Reply, Server, eventually, report};

fn notifying(url: &str) -> Server {
    Server::start(&[("NOTIFICATION_WEBHOOK_URL", url)])
}

#[tokio::test]
async fn a_transition_is_posted_with_its_id_and_the_urls_credentials() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let url = format!("http://us%40er:pass@{}/hook?key=1#part", receiver.address);
    let server = notifying(&url);
    server.finish("topic").await;
    let delivery = receiver.wait_for(1).await.remove(0);
    assert_eq!(delivery.path, "/hook?key=1");
    assert_eq!(delivery.headers["content-type"], "application/json");
    assert_eq!(delivery.headers["host"], receiver.address.to_string());
    // us@er:pass
    assert_eq!(delivery.headers["authorization"], "Basic dXNAZXI6cGFzcw==");
    assert!(
        delivery.text.contains("Status: running → success"),
        "{}",
        delivery.text
    );
    assert_eq!(delivery.id.len(), 36);
}

#[tokio::test]
async fn the_shared_workspace_is_told_in_the_form_and_of_the_events_that_are_configured() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let server = Server::start(&[
        ("NOTIFICATION_WEBHOOK_URL", &receiver.url()),
        ("NOTIFICATION_WEBHOOK_FORMAT", "webhook"),
        ("NOTIFICATION_EVENTS", "started, failed"),
    ]);
    for status in ["running", "success", "failed"] {
        server.report("topic", status).await;
    }
    let told = receiver.wait_for(2).await;
    let mut types: Vec<String> = told
        .iter()
        .map(|delivery| delivery.json())
        .map(|body| body["type"].as_str().unwrap().to_owned())
        .collect();
    types.sort();
    assert_eq!(types, ["session.failed", "session.started"]);
    // It is configured, and so not in the list of what people have made.
    let listed = server.get("/api/channels").await.body;
    assert_eq!(listed, json!({"channels": []}));
}

#[test]
fn a_wrong_form_or_event_is_refused_with_the_nearest_right_one() {
    let url = ("NOTIFICATION_WEBHOOK_URL", "https://example.com/x");
    for (name, value, message) in [
        (
            "NOTIFICATION_WEBHOOK_FORMAT",
            "slak",
            "NOTIFICATION_WEBHOOK_FORMAT must be one of webhook, slack, discord, teams, feishu, \
             dingtalk, wecom, telegram, ntfy, pagerduty, email (the nearest is slack), not \"slak\"\n",
        ),
        (
            "NOTIFICATION_EVENTS",
            "failed,silence",
            "NOTIFICATION_EVENTS must be events of started, waiting, failed, finished, silent, \
             recovered, with commas between them (the nearest to silence is silent), not \
             \"failed,silence\"\n",
        ),
        (
            "NOTIFICATION_EVENTS",
            "silent",
            "NOTIFICATION_EVENTS needs NOTIFICATION_WEBHOOK_FORMAT beside it\n",
        ),
    ] {
        let (code, _, said) = run(&[url, (name, value)], &[]);
        assert_eq!((code, said.as_str()), (Some(2), message), "{name}");
    }
}

#[tokio::test]
async fn a_failure_is_tried_three_times_and_logged_without_the_urls_secrets() {
    let receiver = Receiver::start(|_| Reply::Status(500)).await;
    let address = receiver.address;
    let server = notifying(&format!("http://user:password@{address}/path?token=query"));
    server.finish("topic").await;
    let line = server.logged(&["ERROR", "given up", "answered 500"]).await;
    assert!(line.contains(&format!("http://{address}")), "{line}");
    let attempts: Vec<_> = receiver.attempts().into_values().collect();
    assert_eq!(attempts, [3]);
    for line in server.process.log().lines() {
        for secret in ["user", "password", "path", "query"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[tokio::test]
async fn an_attempt_that_times_out_is_followed_by_another() {
    let receiver = Receiver::start(|before| match before {
        0 => Reply::Hang,
        _ => Reply::Status(204),
    })
    .await;
    let server = Server::start(&[
        ("NOTIFICATION_WEBHOOK_URL", &receiver.url()),
        ("NOTIFICATION_TIMEOUT_SECONDS", "1"),
    ]);
    server.finish("topic").await;
    let deliveries = receiver.wait_for(2).await;
    assert_eq!(deliveries[0].id, deliveries[1].id);
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_not_asked_again() {
    let receiver = Receiver::start(|_| Reply::Status(410)).await;
    let server = notifying(&receiver.url());
    server.finish("topic").await;
    server.logged(&["given up", "answered 410"]).await;
    assert_eq!(receiver.deliveries().len(), 1);
}

#[tokio::test]
async fn a_busy_receiver_is_left_alone_for_as_long_as_it_asks_and_loses_nothing() {
    const COUNT: usize = 30;
    let receiver = Receiver::start(|before| match before {
        0..10 => Reply::Status(200),
        10..COUNT => Reply::Busy("1"),
        _ => Reply::Status(200),
    })
    .await;
    let server = notifying(&receiver.url());
    for topic in 0..COUNT {
        server.finish(&topic.to_string()).await;
    }
    let refused = COUNT - 10;
    receiver.wait_for(COUNT + refused).await;
    assert_eq!(receiver.attempts().len(), COUNT);
    let mut last = HashMap::new();
    for delivery in receiver.deliveries() {
        if let Some(before) = last.insert(delivery.id, delivery.at) {
            assert!(delivery.at - before >= Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Receiver::start(|_| Reply::Status(200)).await;
    let address = target.address;
    let receiver = Receiver::start(move |_| Reply::Redirect(address)).await;
    let server = notifying(&receiver.url());
    server.finish("topic").await;
    server.logged(&["given up", "answered 302"]).await;
    assert_eq!(receiver.deliveries().len(), 3);
    assert_eq!(target.deliveries().len(), 0);
}

#[tokio::test]
async fn at_most_four_are_under_way_to_one_host_and_all_arrive() {
    const COUNT: usize = 20;
    let released = Arc::new(AtomicBool::new(false));
    let release = released.clone();
    let receiver = Receiver::start(move |_| match released.load(Ordering::Relaxed) {
        true => Reply::Status(200),
        false => Reply::Hang,
    })
    .await;
    let server = Server::start(&[
        ("NOTIFICATION_WEBHOOK_URL", &receiver.url()),
        ("NOTIFICATION_TIMEOUT_SECONDS", "1"),
    ]);
    for topic in 0..COUNT {
        server.finish(&topic.to_string()).await;
    }
    eventually("four under way", || {
        (receiver.in_flight() == 4).then_some(())
    })
    .await;
    release.store(true, Ordering::Relaxed);
    eventually("all to arrive", || {
        (receiver.attempts().len() == COUNT).then_some(())
    })
    .await;
    assert_eq!(receiver.most_in_flight(), 4);
}

#[tokio::test]
async fn receivers_that_hang_do_not_delay_another() {
    let server = Server::start(&[("NOTIFICATION_TIMEOUT_SECONDS", "60")]);
    let set_url = async |n: usize, url: &str| {
        let tokens = server.account(&format!("user{n}@example.com")).await;
        let token = tokens["access_token"].as_str();
        let body = json!({"notification_webhook_url": url});
        let answer = server.send(Method::PUT, "/api/auth/me", token, &body).await;
        assert_eq!(answer.status, StatusCode::OK);
    };
    let mut hanging = Vec::new();
    for n in 0..16 {
        let receiver = Receiver::start(|_| Reply::Hang).await;
        set_url(n, &receiver.url()).await;
        hanging.push(receiver);
    }
    // Enough for each of them to take as many places as it may.
    for topic in 0..5 {
        server.finish(&topic.to_string()).await;
    }
    for receiver in &hanging {
        receiver.wait_for(1).await;
    }
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    set_url(16, &receiver.url()).await;
    server.finish("another").await;
    receiver.wait_for(1).await;
    let attempts: HashSet<_> = hanging.iter().flat_map(Receiver::attempts).collect();
    assert!(
        attempts.iter().all(|(_, attempts)| *attempts == 1),
        "none has timed out yet"
    );
    assert!(
        hanging
            .iter()
            .all(|receiver| receiver.most_in_flight() <= 4)
    );
}

/// Accounts of which each names ever new places that do not answer delay nobody else.
async fn a_hundred_hosts_that_hang_do_not_delay_another_account(storage: &[(&str, &str)]) {
    let mut variables = vec![
        ("AUTH_MODE", "required"),
        ("NOTIFICATION_ALLOW_PRIVATE_ADDRESSES", "true"),
        ("NOTIFICATION_TIMEOUT_SECONDS", "60"),
    ];
    variables.extend(storage);
    let server = &Server::start(&variables);
    let account = async |email| {
        let tokens = server.account(email).await;
        tokens["access_token"].as_str().unwrap().to_owned()
    };
    let tell = async |token: &str, receiver: &Receiver, topic: &str| {
        let url = json!({"notification_webhook_url": receiver.url()});
        let requests = [
            (Method::PUT, "/api/auth/me", url),
            (Method::POST, "/webhook/status", report(topic, "running")),
            (Method::POST, "/webhook/status", report(topic, "success")),
        ];
        for (method, path, body) in requests {
            let answer = server.send(method, path, Some(token), &body).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
    };
    let mut hanging = Vec::new();
    for email in [
        "a@example.com",
        "b@example.com",
        "c@example.com",
        "d@example.com",
    ] {
        let token = account(email).await;
        for n in 0..30 {
            let receiver = Receiver::start(|_| Reply::Hang).await;
            tell(&token, &receiver, &n.to_string()).await;
            hanging.push(receiver);
        }
    }
    let attempts = |of: &[Receiver]| of.iter().map(|to| to.deliveries().len()).sum::<usize>();
    eventually("all that may be under way", || {
        (attempts(&hanging) == 49).then_some(())
    })
    .await;
    let token = account("another@example.com").await;
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    for topic in ["one", "two", "three"] {
        tell(&token, &receiver, topic).await;
    }
    receiver.wait_for(3).await;
    let under_way: Vec<usize> = hanging.chunks(30).map(attempts).collect();
    assert_eq!(under_way, [16, 16, 16, 1], "none has timed out yet");
}

#[tokio::test]
async fn a_hundred_hosts_that_hang_do_not_delay_another_account_in_memory() {
    a_hundred_hosts_that_hang_do_not_delay_another_account(&[]).await;
}

#[tokio::test]
async fn a_hundred_hosts_that_hang_do_not_delay_another_account_on_sqlite() {
    let directory = TempDir::new().unwrap();
    let url = format!("sqlite:{}", directory.path().join("k.db").display());
    a_hundred_hosts_that_hang_do_not_delay_another_account(&[("DATABASE_URL", &url)]).await;
}

#[tokio::test]
async fn private_receivers_are_accepted_only_when_allowed() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let server = Server::start(&[("NOTIFICATION_ALLOW_PRIVATE_ADDRESSES", "false")]);
    let tokens = server.account("ada@example.com").await;
    let token = tokens["access_token"].as_str();
    let rule = "must not be a private or loopback address unless \
                NOTIFICATION_ALLOW_PRIVATE_ADDRESSES is true";
    let port = receiver.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "10.0.0.1",
    ] {
        let url = format!("http://{host}:{port}/");
        let body = json!({"notification_webhook_url": url});
        let answer = server.send(Method::PUT, "/api/auth/me", token, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{url}");
        let message = format!("notification_webhook_url {rule}");
        assert_eq!(answer.body["message"], message.as_str(), "{url}");
    }
    let server = notifying(&format!("http://localhost:{port}/"));
    server.finish("topic").await;
    receiver.wait_for(1).await;
}

#[test]
fn places_that_notifications_could_not_reach_or_leave_by_stop_the_start() {
    let local = ("NOTIFICATION_WEBHOOK_URL", "http://10.0.0.1/secret");
    for (variables, message) in [
        (
            [local, ("AUTH_MODE", "required")],
            "NOTIFICATION_WEBHOOK_URL must not be a private or loopback address unless \
             NOTIFICATION_ALLOW_PRIVATE_ADDRESSES is true\n",
        ),
        (
            [
                (
                    "NOTIFICATION_WEBHOOK_URL",
                    "http://[::ffff:169.254.169.254]/secret",
                ),
                ("NOTIFICATION_ALLOW_PRIVATE_ADDRESSES", "true"),
            ],
            "NOTIFICATION_WEBHOOK_URL must not be a link-local or metadata address\n",
        ),
        (
            [local, ("https_proxy", "socks5://secret:1080")],
            "https_proxy must be the address of an HTTP proxy such as \
             http://proxy.example.com:3128\n",
        ),
    ] {
        let (code, _, error) = run(&variables, &[]);
        assert!(error.ends_with(message), "{error}");
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(code, Some(2), "{error}");
    }
}

#[tokio::test]
async fn notifications_leave_by_the_proxies_of_the_environment() {
    let proxy = Receiver::start(|_| Reply::Status(200)).await;
    let tunnels = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tunnels_address = tunnels.local_addr().unwrap();
    let start = |url: &str| {
        Server::start(&[
            ("NOTIFICATION_WEBHOOK_URL", url),
            ("HTTP_PROXY", &format!("http://user:pass@{}", proxy.address)),
            ("https_proxy", &format!("{tunnels_address}")),
            ("NO_PROXY", "direct.example"),
        ])
    };

    let server = start("http://receiver.example/hook?key");
    server.finish("topic").await;
    let delivery = proxy.wait_for(1).await.remove(0);
    assert_eq!(delivery.path, "http://receiver.example/hook?key");
    assert_eq!(
        delivery.headers["proxy-authorization"],
        "Basic dXNlcjpwYXNz"
    );

    let server = start("https://receiver.example/hook?key");
    server.finish("topic").await;
    let (mut tunnel, _) = tokio::time::timeout(PATIENCE, tunnels.accept())
        .await
        .unwrap()
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(tunnel.read_buf(&mut head).await.unwrap(), 0);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.starts_with("CONNECT receiver.example:443 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(!head.contains("key"), "{head}");

    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let server = start(&receiver.url());
    server.finish("topic").await;
    receiver.wait_for(1).await;

    // No name server knows it, and no proxy is asked.
    let server = start("http://direct.example/");
    server.finish("topic").await;
    server.logged(&["given up", "http://direct.example"]).await;
    assert_eq!(proxy.deliveries().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_speaks_only_http_2_is_told() {
    let (acceptor, authority) = tls(&[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            let told = told.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let told = told.clone();
                async move {
                    let version = request.version();
                    let body = request.into_body().collect().await?.to_bytes();
                    told.send((version, body)).unwrap();
                    Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::default()))
                }
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { drop(connection.await) });
        }
    });
    let server = Server::start(&[
        ("NOTIFICATION_WEBHOOK_URL", &url),
        ("SSL_CERT_FILE", authority.path().to_str().unwrap()),
    ]);
    server.finish("topic").await;
    let told = tokio::time::timeout(PATIENCE, telling.recv()).await;
    let (version, body) = told.unwrap().unwrap();
    assert_eq!(version, Version::HTTP_2);
    assert!(String::from_utf8_lossy(&body).contains("Session: topic"));
}

/// What accepts TLS for `localhost` by these protocols, and the authority to trust for it.
fn tls(protocols: &[&[u8]]) -> (TlsAcceptor, tempfile::NamedTempFile) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), cert.pem()).unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority)
}

/// A receiver that speaks TLS: its address, and the first request that reaches it, which it takes.
async fn encrypted(acceptor: TlsAcceptor) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    let receiving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = Vec::new();
            // A client that does not trust us hangs up in the handshake or, by TLS 1.3, after it.
            while stream
                .read_buf(&mut request)
                .await
                .is_ok_and(|count| count > 0)
            {
                if request.ends_with(b"}") {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).await.unwrap();
                    stream.flush().await.unwrap();
                    return String::from_utf8(request).unwrap();
                }
            }
        }
    });
    (url, receiving)
}

#[tokio::test]
async fn https_receivers_need_a_certificate_that_the_system_trusts() {
    let (acceptor, authority) = tls(&[]);
    let (url, receiving) = encrypted(acceptor).await;

    let server = notifying(&url);
    server.finish("topic").await;
    server.logged(&["given up", "certificate"]).await;

    let trusting = |url: &str| {
        let authority = authority.path().to_str().unwrap();
        Server::start(&[
            ("NOTIFICATION_WEBHOOK_URL", url),
            ("SSL_CERT_FILE", authority),
        ])
    };
    let server = trusting(&url.replace("localhost", "127.0.0.1"));
    server.finish("topic").await;
    server.logged(&["given up", "not valid for name"]).await;

    let server = trusting(&url);
    server.finish("topic").await;
    let request = tokio::time::timeout(PATIENCE, receiving)
        .await
        .unwrap()
        .unwrap();
    assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn certificate_authorities_are_read_when_a_certificate_is_first_to_be_verified() {
    let (acceptor, authority) = tls(&[]);
    let (url, receiving) = encrypted(acceptor).await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("authority.pem");
    let server = Server::start(&[
        ("NOTIFICATION_WEBHOOK_URL", &url),
        ("SSL_CERT_FILE", path.to_str().unwrap()),
    ]);
    std::fs::copy(authority.path(), &path).unwrap();
    server.finish("topic").await;
    tokio::time::timeout(PATIENCE, receiving)
        .await
        .unwrap()
        .unwrap();
}
