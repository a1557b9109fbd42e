//! `limit`, `cursor`, `next_cursor` and `Link` on every list.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::{join, join_all};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::scenario::scenarios;
use crate::world::{World, report, segment, text, texts, with};

scenarios! {
    a_page_holds_10000_at_most,
    a_limit_is_a_number_from_1_to_10000,
    a_broken_cursor_is_refused,
    a_walk_sees_the_whole_list_in_its_order,
    a_link_leads_to_the_same_page_as_the_cursor,
    the_last_page_has_no_cursor,
    a_walk_through_a_history_is_complete_while_reports_go_on,
    a_walk_through_agents_shows_nothing_twice_while_reports_go_on,
    a_walk_through_sessions_shows_nothing_twice_while_reports_go_on,
    a_walk_through_all_sessions_shows_nothing_twice_while_reports_go_on,
    a_filtered_walk_sees_every_match,
}

/// An agent with seven statuses in three sessions, and the lists that show it: path with a
/// query, field of the list, and what names an element.
async fn lists(world: &World, client: &Client) -> Vec<(String, &'static str, &'static str)> {
    let group = world.name("group");
    let id = format!("{group}a/b");
    for (n, topic) in ["a", "b", "c", "a", "b", "c", "a"].iter().enumerate() {
        client
            .report(&with(
                report(&id, topic, "running"),
                "message",
                n.to_string(),
            ))
            .await;
    }
    for n in 0..4 {
        client
            .report(&report(&format!("{group}{n}"), "t", "running"))
            .await;
    }
    let path = format!("/api/agents/{}", segment(&id));
    vec![
        (format!("/api/agents?search={group}"), "agents", "agent_id"),
        (
            format!("{path}/sessions?expired=false"),
            "sessions",
            "session_topic",
        ),
        (format!("{path}/sessions/a?"), "status_history", "message"),
        (format!("{path}/history?"), "status_history", "message"),
        (
            format!("/api/sessions?search={group}"),
            "sessions",
            "session_topic",
        ),
        (
            format!("/api/sessions?state=active&status=running&search={group}"),
            "sessions",
            "agent_id",
        ),
    ]
}

/// Every element that following `next_cursor` shows, page by page.
async fn walk(client: &Client, path: &str, limit: usize, list: &str) -> Vec<Value> {
    walk_beside(client, path, limit, list, async |_| ()).await
}

/// Walks, with one run of `act` beside each page. More might add to a list faster than it is walked
/// through, since reports go before lists.
async fn walk_beside(
    client: &Client,
    path: &str,
    limit: usize,
    list: &str,
    act: impl AsyncFn(usize),
) -> Vec<Value> {
    let mut elements = Vec::new();
    let mut cursor = String::new();
    for n in 0.. {
        let page = format!("{path}&limit={limit}{cursor}");
        let page = client.get(&page).into_future();
        let (page, ()) = join(page, act(n)).await;
        let next = next_link(&page, path);
        let page = page.ok();
        let page_elements = page[list].as_array().expect(list);
        assert!(page_elements.len() <= limit, "{page:#}");
        elements.extend(page_elements.iter().cloned());
        assert_eq!(next.is_some(), page.get("next_cursor").is_some());
        match page.get("next_cursor") {
            Some(next) => cursor = format!("&cursor={}", segment(&text(next))),
            None => break,
        }
    }
    elements
}

