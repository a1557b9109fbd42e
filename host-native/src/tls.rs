//! TLS for clients: the certificate and its key, which are read again when their files change, and the
//! handshake.

mod greeting;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::DateTime;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use webpki::{EndEntityCert, KeyUsage};

use crate::config::ConfigError;

const CERTIFICATE: &str = "TLS_CERT_FILE";
const KEY: &str = "TLS_KEY_FILE";

/// Pause between looks at the files.
const LOOK: Duration = Duration::from_secs(5);

/// How long before its end a certificate is warned of, and how often.
const SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const REMINDER: Duration = Duration::from_secs(24 * 60 * 60);

/// The most that is encrypted and not sent yet, in bytes: a record's worth. Whether a client still reads
/// shows only beyond it.
const BUFFER_BYTES: usize = 16 << 10;

/// The files that hold the certificate chain and the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    /// The files of these settings; `None` where the server speaks no TLS.
    ///
    /// # Errors
    /// [`ConfigError`] for one without the other.
    pub(crate) fn new(
        certificate: Option<&str>,
        key: Option<&str>,
    ) -> Result<Option<Self>, ConfigError> {
        let half = |missing, given| Err(ConfigError(format!("{missing} must be set with {given}")));
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Self {
                certificate: certificate.into(),
                key: key.into(),
            })),
            (Some(_), None) => half(KEY, CERTIFICATE),
            (None, Some(_)) => half(CERTIFICATE, KEY),
        }
    }

    fn read(&self) -> Result<Contents, Problem> {
        let read = |variable, path: &Path| {
            fs::read(path).map_err(|error| Problem::new(variable, path, error))
        };
        Ok(Contents {
            certificate: read(CERTIFICATE, &self.certificate)?,
            key: read(KEY, &self.key)?,
        })
    }
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Why a file cannot be used: one line for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {}: {problem}", .path.display())]
struct Problem {
    variable: &'static str,
    path: PathBuf,
    problem: String,
}

impl Problem {
    fn new(variable: &'static str, path: &Path, problem: impl fmt::Display) -> Self {
        Self {
            variable,
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }
}

impl Contents {
    /// The certificate chain and the key that belongs to it.
    fn certified(&self, files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, Problem> {
        let of_certificate =
            |problem: &dyn fmt::Display| Problem::new(CERTIFICATE, &files.certificate, problem);
        let of_key = |problem: &dyn fmt::Display| Problem::new(KEY, &files.key, problem);
        let chain =
            CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| of_certificate(&"is not PEM"))?;
        let Some(first) = chain.first() else {
            return Err(of_certificate(&"holds no certificate in PEM"));
        };
        EndEntityCert::try_from(first)
            .map_err(|_| of_certificate(&"the first certificate is malformed"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound if self.has_encrypted_key() => {
                of_key(&"is encrypted: the server needs the key without a passphrase")
            }
            pem::Error::NoItemsFound => of_key(&"holds no private key in PEM"),
            _ => of_key(&"is not PEM"),
        })?;
        let key = provider.key_provider.load_private_key(key);
        let key = key.map_err(|_| of_key(&"is no RSA, ECDSA or Ed25519 key that can be used"))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(certified)
            }
            Err(_) => Err(of_key(&format!(
                "is not the key of the first certificate in {}",
                files.certificate.display()
            ))),
        }
    }

    fn has_encrypted_key(&self) -> bool {
        let label = b"BEGIN ENCRYPTED PRIVATE KEY";
        self.key.windows(label.len()).any(|window| window == label)
    }
}

/// The certificate that clients are shown now.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn get(&self) -> Arc<CertifiedKey> {
        // Nothing that holds the lock leaves it half-changed.
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, certified: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

/// TLS for clients. Clones share the certificate.
#[derive(Clone)]
pub(crate) struct Tls(TlsAcceptor);

