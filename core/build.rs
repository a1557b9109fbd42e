//! Makes of the files of the page, which lie in `web/`, the table that `src/http/page.rs` includes:
//! paths, media types and compressed bodies. Whatever never changes lies in a folder that is named
//! by the hash of all files, so that browsers can keep it for ever. Compresses the OpenAPI document for
//! `src/http/openapi.rs`.

#![allow(
    clippy::disallowed_methods,
    reason = "it runs where the core is built, and reads its sources"
)]

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// The folder of the page, seen from this crate.
const WEB: &str = "../web";

/// The OpenAPI document.
const OPENAPI: &str = "openapi.json";

/// The page itself.
const INDEX: &str = "index.html";

/// Files that browsers look for at the root: a service worker answers for its own folder and what is
/// below it.
const AT_ROOT: [&str; 2] = ["manifest.webmanifest", "service-worker.js"];

/// What stands for the folder of assets in the page and in files at the root.
const PLACEHOLDER: &str = "{assets}";

/// A file of the page.
struct File {
    /// Its path below `web/`.
    path: String,
    content: Vec<u8>,
}

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    println!("cargo::rerun-if-changed={WEB}");
    println!("cargo::rerun-if-changed={OPENAPI}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let openapi = gzip(&fs::read(OPENAPI)?)?;
    fs::write(out.join(format!("{OPENAPI}.gz")), openapi)?;

    let mut files = Vec::new();
    collect(Path::new(WEB), "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let folder = format!("/assets/{}", hash(&files));

    let mut index = None;
    let mut rows = Vec::new();
    for (number, mut file) in files.into_iter().enumerate() {
        let is_index = file.path == INDEX;
        let changes = is_index || AT_ROOT.contains(&file.path.as_str());
        let path = if changes {
            let content = String::from_utf8(file.content)?;
            file.content = content.replace(PLACEHOLDER, &folder).into_bytes();
            format!("/{}", file.path)
        } else {
            format!("{folder}/{}", file.path)
        };
        let literal = file.literal(&out, number, !changes)?;
        match is_index {
            true => index = Some(literal),
            false => rows.push((path, literal)),
        }
    }
    rows.sort();

    let mut table = String::new();
    let index = index.ok_or("web/index.html is missing")?;
    writeln!(table, "static INDEX: File = {index};")?;
    writeln!(table, "/// By path, in order.")?;
    writeln!(table, "static FILES: &[(&str, File)] = &[")?;
    for (path, literal) in rows {
        writeln!(table, "    ({path:?}, {literal}),")?;
    }
    writeln!(table, "];")?;
    fs::write(out.join("page.rs"), table)?;
    Ok(())
}

/// Adds the files of a folder and of the folders in it. `prefix` is its path below `web/`.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().ok_or("a name in web/ is not UTF-8")?;
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if !is_for_tools(name) {
            files.push(File {
                path,
                content: fs::read(entry.path())?,
            });
        }
    }
    Ok(())
}

/// Checks whether a file is for editors and type checkers, and no part of the page.
fn is_for_tools(name: &str) -> bool {
    name.starts_with('.')
        || name.ends_with('~')
        || name.ends_with(".d.ts")
        || name == "jsconfig.json"
}

/// A name for exactly these files.
fn hash(files: &[File]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        for part in [file.path.as_bytes(), &file.content] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    let hash = hasher.finalize();
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl File {
    /// The expression that the table has for it. Its bodies are written to `out`.
    fn literal(&self, out: &Path, number: usize, never_changes: bool) -> Result<String, Failure> {
        let (media_type, is_text) = self.media_type()?;
        let include = |coding: &str, body: &[u8]| -> Result<String, Failure> {
            let name = format!("{number}.{coding}");
            fs::write(out.join(&name), body)?;
            Ok(format!("include_bytes!({name:?})"))
        };
        let body = match is_text {
            true => {
                let brotli = match has_brotli()? {
                    true => format!("Some({})", include("br", &brotli(&self.content)?)?),
                    false => "None".to_owned(),
                };
                let gzip = include("gz", &gzip(&self.content)?)?;
                format!("Body::Text {{ brotli: {brotli}, gzip: {gzip} }}")
            }
            false => format!("Body::Binary({})", include("bin", &self.content)?),
        };
        Ok(format!(
            "File {{ media_type: {media_type:?}, never_changes: {never_changes}, body: {body} }}"
        ))
    }

    /// Its media type, and whether it is a text, which compression makes smaller.
    fn media_type(&self) -> Result<(&'static str, bool), Failure> {
        let extension = self.path.rsplit('.').next().unwrap_or_default();
        Ok(match extension {
            "css" => ("text/css; charset=utf-8", true),
            "html" => ("text/html; charset=utf-8", true),
            "js" => ("text/javascript; charset=utf-8", true),
            "svg" => ("image/svg+xml", true),
            "webmanifest" => ("application/manifest+json", true),
            "png" => ("image/png", false),
            "webp" => ("image/webp", false),
            _ => return Err(format!("web/{}: core/build.rs knows no such type", self.path).into()),
        })
    }
}

/// Checks whether the program has the page in Brotli too. Components do without: the larger they are, the
/// later they start.
fn has_brotli() -> Result<bool, Failure> {
    let family = env::var("CARGO_CFG_TARGET_FAMILY")?;
    Ok(!family.split(',').any(|family| family == "wasm"))
}

fn brotli(content: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut compressed = Vec::new();
    brotli::BrotliCompress(&mut &content[..], &mut compressed, &Default::default())?;
    Ok(compressed)
}

fn gzip(content: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    Ok(encoder.finish()?)
}
