//! Accepts that tell who has connected.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use socket2::{Domain, SockAddr, Socket, Type};

use super::*;
use crate::config::{Credentials, PeerAddress};

/// A ring that accepts on `listener`, so many at a time.
fn ring(abilities: Abilities, listener: OwnedFd, accepts: usize) -> Rig {
    let mut rig = Rig::new(abilities, 8, 4);
    rig.ring.cancel_accept(0);
    assert!(matches!(rig.next(), Event::Accepted { result: Err(libc::ECANCELED), .. }));
    rig.ring.listen(vec![ListeningSocket::own(listener)]);
    (0..accepts).for_each(|_| rig.ring.accept_with_address(0));
    rig
}

/// The address that the next accept tells.
fn accepted(rig: &mut Rig) -> Option<PeerAddress> {
    match rig.next() {
        Event::Accepted { listener: 0, result: Ok(_), address, more: false } => address,
        event => panic!("unexpected {event:?}"),
    }
}

/// A stream to `to` from an address of this machine.
fn connect_from(from: &str, to: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::from(SocketAddr::new(from.parse().unwrap(), 0))).unwrap();
    socket.connect(&to.into()).unwrap();
    socket
}

#[test]
fn each_accept_tells_the_address_of_its_own_peer() {
    for abilities in kernels() {
        let sources = ["127.0.0.1", "127.0.0.9", "127.9.9.9"];
        for (bound, sources) in [("127.0.0.1:0", &sources[..]), ("[::1]:0", &["::1"])] {
            let listener = TcpListener::bind(bound).unwrap();
            let address = listener.local_addr().unwrap();
            let mut rig = ring(abilities, listener.into(), 5);
            let peers: Vec<_> = sources.iter().map(|from| connect_from(from, address)).collect();
            let mut told: Vec<_> =
                sources.iter().map(|_| accepted(&mut rig).unwrap().to_string()).collect();
            told.sort_unstable();
            assert_eq!(told, sources);
            rig.ring.cancel_accept(0);
            for _ in peers.len()..5 {
                let end = rig.next();
                assert!(matches!(
                    end,
                    Event::Accepted { result: Err(libc::ECANCELED), address: None, .. }
                ));
            }
            rig.expect_nothing();
        }
    }
}

/// A listener on a path of its own, and a connection to it.
fn unix_listener(name: &str) -> (UnixListener, PathBuf) {
    let path = std::env::temp_dir().join(format!("ringwire-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    (UnixListener::bind(&path).unwrap(), path)
}

#[test]
fn who_connects_by_a_unix_socket_is_known_by_user_and_group() {
    let (listener, path) = unix_listener("credentials");
    for abilities in kernels() {
        let mut rig = ring(abilities, listener.try_clone().unwrap().into(), 2);
        let mut peer = UnixStream::connect(&path).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let Event::Accepted { result: Ok(slot), address, more: false, .. } = rig.next() else {
            panic!("it is accepted");
        };
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let (user_id, group_id) = (user.as_raw(), group.as_raw());
        assert_eq!(address, Some(PeerAddress::Unix(Credentials { user_id, group_id })));
        // It is in a slot as any other, and in no descriptor of the process besides.
        let key = Key { index: 0, generation: 1 };
        rig.ring.receive_once(key, slot);
        peer.write_all(b"x").unwrap();
        assert!(matches!(rig.next(), Event::Received { result: Ok(Some(_)), .. }));
        rig.ring.close(key, slot);
        while !matches!(rig.next(), Event::Closed { .. }) {}
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "nobody else holds it");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn who_finds_no_slot_gets_the_next_one_that_is_free() {
    let (listener, path) = unix_listener("slotless");
    let mut rig = ring(kernels()[0], listener.into(), 0);
    let mut taken = Vec::new();
    let mut peers = Vec::new();
    loop {
        rig.ring.accept_with_address(0);
        peers.push(UnixStream::connect(&path).unwrap());
        match rig.next() {
            Event::Accepted { result: Ok(slot), .. } => taken.push(slot),
            Event::Accepted { result: Err(libc::ENFILE), .. } => break,
            event => panic!("unexpected {event:?}"),
        }
    }
    let key = Key { index: 0, generation: 1 };
    rig.ring.close(key, taken[0]);
    while !matches!(rig.next(), Event::Closed { .. }) {}
    rig.ring.accept_with_address(0);
    assert!(accepted(&mut rig).is_some());
    let last = peers.last_mut().unwrap();
    last.set_nonblocking(true).unwrap();
    assert_eq!(last.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_ring_ends_while_accepts_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let rig = ring(kernels()[0], listener.into(), 8);
    drop(rig);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}
