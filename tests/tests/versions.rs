//! The version of what processes say to each other follows its definitions.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use gear_core::link::handshake::VERSIONS;
use gear_tests::{repository_files, root};

/// The version whose definitions were digested last, and their digest.
const DIGESTED: (u16, u64) = (2, 0x969c_5d55_a281_b4b8);

/// The definitions of all types in the core that can be read from bytes, by their names; without
/// what does not change the bytes.
fn definitions() -> BTreeMap<String, String> {
    let is_test = |path: &PathBuf| path.components().any(|it| it.as_os_str() == "tests");
    let is_core = |path: &PathBuf| path.starts_with("core/src") && !is_test(path);
    let mut all = BTreeMap::new();
    for path in repository_files().into_iter().filter(is_core) {
        let text = fs::read_to_string(root().join(&path)).expect("it is text");
        let text = text.split("#[cfg(test)]\nmod tests {").next().expect("there is a first part");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.trim_start().starts_with("#[derive(") && line.contains("Deserialize") {
                let definition = definition(&mut lines);
                all.insert(format!("{}: {definition}", path.display()), definition);
            }
        }
    }
    all
}

/// What follows a derive, up to the end of the type.
fn definition<'a>(lines: &mut impl Iterator<Item = &'a str>) -> String {
    let mut words = Vec::new();
    let mut depth = 0_i32;
    for line in lines {
        let line = line.trim();
        let is_kept = !line.starts_with("//") && (!line.starts_with('#') || line.contains("serde"));
        if !is_kept {
            continue;
        }
        words.extend(line.split_whitespace());
        let opened = line.matches(['{', '(']).count() as i32;
        let closed = line.matches(['}', ')']).count() as i32;
        depth += opened - closed;
        if depth == 0 && (line.ends_with('}') || line.ends_with(';')) {
            break;
        }
    }
    words.retain(|word| *word != "pub" && !word.starts_with("pub("));
    words.join(" ")
}

/// FNV-1a, which is the same in all versions of the compiler.
fn digest(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[test]
fn the_definition_of_a_type_is_found_without_what_makes_no_bytes() {
    let mut lines = "#[serde(default)]\n/// Says something.\npub struct Said {\n    // Why.\n    \
                     pub(crate) one: (u8, u16),\n}\npub struct Next;"
        .lines();
    assert_eq!(definition(&mut lines), "#[serde(default)] struct Said { one: (u8, u16), }");
    assert_eq!(definition(&mut lines), "struct Next;");
}

#[test]
fn the_version_of_what_is_said_is_raised_with_its_definitions() {
    let all = definitions();
    let hello = all.values().find(|it| it.starts_with("struct Hello {"));
    assert!(hello.is_some_and(|it| it.contains("versions: Versions")), "{hello:?}");
    assert!(all.len() > 50, "definitions are not found any more: {}", all.len());
    // A type that moves to another file is what it was.
    let mut text: Vec<_> = all.into_values().collect();
    text.sort();
    let found = (VERSIONS.highest, digest(&text.join("\n")));
    assert!(
        found == DIGESTED,
        "the types that processes exchange or store have changed: if an older build no longer \
         reads what this one says, raise VERSIONS in core/src/link/handshake.rs (see the rule \
         there); then DIGESTED here is {found:#x?} instead of {DIGESTED:#x?}"
    );
}
