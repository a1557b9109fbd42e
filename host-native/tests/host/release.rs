//! What releases are made of: the workflows, the package for Debian and its service. Nothing is built here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kubeagents_contract::{Packages, succeed};
use kubeagents_core::settings::{Host, SETTINGS, Values};
use kubeagents_test_postgres::found_or_installed;
use serde_json::Value;

use crate::support::root;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `systemd-analyze`, installed where it is missing.
fn systemd_analyze() -> Command {
    let find = || {
        let path = Path::new("/usr/bin/systemd-analyze");
        path.exists().then(|| path.to_owned())
    };
    let script = "apt-get update && apt-get install -y --no-install-recommends systemd";
    Command::new(found_or_installed("systemd-analyze", find, script))
}

#[test]
fn the_workflows_are_well_formed_and_name_every_action_by_its_commit() {
    let packages = Packages::install(&root().join("tests/workflows"), "workflows");
    let lint = packages.program("actionlint");
    let mut actions = 0;
    for file in fs::read_dir(root().join(".github/workflows")).unwrap() {
        let file = file.unwrap().path();
        succeed(Command::new(&lint).arg("-no-color").arg(&file));
        let text = fs::read_to_string(&file).unwrap();
        let uses = text.lines().filter_map(|line| {
            let line = line.trim().trim_start_matches("- ");
            line.strip_prefix("uses: ")
        });
        for action in uses.filter(|action| !action.starts_with("./")) {
            let (_, pinned) = action.split_once('@').unwrap();
            let (commit, version) = pinned.split_once(" # v").unwrap_or((pinned, ""));
            let is_commit = commit.len() == 40 && commit.bytes().all(|c| c.is_ascii_hexdigit());
            assert!(is_commit && !version.is_empty(), "{action}");
            actions += 1;
        }
        // What a job may do beyond reading is said where the job is.
        assert!(
            text.contains("\npermissions:\n  contents: read\n\n"),
            "{}",
            file.display()
        );
    }
    assert!(actions > 10, "only {actions} actions are found");
}

#[test]
fn the_service_is_one_that_systemd_takes_and_confines() {
    let unit = read("packaging/debian/kubeagents.service");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeagents.service");
    let program = env!("CARGO_BIN_EXE_kubeagents");
    fs::write(&file, unit.replace("/usr/bin/kubeagents", program)).unwrap();
    let mut verify = systemd_analyze();
    verify
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&file);
    let output = verify.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // It may have something to say of other units.
    let is_ours = |line: &str| line.contains("kubeagents");
    assert!(
        output.status.success() && !said.lines().any(is_ours),
        "{said}"
    );

    // Of 100; a service without any confinement has 96, and this one needs the network.
    let rate = ["security", "--offline=true", "--threshold=20", "--no-pager"];
    succeed(systemd_analyze().args(rate).arg(&file));
}

#[test]
fn the_service_starts_with_settings_that_the_server_knows() {
    let file = read("packaging/debian/kubeagents.env");
    let lines = file.lines().filter_map(|line| {
        let line = line.strip_prefix('#').unwrap_or(line);
        line.split_once('=').filter(|(name, _)| !name.contains(' '))
    });
    let lines: Vec<(&str, &str)> = lines.collect();
    assert!(lines.len() > 3, "{lines:?}");
    let texts = lines.iter().map(|(name, text)| {
        let setting = SETTINGS.iter().find(|setting| setting.variable == *name);
        let setting = setting.filter(|setting| setting.is_on(Host::Native));
        let setting = setting.unwrap_or_else(|| panic!("{name} is no setting"));
        (setting.variable, (*text).to_owned())
    });
    Values::read(Host::Native, texts.collect()).unwrap();
    // It is where the service may write.
    let unit = read("packaging/debian/kubeagents.service");
    assert!(
        file.contains("\nDATABASE_URL=sqlite:///var/lib/kubeagents/"),
        "{file}"
    );
    assert!(unit.contains("\nStateDirectory=kubeagents\n"), "{unit}");
}

#[test]
fn the_package_has_what_its_manifest_names() {
    let metadata = succeed(
        Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--no-deps",
                "--offline",
                "--locked",
                "--format-version",
                "1",
            ])
            .current_dir(root()),
    );
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages
        .iter()
        .find(|package| package["name"] == "kubeagents");
    let package = package.unwrap();
    let deb = &package["metadata"]["deb"];

    let folder = root().join("host-native");
    let programs: BTreeSet<PathBuf> = package["targets"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|target| target["kind"][0] == "bin")
        .map(|target| Path::new("target/release").join(target["name"].as_str().unwrap()))
        .collect();
    let mut packed = BTreeSet::new();
    let mut targets = BTreeSet::new();
    for asset in deb["assets"].as_array().unwrap() {
        let source = Path::new(asset[0].as_str().unwrap());
        targets.insert(asset[1].as_str().unwrap());
        if source.starts_with("target/release") {
            packed.insert(source.to_owned());
        } else if !source.starts_with("../target/package") {
            assert!(folder.join(source).is_file(), "{}", source.display());
        }
    }
    assert_eq!(packed, programs, "every program is packed");
    for file in deb["conf-files"].as_array().unwrap() {
        let file = file.as_str().unwrap().trim_start_matches('/');
        assert!(targets.contains(file), "{file} is not among {targets:?}");
    }

    // cargo-deb takes these by their names.
    let scripts = folder.join(deb["maintainer-scripts"].as_str().unwrap());
    for name in ["kubeagents.service", "kubeagents.sysusers", "postrm"] {
        assert!(scripts.join(name).is_file(), "{name}");
    }
    // Where it stands, cargo-deb puts what stops the service and forgets it.
    let script = read("packaging/debian/postrm");
    assert!(script.contains("\n#DEBHELPER#\n"), "{script}");
    succeed(Command::new("sh").arg("-n").arg(scripts.join("postrm")));
}

#[test]
fn the_notes_of_a_release_are_its_part_of_the_changelog() {
    let notes = |version: &str| {
        let mut command = Command::new(root().join("packaging/changelog.sh"));
        command.arg(version).output().unwrap()
    };
    let output = notes("0.1.0");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    assert!(
        printed.starts_with("### Added\n\n- The HTTP API"),
        "{printed}"
    );
    assert!(!printed.contains("## ["), "{printed}");
    for missing in ["0.1", "9.9.9", "0x1.0"] {
        let output = notes(missing);
        assert_eq!(output.status.code(), Some(1), "{missing}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(missing), "{said}");
    }
    let printed = succeed(&mut Command::new(root().join("packaging/version.sh")));
    assert_eq!(printed.trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_the_programs_are_made_of_comes_with_its_licences() {
    let mut list = Command::new(root().join("packaging/licenses.py"));
    let printed = succeed(list.arg("x86_64-unknown-linux-gnu"));
    let (packages, texts) = printed.split_once("\n-----").unwrap();
    // A few that are certainly linked, and one that is for tests only.
    for name in ["hyper", "ring", "rusqlite", "tokio"] {
        assert!(
            packages.contains(&format!("\n{name} ")),
            "{name}: {packages}"
        );
        assert!(
            texts.contains(&format!("{name} ")),
            "{name} comes without a text"
        );
    }
    assert!(
        !packages.contains("\nrcgen ") && !packages.contains("\nkubeagents"),
        "{packages}"
    );
}
