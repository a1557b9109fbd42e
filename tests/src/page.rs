//! The page and its files, as a browser gets them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::{Arc, LazyLock};

use http::Method;
use pretty_assertions::assert_eq;
use regex::Regex;
use serde_json::Value;
use url::Url;

use crate::client::Answer;
use crate::scenario::scenarios;
use crate::world::World;

scenarios! {
    the_page_is_shown_to_anyone,
    the_page_stands_at_each_of_its_addresses,
    other_paths_stay_unknown,
    whatever_the_page_needs_is_there,
    its_files_are_kept_for_ever_and_the_page_is_asked_for_again,
    a_file_comes_in_a_coding_that_the_client_takes,
    a_browser_runs_nothing_but_the_page,
    the_page_is_only_read,
    clients_still_register_where_the_page_does,
    a_worker_and_a_manifest_stand_at_the_root,
    a_foreign_host_is_not_shown_the_page [Open, Loopback],
    the_page_can_be_left_out [Settings],
}

const ADDRESSES: [&str; 17] = [
    "/",
    "/?state=active",
    "/board",
    "/activity",
    "/agents/alice-laptop",
    "/agents/a%2Fb/more",
    "/sessions/alice-laptop/fix%20the%20login",
    "/sessions/unknown",
    "/settings",
    "/settings/",
    "/settings/channels",
    "/settings/unknown",
    "/login",
    "/register",
    "/verify?token=x",
    "/forgot",
    "/reset?token=x",
];

/// The page as it stands at the root.
async fn page(world: &World) -> Answer {
    let answer = world.anonymous().get("/").await.expect(200);
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("text/html; charset=utf-8")
    );
    answer
}

fn body(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).expect("a text in UTF-8")
}

/// What a file refers to: attributes with an address of assets, icons of a manifest, modules that a module
/// imports.
fn references(text: &str) -> Vec<&str> {
    static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            r#"(?:href=|src=|"src": )"(/[^"]*)""#,
            r#"|(?:\bfrom |\bimport |\bimport\()['"](\.[^'"]*)['"]"#
        ))
        .unwrap()
    });
    let found = REFERENCE.captures_iter(text);
    found
        .filter_map(|found| Some(found.get(1).or(found.get(2))?.as_str()))
        .collect()
}

/// Every file that the page leads to, with its answer.
async fn files(world: &World) -> Vec<(String, Answer)> {
    let base = Url::parse("http://page/").unwrap();
    let mut known = BTreeSet::new();
    let mut waiting = vec![base.clone()];
    let mut files = Vec::new();
    while let Some(address) = waiting.pop() {
        if !known.insert(address.path().to_owned()) {
            continue;
        }
        let path = address.path().to_owned();
        let answer = world.anonymous().get(&path).await.expect(200);
        let kind = answer.header("content-type").unwrap_or_default();
        if ["text/html", "text/javascript", "application/manifest"]
            .iter()
            .any(|refers| kind.starts_with(refers))
        {
            let text = body(&answer);
            waiting.extend(references(&text).iter().map(|to| address.join(to).unwrap()));
        }
        files.push((path, answer));
    }
    files
}

async fn the_page_is_shown_to_anyone(world: Arc<World>) {
    let shown = page(&world).await;
    assert!(body(&shown).starts_with("<!doctype html>"), "{shown}");
    let stale = world.anonymous().with_token("stale");
    assert_eq!(stale.get("/").await.expect(200).body, shown.body);
}

async fn the_page_stands_at_each_of_its_addresses(world: Arc<World>) {
    let shown = page(&world).await;
    for path in ADDRESSES {
        let answer = world.anonymous().get(path).await.expect(200);
        assert_eq!(answer.body, shown.body, "{path}");
        let head = world.anonymous().request(Method::HEAD, path).await;
        assert_eq!(
            head.header("content-length"),
            answer.header("content-length")
        );
        assert!(head.expect(200).body.is_empty(), "{path}");
    }
}

async fn other_paths_stay_unknown(world: Arc<World>) {
    let page = body(&page(&world).await);
    let assets = references(&page);
    let asset = assets.iter().find(|to| to.starts_with("/assets/"));
    let folder = asset.unwrap().rsplit_once('/').unwrap().0;
    let paths = [
        "/index.html",
        "/app.js",
        "/boards",
        "/Board",
        "//",
        "//board",
        "/assets",
        "/assets/",
        "/assets/0000000000000000/app.js",
        "/assets/../index.html",
        &format!("{folder}/"),
        &format!("{folder}/unknown.js"),
        &format!("{folder}/../../service-worker.js"),
        &format!("{folder}/%61pp.js"),
    ];
    for path in paths {
        for method in [Method::GET, Method::POST] {
            let answer = world.anonymous().request(method, path).await;
            assert_eq!(answer.header("cache-control"), None, "{answer}");
            answer.error_code(404, "not_found");
        }
    }
}

async fn whatever_the_page_needs_is_there(world: Arc<World>) {
    let files = files(&world).await;
    for kind in [
        "text/css",
        "text/javascript",
        "image/",
        "application/manifest+json",
    ] {
        let found = files.iter().any(|(_, answer)| {
            let found = answer.header("content-type");
            found.is_some_and(|found| found.starts_with(kind))
        });
        assert!(found, "the page has no {kind}");
    }
    for (path, answer) in files {
        assert!(!body_or_empty(&answer).contains("{assets}"), "{path}");
    }
}

/// The body of a text, and nothing of a picture.
fn body_or_empty(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap_or_default()
}

