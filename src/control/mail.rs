//! The control thread's part of the mesh: it tells all shards, wakes them, and is woken by them.
//!
//! The order that lets no wake-up be lost is that of every participant (see `hub::mesh`): whoever
//! is about to wait says so, and looks once more before it does.

use std::io;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use crate::hub::Message;
use crate::hub::mesh::Endpoint;
use crate::io::waker::{Bell, Waker};
use crate::shard::mail::Letter;

/// What the control thread and the shards say to each other.
pub(super) struct Mail {
    endpoint: Endpoint<Message, Letter>,
    waker: Waker,
    shards: usize,
}

impl Mail {
    /// Mail by `endpoint` with so many `shards`, which `waker` wakes.
    pub(super) fn new(
        mut endpoint: Endpoint<Message, Letter>,
        waker: Waker,
        shards: usize,
    ) -> Self {
        endpoint.stop_reading_rings();
        Self { endpoint, waker, shards }
    }

    /// The bell that shards ring; see [`Waker::bell`].
    ///
    /// # Errors
    /// When there cannot be one.
    pub(super) fn bell(&self) -> io::Result<Bell> {
        self.waker.bell()
    }

    /// Tells all shards to drain.
    pub(super) fn publish_drain(&mut self) {
        // Nothing else is published here, so the ring has room for this.
        if self.endpoint.publish(Message::Drain, 0).is_err() {
            tracing::warn!("the shards do not read their messages");
        }
        // All of them, not only those who wait for a message: a shard that has failed could wake
        // nobody who waits for it.
        self.endpoint.take_wakeups().for_each(drop);
        self.wake_all();
    }

    /// Wakes all shards.
    pub(super) fn wake_all(&mut self) {
        (0..self.shards).for_each(|shard| self.waker.wake(shard));
    }

    /// Wakes one shard; whether the kernel had the memory to tell it. Otherwise it is told later.
    pub(super) fn wake(&mut self, shard: usize) -> bool {
        self.waker.wake(shard);
        !self.waker.owes_to(shard)
    }

    /// Sends the wake-ups that are still owed, as nobody will do so later.
    pub(super) fn settle(&mut self) {
        self.waker.settle();
    }

    /// Waits until there is something to [go on](Self::go_on) with.
    ///
    /// # Errors
    /// When it cannot be told.
    pub(super) async fn wait(&mut self, bell: &Bell) -> io::Result<()> {
        if !self.endpoint.prepare_sleep() {
            // The other tasks of this thread have their turn.
            yield_now().await;
            return Ok(());
        }
        let owes = self.waker.owes();
        tokio::select! {
            result = bell.rings() => result,
            () = sleep(RETRY_PAUSE), if owes => Ok(()),
        }
    }

    /// Does what can be done now: takes letters, and sends what is to be sent.
    pub(super) fn go_on(&mut self) {
        self.endpoint.awake();
        self.waker.go_on();
        while let Some(_letter) = self.endpoint.next_letter() {}
        let waker = &mut self.waker;
        self.endpoint.take_wakeups().for_each(|shard| waker.wake(shard));
    }
}

/// Before what failed for want of memory is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
