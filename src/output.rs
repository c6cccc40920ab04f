//! Text that makes nobody wait: the log and the counters on standard error and standard output, and
//! the access log.
//!
//! Each may be a pipe that nobody reads, a full disk, or closed. So a thread of its own writes each
//! of them, from a queue with an end. What finds no room, or cannot be written, is lost and
//! counted, and the log says so once writing works again. Whoever writes here goes on at once.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use crate::config::AccessLog;

/// Standard output.
pub static STANDARD_OUTPUT: Output = Output::new("standard output", || Ok(duplicate(io::stdout())));
/// Standard error.
pub static STANDARD_ERROR: Output = Output::new("standard error", || Ok(duplicate(io::stderr())));
/// The access log, once it is [open](open_access_log).
pub static ACCESS_LOG: Output = Output::new("access log", || {
    // Nobody writes to a log that has not been opened.
    open_place(ACCESS_LOG_PLACE.get().unwrap_or(&AccessLog::Off))
});
static ACCESS_LOG_PLACE: OnceLock<AccessLog> = OnceLock::new();

/// The access log cannot be written where it is to go.
#[derive(Debug, Error)]
#[error("cannot write the access log to {place}: {error}; --access-log off expects none")]
pub struct AccessLogError {
    place: AccessLog,
    error: io::Error,
}

/// Opens the access log of this process, or none.
///
/// # Errors
/// When it cannot be written.
pub fn open_access_log(place: &AccessLog) -> Result<(), AccessLogError> {
    if let Err(error) = open_place(place) {
        return Err(AccessLogError { place: place.clone(), error });
    }
    // A process has one.
    let _ = ACCESS_LOG_PLACE.set(place.clone());
    Ok(())
}

fn open_place(place: &AccessLog) -> io::Result<Box<dyn Write + Send>> {
    Ok(match place {
        AccessLog::Off => Box::new(io::sink()),
        // Without waiting for somebody who reads, of a pipe or of a socket.
        AccessLog::File(path) => {
            let mut options = OpenOptions::new();
            options.append(true).create(true).custom_flags(libc::O_NONBLOCK);
            Box::new(options.open(path)?)
        }
        AccessLog::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
            socket.connect(&SockAddr::unix(path)?)?;
            Box::new(socket)
        }
    })
}

/// A descriptor of our own, because a write to the standard library's holds a lock that the end of
/// the process would wait for. Where no descriptor is left, that one must do, for the message that
/// says so.
fn duplicate(stream: impl AsFd + Write + Send + 'static) -> Box<dyn Write + Send> {
    match stream.as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(stream),
    }
}

/// JSON without characters that a terminal obeys or that turn the direction of a text, which a peer
/// may have put into a name or a reason: DEL, those of C1, line separators, and marks of direction.
pub fn without_controls(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if is_control(character) {
            // All of them are below U+10000, and stand within texts.
            let _ = write!(text, "\\u{:04x}", u32::from(character));
        } else {
            text.push(character);
        }
    }
    text
}

/// Whether a terminal may obey a character that JSON does not escape.
pub fn is_control(character: char) -> bool {
    let is_mark = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || is_mark
}

/// Waits until all streams have taken what was written, but no longer than a moment in all: for
/// the end of the process, which nobody who does not read may hold up.
pub fn flush() {
    let deadline = Instant::now() + FLUSH_TIME;
    STANDARD_OUTPUT.flush(deadline);
    ACCESS_LOG.flush(deadline);
    STANDARD_ERROR.flush(deadline);
}

/// A stream with its queue.
pub struct Output {
    name: &'static str,
    open: Open,
    queue: Mutex<Queue>,
    /// Signalled when the queue has got something to write, and when it has none left.
    changed: Condvar,
    /// Texts lost since the start.
    lost: AtomicU64,
}

/// Opens a stream.
type Open = fn() -> io::Result<Box<dyn Write + Send>>;

struct Queue {
    texts: VecDeque<Vec<u8>>,
    /// Bytes of the texts, the one that is being written included.
    bytes: usize,
    /// Whether there is a thread that writes.
    has_writer: bool,
    /// Whether the stream is to be opened anew before the next text.
    must_reopen: bool,
    /// Texts lost since the log last told.
    lost: u64,
}