/// The path and query of the next page, which `Link` gives relative to the path of this one.
fn next_link(page: &Answer, path: &str) -> Option<String> {
    let link = page.header("link")?;
    let target = link
        .strip_prefix('<')
        .and_then(|l| l.strip_suffix(r#">; rel="next""#));
    let target = target.expect("<…>; rel=\"next\"");
    assert!(target.starts_with('?'), "{link}");
    let path = path.split('?').next().unwrap();
    Some(format!("{path}{target}"))
}

async fn a_page_holds_10000_at_most(world: Arc<World>) {
    const MOST: usize = 10_000;
    const REPORTERS: usize = 16;
    let client = world.client().await;
    let id = world.name("agent");
    join_all((0..REPORTERS).map(|reporter| {
        let (client, id) = (&client, &id);
        async move {
            for n in (0..=MOST).skip(reporter).step_by(REPORTERS) {
                let report = report(id, &reporter.to_string(), "running");
                client.report(&with(report, "message", n.to_string())).await;
            }
        }
    }))
    .await;

    let path = format!("/api/agents/{id}/history");
    let page = client.get(&path).await;
    let rest = next_link(&page, &path).expect("a second page");
    let page = page.ok();
    let rest = client.get(&rest).await.ok();
    assert_eq!(rest.get("next_cursor"), None);
    let mut messages = texts(&page["status_history"], "message");
    assert_eq!(messages.len(), MOST);
    messages.extend(texts(&rest["status_history"], "message"));
    let distinct: HashSet<_> = messages.iter().collect();
    assert_eq!((messages.len(), distinct.len()), (MOST + 1, MOST + 1));
}

async fn a_limit_is_a_number_from_1_to_10000(world: Arc<World>) {
    let client = world.client().await;
    for (path, list, _) in lists(&world, &client).await {
        let whole = client.get(&path).await.ok();
        for limit in ["10000", "9999", "100", ""] {
            assert_eq!(
                client.get(&format!("{path}&limit={limit}")).await.ok(),
                whole
            );
        }
        let one = client.get(&format!("{path}&limit=1")).await.ok();
        assert_eq!(one[list].as_array().unwrap().len(), 1);
        for limit in [
            "0",
            "10001",
            "-1",
            "%2B1",
            "1.5",
            "ten",
            "0x10",
            "99999999999999999999999",
        ] {
            let answer = client.get(&format!("{path}&limit={limit}")).await;
            answer.error_code(400, "bad_request");
        }
    }
}

async fn a_broken_cursor_is_refused(world: Arc<World>) {
    let client = world.client().await;
    for (path, _, _) in lists(&world, &client).await {
        for cursor in [
            "x",
            "AAAA",
            "%00",
            "%F0%9F%9A%80",
            "-1",
            "eyJ9",
            "....",
            "%20",
        ] {
            let answer = client.get(&format!("{path}&cursor={cursor}")).await;
            answer.error_code(400, "bad_request");
        }
        let page = client.get(&format!("{path}&limit=1")).await.ok();
        let cursor = text(&page["next_cursor"]);
        let cut = segment(&cursor[..cursor.len() / 2]);
        let answer = client.get(&format!("{path}&cursor={cut}")).await;
        assert!(!answer.status.is_server_error(), "{answer}");
    }
}

async fn a_walk_sees_the_whole_list_in_its_order(world: Arc<World>) {
    let client = world.client().await;
    for (path, list, name) in lists(&world, &client).await {
        let whole = client.get(&path).await.ok();
        assert!(texts(&whole[list], name).len() >= 3);
        for limit in [1, 2, 3, 100] {
            assert_eq!(
                json!(walk(&client, &path, limit, list).await),
                whole[list],
                "{path}"
            );
        }
    }
}

async fn a_link_leads_to_the_same_page_as_the_cursor(world: Arc<World>) {
    let client = world.client().await;
    for (path, list, name) in lists(&world, &client).await {
        let whole = client.get(&path).await.ok();
        let mut names = Vec::new();
        let mut next = Some(format!("{path}&limit=2"));
        while let Some(path) = next {
            let page = client.get(&path).await;
            next = next_link(&page, &path);
            names.extend(texts(&page.ok()[list], name));
        }
        assert_eq!(names, texts(&whole[list], name));
    }
}

async fn the_last_page_has_no_cursor(world: Arc<World>) {
    let client = world.client().await;
    for (path, _, _) in lists(&world, &client).await {
        let answer = client.get(&path).await;
        assert_eq!(answer.header("link"), None);
        assert_eq!(answer.ok().get("next_cursor"), None);
    }
}

async fn a_walk_through_a_history_is_complete_while_reports_go_on(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let said = |n: usize, message: String| {
        let report = report(&id, ["a", "b"][n % 2], "running");
        with(report, "message", message)
    };
    for n in 0..24 {
        client.report(&said(n, format!("before {n}"))).await;
    }
    for (path, before) in [
        (format!("/api/agents/{id}/history?"), 24),
        (format!("/api/agents/{id}/sessions/a?"), 12),
    ] {
        for limit in [1, 2, 5] {
            let seen = walk_beside(&client, &path, limit, "status_history", async |n| {
                client.report(&said(n, format!("during {n}"))).await;
            });
            let seen = texts(&json!(seen.await), "message");
            let mut seen_before = seen.clone();
            seen_before.retain(|message| message.starts_with("before"));
            let step = 24 / before;
            let expected = (0..24)
                .rev()
                .filter(|n| n % step == 0)
                .map(|n| format!("before {n}"));
            assert_eq!(seen_before, expected.collect::<Vec<_>>());
        }
    }
}

/// Walks that may miss what moves to the front meanwhile, but show nothing twice.
async fn walks_show_nothing_twice(
    client: &Client,
    path: &str,
    list: &str,
    name: &str,
    reports: &[Value],
) {
    for limit in [1, 2, 3] {
        let seen = walk_beside(client, path, limit, list, async |n| {
            client.report(&reports[n * 7 % reports.len()]).await;
        });
        let seen = texts(&json!(seen.await), name);
        let distinct: HashSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "{seen:#?}");
    }
    let still = walk(client, path, 2, list).await;
    assert_eq!(still.len(), reports.len());
}

async fn a_walk_through_agents_shows_nothing_twice_while_reports_go_on(world: Arc<World>) {
    let client = world.client().await;
    let group = world.name("group");
    let reports: Vec<_> = (0..16)
        .map(|n| report(&format!("{group}{n}"), "t", "running"))
        .collect();
    for report in &reports {
        client.report(report).await;
    }
    let path = format!("/api/agents?search={group}");
    walks_show_nothing_twice(&client, &path, "agents", "agent_id", &reports).await;
}

async fn a_walk_through_sessions_shows_nothing_twice_while_reports_go_on(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let reports: Vec<_> = (0..16)
        .map(|n| report(&id, &n.to_string(), "running"))
        .collect();
    for report in &reports {
        client.report(report).await;
    }
    let path = format!("/api/agents/{id}/sessions?");
    walks_show_nothing_twice(&client, &path, "sessions", "session_topic", &reports).await;
}

async fn a_walk_through_all_sessions_shows_nothing_twice_while_reports_go_on(world: Arc<World>) {
    let client = world.client().await;
    let group = world.name("group");
    let reports: Vec<_> = (0..16)
        .map(|n| report(&format!("{group}{}", n % 3), &n.to_string(), "running"))
        .collect();
    for report in &reports {
        client.report(report).await;
    }
    let path = format!("/api/sessions?search={group}");
    walks_show_nothing_twice(&client, &path, "sessions", "session_topic", &reports).await;
}

async fn a_filtered_walk_sees_every_match(world: Arc<World>) {
    let client = world.client().await;
    let group = world.name("group");
    for n in 0..9 {
        let status = if n % 3 == 0 { "failed" } else { "running" };
        client
            .report(&report(&format!("{group}{n}"), "t", status))
            .await;
    }
    let path = format!("/api/agents?search={group}&status=failed");
    let whole = client.get(&path).await.ok();
    assert_eq!(
        texts(&whole["agents"], "agent_id"),
        ["6", "3", "0"].map(|n| format!("{group}{n}"))
    );
    for limit in [1, 2, 3] {
        assert_eq!(
            json!(walk(&client, &path, limit, "agents").await),
            whole["agents"]
        );
    }
}