/// What shows clients a new certificate whenever the files change.
pub(crate) struct Renewal {
    files: Files,
    current: Arc<Current>,
    provider: Arc<CryptoProvider>,
    /// What the files held when they were last looked at.
    seen: Result<Contents, Problem>,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

impl Tls {
    /// TLS with the certificate in these files.
    ///
    /// # Errors
    /// [`TlsError`] for files that cannot be used.
    pub(crate) fn new(files: Files) -> Result<(Self, Renewal), TlsError> {
        let refuse = |problem: Problem| ConfigError(problem.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let contents = files.read().map_err(refuse)?;
        let certified = contents.certified(&files, &provider).map_err(refuse)?;
        let current = Arc::new(Current(RwLock::new(Arc::new(certified))));
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let renewal = Renewal {
            files,
            current,
            provider,
            seen: Ok(contents),
        };
        Ok((Self(Arc::new(config).into()), renewal))
    }

    /// Greets a client that has connected; `None` where it speaks no TLS, which it is told if it speaks
    /// HTTP.
    pub(crate) async fn greet(
        &self,
        stream: TcpStream,
    ) -> io::Result<Option<TlsStream<TcpStream>>> {
        if greeting::is_http(&stream).await? {
            tracing::debug!("a client speaks HTTP without TLS");
            greeting::refuse(stream).await;
            return Ok(None);
        }
        let limit = |session: &mut rustls::ServerConnection| {
            session.set_buffer_limit(Some(BUFFER_BYTES));
        };
        self.0.accept_with(stream, limit).await.map(Some)
    }
}

impl Renewal {
    /// Looks at the files until told to stop. What cannot be used is logged, and the certificate stays as
    /// it is.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.remind();
        let mut reminded = Instant::now();
        // While one file is new and the other is not, they do not fit together.
        let mut is_settled = true;
        loop {
            tokio::select! {
                () = sleep(LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let files = self.files.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || files.read()).await else {
                continue;
            };
            let is_new = self.seen != found;
            if is_new || !is_settled {
                let certified = found.as_ref().map_err(Problem::clone);
                let certified =
                    certified.and_then(|contents| contents.certified(&self.files, &self.provider));
                match certified {
                    Ok(certified) => {
                        self.current.set(certified);
                        tracing::info!("the certificate of {CERTIFICATE} is new");
                        is_settled = true;
                        self.remind();
                        reminded = Instant::now();
                    }
                    Err(_) if is_new => is_settled = false,
                    Err(problem) => {
                        tracing::error!(%problem, "clients are still shown the old certificate");
                        is_settled = true;
                    }
                }
                self.seen = found;
            }
            if reminded.elapsed() >= REMINDER {
                self.remind();
                reminded = Instant::now();
            }
        }
    }

    /// Warns of a certificate that is not valid, or soon will not be.
    fn remind(&self) {
        let certified = self.current.get();
        let Some(first) = certified.cert.first() else {
            return;
        };
        let now = UnixTime::now();
        let soon = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + SOON);
        match validity(first, now) {
            Some(Invalid::Expired(end)) => {
                tracing::warn!(end, "the certificate of {CERTIFICATE} has expired");
            }
            Some(Invalid::NotYet(start)) => {
                tracing::warn!(start, "the certificate of {CERTIFICATE} is not valid yet");
            }
            None => {
                if let Some(Invalid::Expired(end)) = validity(first, soon) {
                    tracing::warn!(end, "the certificate of {CERTIFICATE} expires soon");
                }
            }
        }
    }
}

/// Why a certificate is not valid at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Invalid {
    Expired(String),
    NotYet(String),
}

fn validity(certificate: &CertificateDer<'_>, time: UnixTime) -> Option<Invalid> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let written = |time: UnixTime| {
        let seconds = i64::try_from(time.as_secs()).ok();
        let time = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        time.map(|time| time.to_rfc3339()).unwrap_or_default()
    };
    // Its time is looked at before its issuer, who is not looked for here.
    let usage = KeyUsage::server_auth();
    let verified = certificate.verify_for_usage(&[], &[], &[], time, usage, None, None);
    match verified.err()? {
        webpki::Error::CertExpired { not_after, .. } => Some(Invalid::Expired(written(not_after))),
        webpki::Error::CertNotValidYet { not_before, .. } => {
            Some(Invalid::NotYet(written(not_before)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn certificates_are_known_to_have_begun_and_to_have_ended() {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 2, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let at = |text: &str| {
            let time: DateTime<chrono::Utc> = text.parse().unwrap();
            let seconds = u64::try_from(time.timestamp()).unwrap();
            validity(
                certificate.der(),
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            )
        };
        let start = Invalid::NotYet("2026-01-01T00:00:00+00:00".into());
        let end = Invalid::Expired("2026-02-01T00:00:00+00:00".into());
        assert_eq!(at("2025-12-31T23:59:59Z"), Some(start));
        assert_eq!(at("2026-01-01T00:00:01Z"), None);
        assert_eq!(at("2026-01-31T23:59:59Z"), None);
        assert_eq!(at("2026-02-01T00:00:01Z"), Some(end));
    }
}
