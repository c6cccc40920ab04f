//! Text for standard output and standard error that makes nobody wait: the log and the counters.
//!
//! Both may be a pipe that nobody reads, a full disk, or closed. So a thread of its own writes each
//! of them, from a queue with an end. What finds no room, or cannot be written, is lost and
//! counted, and the log says so once writing works again. Whoever writes here goes on at once.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Standard output.
pub static STANDARD_OUTPUT: Output = Output::new("standard output", || duplicate(io::stdout()));
/// Standard error.
pub static STANDARD_ERROR: Output = Output::new("standard error", || duplicate(io::stderr()));

/// A descriptor of our own, because a write to the standard library's holds a lock that the end of
/// the process would wait for. Where no descriptor is left, that one must do, for the message that
/// says so.
fn duplicate(stream: impl AsFd + Write + Send + 'static) -> Box<dyn Write + Send> {
    match stream.as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(stream),
    }
}

/// Waits until both streams have taken what was written, but no longer than a moment in all: for
/// the end of the process, which nobody who does not read may hold up.
pub fn flush() {
    let deadline = Instant::now() + FLUSH_TIME;
    STANDARD_OUTPUT.flush(deadline);
    STANDARD_ERROR.flush(deadline);
}

/// A stream with its queue.
pub struct Output {
    name: &'static str,
    open: Open,
    queue: Mutex<Queue>,
    /// Signalled when the queue has got something to write, and when it has none left.
    changed: Condvar,
}

/// Opens a stream.
type Open = fn() -> Box<dyn Write + Send>;

struct Queue {
    texts: VecDeque<Vec<u8>>,
    /// Bytes of the texts, the one that is being written included.
    bytes: usize,
    /// Whether there is a thread that writes.
    has_writer: bool,
    /// Texts lost since the log last told.
    lost: u64,
}

impl Output {
    const fn new(name: &'static str, open: Open) -> Self {
        let queue = Queue { texts: VecDeque::new(), bytes: 0, has_writer: false, lost: 0 };
        Self { name, open, queue: Mutex::new(queue), changed: Condvar::new() }
    }

    /// Queues `text`, which is written whole or lost.
    pub fn write(&'static self, text: Vec<u8>) {
        let mut queue = self.lock();
        queue.has_writer = queue.has_writer || self.start_writer().is_ok();
        // A text longer than the whole queue may hold finds room when nothing else is there.
        if !queue.has_writer || (queue.bytes > 0 && queue.bytes + text.len() > QUEUE_BYTES_MAX) {
            queue.lost += 1;
            return;
        }
        queue.bytes += text.len();
        queue.texts.push_back(text);
        self.changed.notify_all();
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
        let stream = (self.open)();
        let thread = thread::Builder::new().name("output".to_owned());
        thread.spawn(|| self.write_for_ever(stream)).map(drop)
    }

    fn write_for_ever(&self, mut stream: Box<dyn Write + Send>) {
        let mut queue = self.lock();
        loop {
            let Some(text) = queue.texts.pop_front() else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let written = write_whole(&mut stream, &text);
            queue = self.lock();
            queue.bytes -= text.len();
            let lost = match written {
                Ok(()) => std::mem::take(&mut queue.lost),
                Err(_) => {
                    queue.lost += 1;
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

/// Writes all of `text`, also where another process has made the shared terminal or pipe
/// non-blocking.
fn write_whole(stream: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match stream.write(text) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => text = text.get(count..).unwrap_or_default(),
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
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

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
        static OUTPUT: Output = Output::new("blocked", || Box::new(Blocked));
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
        static OUTPUT: Output = Output::new("closed", || Box::new(Closed));
        for count in 1..=3 {
            OUTPUT.write(b"text".to_vec());
            OUTPUT.flush(Instant::now() + Duration::from_secs(60));
            assert_eq!(taken(&OUTPUT), (0, count));
        }
    }
}
