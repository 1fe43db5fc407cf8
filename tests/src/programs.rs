//! Programs of this package that another one of them runs.

use std::path::PathBuf;
use std::process::Command;

/// Programs, built as this one is, with these features; none if they cannot be built, which cargo
/// has said then.
#[must_use]
pub fn programs(features: &[&str], names: &[&str]) -> Option<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "gear-tests"]).current_dir(crate::root());
    build.args(["--features", &features.join(",")]);
    build.args(names.iter().flat_map(|name| ["--bin", name]));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let built = build.status().is_ok_and(|status| status.success());
    let folder = std::env::current_exe().ok()?.parent()?.to_owned();
    built.then(|| names.iter().map(|name| folder.join(name)).collect())
}

/// A path for whoever wants one that lasts as long as the process.
#[must_use]
pub fn kept(path: &std::path::Path) -> &'static str {
    Box::leak(path.display().to_string().into_boxed_str())
}