async fn its_files_are_kept_for_ever_and_the_page_is_asked_for_again(world: Arc<World>) {
    for (path, answer) in files(&world).await {
        let kept = answer.header("cache-control");
        if path.starts_with("/assets/") {
            assert_eq!(kept.as_deref(), Some("public, max-age=31536000, immutable"));
            continue;
        }
        assert_eq!(kept.as_deref(), Some("no-cache"), "{answer}");
        let tag = answer.header("etag").unwrap();
        let known = world.anonymous().get(&path).header("if-none-match", &tag);
        let known = known.await.expect(304);
        assert_eq!(known.header("etag"), Some(tag));
        assert_eq!(known.header("cache-control"), kept);
        assert!(known.body.is_empty(), "{known}");
    }
}

async fn a_file_comes_in_a_coding_that_the_client_takes(world: Arc<World>) {
    let mut tags = BTreeMap::new();
    for (path, plain) in files(&world).await {
        assert_eq!(plain.header("content-encoding"), None, "{plain}");
        // Not every host has every coding.
        for (asked, codings) in [
            ("gzip, deflate, br, zstd", &["br", "gzip"][..]),
            ("gzip, deflate", &["gzip"]),
            ("br;q=0, gzip", &["gzip"]),
            ("identity", &[]),
        ] {
            let answer = world.anonymous().get(&path);
            let answer = answer.header("accept-encoding", asked).await.expect(200);
            let coding = answer.header("content-encoding");
            let is_picture = path.ends_with(".png") || path.ends_with(".webp");
            match &coding {
                Some(coding) => assert!(codings.contains(&&**coding) && !is_picture, "{path}"),
                None => assert!(codings.is_empty() || is_picture, "{path} as {asked}"),
            }
            assert!(answer.list("vary").contains(&"accept-encoding".to_owned()));
            assert_eq!(
                decoded(coding.as_deref(), &answer.body),
                plain.body,
                "{path} as {asked}"
            );
            if path == "/" {
                tags.insert(coding, answer.header("etag"));
            }
        }
    }
    let different: BTreeSet<_> = tags.values().collect();
    assert_eq!(different.len(), tags.len(), "each coding has its own tag");
}

fn decoded(coding: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = match coding {
        Some("br") => brotli_decompressor::Decompressor::new(body, 4096).read_to_end(&mut plain),
        Some(_) => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        None => {
            plain.extend_from_slice(body);
            Ok(plain.len())
        }
    };
    read.unwrap();
    plain
}

async fn a_browser_runs_nothing_but_the_page(world: Arc<World>) {
    for (path, answer) in files(&world).await {
        let kind = answer.header("x-content-type-options");
        assert_eq!(kind.as_deref(), Some("nosniff"), "{path}");
        // A style or a module has no rules of its own: those of the page hold for it.
        if path.ends_with(".css")
            || path.ends_with(".png")
            || path.starts_with("/assets/") && path.ends_with(".js")
        {
            continue;
        }
        let policy = answer.header("content-security-policy").unwrap_or_default();
        let rules: Vec<&str> = policy.split("; ").collect();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(rules.contains(&rule), "{path} lacks {rule}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.header(name).as_deref(), Some(value), "{path}");
        }
    }
}

async fn the_page_is_only_read(world: Arc<World>) {
    for path in ["/", "/settings", "/service-worker.js"] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = world.anonymous().request(method, path).await;
            assert_eq!(
                answer.header("allow").as_deref(),
                Some("GET, HEAD, OPTIONS")
            );
            answer.error_code(405, "method_not_allowed");
        }
        let answer = world.anonymous().options(path).await.expect(204);
        assert_eq!(
            answer.header("allow").as_deref(),
            Some("GET, HEAD, OPTIONS")
        );
    }
}

async fn clients_still_register_where_the_page_does(world: Arc<World>) {
    let client = world.anonymous();
    client.get("/register").await.expect(200);
    let answer = client.post("/register", &Value::Null).await;
    assert_eq!(answer.expect(403).json()["error"], "access_denied");
    let answer = client.delete("/register").await;
    let allowed = answer.header("allow");
    assert_eq!(allowed.as_deref(), Some("GET, HEAD, POST, OPTIONS"));
    answer.error_code(405, "method_not_allowed");
}

async fn a_worker_and_a_manifest_stand_at_the_root(world: Arc<World>) {
    for (path, kind) in [
        ("/service-worker.js", "text/javascript; charset=utf-8"),
        ("/manifest.webmanifest", "application/manifest+json"),
    ] {
        let answer = world.anonymous().get(path).await.expect(200);
        assert_eq!(answer.header("content-type").as_deref(), Some(kind));
    }
}

async fn a_foreign_host_is_not_shown_the_page(world: Arc<World>) {
    for path in ["/", "/settings", "/service-worker.js"] {
        let answer = world
            .anonymous()
            .get(path)
            .header("host", "evil.example")
            .await;
        answer.error_code(403, "forbidden");
    }
}

async fn the_page_can_be_left_out(world: Arc<World>) {
    for path in [
        "/",
        "/settings",
        "/service-worker.js",
        "/manifest.webmanifest",
    ] {
        world
            .anonymous()
            .get(path)
            .await
            .error_code(404, "not_found");
    }
    let answer = world.anonymous().get("/register").await;
    assert_eq!(answer.header("allow").as_deref(), Some("POST, OPTIONS"));
    answer.error_code(405, "method_not_allowed");
}
