//! Who is in which channel: exact, as every client that comes and goes is told to the home shard of
//! the channel.
//!
//! With a grace, a client that leaves stays present for a while, and if it is back by then, nobody
//! hears of either. That holds for the same client, with the same id: one that subscribes anew on
//! its connection.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::publication::ClientInfo;

/// The clients of many channels.
#[derive(Debug)]
pub struct Presence {
    channels: HashMap<Arc<str>, Channel>,
    /// Clients that have left, by the time when that is told, and by their order.
    leaving: BTreeMap<(u64, u64), Leaving>,
    leaves: u64,
    grace_ms: u64,
    held_bytes: usize,
    memory_bytes_max: usize,
}

/// The clients of a channel.
#[derive(Debug, Default)]
struct Channel {
    clients: HashMap<Arc<str>, Client>,
    /// Clients of each user.
    users: HashMap<Arc<str>, u32>,
}

#[derive(Debug)]
struct Client {
    info: Arc<ClientInfo>,
    /// Its place among those that are leaving.
    leaving: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Leaving {
    channel: Arc<str>,
    client: Arc<str>,
}

/// What it means that a client has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Whether it is to be told: it was not present.
    pub is_new: bool,
    /// Whether it is the only one.
    pub is_first: bool,
}

/// A client that is present no more, which is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The channel that it was in.
    pub channel: Arc<str>,
    /// Who it was.
    pub info: Arc<ClientInfo>,
    /// Whether nobody is left.
    pub is_last: bool,
}

/// How many are in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Clients.
    pub clients: usize,
    /// Different users of them; those without a name count as one.
    pub users: usize,
}

/// There is no memory for another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many clients are present")]
pub struct Full;

impl Presence {
    /// Nobody is anywhere. Leaves are told after `grace_ms`, at once with 0; no more is kept than
    /// `memory_bytes_max`.
    pub fn new(memory_bytes_max: usize, grace_ms: u64) -> Self {
        Self {
            channels: HashMap::new(),
            leaving: BTreeMap::new(),
            leaves: 0,
            grace_ms,
            held_bytes: 0,
            memory_bytes_max,
        }
    }

    /// A client is in a channel from now on; what was said of it before is replaced.
    ///
    /// # Errors
    ///
    /// There is no memory for it. Then it is as it was before.
    pub fn join(&mut self, channel: &Arc<str>, info: Arc<ClientInfo>) -> Result<Joined, Full> {
        let known = self.channels.get(channel);
        let old = known.and_then(|known| known.clients.get(&info.client));
        let old_bytes = old.map_or(0, |client| client_bytes(&client.info));
        let new_bytes = client_bytes(&info) + known.map_or(channel_bytes(channel), |_| 0);
        let held_bytes = self.held_bytes - old_bytes + new_bytes;
        if held_bytes > self.memory_bytes_max && new_bytes > old_bytes {
            return Err(Full);
        }
        self.held_bytes = held_bytes;
        let entry = self.channels.entry(channel.clone()).or_default();
        *entry.users.entry(info.user.clone()).or_default() += 1;
        let client = Client { info: info.clone(), leaving: None };
        let old = entry.clients.insert(info.client.clone(), client);
        let is_new = old.is_none();
        if let Some(old) = old {
            entry.release_user(&old.info.user);
            if let Some(place) = old.leaving {
                self.held_bytes -= LEAVING_BYTES;
                self.leaving.remove(&place);
            }
        }
        Ok(Joined { is_new, is_first: is_new && entry.clients.len() == 1 })
    }

    /// A client has left a channel. Returns what is to be told now: nothing, if it was not there,
    /// or if there is a grace, after which [`expire`](Self::expire) tells it.
    pub fn leave(&mut self, channel: &str, client: &str, now_ms: u64) -> Option<Left> {
        if self.grace_ms == 0 {
            return self.remove(channel, client);
        }
        let (channel, _) = self.channels.get_key_value(channel)?;
        let channel = channel.clone();
        let clients = &mut self.channels.get_mut(&channel)?.clients;
        let present = clients.get_mut(client).filter(|client| client.leaving.is_none())?;
        let place = (now_ms.saturating_add(self.grace_ms), self.leaves);
        self.leaves += 1;
        present.leaving = Some(place);
        let client = present.info.client.clone();
        self.leaving.insert(place, Leaving { channel, client });
        self.held_bytes += LEAVING_BYTES;
        None
    }

    /// The next client whose grace is over, if there is one: it is present no more.
    pub fn expire(&mut self, now_ms: u64) -> Option<Left> {
        if self.next_deadline_ms()? > now_ms {
            return None;
        }
        let (_, Leaving { channel, client }) = self.leaving.pop_first()?;
        self.held_bytes -= LEAVING_BYTES;
        self.remove(&channel, &client)
    }

