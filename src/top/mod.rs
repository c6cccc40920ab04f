//! `ringwire top`: watches a running server in the terminal, by way of its admin listener.

mod metrics;
mod panel;
mod quantity;
mod screen;
mod snapshot;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use screen::Screen;
use snapshot::Snapshot;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver};

use crate::admin_client;
use crate::config::{Admin, ListenAddress};

/// What is watched, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The admin listener of the server.
    pub admin: Admin,
    /// Whether what is true now is told once as text, and that is all.
    pub is_once: bool,
}

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is nobody to ask, or nobody knows where.
    #[error("--admin is {0}: name the address of the admin listener, `ringwire top ADDRESS`")]
    NoAddress(Admin),
    /// Nobody answers from the beginning.
    #[error("{address} does not answer: {error}")]
    Unreached {
        /// Where the server was looked for.
        address: ListenAddress,
        /// Why not.
        error: io::Error,
    },
    /// The terminal does not do what it should.
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// Watches until somebody ends it. The text is what is to be printed instead, where there is no
/// terminal or it was wanted.
///
/// # Errors
/// A [`Failure`]; the terminal is as it was before.
pub fn run(arguments: &Arguments) -> Result<Option<String>, Failure> {
    let Some(address) = admin_client::address(&arguments.admin) else {
        return Err(Failure::NoAddress(arguments.admin.clone()));
    };
    let ask = || {
        Snapshot::take(&address)
            .map_err(|error| Failure::Unreached { address: address.clone(), error })
    };
    let mut screen = Screen::new(address.to_string());
    screen.take(Ok(ask()?));
    if arguments.is_once || !io::stdout().is_terminal() {
        // Rates need two answers.
        thread::sleep(PERIOD);
        screen.take(Ok(ask()?));
        return Ok(Some(screen.text(PRINTED_COLUMNS)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        // Also restores the terminal when the program panics.
        let mut terminal = ratatui::try_init()?;
        watch(&mut terminal, &mut screen, address).await
    });
    ratatui::try_restore()?;
    // The threads that wait for keys and answers end with the process.
    runtime.shutdown_background();
    result.map(|()| None).map_err(Failure::Terminal)
}

/// Draws whenever there is something new, until a key or a signal ends it.
async fn watch(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    address: ListenAddress,
) -> io::Result<()> {
    let is_paused = Arc::new(AtomicBool::new(false));
    let mut answers = answers(address, is_paused.clone())?;
    let mut events = events()?;
    let mut ends = Ends::new()?;
    loop {
        terminal.draw(|frame| frame.render_widget(&*screen, frame.area()))?;
        tokio::select! {
            () = ends.one() => return Ok(()),
            answer = answers.recv() => match answer {
                // What was under way when the pause began is not shown.
                Some(answer) if !screen.is_paused => screen.take(answer),
                _ => {}
            },
            event = events.recv() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if is_end(key) {
                        return Ok(());
                    }
                    press(screen, key.code);
                    is_paused.store(screen.is_paused, Ordering::Relaxed);
                }
                // A new size is seen when all is drawn again.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}

/// The signals that end it.
struct Ends([Signal; 3]);

impl Ends {
    fn new() -> io::Result<Self> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [terminate, interrupt, hangup] = kinds.map(signal);
        Ok(Self([terminate?, interrupt?, hangup?]))
    }

    async fn one(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn is_end(key: KeyEvent) -> bool {
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
    key.code == KeyCode::Char('q') || is_interrupt
}

/// Does what a key says.
fn press(screen: &mut Screen, key: KeyCode) {
    let last = screen.rows().saturating_sub(1);
    let mut choose = |places| {
        screen.panel = screen.panel.further(places);
        screen.skipped = 0;
    };
    match key {
        KeyCode::Tab | KeyCode::Right => choose(1),
        KeyCode::BackTab | KeyCode::Left => choose(panel::Panel::ALL.len() - 1),
        KeyCode::Down => screen.skipped = (screen.skipped + 1).min(last),
        KeyCode::PageDown => screen.skipped = (screen.skipped + 10).min(last),
        KeyCode::Up => screen.skipped = screen.skipped.saturating_sub(1),
        KeyCode::PageUp => screen.skipped = screen.skipped.saturating_sub(10),
        KeyCode::Char('p') => screen.is_paused = !screen.is_paused,
        KeyCode::Char('?') => screen.tells_keys = !screen.tells_keys,
        _ => {}
    }
}

/// Asks on a thread of its own, so that a server which does not answer holds up no key.
fn answers(
    address: ListenAddress,
    is_paused: Arc<AtomicBool>,
) -> io::Result<Receiver<Result<Snapshot, String>>> {
    let (sender, receiver) = mpsc::channel(1);
    let ask = move || {
        loop {
            thread::sleep(PERIOD);
            if is_paused.load(Ordering::Relaxed) {
                continue;
            }
            let answer = Snapshot::take(&address).map_err(|error| error.to_string());
            if sender.blocking_send(answer).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("answers".to_owned()).spawn(ask)?;
    Ok(receiver)
}

/// What happens at the terminal, read on a thread of its own.
fn events() -> io::Result<Receiver<io::Result<Event>>> {
    let (sender, receiver) = mpsc::channel(16);
    let read = move || {
        loop {
            let event = event::read();
            let is_last = event.is_err();
            if sender.blocking_send(event).is_err() || is_last {
                return;
            }
        }
    };
    thread::Builder::new().name("events".to_owned()).spawn(read)?;
    Ok(receiver)
}

/// Between two questions.
const PERIOD: Duration = Duration::from_secs(1);
/// The width of what is printed.
const PRINTED_COLUMNS: u16 = 100;
