//! Addresses that are bound, taken or gone on with.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::*;

fn bind(listener: &ListenerConfig, shards: usize) -> Result<Listener, ListenError> {
    Listener::bind(listener, shards, &mut OpenSockets::default())
}

#[test]
fn every_shard_shares_the_port_the_kernel_chose() {
    let any = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()).into();
    let mut listener = bind(&any, 3).unwrap();
    let ListenAddress::Tcp(address) = listener.address.clone() else { panic!("TCP") };
    assert_ne!(address.port(), 0);
    let taken = bind(&ListenAddress::Tcp(address).into(), 1).unwrap_err().to_string();
    assert!(taken.contains("another process listens"), "{taken}");
    assert!((0..3).all(|_| listener.take_socket().is_some()));
    assert!(listener.take_socket().is_none());
}

#[test]
fn a_connection_is_accepted_when_its_request_begins() {
    let any = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()).into();
    let mut listener = bind(&any, 1).unwrap();
    let ListenAddress::Tcp(address) = listener.address.clone() else { panic!("TCP") };
    let socket = Socket::from(listener.take_socket().unwrap().descriptor);
    // A stall of this test longer than the silence allowed makes a try worthless.
    let is_deferred = (0..10).any(|_| {
        let mut client = TcpStream::connect(address).unwrap();
        let is_early = socket.accept().is_ok();
        client.write_all(b"GET").unwrap();
        while !is_early && socket.accept().is_err() {
            thread::sleep(Duration::from_millis(1));
        }
        !is_early
    });
    assert!(is_deferred);
}

fn directory(name: &str) -> PathBuf {
    let name = format!("ringwire-{name}-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

#[test]
fn a_socket_that_somebody_has_is_not_stale() {
    let directory = directory("taken");
    for (name, kind, backlog) in [
        ("datagram", Type::DGRAM, None),
        ("seqpacket", Type::SEQPACKET, Some(1)),
        ("not-yet-listening", Type::STREAM, None),
        ("full-backlog", Type::STREAM, Some(0)),
    ] {
        let path = directory.join(name);
        let address = SockAddr::unix(&path).unwrap();
        let socket = Socket::new(Domain::UNIX, kind, None).unwrap();
        socket.bind(&address).unwrap();
        if let Some(backlog) = backlog {
            socket.listen(backlog).unwrap();
        }
        // A backlog of 0 holds one connection.
        let waiting = Socket::new(Domain::UNIX, kind.nonblocking(), None).unwrap();
        let _ = waiting.connect(&address);
        let error = bind(&ListenAddress::Unix(path.clone()).into(), 1).unwrap_err();
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse, "{name}");
        drop((socket, waiting));
        assert!(bind(&ListenAddress::Unix(path).into(), 1).is_ok(), "{name}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_file_of_a_successor_stays() {
    let directory = directory("successor");
    let address = ListenAddress::Unix(directory.join("socket")).into();
    let mut first = bind(&address, 1).unwrap();
    // Its shards have ended and closed their sockets.
    drop(first.take_socket());
    std::fs::remove_file(directory.join("socket")).unwrap();
    let second = bind(&address, 1).unwrap();
    drop(first);
    std::os::unix::net::UnixStream::connect(directory.join("socket")).unwrap();
    drop(second);
    assert!(!directory.join("socket").exists());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_file_has_the_mode_asked_for() {
    let directory = directory("mode");
    let address = ListenAddress::Unix(directory.join("socket"));
    for text in ["600", "666", "606"] {
        let mode: SocketMode = text.parse().unwrap();
        let listener = ListenerConfig { mode: Some(mode), ..address.clone().into() };
        let _listener = bind(&listener, 2).unwrap();
        let metadata = std::fs::metadata(directory.join("socket")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode.bits());
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn as_many_wait_to_be_accepted_as_the_backlog_says() {
    let directory = directory("backlog");
    let path = directory.join("socket");
    let listener = ListenerConfig { backlog: 3, ..ListenAddress::Unix(path.clone()).into() };
    let _listener = bind(&listener, 2).unwrap();
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.connect(&SockAddr::unix(&path)?).map(|()| socket)
    };
    // The kernel lets in one more than it is told (unix_recvq_full).
    let waiting: Vec<_> = std::iter::repeat_with(connect).map_while(Result::ok).take(9).collect();
    assert_eq!(waiting.len(), 4);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn an_address_in_use_is_waited_for() {
    let mut holder = Some(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = holder.as_ref().unwrap().local_addr().unwrap();
    let mut tries = 0;
    let bound = while_in_use(|| {
        tries += 1;
        if tries == 3 {
            holder = None;
        }
        Listener::bind_tcp(address, 2, 1)
    });
    assert!(bound.is_ok());
    assert_eq!(tries, 3);
}

#[test]
fn a_socket_file_is_replaced_only_when_stale() {
    let directory = directory("stale");
    let path = directory.join("socket");
    let address = ListenAddress::Unix(path.clone()).into();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = bind(&address, 2).unwrap();
    assert!(bind(&address, 1).is_err());
    drop(listener);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    let refused = bind(&address, 1).unwrap_err().to_string();
    assert!(refused.contains("no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_dir_all(&directory).unwrap();
}
