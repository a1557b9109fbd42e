//! The least that an HTTP server can do with a request: read it, and answer as many bytes from memory. No
//! server on hyper is faster.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use kubeagents_contract::Process;
use tokio::net::TcpListener;

use crate::bench::Bench;
use crate::hosts::with_many_files;

/// The argument at which this program is that server; another is the file of the answer.
pub(crate) const COMMAND: &str = "serve-bytes";

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// What hyper writes itself, or what only the last answer of a connection has.
const LEFT_OUT: [HeaderName; 3] = [header::CONNECTION, header::CONTENT_LENGTH, header::DATE];

/// A server that gives one answer to everything, and ends with this value.
pub(crate) struct Bare {
    pub(crate) url: String,
    _process: Process,
}

impl Bare {
    /// `answer`: as it came, head and body.
    pub(crate) fn start(bench: &Bench, answer: &[u8]) -> Result<Self> {
        let file = bench.place();
        fs::write(&file, answer)?;
        let mut command = with_many_files(&std::env::current_exe()?);
        let process = Process::start(command.arg(COMMAND).arg(&file))?;
        let line = process
            .log()
            .wait_for(PATIENCE, |line| line.starts_with("http://"));
        Ok(Self {
            url: line,
            _process: process,
        })
    }
}

/// Serves an answer from a file until it is killed, and prints the address.
pub(crate) async fn serve(file: &str) -> Result<()> {
    let (headers, body) = read(Path::new(file))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (headers, body) = (headers.clone(), body.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, headers.clone(), body.clone()));
            let connection = Builder::new(TokioExecutor::new());
            let connection = connection.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("{error}");
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    request.into_body().collect().await?;
    let mut response = Response::new(Full::new(body));
    *response.headers_mut() = headers;
    Ok(response)
}

fn read(file: &Path) -> Result<(HeaderMap, Bytes)> {
    let answer = Bytes::from(fs::read(file)?);
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.context("the answer has no head")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let mut headers = HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").context("a header without a value")?;
        let name = HeaderName::try_from(name)?;
        if !LEFT_OUT.contains(&name) {
            headers.append(name, HeaderValue::from_str(value)?);
        }
    }
    Ok((headers, answer.slice(end + 4..)))
}
