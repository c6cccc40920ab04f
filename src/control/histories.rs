//! The control thread's part in handing over what is kept of channels: it has the shards tell it,
//! part by part, and passes it on; or takes what comes, for the shards to begin with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;

use super::mail::{Answer, Dispatch, NoAnswer};
use super::standing::Standing;
use crate::realtime::log::Part;
use crate::shard::Handing;
use crate::shard::orders::{Errand, Outcome};
use crate::takeover::frame::Frame;
use crate::takeover::histories::{Assembly, pieces};
use crate::takeover::link::{Link, LinkError, STEP_TIMEOUT};

/// What this process keeps of channels, as the control thread sees it.
#[derive(Clone)]
pub(super) struct Histories {
    dispatch: Dispatch,
    standing: Arc<Standing>,
}

/// How much was handed over.
#[derive(Debug, Default)]
struct Told {
    streams: usize,
    publications: usize,
    keys: usize,
}

impl Told {
    fn add(&mut self, part: &Part) {
        self.streams += part.streams.len();
        self.publications += part.streams.iter().map(|it| it.publications.len()).sum::<usize>();
        self.keys += part.keys.len();
    }

    fn log(&self, began: Instant, what: &str) {
        let Self { streams, publications, keys } = *self;
        let took = began.elapsed();
        tracing::info!(streams, publications, keys, ?took, "histories of channels are {what}");
    }
}

impl Histories {
    pub(super) fn new(dispatch: Dispatch, standing: Arc<Standing>) -> Self {
        Self { dispatch, standing }
    }

    fn are_kept(&self) -> bool {
        self.standing.shared.in_force.current().config.realtime.is_on
    }

    /// Seals what is kept, and passes it on. A shard that does not answer keeps what it has: that
    /// begins anew with the successor, and clients are told so.
    ///
    /// # Errors
    /// When the successor does not take it.
    pub(super) async fn pass_on(&self, link: &Link) -> Result<(), LinkError> {
        if !self.are_kept() {
            return Ok(());
        }
        let (began, mut told) = (Instant::now(), Told::default());
        // A shard that has said so asks nothing any more; what it has asked before arrives before
        // the order to seal.
        self.all(Handing::Hold).await;
        self.all(Handing::Begin).await;
        for shard in 0..self.standing.shards() {
            loop {
                let Ok(part) = self.answer(shard, self.ask(shard, Handing::Next).await).await
                else {
                    break;
                };
                told.add(&part);
                let is_last = part.is_last;
                for piece in pieces(part) {
                    link.send(&Frame::History(piece), &[]).await?;
                }
                if is_last {
                    break;
                }
            }
        }
        told.log(began, "passed on");
        Ok(())
    }

    /// Takes what the predecessor keeps, until it says something else, which is returned.
    ///
    /// # Errors
    /// When it does not say so in time.
    pub(super) async fn take_over(&self, link: &mut Link) -> Result<Frame, LinkError> {
        let shared = &self.standing.shared;
        let (began, mut told) = (Instant::now(), Told::default());
        if self.are_kept() {
            shared.heirs.begin(shared.seed, &shared.in_force.current().config);
        }
        let mut assembly = Assembly::default();
        let mut take = |part: Part| {
            told.add(&part);
            shared.heirs.take_part(part, shared, shared.stats.start().elapsed().as_millis() as u64);
        };
        let said = loop {
            match link.receive_within(PIECE_TIMEOUT).await? {
                Frame::History(piece) => take(assembly.take(&piece).ok_or(LinkError::OutOfTurn)?),
                said => break said,
            }
        };
        take(assembly.rest());
        if self.are_kept() {
            told.log(began, "taken over");
        }
        Ok(said)
    }

    /// This process goes on with what is kept. Shards that do not answer are told again: nobody
    /// else tells them.
    pub(super) async fn go_on(&self) {
        if !self.are_kept() {
            return;
        }
        // A home that is still sealed refuses what a shard asks that goes on before it.
        for handing in [Handing::Unseal, Handing::GoOn] {
            for shard in 0..self.standing.shards() {
                while let Err(NoAnswer::Late) =
                    self.answer(shard, self.ask(shard, handing).await).await
                {}
            }
        }
    }

    /// The same of what was taken over, in a task of its own.
    pub(super) fn begin(&self) {
        let histories = self.clone();
        spawn_local(async move { histories.go_on().await });
    }

    async fn all(&self, handing: Handing) {
        let mut answers = Vec::new();
        for shard in 0..self.standing.shards() {
            answers.push((shard, self.ask(shard, handing).await));
        }
        for (shard, answer) in answers {
            let _ = self.answer(shard, answer).await;
        }
    }

    async fn ask(&self, shard: usize, handing: Handing) -> Answer {
        self.dispatch.ask(shard, Errand::Histories(handing)).await
    }

    async fn answer(&self, shard: usize, answer: Answer) -> Result<Part, NoAnswer> {
        match answer.outcome().await {
            Ok(Outcome::Histories(part)) => Ok(*part),
            other => {
                tracing::warn!(shard, "the shard does not take part in the hand-over of histories");
                Err(other.err().unwrap_or(NoAnswer::Late))
            }
        }
    }
}

/// How long the predecessor may take for each piece: a shard of it may not answer.
const PIECE_TIMEOUT: Duration = STEP_TIMEOUT.saturating_mul(3);
