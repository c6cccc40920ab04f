//! The control thread's part in a restart without losing the port: it goes on with what a
//! predecessor has handed over, and hands it over to a successor ([`crate::takeover`]).
//!
//! All of it is one task, which serves one newcomer at a time. What it wants of the rest of the
//! control thread it asks for by a [`Request`].

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::histories::Histories;
use super::standing::Standing;
use crate::hub::relay::Relay;
use crate::hub::topics::Publication;
use crate::io::inheritance::Heritage;
use crate::io::listener::Listener;
use crate::takeover::frame::{Frame, Relayed};
use crate::takeover::link::{Link, LinkError, STEP_TIMEOUT};
use crate::takeover::{Predecessor, hand_over, refuse};

/// What a server brings along that may be succeeded.
pub struct Takeover {
    /// Where it is found.
    pub path: PathBuf,
    /// The listener there, while there is one.
    pub door: Door,
    /// What it hands over.
    pub heritage: Vec<Heritage>,
    /// Whom it succeeds itself, and the places in that one's offer of what it has taken.
    pub predecessor: Option<(Predecessor, Vec<usize>)>,
}

/// The listener for newcomers. Its file is removed when it is taken out, by whoever does so first:
/// the control thread, which leaves it to a successor, or the end of the process.
pub type Door = Arc<Mutex<Option<Listener>>>;

/// What the rest of the control thread is to do.
pub(super) enum Request {
    /// Wake all shards, to see that they tick.
    WakeAll,
    /// Publish what the other server has passed on.
    Publish(Relayed),
    /// This server alone serves now: the admin listener begins.
    TakeOver,
    /// A successor serves: accept nothing any more and drain. Tells when that has begun.
    Yield(oneshot::Sender<()>),
}

/// The task.
pub(super) struct Succession {
    takeover: Takeover,
    link: Option<(Link, Vec<usize>)>,
    /// Where newcomers come in.
    open: Option<UnixListener>,
    standing: Arc<Standing>,
    publications: UnboundedReceiver<Publication>,
    requests: mpsc::Sender<Request>,
    histories: Histories,
}

impl Succession {
    /// The task, and where it asks. Within the runtime of the control thread.
    ///
    /// # Errors
    /// When the link to the predecessor cannot be watched, or the relay is taken already.
    pub(super) fn new(
        mut takeover: Takeover,
        standing: Arc<Standing>,
        histories: Histories,
    ) -> io::Result<(Self, mpsc::Receiver<Request>)> {
        let publications = standing.shared.interest.relay().take_receiver();
        let publications =
            publications.ok_or_else(|| io::Error::other("there is one task for a takeover"))?;
        let predecessor = takeover.predecessor.take();
        let link =
            predecessor.map(|(it, taken)| it.link().map(|link| (link, taken))).transpose()?;
        let (requests, requested) = mpsc::channel(REQUESTS_WAITING);
        let open = None;
        let succession = Self { takeover, link, open, standing, publications, requests, histories };
        Ok((succession, requested))
    }

    /// Whether there is a predecessor.
    pub(super) fn has_predecessor(&self) -> bool {
        self.link.is_some()
    }

