//! Who may connect, how many and how fast, who may join a topic, and how much may be published to
//! it: for the whole process, since the kernel spreads the connections of one address, and the
//! members of one topic, over all shards.
//!
//! Asked when a connection is accepted, when a proxy has told whose it is, when it becomes a
//! member, and when it ends; on the path of a message only where topics have a rate. Nothing here
//! knows a socket or a clock.

mod addresses;
mod counts;
mod networks;
mod publications;
mod rate;
mod topics;
mod users;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use addresses::{AddressLimits, AddressTable};
pub use counts::Counted;
pub use networks::{Access, Networks};
use publications::PublicationTable;
pub use publications::{Allowance, Place, TooMany};
use rate::RateLimiter;
pub use rate::{Rate, nanoseconds};
pub use topics::{JoinDenial, Joined, Membership};
use topics::{TopicLimits, TopicTable};
use users::UserTable;
pub use users::{Seat, UserLimits, Whereabouts};

use crate::config::{Config, PeerAddress};

/// Who may connect. It may change while the server runs.
#[derive(Clone, Debug)]
pub struct Rules {
    access: Access,
    rate: Option<Rate>,
    addresses: Option<AddressLimits>,
    topics: Option<TopicLimits>,
    topic_rate: Option<Rate>,
    users: Option<UserLimits>,
    /// Whether whoever runs the server wants to know addresses, whatever depends on them.
    tells_addresses: bool,
}

/// Who is connected already, and how fast they came and publish.
#[derive(Debug)]
pub struct Admission {
    rate: RateLimiter,
    /// Made when addresses are first limited, for connections of this number; and the same of
    /// topics.
    addresses: OnceLock<AddressTable>,
    topics: OnceLock<TopicTable>,
    publications: OnceLock<PublicationTable>,
    users: OnceLock<Arc<UserTable>>,
    capacity: usize,
}

/// Why a connection is not to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Its network is not allowed.
    Network,
    /// Its address has as many connections as it may.
    AddressConnections,
    /// Its address began as many within the last second as it may.
    AddressRate,
    /// All began as many within the last second as they may.
    Rate,
    /// Its user has as many connections as one may.
    UserConnections,
}

/// Who has connected.
#[derive(Debug)]
pub enum Arrival {
    /// A proxy that is trusted: who its clients are is said later, and counts then.
    Proxy,
    /// Somebody who speaks for themselves.
    Client(Admitted),
}

/// A connection that may be.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Where it is counted, if it is: to be given back when it ends.
    pub counted: Option<Counted>,
    /// Whether it should be counted and found no place, as others fill the table.
    pub is_untracked: bool,
}

impl Rules {
    /// What the configuration says.
    pub fn new(config: &Config) -> Self {
        let peers = &config.peers;
        Self {
            access: Access::new(peers),
            rate: peers.connection_rate.map(Rate::per_second),
            addresses: AddressLimits::new(peers),
            topics: TopicLimits::new(&config.limits),
            topic_rate: config.limits.topic_rate.map(Rate::per_second),
            users: UserLimits::new(&config.identity),
            // Whoever is asked about a request wants to know from where it comes.
            tells_addresses: peers.addresses || config.backend.url.is_some(),
        }
    }

    /// Whether it makes a difference who connects, and from where.
    pub fn needs_addresses(&self) -> bool {
        self.tells_addresses || self.addresses.is_some() || !self.access.is_open()
    }

    /// Whether it makes a difference who connects by a Unix socket.
    pub fn needs_credentials(&self) -> bool {
        self.tells_addresses || self.access.asks_for_credentials()
    }

    /// How much may be published to a topic in a second, if that is limited.
    #[inline]
    pub fn topic_rate(&self) -> Option<Rate> {
        self.topic_rate
    }

    /// How many connections a user may have, if that is limited.
    pub fn users(&self) -> Option<UserLimits> {
        self.users
    }

    /// Whether it makes a difference that somebody connects.
    pub fn is_needed(&self) -> bool {
        let needs_names = self.needs_addresses() || self.needs_credentials();
        needs_names || self.rate.is_some() || self.access.trusts_unix()
    }
}

impl Admission {
    /// Nobody is connected, to a server of at most `capacity` connections.
    pub fn new(capacity: usize) -> Self {
        Self {
            rate: RateLimiter::default(),
            addresses: OnceLock::new(),
            topics: OnceLock::new(),
            publications: OnceLock::new(),
            users: OnceLock::new(),
            capacity,
        }
    }

    /// Judges a connection from `address`, or one by a Unix socket of which no more is known, `now`
    /// since the start of the process.
    ///
    /// # Errors
    /// Why it is to be reset.
    pub fn arrive(
        &self,
        rules: &Rules,
        address: Option<PeerAddress>,
        now: Duration,
    ) -> Result<Arrival, Denial> {
        if !rules.access.allows(address.and_then(PeerAddress::ip)) {
            return Err(Denial::Network);
        }
        if rules.access.trusts(address) {
            return Ok(Arrival::Proxy);
        }
        self.admit(rules, address, now).map(Arrival::Client)
    }

