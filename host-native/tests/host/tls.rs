//! TLS for clients.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use kubeagents_contract::succeed;
use kubeagents_test_postgres::found_or_installed;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::configuration::run;
use crate::support::{PATIENCE, Server, registration, report};

/// A name that the certificates are for, besides localhost.
const NAME: &str = "kubeagents.example.com";

/// A folder with `cert.pem` and `key.pem`, of which the one is its own authority.
struct Identity(TempDir);

impl Identity {
    fn new() -> Self {
        Self::of(|_| {})
    }

    fn of(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".into(), NAME.into()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self(folder)
    }

    fn certificate(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.certificate()).unwrap()
    }

    fn server(&self, more: &[(&str, &str)]) -> Server {
        start(&self.certificate(), &self.key(), more)
    }
}

fn start(certificate: &Path, key: &Path, more: &[(&str, &str)]) -> Server {
    let variables = [
        ("TLS_CERT_FILE", certificate.to_str().unwrap()),
        ("TLS_KEY_FILE", key.to_str().unwrap()),
    ];
    Server::start(&[&variables, more].concat())
}

/// A connection to a server whose certificate is this one, with these protocols offered.
async fn connect(
    server: &Server,
    certificate: CertificateDer<'static>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let protocols = protocols
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec());
    config.alpn_protocols = protocols.collect();
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    timeout(PATIENCE, connecting)
        .await
        .expect("a handshake in time")
}

/// The answer to a request on a connection that stays open.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await;
        assert!(
            read.expect("an answer in time").unwrap() > 0,
            "it is closed"
        );
    }
    String::from_utf8(answer).unwrap()
}

/// What curl prints that asks a server under a name.
fn curl(server: &Server, identity: &Identity, name: &str, arguments: &[&str]) -> String {
    succeed(&mut asking(server, identity, name, arguments))
}

