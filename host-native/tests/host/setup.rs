//! `kubeagents setup`: what it makes of the configurations of agents; `kubeagents doctor`; and what is
//! published for agents.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kubeagents_contract::agent_tools;
use kubeagents_core::mcp;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::{PATIENCE, Server, root};

/// Tools that are set up, and the folder of each below the home.
const TOOLS: [(&str, &str); 13] = [
    ("claude-code", ".claude"),
    ("codex", ".codex"),
    ("cursor", ".cursor"),
    ("gemini", ".gemini"),
    ("copilot", ".copilot"),
    ("opencode", ".config/opencode"),
    ("qwen", ".qwen"),
    ("droid", ".factory"),
    ("kimi", ".kimi-code"),
    ("grok", ".grok"),
    ("devin", ".config/devin"),
    ("goose", ".agents/plugins/kubeagents"),
    ("deepagents", ".deepagents"),
];

/// A user's home, and a folder of `PATH` where this program is.
struct Home {
    folder: TempDir,
    project: PathBuf,
}

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    text: String,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("work");
        fs::create_dir_all(project.join(".git")).unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        let program = folder.path().join("bin/kubeagents");
        symlink(env!("CARGO_BIN_EXE_kubeagents"), program).unwrap();
        Self { folder, project }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, path: &str) -> String {
        let path = self.path(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path)).unwrap()
    }

    /// Every file but the program and our own configuration, with its text.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        fn visit(folder: &Path, self_bin: &Path, files: &mut BTreeMap<PathBuf, String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path == self_bin || path.ends_with(".config/kubeagents") {
                    continue;
                }
                match path.is_dir() {
                    true => visit(&path, self_bin, files),
                    false => {
                        files.insert(path.clone(), fs::read_to_string(path).unwrap());
                    }
                }
            }
        }
        let mut files = BTreeMap::new();
        visit(self.folder.path(), &self.path("bin"), &mut files);
        files
    }

    fn command(&self, program: impl AsRef<Path>, path: &Path) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", path)
            .current_dir(&self.project)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let bin = self.path("bin");
        said(
            self.command(bin.join("kubeagents"), &bin)
                .arg("setup")
                .args(arguments),
        )
    }

    /// Runs `kubeagents setup` as a user to whom the modes of files apply.
    fn without_privilege(&self, arguments: &[&str]) -> Said {
        if !rustix::process::geteuid().is_root() {
            return self.run(arguments);
        }
        let bin = self.path("bin");
        let mut command = self.command("/usr/bin/setpriv", &bin);
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
        said(
            command
                .arg(bin.join("kubeagents"))
                .arg("setup")
                .args(arguments),
        )
    }

    fn setup(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(0), "{}", said.text);
        said.text
    }
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Said {
        code: output.status.code(),
        text: text.concat(),
    }
}

const CLAUDE_SETTINGS: &str = r#"{
    "model": "opus",
    "hooks": {
        "PreToolUse": [
            {
                "matcher": "Bash",
                "hooks": [{ "type": "command", "command": "~/bin/check-command" }]
            }
        ],
        "Stop": []
    },
    "permissions": { "allow": ["Bash(cargo test:*)"] }
}
"#;

const CLAUDE_STATE: &str = "{\"numStartups\":12,\"mcpServers\":{\"github\":{\"type\":\"http\",\"url\":\"https://example.com/mcp\"}},\"projects\":{\"/home/a\":{\"history\":[]}}}";

const CODEX_CONFIG: &str = r#"# My own.
model = "gpt-5.2-codex"
notify = ["notify-send", "Codex"] # keep

[mcp_servers.docs]
command = "docs-mcp" # local

[hooks.state."/home/a/.codex/hooks.json:stop:0:0"]
trusted_hash = "sha256:0123"

[projects."/home/a/work"]
trust_level = "trusted"
"#;

const CURSOR_HOOKS: &str = "{\n  \"version\": 1,\n  \"hooks\": {\n    \"stop\": [\n      {\n        \"command\": \"./hooks/audit.sh\"\n      }\n    ]\n  }\n}";

const GEMINI_SETTINGS: &str = "{\n\t// My theme.\n\t\"ui\": { \"theme\": \"GitHub\" },\n\t\"mcpServers\": {\n\t\t\"git\": { \"command\": \"git-mcp\" }, // trailing\n\t},\n}\n";

const OPENCODE_CONFIG: &str = "{\r\n  \"$schema\": \"https://opencode.ai/config.json\",\r\n  /* the\r\n     model */\r\n  \"model\": \"anthropic/claude-sonnet-4-5\"\r\n}\r\n";

const KIMI_CONFIG: &str = r#"default_model = "kimi" # mine

[[hooks]]
event = "Stop"
command = "say done"

[providers.kimi]
type = "kimi"
"#;

/// A home in which every agent has a configuration that somebody has worked on.
fn lived_in() -> Home {
    let home = Home::new();
    home.put(".claude/settings.json", CLAUDE_SETTINGS);
    home.put(".claude.json", CLAUDE_STATE);
    home.put(".codex/config.toml", CODEX_CONFIG);
    home.put(".cursor/hooks.json", CURSOR_HOOKS);
    home.put(".cursor/mcp.json", "{ \"mcpServers\": {} }\n");
    home.put(".gemini/settings.json", GEMINI_SETTINGS);
    home.put(".copilot/mcp-config.json", "{\n  \"mcpServers\": {}\n}\n");
    home.put(".config/opencode/opencode.jsonc", OPENCODE_CONFIG);
    home.put(".qwen/settings.json", "{}");
    home.put(".factory/settings.json", "{\n  \"model\": \"opus\"\n}\n");
    home.put(".kimi-code/config.toml", KIMI_CONFIG);
    home.put(".grok/config.toml", "# Mine.\n[ui]\ntheme = \"dark\"\n");
    home.put(
        ".config/devin/config.json",
        "{\n  // Mine.\n  \"agent\": { \"model\": \"x\" }\n}\n",
    );
    home.put(".config/goose/config.yaml", "GOOSE_MODE: auto\n");
    home.put(
        ".deepagents/.mcp.json",
        "\u{feff}{\n  \"mcpServers\": {}\n}\n",
    );
    home
}

/// The commands that a file of hooks in Claude Code's form runs at an event.
fn commands<'a>(hooks: &'a Value, event: &str) -> Vec<&'a str> {
    let groups = hooks["hooks"][event].as_array().unwrap();
    let handlers = groups
        .iter()
        .flat_map(|group| group["hooks"].as_array().unwrap());
    handlers
        .map(|handler| handler["command"].as_str().unwrap())
        .collect()
}

