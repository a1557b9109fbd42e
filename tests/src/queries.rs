//! `GET /api/agents…` and `/api/sessions`: what each route answers, in which order, and how lists are narrowed.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use pretty_assertions::{assert_eq, assert_ne};
use serde_json::{Value, json};

use crate::client::Client;
use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::{World, report, segment, texts, time, with};

scenarios! {
    a_listed_agent_is_the_agent_itself,
    agents_are_listed_last_seen_first,
    a_search_finds_part_of_an_id_or_a_name,
    a_search_ignores_case_in_every_script,
    a_search_takes_every_character_literally,
    agents_are_filtered_by_latest_status,
    search_and_status_narrow_together,
    the_latest_status_is_that_of_the_newest_report,
    sessions_are_listed_last_updated_first,
    a_listed_session_is_the_session_itself,
    the_expired_filter_leaves_out_what_it_says,
    sessions_of_all_agents_are_listed_with_their_agents_names,
    sessions_of_all_agents_are_listed_last_updated_first,
    sessions_of_all_agents_are_found_by_every_name,
    sessions_of_all_agents_are_filtered_by_state_and_status,
    a_client_that_has_an_answer_is_not_sent_it_again,
    a_change_gives_an_answer_another_tag,
    a_sessions_history_is_its_own,
    an_agents_history_spans_its_sessions,
    the_status_of_an_agent_is_its_newest,
    nothing_is_found_under_an_unknown_agent,
    nothing_is_found_under_an_unknown_session,
    a_query_with_u0000_is_no_server_error,
    who_has_reported_sees_it_in_lists_that_many_ask_for_at_once,
}

async fn found(client: &Client, query: &str) -> Vec<String> {
    let path = format!("/api/agents?{query}");
    texts(&client.get(&path).await.ok()["agents"], "agent_id")
}

async fn a_listed_agent_is_the_agent_itself(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let report = with(report(&id, "t", "failed"), "agent_name", "Name");
    client.report(&with(report, "message", "Why")).await;
    let agent = client.get(&format!("/api/agents/{id}")).await.ok();
    let listed = client.get(&format!("/api/agents?search={id}")).await.ok();
    assert_eq!(listed, json!({"agents": [agent]}));
    let listed = client.get(&format!("/api/agents/?search={id}")).await.ok();
    assert_eq!(listed, json!({"agents": [agent]}));
}

async fn agents_are_listed_last_seen_first(world: Arc<World>) {
    let client = world.client().await;
    let group = world.name("group");
    for n in [3, 1, 4, 2, 5, 1, 4] {
        client
            .report(&report(&format!("{group}{n}"), "t", "running"))
            .await;
    }
    let listed = client
        .get(&format!("/api/agents?search={group}"))
        .await
        .ok();
    let agents = listed["agents"].as_array().unwrap();
    assert_eq!(agents.len(), 5);
    let order = |agent: &Value| {
        let id = agent["agent_id"].as_str().unwrap().to_owned();
        (std::cmp::Reverse(time(&agent["last_seen"])), id)
    };
    assert!(agents.is_sorted_by_key(order), "{listed:#}");
}

async fn a_search_finds_part_of_an_id_or_a_name(world: Arc<World>) {
    let client = world.client().await;
    let (one, two) = (world.name("one"), world.name("two"));
    client
        .report(&with(report(&one, "t", "running"), "agent_name", "x"))
        .await;
    let name = format!("like {one} in name");
    client
        .report(&with(report(&two, "t", "running"), "agent_name", name))
        .await;
    client
        .report(&report(&world.name("three"), "t", "running"))
        .await;

    assert_eq!(
        found(&client, &format!("search={one}")).await,
        [two.as_str(), &one]
    );
    let search = segment(&format!("like {one} in"));
    assert_eq!(
        found(&client, &format!("search={search}")).await,
        [two.as_str()]
    );
    let middle = &two[2..two.len() - 1];
    assert_eq!(
        found(&client, &format!("search={middle}")).await,
        [two.as_str()]
    );
    let nothing = segment(&format!("{one} "));
    assert_eq!(found(&client, &format!("search=x{nothing}")).await, [""; 0]);
}

