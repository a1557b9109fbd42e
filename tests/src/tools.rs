//! Helper programs for tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
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

/// Packages from PyPI and npm, Node.js among them, below `target/`.
#[derive(Debug)]
pub struct Packages(PathBuf);

impl Packages {
    /// Installs what the folder `sources` pins, unless that has been done, to a folder of this name.
    ///
    /// # Panics
    /// As [`succeed`] does.
    pub fn install(sources: &Path, name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target")
            .join(name);
        fs::create_dir_all(&folder).unwrap();
        let packages = Self(folder.canonicalize().unwrap());
        // Several tests may want them at once.
        let lock = File::create(packages.0.join("lock")).unwrap();
        lock.lock().unwrap();
        packages.install_pinned(sources);
        packages
    }

    fn install_pinned(&self, sources: &Path) {
        let pinned: Vec<&str> = ["requirements.txt", "package.json", "package-lock.json"]
            .into_iter()
            .filter(|file| sources.join(file).exists())
            .collect();
        let versions: String = pinned
            .iter()
            .map(|file| fs::read_to_string(sources.join(file)).unwrap())
            .collect();
        let done = self.0.join("installed");
        if fs::read_to_string(&done).is_ok_and(|installed| installed == versions) {
            return;
        }
        for file in &pinned {
            fs::copy(sources.join(file), self.0.join(file)).unwrap();
        }
        install_python(&self.0.join("venv"), &self.0.join("requirements.txt"));
        if pinned.contains(&"package.json") {
            succeed(
                Command::new(self.program("npm"))
                    .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
                    .current_dir(&self.0),
            );
        }
        fs::write(done, versions).unwrap();
    }

    /// The folder where they are.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// A program of the Python packages.
    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join("venv/bin").join(name)
    }
}

/// Makes a virtual environment of Python with the packages that a file pins.
///
/// # Panics
/// As [`succeed`] does.
fn install_python(folder: &Path, requirements: &Path) {
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
