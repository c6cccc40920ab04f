//! A session whose frames leave by responses: what it has to say, and who is there to be told.
//!
//! At most one response at a time gets frames. What is to be said meanwhile waits, within bounds,
//! and the next response begins with it.

use std::collections::VecDeque;

use thiserror::Error;

use super::frame;
use super::transport::Transport;

/// A session, whose receiver is told by an `R`.
#[derive(Debug)]
pub struct Session<R> {
    has_begun: bool,
    closed: Option<Box<Closed>>,
    receiver: Option<Receiver<R>>,
    /// Messages that wait, as literals.
    waiting: VecDeque<Box<str>>,
    waiting_bytes: usize,
}

/// How a session was ended here.
#[derive(Debug)]
struct Closed {
    code: u16,
    reason: Box<str>,
}

/// The response that gets frames.
#[derive(Debug)]
struct Receiver<R> {
    who: R,
    transport: Transport,
    /// What a response that goes on may still have before it ends.
    left_bytes: usize,
}

/// Frames for the receiver, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The frames.
    pub frames: Vec<String>,
    /// Whether the response ends behind them: then there is no receiver any more.
    pub ends: bool,
}

/// More waits than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("more messages wait for the session than may")]
pub struct Full;

impl<R: Copy + PartialEq> Session<R> {
    /// One that has not begun.
    pub fn new() -> Self {
        Self {
            has_begun: false,
            closed: None,
            receiver: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// Who gets frames.
    pub fn receiver(&self) -> Option<R> {
        self.receiver.as_ref().map(|receiver| receiver.who)
    }

    /// Gives it a receiver, whose response may have so many bytes if it goes on; false if it has
    /// one.
    pub fn attach(&mut self, who: R, transport: Transport, limit_bytes: usize) -> bool {
        if self.receiver.is_some() {
            return false;
        }
        self.receiver = Some(Receiver { who, transport, left_bytes: limit_bytes });
        true
    }

    /// The receiver has gone.
    pub fn detach(&mut self) {
        self.receiver = None;
    }

    /// What is to be said now.
    pub fn serve(&mut self) -> Served {
        let mut served = Served::default();
        while let Some(receiver) = &mut self.receiver {
            let is_last = self.waiting.is_empty() && self.has_begun;
            let frame = if !std::mem::replace(&mut self.has_begun, true) {
                frame::OPEN.to_owned()
            } else if !self.waiting.is_empty() {
                self.waiting_bytes = 0;
                let literals = std::mem::take(&mut self.waiting);
                frame::of_messages(literals.iter().map(|it| &**it))
            } else if let Some(closed) = &self.closed {
                frame::of_close(closed.code, &closed.reason)
            } else {
                break;
            };
            served.ends = is_last || receiver.count(&frame);
            served.frames.push(frame);
            if served.ends {
                self.receiver = None;
            }
        }
        served
    }

    /// Says that it is still there.
    pub fn beat(&mut self) -> Served {
        let mut served = self.serve();
        if let Some(receiver) = &mut self.receiver {
            served.ends = receiver.count(frame::HEARTBEAT);
            served.frames.push(frame::HEARTBEAT.to_owned());
            if served.ends {
                self.receiver = None;
            }
        }
        served
    }

    /// How the receiver gets messages that are published to many, where it may get them as they
    /// are made for all.
    pub fn shares(&self) -> Option<(R, Transport)> {
        let receiver = self.receiver.as_ref()?;
        let is_free = self.has_begun && self.waiting.is_empty() && self.closed.is_none();
        (is_free && receiver.transport.is_streaming()).then_some((receiver.who, receiver.transport))
    }

    /// Takes note that the receiver has been sent so many bytes of those; whether its response ends
    /// behind them, and there is no receiver any more.
    pub fn note_shared(&mut self, bytes: usize) -> bool {
        let ends = self.receiver.as_mut().is_some_and(|receiver| receiver.take(bytes));
        if ends {
            self.receiver = None;
        }
        ends
    }

    /// Queues a message, which is a literal. Who was ended gets no more.
    ///
    /// # Errors
    /// More would wait than so many bytes.
    pub fn push(&mut self, literal: &str, bytes_most: usize) -> Result<(), Full> {
        if self.closed.is_some() {
            return Ok(());
        }
        let bytes = literal.len() + MESSAGE_BYTES;
        if !self.waiting.is_empty() && self.waiting_bytes + bytes > bytes_most {
            return Err(Full);
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(literal.into());
        Ok(())
    }

    /// Drops what has waited longest; false if nothing waits.
    pub fn drop_oldest(&mut self) -> bool {
        let dropped = self.waiting.pop_front();
        self.waiting_bytes -= dropped.as_ref().map_or(0, |it| it.len() + MESSAGE_BYTES);
        dropped.is_some()
    }

    /// Drops all that waits, and tells how many messages that was.
    pub fn drop_all(&mut self) -> usize {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting).len()
    }

    /// Ends it: that is said behind what waits, to each receiver from then on.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.closed.get_or_insert_with(|| Box::new(Closed { code, reason: reason.into() }));
    }

    /// Whether it has been ended here.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether it has something to say that it would say at once.
    pub fn has_to_say(&self) -> bool {
        !self.waiting.is_empty() || self.closed.is_some() || !self.has_begun
    }

    /// Memory of what waits.
    pub fn held_bytes(&self) -> usize {
        self.waiting_bytes
    }
}

impl<R: Copy + PartialEq> Default for Session<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Receiver<R> {
    /// Takes note of a frame; whether the response ends behind it.
    fn count(&mut self, frame: &str) -> bool {
        if !self.transport.is_streaming() {
            return true;
        }
        let mut part = String::new();
        self.transport.push(frame, "", &mut part);
        self.take(part.len())
    }

