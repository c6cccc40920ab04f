//! Mail: letters to one participant, beside the broadcast rings.
//!
//! Each participant has one inbox, bounded in letters and in bytes. Nobody waits for mail within a
//! tick: without a place a sender keeps what it has and tries in a later one, and a receiver takes
//! a bounded number. A request takes two places before it is sent, one in the receiver's inbox and
//! one in that of its sender, and carries the second along: the answer has it for certain.
//!
//! Memory: an inbox takes less than 4 KiB while it is empty, and its letters hold
//! [`LETTER_BYTES_MAX`] at the most. With 108 shards and the control thread all inboxes together
//! take less than half a MiB, and 28 MiB if every one were full.

use super::Endpoint;
use crate::hub::inbox::{Address, Inbox, NoPlace, Place, inbox};

impl<T, L: Send> Endpoint<T, L> {
    /// Takes a place in the inbox of the participant `number`, which may be this one, for a letter
    /// that holds so many `bytes` beside itself. Until it is filled or dropped nobody else has it.
    ///
    /// # Errors
    /// When the inbox is full, or its owner takes no letters any more.
    pub fn take_place(&self, number: usize, bytes: u32) -> Result<Place<L>, NoPlace> {
        self.addresses[number].take_place(bytes)
    }

    /// Sends a letter to where its place is. A receiver that is asleep sees it after the next
    /// [`take_wakeups`](Self::take_wakeups).
    pub fn post(&mut self, place: Place<L>, letter: L) {
        let receiver = place.receiver();
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.number == receiver) {
            (peer.posted, self.posted) = (true, true);
        }
        place.fill(letter);
    }

    /// Takes out the next letter to this participant.
    pub fn next_letter(&mut self) -> Option<L> {
        self.inbox.next()
    }

    /// Gives no more places away in this participant's inbox. Those that are taken can still be
    /// filled, so it goes on reading until [`is_inbox_quiet`](Self::is_inbox_quiet).
    pub fn close_inbox(&self) {
        self.inbox.close();
    }

    /// Whether no place of this participant's inbox is taken, and no letter in it.
    pub fn is_inbox_quiet(&self) -> bool {
        self.inbox.is_quiet()
    }
}

/// The inboxes of all participants, and where to send to them.
pub(super) fn inboxes<L: Send>(participants: usize) -> (Vec<Inbox<L>>, Vec<Address<L>>) {
    (0..participants).map(|number| inbox(number, LETTERS_MAX, LETTER_BYTES_MAX)).unzip()
}

/// Letters of one inbox, and places that are taken for them. Few in debug builds, so that tests
/// see it full.
const LETTERS_MAX: usize = if cfg!(debug_assertions) { 4 } else { 64 };
/// What the letters of one inbox hold together.
pub const LETTER_BYTES_MAX: u32 = 256 << 10;

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;
    use crate::hub::inbox::inbox_bytes;
    use crate::hub::mesh::Mesh;

    /// What is asked and answered; a question brings the place of its answer.
    enum Letter {
        Question(Place<Letter>),
        Answer,
    }

    type Pair = [Endpoint<u32, Letter>; 2];

    fn pair() -> Pair {
        Mesh::new(2, 1).try_into().ok().unwrap()
    }

    fn ask(endpoint: &mut Endpoint<u32, Letter>, own: usize, other: usize) -> Result<(), NoPlace> {
        let answer = endpoint.take_place(own, 0)?;
        let question = endpoint.take_place(other, 0)?;
        endpoint.post(question, Letter::Question(answer));
        Ok(())
    }

    /// Both fill each other's inbox with questions, as long as there is a place. Whoever needed a
    /// place for an answer only then would wait for the other to read, and the other for it.
    #[test]
    fn two_full_inboxes_do_not_wait_for_each_other() {
        let mut pair = pair();
        let mut asked = [0, 0];
        while asked.iter().sum::<usize>() < 1000 {
            let before = asked;
            for (own, endpoint) in pair.iter_mut().enumerate() {
                asked[own] += usize::from(ask(endpoint, own, 1 - own).is_ok());
            }
            if asked != before {
                continue;
            }
            assert_eq!(ask(&mut pair[0], 0, 1), Err(NoPlace::Full));
            let mut answered = 0;
            for own in [0, 1, 0] {
                let endpoint = &mut pair[own];
                while let Some(letter) = endpoint.next_letter() {
                    match letter {
                        Letter::Question(place) => endpoint.post(place, Letter::Answer),
                        Letter::Answer => answered += 1,
                    }
                }
            }
            assert!(answered > 0, "nobody gets an answer any more");
        }
    }

    #[test]
    fn a_letter_wakes_its_receiver_alone() {
        let [mut one, mut two, mut three] = Mesh::<u32, u32>::new(3, 1).try_into().ok().unwrap();
        assert!(two.prepare_sleep() && three.prepare_sleep());
        let place = one.take_place(2, 5).ok().unwrap();
        one.post(place, 7);
        assert!(!one.prepare_sleep(), "a wake-up is owed");
        assert_eq!(one.take_wakeups().collect::<Vec<_>>(), [2]);
        assert!(!three.prepare_sleep(), "a letter waits");
        assert_eq!(
            (two.next_letter(), three.next_letter(), three.next_letter()),
            (None, Some(7), None)
        );
        assert!(three.prepare_sleep());
    }

    #[test]
    fn who_has_left_gets_no_letters() {
        let [mut stays, leaves] = pair();
        let place = stays.take_place(1, 0).ok().unwrap();
        leaves.leave();
        assert_eq!(stays.take_place(1, 0).err(), Some(NoPlace::Closed));
        stays.post(place, Letter::Answer);
        assert!(stays.is_inbox_quiet());
    }

    #[test]
    fn what_all_inboxes_take_is_as_little_as_it_says() {
        const PARTICIPANTS: usize = 109;
        let empty_bytes = PARTICIPANTS * inbox_bytes::<[usize; 4]>(64);
        assert!(empty_bytes < 512 << 10, "{empty_bytes} bytes");
        let full_bytes = empty_bytes + PARTICIPANTS * LETTER_BYTES_MAX as usize;
        assert!(full_bytes < 28 << 20, "{full_bytes} bytes");
    }
}
