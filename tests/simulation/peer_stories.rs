//! Limits by address, networks, and headers of proxies: what chance rarely brings about.

use std::time::Duration;

use ringwire::config::{AccessLog, Config, Share, TrustedProxy};

use crate::decoder::{Decoder, Item};
use crate::frames::{self, TEXT};
use crate::kernel::Chaos;
use crate::network::SocketId;
use crate::story::Story;

const OTHER: &str = "192.0.2.7";

fn story(shards: usize, change: impl FnOnce(&mut Config)) -> Story {
    Story::new(shards, |config, _: &mut Chaos| {
        config.peers.trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network")];
        change(config);
    })
}

fn settle(story: &mut Story) {
    for _ in 0..30 {
        for shard in 0..story.shards.len() {
            story.tick(shard);
        }
    }
}

/// The status that an upgrade gets on a connection.
fn upgrade(story: &mut Story, socket: SocketId, fields: &str) -> Option<u16> {
    let upgrade = frames::upgrade(&mut story.rng, "/echo");
    let text = String::from_utf8(upgrade).expect("a request is text");
    story.write(socket, text.replacen("\r\n", &format!("\r\n{fields}"), 1).as_bytes());
    settle(story);
    status(story, socket)
}

fn status(story: &mut Story, socket: SocketId) -> Option<u16> {
    match story.read(socket, &mut Decoder::default()).first() {
        Some(Item::Response { status, .. }) => Some(*status),
        _ => None,
    }
}

/// The addresses of those whose ends a shard has told, oldest first.
fn addresses_of_closed(story: &Story, shard: usize) -> Vec<Option<String>> {
    let records = story.shared.stats.shard(shard).close_records.last();
    records.iter().map(|record| record.address.map(|it| it.to_string())).collect()
}

#[test]
fn an_end_tells_whose_connection_it_was_wherever_that_was_known_and_moved_to() {
    let mut story = story(2, |config| config.peers.addresses = true);
    let direct = story.connect_from(OTHER, 0);
    assert_eq!(upgrade(&mut story, direct, ""), Some(101));
    let key = story.shards[0].connections().keys()[0];
    assert!(story.shards[0].move_to(key, 1));
    settle(&mut story);
    let forwarded = story.connect_from("10.0.0.2", 0);
    let field = "X-Forwarded-For: 2001:db8::7\r\n";
    assert_eq!(upgrade(&mut story, forwarded, field), Some(101));
    story.reset(direct);
    settle(&mut story);
    story.reset(forwarded);
    settle(&mut story);
    assert_eq!(addresses_of_closed(&story, 1), [Some(OTHER.to_owned())]);
    assert_eq!(addresses_of_closed(&story, 0), [Some("2001:db8::7".to_owned())]);
    // Whoever is in its place next is somebody else.
    let proxy = story.connect_from("10.0.0.3", 0);
    assert_eq!(upgrade(&mut story, proxy, ""), Some(101));
    story.reset(proxy);
    settle(&mut story);
    assert_eq!(addresses_of_closed(&story, 0)[1], Some("10.0.0.3".to_owned()));
}

/// What is logged of a visit: path and bytes, wherever the connection goes.
fn visit(sample: Share) -> Option<(String, (u64, u64))> {
    let mut story = story(2, |config| {
        // Nothing in this process opens it.
        config.logs.access = AccessLog::File("/dev/null".into());
        config.logs.access_sample = sample;
    });
    let (socket, mut decoder) = story.open(0, "/echo?secret");
    for shard in 0..2 {
        story.send(socket, TEXT, &[b'x'; 100]);
        settle(&mut story);
        assert_eq!(story.read(socket, &mut decoder).len(), 1);
        if shard == 0 {
            let key = story.shards[0].connections().keys()[0];
            assert!(story.shards[0].move_to(key, 1));
            settle(&mut story);
        }
    }
    story.reset(socket);
    settle(&mut story);
    let records = story.shared.stats.shard(1).close_records.last();
    assert_eq!(records.len(), 1);
    let path = records[0].path.as_deref()?;
    Some((path.to_owned(), records[0].bytes.expect("they are counted")))
}

#[test]
fn what_a_logged_connection_exchanges_is_counted_also_where_it_moves_to() {
    let (path, (received, sent)) = visit(Share::WHOLE).expect("it is logged");
    assert_eq!((&*path, received), ("/echo", 2 * 106));
    // The response to the upgrade, and two frames.
    assert!((2 * 102 + 100..2 * 102 + 300).contains(&sent), "{sent}");
    assert_eq!(visit("0".parse().expect("a share")), None);
}