    /// When the next grace is over.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.leaving.first_key_value().map(|((due_ms, _), _)| *due_ms)
    }

    fn remove(&mut self, channel: &str, client: &str) -> Option<Left> {
        let (name, _) = self.channels.get_key_value(channel)?;
        let name = name.clone();
        let Entry::Occupied(mut entry) = self.channels.entry(name.clone()) else {
            return None;
        };
        let removed = entry.get_mut().clients.remove(client)?;
        entry.get_mut().release_user(&removed.info.user);
        self.held_bytes -= client_bytes(&removed.info);
        let is_last = entry.get().clients.is_empty();
        if is_last {
            self.held_bytes -= channel_bytes(&name);
            entry.remove();
        }
        Some(Left { channel: name, info: removed.info, is_last })
    }

    /// How many are in a channel.
    pub fn stats(&self, channel: &str) -> PresenceStats {
        self.channels.get(channel).map_or_else(PresenceStats::default, |channel| PresenceStats {
            clients: channel.clients.len(),
            users: channel.users.len(),
        })
    }

    /// All that are in a channel, in no order.
    pub fn clients(&self, channel: &str) -> impl Iterator<Item = &Arc<ClientInfo>> {
        let channel = self.channels.get(channel);
        channel.into_iter().flat_map(|it| it.clients.values().map(|client| &client.info))
    }

    /// Clients of all channels.
    pub fn len(&self) -> usize {
        self.channels.values().map(|it| it.clients.len()).sum()
    }

    /// Whether nobody is anywhere.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Memory that all takes, estimated, as if nothing was shared.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

impl Channel {
    fn release_user(&mut self, user: &str) {
        if let Some(clients) = self.users.get_mut(user) {
            *clients -= 1;
            if *clients == 0 {
                self.users.remove(user);
            }
        }
    }
}

fn channel_bytes(channel: &str) -> usize {
    CHANNEL_BYTES + channel.len()
}

fn client_bytes(info: &ClientInfo) -> usize {
    CLIENT_BYTES + info.held_bytes()
}