async fn a_search_ignores_case_in_every_script(world: Arc<World>) {
    let client = world.client().await;
    let cases = [
        (
            "Café",
            vec!["CAFÉ", "café", "aFÉ"],
            vec!["cafe", "cafe\u{301}"],
        ),
        ("МОСКВА", vec!["москва", "Москва"], vec!["moskva"]),
        (
            "Straße",
            vec!["STRAẞE", "straße"],
            vec!["strasse", "STRASSE"],
        ),
        ("ΔΈΛΤΑ", vec!["δέλτα"], vec!["δελτα"]),
        ("İstanbul", vec!["i\u{307}stanbul"], vec!["ıstanbul"]),
        ("测试🚀Ａ", vec!["测试🚀ａ", "🚀ａ"], vec!["测 试", "🛸"]),
    ];
    for (name, matching, others) in cases {
        let unique = world.name("");
        let by_name = world.name("by-name");
        let named = with(
            report(&by_name, "t", "running"),
            "agent_name",
            format!("{name}{unique}"),
        );
        client.report(&named).await;
        let by_id = format!("{name}{unique}");
        client.report(&report(&by_id, "t", "running")).await;
        for search in matching {
            let query = format!("search={}", segment(&format!("{search}{unique}")));
            assert_eq!(
                found(&client, &query).await,
                [by_id.as_str(), &by_name],
                "{search} in {name}"
            );
            let query = format!(
                "search={}",
                segment(&format!("{search}{}", unique.to_uppercase()))
            );
            assert_eq!(
                found(&client, &query).await,
                [by_id.as_str(), &by_name],
                "{search} in {name}"
            );
        }
        for search in others {
            let query = format!("search={}", segment(&format!("{search}{unique}")));
            assert_eq!(found(&client, &query).await, [""; 0], "{search} in {name}");
        }
    }
}

async fn a_search_takes_every_character_literally(world: Arc<World>) {
    let client = world.client().await;
    let group = world.name("group");
    let traps = [
        "100%", "a_b", r"c\d", "e.*f", "[g]", "h'i", "j\"k", "l&m=n", "o+p", "q r", "#s",
    ];
    for trap in traps {
        client
            .report(&report(&format!("{group}{trap}"), "t", "running"))
            .await;
    }
    for trap in traps {
        let id = format!("{group}{trap}");
        let query = format!("search={}", segment(&id));
        assert_eq!(found(&client, &query).await, [id]);
    }
    for pattern in ["%", "_", "%%", r"\", "*", "."] {
        let query = format!("search={}", segment(&format!("{group}{pattern}")));
        assert_eq!(found(&client, &query).await, [""; 0], "{pattern}");
    }
}

async fn agents_are_filtered_by_latest_status(world: Arc<World>) {
    let client = world.client().await;
    let group = world.name("group");
    let statuses = ["running", "success", "failed", "pending"];
    for status in statuses {
        let id = format!("{group}{status}");
        client.report(&report(&id, "t", "running")).await;
        client.report(&report(&id, "t", status)).await;
    }
    for status in statuses {
        let query = format!("search={group}&status={status}");
        assert_eq!(found(&client, &query).await, [format!("{group}{status}")]);
    }
    client
        .report(&report(&format!("{group}running"), "other", "failed"))
        .await;
    let query = format!("search={group}&status=running");
    assert_eq!(found(&client, &query).await, [""; 0]);
    let query = format!("search={group}&status=failed");
    assert_eq!(
        found(&client, &query).await,
        ["running", "failed"].map(|s| format!("{group}{s}"))
    );
    let query = format!("search={group}&status=");
    assert_eq!(found(&client, &query).await.len(), statuses.len());
    for unknown in ["done", "Failed", "%20"] {
        let query = format!("search={group}&status={unknown}");
        assert_eq!(found(&client, &query).await, [""; 0]);
    }
}

async fn search_and_status_narrow_together(world: Arc<World>) {
    let client = world.client().await;
    let (mine, other) = (world.name("mine"), world.name("other"));
    client.report(&report(&mine, "t", "failed")).await;
    client.report(&report(&other, "t", "failed")).await;
    assert_eq!(
        found(&client, &format!("status=failed&search={mine}")).await,
        [mine.as_str()]
    );
    assert_eq!(
        found(&client, &format!("status=running&search={mine}")).await,
        [""; 0]
    );
}

async fn the_latest_status_is_that_of_the_newest_report(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    for (topic, status) in [("a", "running"), ("b", "failed"), ("a", "pending")] {
        let report = with(report(&id, topic, status), "message", topic);
        client.report(&report).await;
        let agent = client.get(&format!("/api/agents/{id}")).await.ok();
        assert_eq!(agent["latest_status"], status);
        assert_eq!(agent["latest_message"], topic);
    }
}