/// The last of the arguments is the path.
fn asking(server: &Server, identity: &Identity, name: &str, arguments: &[&str]) -> Command {
    let port = server.address.port();
    let (path, options) = arguments.split_last().unwrap();
    let mut command = Command::new("curl");
    command
        .args(["-sS", "--noproxy", "*", "--max-time", "300", "--cacert"])
        .arg(identity.certificate())
        .args(["--resolve", &format!("{name}:{port}:127.0.0.1")])
        .args(options)
        .arg(format!("https://{name}:{port}{path}"));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_spoken_in_both_versions_of_http_and_of_tls() {
    let identity = Identity::new();
    let server = identity.server(&[]);
    let lines = server.process.log().lines();
    let address = format!("https://127.0.0.1:{}", server.address.port());
    let expected = [format!("address={address}"), format!("page={address}/")];
    assert!(
        expected.iter().all(|part| lines[0].contains(part)),
        "{lines:?}"
    );
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let stream = connect(&server, identity.der(), offered).await.unwrap();
        let protocol = stream.get_ref().1.alpn_protocol();
        assert_eq!(protocol, chosen.map(str::as_bytes), "{offered:?}");
    }
    let sticky = "strict-transport-security: max-age=31536000";
    for (name, version, is_sticky) in [
        (NAME, "--http2", true),
        (NAME, "--http1.1", true),
        ("localhost", "--http2", false),
    ] {
        for most in ["1.2", "1.3"] {
            let options = ["-D", "-", "--tls-max", most, version, "/health"];
            let answer = curl(&server, &identity, name, &options);
            assert!(
                answer.contains("200") && answer.contains("\"ok\""),
                "{answer}"
            );
            assert_eq!(
                answer.to_lowercase().contains(sticky),
                is_sticky,
                "{answer}"
            );
            assert_eq!(
                answer.starts_with("HTTP/2"),
                version == "--http2",
                "{answer}"
            );
        }
    }
    // It is for the name, and not for whoever asks.
    let report = report("topic", "running").to_string();
    let answer = curl(
        &server,
        &identity,
        "localhost",
        &["-d", &report, "/webhook/status"],
    );
    assert!(answer.contains("Status reported successfully"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_begin_with_https_and_cookies_are_secure() {
    let identity = Identity::new();
    let server = identity.server(&[("AUTH_MODE", "required")]);
    let email = "alice@example.com";
    let body = registration(email).to_string();
    curl(
        &server,
        &identity,
        "localhost",
        &["-d", &body, "/api/auth/register"],
    );
    let link = format!("https://{}/verify?token=", server.address);
    server.logged(&[email, &link]).await;
    let token = server.verification_token(email).await;
    let body = json!({"token": token, "cookie": true}).to_string();
    let origin = format!("Origin: https://localhost:{}", server.address.port());
    let options = ["-D", "-", "-H", &origin, "-d", &body, "/api/auth/verify"];
    let answer = curl(&server, &identity, "localhost", &options).to_lowercase();
    let cookie = answer.lines().find(|line| line.starts_with("set-cookie:"));
    assert!(
        cookie.is_some_and(|cookie| cookie.contains("; secure")),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_by_http_2_as_they_happen() {
    let identity = Identity::new();
    let server = identity.server(&[]);
    let mut stream = asking(
        &server,
        &identity,
        "localhost",
        &["-N", "--http2", "/api/events"],
    )
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    let mut next = |word: &str| {
        lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains(word))
    };
    next("retry:").expect("the stream begins");
    for topic in ["first", "second"] {
        let body = report(topic, "running").to_string();
        curl(
            &server,
            &identity,
            "localhost",
            &["-d", &body, "/webhook/status"],
        );
        let event = next("data:").expect("an event");
        assert!(event.contains(topic), "{event}");
    }
    // It ends with the server.
    server.signal(Signal::TERM);
    assert_eq!(next("data:"), None);
    assert!(stream.wait().unwrap().success());
}

#[tokio::test]
async fn who_speaks_http_to_the_port_is_told() {
    let identity = Identity::new();
    let server = identity.server(&[]);
    for request in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"POST /webhook/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(PATIENCE, read).await.unwrap().unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert!(
            answer.ends_with("\r\n\r\nThis port speaks TLS: its address begins with https://\n")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_finish_their_handshake_hinder_nobody_and_are_let_go() {
    let identity = Identity::new();
    let server = identity.server(&[]);
    let mut silent = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // The start of a greeting, or nothing.
        if number % 2 == 0 {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        }
        silent.push(stream);
    }
    for _ in 0..10 {
        let mut stream = connect(&server, identity.der(), &["http/1.1"])
            .await
            .unwrap();
        assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
    }
    for mut stream in silent {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .expect("the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_when_its_files_change_and_a_bad_one_is_not() {
    let (old, new) = (Identity::new(), Identity::new());
    // As Kubernetes mounts a secret, and changes it.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    symlink(old.0.path(), path("..data")).unwrap();
    for name in ["cert.pem", "key.pem"] {
        symlink(format!("..data/{name}"), path(name)).unwrap();
    }
    let server = start(&path("cert.pem"), &path("key.pem"), &[]);
    let mut kept = connect(&server, old.der(), &["http/1.1"]).await.unwrap();
    ask(&mut kept).await;
    assert!(connect(&server, new.der(), &[]).await.is_err());

    symlink(new.0.path(), path("..new")).unwrap();
    fs::rename(path("..new"), path("..data")).unwrap();
    server
        .logged(&["the certificate of TLS_CERT_FILE is new"])
        .await;
    assert!(connect(&server, old.der(), &[]).await.is_err());
    let mut stream = connect(&server, new.der(), &["http/1.1"]).await.unwrap();
    ask(&mut stream).await;
    // What is open goes on.
    ask(&mut kept).await;

    fs::write(new.key(), fs::read(old.key()).unwrap()).unwrap();
    let words = [
        "ERROR",
        "clients are still shown the old certificate",
        "is not the key of the first certificate",
    ];
    server.logged(&words).await;
    fs::remove_file(new.key()).unwrap();
    server
        .logged(&["ERROR", "clients are still shown", "No such file"])
        .await;
    let mut stream = connect(&server, new.der(), &["http/1.1"]).await.unwrap();
    ask(&mut stream).await;
}

#[test]
fn files_that_are_no_certificate_and_its_key_stop_the_start() {
    let (identity, other) = (Identity::new(), Identity::new());
    let encrypted = other.0.path().join("encrypted.pem");
    let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(&encrypted, text).unwrap();
    let broken = other.0.path().join("broken.pem");
    fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let missing = other.0.path().join("missing.pem");
    let (certificate, key) = (identity.certificate(), identity.key());
    let of = |variable: &str, path: &Path, problem: &str| {
        format!("{variable}: {}: {problem}\n", path.display())
    };
    let not_its_key = format!(
        "is not the key of the first certificate in {}",
        certificate.display()
    );
    for (certificate, key, expected) in [
        (
            Some(&certificate),
            None,
            "TLS_KEY_FILE must be set with TLS_CERT_FILE\n".to_owned(),
        ),
        (
            None,
            Some(&key),
            "TLS_CERT_FILE must be set with TLS_KEY_FILE\n".to_owned(),
        ),
        (
            Some(&missing),
            Some(&key),
            of(
                "TLS_CERT_FILE",
                &missing,
                "No such file or directory (os error 2)",
            ),
        ),
        (
            Some(&certificate),
            Some(&missing),
            of(
                "TLS_KEY_FILE",
                &missing,
                "No such file or directory (os error 2)",
            ),
        ),
        (
            Some(&key),
            Some(&key),
            of("TLS_CERT_FILE", &key, "holds no certificate in PEM"),
        ),
        (
            Some(&broken),
            Some(&key),
            of(
                "TLS_CERT_FILE",
                &broken,
                "the first certificate is malformed",
            ),
        ),
        (
            Some(&certificate),
            Some(&certificate),
            of("TLS_KEY_FILE", &certificate, "holds no private key in PEM"),
        ),
        (
            Some(&certificate),
            Some(&encrypted),
            of(
                "TLS_KEY_FILE",
                &encrypted,
                "is encrypted: the server needs the key without a passphrase",
            ),
        ),
        (
            Some(&certificate),
            Some(&other.key()),
            of("TLS_KEY_FILE", &other.key(), &not_its_key),
        ),
    ] {
        let text = |path: Option<&PathBuf>| {
            path.map_or(String::new(), |path| path.to_str().unwrap().to_owned())
        };
        let (certificate, key) = (text(certificate), text(key));
        let variables = [
            ("TLS_CERT_FILE", certificate.as_str()),
            ("TLS_KEY_FILE", key.as_str()),
            ("PORT", "0"),
        ];
        let (code, _, stderr) = run(&variables, &[]);
        assert_eq!((code, stderr), (Some(2), expected));
    }
}

#[tokio::test]
async fn a_certificate_that_is_over_is_served_and_warned_of() {
    let identity = Identity::of(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    });
    let server = identity.server(&[]);
    server
        .logged(&[
            "WARN",
            "the certificate of TLS_CERT_FILE has expired",
            "2020-02-01",
        ])
        .await;
    let error = connect(&server, identity.der(), &[]).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_in_every_usual_form() {
    let find = || {
        Command::new("openssl")
            .arg("version")
            .output()
            .ok()
            .map(drop)
    };
    let script = "apt-get update && apt-get install -y --no-install-recommends openssl";
    found_or_installed("openssl", find, script);
    let identity = Identity::new();
    let (certificate, key) = (identity.certificate(), identity.key());
    for (made, label) in [
        (
            "openssl genrsa -traditional -out \"$KEY\" 2048",
            "BEGIN RSA PRIVATE KEY",
        ),
        (
            "openssl ecparam -name prime256v1 -genkey -out \"$KEY\"",
            "BEGIN EC PRIVATE KEY",
        ),
        (
            "openssl genpkey -algorithm ed25519 -out \"$KEY\"",
            "BEGIN PRIVATE KEY",
        ),
        ("openssl genrsa -out \"$KEY\" 2048", "BEGIN PRIVATE KEY"),
    ] {
        let script = format!(
            "{made} 2>&1 && openssl req -x509 -key \"$KEY\" -out \"$CERT\" -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE 2>&1"
        );
        let mut command = Command::new("bash");
        command
            .args(["-ec", &script])
            .env("KEY", &key)
            .env("CERT", &certificate);
        succeed(&mut command);
        assert!(fs::read_to_string(&key).unwrap().contains(label), "{label}");
        let server = identity.server(&[]);
        let mut stream = connect(&server, identity.der(), &["http/1.1"])
            .await
            .unwrap();
        ask(&mut stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_waits_for_requests_and_not_for_handshakes() {
    let identity = Identity::new();
    let mut server = identity.server(&[]);
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut idle = connect(&server, identity.der(), &["http/1.1"])
        .await
        .unwrap();
    ask(&mut idle).await;
    let mut busy = connect(&server, identity.der(), &["http/1.1"])
        .await
        .unwrap();
    let body = report("topic", "running").to_string();
    let head = format!(
        "POST /webhook/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    busy.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The server has begun with it.
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(busy.read_buf(&mut answer).await.unwrap() > 0);
    }
    server.signal(Signal::TERM);
    server.logged(&["stopping"]).await;
    busy.write_all(body.as_bytes()).await.unwrap();
    // The end of TLS is not cut off.
    let mut rest = String::new();
    timeout(PATIENCE, busy.read_to_string(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK"), "{rest}");
    assert_eq!(server.exit_code().await, Some(0));
    let lines = server.process.log().lines();
    assert!(
        !lines.iter().any(|line| line.contains("broken off")),
        "{lines:?}"
    );
    drop((silent, idle));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_trust_the_authorities_that_ssl_cert_file_names() {
    let identity = Identity::new();
    let server = identity.server(&[("HOST", "0.0.0.0"), ("AUTH_MODE", "open")]);
    let port = server.address.port().to_string();
    let url = format!("https://localhost:{port}");
    let certificate = identity.certificate();
    let certificate = certificate.to_str().unwrap();
    let key = identity.key();
    let home = identity.0.path().to_str().unwrap();
    let mut variables = vec![
        ("KUBEAGENTS_SERVER_URL", url.as_str()),
        ("HOME", home),
        ("SSL_CERT_FILE", certificate),
    ];
    let report = ["report", "running", "--topic", "by TLS"];
    let (code, _, stderr) = run(&variables, &report);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let (code, stdout, _) = run(&variables, &["ps"]);
    assert!(stdout.contains("by TLS"), "{stdout}");
    assert_eq!(code, Some(0));

    variables.pop();
    let (code, _, stderr) = run(&variables, &report);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("the authority of its certificate is not known: name it in SSL_CERT_FILE"),
        "{stderr}"
    );

    // A check of health takes its own server's for what it is.
    let variables = [
        ("TLS_CERT_FILE", certificate),
        ("TLS_KEY_FILE", key.to_str().unwrap()),
        ("HOST", "0.0.0.0"),
        ("PORT", &port),
    ];
    assert_eq!(
        run(&variables, &["health"]),
        (Some(0), String::new(), String::new())
    );
    let (code, _, stderr) = run(&variables[2..], &["health"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("the server answers 400"), "{stderr}");
}