impl Output {
    const fn new(name: &'static str, open: Open) -> Self {
        let queue = Queue {
            texts: VecDeque::new(),
            bytes: 0,
            has_writer: false,
            must_reopen: false,
            lost: 0,
        };
        let lost = AtomicU64::new(0);
        Self { name, open, queue: Mutex::new(queue), changed: Condvar::new(), lost }
    }

    /// Queues `text`, which is written whole or lost.
    pub fn write(&'static self, text: Vec<u8>) {
        let mut queue = self.lock();
        queue.has_writer = queue.has_writer || self.start_writer().is_ok();
        // A text longer than the whole queue may hold finds room when nothing else is there.
        if !queue.has_writer || (queue.bytes > 0 && queue.bytes + text.len() > QUEUE_BYTES_MAX) {
            self.lose(&mut queue);
            return;
        }
        queue.bytes += text.len();
        queue.texts.push_back(text);
        // Nobody who is woken has to wait for the lock at once.
        drop(queue);
        self.changed.notify_all();
    }

    /// Opens the stream anew before the next text: what it led to has another name, perhaps.
    pub fn reopen(&self) {
        self.lock().must_reopen = true;
    }

    /// Texts lost since the start.
    pub fn lost(&self) -> u64 {
        // No partner: nothing is published along with it.
        self.lost.load(Ordering::Relaxed)
    }

    fn lose(&self, queue: &mut Queue) {
        queue.lost += 1;
        // No partner, as above.
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until everything is written or lost, until `deadline` at the latest.
    fn flush(&self, deadline: Instant) {
        let mut queue = self.lock();
        while queue.bytes > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(queue, left);
            (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn start_writer(&'static self) -> io::Result<()> {
        let thread = thread::Builder::new().name("output".to_owned());
        thread.spawn(|| self.write_for_ever()).map(drop)
    }

    fn write_for_ever(&self) {
        let mut stream: Option<Box<dyn Write + Send>> = None;
        // Whether the last text was cut off within a line.
        let mut is_torn = false;
        let mut queue = self.lock();
        loop {
            let Some(text) = queue.texts.pop_front() else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let must_reopen = std::mem::take(&mut queue.must_reopen);
            drop(queue);
            // What has failed is opened anew as well: a socket has another listener, perhaps.
            let opened = match stream.take().filter(|_| !must_reopen) {
                Some(stream) => Ok(stream),
                None => (self.open)(),
            };
            let written = opened.and_then(|mut stream| {
                if is_torn {
                    write_whole(&mut stream, b"\n", &mut is_torn)?;
                }
                write_whole(&mut stream, &text, &mut is_torn)?;
                Ok(stream)
            });
            queue = self.lock();
            queue.bytes -= text.len();
            let lost = match written {
                Ok(written) => {
                    stream = Some(written);
                    std::mem::take(&mut queue.lost)
                }
                Err(_) => {
                    self.lose(&mut queue);
                    0
                }
            };
            if lost > 0 {
                drop(queue);
                // Through the same queue when this is the log, so without waiting.
                tracing::warn!(stream = self.name, texts = lost, "output was lost");
                queue = self.lock();
            }
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No panic leaves a queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all of `text`, also where the stream does not block, by our will or that of another
/// process that shares a terminal or pipe. Tells whether a part of it alone `is_torn` off.
fn write_whole(stream: &mut impl Write, mut text: &[u8], is_torn: &mut bool) -> io::Result<()> {
    while !text.is_empty() {
        match stream.write(text) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                text = text.get(count..).unwrap_or_default();
                *is_torn = !text.is_empty();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_TIME),
            Err(error) => return Err(error),
        }
    }
    stream.flush()
}

/// What a queue holds at the most: thousands of log lines.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// How long the end of the process may wait for readers.
const FLUSH_TIME: Duration = Duration::from_millis(500);
/// Between two tries on a stream that is full and does not block.
const RETRY_TIME: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn no_terminal_obeys_what_json_does_not_escape() {
        let json = "{\"reason\":\"a\u{9b}31m\u{7f}\u{202e}\u{e9}\\n\"}";
        let text = without_controls(json);
        assert_eq!(text, "{\"reason\":\"a\\u009b31m\\u007f\\u202e\u{e9}\\n\"}");
        let same: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), same);
    }

    #[test]
    fn what_is_cut_off_is_known() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let taken = bytes.len().min(self.0);
                self.0 -= taken;
                if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut is_torn = false;
        assert!(write_whole(&mut Full(5), b"a line\n", &mut is_torn).is_err() && is_torn);
        is_torn = false;
        assert!(write_whole(&mut Full(0), b"a line\n", &mut is_torn).is_err() && !is_torn);
        assert!(write_whole(&mut Full(7), b"a line\n", &mut is_torn).is_ok() && !is_torn);
    }

