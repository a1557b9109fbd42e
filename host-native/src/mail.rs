//! Mails with links for the owners of addresses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use http::{HeaderMap, StatusCode};
use kubeagents_core::delivery::{Answer, PostError};
use kubeagents_core::ports::{Clock, Mail, MailKind, Mailer};
use kubeagents_core::store::RegistrationMails;
use kubeagents_core::{Account, ChannelMail, MailedToken, Store, StoreError, Timestamp, causes};
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::config::Smtp;
use crate::ports::{SystemClock, SystemEntropy};

/// Most mails that may wait beside those of registrations.
const QUEUE: usize = 1000;

/// The pauses between attempts at one mail.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Time limit for one step of the mail server.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How often storage is asked for mails of registrations that are due again, or that another server
/// has not sent.
const POLL: Duration = Duration::from_secs(5);

/// How long other servers keep off a mail that this one is at: longer than its attempts take.
const LEASE: TimeDelta = TimeDelta::minutes(10);

/// The least and the most time until a mail of a registration that could not be sent is tried again.
const PAUSES: (TimeDelta, TimeDelta) = (TimeDelta::seconds(30), TimeDelta::hours(1));

/// The age of a registration whose mail is given up.
const PATIENCE: TimeDelta = TimeDelta::hours(24);

/// The port of submission over TLS from the start (RFC 8314).
const IMPLICIT_TLS_PORT: u16 = 465;

/// Destination of mails.
pub(crate) enum MailSender {
    /// To the log: there is no mail server.
    Log,
    /// To the task that talks to the mail server.
    Worker {
        queue: mpsc::Sender<Mail>,
        registered: Arc<Notify>,
        postbox: Box<Postbox>,
    },
}

/// Sends mails to channels, one at a time and at once.
#[derive(Clone)]
pub(crate) struct Postbox {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Postbox {
    /// Sends a mail once. What the mail server takes or refuses for good counts as an answer.
    pub(crate) async fn send(&self, mail: ChannelMail) -> Result<Answer, PostError> {
        let to = mail
            .to
            .parse()
            .map_err(|error| PostError::Url(Box::new(error)))?;
        // The same for every attempt, so that a mail which comes twice is shown once.
        let id = format!("<{}@kubeagents>", mail.id);
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject)
            .message_id(Some(id))
            .header(ContentType::TEXT_PLAIN)
            .body(format!("{}\n", mail.text))
            .map_err(|error| PostError::Url(Box::new(error)))?;
        let answer = |status| Answer::new(status, &HeaderMap::new());
        match self.transport.send(message).await {
            Ok(_) => Ok(answer(StatusCode::OK)),
            Err(error) if error.is_permanent() => Ok(answer(StatusCode::FORBIDDEN)),
            Err(error) if error.is_timeout() => Err(PostError::Timeout),
            Err(error) => Err(PostError::Failed(Box::new(error))),
        }
    }
}

impl MailSender {
    /// What sends mails to channels, where there is a mail server.
    pub(crate) fn postbox(&self) -> Option<Postbox> {
        match self {
            Self::Log => None,
            Self::Worker { postbox, .. } => Some((**postbox).clone()),
        }
    }
}