#[test]
fn addresses_that_nobody_needs_are_not_asked_for() {
    let mut story = Story::new(1, |_, _: &mut Chaos| {});
    let socket = story.connect_from(OTHER, 0);
    assert_eq!(upgrade(&mut story, socket, ""), Some(101));
    story.reset(socket);
    settle(&mut story);
    assert_eq!(addresses_of_closed(&story, 0), [None]);
}

/// All come at once, to two shards.
#[test]
fn an_address_has_as_many_connections_as_it_may_on_all_shards_together() {
    let mut story = story(2, |config| config.peers.connections_per_address = Some(5));
    let sockets: Vec<_> = (0..12).map(|number| story.connect_from(OTHER, number % 2)).collect();
    settle(&mut story);
    let (reset, open): (Vec<_>, Vec<_>) =
        sockets.into_iter().partition(|socket| story.is_reset(*socket));
    assert_eq!((open.len(), reset.len()), (5, 7));
    assert_eq!(story.refused("address_connections"), 7);
    for socket in &open {
        assert_eq!(upgrade(&mut story, *socket, ""), Some(101));
    }
    let another = story.connect_from("192.0.2.8", 0);
    assert_eq!(upgrade(&mut story, another, ""), Some(101));
    // One moves to the other shard, and counts there.
    let key = story.shards[0].connections().keys()[0];
    assert!(story.shards[0].move_to(key, 1));
    settle(&mut story);
    assert_eq!(story.counter("connections_moved"), 1);
    let late = story.connect_from(OTHER, 0);
    settle(&mut story);
    assert!(story.is_reset(late));
    for socket in open {
        story.reset(socket);
    }
    settle(&mut story);
    assert_eq!(story.counted_for(OTHER), 0);
    let late = story.connect_from(OTHER, 1);
    assert_eq!(upgrade(&mut story, late, ""), Some(101));
}

#[test]
fn proxies_are_exempt_and_their_clients_are_not() {
    let mut story = story(2, |config| {
        config.peers.connections_per_address = Some(2);
        config.peers.deny_networks = vec!["198.51.100.0/24".parse().expect("a network")];
    });
    let field = format!("X-Forwarded-For: 10.9.9.9, {OTHER}, 10.0.0.3\r\n");
    let mut statuses = Vec::new();
    for number in 0..4 {
        let socket = story.connect_from("10.0.0.2", number % 2);
        statuses.push(upgrade(&mut story, socket, &field));
    }
    assert_eq!(statuses, [Some(101), Some(101), Some(429), Some(429)]);
    assert_eq!(story.refused("address_connections"), 2);
    // A direct connection of that address is one too many as well, whatever it says.
    let direct = story.connect_from(OTHER, 0);
    settle(&mut story);
    assert!(story.is_reset(direct));
    let socket = story.connect_from("192.0.2.8", 0);
    let denied = "X-Forwarded-For: 198.51.100.1\r\n";
    assert_eq!(upgrade(&mut story, socket, denied), Some(101), "not a proxy");
    let socket = story.connect_from("10.0.0.2", 0);
    assert_eq!(upgrade(&mut story, socket, denied), Some(403));
    assert_eq!(upgrade(&mut story, socket, &field), Some(429), "and may ask for others");
    let socket = story.connect_from("198.51.100.1", 0);
    settle(&mut story);
    assert!(story.is_reset(socket));
    assert_eq!(story.refused("network_denied"), 2);
}

#[test]
fn connections_come_at_no_higher_rate_than_they_may() {
    let mut story = story(2, |config| {
        config.peers.connection_rate = Some(4);
        config.peers.connection_rate_per_address = Some(3);
    });
    story.pass(Duration::from_secs(3));
    let open = |story: &mut Story, address: &str| {
        let sockets: Vec<_> = (0..6).map(|shard| story.connect_from(address, shard % 2)).collect();
        settle(story);
        sockets.into_iter().filter(|socket| !story.is_reset(*socket)).count()
    };
    assert_eq!(open(&mut story, OTHER), 3);
    assert_eq!(open(&mut story, "192.0.2.8"), 1);
    assert_eq!((story.refused("address_rate"), story.refused("connection_rate")), (3, 5));
    story.pass(Duration::from_secs(1));
    assert_eq!(open(&mut story, "192.0.2.8"), 3);
    // The rate of all holds for the clients of proxies, and for those who do not say for whom.
    let socket = story.connect_from("10.0.0.2", 0);
    assert_eq!(upgrade(&mut story, socket, ""), Some(101));
    let socket = story.connect_from("10.0.0.2", 0);
    assert_eq!(upgrade(&mut story, socket, ""), Some(503));
}

