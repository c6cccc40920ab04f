//! Messages from one ring to another (`MSG_RING`): wake-ups, and sockets that go on there.

use std::os::fd::RawFd;

use io_uring::types::{DestinationSlot, Fd, Fixed};
use io_uring::{opcode, squeue};

use super::Slot;
use super::token::{Key, Ticket, Token, Verb};

/// Wakes the ring with this descriptor (kernel 5.18).
pub(super) fn wake(descriptor: RawFd) -> squeue::Entry {
    let message = Token::new(Verb::Wake, Key { index: 0, generation: MESSAGE }).to_bits();
    opcode::MsgRingData::new(Fd(descriptor), 0, message, None).build()
}

/// Puts the socket in `slot` into a slot of the ring with this descriptor as well, which that ring
/// chooses and tells its owner with the ticket (kernel 6.0).
pub(super) fn hand_over(slot: Slot, descriptor: RawFd, ticket: Ticket) -> squeue::Entry {
    let key = Key { index: ticket.serial, generation: ticket.from };
    let message = Token::new(Verb::Adopt, key).to_bits();
    let chosen_there = DestinationSlot::auto_target();
    opcode::MsgRingSendFd::new(Fd(descriptor), Fixed(slot), chosen_there, message).build()
}

/// The ticket in the key of a token made by [`hand_over`].
pub(super) fn ticket(key: Key) -> Ticket {
    Ticket { from: key.generation, serial: key.index }
}

/// Tells a wake-up that arrives from the completion of one that was sent.
pub(super) const MESSAGE: u32 = 1;