#[test]
fn agents_that_are_found_are_set_up_and_all_else_stays() {
    let home = lived_in();
    let said = home.setup(&[]);
    for title in [
        "Claude Code",
        "Codex CLI",
        "Cursor",
        "Gemini CLI",
        "Copilot CLI",
        "OpenCode",
        "Qwen Code",
        "Factory Droid",
        "Kimi Code",
        "Grok CLI",
        "Devin",
        "Goose",
        "Deep Agents Code",
    ] {
        assert!(said.contains(&format!("{title}: set up.\n")), "{said}");
    }
    assert!(said.contains("trust the hooks in /hooks"), "{said}");

    let settings = home.json(".claude/settings.json");
    assert_eq!(
        commands(&settings, "PreToolUse"),
        ["~/bin/check-command", "kubeagents hook claude-code"]
    );
    let handler = &settings["hooks"]["PreToolUse"][1]["hooks"][0];
    let expected = json!({
        "type": "command", "command": "kubeagents hook claude-code", "timeout": 5, "async": true,
    });
    assert_eq!(*handler, expected);
    // The process may end after these.
    for event in ["Stop", "StopFailure", "SessionEnd"] {
        assert_eq!(
            settings["hooks"][event][0]["hooks"][0].get("async"),
            None,
            "{event}"
        );
    }
    assert_eq!(settings["hooks"].get("WorktreeCreate"), None);
    assert!(
        home.text(".claude/settings.json")
            .starts_with("{\n    \"model\": \"opus\",\n")
    );
    let state = home.json(".claude.json");
    let server = json!({"type": "stdio", "command": "kubeagents", "args": ["mcp", "--read-only"]});
    assert_eq!(state["mcpServers"]["kubeagents"], server);
    assert_eq!(state["numStartups"], 12);

    let config = home.text(".codex/config.toml");
    for kept in CODEX_CONFIG.lines() {
        assert!(config.contains(kept), "{kept} is not in\n{config}");
    }
    let server =
        "[mcp_servers.kubeagents]\ncommand = \"kubeagents\"\nargs = [\"mcp\", \"--read-only\"]\n";
    assert!(config.contains(server), "{config}");
    assert!(
        said.contains("notify in config.toml stays as it is"),
        "{said}"
    );
    let hooks = home.json(".codex/hooks.json");
    assert_eq!(
        commands(&hooks, "PermissionRequest"),
        ["kubeagents hook codex"]
    );
    assert_eq!(
        hooks.as_object().unwrap().len(),
        1,
        "Codex refuses other fields"
    );

    let hooks = home.json(".cursor/hooks.json");
    // A desktop's PATH is not the shell's.
    let absolute = format!("{} hook cursor", home.path("bin/kubeagents").display());
    let stop = json!([{"command": "./hooks/audit.sh"}, {"command": absolute, "timeout": 5}]);
    assert_eq!(hooks["hooks"]["stop"], stop);
    assert_eq!(hooks["version"], 1);

    let settings = home.text(".gemini/settings.json");
    for kept in [
        "\t// My theme.\n",
        "\"git\": { \"command\": \"git-mcp\" }, // trailing",
    ] {
        assert!(settings.contains(kept), "{settings}");
    }
    // Milliseconds.
    assert!(settings.contains("\"timeout\": 5000"), "{settings}");

    let hooks = home.json(".copilot/hooks/kubeagents.json");
    let events: Vec<&String> = hooks["hooks"].as_object().unwrap().keys().collect();
    assert!(
        !events
            .iter()
            .any(|it| ["preToolUse", "permissionRequest"].contains(&it.as_str()))
    );
    let handler = json!({
        "type": "command", "bash": "kubeagents hook copilot", "timeoutSec": 5,
    });
    assert_eq!(hooks["hooks"]["agentStop"], json!([handler]));

    let config = home.text(".config/opencode/opencode.jsonc");
    assert!(
        config.contains("  /* the\r\n     model */\r\n"),
        "{config:?}"
    );
    assert!(config.contains("\"kubeagents\""), "{config:?}");
    assert_eq!(config.matches('\n').count(), config.matches("\r\n").count());
    assert!(
        home.text(".config/opencode/plugins/kubeagents.js")
            .contains("const PROGRAM = \"kubeagents\"")
    );

    let config = home.text(".kimi-code/config.toml");
    assert!(
        config.starts_with("default_model = \"kimi\" # mine\n"),
        "{config}"
    );
    assert!(config.contains("command = \"say done\""), "{config}");
    let hook =
        "[[hooks]]\nevent = \"Interrupt\"\ncommand = \"kubeagents hook kimi\"\ntimeout = 5\n";
    assert!(config.contains(hook), "{config}");
    assert!(home.text(".deepagents/.mcp.json").starts_with('\u{feff}'));
    assert!(
        home.text(".grok/config.toml").contains(server),
        "servers as Codex has them"
    );

    for path in [
        ".qwen/settings.json",
        ".factory/settings.json",
        ".grok/hooks/kubeagents.json",
        ".config/devin/config.json",
        ".agents/plugins/kubeagents/hooks/hooks.json",
        ".deepagents/hooks.json",
    ] {
        if path.contains("devin") {
            let text = home.text(path);
            assert!(
                text.contains("// Mine.") && text.contains("kubeagents hook devin"),
                "{text}"
            );
            continue;
        }
        assert_eq!(commands(&home.json(path), "Stop").len(), 1, "{path}");
    }
}

#[test]
fn a_second_time_changes_nothing_and_a_removal_gives_every_byte_back() {
    let home = lived_in();
    let before = home.files();
    let shown = home.setup(&["--dry-run"]);
    let path = home.path(".claude/settings.json");
    assert!(
        shown.contains(&format!("+++ {}\n", path.display())),
        "{shown}"
    );
    assert!(shown.contains("+        \"SessionStart\": [\n"), "{shown}");
    assert_eq!(home.files(), before, "a dry run changes nothing");
    assert!(!home.path(".config/kubeagents").exists());

    home.setup(&[]);
    let after = home.files();
    let said = home.setup(&[]);
    assert_eq!(
        said.matches("set up already").count(),
        TOOLS.len(),
        "{said}"
    );
    assert_eq!(home.files(), after);

    home.setup(&["--uninstall"]);
    assert_eq!(home.files(), before);
    assert_eq!(
        home.setup(&["--uninstall"]),
        "There is nothing to remove.\n"
    );
    let said = home.setup(&["--uninstall", "codex"]);
    assert_eq!(said, "Codex CLI: there is nothing to remove.\n");
}

#[test]
fn a_removal_leaves_no_folder_that_was_made_and_what_was_made_is_no_agent() {
    let home = Home::new();
    fs::create_dir_all(home.path(".codex/mine")).unwrap();
    let all: Vec<&str> = TOOLS.iter().map(|(tool, _)| *tool).collect();
    home.setup(&all);
    let said = home.setup(&[]);
    assert!(said.contains("No coding agent was found"), "{said}");
    home.setup(&["--uninstall"]);
    for (tool, folder) in TOOLS {
        assert_eq!(home.path(folder).exists(), tool == "codex", "{tool}");
    }
    assert!(home.path(".codex/mine").is_dir(), "it was there before");
    assert!(!home.path(".agents").exists());
    assert!(!home.path(".config/kubeagents/folders").exists());
    home.put(".grok/auth.json", "{}");
    assert!(home.setup(&[]).contains("Grok CLI: set up."));
}