#[test]
fn a_proxy_header_comes_first_and_names_the_peer() {
    let mut story = story(1, |config| {
        config.listen[0].proxy = true;
        config.peers.connections_per_address = Some(1);
    });
    let header = format!("PROXY TCP4 {OTHER} 10.0.0.1 1 2\r\n");
    let request = frames::upgrade(&mut story.rng, "/echo");
    let socket = story.connect_from("10.0.0.1", 0);
    for byte in [header.as_bytes(), &request].concat() {
        story.write(socket, &[byte]);
        story.tick(0);
    }
    settle(&mut story);
    assert_eq!(status(&mut story, socket), Some(101));
    // All in one piece, and a second of that address.
    let socket = story.connect_from("10.0.0.1", 0);
    story.write(socket, &[header.as_bytes(), &request].concat());
    settle(&mut story);
    assert!(story.is_reset(socket));
    assert_eq!(story.refused("address_connections"), 1);
    // A connection of the proxy's own, behind which another proxy may speak for others.
    let socket = story.connect_from("10.0.0.1", 0);
    story.write(socket, b"PROXY UNKNOWN\r\n");
    let field = format!("X-Forwarded-For: {OTHER}\r\n");
    assert_eq!(upgrade(&mut story, socket, &field), Some(429));
}

#[test]
fn whoever_sends_no_proxy_header_or_must_not_is_not_served() {
    let mut story = story(1, |config| config.listen[0].proxy = true);
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"PROXY TCP4 nobody\r\n"] {
        let socket = story.connect_from("10.0.0.1", 0);
        story.write(socket, bytes);
        settle(&mut story);
        assert!(story.is_reset(socket));
    }
    assert_eq!(story.refused("proxy_header"), 2);
    let socket = story.connect_from(OTHER, 0);
    story.write(socket, b"PROXY UNKNOWN\r\n");
    settle(&mut story);
    assert!(story.is_reset(socket));
    assert_eq!(story.refused("untrusted_proxy"), 1);
    let silent = story.connect_from("10.0.0.1", 0);
    story.write(silent, b"PROXY TCP4 ");
    story.pass(Duration::from_secs(30));
    assert_eq!(status(&mut story, silent), None);
    assert_eq!((story.refused("proxy_header"), story.counter("connections_open")), (3, 0));
}

#[test]
fn those_who_come_by_a_unix_socket_may_be_trusted() {
    let mut story = story(1, |config| {
        config.peers.trusted_proxies = vec![TrustedProxy::Unix];
        config.peers.connections_per_address = Some(1);
        config.listen =
            vec!["unix:/a".parse::<ringwire::config::ListenAddress>().expect("an address").into()];
    });
    let field = format!("X-Forwarded-For: {OTHER}\r\n");
    for expected in [101, 429] {
        let socket = story.connect(0);
        assert_eq!(upgrade(&mut story, socket, &field), Some(expected));
    }
}

#[test]
fn some_users_who_come_by_a_unix_socket_may_be_trusted_and_others_not() {
    let mut story = story(1, |config| {
        config.peers.trusted_proxies = vec![TrustedProxy::UnixUser(33), TrustedProxy::UnixGroup(7)];
        config.peers.connections_per_address = Some(1);
        config.listen =
            vec!["unix:/a".parse::<ringwire::config::ListenAddress>().expect("an address").into()];
    });
    let field = format!("X-Forwarded-For: {OTHER}\r\n");
    for (peer, expected) in [
        // Whom they name is not believed, and they have no address themselves.
        ("unix:uid=34,gid=34", 101),
        ("unix:uid=34,gid=33", 101),
        ("unix:uid=33,gid=33", 101),
        ("unix:uid=33,gid=34", 429),
        ("unix:uid=0,gid=7", 429),
        ("unix:uid=7,gid=0", 101),
    ] {
        let socket = story.connect_from(peer, 0);
        assert_eq!(upgrade(&mut story, socket, &field), Some(expected), "{peer}");
    }
    assert_eq!(story.refused("address_connections"), 2);
}