impl Mailer for MailSender {
    fn send(&self, mail: Mail) {
        match self {
            Self::Log => tracing::warn!(
                email = %mail.to, link = %mail.link,
                "no SMTP_HOST is set: {}", mail.kind.effect(),
            ),
            Self::Worker { queue, .. } => {
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

    fn takes_registrations(&self) -> bool {
        matches!(self, Self::Worker { .. })
    }

    fn wake(&self) {
        if let Self::Worker { registered, .. } = self {
            registered.notify_one();
        }
    }
}

/// Sends mail: those of registrations first, which storage holds until they are sent, then what is
/// queued.
pub(crate) struct MailWorker {
    postbox: Postbox,
    /// Address of the dashboard, where links lead.
    base_url: String,
    queue: mpsc::Receiver<Mail>,
    registered: Arc<Notify>,
}

/// Sets up mail, with links to the dashboard at `base_url`. The worker is to be [run](MailWorker::run).
///
/// # Errors
/// When TLS cannot be set up.
pub(crate) fn set_up(
    smtp: Option<Smtp>,
    base_url: String,
) -> Result<(MailSender, Option<MailWorker>), lettre::transport::smtp::Error> {
    let Some(smtp) = smtp else {
        return Ok((MailSender::Log, None));
    };
    let transport = transport(&smtp)?;
    let (sender, queue) = mpsc::channel(QUEUE);
    let registered = Arc::new(Notify::new());
    let postbox = Postbox {
        transport,
        from: smtp.from,
    };
    let worker = MailWorker {
        postbox: postbox.clone(),
        base_url,
        queue,
        registered: registered.clone(),
    };
    let queue = sender;
    let sender = MailSender::Worker {
        queue,
        registered,
        postbox: Box::new(postbox),
    };
    Ok((sender, Some(worker)))
}

/// What became of a mail.
enum Outcome {
    Sent,
    /// Another attempt may succeed.
    NotNow,
    /// The mail server will not take it.
    Never,
}

impl MailWorker {
    /// Sends what there is to send. Ends once `stop` is true and what was due by then is sent.
    pub(crate) async fn run<S: Store + RegistrationMails>(
        mut self,
        store: S,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            if self.send_registration(&store).await {
                continue;
            }
            match self.queue.try_recv() {
                Ok(mail) => {
                    self.send(&mail).await;
                    continue;
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return,
                Err(mpsc::error::TryRecvError::Empty) if *stop.borrow() => return,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            let waking = async {
                tokio::select! {
                    () = self.registered.notified() => None,
                    mail = self.queue.recv() => mail,
                    _ = stop.wait_for(|stop| *stop) => None,
                }
            };
            if let Ok(Some(mail)) = timeout(POLL, waking).await {
                self.send(&mail).await;
            }
        }
    }

    /// Sends the mail of a registration; returns whether one was due.
    async fn send_registration<S: Store + RegistrationMails>(&self, store: &S) -> bool {
        let now = SystemClock.now();
        let leased = store.lease_registration_mails(now, now + LEASE, 1).await;
        let account = match leased.map(|leased| leased.into_iter().next()) {
            Ok(Some(account)) => account,
            Ok(None) => return false,
            Err(error) => {
                let causes = causes(&error);
                tracing::warn!(%causes, "mails of registrations cannot be taken from storage");
                return false;
            }
        };
        let id = account.id.clone();
        let settled = match self.send_link(store, account).await {
            Ok(due) => store.settle_registration_mail(&id, due).await,
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            // It comes again when the lease runs out.
            let causes = causes(&error);
            tracing::warn!(account = id.as_str(), %causes, "a mail may be sent once more");
        }
        true
    }

    /// Sends a new link to whoever has registered; returns when to try again.
    async fn send_link<S: Store>(
        &self,
        store: &S,
        account: Account,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (kind, now) = (MailKind::Verification, SystemClock.now());
        let age = now - account.created_at;
        if age >= PATIENCE {
            return Ok(None);
        }
        let (token, stored) = MailedToken::new(kind, now, &SystemEntropy);
        store.set_verification(&account.id, &stored).await?;
        let mail = Mail::new(kind, account.id, account.email, &self.base_url, &token);
        Ok(match self.send(&mail).await {
            Outcome::Sent | Outcome::Never => None,
            Outcome::NotNow => Some(now + age.clamp(PAUSES.0, PAUSES.1)),
        })
    }

    async fn send(&self, mail: &Mail) -> Outcome {
        let account = mail.account_id.as_str();
        let Postbox { transport, from } = &self.postbox;
        let message = match message(from, mail) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(account, %error, "a mail cannot be written");
                return Outcome::Never;
            }
        };
        let mut pauses = RETRIES.iter();
        loop {
            let error = match transport.send(message.clone()).await {
                Ok(_) => {
                    tracing::info!(account, "a mail is sent");
                    return Outcome::Sent;
                }
                Err(error) => error,
            };
            let causes = causes(&error);
            if error.is_permanent() {
                tracing::error!(account, %causes, "a mail is refused");
                return Outcome::Never;
            }
            match pauses.next() {
                Some(pause) => {
                    tracing::warn!(account, %causes, "a mail is not sent yet");
                    sleep(*pause).await;
                }
                None => {
                    tracing::error!(account, %causes, "a mail is not sent");
                    return Outcome::NotNow;
                }
            }
        }
    }
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