#[test]
fn agents_are_found_where_their_variables_say() {
    for (variable, path, tool, written) in [
        (
            "CLAUDE_CONFIG_DIR",
            "moved/history.jsonl",
            "Claude Code",
            "moved/settings.json",
        ),
        (
            "CODEX_HOME",
            "moved/auth.json",
            "Codex CLI",
            "moved/hooks.json",
        ),
        (
            "COPILOT_HOME",
            "moved/config.json",
            "Copilot CLI",
            "moved/hooks/kubeagents.json",
        ),
        (
            "GEMINI_CLI_HOME",
            "moved/.gemini/id",
            "Gemini CLI",
            "moved/.gemini/settings.json",
        ),
        ("QWEN_HOME", "moved/id", "Qwen Code", "moved/settings.json"),
        (
            "FACTORY_HOME_OVERRIDE",
            "moved/.factory/id",
            "Factory Droid",
            "moved/.factory/settings.json",
        ),
        (
            "XDG_CONFIG_HOME",
            "moved/opencode/tui.json",
            "OpenCode",
            "moved/opencode/opencode.json",
        ),
        (
            "OPENCODE_CONFIG_DIR",
            "moved/tui.json",
            "OpenCode",
            ".config/opencode/opencode.json",
        ),
        (
            "OPENCODE_CONFIG",
            "moved",
            "OpenCode",
            ".config/opencode/opencode.json",
        ),
        (
            "CURSOR_CONFIG_DIR",
            "moved/cli-config.json",
            "Cursor",
            ".cursor/hooks.json",
        ),
        (
            "KIMI_CODE_HOME",
            "moved/tui.toml",
            "Kimi Code",
            "moved/config.toml",
        ),
        (
            "GROK_HOME",
            "moved/auth.json",
            "Grok CLI",
            "moved/config.toml",
        ),
        (
            "DEEPAGENTS_HOME",
            "moved/id",
            "Deep Agents Code",
            "moved/hooks.json",
        ),
    ] {
        let home = Home::new();
        home.put(path, "{}");
        let bin = home.path("bin");
        let mut command = home.command(bin.join("kubeagents"), &bin);
        let said = said(command.arg("setup").env(variable, home.path("moved")));
        assert_eq!(said.code, Some(0), "{}", said.text);
        assert!(
            said.text.contains(&format!("{tool}: set up.\n")),
            "{variable}: {}",
            said.text
        );
        assert!(home.path(written).is_file(), "{variable}: {}", said.text);
    }
}

#[test]
fn a_byte_order_mark_stays() {
    let home = Home::new();
    let json = format!("\u{feff}{CLAUDE_SETTINGS}");
    let toml = format!("\u{feff}{CODEX_CONFIG}");
    home.put(".claude/settings.json", &json);
    home.put(".codex/config.toml", &toml);
    home.setup(&[]);
    for path in [".claude/settings.json", ".codex/config.toml"] {
        let text = home.text(path);
        assert!(
            text.starts_with('\u{feff}') && text.matches('\u{feff}').count() == 1,
            "{text}"
        );
    }
    home.setup(&["--uninstall"]);
    assert_eq!(home.text(".claude/settings.json"), json);
    assert_eq!(home.text(".codex/config.toml"), toml);
}

#[test]
fn what_is_no_file_is_refused() {
    let home = Home::new();
    fs::create_dir_all(home.path(".claude/settings.json/inner")).unwrap();
    home.put(".claude/settings.json/inner/x", "");
    let said = home.run(&["claude-code", "codex"]);
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert!(
        said.text.contains("settings.json: is no file"),
        "{}",
        said.text
    );
    assert!(said.text.contains("Codex CLI: set up."), "{}", said.text);
}

#[test]
fn what_was_changed_meanwhile_outlives_the_removal() {
    let home = lived_in();
    home.setup(&[]);
    let path = ".claude/settings.json";
    home.put(path, &home.text(path).replace("\"opus\"", "\"haiku\""));
    let path = ".gemini/settings.json";
    home.put(path, &home.text(path).replace("\"GitHub\"", "\"Dracula\""));
    let path = ".codex/config.toml";
    home.put(path, &home.text(path).replace("\"docs-mcp\"", "\"docs\""));
    home.setup(&["--uninstall"]);
    for (path, text, old, new) in [
        (
            ".gemini/settings.json",
            GEMINI_SETTINGS,
            "\"GitHub\"",
            "\"Dracula\"",
        ),
        (
            ".codex/config.toml",
            CODEX_CONFIG,
            "\"docs-mcp\"",
            "\"docs\"",
        ),
    ] {
        assert_eq!(home.text(path), text.replace(old, new), "{path}");
    }
    // But for the empty list, which nobody misses.
    let mut expected: Value = serde_json::from_str(CLAUDE_SETTINGS).unwrap();
    expected["model"] = json!("haiku");
    expected["hooks"].as_object_mut().unwrap().remove("Stop");
    assert_eq!(home.json(".claude/settings.json"), expected);
    // What it was like at first is still there.
    assert_eq!(
        home.text(".claude/settings.json.before-kubeagents"),
        CLAUDE_SETTINGS
    );
}

#[test]
fn comments_outlive_a_removal_also_where_nothing_was_kept() {
    let home = Home::new();
    let text = "{\n  // mine\n  \"hooks\": {\n    \"Stop\": [\n      // nothing yet\n    ],\n    \"PreToolUse\": [\n      { \"hooks\": [{ \"type\": \"command\", \"command\": \"x\" }] }, // one\n      // two\n    ],\n  },\n}\n";
    home.put(".claude/settings.json", text);
    home.setup(&["claude-code"]);
    let backup = home.path(".claude/settings.json.before-kubeagents");
    fs::remove_file(&backup).unwrap();
    // What holds ours is not what there was first.
    home.setup(&["claude-code"]);
    home.setup(&["--uninstall"]);
    assert!(!backup.exists());
    assert_eq!(home.text(".claude/settings.json"), text);
}

#[test]
fn hooks_of_an_older_version_are_replaced_and_not_doubled() {
    let home = Home::new();
    let old = json!({"hooks": {
        "Stop": [
            {"hooks": [{"type": "command", "command": "kubeagents", "args": ["hook", "claude-code"]}]},
            {"hooks": [
                {"type": "command", "command": "'/opt/my tools/kubeagents' hook claude-code"},
                {"type": "command", "command": "say done"},
            ]},
        ],
        "WorktreeRemove": [{"hooks": [{"type": "command", "command": "kubeagents hook claude-code"}]}],
    }});
    home.put(".claude/settings.json", &format!("{old:#}\n"));
    home.setup(&["claude-code"]);
    let settings = home.json(".claude/settings.json");
    assert_eq!(
        commands(&settings, "Stop"),
        ["say done", "kubeagents hook claude-code"]
    );
    assert_eq!(settings["hooks"].get("WorktreeRemove"), None);
}

#[test]
fn a_tool_that_is_named_is_set_up_also_where_it_is_not_found() {
    let home = Home::new();
    let said = home.setup(&[]);
    assert!(said.contains("No coding agent was found"), "{said}");
    assert_eq!(home.files(), BTreeMap::new());
    for (tool, folder) in TOOLS {
        home.setup(&[tool]);
        assert!(home.path(folder).is_dir(), "{tool}");
    }
    home.setup(&["--uninstall"]);
    assert_eq!(home.files(), BTreeMap::new());

    let said = home.run(&["junie"]);
    assert_eq!(said.code, Some(2));
    assert!(said.text.contains("~/.junie/mcp/mcp.json"), "{}", said.text);
    let said = home.run(&["emacs"]);
    assert_eq!(said.code, Some(2));
    assert!(said.text.contains("claude-code, codex"), "{}", said.text);
}