async fn sessions_are_listed_last_updated_first(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    for topic in ["b", "a", "ä", "🚀", "中", "Z", "a"] {
        client.report(&report(&id, topic, "running")).await;
    }
    let listed = client.get(&format!("/api/agents/{id}/sessions")).await.ok();
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 6);
    let order = |session: &Value| {
        let topic = session["session_topic"].as_str().unwrap().to_owned();
        (std::cmp::Reverse(time(&session["last_updated"])), topic)
    };
    assert!(sessions.is_sorted_by_key(order), "{listed:#}");
    assert_eq!(listed["sessions"][5]["session_topic"], "b");
}

async fn a_listed_session_is_the_session_itself(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client
        .report(&with(report(&id, "t", "failed"), "ttl_minutes", 9))
        .await;
    let session = client
        .get(&format!("/api/agents/{id}/sessions/t"))
        .await
        .ok();
    let listed = client.get(&format!("/api/agents/{id}/sessions")).await.ok();
    assert_eq!(listed, json!({"sessions": [session["session"]]}));
}

async fn the_expired_filter_leaves_out_what_it_says(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&report(&id, "t", "success")).await;
    for (filter, count) in [
        ("false", 1),
        ("only", 0),
        ("true", 1),
        ("", 1),
        ("anything", 1),
    ] {
        let path = format!("/api/agents/{id}/sessions?expired={filter}");
        let listed = client.get(&path).await.ok();
        assert_eq!(
            listed["sessions"].as_array().unwrap().len(),
            count,
            "{filter}"
        );
    }
}

async fn listed_sessions(client: &Client, query: &str) -> Vec<String> {
    let path = format!("/api/sessions?{query}");
    texts(&client.get(&path).await.ok()["sessions"], "session_topic")
}

async fn sessions_of_all_agents_are_listed_with_their_agents_names(world: Arc<World>) {
    let client = world.client().await;
    let group = world.name("group");
    let (named, nameless) = (format!("{group}a"), format!("{group}b"));
    client.report(&report(&nameless, "t", "running")).await;
    let named_report = with(report(&named, "t", "running"), "agent_name", "Étude");
    client.report(&named_report).await;
    let listed = client
        .get(&format!("/api/sessions?search={group}"))
        .await
        .ok();
    let mut expected = Vec::new();
    for (agent, name) in [(&named, Some("Étude")), (&nameless, None)] {
        let path = format!("/api/agents/{agent}/sessions/t");
        let mut session = client.get(&path).await.ok()["session"].take();
        if let Some(name) = name {
            session["agent_name"] = name.into();
        }
        expected.push(session);
    }
    assert_eq!(listed, json!({"sessions": expected}));
}

async fn sessions_of_all_agents_are_listed_last_updated_first(world: Arc<World>) {
    let client = world.client().await;
    let group = world.name("group");
    for n in [3, 1, 4, 2, 5, 1, 4] {
        let agent = format!("{group}{}", n % 2);
        client
            .report(&report(&agent, &n.to_string(), "running"))
            .await;
    }
    let found = listed_sessions(&client, &format!("search={group}")).await;
    assert_eq!(found, ["4", "1", "5", "2", "3"]);
}

async fn sessions_of_all_agents_are_found_by_every_name(world: Arc<World>) {
    let client = world.client().await;
    let group = world.name("group");
    let mut full = report(
        &format!("{group}É"),
        &format!("{group} Topic 100%"),
        "running",
    );
    full["agent_name"] = format!("{group} МОСКВА").into();
    full["session_title"] = format!("{group} Straße").into();
    client.report(&full).await;
    client
        .report(&report(&format!("{group}other"), "x", "running"))
        .await;
    for (text, count) in [
        ("", 2),
        ("é", 1),
        (" TOPIC 100%", 1),
        (" москва", 1),
        (" STRAßE", 1),
        ("OTHER", 1),
        (" t_pic", 0),
        (" nothing", 0),
    ] {
        let query = format!("search={}", segment(&format!("{group}{text}")));
        assert_eq!(
            listed_sessions(&client, &query).await.len(),
            count,
            "{text}"
        );
    }
}

