//! `/health`, `/ready` and `/api/openapi.json`.

use std::sync::Arc;

use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::World;

scenarios! {
    health_and_readiness_are_ok,
    the_openapi_document_describes_the_routes,
}

async fn health_and_readiness_are_ok(world: Arc<World>) {
    for path in ["/health", "/ready"] {
        let answer = world.anonymous().get(path).await;
        assert_answer_snapshot!(answer.redacted(&[]), @r#"
        200 OK

        {
          "status": "ok",
          "timestamp": "[time]"
        }
        "#);
    }
}

async fn the_openapi_document_describes_the_routes(world: Arc<World>) {
    let document = world.anonymous().get("/api/openapi.json").await.ok();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, method) in [
        ("/webhook/status", "post"),
        ("/api/agents/{agent_id}/sessions/{session_topic}", "get"),
        ("/api/apikeys/{id}", "delete"),
        ("/api/openapi.json", "get"),
    ] {
        let operation = &document["paths"][path][method];
        assert!(operation["responses"]["200"].is_object(), "{method} {path}");
    }
}