    /// Lets in a client that has an `address`, or of which nobody knows any. Proxies among
    /// themselves count as no address.
    ///
    /// # Errors
    /// Which limit it would exceed.
    pub fn admit(
        &self,
        rules: &Rules,
        address: Option<PeerAddress>,
        now: Duration,
    ) -> Result<Admitted, Denial> {
        // Looked at before, so that the others' excess is not counted as its own.
        if rules.rate.is_some_and(|rate| !self.rate.has_room(rate, now)) {
            return Err(Denial::Rate);
        }
        let address =
            address.filter(|it| !rules.access.trusts(Some(*it))).and_then(PeerAddress::ip);
        let admitted = match (rules.addresses, address) {
            (Some(limits), Some(address)) => self.addresses().admit(limits, address, now)?,
            _ => Admitted::default(),
        };
        // Counted last, so that nobody takes from the others what is refused to them alone.
        match rules.rate.is_none_or(|rate| self.rate.admit(rate, now)) {
            true => Ok(admitted),
            false => {
                admitted.counted.into_iter().for_each(|counted| self.release(counted));
                Err(Denial::Rate)
            }
        }
    }

    /// A connection that was counted has ended.
    pub fn release(&self, counted: Counted) {
        if let Some(addresses) = self.addresses.get() {
            addresses.release(counted);
        }
    }

    /// Lets somebody join the topic `name`.
    ///
    /// # Errors
    /// Which limit that would exceed.
    pub fn join(&self, rules: &Rules, name: &str) -> Result<Joined, JoinDenial> {
        let topics = || self.topics.get_or_init(|| TopicTable::new(self.capacity));
        rules.topics.map_or(Ok(Joined::default()), |limits| topics().join(limits, name))
    }

    /// A member that was counted is gone.
    pub fn leave(&self, membership: Membership) {
        if let Some(topics) = self.topics.get() {
            topics.leave(membership);
        }
    }

    /// Makes room for a newcomer among the connections of its user, `now`; who has none where the
    /// newest stay gets a [`seat`](Self::seat) when it is connected.
    ///
    /// # Errors
    /// The user has as many as one may.
    pub fn reserve(
        &self,
        rules: &Rules,
        user: &str,
        at: Whereabouts,
        now: Duration,
    ) -> Result<Option<Seat>, Denial> {
        let reserve = |limits| UserTable::reserve(self.users(), limits, user, at, now);
        rules.users.map_or(Ok(None), reserve)
    }

    /// Counts a connection of a user that has come `now`, even if it is one too many.
    pub fn seat(&self, user: &str, at: Whereabouts, now: Duration) -> Seat {
        UserTable::seat(self.users(), user, at, now)
    }

    /// Counts one that is there since then, and did not count because there was no limit.
    pub fn seat_earlier(&self, user: &str, at: Whereabouts, since: Duration) -> Seat {
        UserTable::seat_earlier(self.users(), user, at, since)
    }

    /// Connections that count for a user.
    pub fn seated(&self, user: &str) -> usize {
        self.users.get().map_or(0, |users| users.seated(user))
    }

    /// Users whose connections are counted, and how many those are.
    pub fn users_and_seats(&self) -> (u64, u64) {
        self.users.get().map_or((0, 0), |users| users.counted())
    }

    /// Takes up to `most` messages of what may be published to the topic `name` at this `rate`, for
    /// somebody who can wait, and perhaps has a `place` from the last time.
    pub fn take(
        &self,
        rate: Rate,
        name: &str,
        now: Duration,
        most: u32,
        place: Option<Place>,
    ) -> Allowance {
        self.publications().take(rate, name, nanoseconds(now), most, place)
    }

    /// Takes one such message for somebody who cannot wait; whether it should count and does not.
    ///
    /// # Errors
    /// There is none left.
    pub fn take_one(&self, rate: Rate, name: &str, now: Duration) -> Result<bool, TooMany> {
        self.publications().take_one(rate, name, nanoseconds(now))
    }

    /// So many messages were taken and not published.
    pub fn give_back(&self, rate: Rate, name: &str, now: Duration, messages: u32) {
        self.publications().give_back(rate, name, nanoseconds(now), messages);
    }

    /// Somebody does not wait any more to publish to a topic.
    pub fn leave_line(&self, place: Place) {
        self.publications().leave(place);
    }

    /// Those who have a place in the line of any topic.
    pub fn waiting_to_publish(&self) -> u64 {
        self.publications.get().map_or(0, PublicationTable::waiting)
    }

    /// Members that are counted for a topic.
    pub fn members_of(&self, name: &str) -> u32 {
        self.topics.get().map_or(0, |topics| topics.members_of(name))
    }

    /// Topics that have members which are counted, and how many those are in all.
    pub fn topics_and_members(&self) -> (u64, u64) {
        self.topics.get().map_or((0, 0), TopicTable::counted)
    }

