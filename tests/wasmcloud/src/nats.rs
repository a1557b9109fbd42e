//! A NATS server with JetStream.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kubeagents_contract::Process;
use serde_json::json;
use tempfile::TempDir;

use crate::tools;

const START_DEADLINE: Duration = Duration::from_secs(30);

/// A server on a free port that keeps its buckets in a directory of its own.
#[derive(Debug)]
pub struct Nats {
    address: String,
    // Ends before its directory is removed.
    _process: Process,
    _directory: TempDir,
}

impl Nats {
    /// Starts a server.
    ///
    /// # Errors
    /// When it cannot be installed or started.
    pub fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = tools::bound_to_this_thread(tools::nats_server()?);
        command.args(["-a", "127.0.0.1", "-p", "-1", "-js", "-sd"]);
        let process = Process::start(command.arg(directory.path()))?;
        let log = process.log();
        let listening = log.wait_for(START_DEADLINE, |line| {
            line.contains("client connections on")
        });
        log.wait_for(START_DEADLINE, |line| line.contains("Server is ready"));
        let (_, address) = listening.rsplit_once(' ').context("no address is logged")?;
        Ok(Self {
            address: address.to_owned(),
            _process: process,
            _directory: directory,
        })
    }

    /// Returns the server's URL.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Creates a bucket, as an operator must before the component's first request: a stream with
    /// the form that JetStream's clients agree on. Said in NATS' own protocol, since clients of
    /// today no longer understand this answer of Debian's server.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        let stream = format!("KV_{name}");
        let config = json!({
            "name": stream,
            "subjects": [format!("$KV.{name}.>")],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_msg_size": -1,
            "num_replicas": 1,
            "allow_rollup_hdrs": true,
            "deny_delete": true,
        })
        .to_string();
        let connection = TcpStream::connect(&self.address)?;
        connection.set_read_timeout(Some(START_DEADLINE))?;
        write!(
            &connection,
            "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\n\
             PUB $JS.API.STREAM.CREATE.{stream} answer {}\r\n{config}\r\n",
            config.len()
        )?;
        let mut lines = BufReader::new(&connection).lines();
        let message =
            |line: &io::Result<String>| line.as_ref().map_or(true, |line| line.starts_with("MSG "));
        lines.by_ref().find(message).transpose()?;
        let answer = lines.next().context("no answer")??;
        ensure!(answer.contains("\"did_create\":true"), "{answer}");
        Ok(())
    }
}