#[test]
fn a_broken_file_is_refused_with_its_line_and_the_others_are_set_up() {
    let home = Home::new();
    for (path, text, problem) in [
        (
            ".claude/settings.json",
            "{\n  \"hooks\": {\n    oops\n}\n",
            "line 3",
        ),
        (".codex/config.toml", "model = \"x\"\n[hooks\n", "line 2"),
        (".cursor/hooks.json", "[]", "must hold an object"),
        (
            ".gemini/settings.json",
            "{\"hooks\": []}",
            "hooks must be an object",
        ),
        (
            ".qwen/settings.json",
            "{\"hooks\": {\"Stop\": 1}}",
            "hooks.Stop must be a list",
        ),
        (
            ".claude/settings.json",
            "{\n  \"hooks\": {},\n  \"a\": 1,\n  \"hooks\": {}\n}\n",
            "hooks is there twice, on line 2 and on line 4",
        ),
        (
            ".cursor/hooks.json",
            "{\"hooks\": {\n\"stop\": [],\n\"stop\": []}}",
            "hooks.stop is there twice, on line 2 and on line 3",
        ),
        (
            ".kimi-code/config.toml",
            "a = 1\nhooks = 1\n",
            "hooks must be given as tables",
        ),
    ] {
        home.put(path, text);
        let said = home.run(&[]);
        assert_eq!(said.code, Some(1), "{}", said.text);
        let line = said.text.lines().find(|line| line.contains(path)).unwrap();
        assert!(line.contains(problem), "{line}");
        assert_eq!(home.text(path), text);
        fs::remove_file(home.path(path)).unwrap();
    }
    // One file of an agent is not changed without the other.
    let home = Home::new();
    home.put(".claude.json", "{");
    home.put(".cursor/hooks.json", CURSOR_HOOKS);
    let said = home.run(&["claude-code", "cursor"]);
    assert!(
        said.text.contains("Claude Code: nothing is changed."),
        "{}",
        said.text
    );
    assert!(said.text.contains("Cursor: set up."), "{}", said.text);
    assert!(!home.path(".claude/settings.json").exists());
}

