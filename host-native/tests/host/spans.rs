//! Export of spans, to a collector that decodes what it is sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::{Receiver, Reply, Server, eventually, report};

/// A collector on a port of its own.
#[derive(Clone)]
struct Collector {
    url: String,
    received: Arc<Mutex<Vec<(Parts, ExportTraceServiceRequest)>>>,
}

impl Collector {
    /// Starts one that answers every batch with this status, or not at all.
    async fn start(answer: Option<StatusCode>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            received: Arc::default(),
        };
        let running = collector.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let collector = running.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let collector = collector.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        let batch = ExportTraceServiceRequest::decode(body).unwrap();
                        collector.received.lock().unwrap().push((head, batch));
                        let Some(status) = answer else {
                            return std::future::pending().await;
                        };
                        let mut response = Response::new(Full::<Bytes>::default());
                        *response.status_mut() = status;
                        Ok::<_, hyper::Error>(response)
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        collector
    }

    fn batches(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        let resources = received.iter().flat_map(|(_, batch)| &batch.resource_spans);
        let scopes = resources.flat_map(|spans| &spans.scope_spans);
        scopes.flat_map(|spans| spans.spans.clone()).collect()
    }

    /// The only span with this id of a request.
    fn request(&self, id: &str) -> Span {
        let spans = self.spans();
        let is_it = |span: &&Span| {
            attributes(&span.attributes).get("kubeagents.request_id") == Some(&id.to_owned())
        };
        let mut found = spans.iter().filter(is_it);
        let span = found.next().unwrap_or_else(|| panic!("{id} in {spans:?}"));
        assert!(found.next().is_none(), "{id} is there twice");
        span.clone()
    }
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref().unwrap() {
        AttributeValue::StringValue(text) => text.clone(),
        AttributeValue::IntValue(number) => format!("{number} (a number)"),
        other => format!("{other:?}"),
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = pairs
        .iter()
        .filter(|pair| pair.key != "busy_ns" && pair.key != "idle_ns");
    pairs
        .map(|pair| (pair.key.clone(), text(pair.value.as_ref().unwrap())))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Posts with these headers, which must be answered with this status.
async fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: String, status: u16) {
    let mut request = Request::post(format!("http://{}{path}", server.address))
        .header("accept", "application/json, text/event-stream");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let answer = server.exchange(request).await.unwrap();
    assert_eq!(answer.status, status, "{answer:?}");
}

/// The span of this name that is a part of another.
fn below<'s>(spans: &'s [Span], parent: &Span, name: &str) -> &'s Span {
    let is_it = |span: &&Span| span.parent_span_id == parent.span_id && span.name == name;
    let found = spans.iter().find(is_it);
    found.unwrap_or_else(|| panic!("{name} below {parent:?} in {spans:?}"))
}

async fn stop(server: &mut Server) {
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(0));
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[tokio::test]
async fn spans_are_exported_with_what_their_callers_say_of_the_trace() {
    let collector = Collector::start(Some(StatusCode::OK)).await;
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let mut server = Server::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=tests",
        ),
        // Nothing is sent until the end.
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        // What is logged is another matter.
        ("RUST_LOG", "warn,kubeagents=info"),
        ("NOTIFICATION_WEBHOOK_URL", &receiver.url()),
    ]);
    let body = |status| report("t", status).to_string();
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let of_trace = [("traceparent", parent.as_str()), ("tracestate", "a=1")];
    let with_id = |id| [&[("x-request-id", id)], &of_trace[..]].concat();
    let path = "/webhook/status";
    post(&server, path, &with_id("traced"), body("running"), 200).await;
    post(
        &server,
        path,
        &[("x-request-id", "alone")],
        body("success"),
        200,
    )
    .await;
    for (id, bad) in [
        (
            "bad-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ),
        (
            "bad-2",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ),
        ("bad-3", "a trace"),
    ] {
        let headers = [("x-request-id", id), ("traceparent", bad)];
        post(&server, path, &headers, "{}".to_owned(), 400).await;
    }
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": "list_agents", "arguments": {},
            "_meta": {"traceparent": parent, "tracestate": "a=1"},
        },
    });
    post(
        &server,
        "/mcp",
        &[("x-request-id", "tool")],
        call.to_string(),
        200,
    )
    .await;
    let deliveries = receiver.wait_for(1).await;
    stop(&mut server).await;

    {
        let received = collector.received.lock().unwrap();
        let (head, batch) = &received[0];
        assert_eq!(head.uri, "/v1/traces");
        assert_eq!(head.headers["content-type"], "application/x-protobuf");
        assert_eq!(head.headers["x-key"], "k");
        let resource = batch.resource_spans[0].resource.as_ref().unwrap();
        let resource = attributes(&resource.attributes);
        assert_eq!(resource["service.name"], "kubeagents");
        assert_eq!(resource["deployment.environment.name"], "tests");
    }
    let traced = collector.request("traced");
    assert_eq!(traced.name, "POST report");
    assert_eq!(traced.kind(), SpanKind::Server);
    assert_eq!(hex(&traced.trace_id), TRACE);
    assert_eq!(hex(&traced.parent_span_id), PARENT);
    assert_eq!(traced.trace_state, "a=1");
    let expected = [
        ("http.request.method", "POST"),
        ("http.response.status_code", "200 (a number)"),
        ("kubeagents.endpoint", "report"),
        ("kubeagents.request_id", "traced"),
        ("kubeagents.workspace", "shared"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(attributes(&traced.attributes), BTreeMap::from(expected));
    let spans = collector.spans();
    let stored = below(&spans, &traced, "store commit");
    assert_eq!(stored.kind(), SpanKind::Client);
    assert_eq!(
        attributes(&stored.attributes)["db.operation.name"],
        "commit"
    );
    for id in ["alone", "bad-1", "bad-2", "bad-3"] {
        let span = collector.request(id);
        assert_ne!(hex(&span.trace_id), TRACE, "{id}");
        assert!(span.parent_span_id.is_empty(), "{id}");
    }
    let refused = attributes(&collector.request("bad-1").attributes);
    assert_eq!(refused["error.type"], "bad_request");

    let named = |name: &str| spans.iter().find(|span| span.name == name);
    let tool = named("list_agents").unwrap_or_else(|| panic!("{spans:?}"));
    assert_eq!(hex(&tool.trace_id), TRACE);
    assert_eq!(hex(&tool.parent_span_id), PARENT);
    assert_ne!(hex(&collector.request("tool").trace_id), TRACE);
    let told = spans.iter().find(|span| span.name == "notification");
    let told = attributes(&told.unwrap_or_else(|| panic!("{spans:?}")).attributes);
    assert_eq!(told["kubeagents.notification_id"], deliveries[0].id);
    for header in ["traceparent", "tracestate", "x-request-id"] {
        assert!(!deliveries[0].headers.contains_key(header), "{header}");
    }
}

#[tokio::test]
async fn reports_that_are_stored_in_one_step_have_its_span_linked_to_theirs() {
    let collector = Collector::start(Some(StatusCode::OK)).await;
    let directory = TempDir::new().unwrap();
    let file = format!("sqlite:{}", directory.path().join("state.db").display());
    let mut server = Server::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
        ("DATABASE_URL", &file),
        ("AUTH_MODE", "open"),
    ]);
    let body = report("t", "running").to_string();
    let headers = [("x-request-id", "stored")];
    post(&server, "/webhook/status", &headers, body, 200).await;
    stop(&mut server).await;
    let spans = collector.spans();
    let record = below(&spans, &collector.request("stored"), "record");
    let group = spans.iter().find(|span| {
        let links = &mut span.links.iter();
        span.name == "group" && links.any(|link| link.span_id == record.span_id)
    });
    let group = group.unwrap_or_else(|| panic!("{spans:?}"));
    assert!(group.parent_span_id.is_empty(), "{group:?}");
    for operation in ["store load_many", "store commit_many"] {
        below(&spans, group, operation);
    }
    // What nobody has asked for makes none.
    let of_nobody = |span: &&Span| span.name.starts_with("store") && span.parent_span_id.is_empty();
    assert_eq!(spans.iter().find(of_nobody), None);
}

