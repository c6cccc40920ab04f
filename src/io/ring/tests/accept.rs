//! Accepts that tell who has connected.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use socket2::{Domain, SockAddr, Socket, Type};

use super::*;

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
fn accepted(rig: &mut Rig) -> Option<IpAddr> {
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

#[test]
fn peers_of_unix_sockets_have_no_address() {
    let path = std::env::temp_dir().join(format!("ringwire-accept-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let mut rig = ring(kernels()[0], listener.into(), 2);
    let _peer = UnixStream::connect(&path).unwrap();
    assert_eq!(accepted(&mut rig), None);
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
