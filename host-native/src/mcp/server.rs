//! The tools over standard input and output, one message a line.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all, ready};
use kubeagents_core::mcp::rpc::{
    Asked, Incoming, Malformed, Message, Read, Request, RpcError, Told, answer, tool_result,
};
use kubeagents_core::mcp::{Call, Guidance, ProtocolVersion, Tool};
use kubeagents_core::ports::CallerTrace;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::api::Api;
use super::outbox::{Outbox, Outcome, Reported};
use crate::client::server::full_stop;

/// The longest line, in bytes, and how it is named to clients.
const MAX_LINE: usize = 16 << 20;
const TOO_LONG: &str = "a message must not be longer than 16 MiB";

/// How many lines are answered at once. The next one is read when one of them is.
const MAX_UNDER_WAY: usize = 256;

/// How long to ask the server how it is before introducing it: clients wait for that.
const CHECK: Duration = Duration::from_secs(2);

/// How long the last answers may take once nothing more is read.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Answers the tools' calls by the server that it is in front of.
pub(super) struct Tools {
    api: Api,
    outbox: Outbox<Api>,
    guidance: Guidance,
    /// What the client and the tools agreed to speak.
    version: ProtocolVersion,
}

impl Tools {
    /// The tools of the core, on this server.
    pub(super) fn new(api: Api, outbox: Outbox<Api>, guidance: Guidance) -> Self {
        Self {
            api,
            outbox,
            guidance,
            version: ProtocolVersion::V2025_03_26,
        }
    }

    /// Takes a line. What it reports is in the outbox when this returns, so reports keep the order
    /// of their lines; the future is the answer, if one is wanted.
    fn take(&mut self, line: &[u8]) -> BoxFuture<'static, Option<Value>> {
        let messages = match Incoming::read(line, self.version) {
            Err(error) => return refusal(Value::Null, error),
            Ok(Incoming::Single(message)) => return self.take_message(message),
            Ok(Incoming::Batch(messages)) => messages,
        };
        let answers: Vec<_> = messages
            .into_iter()
            .map(|message| self.take_message(message))
            .collect();
        let answers = join_all(answers).map(|answers| {
            let answers: Vec<Value> = answers.into_iter().flatten().collect();
            (!answers.is_empty()).then(|| answers.into())
        });
        answers.boxed()
    }

    fn take_message(&mut self, message: Read) -> BoxFuture<'static, Option<Value>> {
        let request = match message {
            Ok(Message::Request(request)) => request,
            Ok(Message::Unanswered) => return ready(None).boxed(),
            Err(Malformed { id, error }) => return refusal(id, error),
        };
        let id = request.id.clone();
        match self.take_request(request) {
            Ok(result) => result.map(|result| Some(answer(id, Ok(result)))).boxed(),
            Err(error) => refusal(id, error),
        }
    }

    fn take_request(&mut self, request: Request) -> Result<BoxFuture<'static, Value>, RpcError> {
        let version = request.version(self.version)?;
        let caller = request.trace();
        match request.ask(version, &self.guidance)? {
            Asked::Answered(result) => Ok(ready(result).boxed()),
            Asked::Call(tool, arguments) => Ok(self.call(tool, &arguments, version, caller)),
            Asked::Introduction(introduction) => {
                self.version = introduction.agreed().unwrap_or(self.version);
                let (api, guidance) = (self.api.clone(), self.guidance.clone());
                let result = async move {
                    let trouble = api.trouble(CHECK).await;
                    introduction.result(&Guidance {
                        trouble,
                        ..guidance
                    })
                };
                Ok(result.boxed())
            }
        }
    }

    fn call(
        &self,
        tool: Tool,
        arguments: &Map<String, Value>,
        version: ProtocolVersion,
        caller: Option<CallerTrace>,
    ) -> BoxFuture<'static, Value> {
        match tool.read(arguments) {
            Err(invalid) => ready(tool_result(Err(invalid.to_string()), version)).boxed(),
            Ok(Call::Report(report)) => {
                let outcome = self.outbox.report(Reported { report, caller });
                outcome
                    .map(move |outcome| tool_result(told(outcome), version))
                    .boxed()
            }
            Ok(call) => {
                let api = self.api.clone();
                let result = async move {
                    let rows = api.read(&call, caller.as_ref()).await.map(Told::Rows);
                    tool_result(rows, version)
                };
                result.boxed()
            }
        }
    }
}

/// The answer to what has no other than an error.
fn refusal(id: Value, error: RpcError) -> BoxFuture<'static, Option<Value>> {
    ready(Some(answer(id, Err(error)))).boxed()
}

/// What the agent is told of its report.
fn told(outcome: Outcome) -> Result<Told, String> {
    match outcome {
        Outcome::Delivered => Ok(Told::stored()),
        Outcome::Queued(reason) => Ok(Told::Text(format!(
            "Queued, not yet delivered: {reason}{} The report is sent as soon as the server takes \
             it; go on with your task.",
            full_stop(&reason)
        ))),
        Outcome::Refused(message) => Err(message),
        Outcome::Full => Err(
            "Not reported: too many reports wait for the server already. Go on with your task."
                .into(),
        ),
    }
}

/// A connection to a client.
pub(super) struct Connection {
    under_way: Arc<Semaphore>,
    answers: mpsc::Sender<Value>,
    writing: JoinHandle<()>,
}

impl Connection {
    /// A connection whose answers go to `output`.
    pub(super) fn new(output: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        let (answers, answered) = mpsc::channel(MAX_UNDER_WAY);
        Self {
            under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            answers,
            writing: tokio::spawn(write(output, answered)),
        }
    }

    /// Takes lines in their order, and has them answered as each answer is known, until there are
    /// no more.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub(super) async fn serve(
        &self,
        mut tools: Tools,
        mut input: impl AsyncBufRead + Unpin,
    ) -> io::Result<()> {
        while let Some(line) = read_line(&mut input).await? {
            let answer = match line {
                Line::Whole(line) if line.trim_ascii().is_empty() => continue,
                Line::Whole(line) => tools.take(&line),
                Line::TooLong => refusal(Value::Null, RpcError::invalid_request(TOO_LONG)),
            };
            let answers = self.answers.clone();
            let place = self.under_way.clone().acquire_owned().await;
            tokio::spawn(async move {
                if let Some(answer) = answer.await {
                    // The client may have closed its end; what it reported counts all the same.
                    let _ = answers.send(answer).await;
                }
                drop(place);
            });
        }
        Ok(())
    }

    /// Writes the answers that are still to come, for a while.
    pub(super) async fn close(self) {
        drop(self.answers);
        // The client may have stopped reading.
        let _ = timeout(LAST_ANSWERS, self.writing).await;
    }
}

async fn write(
    mut output: impl AsyncWrite + Send + Unpin + 'static,
    mut answers: mpsc::Receiver<Value>,
) {
    while let Some(answer) = answers.recv().await {
        let line = format!("{answer}\n");
        let written = async {
            output.write_all(line.as_bytes()).await?;
            output.flush().await
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, "the client cannot be answered");
            return;
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// The next line, without what is too much of it.
async fn read_line(input: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let limit = MAX_LINE as u64 + 1;
    if input.take(limit).read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    if line.len() <= MAX_LINE || line.ends_with(b"\n") {
        return Ok(Some(Line::Whole(line)));
    }
    loop {
        let rest = input.fill_buf().await?;
        let end = rest.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(rest.len(), |end| end + 1);
        input.consume(length);
        if end.is_some() || length == 0 {
            return Ok(Some(Line::TooLong));
        }
    }
}
