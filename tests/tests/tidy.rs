//! Rules of the house that a reader of the source can check, and neither rustc nor clippy does.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 700;
const FUNCTION_LINES_MAX: usize = 100;
const COLUMNS_MAX: usize = 100;

/// The files in which `unsafe` may stand, each of which says above every use why it is sound.
///
/// A counting allocator is an unsafe trait, a thread's processor time is a call of libc, the
/// processor's hints are instructions, and only in C does librdkafka take records by their topic's
/// handle and give many at once.
const UNSAFE_FILES: &[&str] = &[
    "connectors/src/kafka/driver/fetched.rs",
    "connectors/src/kafka/driver/outlet.rs",
    "core/src/flow/prefetch.rs",
    "tests/benches/figures/allocations.rs",
    "tests/benches/figures/jobs.rs",
];

/// Left in the source they are promises that nobody keeps; `concat!` hides them from this test.
const LEFT_OVERS: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
    concat!("to", "do!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
];

fn files(extension: &str) -> Vec<(PathBuf, String)> {
    let files = gear_tests::repository_files();
    let chosen =
        files.into_iter().filter(|file| file.extension().is_some_and(|it| it == extension));
    chosen
        .map(|file| {
            let text = fs::read_to_string(gear_tests::root().join(&file));
            let text = text.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            (file, text)
        })
        .collect()
}

/// The part of a line in front of a comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// True if the word stands in the text, not as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

/// Reports every breach at once.
fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

/// The breaches of a rule about single lines of Rust.
fn lines_that(breaks: impl Fn(&Path, &str) -> Option<String>) -> Vec<String> {
    let mut breaches = Vec::new();
    for (file, text) in files("rs") {
        for (index, line) in text.lines().enumerate() {
            if let Some(breach) = breaks(&file, line) {
                breaches.push(format!("{}:{}: {breach}", file.display(), index + 1));
            }
        }
    }
    breaches
}

#[test]
fn files_are_about_one_thing() {
    let mut breaches = Vec::new();
    for (file, text) in files("rs") {
        let count = text.lines().count();
        if count > FILE_LINES_MAX {
            breaches.push(format!("{}: {count} lines of {FILE_LINES_MAX}", file.display()));
        }
    }
    assert_none(&breaches);
}

#[test]
fn functions_fit_on_a_screen_or_two() {
    let mut breaches = Vec::new();
    for (file, text) in files("rs") {
        let lines: Vec<_> = text.lines().collect();
        for (first, line) in lines.iter().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let head = code(line).split('(').next().unwrap_or_default();
            // A field of a function's type is no function.
            let is_field = line.ends_with(',');
            if !has_word(head, "fn") || is_field || line.ends_with(';') || line.ends_with('}') {
                continue;
            }
            // rustfmt puts the last brace of an item below its first letter, and the end of a long
            // signature that has no body.
            let ends = |it: &&&str| {
                it.strip_prefix(indent).is_some_and(|rest| {
                    rest == "}" || (rest.starts_with(')') && rest.ends_with(';'))
                })
            };
            let count = lines[first..].iter().take_while(|it| !ends(it)).count() + 1;
            let is_body = lines[first..].iter().any(|it| ends(&it));
            if is_body && count > FUNCTION_LINES_MAX {
                let place = format!("{}:{}", file.display(), first + 1);
                breaches.push(format!("{place}: {count} lines of {FUNCTION_LINES_MAX}"));
            }
        }
    }
    assert_none(&breaches);
}

#[test]
fn lines_fit_side_by_side() {
    assert_none(&lines_that(|_, line| {
        let columns = line.chars().count();
        (columns > COLUMNS_MAX).then(|| format!("{columns} columns of {COLUMNS_MAX}"))
    }));
}

#[test]
fn nothing_is_left_over() {
    assert_none(&lines_that(|_, line| {
        let found = LEFT_OVERS.iter().find(|it| line.contains(**it))?;
        Some(format!("`{found}`: do it, or open an issue"))
    }));
}

#[test]
fn no_test_is_switched_off() {
    assert_none(&lines_that(|_, line| {
        let ignored = code(line).contains("#[ignore");
        (ignored && !line.contains('"')).then(|| "a test that nobody runs proves nothing".into())
    }));
}

#[test]
fn the_core_is_without_std() {
    let mut breaches = lines_that(|file, line| {
        if !file.starts_with("core/src") {
            return None;
        }
        let code = code(line);
        let std = has_word(code, "std") && (code.contains("std::") || code.contains("crate std"));
        std.then(|| "the core is pure: `core` and `alloc`, and what happens is an effect".into())
    });
    let root = fs::read_to_string(gear_tests::root().join("core/src/lib.rs"));
    if !root.expect("the core has a root").lines().any(|line| line == "#![no_std]") {
        breaches.push("core/src/lib.rs: `#![no_std]` without a condition is missing".into());
    }
    assert_none(&breaches);
}

#[test]
fn unsafe_stands_only_where_it_is_allowed() {
    assert_none(&lines_that(|file, line| {
        let allowed = UNSAFE_FILES.iter().any(|it| file == Path::new(it));
        let code = code(line);
        let found = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"]
            .iter()
            .any(|it| code.contains(it) && !code.contains('"'));
        (found && !allowed).then(|| "`unsafe` in a file that is not on the list".into())
    }));
}

#[test]
fn documents_have_one_title() {
    let mut breaches = Vec::new();
    for (file, text) in files("md") {
        let mut in_code = false;
        let mut titles = 0;
        for line in text.lines() {
            in_code ^= line.trim_start().starts_with("```");
            titles += usize::from(!in_code && line.starts_with("# "));
        }
        if titles != 1 {
            breaches.push(format!("{}: {titles} titles of 1", file.display()));
        }
    }
    assert_none(&breaches);
}

#[test]
fn the_map_shows_every_room() {
    let map = gear_tests::root().join("ARCHITECTURE.md");
    let map = fs::read_to_string(map).expect("ARCHITECTURE.md is the map");
    let metadata = gear_tests::metadata();
    let mut breaches = Vec::new();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().expect("a manifest is in a folder");
        let folder = folder.strip_prefix(&metadata.workspace_root).expect("it is in the workspace");
        if !map.contains(&format!("`{folder}/`")) {
            breaches.push(format!("ARCHITECTURE.md does not say what `{folder}/` is"));
        }
    }
    let rooms = gear_tests::repository_files().into_iter().filter_map(|file| {
        let mut parts = file.strip_prefix("core/src").ok()?.iter();
        let room = parts.next()?.to_str()?;
        Some(room.strip_suffix(".rs").unwrap_or(room).to_owned())
    });
    for room in rooms.filter(|room| room != "lib") {
        if !map.contains(&format!("`{room}`")) {
            breaches.push(format!("ARCHITECTURE.md does not say what the core's `{room}` is"));
        }
    }
    breaches.dedup();
    assert_none(&breaches);
}
