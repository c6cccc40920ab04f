//! The requests of one connection, one after the other, however their bytes arrive.

use super::{Answer, Policy, Serving, answer};

/// Where a connection is among its requests; owns nothing between two of them.
#[derive(Debug, Default)]
pub struct Exchange {
    partial: Option<Box<Partial>>,
    /// Whether nothing the peer sends matters any more.
    is_ended: bool,
}

/// What there is of an incomplete request; boxed, because an idle connection has none.
#[derive(Debug)]
struct Partial {
    head: Vec<u8>,
}

impl Exchange {
    /// Takes bytes from the start of `input`: all of them when the answer is
    /// [`Answer::Incomplete`], else those that it says.
    pub fn receive(
        &mut self,
        input: &[u8],
        policy: &Policy,
        serving: Serving,
        stats: &dyn Fn() -> String,
    ) -> Answer {
        debug_assert!(!self.is_ended, "nobody asks any more");
        let Some(mut partial) = self.partial.take() else {
            let answer = answer(input, policy, serving, stats);
            if answer == Answer::Incomplete {
                self.partial = Some(Box::new(Partial { head: input.to_vec() }));
            }
            return answer;
        };
        let head = &mut partial.head;
        let carried = head.len();
        let room = policy.request_head_bytes.saturating_sub(carried);
        let fresh = &input[..room.min(input.len())];
        head.extend_from_slice(fresh);
        // A head ends with a line, so only a line's end, or the limit, makes it worth another look.
        let is_worth_a_look = fresh.contains(&b'\n') || head.len() >= policy.request_head_bytes;
        let mut answer = match is_worth_a_look {
            true => answer(head, policy, serving, stats),
            false => Answer::Incomplete,
        };
        match &mut answer {
            Answer::Incomplete => self.partial = Some(partial),
            Answer::Upgrade { consumed, .. } | Answer::Respond { consumed, .. } => {
                debug_assert!(*consumed >= carried, "what came before was incomplete");
                *consumed -= carried;
            }
        }
        answer
    }

    /// Ends it: whatever the peer sends from now on is of no interest.
    pub fn end(&mut self) {
        *self = Self { partial: None, is_ended: true };
    }

    /// Whether nothing the peer sends matters any more.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Whether a request has begun that is not complete.
    pub fn has_partial_request(&self) -> bool {
        self.partial.is_some()
    }

    /// Bytes of memory that an incomplete request takes.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.head.capacity())
    }
}
