//! Which package may know which.

use std::collections::BTreeSet;
use std::process::Command;
use std::{env, str};

/// A package, its folder, and the packages of the workspace that it may depend on, in any way.
struct House {
    package: &'static str,
    folder: &'static str,
    may_know: &'static [&'static str],
}

/// The whole house, with the packages that are still to come.
const HOUSES: &[House] = &[
    House { package: "gear-core", folder: "core", may_know: &["gear-derive"] },
    House { package: "gear-derive", folder: "core/derive", may_know: &[] },
    House { package: "gear-net", folder: "net", may_know: &["gear-core"] },
    House { package: "gear-connectors", folder: "connectors", may_know: &["gear-core"] },
    House {
        package: "gear-node",
        folder: "node",
        may_know: &["gear-core", "gear-net", "gear-connectors"],
    },
    House {
        package: "sim",
        folder: "sim",
        may_know: &["gear-core", "gear-net", "gear-connectors"],
    },
    House {
        package: "gear-fuzz",
        folder: "fuzz",
        may_know: &["gear-core", "gear-net", "gear-connectors", "gear-node", "sim"],
    },
    House {
        package: "gear-tests",
        folder: "tests",
        may_know: &["gear-core", "gear-net", "gear-connectors", "gear-node", "sim", "gear-fuzz"],
    },
    House {
        package: "gear-benches",
        folder: "tests/benches",
        may_know: &["gear-core", "gear-net", "gear-connectors", "gear-node", "sim", "gear-tests"],
    },
];

/// What is linked into the core: buffers, hashing and formats, nothing that could ask the machine
/// for time, entropy, a thread or a socket. Some use `std` to see what the processor can do.
const LINKED_INTO_CORE: &[&str] = &[
    "arrayvec",
    "cobs",
    "crc32c",
    "hashbrown",
    "postcard",
    "serde",
    "serde_bytes",
    "serde_core",
    "thiserror",
    "xxhash-rust",
];

/// Named apart, so that nobody adds one to the lists above by habit.
const NEVER_IN_CORE: &[&str] = &[
    "async-std",
    "chrono",
    "crossbeam",
    "fastrand",
    "getrandom",
    "libc",
    "log",
    "mio",
    "parking_lot",
    "rand",
    "rand_core",
    "rayon",
    "rustix",
    "smol",
    "socket2",
    "tokio",
    "tracing",
];

fn house(package: &str) -> &'static House {
    HOUSES.iter().find(|house| house.package == package).unwrap_or_else(|| {
        panic!("`{package}` is new: say in HOUSES what it may know, and in ARCHITECTURE.md why")
    })
}

#[test]
fn arrows_point_one_way() {
    let metadata = gear_tests::metadata();
    let members = metadata.workspace_packages();
    for package in &members {
        let house = house(&package.name);
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if members.iter().any(|member| member.name == name) {
                assert!(
                    house.may_know.contains(&name),
                    "`{}` depends on `{name}`, and may only know {:?}",
                    package.name,
                    house.may_know
                );
            }
        }
    }
}

#[test]
fn packages_live_in_their_folders() {
    let metadata = gear_tests::metadata();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().expect("a manifest is in a folder");
        let folder = folder.strip_prefix(&metadata.workspace_root).expect("it is in the workspace");
        assert_eq!(folder, house(&package.name).folder, "the folder of `{}`", package.name);
    }
}

#[test]
fn all_but_the_fuzz_targets_are_default_members() {
    let metadata = gear_tests::metadata();
    let names = |packages: Vec<&cargo_metadata::Package>| -> BTreeSet<String> {
        packages.iter().map(|package| package.name.to_string()).collect()
    };
    let mut expected = names(metadata.workspace_packages());
    expected.remove("gear-fuzz");
    assert_eq!(names(metadata.workspace_default_packages()), expected);
}

#[test]
fn the_core_links_only_what_is_allowed() {
    for name in linked_into("gear-core") {
        assert!(!NEVER_IN_CORE.contains(&name.as_str()), "the core links `{name}`");
        assert!(
            name == "gear-core" || LINKED_INTO_CORE.contains(&name.as_str()),
            "the core links `{name}`, which is not on the list: does it stay without I/O, clock, \
             threads and entropy?"
        );
    }
}

/// The names of what is linked into a package, itself included; without macros, which only run
/// while it is compiled.
fn linked_into(package: &str) -> BTreeSet<String> {
    // `cargo metadata` also counts optional dependencies that no feature turns on.
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none"])
        .args(["--format", "{p}", "--package", package])
        .current_dir(gear_tests::root())
        .output()
        .expect("cargo shows the tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = str::from_utf8(&output.stdout).expect("cargo answers in UTF-8");
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    let names: BTreeSet<_> = names.map(str::to_owned).collect();
    assert!(names.contains(package), "cargo tree shows the package itself:\n{text}");
    names
}
