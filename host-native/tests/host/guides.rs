//! The README and the guides: their commands work, their links lead somewhere, and the Chinese ones
//! say what the English ones do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kubeagents_core::settings::{Host, SETTINGS, Setting, Unset};
use serde_json::Value;

use crate::support::{Server, root};

/// The address that printed commands use.
const PRINTED: &str = "http://localhost:8080";

const KEY: &str = "a-key-for-the-team";

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Markdown files in a folder below the root.
fn pages(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    assert!(!pages.is_empty(), "there are guides in {folder:?}");
    pages
}

/// An English page, and the Chinese one that it links to.
fn twins() -> Vec<(PathBuf, PathBuf)> {
    let english = [pages(""), pages("docs")].concat();
    let with_twin = english.into_iter().filter_map(|page| {
        let text = read(&page);
        let (_, link) = text.split_once("[中文](")?;
        let twin = page.parent()?.join(link.split_once(')')?.0);
        Some((page, twin))
    });
    with_twin.collect()
}

/// The text outside fenced blocks, and the blocks.
fn prose_and_blocks(text: &str) -> (String, Vec<String>) {
    let (mut prose, mut blocks) = (String::new(), Vec::new());
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            if !fenced {
                blocks.push(String::new());
            }
            fenced = !fenced;
            continue;
        }
        let target = match blocks.last_mut() {
            Some(block) if fenced => block,
            _ => &mut prose,
        };
        target.push_str(line);
        target.push('\n');
    }
    (prose, blocks)
}

/// What is between backticks.
fn code_spans(prose: &str) -> BTreeSet<&str> {
    prose.split('`').skip(1).step_by(2).collect()
}

