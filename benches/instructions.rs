//! How many instructions the pieces of the hot path take. `scripts/instructions` runs this under
//! callgrind, which counts what [`counted`] calls; by itself it runs each case once and says which
//! they are, in the order of the counts.

mod cases;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    println!("# unmask backend: {}", ringwire::wire::mask::backend());
    for case in cases::all() {
        if case.name.starts_with(NOT_OURS) {
            continue;
        }
        // The first run chooses instruction sets, grows buffers, and touches the code.
        case.prepare()();
        counted(&mut *case.prepare());
        println!("{}\t{}\t{}", case.name, case.operations, case.bytes.unwrap_or(0));
    }
}

/// The region of which callgrind counts the instructions.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    run();
}

/// What other cases are compared with by the clock.
const NOT_OURS: &str = "unmask-naive/";
