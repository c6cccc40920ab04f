//! The counters as text, made no more often than a tick of the timers, however many ask.

use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// The text made last. Whoever asks gets one that is no older than the question: a question within
/// [`PAUSE`] of the last making waits for the next, together with all others that do.
#[derive(Default)]
pub(super) struct Report(Mutex<Option<Made>>);

struct Made {
    /// When the making began.
    at: Instant,
    text: Bytes,
}

impl Report {
    /// The text, which `make` makes where there is none that is young enough.
    pub(super) async fn text(&self, make: impl FnOnce() -> String) -> Bytes {
        let asked = Instant::now();
        let mut made = self.0.lock().await;
        if let Some(made) = made.as_ref() {
            if made.at >= asked {
                return made.text.clone();
            }
            sleep_until(made.at + PAUSE).await;
        }
        let at = Instant::now();
        let text = Bytes::from(make());
        *made = Some(Made { at, text: text.clone() });
        text
    }
}

/// Lets one after the other begin, no sooner than [`PAUSE`] after the one before: for what is made
/// for each who asks.
#[derive(Default)]
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Waits for one's turn.
    pub(super) async fn wait(&self) {
        let mut last = self.0.lock().await;
        if let Some(last) = *last {
            sleep_until(last + PAUSE).await;
        }
        *last = Some(Instant::now());
    }
}

/// Between the beginnings of two makings.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn one_after_the_other_has_its_turn() {
        let (pace, begin) = (Pace::default(), Instant::now());
        join_all((0..3).map(|_| pace.wait())).await;
        assert!(begin.elapsed() >= 2 * PAUSE);
    }

    #[tokio::test]
    async fn those_who_ask_together_get_one_text_no_older_than_their_question() {
        let (report, makings) = (Report::default(), Cell::new(0));
        let ask = || {
            report.text(|| {
                makings.set(makings.get() + 1);
                makings.get().to_string()
            })
        };
        let begin = Instant::now();
        assert_eq!(ask().await, "1");
        let texts = join_all((0..64).map(|_| ask())).await;
        assert_eq!(makings.get(), 2);
        assert!(texts.iter().all(|text| text == "2"));
        assert!(begin.elapsed() >= PAUSE);
        assert_eq!(ask().await, "3");
    }
}