    /// Takes note of so many bytes; whether there were no more to have.
    fn take(&mut self, bytes: usize) -> bool {
        self.left_bytes = self.left_bytes.saturating_sub(bytes);
        self.left_bytes == 0
    }
}

/// What a message that waits takes beside its bytes.
const MESSAGE_BYTES: usize = size_of::<Box<str>>() + 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn served(session: &mut Session<u32>) -> (Vec<String>, bool) {
        let Served { frames, ends } = session.serve();
        (frames, ends)
    }

    fn frames(frames: &[&str]) -> Vec<String> {
        frames.iter().map(|&frame| frame.to_owned()).collect()
    }

    #[test]
    fn a_poll_gets_one_frame() {
        let mut session = Session::new();
        assert!(session.attach(1, Transport::Xhr, 0));
        assert_eq!(served(&mut session), (frames(&["o"]), true));
        assert!(session.attach(2, Transport::Xhr, 0));
        assert_eq!(served(&mut session), (vec![], false), "it waits");
        assert!(!session.attach(3, Transport::Xhr, 0), "there is one");
        session.push("\"a\"", 1000).unwrap();
        session.push("\"b\"", 1000).unwrap();
        assert_eq!(served(&mut session), (frames(&["a[\"a\",\"b\"]"]), true));
        session.attach(4, Transport::Jsonp, 0);
        assert_eq!(session.beat(), Served { frames: frames(&["h"]), ends: true });
        assert_eq!(session.beat(), Served::default(), "nobody is there");
    }

    #[test]
    fn a_stream_ends_behind_as_many_bytes_as_it_may_have() {
        let mut session = Session::new();
        session.attach(1, Transport::XhrStreaming, 12);
        assert_eq!(served(&mut session), (frames(&["o"]), false));
        assert_eq!(session.shares(), Some((1, Transport::XhrStreaming)));
        session.push("\"1\"", 1000).unwrap();
        assert_eq!(session.shares(), None, "what waits goes first");
        assert_eq!(served(&mut session), (frames(&["a[\"1\"]"]), false), "7 and 2 of 12");
        assert!(!session.note_shared(2));
        assert!(session.note_shared(1));
        assert_eq!((session.receiver(), session.shares()), (None, None));
    }

    #[test]
    fn its_end_is_told_behind_what_waits_and_to_everybody_later() {
        let mut session = Session::new();
        session.attach(1, Transport::XhrStreaming, 1000);
        session.push("\"1\"", 1000).unwrap();
        session.close(3000, "Go away!");
        session.close(1001, "later");
        session.push("\"2\"", 1000).unwrap();
        let close = "c[3000,\"Go away!\"]";
        assert_eq!(served(&mut session), (frames(&["o", "a[\"1\"]", close]), true));
        for who in 2..4 {
            assert!(
                session.attach(who, Transport::Xhr, 0),
                "it is told the end, not that it waits"
            );
            assert_eq!(served(&mut session), (frames(&[close]), true));
        }
    }

