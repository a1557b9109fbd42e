//! `/health` and `/ready`.

use std::sync::Arc;

use crate::scenario::scenarios;
use crate::world::World;

scenarios! {
    health_and_readiness_are_ok,
}

async fn health_and_readiness_are_ok(world: Arc<World>) {
    for path in ["/health", "/ready"] {
        let answer = world.anonymous().get(path).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(answer.redacted(&[]), @r#"
            200 OK

            {
              "status": "ok",
              "timestamp": "[time]"
            }
            "#);
        }
    }
}
