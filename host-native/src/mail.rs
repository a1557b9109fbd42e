//! Mails with links for the owners of addresses.

use std::net::IpAddr;
use std::time::Duration;

use kubeagents_core::ports::{Mail, MailKind, Mailer};
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::config::Smtp;

/// Most mails that may wait.
const QUEUE: usize = 1000;

/// The pauses between attempts at one mail.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Time limit for one step of the mail server.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The port of submission over TLS from the start (RFC 8314).
const IMPLICIT_TLS_PORT: u16 = 465;

/// Destination of mails.
pub(crate) enum MailSender {
    /// To the log: there is no mail server.
    Log,
    /// To the task that talks to the mail server.
    Queue(mpsc::Sender<Mail>),
}

impl Mailer for MailSender {
    fn send(&self, mail: Mail) {
        match self {
            Self::Log => tracing::warn!(
                email = %mail.to, link = %mail.link,
                "no SMTP_HOST is set: {}", mail.kind.effect(),
            ),
            Self::Queue(queue) => {
                if let Err(error) = queue.try_send(mail) {
                    let account = match &error {
                        mpsc::error::TrySendError::Full(mail)
                        | mpsc::error::TrySendError::Closed(mail) => mail.account_id.as_str(),
                    };
                    tracing::error!(account, "too many mails are waiting: this one is dropped");
                }
            }
        }
    }
}

/// Starts sending mail. The task ends once `stop` is true and the mails queued by then are sent.
///
/// # Errors
/// When TLS cannot be set up.
pub(crate) fn start(
    smtp: Option<Smtp>,
    stop: watch::Receiver<bool>,
) -> Result<(MailSender, Option<JoinHandle<()>>), lettre::transport::smtp::Error> {
    let Some(smtp) = smtp else {
        return Ok((MailSender::Log, None));
    };
    let transport = transport(&smtp)?;
    let (sender, queue) = mpsc::channel(QUEUE);
    let task = tokio::spawn(run(transport, smtp.from, queue, stop));
    Ok((MailSender::Queue(sender), Some(task)))
}

fn transport(
    smtp: &Smtp,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, lettre::transport::smtp::Error> {
    let host = &smtp.host;
    let tls = if smtp.port == IMPLICIT_TLS_PORT {
        Tls::Wrapper(TlsParameters::new(host.clone())?)
    } else if is_loopback(host) {
        // Traffic stays on this machine, and relays on it offer certificates that no authority has
        // signed.
        let parameters = TlsParameters::builder(host.clone()).dangerous_accept_invalid_certs(true);
        Tls::Opportunistic(parameters.build()?)
    } else {
        Tls::Required(TlsParameters::new(host.clone())?)
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(smtp.port)
        .tls(tls)
        .timeout(Some(TIMEOUT));
    if let Some((user, password)) = smtp.credentials.clone() {
        builder = builder.credentials(Credentials::new(user, password));
    }
    Ok(builder.build())
}

fn is_loopback(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

async fn run(
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    mut queue: mpsc::Receiver<Mail>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let mail = tokio::select! {
            mail = queue.recv() => mail,
            _ = stop.wait_for(|stop| *stop), if !queue.is_closed() => {
                queue.close();
                continue;
            }
        };
        match mail {
            Some(mail) => send(&transport, &from, &mail).await,
            None => return,
        }
    }
}

async fn send(transport: &AsyncSmtpTransport<Tokio1Executor>, from: &Mailbox, mail: &Mail) {
    let account = mail.account_id.as_str();
    let message = match message(from, mail) {
        Ok(message) => message,
        Err(error) => {
            tracing::error!(account, %error, "a mail cannot be written");
            return;
        }
    };
    let mut pauses = RETRIES.iter();
    loop {
        let error = match transport.send(message.clone()).await {
            Ok(_) => {
                tracing::info!(account, "a mail is sent");
                return;
            }
            Err(error) => error,
        };
        let pause = pauses.next().filter(|_| !error.is_permanent());
        let causes = crate::causes(&error);
        match pause {
            Some(pause) => {
                tracing::warn!(account, %causes, "a mail is not sent yet");
                sleep(*pause).await;
            }
            None => {
                tracing::error!(account, %causes, "a mail is not sent");
                return;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum MessageError {
    #[error("the address cannot receive mail")]
    Address(#[from] lettre::address::AddressError),
    #[error(transparent)]
    Message(#[from] lettre::error::Error),
}

fn message(from: &Mailbox, mail: &Mail) -> Result<Message, MessageError> {
    let link = &mail.link;
    let (subject, before, after) = match mail.kind {
        MailKind::Verification => (
            "KubeAgents：验证您的邮箱 / Verify your email address",
            "欢迎使用 KubeAgents！请在 24 小时内打开下面的链接，验证您的邮箱：\n\
             Welcome to KubeAgents! Please open this link within 24 hours to verify your address:",
            "如果您没有注册，请忽略此邮件。\n\
             If you have not registered, please ignore this mail.",
        ),
        MailKind::Reset => (
            "KubeAgents：重设您的密码 / Set a new password",
            "请在 1 小时内打开下面的链接，设置新密码：\n\
             Please open this link within an hour to set a new password:",
            "如果您没有请求重设密码，请忽略此邮件，您的密码不会改变。\n\
             If you have not asked for this, please ignore this mail: your password stays as it is.",
        ),
    };
    let text = format!("{before}\n\n{link}\n\n{after}\n");
    Ok(Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, mail.to.parse()?))
        .subject(subject)
        .header(ContentType::TEXT_PLAIN)
        .body(text)?)
}