    #[test]
    fn what_waits_is_bounded_but_one_message_always_may() {
        let mut session = Session::<u32>::new();
        let long = format!("\"{}\"", "x".repeat(5000));
        session.push(&long, 1000).unwrap();
        assert_eq!(session.push("\"a\"", 1000), Err(Full));
        assert!(session.drop_oldest() && !session.drop_oldest());
        assert_eq!(session.held_bytes(), 0);
        session.push("\"a\"", 1000).unwrap();
        assert_eq!((session.drop_all(), session.held_bytes()), (1, 0));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Attach(Transport),
        Abort,
        Push,
        Share,
        Beat,
        Close,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let transports = prop::sample::select(vec![
            Transport::Xhr,
            Transport::XhrStreaming,
            Transport::EventSource,
            Transport::HtmlFile,
            Transport::Jsonp,
        ]);
        let act = prop_oneof![
            4 => transports.prop_map(Act::Attach),
            1 => Just(Act::Abort),
            6 => Just(Act::Push),
            2 => Just(Act::Share),
            1 => Just(Act::Beat),
            1 => Just(Act::Close),
        ];
        prop::collection::vec(act, 0..60)
    }

    proptest! {
        /// The oracle keeps every frame of every response, and reads them as a client does.
        #[test]
        fn clients_get_all_messages_in_order_and_once(acts in acts(), limit in 1_usize..200) {
            let mut session = Session::new();
            let (mut said, mut pushed, mut closes_at) = (Vec::new(), 0_u32, None);
            let mut receiver: Option<Transport> = None;
            for (who, act) in (0_u32..).zip(acts) {
                let mut served = Served::default();
                match act {
                    Act::Attach(transport) => {
                        let attached = session.attach(who, transport, limit);
                        prop_assert_eq!(attached, receiver.is_none());
                        if attached {
                            receiver = Some(transport);
                        }
                        served = session.serve();
                    }
                    Act::Abort => {
                        session.detach();
                        receiver = None;
                    }
                    Act::Push => {
                        session.push(&format!("\"{pushed}\""), usize::MAX).unwrap();
                        pushed += u32::from(closes_at.is_none());
                        served = session.serve();
                    }
                    Act::Share => {
                        if let Some((_, transport)) = session.shares() {
                            prop_assert_eq!(Some(transport), receiver);
                            let frame = format!("a[\"{pushed}\"]");
                            let ends = session.note_shared(frame.len());
                            served = Served { frames: vec![frame], ends };
                            pushed += 1;
                        }
                    }
                    Act::Beat => served = session.beat(),
                    Act::Close => {
                        session.close(3000, "");
                        closes_at.get_or_insert(pushed);
                        served = session.serve();
                    }
                }
                prop_assert!(receiver.is_some() || served.frames.is_empty());
                if receiver.is_some_and(|it| !it.is_streaming()) {
                    prop_assert!(served.frames.len() <= 1, "a poll gets one frame");
                    prop_assert_eq!(served.ends, served.frames.len() == 1);
                }
                said.extend(served.frames);
                if served.ends {
                    receiver = None;
                }
                prop_assert_eq!(session.receiver().is_some(), receiver.is_some());
            }
            let frames: Vec<_> = said.iter().filter(|frame| *frame != "h").collect();
            prop_assert!(frames.first().is_none_or(|frame| *frame == "o"));
            let opens = frames.iter().filter(|frame| **frame == "o").count();
            prop_assert_eq!(opens, frames.len().min(1));
            let closes = frames.iter().skip_while(|frame| !frame.starts_with('c'));
            prop_assert!(closes.clone().all(|frame| *frame == "c[3000,\"\"]"));
            let messages = frames.iter().filter_map(|frame| frame.strip_prefix('a'));
            let messages = messages.flat_map(|it| serde_json::from_str::<Vec<String>>(it).unwrap());
            let messages: Vec<u32> = messages.map(|it| it.parse().unwrap()).collect();
            let expected: Vec<_> = (0..messages.len() as u32).collect();
            prop_assert_eq!(&messages, &expected, "in order, and once");
            if closes.count() > 0 {
                prop_assert_eq!(Some(messages.len() as u32), closes_at, "all before the end");
            }
        }
    }
}
