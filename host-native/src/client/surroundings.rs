//! Where an agent works: machine, repository and branch, read from files so that nothing is started.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kubeagents_core::hook::{Detail, Tool};

/// Where an agent works, by the well-known keys of a context.
pub(super) type Context = BTreeMap<&'static str, String>;

/// The most of a file of git's that is read.
const MAX_FILE: u64 = 256 << 10;

/// The longest value of a context, in characters.
const MAX_VALUE: usize = 200;

/// A git repository as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Repository {
    /// `owner/name` by the address that it is shared at, or else its folder's name.
    name: String,
    /// The branch that is checked out; `None` when there is none.
    branch: Option<String>,
}

/// The repository that a folder is in.
fn repository(folder: &Path) -> Option<Repository> {
    let (root, git) = folder.ancestors().find_map(|folder| {
        let git = folder.join(".git");
        let git = match git.is_dir() {
            true => git,
            false => folder.join(read(&git)?.trim().strip_prefix("gitdir:")?.trim()),
        };
        Some((folder, git))
    })?;
    let head = read(&git.join("HEAD"))?;
    let branch = head.trim().strip_prefix("ref: refs/heads/");
    // Where branches are kept in tables, the name does not stand here.
    let branch = branch.filter(|branch| *branch != ".invalid");
    // Working trees of one repository share its configuration.
    let common = match read(&git.join("commondir")) {
        Some(common) => git.join(common.trim()),
        None => git,
    };
    let remote = read(&common.join("config")).and_then(|config| remote(&config));
    let own_folder = || {
        let common = fs::canonicalize(&common).ok()?;
        match common.file_name()? == ".git" {
            true => file_name(common.parent()?),
            false => file_name(root),
        }
    };
    Some(Repository {
        name: remote
            .and_then(|url| shared_name(&url))
            .or_else(own_folder)?,
        branch: branch.map(str::to_owned),
    })
}

/// A text file that is small and is a file: opening a pipe would wait.
fn read(path: &Path) -> Option<String> {
    let is_small = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len() <= MAX_FILE;
    is_small.then(|| fs::read_to_string(path).ok())?
}

/// The address of `origin`, or else of the first remote.
fn remote(config: &str) -> Option<String> {
    let mut section = "";
    let mut first = None;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.starts_with("[remote ")
            && let Some((name, url)) = line.split_once('=')
            && name.trim() == "url"
        {
            let url = url.trim().trim_matches('"').to_owned();
            if section == "[remote \"origin\"]" {
                return Some(url);
            }
            first.get_or_insert(url);
        }
    }
    first
}

/// The last two parts of an address, which hold no credentials.
fn shared_name(url: &str) -> Option<String> {
    let path = url.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        // As in git@example.com:owner/name.
        None => path.split_once(':').map_or(path, |(_, path)| path),
    };
    let path = path.split(['?', '#']).next()?;
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
    let name = parts.next()?;
    Some(match parts.next() {
        Some(owner) => format!("{owner}/{name}"),
        None => name.to_owned(),
    })
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// The name of this machine; `None` where it has only the id of a container.
pub(crate) fn machine() -> Option<String> {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let name = name.split('.').next().unwrap_or_default();
    (!name.is_empty() && !is_container_id(name)).then(|| name.to_owned())
}

