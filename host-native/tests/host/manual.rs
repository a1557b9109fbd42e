//! Completions and the pages of the manual: the shells and `man` take them, and they know every command.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use kubeagents_contract::succeed;
use kubeagents_core::settings::{Host, SETTINGS};
use kubeagents_test_postgres::found_or_installed;

use crate::configuration::run;
use crate::support::command;

/// A shell, or `man`, installed where it is missing.
fn program(name: &str, package: &str) -> Command {
    let find = || {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {name}")])
            .output()
            .ok()?;
        let path = String::from_utf8(found.stdout).unwrap();
        found.status.success().then(|| PathBuf::from(path.trim()))
    };
    let script = format!("apt-get update && apt-get install -y --no-install-recommends {package}");
    Command::new(found_or_installed(name, find, &script))
}

/// The completions for a shell, in a file.
fn completions(shell: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("_kubeagents");
    let (code, script, said) = run(&[], &["completions", shell]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    fs::write(&file, script).unwrap();
    (folder, file)
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let (_folder, file) = completions("bash");
    let complete = |words: &[&str]| {
        let script = format!(
            "source {}; COMP_WORDS=(kubeagents {}); COMP_CWORD={}; \
             _kubeagents kubeagents '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display(),
            words.join(" "),
            words.len(),
            words.last().unwrap(),
            words.iter().rev().nth(1).unwrap_or(&"kubeagents"),
        );
        succeed(Command::new("bash").args(["--norc", "-c", &script]))
    };
    assert_eq!(complete(&["back"]), "backup\n");
    let both = "--database-url\n--database-url-file\n";
    assert_eq!(complete(&["--database-u"]), both);
    assert_eq!(complete(&["setup", "deep"]), "deepagents\n");
    assert_eq!(complete(&["completions", "zs"]), "zsh\n");
}

#[test]
fn fish_and_zsh_complete_commands_and_flags() {
    let (_folder, file) = completions("fish");
    let complete = |line: &str| {
        let script = format!("source {}; complete -C '{line}'", file.display());
        let mut fish = program("fish", "fish");
        succeed(fish.args(["--no-config", "-c", &script]))
    };
    assert!(complete("kubeagents back").starts_with("backup\t"));
    assert!(complete("kubeagents --database-u").starts_with("--database-url\t"));

    let (folder, _file) = completions("zsh");
    // Without a terminal there are no completions, but the functions are there and load.
    let script = "autoload -Uz compinit && compinit -u -D && autoload +X _kubeagents && \
                  echo $_comps[kubeagents] && [[ $(whence -f _kubeagents) == *backup:* ]] && \
                  zsh -n $fpath[1]/_kubeagents";
    let mut zsh = program("zsh", "zsh");
    zsh.args([
        "-f",
        "-c",
        &format!("fpath=({} $fpath); {script}", folder.path().display()),
    ]);
    assert_eq!(succeed(&mut zsh), "_kubeagents\n");
}

#[test]
fn what_cannot_be_written_is_said() {
    let mut print = command(&[]);
    print.args(["completions", "bash"]);
    print.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    let output = print.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("standard output cannot be written"), "{said}");

    let (code, _, said) = run(&[], &["man", "/dev/null/pages"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("/dev/null/pages cannot be written"), "{said}");

    let (code, _, said) = run(&[], &["completions", "tcsh"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("bash") && said.contains("zsh"), "{said}");
}

#[test]
fn the_manual_has_a_page_for_each_command_and_tells_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let (code, _, said) = run(&[("PORT", "9999")], &["man", pages.to_str().unwrap()]);
    assert_eq!((code, said.as_str()), (Some(0), ""));

    let (_, help, _) = run(&[], &["--help"]);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let named = commands.lines().filter_map(|line| {
        let rest = line
            .strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '))?;
        rest.split_whitespace().next()
    });
    let mut expected: Vec<String> = named
        .filter(|name| *name != "help")
        .map(|name| format!("kubeagents-{name}.1"))
        .chain(["kubeagents.1".into()])
        .collect();
    expected.sort();
    let mut found: Vec<String> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert!(found.len() > 10, "{found:?}");
    // A part of a command has a page, too.
    let is_part = |page: &&String| {
        let mut wholes = expected.iter().filter_map(|whole| whole.strip_suffix(".1"));
        wholes.any(|whole| whole != "kubeagents" && page.starts_with(&format!("{whole}-")))
    };
    let of_commands: Vec<&String> = found.iter().filter(|page| !is_part(page)).collect();
    assert_eq!(of_commands, expected.iter().collect::<Vec<_>>());

    for page in &found {
        let mut man = program("man", "man-db");
        let shown = man
            .args(["--warnings", "--local-file"])
            .arg(pages.join(page));
        let output = shown
            .env("MANWIDTH", "200")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.is_empty(), "{page}: {said}");
        if page == "kubeagents.1" {
            let text = String::from_utf8(output.stdout).unwrap();
            for setting in SETTINGS
                .iter()
                .filter(|setting| setting.is_on(Host::Native))
            {
                let flag = setting.variable.to_lowercase().replace('_', "-");
                assert!(
                    text.contains(&format!("--{flag} <{}>", setting.variable)),
                    "{flag}: {text}"
                );
                assert!(
                    text.contains(&format!("{} environment", setting.variable)),
                    "{flag}"
                );
            }
            // What happens to be set where it is written is nobody's business.
            assert!(!text.contains("9999"), "{text}");
        }
    }
}
