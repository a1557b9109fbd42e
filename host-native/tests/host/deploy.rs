//! The files that deploy the server: the image, compose, Kubernetes.

use std::fs;
use std::process::Command;

use kubeagents_contract::{Packages, succeed};
use kubeagents_core::settings::{Host, SETTINGS};

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