fn is_container_id(name: &str) -> bool {
    matches!(name.len(), 12 | 64) && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name that this machine has in reports of an agent that works in this folder: the given one first.
pub(super) fn host(given: Option<String>, folder: &Path) -> String {
    match given.or_else(machine) {
        Some(host) => cut(&host),
        None => host_of(None, folder, repository(folder).as_ref()),
    }
}

fn host_of(given: Option<String>, folder: &Path, repository: Option<&Repository>) -> String {
    let project = || match repository {
        Some(repository) => repository.name.rsplit('/').next().map(str::to_owned),
        None => file_name(folder),
    };
    let host = given.or_else(machine).or_else(project);
    let host = host.unwrap_or_else(|| "container".into());
    cut(&host)
}

/// A value as far as a context takes it.
fn cut(value: &str) -> String {
    let kept = value.chars().filter(|c| *c != '\0');
    kept.take(MAX_VALUE).collect()
}

/// What is known of where an agent works, which is this folder. `host` is the machine's name, where it
/// was given one.
pub(super) fn context(folder: &Path, host: Option<String>, detail: Detail) -> Context {
    let repository = repository(folder);
    let host = host_of(host, folder, repository.as_ref());
    let mut context = Context::from([("host", host)]);
    if detail > Detail::None {
        if let Some(repository) = repository {
            context.insert("repo", repository.name);
            // A branch that was left is it no more.
            context.insert("branch", repository.branch.unwrap_or_default());
        }
        context.insert("cwd", folder.to_string_lossy().into_owned());
    }
    for value in context.values_mut() {
        *value = cut(value);
    }
    context
}

/// Checks whether this command line is the agent itself, and nothing that it starts for a hook.
pub(super) fn is_agent(tool: Tool, words: &[String]) -> bool {
    let name = tool.name();
    let short = name.split('-').next().unwrap_or(name);
    // The second word is the script of an interpreter.
    let programs = words.iter().take(2).map(Path::new);
    programs.filter_map(Path::file_stem).any(|program| {
        let program = program.to_string_lossy();
        [name, short].contains(&&*program) || program.strip_suffix("-agent") == Some(short)
    })
}

/// Checks whether nobody sits before an agent, by its command line and its environment.
pub(super) fn is_headless(tool: Tool, words: &[String], entry_point: Option<&str>) -> bool {
    let has = |names: &[&str]| {
        words
            .iter()
            .skip(1)
            .any(|word| names.contains(&word.as_str()))
    };
    match tool {
        Tool::ClaudeCode => match entry_point {
            Some(entry_point) => entry_point.starts_with("sdk"),
            None => has(&["-p", "--print"]),
        },
        // Its terminal and editors show what an `app-server` does.
        Tool::Codex => has(&["exec", "e", "mcp-server"]),
        Tool::OpenCode | Tool::Goose => has(&["run"]),
        Tool::Droid => has(&["exec"]),
        _ => has(&["-p", "--prompt", "--print"]),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn repository_and_branch_are_read_from_gits_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("project");
        let git = root.join(".git");
        write(git.join("HEAD"), "ref: refs/heads/fix/login\n");
        let inside = root.join("src/deep");
        fs::create_dir_all(&inside).unwrap();
        let found = repository(&inside).unwrap();
        assert_eq!(
            (found.name.as_str(), found.branch.as_deref()),
            ("project", Some("fix/login"))
        );

        write(
            git.join("config"),
            "[core]\n\turl = no\n[remote \"fork\"]\n\turl = git@github.com:me/fork.git\n[remote \
             \"origin\"]\n\turl = https://user:secret@github.com/acme/app.git\n",
        );
        assert_eq!(repository(&inside).unwrap().name, "acme/app");

        let tree = folder.path().join("tree");
        let its_git = git.join("worktrees/tree");
        write(
            tree.join(".git"),
            &format!("gitdir: {}\n", its_git.display()),
        );
        write(
            its_git.join("HEAD"),
            "0123456789abcdef0123456789abcdef01234567\n",
        );
        write(its_git.join("commondir"), "../..\n");
        let expected = Repository {
            name: "acme/app".into(),
            branch: None,
        };
        assert_eq!(repository(&tree), Some(expected));
        fs::remove_file(git.join("config")).unwrap();
        assert_eq!(repository(&tree).unwrap().name, "project");
    }

    #[test]
    fn addresses_are_shortened_to_what_people_say() {
        for (url, name) in [
            ("https://github.com/acme/app.git", Some("acme/app")),
            ("https://u:p@host:8443/group/sub/app/", Some("sub/app")),
            ("ssh://git@host:22/acme/app", Some("acme/app")),
            ("git@host:acme/app.git", Some("acme/app")),
            ("git@host:app", Some("app")),
            ("/srv/git/app.git", Some("git/app")),
            ("https://host/app?token=secret", Some("app")),
            ("https://user:secret@host", None),
        ] {
            assert_eq!(shared_name(url).as_deref(), name, "{url}");
        }
    }

    #[test]
    fn agents_are_known_by_their_programs() {
        for (tool, line, is_its) in [
            (Tool::ClaudeCode, "/usr/bin/claude -p go", true),
            (Tool::ClaudeCode, "claude.exe", true),
            (Tool::Gemini, "node /usr/bin/gemini.js", true),
            (Tool::Cursor, "cursor-agent", true),
            (
                Tool::ClaudeCode,
                "python3 /home/claude/wrapper.py hook claude-code",
                false,
            ),
            (Tool::ClaudeCode, "claude-notify hook claude", false),
            (Tool::Codex, "node cli.js", false),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(is_agent(tool, &words), is_its, "{line}");
        }
    }

    #[test]
    fn nobody_sits_before_what_runs_for_programs() {
        for (tool, line, is_headless) in [
            (Tool::ClaudeCode, "claude -p go", true),
            (Tool::ClaudeCode, "claude --permission-mode default", false),
            (Tool::Codex, "/usr/bin/codex exec go", true),
            (Tool::Codex, "codex mcp-server", true),
            (Tool::Codex, "codex", false),
            (
                Tool::Codex,
                "codex app-server --listen unix:// --managed-daemon",
                false,
            ),
            (Tool::Gemini, "node /usr/bin/gemini --yolo -p go", true),
            (Tool::OpenCode, "opencode run go", true),
            (Tool::OpenCode, "opencode", false),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(
                super::is_headless(tool, &words, None),
                is_headless,
                "{line}"
            );
        }
    }

    #[test]
    fn containers_are_not_named_by_their_ids() {
        assert!(is_container_id("0123456789ab"));
        for name in ["laptop", "deadbeef", "0123456789xy", "build-7"] {
            assert!(!is_container_id(name), "{name}");
        }
    }
}
