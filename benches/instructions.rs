//! How many instructions the pieces of the hot path take.
//!
//! `scripts/instructions` runs this once for each case under callgrind, which counts what
//! [`counted`] calls: a process for each, so that no case depends on what others left on the heap.
//! Without a name every case runs once and is listed, also by `cargo test --benches`.

mod cases;

use std::process::ExitCode;

use cases::Case;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let mut cases = cases::all();
    cases.retain(|case| !BY_CLOCK.iter().any(|name| case.name.starts_with(name)));
    // Cargo adds options of its own.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let Some(wanted) = wanted else {
        println!("# unmask-backend\t{}", ringwire::wire::mask::backend());
        cases.iter().for_each(run);
        return ExitCode::SUCCESS;
    };
    let Some(case) = cases.iter().find(|case| case.name == wanted) else {
        eprintln!("error: there is no case `{wanted}`; without a name all are listed");
        return ExitCode::FAILURE;
    };
    println!("# unmask-backend\t{}", ringwire::wire::mask::backend());
    run(case);
    ExitCode::SUCCESS
}

fn run(case: &Case) {
    // The first run chooses instruction sets and touches what is set up once.
    case.prepare()();
    counted(&mut *case.prepare());
    println!("{}\t{}\t{}", case.name, case.operations, case.bytes.unwrap_or(0));
}

/// The region of which callgrind counts the instructions.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    run();
}

/// Cases for the clock alone: what others are compared with, and ciphers, whose instructions depend
/// on what the processor has for them.
const BY_CLOCK: [&str; 2] = ["unmask-naive/", "tls"];
