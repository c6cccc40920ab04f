//! The unchanged event loop on a simulated kernel, with clients of every kind, from a seed.
//!
//! `cargo test --test simulation` runs two thousand seeds, and some in worlds of client sessions;
//! `RINGWIRE_SEED=N` replays one with a trace (with `every_seed_of_sessions` or `every_seed_holds`
//! as a filter), `RINGWIRE_SEEDS=FIRST..END` chooses others. `scripts/simulate` goes on until it is
//! told to stop.

mod buffers;
mod client;
mod compression;
mod contract;
mod control;
mod decoder;
mod fairness;
mod frames;
mod identity;
mod inquiries;
mod invariants;
mod kernel;
mod memory;
mod moves;
mod network;
mod node;
mod orders;
mod overload;
mod peer_stories;
mod peers;
mod plan;
mod progress;
mod publishing;
mod rates;
mod regressions;
mod reload;
mod secure;
mod secure_stories;
mod sessions;
mod settings;
mod story;
mod streams;
mod topics;
mod trace;
mod users;
mod verdict;
mod world;

use std::env;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sessions::SessionWorld;
use world::World;

#[test]
fn every_seed_holds_the_invariants() {
    hold(seeds(SEEDS), |seed| World::new(seed).run());
}

#[test]
fn every_seed_of_sessions_holds_them() {
    hold(seeds(SESSION_SEEDS), |seed| SessionWorld::new(seed).run());
}

/// Runs the worlds of all seeds, or of the one that is to be replayed.
fn hold(seeds: Range<u64>, run: impl Fn(u64) + Sync) {
    if let Ok(seed) = env::var("RINGWIRE_SEED") {
        trace::enable(true);
        return run(seed.parse().expect("RINGWIRE_SEED is a number"));
    }
    let failures = failures(seeds, run);
    for (seed, cause) in failures.iter().take(FAILURES_SHOWN) {
        eprintln!(
            "seed {seed} fails: {}",
            cause.chars().take(CAUSE_CHARACTERS).collect::<String>()
        );
    }
    assert!(failures.is_empty(), "{} seeds fail", failures.len());
}

/// Runs all seeds, on all cores, and returns those that fail with the causes.
fn failures(seeds: Range<u64>, run: impl Fn(u64) + Sync) -> Vec<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    panic::set_hook(Box::new(|_| {}));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(cause) = panic::catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        let cause = cause.downcast_ref::<String>().cloned().unwrap_or_else(|| {
                            (*cause.downcast_ref::<&str>().unwrap_or(&"")).to_owned()
                        });
                        failures.lock().expect("no panic here").push((seed, cause));
                    }
                }
            });
        }
    });
    drop(panic::take_hook());
    let mut failures = failures.into_inner().expect("no panic here");
    failures.sort();
    failures
}

fn seeds(ordinary: u64) -> Range<u64> {
    let Ok(range) = env::var("RINGWIRE_SEEDS") else { return 0..ordinary };
    let (first, end) = range.split_once("..").expect("RINGWIRE_SEEDS is FIRST..END");
    let number = |text: &str| text.parse().expect("RINGWIRE_SEEDS is FIRST..END");
    number(first)..number(end)
}

/// Seeds of an ordinary test run.
const SEEDS: u64 = 2000;
const SESSION_SEEDS: u64 = 200;
/// Failures that are worth a line each.
const FAILURES_SHOWN: usize = 10;
/// Characters of a cause that are worth showing.
const CAUSE_CHARACTERS: usize = 300;
