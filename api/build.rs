//! Collects the documentation of the API's types from the sources of the k8s-openapi
//! crate into one compressed text, which OpenAPI and `kubectl explain` are served from.
//!
//! The crate is read, not compiled: its schemas (behind a feature that we do not want
//! to build) have each description as a string literal on a line of its own.

use flate2::{Compression, write::DeflateEncoder};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The sources of the API version that is served.
const API: &str = "v1_36";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    let mut found = BTreeMap::new();
    read_folder(&sources().join("src").join(API), &mut found);
    assert!(
        found.len() > 3_000,
        "only {} descriptions in k8s-openapi's sources: has their layout changed?",
        found.len()
    );
    let mut text = String::new();
    for ((ty, field), description) in &found {
        // A type's name is written once, before its own description and those of its fields.
        let parts = [ty.as_str(), field, description];
        assert!(parts.iter().all(|part| !part.contains(['\u{1}', '\u{2}'])));
        text.push_str(&parts.join("\u{1}"));
        text.push('\u{2}');
    }
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
    packed.write_all(text.as_bytes()).expect("memory takes all");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write"));
    fs::write(
        out.join("descriptions.deflate"),
        packed.finish().expect("memory takes all"),
    )
    .expect("cargo's directory can be written");
}

/// Where cargo keeps the sources of the crate that this workspace is locked to.
fn sources() -> PathBuf {
    let cargo = env::var_os("CARGO").expect("cargo says where it is");
    // Of one platform: the crates of others need not have been downloaded.
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform"])
        .arg(env::var_os("TARGET").expect("set by cargo"))
        .arg("--manifest-path")
        .arg(Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("Cargo.toml"))
        .output()
        .expect("cargo metadata runs");
    assert!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    // The only path in the metadata that ends so; reading JSON would need a crate.
    let marker = format!("{0}k8s-openapi-", std::path::MAIN_SEPARATOR);
    let end = "Cargo.toml\"";
    let at = text
        .match_indices("\"manifest_path\":\"")
        .map(|(at, key)| &text[at + key.len()..])
        .filter_map(|rest| Some(&rest[..rest.find(end)?]))
        .find(|path| {
            path.rsplit_once(&marker)
                .is_some_and(|(_, version)| version.starts_with(|c: char| c.is_ascii_digit()))
        })
        .expect("k8s-openapi is among the workspace's dependencies");
    PathBuf::from(at)
}

type Found = BTreeMap<(String, String), String>;

fn read_folder(folder: &Path, found: &mut Found) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder of sources can be read").path();
        if path.is_dir() {
            read_folder(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            read_source(&text, found);
        }
    }
}

/// The schema of a type begins with its name; its own description comes before its
/// properties, a property's description after the line that names it.
fn read_source(text: &str, found: &mut Found) {
    let mut ty: Option<String> = None;
    let mut field = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        if line.starts_with("fn schema_name()") {
            ty = lines.next().and_then(quoted).filter(|name| name.starts_with("io.k8s."));
            field.clear();
            continue;
        }
        let Some(ty) = &ty else { continue };
        if line.starts_with("fn ") && !line.starts_with("fn json_schema") {
            field.clear();
        }
        if line.ends_with(": {") || line.ends_with(": ({") {
            field = quoted(line).filter(|name| name != "properties").unwrap_or_default();
            continue;
        }
        let literal = match line.strip_prefix("\"description\": ") {
            Some(rest) => quoted(rest),
            None => line
                .split_once(".insert(\"description\".into(), ")
                .and_then(|(_, rest)| quoted(rest)),
        };
        if let Some(description) = literal {
            found.entry((ty.clone(), field.clone())).or_insert(description);
        }
    }
}

/// The first string literal of a line, unescaped.
fn quoted(line: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = line[line.find('"')? + 1..].chars();
    loop {
        match chars.next()? {
            '"' => return Some(out),
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'u' => {
                    let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    out.push(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32)?);
                }
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
}
