use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::support::{Server, eventually, registration};

/// A mail server that keeps what it is sent.
#[derive(Clone)]
struct MailServer {
    port: String,
    tls: Option<TlsAcceptor>,
    state: Arc<Mutex<MailState>>,
}

#[derive(Default)]
struct MailState {
    /// How many mails are yet to be refused for the moment.
    refusals: usize,
    /// True while every mail is kept waiting.
    held: bool,
    commands: Vec<String>,
    mails: Vec<String>,
}

/// What a conversation ended with.
enum End {
    Quit,
    StartTls,
}

impl MailServer {
    async fn start(tls: Option<TlsAcceptor>, refusals: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let state = MailState {
            refusals,
            ..MailState::default()
        };
        let server = Self {
            port,
            tls,
            state: Arc::new(Mutex::new(state)),
        };
        let running = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = running.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        server
    }

    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 test\r\n").await.unwrap();
        let offer = if self.tls.is_some() {
            "250-test\r\n250 STARTTLS\r\n"
        } else {
            "250-test\r\n250 AUTH PLAIN\r\n"
        };
        if let (End::StartTls, Some(tls)) = (self.talk(&mut stream, offer).await, &self.tls) {
            let stream = tls.accept(stream.into_inner()).await.unwrap();
            self.talk(
                &mut BufReader::new(stream),
                "250-test\r\n250 AUTH PLAIN\r\n",
            )
            .await;
        }
    }

    /// The part of RFC 5321 that a client of ours needs.
    async fn talk<S>(&self, stream: &mut BufReader<S>, offer: &str) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return End::Quit;
            }
            let command = line.trim_end().to_owned();
            let verb = command.split(' ').next().unwrap_or_default();
            self.state.lock().unwrap().commands.push(command.clone());
            while verb == "MAIL" && self.state.lock().unwrap().held {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let answer = match verb {
                "EHLO" => offer,
                "STARTTLS" => "220 go ahead\r\n",
                "AUTH" => "235 welcome\r\n",
                "MAIL" if self.refuses() => "451 not now\r\n",
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await.unwrap();
                    let mut mail = String::new();
                    while !mail.ends_with("\r\n.\r\n") {
                        stream.read_line(&mut mail).await.unwrap();
                    }
                    self.state.lock().unwrap().mails.push(mail);
                    "250 taken\r\n"
                }
                _ => "250 ok\r\n",
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            match verb {
                "STARTTLS" => return End::StartTls,
                "QUIT" => return End::Quit,
                _ => {}
            }
        }
    }

    fn refuses(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        let refuses = state.refusals > 0;
        state.refusals = state.refusals.saturating_sub(1);
        refuses
    }

    fn commands(&self) -> Vec<String> {
        self.state.lock().unwrap().commands.clone()
    }

    /// The first mail with its transfer encoding undone, as soon as it has come.
    async fn mail(&self) -> String {
        let mail = eventually("a mail", || {
            self.state.lock().unwrap().mails.first().cloned()
        })
        .await;
        let (head, body) = mail.split_once("\r\n\r\n").unwrap();
        let body = match head.contains("Content-Transfer-Encoding: base64") {
            true => {
                use base64::Engine;
                let text: String = body.trim_end_matches(".\r\n").split_whitespace().collect();
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .unwrap();
                String::from_utf8(bytes).unwrap()
            }
            false => body.replace("=\r\n", "").replace("=3D", "="),
        };
        format!("{head}\r\n\r\n{body}")
    }

    /// To whom mails have gone, in order, as soon as there are this many.
    async fn receivers(&self, count: usize) -> Vec<String> {
        let receiver = |mail: &String| {
            let to = mail.lines().find_map(|line| line.strip_prefix("To: "));
            to.unwrap_or_default().trim().to_owned()
        };
        eventually("mails", || {
            let state = self.state.lock().unwrap();
            let mails = state.mails.iter().map(receiver);
            Some(mails.collect::<Vec<_>>()).filter(|mails| mails.len() >= count)
        })
        .await
    }

    fn serving(&self) -> Server {
        self.serving_with(&[])
    }

    fn serving_with(&self, more: &[(&str, &str)]) -> Server {
        let variables = [
            ("SMTP_HOST", "localhost"),
            ("SMTP_PORT", &self.port),
            ("SMTP_FROM", "KubeAgents <kubeagents@example.com>"),
            ("SMTP_USER", "user"),
            ("SMTP_PASSWORD", "password"),
            ("APP_BASE_URL", "https://app.example.com/"),
        ];
        Server::start(&[&variables, more].concat())
    }
}