/// A block without its comments, which are translated.
fn without_comments(block: &str) -> Vec<&str> {
    let lines = block.lines().map(|line| match line.starts_with('#') {
        true => "",
        false => line.split(" # ").next().unwrap_or_default().trim_end(),
    });
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_chinese_guides_have_the_code_of_the_english_ones() {
    let twins = twins();
    assert!(twins.len() >= pages("docs/zh").len(), "{twins:?}");
    for (english, chinese) in twins {
        let (ours, theirs) = (read(&english), read(&chinese));
        let (ours, theirs) = (prose_and_blocks(&ours), prose_and_blocks(&theirs));
        let blocks = |blocks: &[String]| -> Vec<String> {
            let lines = blocks
                .iter()
                .map(|block| without_comments(block).join("\n"));
            lines.collect()
        };
        assert_eq!(blocks(&ours.1), blocks(&theirs.1), "{}", chinese.display());
        let (ours, theirs) = (code_spans(&ours.0), code_spans(&theirs.0));
        let apart: Vec<_> = ours.symmetric_difference(&theirs).collect();
        assert!(apart.is_empty(), "{}: {apart:?}", chinese.display());
    }
}

/// Words that the Chinese texts have others for: one word for each thing.
const OTHER_WORDS: [(&str, &str); 5] = [
    ("可省略", "请省略"),
    ("凭据", "凭证"),
    ("沉默", "不再上报"),
    ("同场", "同一次运行中"),
    ("挂起", "无响应"),
];

#[test]
fn the_chinese_texts_have_one_word_for_each_thing() {
    let others = [root().join("README_zh.md"), root().join("web/texts/zh.js")];
    for page in pages("docs/zh").into_iter().chain(others) {
        let text = read(&page);
        for (word, instead) in OTHER_WORDS {
            assert!(
                !text.contains(word),
                "{}: {word} should be {instead}",
                page.display()
            );
        }
    }
}

#[test]
fn agents_are_told_to_report_twice_within_the_ttl() {
    let ttl = SETTINGS
        .iter()
        .find(|setting| setting.variable == "DEFAULT_TTL_MINUTES");
    assert!(matches!(ttl.unwrap().unset, Unset::Value("60")));
    let page = read(&root().join("AGENTS.md"));
    assert_eq!(page.matches("at least every half hour").count(), 2);
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.collect::<String>().to_lowercase()
}

/// The headings' anchors of a page.
fn anchors(page: &Path) -> BTreeSet<String> {
    let (prose, _) = prose_and_blocks(&read(page));
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let folders = [
        "",
        "docs",
        "docs/zh",
        "tests",
        "host-spin",
        "host-wasmcloud",
        "store-keyvalue",
    ];
    for page in folders.into_iter().flat_map(pages) {
        let (prose, _) = prose_and_blocks(&read(&page));
        for link in prose.split("](").skip(1) {
            let link = link.split_once(')').unwrap().0;
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() {
                let known = anchors(&target);
                assert!(
                    known.contains(heading),
                    "{}: {link} is none of {known:?}",
                    page.display()
                );
            }
        }
    }
}

/// The commands of a page that call the server.
fn calls(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for block in prose_and_blocks(text).1 {
        let mut open = false;
        for line in block.lines() {
            if line.starts_with("curl ") {
                commands.push(String::new());
                open = true;
            } else if line.starts_with(|c: char| c == '#' || c.is_ascii_alphabetic()) {
                open = false;
            }
            if let Some(command) = commands.last_mut().filter(|_| open) {
                command.push_str(line);
                command.push('\n');
            }
        }
    }
    // A stream has no end that could be waited for.
    commands.retain(|command| command.contains(PRINTED) && !command.contains("curl -N"));
    commands
}

/// Runs a printed command with these variables, and returns the JSON that it prints.
fn run(command: &str, variables: &BTreeMap<&str, String>) -> Value {
    // As printed, curl succeeds whatever the server answers.
    let script = format!("curl() {{ command curl -sS --fail-with-body \"$@\"; }}\n{command}");
    let output = Command::new("bash")
        .args(["-c", &script])
        .envs(variables)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{command}\n{printed}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let body = printed.find('{').map(|start| &printed[start..]);
    serde_json::from_str(body.unwrap_or_default()).unwrap_or_else(|_| panic!("{command}{printed}"))
}

#[tokio::test]
async fn the_printed_commands_work() {
    let mut run_in_all = 0;
    for page in [pages(""), pages("docs")].concat() {
        let commands = calls(&read(&page));
        if commands.is_empty() {
            continue;
        }
        let mut settings = vec![
            ("KUBEAGENTS_API_KEY", KEY),
            ("SHARED_WORKSPACE_MEMBERS", "alice@example.com"),
            // The receivers that pages name are not asked.
            ("HTTPS_PROXY", "http://127.0.0.1:1"),
        ];
        // In open mode the pages send no credentials.
        if commands.iter().any(|command| command.contains("Bearer")) {
            settings.push(("AUTH_MODE", "required"));
        }
        let server = Server::start(&settings);
        let url = format!("http://{}", server.address);
        let mut variables = BTreeMap::from([
            ("TOKEN", KEY.to_owned()),
            ("KUBEAGENTS_API_KEY", KEY.to_owned()),
            // Until somebody logs in: it manages channels, too.
            ("ACCESS", KEY.to_owned()),
        ]);
        for command in &commands {
            let answer = run(&command.replace(PRINTED, &url), &variables);
            let keep = [
                ("access_token", "ACCESS"),
                ("refresh_token", "REFRESH"),
                ("id", "KEY_ID"),
                ("id", "ID"),
            ];
            for (field, variable) in keep {
                if let Some(value) = answer[field].as_str() {
                    variables.insert(variable, value.to_owned());
                }
            }
            if command.contains("/api/auth/register") {
                let token = server.verification_token("alice@example.com").await;
                variables.insert("VERIFICATION", token);
            }
            if command.contains("/api/auth/forgot") {
                let token = server.link_token("reset", "alice@example.com").await;
                variables.insert("RESET", token);
            }
        }
        run_in_all += commands.len();
    }
    assert!(run_in_all > 20, "only {run_in_all} commands are found");
}

/// The row of the reference that documents a setting.
fn row(setting: &Setting) -> String {
    let unset = match setting.unset {
        Unset::Value(value) => format!("`{value}`"),
        Unset::Described(text) => text.to_owned(),
        Unset::Nothing => "–".to_owned(),
    };
    let hosts = [
        (Host::Native, "native"),
        (Host::Spin, "Spin"),
        (Host::Wasmcloud, "wasmCloud"),
    ];
    let names = hosts.iter().filter(|(host, _)| setting.is_on(*host));
    let hosts = match setting.hosts.len() == hosts.len() {
        true => "all".to_owned(),
        false => names.map(|(_, name)| *name).collect::<Vec<_>>().join(", "),
    };
    let help = setting.help();
    format!("| `{}` | {unset} | {hosts} | {help} |", setting.variable)
}

#[test]
fn every_setting_is_documented_as_the_table_has_it() {
    let page = read(&root().join("docs/configuration.md"));
    let (_, reference) = page.split_once("## Settings\n").unwrap();
    let (reference, _) = reference.split_once("\n## ").unwrap();
    let found: Vec<&str> = reference
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let rows: Vec<String> = SETTINGS.iter().map(row).collect();
    assert!(
        found == rows,
        "docs/configuration.md should have these rows:\n{}",
        rows.join("\n")
    );
}
