//! Path parameters name exactly what was reported.

use std::sync::Arc;

use pretty_assertions::assert_eq;

use crate::scenario::scenarios;
use crate::world::{World, report, segment, texts, with};

scenarios! {
    a_percent_encoded_agent_is_found,
    a_percent_encoded_session_is_found,
    an_agent_with_a_dotted_name_is_found,
    a_name_may_stand_in_the_query,
    names_that_look_like_routes_are_names,
    a_decoded_segment_is_not_decoded_again,
    unencoded_characters_stand_for_themselves,
    a_trailing_slash_names_the_same_list,
}

const NAMES: [&str; 12] = [
    "a/b",
    "中文",
    "50%",
    "a&b",
    "a?b=c",
    "a#b",
    "a b",
    "a+b",
    "%2F",
    "é🚀",
    "//",
    "\"<>\\^`{|}\"",
];

async fn a_percent_encoded_agent_is_found(world: Arc<World>) {
    let client = world.client().await;
    for name in NAMES {
        let id = format!("{name}{}", world.name(""));
        client.report(&report(&id, "t", "running")).await;
        let path = format!("/api/agents/{}", segment(&id));
        assert_eq!(client.get(&path).await.ok()["agent_id"], id.as_str());
        for rest in ["/sessions", "/sessions/t", "/history", "/status"] {
            client.get(&format!("{path}{rest}")).await.ok();
        }
    }
    for (written, id) in [
        ("a%2Fb", "a/b"),
        ("%e4%b8%ad", "中"),
        ("50%25", "50%"),
        ("a%26b", "a&b"),
    ] {
        let unique = world.name("");
        client
            .report(&report(&format!("{id}{unique}"), "t", "running"))
            .await;
        client
            .get(&format!("/api/agents/{written}{unique}"))
            .await
            .ok();
    }
}

async fn a_percent_encoded_session_is_found(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    for topic in NAMES {
        client
            .report(&with(report(&id, topic, "running"), "message", topic))
            .await;
        let path = format!("/api/agents/{id}/sessions/{}", segment(topic));
        let found = client.get(&path).await.ok();
        assert_eq!(found["session"]["session_topic"], topic);
        assert_eq!(texts(&found["status_history"], "message"), [topic]);
    }
}

/// Browsers cannot send a path with `.` or `..` as a segment.
async fn a_name_may_stand_in_the_query(world: Arc<World>) {
    let client = world.client().await;
    for id in ["..", "."] {
        let topic = format!("{}/..", world.name("topic"));
        for topic in [topic.as_str(), ".."] {
            client.report(&report(id, topic, "running")).await;
            client.report(&report(id, topic, "success")).await;
        }
        let agent = client.get(&format!("/api/agents/%20?agent_id={id}"));
        assert_eq!(agent.await.ok()["agent_id"], id);
        for rest in ["/sessions", "/history", "/status"] {
            let path = format!("/api/agents/%20{rest}?agent_id={id}");
            client.get(&path).await.ok();
        }
        let path = format!("/api/agents/%20/sessions/%20?agent_id={id}&session_topic=..&limit=1");
        let page = client.get(&path).await.ok();
        assert_eq!(page["session"]["agent_id"], id);
        assert_eq!(page["session"]["session_topic"], "..");
        let cursor = segment(page["next_cursor"].as_str().unwrap());
        let next = client.get(&format!("{path}&cursor={cursor}")).await.ok();
        assert_eq!(next["status_history"][0]["status"], "running");
    }
    let blank = client.get("/api/agents/%20").await;
    blank.error_code(404, "not_found");
    let blank = client.get("/api/agents/%20?agent_id=").await;
    blank.error_code(404, "not_found");
    let nul = client.get("/api/agents/%20?agent_id=%00").await;
    nul.error_code(400, "bad_request");
}

async fn an_agent_with_a_dotted_name_is_found(world: Arc<World>) {
    let client = world.client().await;
    for id in ["..", "."] {
        let topic = world.name("topic");
        client.report(&report(id, &topic, "running")).await;
        client
            .report(&report(id, &format!("{topic}/.."), "running"))
            .await;
        for written in [
            id.to_owned(),
            id.replace('.', "%2E"),
            id.replace('.', "%2e"),
        ] {
            let agent = client.get(&format!("/api/agents/{written}")).await.ok();
            assert_eq!(agent["agent_id"], id);
            client
                .get(&format!("/api/agents/{written}/sessions/{topic}"))
                .await
                .ok();
            client
                .get(&format!("/api/agents/{written}/sessions/{topic}%2F.."))
                .await
                .ok();
            client
                .get(&format!("/api/agents/{written}/status"))
                .await
                .ok();
        }
    }
    let id = world.name("agent");
    client.report(&report(&id, "..", "running")).await;
    let found = client
        .get(&format!("/api/agents/{id}/sessions/.."))
        .await
        .ok();
    assert_eq!(found["session"]["session_topic"], "..");
}

async fn names_that_look_like_routes_are_names(world: Arc<World>) {
    let client = world.client().await;
    for id in ["sessions", "history", "status", "agents"] {
        client.report(&report(id, id, "running")).await;
        let agent = client.get(&format!("/api/agents/{id}")).await.ok();
        assert_eq!(agent["agent_id"], id);
        let found = client
            .get(&format!("/api/agents/{id}/sessions/{id}"))
            .await
            .ok();
        assert_eq!(found["session"]["session_topic"], id);
    }
}

async fn a_decoded_segment_is_not_decoded_again(world: Arc<World>) {
    let client = world.client().await;
    let unique = world.name("");
    client
        .report(&report(&format!("%41{unique}"), "t", "running"))
        .await;
    let found = client.get(&format!("/api/agents/%2541{unique}")).await.ok();
    assert_eq!(found["agent_id"], format!("%41{unique}"));
    let answer = client.get(&format!("/api/agents/A{unique}")).await;
    answer.error(404, "not_found", "Agent not found");
    let answer = client.get(&format!("/api/agents/%41{unique}")).await;
    answer.error(404, "not_found", "Agent not found");
}

async fn unencoded_characters_stand_for_themselves(world: Arc<World>) {
    let client = world.client().await;
    for name in ["a+b", "a&b", "a=b", "a:b@c", "a;b,c", "a!$'()*~_-."] {
        let id = format!("{name}{}", world.name(""));
        client.report(&report(&id, "t", "running")).await;
        let found = client.get(&format!("/api/agents/{id}")).await.ok();
        assert_eq!(found["agent_id"], id.as_str());
    }
}

async fn a_trailing_slash_names_the_same_list(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&report(&id, "t", "running")).await;
    let query = format!("?search={id}");
    let plain = client.get(&format!("/api/agents{query}")).await.ok();
    let slashed = client.get(&format!("/api/agents/{query}")).await.ok();
    assert_eq!(texts(&plain["agents"], "agent_id"), [id]);
    assert_eq!(slashed, plain);
}
