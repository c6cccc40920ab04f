//! Mounts and the options of listeners, from the file and from flags.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::peer::{Peer, TEXT};
use crate::server::{Server, socket_path, wait_until};

#[test]
fn mounts_serve_beside_the_routes_that_are_built_in() {
    for shards in crate::SHARD_COUNTS {
        let file = socket_path("mounts.toml");
        let text = "[[mounts]]\npath = \"/chat\"\nservice = \"broadcast\"\ntopic = \"caf\u{e9}, a\"\n\
            [[mounts]]\npath = \"/rooms/{topic}\"\nservice = \"broadcast\"\nexclude_self = true\n\
            [[mounts]]\npath = \"/rooms/echo\"\nservice = \"echo\"\n";
        fs::write(&file, text).expect("the directory of this target is ours");
        let path = file.to_str().expect("UTF-8");
        let server = Server::start(shards, &["--config", path]);
        let upgrade = |path: &str| Peer::upgrade(server.address(), path);

        let mut chat = upgrade("/chat");
        let mut room = upgrade("/rooms/caf%C3%A9,%20a");
        let mut built_in = upgrade("/broadcast/caf%C3%A9,%20a");
        let mut loud = upgrade("/rooms/caf%C3%A9,%20a?exclude_self=false");
        chat.send_frame(TEXT, b"one topic");
        for peer in [&mut chat, &mut room, &mut built_in, &mut loud] {
            peer.expect(TEXT, b"one topic");
        }
        // The sender is spared by the mount, and not where its query says otherwise.
        room.send_frame(TEXT, b"from the room");
        for peer in [&mut chat, &mut built_in, &mut loud] {
            peer.expect(TEXT, b"from the room");
        }
        loud.send_frame(TEXT, b"to all");
        for peer in [&mut loud, &mut room, &mut chat, &mut built_in] {
            peer.expect(TEXT, b"to all");
        }
        let mut echo = upgrade("/rooms/echo");
        echo.send_frame(TEXT, b"back");
        echo.expect(TEXT, b"back");

        let mut plain = Peer::connect(server.address());
        for (path, status) in [("/chat", 426), ("/rooms/a", 426), ("/chat/", 404), ("/rooms", 404)]
        {
            assert_eq!(plain.get(path).status, status, "{path}");
        }
        // What is posted to a mount is published to its topic.
        let fields = "Host: a\r\nContent-Type: text/plain\r\nContent-Length: 6";
        plain.send(format!("POST /chat HTTP/1.1\r\n{fields}\r\n\r\nposted").as_bytes());
        assert_eq!(plain.read_response().status, 202);
        for peer in [&mut loud, &mut room, &mut chat, &mut built_in] {
            peer.expect(TEXT, b"posted");
        }
        drop(plain);
        server.stop();
        fs::remove_file(&file).expect("written before");
    }
}

#[test]
fn a_socket_file_with_a_comma_has_the_mode_asked_for() {
    let path = socket_path("a,b");
    let listener =
        format!("unix:{},mode=606,backlog=9", path.display().to_string().replace(',', ",,"));
    let server = Server::start_on(&["127.0.0.1:0", &listener], 2, &[]);
    wait_until("the Unix socket accepts", || Peer::connect_unix(&path).is_ok());
    let mode = fs::metadata(&path).expect("it listens").permissions().mode();
    assert_eq!(mode & 0o777, 0o606);
    let mut peer = Peer::connect_unix(&path).expect("it listens").upgraded("/echo");
    peer.send_frame(TEXT, b"local");
    peer.expect(TEXT, b"local");
    server.stop();
}
