//! What the tests of the whole workspace share.

pub mod chaos;
pub mod cluster;
#[cfg(feature = "services")]
pub mod kafka;
pub mod kills;
pub mod namespaces;
pub mod process;
pub mod programs;
pub mod rest;
pub mod services;
pub mod system;
pub mod watchdog;
pub mod words;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, str};

use cargo_metadata::{Metadata, MetadataCommand};

/// The root of the repository.
///
/// # Panics
/// If the package has been moved.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the root")
}

/// The workspace's packages and their dependencies on this machine.
///
/// # Panics
/// If cargo or rustc cannot be asked.
#[must_use]
pub fn metadata() -> Metadata {
    // Other platforms' packages need not have been downloaded.
    let host = rustc_host();
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--locked".into(), "--filter-platform".into(), host])
        .exec()
        .expect("cargo describes the workspace")
}

fn rustc_host() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc says its version");
    let text = str::from_utf8(&output.stdout).expect("rustc answers in UTF-8");
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc says its host").to_owned()
}

/// The repository's files relative to [`root`], in order: those that git tracks and the new ones
/// that it does not ignore; without git, all that are not hidden nor built.
///
/// # Panics
/// If a folder cannot be read.
#[must_use]
pub fn repository_files() -> Vec<PathBuf> {
    let git = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let mut files: Vec<PathBuf> = match git {
        Ok(output) if output.status.success() => {
            let names = str::from_utf8(&output.stdout).expect("names of files are UTF-8");
            names.split_terminator('\0').map(PathBuf::from).collect()
        }
        _ => {
            let mut found = Vec::new();
            walk(root(), &mut found);
            found
        }
    };
    // A file may be deleted and git not yet told.
    files.retain(|file| root().join(file).is_file());
    files.sort();
    files.dedup();
    files
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the folder is readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let built = path.parent() == Some(root()) && ["target", "out"].contains(&name.as_str());
        if name.starts_with('.') || built {
            continue;
        }
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path.strip_prefix(root()).expect("it is below the root").to_owned());
        }
    }
}

/// Every file below a folder, in order.
pub(crate) fn walk_all(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("the folder is readable");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the folder is readable").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk_all(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The jobs in the README compile, and those that can be run are.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