/// What a channel takes in the map, which may be half empty.
const CHANNEL_BYTES: usize = 2 * (size_of::<Channel>() + 16) + 16;
/// What a client takes in the maps of clients and of users, which may be half empty.
const CLIENT_BYTES: usize = 2 * (size_of::<Client>() + 16) + 2 * 24;
/// What a client takes that is leaving.
const LEAVING_BYTES: usize = 2 * (size_of::<Leaving>() + 16);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashSet};

    fn info(client: u8, user: u8, extra: usize) -> Arc<ClientInfo> {
        Arc::new(ClientInfo {
            user: format!("user{user}").into(),
            client: format!("client{client}").into(),
            conn_info: vec![b'x'; extra].into(),
            chan_info: Arc::default(),
        })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(u8, u8, u8, usize),
        Leave(u8, u8),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..2u8, 0..5u8, 0..3u8, 0..50usize)
                .prop_map(|(room, client, user, extra)| Step::Join(room, client, user, extra)),
            4 => (0..2u8, 0..5u8).prop_map(|(channel, client)| Step::Leave(channel, client)),
            2 => (0..30u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..100)
    }

    /// Who is there, and until when where it has left.
    type Naive = BTreeMap<(u8, u8), (Arc<ClientInfo>, Option<u64>)>;

    fn of_channel(naive: &Naive, channel: u8) -> Vec<Arc<ClientInfo>> {
        let there = naive.iter().filter(|((other, _), _)| *other == channel);
        there.map(|(_, (info, _))| info.clone()).collect()
    }

    proptest! {
        #[test]
        fn presence_is_exact(
            steps in steps(),
            grace_ms in prop_oneof![Just(0), 1..40u64],
            memory_bytes_max in prop_oneof![Just(usize::MAX), 300..3000usize],
        ) {
            let mut presence = Presence::new(memory_bytes_max, grace_ms);
            let (mut naive, mut now_ms) = (Naive::new(), 0);
            let name = |channel: u8| -> Arc<str> { format!("channel{channel}").into() };
            for step in steps {
                match step {
                    Step::Join(channel, client, user, extra) => {
                        let info = info(client, user, extra);
                        let is_first = of_channel(&naive, channel).is_empty();
                        match presence.join(&name(channel), info.clone()) {
                            Ok(joined) => {
                                let old = naive.insert((channel, client), (info, None));
                                prop_assert_eq!(joined, Joined { is_new: old.is_none(), is_first });
                            }
                            Err(Full) => prop_assert!(memory_bytes_max < usize::MAX),
                        }
                    }
                    Step::Leave(channel, client) => {
                        let left =
                            presence.leave(&name(channel), &format!("client{client}"), now_ms);
                        if grace_ms == 0 {
                            let gone = naive.remove(&(channel, client)).map(|(info, _)| info);
                            let is_last = of_channel(&naive, channel).is_empty();
                            prop_assert_eq!(left.as_ref().map(|left| &left.info), gone.as_ref());
                            prop_assert!(left.is_none_or(|left| left.is_last == is_last));
                        } else {
                            prop_assert_eq!(left, None);
                            if let Some((_, due_ms)) = naive.get_mut(&(channel, client)) {
                                due_ms.get_or_insert(now_ms + grace_ms);
                            }
                        }
                    }
                    Step::Wait(time_ms) => now_ms += time_ms,
                }
                let told: Vec<_> = std::iter::from_fn(|| presence.expire(now_ms)).collect();
                let is_due = |due_ms: &Option<u64>| due_ms.is_some_and(|due_ms| due_ms <= now_ms);
                let due = naive.values().filter(|(_, due_ms)| is_due(due_ms)).count();
                naive.retain(|_, (_, due_ms)| !is_due(due_ms));
                prop_assert_eq!(told.len(), due);
                let lasts = told.iter().filter(|left| left.is_last);
                let lasts: BTreeSet<_> = lasts.map(|left| left.channel.clone()).collect();
                let next_ms = naive.values().filter_map(|(_, due_ms)| *due_ms).min();
                prop_assert_eq!(presence.next_deadline_ms(), next_ms);
                for channel in 0..2 {
                    let there = of_channel(&naive, channel);
                    let users: HashSet<_> = there.iter().map(|info| info.user.clone()).collect();
                    let stats = PresenceStats { clients: there.len(), users: users.len() };
                    prop_assert_eq!(presence.stats(&name(channel)), stats);
                    let mut told: Vec<_> = presence.clients(&name(channel)).cloned().collect();
                    told.sort_by(|one, other| one.client.cmp(&other.client));
                    prop_assert_eq!(&told, &there);
                    prop_assert!(there.is_empty() || !lasts.contains(&name(channel)));
                }
                // Leaves must be possible, so those that are leaving may take it beyond.
                let leaving = naive.values().filter(|(_, due_ms)| due_ms.is_some()).count();
                let most = memory_bytes_max.saturating_add(leaving * LEAVING_BYTES);
                prop_assert!(presence.held_bytes() <= most);
            }
            for channel in 0..2 {
                for client in 0..5 {
                    presence.leave(&name(channel), &format!("client{client}"), now_ms);
                }
            }
            while presence.expire(u64::MAX).is_some() {}
            prop_assert_eq!(presence.held_bytes(), 0);
        }
    }

    #[test]
    fn a_client_that_is_back_in_time_is_not_told() {
        let (mut presence, channel) = (Presence::new(1 << 20, 100), Arc::<str>::from("a"));
        let joined = presence.join(&channel, info(1, 1, 0)).expect("room");
        assert_eq!(joined, Joined { is_new: true, is_first: true });
        assert_eq!(presence.leave("a", "client1", 0), None);
        let joined = presence.join(&channel, info(1, 1, 0)).expect("room");
        assert_eq!(joined, Joined { is_new: false, is_first: false });
        assert_eq!(presence.expire(1000), None);
        assert_eq!(presence.leave("a", "client1", 1000), None);
        assert_eq!(presence.leave("a", "client1", 1050), None);
        assert_eq!(presence.expire(1099), None);
        assert!(presence.expire(1100).is_some_and(|left| left.is_last));
        assert_eq!(presence.stats("a"), PresenceStats::default());
    }

    #[test]
    fn what_has_no_room_changes_nothing() {
        let (mut presence, channel) = (Presence::new(1000, 0), Arc::<str>::from("a"));
        presence.join(&channel, info(1, 1, 0)).expect("room");
        assert_eq!(presence.join(&channel, info(1, 2, 2000)), Err(Full));
        assert_eq!(presence.clients("a").next(), Some(&info(1, 1, 0)));
        assert_eq!(presence.join(&"other".into(), info(2, 1, 2000)), Err(Full));
        assert_eq!(presence.stats("other"), PresenceStats::default());
        assert!(presence.leave("a", "client1", 0).is_some_and(|left| left.is_last));
        assert_eq!((presence.leave("a", "client1", 0), presence.held_bytes()), (None, 0));
    }
}
