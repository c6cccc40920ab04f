//! Says what happens while one seed is replayed, and nothing otherwise.

use std::cell::Cell;

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(false) };
}

/// Switches the trace of this thread on or off.
pub fn enable(enabled: bool) {
    ENABLED.set(enabled);
}

/// Whether this thread's trace is on.
pub fn is_enabled() -> bool {
    ENABLED.get()
}

/// Prints a line of the trace; its arguments cost nothing while it is off.
macro_rules! trace {
    ($($argument:tt)*) => {
        if $crate::trace::is_enabled() {
            eprintln!($($argument)*);
        }
    };
}

pub(crate) use trace;