    fn taken(output: &Output) -> (usize, u64) {
        let queue = output.lock();
        (queue.bytes, queue.lost)
    }

    /// A stream that takes nothing until it is opened, and then everything.
    struct Blocked;

    static IS_READ: AtomicBool = AtomicBool::new(false);
    static READ: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Pairs with the store of the test, which changes nothing else before it.
            while !IS_READ.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            let some = bytes.len().min(1000);
            READ.lock().unwrap().extend(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stream_that_takes_nothing_loses_what_does_not_fit_and_holds_up_nobody() {
        static OUTPUT: Output = Output::new("blocked", || Ok(Box::new(Blocked)));
        for _ in 0..100 {
            OUTPUT.write(vec![b'x'; QUEUE_BYTES_MAX / 10]);
        }
        assert_eq!(taken(&OUTPUT), (QUEUE_BYTES_MAX / 10 * 10, 90));
        OUTPUT.flush(Instant::now() + Duration::from_millis(1));
        assert_eq!(taken(&OUTPUT), (QUEUE_BYTES_MAX / 10 * 10, 90));
        IS_READ.store(true, Ordering::Relaxed);
        OUTPUT.flush(Instant::now() + Duration::from_secs(60));
        assert_eq!(READ.lock().unwrap().len(), QUEUE_BYTES_MAX / 10 * 10);
        assert_eq!(taken(&OUTPUT), (0, 0), "what was lost is told");
        assert_eq!(OUTPUT.lost(), 90);
        OUTPUT.write(vec![b'x'; 2 * QUEUE_BYTES_MAX]);
        OUTPUT.flush(Instant::now() + Duration::from_secs(60));
        assert_eq!(taken(&OUTPUT), (0, 0), "one text may be longer than the queue");
    }

    /// A stream that is closed at its other end.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stream_that_fails_loses_every_text_and_is_tried_again() {
        static OUTPUT: Output = Output::new("closed", || Ok(Box::new(Closed)));
        for count in 1..=3 {
            OUTPUT.write(b"text".to_vec());
            OUTPUT.flush(Instant::now() + Duration::from_secs(60));
            assert_eq!(taken(&OUTPUT), (0, count));
        }
    }

    #[test]
    fn a_log_that_was_renamed_goes_on_under_its_own_name_once_it_is_opened_anew() {
        let name = format!("ringwire-access-log-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        static PLACE: OnceLock<AccessLog> = OnceLock::new();
        static OUTPUT: Output = Output::new("file", || open_place(PLACE.get().unwrap()));
        let path = directory.join("log");
        PLACE.set(AccessLog::File(path.clone())).unwrap();
        let write = |text: &str| {
            OUTPUT.write(text.as_bytes().to_vec());
            OUTPUT.flush(Instant::now() + Duration::from_secs(60));
        };
        write("one\n");
        let renamed = directory.join("log.1");
        std::fs::rename(&path, &renamed).unwrap();
        write("two\n");
        OUTPUT.reopen();
        write("three\n");
        assert_eq!(std::fs::read_to_string(renamed).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "three\n");
        let nowhere = AccessLog::File(directory.join("none").join("log"));
        let told = open_access_log(&nowhere).unwrap_err().to_string();
        assert!(told.contains("cannot write the access log to") && told.contains("none/log"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
