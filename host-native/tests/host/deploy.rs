//! The files that deploy the server: the image, compose, Kubernetes, wasmCloud.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use kubeagents_contract::{Packages, succeed};
use kubeagents_core::settings::{Host, SETTINGS, Values};

use crate::support::root;

#[test]
fn the_image_is_built_and_runs() {
    let printed = succeed(&mut Command::new(root().join("tests/images.sh")));
    assert!(
        printed.contains("built and run by Docker") && printed.contains("built and run by Buildah"),
        "{printed}"
    );
}

/// Settings that the compose file fixes; the last are parts of `DATABASE_URL`.
const FIXED: [&str; 9] = [
    "HOST",
    "PORT",
    "DATABASE_URL",
    "DB_HOST",
    "DB_PORT",
    "DB_USER",
    "DB_PASSWORD",
    "DB_NAME",
    "DB_SSLMODE",
];

#[test]
fn compose_passes_every_setting_on() {
    let file = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let lines: String = SETTINGS
        .iter()
        .filter(|setting| setting.is_on(Host::Native) && !FIXED.contains(&setting.variable))
        .map(|setting| format!("      {}:\n", setting.variable))
        .collect();
    let (_, passed) = file.split_once("in the order of the reference.\n").unwrap();
    let (passed, _) = passed.split_once("    ports:").unwrap();
    assert!(
        passed == lines,
        "docker-compose.yml should have these lines:\n{lines}"
    );
}

#[test]
fn compose_publishes_the_server_alone_and_to_this_machine_alone() {
    let file = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let ports: Vec<&str> = file
        .split("    ports:\n")
        .skip(1)
        .flat_map(|ports| ports.lines().map(str::trim))
        .filter_map(|line| line.strip_prefix("- \""))
        .collect();
    assert_eq!(ports, ["127.0.0.1:8080:8080\""]);
    assert!(file.contains("    stop_grace_period: 20s\n"));
}

/// The settings that a manifest has values for.
fn settings(manifest: &str) -> BTreeMap<&'static str, String> {
    let lines = manifest.lines().map(str::trim);
    let fields = lines.filter_map(|line| line.split_once(": "));
    let values = fields.filter_map(|(field, value)| {
        let setting = SETTINGS.iter().find(|setting| setting.variable == field)?;
        Some((setting.variable, value.trim_matches('"').to_owned()))
    });
    values.collect()
}

#[test]
fn kubernetes_updates_the_server_without_losing_requests() {
    let folder = root().join("deploy/kubernetes");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let mut values = settings(&read("configmap.yaml"));
    values.extend(settings(&read("secret.yaml")));
    assert_eq!(values["SHUTDOWN_DELAY_SECONDS"], "5");
    Values::read(Host::Native, values.into_iter().collect()).unwrap();

    let deployment = read("deployment.yaml");
    for line in [
        concat!("image: kubeagents:", env!("CARGO_PKG_VERSION")),
        "replicas: 2",
        // Longer than the delay, the requests under way and the deliveries.
        "terminationGracePeriodSeconds: 30",
        "topologySpreadConstraints:",
    ] {
        let there = deployment.lines().any(|found| found.trim() == line);
        assert!(there, "deployment.yaml has no {line}");
    }
    assert!(read("poddisruptionbudget.yaml").contains("\n  maxUnavailable: 1\n"));
    assert!(read("networkpolicy.yaml").contains("\nkind: NetworkPolicy\n"));
}

#[test]
fn the_manifests_of_wasmcloud_set_what_its_hosts_and_the_component_know() {
    for (name, wanted) in [
        ("nats.yaml", ["APP_BASE_URL", "AUTH_MODE", "BUCKET"]),
        ("postgres.yaml", ["APP_BASE_URL", "AUTH_MODE", "STORAGE"]),
    ] {
        let text = fs::read_to_string(root().join("deploy/wasmcloud").join(name)).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        let mut package = "";
        let mut values = BTreeMap::new();
        for line in lines {
            // Another secret than those that exist would keep the component from starting.
            assert!(!line.contains("secretFrom"), "{name}");
            let indent = line.len() - line.trim_start().len();
            let (field, value) = line.trim_start().split_once(": ").unwrap_or((line, ""));
            match (indent, package) {
                (10, _) if field == "package" => package = value,
                (6, _) if line.trim() == "components:" => package = "",
                // A host does not start with a field that it does not know.
                (12, "http") => assert_eq!(field, "host", "{name}"),
                (12, "postgres") => assert_eq!(field, "database", "{name}"),
                (12, "keyvalue") => assert!(["backend", "url"].contains(&field), "{name}: {field}"),
                (16, "") => drop(values.insert(field, value.to_owned())),
                _ => {}
            }
        }
        let set: Vec<&str> = values.keys().copied().collect();
        assert_eq!(set, wanted, "{name}");
        let texts = SETTINGS.iter().filter_map(|setting| {
            let is_known = setting.is_on(Host::Wasmcloud);
            let text = values.remove(setting.variable).filter(|_| is_known)?;
            Some((setting.variable, text))
        });
        Values::read(Host::Wasmcloud, texts.collect()).unwrap();
        assert!(values.is_empty(), "{name}: {values:?}");
    }
}

#[test]
fn kubernetes_knows_every_field_of_the_manifests() {
    let folder = root().join("deploy/kubernetes");
    let packages = Packages::install(&root().join("tests/kubernetes"), "kubernetes");
    let validate = packages.program("kubernetes-validate");
    let kustomization = fs::read_to_string(folder.join("kustomization.yaml")).unwrap();
    let mut manifests = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap();
        if name == "kustomization.yaml" {
            continue;
        }
        assert!(kustomization.contains(&format!("- {name}\n")), "{name}");
        let strict = ["--strict", "--quiet"];
        succeed(Command::new(&validate).args(strict).arg(&file));
        manifests += 1;
    }
    assert!(manifests > 5, "only {manifests} manifests are found");
}