async fn sessions_of_all_agents_are_filtered_by_state_and_status(world: Arc<World>) {
    let client = world.client().await;
    let group = world.name("group");
    for (topic, status, reason) in [
        ("run", "running", ""),
        ("wait", "pending", "question"),
        ("turn", "success", "turn"),
        ("done", "success", "closed"),
        ("fail", "failed", "crashed"),
    ] {
        let agent = format!("{group}{topic}");
        client
            .report(&with(report(&agent, topic, status), "reason", reason))
            .await;
    }
    for (query, topics) in [
        ("", &["fail", "done", "turn", "wait", "run"][..]),
        ("state=active", &["wait", "run"]),
        ("state=idle", &["turn"]),
        ("state=ended", &["fail", "done"]),
        ("state=expired", &[]),
        ("status=success", &["done", "turn"]),
        ("status=success&state=idle", &["turn"]),
        ("status=running&state=ended", &[]),
        ("state=&status=", &["fail", "done", "turn", "wait", "run"]),
        ("state=Active", &[]),
        ("state=done", &[]),
        ("status=done", &[]),
    ] {
        let found = listed_sessions(&client, &format!("search={group}&{query}")).await;
        assert_eq!(found, topics, "{query}");
    }
    let nothing = client.get("/api/sessions?state=unknown").await.ok();
    assert_eq!(nothing, json!({"sessions": []}));
}

/// An agent with two sessions, and every path that shows it.
async fn shown(world: &World, client: &Client) -> (String, Vec<String>) {
    let id = world.name("agent");
    for topic in ["t", "u"] {
        client.report(&report(&id, topic, "running")).await;
    }
    let paths = [
        format!("/api/agents?search={id}"),
        format!("/api/agents/{id}"),
        format!("/api/agents/{id}/sessions"),
        format!("/api/agents/{id}/sessions?limit=1"),
        format!("/api/agents/{id}/sessions/t"),
        format!("/api/agents/{id}/history"),
        format!("/api/agents/{id}/status"),
        format!("/api/sessions?search={id}"),
    ];
    (id, paths.into())
}

async fn a_client_that_has_an_answer_is_not_sent_it_again(world: Arc<World>) {
    let client = world.client().await;
    let (id, paths) = shown(&world, &client).await;
    for path in paths {
        let answer = client.get(&path).await.expect(200);
        let tag = answer.header("etag").expect("an ETag");
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"other\", {tag}"),
            "*".to_owned(),
        ] {
            let known = client.get(&path).header("if-none-match", &known).await;
            assert_eq!(known.status, 304, "{path}: {known}");
            assert_eq!(known.header("etag"), Some(tag.clone()));
            assert!(known.body.is_empty());
            assert_eq!(known.header("content-type"), None);
        }
        for other in ["\"other\"", "", tag.trim_matches('"')] {
            let again = client.get(&path).header("if-none-match", other).await;
            assert_eq!(again.header("etag"), Some(tag.clone()));
            assert_eq!(again.body, answer.body, "{path}: {other}");
        }
        let head = client.request(Method::HEAD, &path);
        assert_eq!(head.await.expect(200).header("etag"), Some(tag.clone()));
        let head = client.request(Method::HEAD, &path);
        head.header("if-none-match", &tag).await.expect(304);
    }
    let unknown = client
        .get(&format!("/api/agents/{id}x"))
        .header("if-none-match", "*");
    unknown.await.error_code(404, "not_found");
}

async fn a_change_gives_an_answer_another_tag(world: Arc<World>) {
    let client = world.client().await;
    let (id, paths) = shown(&world, &client).await;
    let mut tags = Vec::new();
    for path in &paths {
        tags.push(client.get(path).await.header("etag").expect("an ETag"));
    }
    client
        .report(&with(report(&id, "t", "running"), "message", "more"))
        .await;
    for (path, tag) in paths.iter().zip(tags) {
        let answer = client.get(path).header("if-none-match", &tag).await;
        assert_ne!(answer.header("etag"), Some(tag));
        answer.ok();
    }
}

async fn a_sessions_history_is_its_own(world: Arc<World>) {
    let client = world.client().await;
    let (id, other) = (world.name("agent"), world.name("other"));
    for (agent, topic, message) in [
        (&id, "a", "1"),
        (&id, "b", "2"),
        (&other, "a", "3"),
        (&id, "a", "4"),
    ] {
        client
            .report(&with(report(agent, topic, "running"), "message", message))
            .await;
    }
    let session = client
        .get(&format!("/api/agents/{id}/sessions/a"))
        .await
        .ok();
    assert_eq!(texts(&session["status_history"], "message"), ["4", "1"]);
    assert_eq!(session.get("next_cursor"), None);
}