fn link_token(mail: &str) -> String {
    let (_, rest) = mail
        .split_once("https://app.example.com/verify?token=")
        .expect(mail);
    rest.chars().take_while(|c| !c.is_whitespace()).collect()
}

/// Registers, follows the link in the mail, and finds its token nowhere in the log.
async fn registers_by_mail(server: &Server, mail_server: &MailServer) -> String {
    let answer = server
        .post("/api/auth/register", &registration("user@example.com"))
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let mail = mail_server.mail().await;
    let token = link_token(&mail);
    let answer = server.get(&format!("/api/auth/verify?token={token}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{mail}");
    server.logged(&["mail is sent"]).await;
    let log = server.process.log().lines().join("\n");
    assert!(!log.contains(&token) && !log.contains("password"), "{log}");
    mail
}

#[tokio::test]
async fn an_account_is_verified_by_the_link_in_its_mail() {
    let mail_server = MailServer::start(None, 0).await;
    let server = mail_server.serving();
    let mail = registers_by_mail(&server, &mail_server).await;
    assert!(
        mail.contains("From: KubeAgents <kubeagents@example.com>"),
        "{mail}"
    );
    assert!(mail.contains("To: user@example.com"), "{mail}");
    let commands = mail_server.commands();
    assert!(
        commands
            .iter()
            .any(|command| command.starts_with("AUTH PLAIN")),
        "{commands:?}"
    );
}

#[tokio::test]
async fn mail_goes_over_tls_where_the_server_offers_it() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    let mail_server = MailServer::start(Some(TlsAcceptor::from(Arc::new(config))), 0).await;
    let server = mail_server.serving();
    registers_by_mail(&server, &mail_server).await;
    let commands = mail_server.commands();
    let position = |verb| {
        commands
            .iter()
            .position(|command| command.starts_with(verb))
    };
    assert!(position("STARTTLS") < position("AUTH"), "{commands:?}");
}

#[tokio::test]
async fn a_mail_that_is_refused_for_the_moment_is_sent_again() {
    let mail_server = MailServer::start(None, 1).await;
    let server = mail_server.serving();
    registers_by_mail(&server, &mail_server).await;
    server.logged(&["WARN", "not sent yet"]).await;
}

#[tokio::test]
async fn queued_mail_is_sent_before_the_end() {
    let mail_server = MailServer::start(None, 1).await;
    let mut server = mail_server.serving();
    server
        .post("/api/auth/register", &registration("user@example.com"))
        .await;
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.exit_code().await, Some(0));
    mail_server.mail().await;
}

#[tokio::test]
async fn registrations_have_precedence_over_whatever_else_is_to_be_mailed() {
    let mail_server = MailServer::start(None, 0).await;
    let server = mail_server.serving_with(&[("VERIFICATION_MAILS_PER_HOUR", "0")]);
    let first = registration("first@example.com");
    server.post("/api/auth/register", &first).await;
    mail_server.receivers(1).await;
    mail_server.state.lock().unwrap().held = true;
    for _ in 0..20 {
        server.post("/api/auth/forgot", &first).await;
    }
    let second = registration("second@example.com");
    let answer = server.post("/api/auth/register", &second).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    mail_server.state.lock().unwrap().held = false;
    let receivers = mail_server.receivers(22).await;
    let place = receivers.iter().position(|to| to == "second@example.com");
    assert!(place.is_some_and(|place| place <= 2), "{receivers:?}");
}

#[tokio::test]
async fn a_mail_of_a_registration_survives_its_server() {
    let directory = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", directory.path().join("state.db").display());
    let storage = [("DATABASE_URL", file.as_str())];
    let mail_server = MailServer::start(None, 0).await;
    mail_server.state.lock().unwrap().held = true;
    let mut server = mail_server.serving_with(&storage);
    let body = registration("user@example.com");
    let answer = server.post("/api/auth/register", &body).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    server.signal(rustix::process::Signal::KILL);
    server.exit_code().await;
    drop(server);

    // By its own clock the lease of the first one has run out.
    mail_server.state.lock().unwrap().held = false;
    let connection = rusqlite::Connection::open(directory.path().join("state.db")).unwrap();
    connection
        .execute(
            "UPDATE accounts SET mail_due_at = 0 WHERE mail_due_at > 0",
            [],
        )
        .unwrap();
    drop(connection);
    let server = mail_server.serving_with(&storage);
    assert_eq!(mail_server.receivers(1).await, ["user@example.com"]);
    let token = link_token(&mail_server.mail().await);
    let path = format!("/api/auth/verify?token={token}");
    let answer = server.get(&path).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}