#[tokio::test]
async fn a_sampler_may_leave_spans_out() {
    let collector = Collector::start(Some(StatusCode::OK)).await;
    let mut server = Server::start(&[
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            &format!("{}/spans", collector.url),
        ),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
        ("OTEL_SERVICE_NAME", "another"),
    ]);
    server.report("t", "running").await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let headers = [
        ("traceparent", parent.as_str()),
        ("x-request-id", "sampled"),
    ];
    let body = report("t", "running").to_string();
    post(&server, "/webhook/status", &headers, body, 200).await;
    stop(&mut server).await;
    assert_eq!(hex(&collector.request("sampled").trace_id), TRACE);
    for span in collector.spans() {
        assert_eq!(hex(&span.trace_id), TRACE, "{span:?}");
    }
    let received = collector.received.lock().unwrap();
    assert_eq!(received[0].0.uri, "/spans");
    let resource = received[0].1.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(attributes(&resource.attributes)["service.name"], "another");
}

#[tokio::test]
async fn a_collector_that_takes_no_spans_costs_a_line_and_no_request() {
    let collector = Collector::start(Some(StatusCode::BAD_REQUEST)).await;
    let mut server = Server::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ]);
    for batches in 1..=3 {
        server.report("t", "running").await;
        eventually("another batch", || {
            (collector.batches() >= batches).then_some(())
        })
        .await;
    }
    server.logged(&["WARN", "spans cannot be exported"]).await;
    stop(&mut server).await;
    server.logged(&["stopped"]).await;
    let log = server.process.log().lines();
    let told = log
        .iter()
        .filter(|line| line.contains("spans cannot be exported"));
    assert_eq!(told.count(), 1, "{log:?}");
}

#[tokio::test]
async fn why_a_collector_is_not_reached_is_told() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let silent = Collector::start(None).await;
    for (url, timeout, reason) in [
        (&url, "10000", "Connection refused"),
        (&silent.url, "1", "no answer in time"),
    ] {
        let server = Server::start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", timeout),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ]);
        server.report("t", "running").await;
        server
            .logged(&["WARN", "spans cannot be exported", reason])
            .await;
    }
}

#[tokio::test]
async fn a_collector_that_does_not_answer_holds_up_no_request_and_not_the_end() {
    let collector = Collector::start(None).await;
    let mut server = Server::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ]);
    server.report("t", "running").await;
    eventually("a batch", || (collector.batches() > 0).then_some(())).await;
    for _ in 0..10 {
        server.report("t", "running").await;
    }
    stop(&mut server).await;
    server.logged(&["the last spans are not exported"]).await;
}

#[tokio::test]
async fn what_is_wrong_with_the_variables_is_told_and_the_server_serves() {
    let server = Server::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_SERVICENAME", "n"),
    ]);
    server.report("t", "running").await;
    server
        .logged(&[
            "WARN",
            "spans are not exported: OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not \"grpc\"",
        ])
        .await;
    server
        .logged(&[
            "WARN",
            "OTEL_SERVICENAME is no setting, did you mean OTEL_SERVICE_NAME?",
        ])
        .await;
}