    /// Connections that are counted for an address.
    pub fn counted_for(&self, rules: &Rules, address: IpAddr) -> u32 {
        let limited = self.addresses.get().zip(rules.addresses);
        limited.map_or(0, |(addresses, limits)| addresses.counted_for(limits, address))
    }

    /// Connections that are counted.
    pub fn counted(&self) -> u64 {
        self.addresses.get().map_or(0, AddressTable::counted)
    }

    fn addresses(&self) -> &AddressTable {
        self.addresses.get_or_init(|| AddressTable::new(self.capacity))
    }

    fn users(&self) -> &Arc<UserTable> {
        self.users.get_or_init(|| Arc::new(UserTable::new()))
    }

    fn publications(&self) -> &PublicationTable {
        self.publications.get_or_init(|| PublicationTable::new(self.capacity))
    }
}

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;
    use crate::config::Peers;

    /// Rules that stay, and who has come.
    struct Ruled(Rules, Admission);

    impl Ruled {
        fn arrive(&self, address: Option<PeerAddress>, now: Duration) -> Result<Arrival, Denial> {
            self.1.arrive(&self.0, address, now)
        }

        fn admit(&self, address: Option<PeerAddress>, now: Duration) -> Result<Admitted, Denial> {
            self.1.admit(&self.0, address, now)
        }
    }

    fn admission(change: impl FnOnce(&mut Peers)) -> Ruled {
        let mut config = Config::default();
        change(&mut config.peers);
        Ruled(Rules::new(&config), Admission::new(100))
    }

    fn address(text: &str) -> Option<PeerAddress> {
        Some(text.parse().unwrap())
    }

    fn second(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn nothing_is_asked_for_by_default() {
        let open = admission(|_| ());
        assert!(!open.0.is_needed() && !open.0.needs_addresses());
        let unix = admission(|peers| peers.trusted_proxies = vec!["unix".parse().unwrap()]);
        assert!(unix.0.is_needed() && !unix.0.needs_addresses());
        let rate = admission(|peers| peers.connection_rate = Some(1));
        assert!(rate.0.is_needed() && !rate.0.needs_addresses());
        let denies = admission(|peers| peers.deny_networks = vec!["::1".parse().unwrap()]);
        assert!(denies.0.is_needed() && denies.0.needs_addresses());
    }

    #[test]
    fn whoever_is_trusted_is_not_counted_and_whoever_is_denied_is_not_trusted() {
        let admission = admission(|peers| {
            peers.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
            peers.deny_networks = vec!["10.9.0.0/16".parse().unwrap()];
            peers.allow_networks = vec!["192.0.2.0/24".parse().unwrap()];
            peers.connections_per_address = Some(1);
        });
        let arrive = |text| admission.arrive(address(text), second(0));
        for _ in 0..3 {
            assert!(matches!(arrive("10.0.0.1"), Ok(Arrival::Proxy)));
        }
        assert_eq!(arrive("10.9.0.1").unwrap_err(), Denial::Network);
        assert_eq!(arrive("198.51.100.1").unwrap_err(), Denial::Network);
        assert!(matches!(arrive("192.0.2.1"), Ok(Arrival::Client(_))));
        assert_eq!(arrive("192.0.2.1").unwrap_err(), Denial::AddressConnections);
        // The file of a Unix socket says who may connect by it.
        assert!(matches!(admission.arrive(None, second(0)), Ok(Arrival::Client(_))));
        assert!(admission.admit(address("10.0.0.1"), second(0)).unwrap().counted.is_none());
    }

    #[test]
    fn what_the_rate_of_all_refuses_is_not_counted_for_the_address() {
        let admission = admission(|peers| {
            peers.connection_rate = Some(2);
            peers.connections_per_address = Some(9);
        });
        let admit = |now| admission.admit(address("192.0.2.1"), now);
        let counted: Vec<_> = (0..2).filter_map(|_| admit(second(5)).unwrap().counted).collect();
        assert_eq!(admit(second(5)).unwrap_err(), Denial::Rate);
        assert_eq!(admission.1.counted(), 2);
        counted.into_iter().for_each(|counted| admission.1.release(counted));
        assert_eq!(admission.1.counted_for(&admission.0, [192, 0, 2, 1].into()), 0);
        assert!(admit(second(6)).is_ok());
    }

    #[test]
    fn whoever_exceeds_its_own_rate_takes_nothing_from_the_others() {
        let admission = admission(|peers| {
            peers.connection_rate = Some(4);
            peers.connection_rate_per_address = Some(1);
        });
        assert!(admission.admit(address("192.0.2.1"), second(1)).is_ok());
        for _ in 0..9 {
            let denial = admission.admit(address("192.0.2.1"), second(1)).unwrap_err();
            assert_eq!(denial, Denial::AddressRate);
        }
        for last in 2..5 {
            assert!(admission.admit(address(&format!("192.0.2.{last}")), second(1)).is_ok());
        }
        assert_eq!(admission.admit(address("::1"), second(1)).unwrap_err(), Denial::Rate);
    }
}
