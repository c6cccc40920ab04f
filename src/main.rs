//! The `ringwire` program.

use std::io::{self, Write};
use std::process::ExitCode;

use mimalloc::MiMalloc;
use ringwire::bench::{self, Arguments};
use ringwire::cli::{self, Action};
use ringwire::config::Config;
use ringwire::logging;
use ringwire::memory::allocator;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    allocator::use_small_pages();
    match Action::from_matches(&cli::command().get_matches(), std::env::vars_os()) {
        Ok(Action::Serve(config)) => serve(*config),
        Ok(Action::Bench(arguments)) => bench(&arguments),
        Ok(Action::Print(text)) => print(&text),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

fn serve(config: Config) -> ExitCode {
    logging::init(config.logs.level, config.logs.format);
    match ringwire::serve::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> ExitCode {
    match bench::run(arguments) {
        Ok(verdict) => ExitCode::from(verdict.exit_status()),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

/// Writes to standard output; a reader that has seen enough is no failure.
fn print(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The exit status of a refused command line or setting, the one that `clap` uses as well.
const REFUSED: u8 = 2;
