//! A server in memory that many have reported to, and requests to it.

#[path = "../../tests/app/server.rs"]
#[allow(dead_code, reason = "tests use more of it")]
pub(crate) mod server;

use std::cell::Cell;

use bytes::Bytes;
use http::{Request, StatusCode};
use kubeagents_core::AuthMode;
use serde_json::json;

use server::{Server, settings, values};

const AGENTS: usize = 100;
const TOPICS: usize = 10;
const STATUSES: usize = 1000;

/// The kinds of requests.
pub(crate) const KINDS: [Kind; 7] = [
    Kind {
        name: "report",
        path: "/webhook/status",
        status: StatusCode::OK,
    },
    Kind::read("routing", "/health"),
    Kind {
        name: "authentication",
        path: "/api/agents/none",
        status: StatusCode::NOT_FOUND,
    },
    Kind::read("agents", "/api/agents"),
    Kind::read("sessions", "/api/agents/agent-1/sessions"),
    Kind::read("session", "/api/agents/long/sessions/topic"),
    Kind::read("all-sessions", "/api/sessions"),
];

/// A kind of request, and how it is answered.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    path: &'static str,
    status: StatusCode,
}

impl Kind {
    const fn read(name: &'static str, path: &'static str) -> Self {
        Self {
            name,
            path,
            status: StatusCode::OK,
        }
    }
}

/// A server in required mode and a key of an account with 100 agents of ten sessions each, and one whose
/// session has 1,000 statuses.
pub(crate) struct World {
    server: Server,
    key: String,
    reported: Cell<usize>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut settings = settings(AuthMode::Required);
        // The clock stands still, so no minute would ever be over.
        settings.values = values(&[("REPORTS_PER_MINUTE", "0")]);
        let server = Server::new(settings);
        let token = server.verified("a@example.com", "correct horse");
        let body = json!({"name": "key", "scopes": ["report", "read"]});
        let request =
            Request::post("/api/apikeys").header("authorization", format!("Bearer {token}"));
        let reply = server.send(request.body(body.to_string()).unwrap());
        let key = reply.json()["key"].as_str().unwrap().to_owned();
        let world = Self {
            server,
            key,
            reported: Cell::new(0),
        };
        let [report, ..] = &KINDS;
        for _ in 0..AGENTS * TOPICS {
            let request = world.request(report);
            world.server.send(request);
        }
        for _ in 0..STATUSES {
            let request = world.post(report, "long", "topic");
            world.server.send(request);
        }
        world
    }

    /// The next request of this kind.
    pub(crate) fn request(&self, kind: &Kind) -> Request<Bytes> {
        if kind.name == "report" {
            let number = self.reported.get();
            self.reported.set(number + 1);
            let agent = format!("agent-{}", number % AGENTS);
            let topic = format!("topic-{}", number / AGENTS % TOPICS);
            return self.post(kind, &agent, &topic);
        }
        self.with_head(Request::get(kind.path), Bytes::new())
    }

    /// A report with a message of 60 characters and a content of 200.
    fn post(&self, kind: &Kind, agent: &str, topic: &str) -> Request<Bytes> {
        let report = json!({
            "agent_id": agent,
            "agent_name": "Agent",
            "agent_source": "claude-code",
            "session_topic": topic,
            "status": "running",
            "message": "x".repeat(60),
            "content": "y".repeat(200),
            "timestamp": "2026-01-01T00:00:00Z",
        });
        let request = Request::post(kind.path).header("content-type", "application/json");
        self.with_head(request, report.to_string().into())
    }

    fn with_head(&self, request: http::request::Builder, body: Bytes) -> Request<Bytes> {
        let request = request
            .header("host", "localhost:8080")
            .header("authorization", format!("Bearer {}", self.key));
        request.body(body).unwrap()
    }

    /// Answers a request. `instructions.sh` counts what happens within.
    #[inline(never)]
    pub(crate) fn answer(&self, kind: &Kind, request: Request<Bytes>) {
        let reply = self.server.send(request);
        assert_eq!(reply.status, kind.status);
    }
}
