//! The `ringwire` program.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use mimalloc::MiMalloc;
use ringwire::bench::{self, Arguments};
use ringwire::cli::{self, Action};
use ringwire::config::Config;
use ringwire::health::{Answer, Question};
use ringwire::logging;
use ringwire::memory::allocator;
use ringwire::output::{self, STANDARD_ERROR};
use ringwire::settings::{Layers, SettingError};
use ringwire::top;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    allocator::use_small_pages();
    match Action::from_matches(&cli::command().get_matches(), std::env::vars_os()) {
        Ok(Action::Serve { config, layers, warnings }) => serve(*config, layers, &warnings),
        Ok(Action::Bench(arguments)) => bench(&arguments),
        Ok(Action::Health(question)) => health(&question),
        Ok(Action::Top(arguments)) => top(&arguments),
        Ok(Action::Print { text, warnings }) => print(&text, &warnings),
        Err(error) => refuse(&error),
    }
}

fn serve(config: Config, layers: Layers, warnings: &[SettingError]) -> ExitCode {
    allocator::keep_until_asked();
    logging::init(config.logs.level, config.logs.format);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let status = match ringwire::serve::run(config, layers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            STANDARD_ERROR.write(format!("error: {error}\n").into_bytes());
            ExitCode::FAILURE
        }
    };
    output::flush();
    status
}

fn bench(arguments: &Arguments) -> ExitCode {
    match bench::run(arguments) {
        Ok(verdict) => ExitCode::from(verdict.exit_status()),
        Err(error) => refuse(&error),
    }
}

fn health(question: &Question) -> ExitCode {
    match question.ask() {
        Ok(Answer { is_well, text }) => {
            print(format!("{text}\n").as_bytes(), &[]);
            if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            complain("error", &error);
            ExitCode::FAILURE
        }
    }
}

fn top(arguments: &top::Arguments) -> ExitCode {
    match top::run(arguments) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(text)) => print(text.as_bytes(), &[]),
        Err(error) => {
            complain("error", &error);
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that has seen enough is no failure.
fn print(text: &[u8], warnings: &[SettingError]) -> ExitCode {
    for warning in warnings {
        complain("warning", warning);
    }
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain("error", &format!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn refuse(error: &dyn Display) -> ExitCode {
    complain("error", error);
    ExitCode::from(REFUSED)
}

/// Tells what is wrong. The exit status tells it as well, so nobody has to be able to read it.
fn complain(severity: &str, what: &dyn Display) {
    let _ = writeln!(io::stderr(), "{severity}: {what}");
}

/// The exit status of a refused command line or setting, the one that `clap` uses as well.
const REFUSED: u8 = 2;