#[test]
fn links_are_followed_and_modes_kept() {
    let home = Home::new();
    home.put("dotfiles/claude.json", CLAUDE_SETTINGS);
    let mode = |path: &str| fs::metadata(home.path(path)).unwrap().permissions().mode() & 0o777;
    fs::set_permissions(
        home.path("dotfiles/claude.json"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    fs::create_dir(home.path(".claude")).unwrap();
    symlink(
        "../dotfiles/claude.json",
        home.path(".claude/settings.json"),
    )
    .unwrap();
    home.setup(&["claude-code"]);
    assert!(home.path(".claude/settings.json").is_symlink());
    assert!(
        home.text("dotfiles/claude.json")
            .contains("kubeagents hook")
    );
    for path in [
        "dotfiles/claude.json",
        ".claude/settings.json.before-kubeagents",
    ] {
        assert_eq!(mode(path), 0o600, "{path}");
    }
    home.setup(&["--uninstall"]);
    assert!(home.path(".claude/settings.json").is_symlink());
    assert_eq!(home.text("dotfiles/claude.json"), CLAUDE_SETTINGS);

    // A link to what is not there yet is left so again.
    let link = home.path(".claude/settings.json");
    fs::remove_file(&link).unwrap();
    symlink("../elsewhere/claude.json", &link).unwrap();
    home.setup(&["claude-code"]);
    assert!(home.path("elsewhere/claude.json").is_file());
    home.setup(&["--uninstall"]);
    assert!(link.is_symlink() && !home.path("elsewhere").exists());
}

#[test]
fn what_this_user_may_not_write_is_refused_and_nothing_beside_it_is_changed() {
    let home = lived_in();
    home.setup(&["gemini"]);
    let mode = |path: &str, mode| {
        fs::set_permissions(home.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(".claude.json", 0o444);
    mode(".codex", 0o555);
    let before = home.files();
    let said = home.without_privilege(&["claude-code", "codex"]);
    assert_eq!(said.code, Some(1), "{}", said.text);
    for problem in [
        "Claude Code: nothing is changed",
        ".claude.json: it may not be written: Permission denied",
        "Codex CLI: nothing is changed",
        "hooks.json: its folder may not be written: Permission denied",
    ] {
        assert!(said.text.contains(problem), "{problem} in {}", said.text);
    }
    assert_eq!(home.files(), before);
    mode(".codex", 0o755);
    mode(".claude.json", 0o644);
    assert_eq!(home.without_privilege(&["claude-code"]).code, Some(0));
}

#[test]
fn where_there_is_no_room_nothing_is_changed_and_nothing_left_and_the_doctor_says_so() {
    let home = Home::new();
    home.put(".claude/settings.json", "{\"a\": 1}\n");
    home.setup(&["gemini"]);
    let before = home.files();
    let without_room = |command: &str| {
        let script = format!("trap '' XFSZ; ulimit -f 1; exec kubeagents {command}");
        let bin = home.path("bin");
        said(home.command("/bin/sh", &bin).args(["-c", &script]))
    };
    let refused = without_room("setup claude-code codex");
    assert_eq!(refused.code, Some(1), "{}", refused.text);
    assert!(
        refused.text.contains("settings.json: File too large"),
        "{}",
        refused.text
    );
    assert_eq!(home.files(), before);
    let told = without_room("doctor").text;
    assert!(told.contains("cannot be written"), "{told}");
}

#[test]
fn the_administrator_changes_nothing_in_somebody_elses_home() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = lived_in();
    let before = home.files();
    chown(home.path(""), Some(12345), None).unwrap();
    let said = home.run(&["claude-code"]);
    assert_eq!(said.code, Some(2), "{}", said.text);
    assert!(
        said.text.contains("which is another user's"),
        "{}",
        said.text
    );
    assert_eq!(home.files(), before);
    assert!(!home.path(".config/kubeagents").exists());

    chown(home.path(""), Some(0), None).unwrap();
    let bin = home.path("bin");
    let mut setup = home.command(bin.join("kubeagents"), &bin);
    setup.env("SUDO_USER", "alice").args(["setup", "--dry-run"]);
    let told = self::said(&mut setup).text;
    assert!(
        told.contains("For those of alice, run it without sudo"),
        "{told}"
    );
}

/// The values of a file that has comments in lines of their own.
fn json_of(text: &str) -> Value {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    serde_json::from_str(&lines.collect::<String>()).unwrap()
}

#[test]
fn a_status_line_is_reported_when_asked_for_and_given_back() {
    const LINE: &str = r#"{
  // Mine.
  "statusLine": { "type": "command", "command": "jq -r '\"it\u0027s \" + .model.id' | tr a b", "padding": 0 },
  "model": "opus"
}
"#;
    let home = Home::new();
    let path = ".claude/settings.json";
    let command = || json_of(&home.text(path))["statusLine"]["command"].clone();
    home.put(path, LINE);
    home.setup(&["claude-code"]);
    assert!(
        !home.text(path).contains("statusline"),
        "only when asked for"
    );

    home.setup(&["claude-code", "--statusline"]);
    let wrapped = command();
    let wrapped = wrapped.as_str().unwrap();
    assert!(
        wrapped.starts_with("kubeagents statusline -- sh -c '"),
        "{wrapped}"
    );
    assert_eq!(
        home.setup(&["claude-code"]),
        "Claude Code: set up already.\n"
    );
    assert_eq!(
        home.setup(&["claude-code", "--statusline"]),
        "Claude Code: set up already.\n"
    );
    // The line that it is for is what a shell runs.
    let script = wrapped.replacen("kubeagents statusline -- sh -c", "printf %s", 1);
    let shown = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(
        String::from_utf8(shown.stdout).unwrap(),
        json_of(LINE)["statusLine"]["command"].as_str().unwrap()
    );

    // Somebody changes the file: the command is given back all the same.
    let changed = home.text(path).replace("opus", "haiku");
    fs::write(home.path(path), &changed).unwrap();
    home.setup(&["--uninstall"]);
    assert_eq!(
        json_of(&home.text(path)),
        json_of(&LINE.replace("opus", "haiku"))
    );
    fs::write(home.path(path), LINE).unwrap();
    home.setup(&["claude-code", "--statusline"]);
    home.setup(&["--uninstall"]);
    assert_eq!(home.text(path), LINE);

    // Where there is none, ours goes again; by hand it is given back without a shell.
    home.put(path, "{}\n");
    home.setup(&["claude-code", "--statusline"]);
    assert_eq!(command(), "kubeagents statusline");
    home.setup(&["--uninstall"]);
    assert_eq!(home.text(path), "{}\n");
    home.put(
        path,
        r#"{"statusLine": {"type": "command", "command": "/old/kubeagents statusline -- ~/x.sh"}}"#,
    );
    home.setup(&["claude-code"]);
    assert_eq!(command(), "kubeagents statusline -- sh -c '~/x.sh'");
    home.setup(&["--uninstall"]);
    assert_eq!(command(), "~/x.sh");
}

#[test]
fn a_status_line_is_reported_beside_the_plugin_and_refused_where_there_is_none() {
    let home = Home::new();
    let path = ".claude/settings.json";
    home.put(path, r#"{"enabledPlugins": {"kubeagents@x": true}}"#);
    home.setup(&["claude-code", "--statusline"]);
    let settings = home.json(path);
    assert_eq!(settings["statusLine"]["command"], "kubeagents statusline");
    assert_eq!(settings.get("hooks"), None);
    assert_eq!(
        home.run(&["claude-code"]).text.lines().next(),
        Some("Claude Code: set up already.")
    );
    home.setup(&["--uninstall"]);
    assert_eq!(
        home.text(path),
        r#"{"enabledPlugins": {"kubeagents@x": true}}"#
    );

    home.put(
        path,
        r#"{"statusLine": {"type": "static", "command": "x"}}"#,
    );
    let said = home.run(&["claude-code", "--statusline"]);
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert!(
        said.text.contains("statusLine must be of the type command"),
        "{}",
        said.text
    );
    let said = home.run(&["codex", "--statusline"]);
    assert_eq!(said.code, Some(2), "{}", said.text);
    assert!(
        said.text.contains("only Claude Code has one"),
        "{}",
        said.text
    );
}

#[test]
fn codex_has_its_hooks_where_that_folder_has_them() {
    let home = Home::new();
    let config =
        "[[hooks.Stop]]\n[[hooks.Stop.hooks]]\ntype = \"command\"\ncommand = \"say done\"\n";
    home.put(".codex/config.toml", config);
    home.setup(&["codex"]);
    assert!(!home.path(".codex/hooks.json").exists());
    let text = home.text(".codex/config.toml");
    assert_eq!(
        text.matches("command = \"kubeagents hook codex\"").count(),
        12,
        "{text}"
    );
    assert!(text.starts_with(config), "{text}");
    let after = home.files();
    home.setup(&["codex"]);
    assert_eq!(home.files(), after);
    home.setup(&["codex", "--uninstall"]);
    assert_eq!(home.text(".codex/config.toml"), config);

    // Ours, from before there were hooks, would tell of each turn's end twice.
    home.put(
        ".codex/config.toml",
        "notify = [\"kubeagents\", \"hook\", \"codex-notify\"]\nmodel = \"x\"\n",
    );
    home.setup(&["codex"]);
    let text = home.text(".codex/config.toml");
    assert!(!text.contains("notify"), "{text}");
    assert!(home.path(".codex/hooks.json").exists());
}

#[test]
fn a_plugin_and_settings_are_never_both_active() {
    let home = Home::new();
    home.setup(&["claude-code"]);
    let mut settings = home.json(".claude/settings.json");
    settings["enabledPlugins"] = json!({"kubeagents@kubeagents": true});
    home.put(".claude/settings.json", &settings.to_string());
    let said = home.setup(&["claude-code"]);
    assert!(said.contains("The plugin kubeagents is enabled"), "{said}");
    let settings = home.json(".claude/settings.json");
    assert_eq!(
        settings,
        json!({"enabledPlugins": {"kubeagents@kubeagents": true}})
    );
    assert!(!home.path(".claude.json").exists());
}

#[test]
fn a_server_of_our_name_that_is_somebody_elses_stays() {
    let home = Home::new();
    let own = r#"{"mcpServers": {"kubeagents": {"url": "http://localhost:8080/mcp"}}}"#;
    home.put(".cursor/mcp.json", own);
    let said = home.setup(&["cursor"]);
    assert!(
        said.contains("has an MCP server named kubeagents already"),
        "{said}"
    );
    home.setup(&["--uninstall"]);
    assert_eq!(home.text(".cursor/mcp.json"), own);
}

#[test]
fn servers_from_before_they_only_read_are_replaced() {
    let home = lived_in();
    let before = home.files();
    home.setup(&[]);
    let after = home.files();
    let mut replaced = 0;
    for (path, text) in &after {
        if let Some((start, end)) = text.split_once("\"--read-only\"") {
            let start = start.trim_end().trim_end_matches(',');
            fs::write(path, format!("{start}{end}")).unwrap();
            replaced += 1;
        }
    }
    assert_eq!(
        replaced,
        TOOLS.len() - 1,
        "all but Goose, which has servers in YAML"
    );
    home.setup(&[]);
    assert_eq!(home.files(), after);
    home.setup(&["--uninstall"]);
    assert_eq!(home.files(), before);
}

#[test]
fn a_repositorys_hooks_do_nothing_where_the_program_is_missing() {
    let home = Home::new();
    home.put("work/.claude/settings.json", CLAUDE_SETTINGS);
    let before = home.files();
    let mut tools: Vec<&str> = TOOLS.iter().map(|(tool, _)| *tool).collect();
    tools.push("--project");
    home.setup(&tools);
    let changed = home.files();
    for path in changed.keys().filter(|path| !before.contains_key(*path)) {
        assert!(path.starts_with(&home.project), "{}", path.display());
    }
    let mut lines = vec![
        home.json("work/.devin/hooks.v1.json")["Stop"][0]["hooks"][0]["command"]
            .as_str()
            .unwrap()
            .to_owned(),
    ];
    for path in [
        "grok/hooks/kubeagents",
        "deepagents/hooks",
        "agents/plugins/kubeagents/hooks/hooks",
    ] {
        let hooks = home.json(&format!("work/.{path}.json"));
        lines.push(commands(&hooks, "Stop")[0].to_owned());
    }
    for path in
        ["claude", "gemini", "qwen", "factory"].map(|tool| format!("work/.{tool}/settings.json"))
    {
        let settings = home.json(&path);
        assert!(!settings.to_string().contains("mcp"), "{settings}");
        let event = match settings["hooks"].get("Stop") {
            Some(_) => "Stop",
            None => "AfterAgent",
        };
        lines.push(commands(&settings, event)[0].to_owned());
    }
    lines.push(
        home.json("work/.github/hooks/kubeagents.json")["hooks"]["agentStop"][0]["bash"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    lines.push(
        home.json("work/.cursor/hooks.json")["hooks"]["stop"][0]["command"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    lines.push(commands(&home.json("work/.codex/hooks.json"), "Stop")[0].to_owned());
    for line in lines {
        assert!(line.contains("kubeagents hook"), "{line}");
        let said = said(
            home.command("/bin/sh", Path::new("/nonexistent"))
                .args(["-c", &line]),
        );
        assert_eq!((said.code, said.text.as_str()), (Some(0), ""), "{line}");
    }
    home.setup(&["--project", "--uninstall"]);
    // But for the empty list, which nobody misses.
    let mut expected: Value = serde_json::from_str(CLAUDE_SETTINGS).unwrap();
    expected["hooks"].as_object_mut().unwrap().remove("Stop");
    assert_eq!(home.json("work/.claude/settings.json"), expected);
    assert_eq!(home.files().len(), before.len());
}

#[test]
fn the_command_survives_an_upgrade() {
    let home = Home::new();
    // As package managers do: a link in PATH to a folder of one version.
    let program = home.path("bin/kubeagents");
    let elsewhere = home.path("opt/my tools");
    fs::create_dir_all(&elsewhere).unwrap();
    let linked = elsewhere.join("kubeagents");
    symlink(env!("CARGO_BIN_EXE_kubeagents"), &linked).unwrap();
    let empty = home.path("nothing");
    for (path, expected) in [
        (home.path("bin"), "kubeagents hook claude-code".to_owned()),
        (empty, format!("'{}' hook claude-code", linked.display())),
    ] {
        let said = said(home.command(&linked, &path).args(["setup", "claude-code"]));
        assert_eq!(said.code, Some(0), "{}", said.text);
        assert_eq!(
            commands(&home.json(".claude/settings.json"), "Stop"),
            [expected]
        );
    }
    assert!(program.is_symlink());
}

#[test]
fn files_of_a_project_are_those_of_a_repository_other_than_the_home() {
    let home = Home::new();
    let outside = home.path("elsewhere");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(home.path(".git")).unwrap();
    for folder in [&outside, &home.path("")] {
        let bin = home.path("bin");
        let mut command = home.command(bin.join("kubeagents"), &bin);
        let arguments = ["setup", "claude-code", "--project"];
        let said = said(command.args(arguments).current_dir(folder));
        assert_eq!(said.code, Some(2), "{}", said.text);
        assert!(said.text.contains("Git repository"), "{}", said.text);
    }
    assert!(home.files().is_empty(), "{:?}", home.files());
}

#[test]
fn an_empty_key_from_standard_input_is_refused() {
    let home = Home::new();
    home.setup(&["claude-code", "--key", "ka_secret"]);
    let said = home.run(&["claude-code", "--key", "-"]);
    assert_eq!(said.code, Some(2), "{}", said.text);
    assert!(said.text.contains("holds no key"), "{}", said.text);
    let kept = home.text(".config/kubeagents/config.toml");
    assert!(kept.contains("ka_secret"), "{kept}");
}

#[test]
fn the_server_and_its_key_are_kept_in_one_private_file() {
    let home = Home::new();
    let said = home.setup(&[
        "claude-code",
        "--url",
        "https://agents.example.com/",
        "--key",
        "ka_secret",
        "--host",
        "desk",
    ]);
    assert!(!said.contains("ka_secret"), "{said}");
    let path = ".config/kubeagents/config.toml";
    let expected = "url = \"https://agents.example.com\"\nkey = \"ka_secret\"\nhost = \"desk\"\n";
    assert_eq!(home.text(path), expected);
    assert_eq!(
        fs::metadata(home.path(path)).unwrap().permissions().mode() & 0o777,
        0o600
    );
    for (path, text) in home.files() {
        assert!(!text.contains("ka_secret"), "{}", path.display());
    }
    home.setup(&["claude-code"]);
    assert_eq!(home.text(path), expected);

    // The key goes to no other server.
    let said = home.setup(&["claude-code", "--url", "https://other.example.com"]);
    assert!(said.contains("the new one with --key"), "{said}");
    assert!(!home.text(path).contains("ka_secret"));

    for (arguments, named) in [
        (["--url", "ftp://x"], "--url"),
        (["--host", ""], "--host"),
        (["--key", "a\nb"], "--key"),
    ] {
        let said = home.run(&arguments);
        assert_eq!(said.code, Some(2), "{}", said.text);
        assert!(said.text.contains(named), "{}", said.text);
    }
}

fn published(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(root().join(path)).unwrap()).unwrap()
}

#[test]
fn the_tools_that_read_what_is_published_accept_it() {
    let home = Home::new();
    agent_tools::check_published(&root(), home.folder.path());
    home.setup(&["claude-code", "codex", "--project"]);
    agent_tools::check_project(&home.project, home.folder.path());
}

/// Answers as a model that is done at once, as soon as the prompt is told: hooks run beside the agent.
async fn answer_as_model(
    server: Arc<Server>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if asked["tools"]
        .as_array()
        .is_some_and(|tools| !tools.is_empty())
    {
        // Without an answer it would ask again and again.
        let _ = told(&server, "/current_status", "running").await;
    }
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let message = |content: Value, stop: Option<&str>| {
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"],
            "content": content, "stop_reason": stop, "stop_sequence": null, "usage": usage,
        })
    };
    let text = |text: &str| json!({"type": "text", "text": text});
    let events = [
        json!({"type": "message_start", "message": message(json!([]), None)}),
        json!({"type": "content_block_start", "index": 0, "content_block": text("")}),
        json!({
            "type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": "All done."},
        }),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
        json!({"type": "message_stop"}),
    ];
    let events = events.map(|event| {
        let name = event["type"].as_str().unwrap_or_default();
        format!("event: {name}\ndata: {event}\n\n")
    });
    let whole = message(json!([text("All done.")]), Some("end_turn"));
    let (media, text) = match asked["stream"] == true {
        true => ("text/event-stream", events.concat()),
        false => ("application/json", whole.to_string()),
    };
    let response = Response::builder().header("content-type", media);
    Ok(response.body(Full::from(text)).unwrap())
}

/// The one session of a server as soon as it has this value in this place; what there is where it never does.
async fn told(server: &Server, place: &str, value: &str) -> Result<Value, Value> {
    let begin = Instant::now();
    loop {
        let sessions = server.get("/api/sessions").await.body;
        let session = &sessions["sessions"][0];
        if session.pointer(place).is_some_and(|there| there == value) {
            return Ok(session.clone());
        }
        if begin.elapsed() >= PATIENCE {
            return Err(sessions);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn claude_code_itself_reports_by_what_is_set_up() {
    let server = Arc::new(Server::start(&[]));
    let home = Home::new();
    home.put("work/.git/HEAD", "ref: refs/heads/main\n");
    home.put(
        "work/.git/config",
        "[remote \"origin\"]\n\turl = https://github.com/acme/app.git\n",
    );
    let url = format!("http://{}", server.address);
    home.setup(&["claude-code", "--url", &url, "--host", "desk"]);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let model = listener.local_addr().unwrap();
    let reported = server.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = reported.clone();
            let service = service_fn(move |request| answer_as_model(server.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { drop(connection.await) });
        }
    });
    let mut claude = agent_tools::claude_code(home.folder.path());
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin",
        home.path("bin").display()
    );
    claude
        .args(["-p", "Fix the login page"])
        .env_clear()
        .env("HOME", home.folder.path())
        .env("PATH", path)
        .env("ANTHROPIC_BASE_URL", format!("http://{model}"))
        .env("ANTHROPIC_API_KEY", "sk-ant-of-nobody")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("DISABLE_AUTOUPDATER", "1")
        .current_dir(&home.project)
        .stdin(Stdio::null());
    let said = tokio::task::spawn_blocking(move || said(&mut claude))
        .await
        .unwrap();
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert!(said.text.contains("All done."), "{}", said.text);

    let session = told(&server, "/reason", "closed").await.unwrap();
    for (field, value) in [
        ("/agent_id", "claude-code@desk"),
        ("/title", "Fix the login page"),
        ("/current_status", "success"),
        ("/message", "All done."),
        ("/context/repo", "acme/app"),
        ("/context/branch", "main"),
        ("/context/mode", "headless"),
    ] {
        assert_eq!(session.pointer(field), Some(&json!(value)), "{session}");
    }
}

#[test]
fn what_is_published_is_what_there_is() {
    let home = Home::new();
    home.setup(&["claude-code", "--project"]);
    let hooks = published("plugins/kubeagents/hooks/hooks.json");
    assert_eq!(
        hooks["hooks"],
        home.json("work/.claude/settings.json")["hooks"]
    );

    let beside_hooks = json!({"command": "kubeagents", "args": ["mcp", "--read-only"]});
    assert_eq!(
        published("plugins/kubeagents/.mcp.json")["mcpServers"]["kubeagents"],
        beside_hooks
    );
    let entry = json!({"command": "kubeagents", "args": ["mcp"]});

    let bundle = published("packaging/mcpb/manifest.json");
    let tools = bundle["tools"].as_array().unwrap().iter();
    let tools: Vec<&str> = tools.map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(tools, mcp::Tool::ALL.map(mcp::Tool::name));
    for path in [
        "packaging/mcpb/manifest.json",
        "plugins/kubeagents/.claude-plugin/plugin.json",
        "server.json",
    ] {
        assert_eq!(
            published(path)["version"],
            env!("CARGO_PKG_VERSION"),
            "{path}"
        );
    }
    let image = published("server.json")["packages"][0]["identifier"].clone();
    assert!(
        image
            .as_str()
            .unwrap()
            .ends_with(concat!(":", env!("CARGO_PKG_VERSION")))
    );

    for page in ["docs/agents.md", "docs/zh/agents.md"] {
        let page = fs::read_to_string(root().join(page)).unwrap();
        let link = |place: &str| {
            let (_, rest) = page.split_once(&format!("]({place}")).unwrap();
            let url =
                url::Url::parse(&format!("{place}{}", rest.split_once(')').unwrap().0)).unwrap();
            let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
            assert_eq!(query["name"], "kubeagents");
            query["config"].clone()
        };
        let cursor = STANDARD.decode(link("https://cursor.com/")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&cursor).unwrap(), entry);
        let code = link("https://insiders.vscode.dev/");
        assert_eq!(serde_json::from_str::<Value>(&code).unwrap(), entry);
    }
}

/// What the doctor says of a home, with these variables.
fn doctor(home: &Home, variables: &[(&str, &str)]) -> Said {
    let bin = home.path("bin");
    said(
        home.command(bin.join("kubeagents"), &bin)
            .arg("doctor")
            .envs(variables.iter().copied()),
    )
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong_and_says_what_to_do() {
    let home = Home::new();
    let key = "a-key-for-the-team";
    let server = Server::start(&[("AUTH_MODE", "required"), ("KUBEAGENTS_API_KEY", key)]);
    let url = format!("http://{}", server.address);

    let nowhere = doctor(&home, &[("KUBEAGENTS_SERVER_URL", "http://127.0.0.1:1")]);
    assert_eq!(nowhere.code, Some(1), "{}", nowhere.text);
    assert!(
        nowhere
            .text
            .contains("http://127.0.0.1:1 cannot be reached"),
        "{}",
        nowhere.text
    );
    assert!(
        nowhere.text.contains("kubeagents setup --url URL"),
        "{}",
        nowhere.text
    );
    let wrong = doctor(&home, &[("KUBEAGENTS_SERVER_URL", &url)]);
    assert_eq!(wrong.code, Some(1), "{}", wrong.text);
    assert!(wrong.text.contains("wants an API key"), "{}", wrong.text);
    assert!(
        wrong.text.contains("kubeagents setup --key -"),
        "{}",
        wrong.text
    );

    // Found, but not set up.
    home.put(".claude/history.jsonl", "");
    home.setup(&["cursor", "--url", &url, "--key", key, "--host", "desk"]);
    let partly = doctor(&home, &[]);
    assert_eq!(partly.code, Some(1), "{}", partly.text);
    assert!(
        partly
            .text
            .contains("problem  Claude Code: no hooks. To do: kubeagents setup claude-code\n"),
        "{}",
        partly.text
    );
    assert!(
        partly
            .text
            .contains("ok       Cursor: hooks are in place\n"),
        "{}",
        partly.text
    );

    home.setup(&[]);
    let config = home.path(".config/kubeagents/config.toml");
    let config = config.display();
    let well = doctor(&home, &[]);
    assert_eq!(well.code, Some(0), "{}", well.text);
    for line in [
        format!("ok       the server {url} (url in {config}) answers"),
        format!("ok       key in {config} may report (scope report)"),
        format!("ok       key in {config} may read (scope read)"),
        "ok       nothing waits to be sent; no watcher runs".into(),
        format!(
            "ok       hooks run kubeagents: kubeagents {}",
            env!("CARGO_PKG_VERSION")
        ),
        "-        Claude Code: nothing was reported yet".into(),
    ] {
        assert!(well.text.contains(&line), "{line} is not in\n{}", well.text);
    }
    assert!(!well.text.contains(key), "{}", well.text);

    let prompt =
        json!({"hook_event_name": "UserPromptSubmit", "session_id": "s", "prompt": "Fix it"});
    let path = "/hooks/claude-code?host=desk";
    let told = server.send(Method::POST, path, Some(key), &prompt).await;
    assert_eq!(told.status, StatusCode::OK, "{told:?}");
    let told = doctor(&home, &[]);
    assert!(told.text.contains(" s ago (20"), "{}", told.text);

    // What keeps hooks from running.
    let config = home.path(".config/kubeagents/config.toml");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let mut settings = home.json(".claude/settings.json");
    settings["disableAllHooks"] = json!(true);
    settings["hooks"].as_object_mut().unwrap().remove("Stop");
    home.put(".claude/settings.json", &settings.to_string());
    home.setup(&["codex"]);
    home.put(".cursor/hooks.json", "{");
    let ill = doctor(&home, &[]);
    assert_eq!(ill.code, Some(1), "{}", ill.text);
    for part in [
        "others can read it. To do: chmod 600",
        "Claude Code: hooks are of another version or incomplete",
        "disableAllHooks",
        "Codex CLI: no hook is trusted",
        "/.cursor/hooks.json: ",
    ] {
        assert!(ill.text.contains(part), "{part} is not in\n{}", ill.text);
    }
}

/// What the doctor says of Codex, when each of its hooks was trusted but for what `change` makes of them.
fn doctor_of_codex(home: &Home, change: impl FnOnce(&mut Map<String, Value>)) -> Vec<String> {
    let file = home.path(".codex/hooks.json");
    let mut state = Map::new();
    for (event, groups) in home.json(".codex/hooks.json")["hooks"].as_object().unwrap() {
        let mut name = String::new();
        for letter in event.chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(letter.to_lowercase());
        }
        let command = groups[0]["hooks"][0]["command"].to_string();
        let identity = format!(
            r#"{{"event_name":"{name}","hooks":[{{"async":false,"command":{command},"timeout":3,"type":"command"}}]}}"#
        );
        let hash = kubeagents_core::sha256_hex(identity);
        let key = format!("{}:{name}:0:0", file.display());
        state.insert(key, json!({"trusted_hash": format!("sha256:{hash}")}));
    }
    change(&mut state);
    let config = home.text(".codex/config.toml");
    let (config, _) = config.split_once("[hooks.state").unwrap_or((&config, ""));
    let mut config = format!("{}\n", config.trim_end());
    for (key, hook) in &state {
        config.push_str(&format!("[hooks.state.{}]\n", json!(key)));
        for (name, value) in hook.as_object().unwrap() {
            config.push_str(&format!("{name} = {value}\n"));
        }
    }
    home.put(".codex/config.toml", &config);
    let told = doctor(home, &[]);
    let lines = told.text.lines().map(str::to_owned);
    lines.filter(|line| line.contains("Codex CLI")).collect()
}

#[test]
fn the_doctor_sees_hooks_of_codex_that_are_not_trusted_as_they_are() {
    let home = Home::new();
    home.setup(&["codex"]);
    let well = doctor_of_codex(&home, |_| ());
    assert!(
        well.iter().all(|line| !line.starts_with("problem")),
        "{well:?}"
    );

    let key = |state: &Map<String, Value>, event: &str| {
        let mut keys = state.keys();
        let key = keys.find(|key| key.contains(&format!(":{event}:")));
        key.unwrap().clone()
    };
    let told = doctor_of_codex(&home, |state| {
        let (changed, new) = (key(state, "stop"), key(state, "session_end"));
        let off = key(state, "interrupt");
        state[&changed]["trusted_hash"] = json!("sha256:".to_owned() + &"0".repeat(64));
        state[&off]["enabled"] = json!(false);
        state.remove(&new);
    });
    for expected in [
        "problem  Codex CLI: these hooks have changed since you trusted them, and do not run: Stop. To do: start \
         codex, open /hooks, and trust them",
        "problem  Codex CLI: these hooks are not trusted, and do not run: SessionEnd. To do: start codex, open \
         /hooks, and trust them",
        "problem  Codex CLI: these hooks are switched off: Interrupt. To do: start codex, open /hooks, and switch \
         them on",
    ] {
        assert!(told.iter().any(|line| line == expected), "{told:#?}");
    }

    let told = doctor_of_codex(&home, Map::clear);
    let none = "problem  Codex CLI: no hook is trusted, so none runs.";
    assert!(told.iter().any(|line| line.starts_with(none)), "{told:#?}");
}

#[test]
fn the_doctor_says_what_is_lost_and_whose_answer_it_was() {
    let home = Home::new();
    // Whatever answers here is no kubeagents server.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let foreign = doctor(&home, &[("KUBEAGENTS_SERVER_URL", &url)]);
    assert_eq!(foreign.code, Some(1), "{}", foreign.text);
    let expected = format!(
        "problem  {url} answers 200 OK, but not as kubeagents does: is KUBEAGENTS_SERVER_URL right? To do: \
         give the address"
    );
    assert!(foreign.text.contains(&expected), "{}", foreign.text);
    home.setup(&["cursor", "--url", &url]);
    let stored = doctor(&home, &[]);
    assert!(stored.text.contains("is url in /"), "{}", stored.text);
    assert!(!stored.text.contains("create a key"), "{}", stored.text);

    home.put("state", "a file where a folder should be");
    let state = home.path("state");
    let lost = doctor(&home, &[("XDG_STATE_HOME", state.to_str().unwrap())]);
    assert!(
        lost.text
            .contains("nothing that hooks tell is kept while the server is away"),
        "{}",
        lost.text
    );

    let unset = doctor(&home, &[("HOOK_DETAIL", "all")]);
    assert_eq!(unset.code, Some(2), "{}", unset.text);
    let lines: Vec<&str> = unset.text.lines().collect();
    let line = lines
        .iter()
        .find(|line| line.contains("HOOK_DETAIL"))
        .unwrap();
    assert!(
        line.starts_with("problem  ") && line.contains("only status and reason are told"),
        "{line}"
    );
    assert!(
        unset.text.contains("Cursor: hooks are in place"),
        "{}",
        unset.text
    );

    // Another program's hooks.
    let hooks = home.text(".cursor/hooks.json");
    let own = format!("{} hook", home.path("bin/kubeagents").display());
    home.put(
        ".cursor/hooks.json",
        &hooks.replace(&own, "/old/kubeagents hook"),
    );
    let bin = home.path("bin");
    let mut command = home.command(bin.join("kubeagents"), &bin);
    let told = said(command.args(["doctor", "--json"]));
    assert_eq!(told.code, Some(1), "{}", told.text);
    let told: Value = serde_json::from_str(&told.text).unwrap();
    assert_eq!(told["ok"], false);
    let findings = told["findings"].as_array().unwrap();
    let finding = findings
        .iter()
        .find(|it| it["finding"].as_str().unwrap().contains("/old/kubeagents"))
        .unwrap();
    assert_eq!(finding["level"], "problem");
    assert_eq!(finding["to_do"], "kubeagents setup cursor");
}
