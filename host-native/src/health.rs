//! Asking a running server whether it is alive, for health checks of containers without a shell.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Empty;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::time::timeout;

/// Time limit for the server's answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Reason why the server does not count as alive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unhealthy {
    #[error("the server cannot be asked")]
    Request(#[from] http::Error),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("the server does not answer")]
    NoAnswer(#[from] hyper_util::client::legacy::Error),
    #[error("the server does not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the server answers {0}")]
    Status(StatusCode),
}

/// Takes any certificate: the server is this machine's own, is known by no name here, and is told no
/// secret.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Asks the server that listens on this address.
///
/// # Errors
/// [`Unhealthy`] unless it answers 200.
pub(crate) async fn check(mut address: SocketAddr, is_encrypted: bool) -> Result<(), Unhealthy> {
    // "Any address" is one to listen on, not one to ask.
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into())
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into())
        }
        _ => {}
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = AnyCertificate(provider.signature_verification_algorithms);
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    let scheme = match is_encrypted {
        true => "https",
        false => "http",
    };
    let request = http::Request::get(format!("{scheme}://{address}/health")).body(Empty::new())?;
    let answer = timeout(TIMEOUT, client.request(request)).await??;
    match answer.status() {
        StatusCode::OK => Ok(()),
        status => Err(Unhealthy::Status(status)),
    }
}
