//! Every input that fuzzing has found worth keeping still passes.

use std::fs;

use gear_fuzz::TARGETS;

#[test]
fn every_target_passes_its_corpus() {
    let corpus = gear_tests::root().join("fuzz/corpus");
    for (name, run) in TARGETS {
        let folder = corpus.join(name);
        let seeds = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("`{}`, the target's corpus: {error}", folder.display()));
        let mut count = 0;
        for seed in seeds {
            let path = seed.expect("the corpus is readable").path();
            // Shown if the target panics.
            println!("{name}: {}", path.display());
            run(&fs::read(&path).expect("a seed is readable"));
            count += 1;
        }
        assert!(count > 0, "`{}` has no seed", folder.display());
    }
}

#[test]
fn records_in_seeds_are_as_they_are_written_now() {
    let corpus = gear_tests::root().join("fuzz/corpus");
    for (name, content) in gear_fuzz::seeds::with_records() {
        let there = fs::read(corpus.join(&name));
        assert!(
            there.is_ok_and(|there| there == content),
            "fuzz/corpus/{name}: write it with `cargo run -p gear-fuzz --example seeds`"
        );
    }
}

#[test]
fn every_corpus_has_its_target() {
    for folder in fs::read_dir(gear_tests::root().join("fuzz/corpus")).expect("there are corpora") {
        let name = folder.expect("the corpora are readable").file_name();
        assert!(
            TARGETS.iter().any(|(target, _)| name == *target),
            "fuzz/corpus/{} has no target of its name in fuzz/src/lib.rs",
            name.display()
        );
    }
}

#[test]
fn every_target_has_its_program() {
    let metadata = gear_tests::metadata();
    let fuzz = metadata.packages.iter().find(|it| it.name == "gear-fuzz").expect("a member");
    let mut programs: Vec<_> =
        fuzz.targets.iter().filter(|it| it.is_bin()).map(|it| it.name.as_str()).collect();
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    programs.sort_unstable();
    targets.sort_unstable();
    assert_eq!(programs, targets, "`[[bin]]` of fuzz/Cargo.toml, and TARGETS of fuzz/src/lib.rs");
}
