//! Replays the corpora of the fuzz targets, and all that fuzzing has found, on the stable
//! toolchain; then drives each target a little with inputs of its own.
//!
//! `tests/fuzz/corpus/TARGET/` has inputs that together reach what the fuzzer has reached,
//! `tests/fuzz/found/TARGET/` those that a target failed on once, each named after its fault.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

#[path = "fuzz/src/lib.rs"]
mod fuzz;

#[test]
fn every_target_has_a_corpus_that_passes() {
    for (name, check) in fuzz::TARGETS {
        let corpus = inputs(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        for path in corpus {
            // What panics is told apart by the last name printed.
            println!("{}", path.display());
            check(&fs::read(&path).expect("an input"));
        }
    }
}

#[test]
fn every_target_is_a_program_for_the_fuzzer() {
    let manifest = fs::read_to_string(directory().join("Cargo.toml")).expect("a manifest");
    let programs = manifest.matches("[[bin]]").count();
    assert_eq!(programs, fuzz::TARGETS.len());
    for (name, _) in fuzz::TARGETS {
        let path = directory().join(format!("fuzz_targets/{name}.rs"));
        let program = fs::read_to_string(&path).expect("a program");
        assert!(program.contains(&format!("ringwire_fuzz::{name}::check(data)")), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_pass(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (_, check) in fuzz::TARGETS {
            check(&bytes);
        }
    }

    #[test]
    fn what_resembles_the_corpus_passes(
        file in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Index>(),
    ) {
        for (name, check) in fuzz::TARGETS {
            let corpus = inputs(name);
            let mut bytes = fs::read(&corpus[file.index(corpus.len())]).expect("an input");
            let length = bytes.len();
            for (at, value) in changes.iter().filter(|_| length > 0) {
                bytes[at.index(length)] = *value;
            }
            check(&bytes);
            check(&bytes[..cut.index(bytes.len() + 1)]);
        }
    }
}

/// The committed inputs of a target, in the order of their names.
fn inputs(name: &str) -> Vec<PathBuf> {
    let directories = ["corpus", "found"].map(|kind| directory().join(kind).join(name));
    let entries = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let mut inputs: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    inputs
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}
