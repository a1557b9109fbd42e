//! `/health` and `/ready`.

use std::sync::Arc;

use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::World;

scenarios! {
    health_and_readiness_are_ok,
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
