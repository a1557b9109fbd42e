//! Helper programs for tests.

use std::path::Path;
use std::process::Command;

/// The target that WebAssembly components are built for.
pub const COMPONENT_TARGET: &str = "wasm32-wasip2";

/// Runs a command that builds components, after installing their target where it is missing.
///
/// # Panics
/// As [`succeed`] does.
pub fn build_component(build: &mut Command) {
    let mut query = Command::new("rustc");
    let libraries = succeed(query.args(["--print", "target-libdir", "--target", COMPONENT_TARGET]));
    if !Path::new(libraries.trim()).exists() {
        succeed(Command::new("rustup").args(["target", "add", COMPONENT_TARGET]));
    }
    succeed(build);
}

/// Makes a virtual environment of Python with the packages that a file pins.
///
/// # Panics
/// As [`succeed`] does.
pub(crate) fn install_python(folder: &Path, requirements: &Path) {
    succeed(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(folder),
    );
    succeed(
        Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet"])
            .args(["--disable-pip-version-check", "--requirement"])
            .arg(requirements),
    );
}

/// Runs a command to its end, and returns its output.
///
/// # Panics
/// When it cannot be started or fails, with everything that it printed.
pub fn succeed(command: &mut Command) -> String {
    let program = command.get_program().to_owned();
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