async fn an_agents_history_spans_its_sessions(world: Arc<World>) {
    let client = world.client().await;
    let (id, other) = (world.name("agent"), world.name("other"));
    for (agent, topic, message) in [
        (&id, "a", "1"),
        (&id, "b", "2"),
        (&other, "a", "3"),
        (&id, "a", "4"),
    ] {
        client
            .report(&with(report(agent, topic, "running"), "message", message))
            .await;
    }
    let history = client.get(&format!("/api/agents/{id}/history")).await.ok();
    assert_eq!(
        texts(&history["status_history"], "message"),
        ["4", "2", "1"]
    );
    assert_eq!(
        texts(&history["status_history"], "session_topic"),
        ["a", "b", "a"]
    );
    assert_eq!(
        texts(&history["status_history"], "agent_id"),
        [id.as_str(), &id, &id]
    );
    assert_eq!(history.get("next_cursor"), None);
}

async fn the_status_of_an_agent_is_its_newest(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    for (topic, status) in [
        ("a", "running"),
        ("b", "failed"),
        ("a", "pending"),
        ("b", "running"),
    ] {
        client.report(&report(&id, topic, status)).await;
        let newest = client.get(&format!("/api/agents/{id}/status")).await.ok();
        assert_eq!(newest["session_topic"], topic);
        assert_eq!(newest["status"], status);
        let history = client.get(&format!("/api/agents/{id}/history")).await.ok();
        assert_eq!(newest, history["status_history"][0]);
    }
}

async fn nothing_is_found_under_an_unknown_agent(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("nobody");
    for rest in ["", "/sessions", "/sessions/t", "/history", "?limit=1"] {
        let answer = client.get(&format!("/api/agents/{id}{rest}")).await;
        answer.error(404, "not_found", "Agent not found");
    }
    let answer = client.get(&format!("/api/agents/{id}/status")).await;
    answer.error_code(404, "not_found");
    assert_eq!(found(&client, &format!("search={id}")).await, [""; 0]);
}

async fn nothing_is_found_under_an_unknown_session(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&report(&id, "known", "running")).await;
    for topic in ["unknown", "Known", "know", "known%20", "%F0%9F%9A%80"] {
        let answer = client
            .get(&format!("/api/agents/{id}/sessions/{topic}"))
            .await;
        assert_answer_snapshot!(answer.redacted(&[]), @r#"
        404 Not Found

        {
          "code": "not_found",
          "error": "not_found",
          "message": "Session not found"
        }
        "#);
    }
}

async fn a_query_with_u0000_is_no_server_error(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&report(&id, "t", "running")).await;
    for path in [
        "/api/agents?search=%00".to_owned(),
        "/api/agents?status=%00".to_owned(),
        "/api/agents?cursor=%00".to_owned(),
        "/api/agents?search=%FF".to_owned(),
        "/api/agents/%00".to_owned(),
        "/api/agents/%FF".to_owned(),
        "/api/agents/%".to_owned(),
        "/api/agents/%zz".to_owned(),
        format!("/api/agents/{id}/sessions/%00"),
        format!("/api/agents/{id}/sessions/%C0%AF"),
    ] {
        let answer = client.get(&path).await;
        assert!(!answer.status.is_server_error(), "{answer}");
    }
}

async fn who_has_reported_sees_it_in_lists_that_many_ask_for_at_once(world: Arc<World>) {
    const CLIENTS: usize = 12;
    const REPORTS: usize = 9;
    let client = world.client().await;
    let id = world.name("agent");
    let paths = [
        (format!("/api/agents/{id}/sessions"), "sessions"),
        (format!("/api/agents/{id}/history"), "status_history"),
        (format!("/api/sessions?search={id}"), "sessions"),
    ];
    join_all((0..CLIENTS).map(|of| {
        let (client, id, paths) = (&client, &id, &paths);
        async move {
            for n in 0..REPORTS {
                let topic = of.to_string();
                let (path, list) = &paths[n % paths.len()];
                let report = with(report(id, &topic, "running"), "message", n.to_string());
                client.report(&report).await;
                let listed = client.get(path).await.ok();
                let listed = listed[list].as_array().unwrap();
                let own = listed.iter().find(|row| row["session_topic"] == *topic);
                assert_eq!(own.unwrap()["message"], n.to_string(), "{path}");
            }
        }
    }))
    .await;
}