    /// Has the predecessor pass on what it keeps, and then what is published there, before anybody
    /// is accepted here.
    ///
    /// # Errors
    /// When it does not in time.
    pub(super) async fn prepare(&mut self) -> Result<(), LinkError> {
        let Some((link, taken)) = &mut self.link else { return Ok(()) };
        let said = match link.send(&Frame::Taken(std::mem::take(taken)), &[]).await {
            Ok(()) => self.histories.take_over(link).await,
            Err(error) => Err(error),
        };
        match said {
            Ok(Frame::Relaying) => self.begin_relay(),
            Ok(_) => return Err(LinkError::OutOfTurn),
            Err(LinkError::Closed) => {
                // It has ended meanwhile, and left everything here.
                tracing::info!("the predecessor has ended before it was taken over from");
                self.link = None;
                self.takeover.heritage.iter().for_each(Heritage::own_file);
                let _ = self.requests.send(Request::TakeOver).await;
                self.histories.begin();
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Goes on with the predecessor, if there is one, then waits for a successor.
    pub(super) async fn run(mut self) {
        match self.link.take() {
            Some((link, _)) => self.succeed(link).await,
            None => self.open_door(),
        }
        while let Some(door) = &self.open {
            let result = match door.accept().await.map(|(stream, _)| Link::new(stream)) {
                Ok(Ok(link)) => self.be_succeeded(link).await,
                Ok(Err(error)) => Err(error),
                Err(error) => {
                    sleep(PAUSE_AFTER_FAILURE).await;
                    Err(error.into())
                }
            };
            self.end_relay(Relay::lose);
            if let Err(error) = result {
                self.histories.go_on().await;
                tracing::warn!("a newcomer has not taken over, and nothing has changed: {error}");
            }
        }
    }

    /// Takes over from the predecessor, and relays until that has ended.
    async fn succeed(&mut self, mut link: Link) {
        if timeout(STEP_TIMEOUT, self.do_shards_tick()).await.is_err() {
            tracing::error!("not all shards tick: the predecessor goes on, and this server ends");
            self.standing.ask_for_drain();
        } else if !self.standing.is_draining() {
            self.take_over(&mut link).await;
        }
        self.end_relay(Relay::sent);
    }

    async fn take_over(&mut self, link: &mut Link) {
        let (say, said) = mpsc::channel(1);
        let (hear, mut heard) = mpsc::channel(1);
        let standing = self.standing.clone();
        let (relay, requests) = (standing.shared.interest.relay(), self.requests.clone());
        let Self { publications, takeover, open, histories, .. } = self;
        let relay = (relay, Relay::sent as GiveUp);
        let relaying = relaying(relay, publications, &requests, link, said, hear);
        tokio::pin!(relaying);
        let yielding = async {
            let _ = say.send(Frame::Ready).await;
            timeout(STEP_TIMEOUT, heard.recv()).await
        };
        let has_ended = tokio::select! {
            // It has ended before it could tell; all that it had is here.
            _ = &mut relaying => true,
            answer = yielding => {
                if !matches!(answer, Ok(Some(Frame::Yielded))) {
                    tracing::warn!("the predecessor does not tell whether it accepts no more");
                }
                false
            }
        };
        // The link may also end because the predecessor has given this server up, and serves on.
        if has_ended && UnixStream::connect(&takeover.path).await.is_ok() {
            tracing::error!("the predecessor goes on, and this server ends");
            return standing.ask_for_drain();
        }
        takeover.heritage.iter().for_each(Heritage::own_file);
        histories.begin();
        tracing::info!("taken over");
        let _ = requests.send(Request::TakeOver).await;
        *open = takeover.open();
        if has_ended {
            return;
        }
        let refusing = async {
            match open {
                Some(door) => refuse_all(door).await,
                None => pending().await,
            }
        };
        tokio::select! {
            end = relaying => tracing::info!("the predecessor has ended: {end}"),
            () = refusing => {}
        }
    }

    /// Hands over to a newcomer; relays from before that accepts until this process ends.
    ///
    /// # Errors
    /// What kept the newcomer from it. Nothing has happened then, but that some messages were
    /// passed on, and histories are sealed.
    async fn be_succeeded(&mut self, mut link: Link) -> Result<(), LinkError> {
        let taken = hand_over(&mut link, &self.takeover.heritage).await?;
        self.histories.pass_on(&link).await?;
        self.begin_relay();
        // Before any message, which may come as soon as the relay is on.
        link.send(&Frame::Relaying, &[]).await?;
        let (say, said) = mpsc::channel(1);
        let (hear, mut heard) = mpsc::channel(1);
        let standing = self.standing.clone();
        let (relay, requests) = (standing.shared.interest.relay(), self.requests.clone());
        let Self { publications, takeover, open, .. } = self;
        let relay = (relay, Relay::lose as GiveUp);
        let relaying = relaying(relay, publications, &requests, &mut link, said, hear);
        tokio::pin!(relaying);
        let becoming_ready = async {
            match timeout(READY_TIMEOUT, heard.recv()).await? {
                Some(Frame::Ready) => Ok(()),
                _ => Err(LinkError::OutOfTurn),
            }
        };
        tokio::select! {
            error = &mut relaying => return Err(error),
            result = becoming_ready => result?,
        }
        // From here on the newcomer serves.
        *open = None;
        takeover.close_door();
        taken.iter().filter_map(|&it| takeover.heritage.get(it)).for_each(Heritage::leave_file);
        let (begun, has_begun) = oneshot::channel();
        let _ = requests.send(Request::Yield(begun)).await;
        let yielding = async {
            let _ = has_begun.await;
            while (0..standing.shards()).any(|it| accepts(&standing, it)) {
                sleep(LOOK_PAUSE).await;
            }
        };
        if timeout(STEP_TIMEOUT, yielding).await.is_err() {
            tracing::warn!("not all shards have ended their accepts");
        }
        takeover.heritage.clear();
        let _ = say.send(Frame::Yielded).await;
        let end = relaying.await;
        tracing::warn!("the successor does not listen any more: {end}");
        Ok(())
    }

    fn open_door(&mut self) {
        self.open = self.takeover.open();
    }

    /// Waits until every shard has come round once, and so accepts.
    async fn do_shards_tick(&self) {
        let standing = &self.standing;
        let ticks = |shard| standing.shared.stats.shard(shard).ticks.value();
        while (0..standing.shards()).any(|shard| ticks(shard) == 0) {
            let _ = self.requests.send(Request::WakeAll).await;
            sleep(LOOK_PAUSE).await;
        }
    }

    fn begin_relay(&mut self) {
        // What came too late for another server.
        self.forget_publications(Relay::sent);
        self.standing.shared.interest.relay().set_on(true);
    }

    fn end_relay(&mut self, give_up: GiveUp) {
        self.standing.shared.interest.relay().set_on(false);
        self.forget_publications(give_up);
    }

    fn forget_publications(&mut self, give_up: GiveUp) {
        while let Ok(publication) = self.publications.try_recv() {
            give_up(self.standing.shared.interest.relay(), &publication);
        }
    }
}

impl Takeover {
    /// Listens for newcomers, at the path unless that was bound before; without that this server
    /// serves, but cannot be succeeded.
    fn open(&self) -> Option<UnixListener> {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        if door.is_none() {
            let bound = Listener::bind_takeover(&self.path);
            *door = bound.inspect_err(|error| tracing::error!("{error}")).ok();
        }
        let socket = door.as_mut()?.take_socket()?;
        let listener = UnixListener::from_std(OwnedFd::from(socket).into());
        listener.inspect_err(|error| tracing::error!(%error, "no newcomer can be heard")).ok()
    }

    fn close_door(&self) {
        self.door.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn accepts(standing: &Standing, shard: usize) -> bool {
    standing.shared.stats.shard(shard).accepts_waiting.value() > 0
}

/// Turns newcomers away while the predecessor has not ended: messages go between two servers.
async fn refuse_all(door: &UnixListener) {
    loop {
        match door.accept().await.map(|(stream, _)| Link::new(stream)) {
            Ok(Ok(mut link)) => {
                let reason = "the server that it has succeeded has not ended yet: start again then";
                refuse(&mut link, reason).await;
            }
            Ok(Err(error)) => tracing::warn!("a newcomer is turned away: {error}"),
            Err(_) => sleep(PAUSE_AFTER_FAILURE).await,
        }
    }
}

/// What becomes of a publication that is not sent. What a predecessor does not get is missed by
/// nobody, as its clients are gone with it; what a successor does not get is lost.
type GiveUp = fn(&Relay, &Publication);

/// A publication that is being sent.
struct OnItsWay<'a> {
    relay: &'a Relay,
    publication: Publication,
    /// What becomes of it if that does not come to its end.
    give_up: GiveUp,
}

impl OnItsWay<'_> {
    fn note_sent(mut self) {
        self.give_up = Relay::sent;
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        (self.give_up)(self.relay, &self.publication);
    }
}

/// Passes messages on both ways until the link ends, and tells why it has. Says what `said` brings
/// as well, and has all else that is said to this server `hear`d.
async fn relaying(
    (relay, give_up): (&Relay, GiveUp),
    publications: &mut UnboundedReceiver<Publication>,
    requests: &mpsc::Sender<Request>,
    link: &mut Link,
    mut said: mpsc::Receiver<Frame>,
    hear: mpsc::Sender<Frame>,
) -> LinkError {
    let (sender, mut receiver) = link.split();
    let writing = async {
        loop {
            let result = tokio::select! {
                Some(frame) = said.recv() => sender.send(&frame, &[]).await,
                Some(publication) = publications.recv() => {
                    let Publication { topic, message, .. } = &publication;
                    let (topic, message) = (topic.as_ref().into(), message.clone());
                    let frame = Frame::Message(Relayed { topic, message });
                    let on_its_way = OnItsWay { relay, publication, give_up };
                    let result = sender.send(&frame, &[]).await;
                    if result.is_ok() {
                        on_its_way.note_sent();
                    }
                    result
                }
                else => pending().await,
            };
            if let Err(error) = result {
                return error;
            }
        }
    };
    let reading = async {
        loop {
            match receiver.receive().await {
                Ok(Frame::Message(relayed)) => {
                    let _ = requests.send(Request::Publish(relayed)).await;
                }
                Ok(frame) => {
                    let _ = hear.send(frame).await;
                }
                Err(error) => return error,
            }
        }
    };
    tokio::pin!(reading);
    tokio::select! {
        error = &mut reading => error,
        // What has come before the other ended is taken all the same.
        error = writing => timeout(STEP_TIMEOUT, reading).await.unwrap_or(error),
    }
}

/// How long a newcomer may take from its first message on until its shards accept.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at the counters of the shards.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// After an accept that failed, for want of descriptors perhaps.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Requests that wait; more wait where they come from.
const REQUESTS_WAITING: usize = 64;
