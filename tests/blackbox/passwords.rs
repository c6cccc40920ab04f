//! Users who show passwords: who gets in, what that is remembered for, and what others are told.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::SHARD_COUNTS;
use crate::peer::{Peer, Response};
use crate::server::{Server, socket_path, wait_until};

/// Of `secret`, as two programs have written it.
const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
const ARGON2: &str = "$argon2id$v=19$m=64,t=1,p=2$Iigmg8f29D9z5w7cp/5gZQ$\
                      s5ttPvpFHP+s05QasMYXt6xEoNkvHNYwg2Y4Tmf1Hs8";

/// A file that goes with its test.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let file = Self(socket_path(&format!("passwords-{number}")));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("the file can be written");
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn upgrade(server: &Server, topic: &str, login: Option<&str>) -> (Peer, Response) {
    let field = login.map(|it| format!("Authorization: Basic {}\r\n", STANDARD.encode(it)));
    let path = format!("/broadcast/{topic}");
    Peer::try_upgrade(server.address(), &path, &field.unwrap_or_default())
}

fn status(server: &Server, topic: &str, login: Option<&str>) -> u16 {
    upgrade(server, topic, login).1.status
}

fn passwords(server: &Server, reason: &str) -> String {
    let metrics = server.ask_admin("/metrics").expect("an answer");
    let series = format!("ringwire_passwords_total{{reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
    line.expect("a series").to_owned()
}

#[test]
fn users_get_in_by_their_passwords_and_do_what_they_are_granted() {
    for shards in SHARD_COUNTS {
        let users = File::new(&format!("ann:{BCRYPT}\nbob:{ARGON2}\n"));
        let grants = File::new("subscribe news.* ann\nsubscribe news.* bob\n");
        let flags = ["--basic-users", users.name(), "--user-grants", grants.name()];
        let server = Server::start(shards, &flags);
        for (topic, login, expected) in [
            ("news.a", Some("ann:secret"), 101),
            ("news.a", Some("bob:secret"), 101),
            ("other", Some("ann:secret"), 403),
            ("news.a", Some("ann:Secret"), 401),
            ("news.a", Some("bob:"), 401),
            ("news.a", Some("carol:secret"), 401),
            ("news.a", Some("no colon"), 401),
            ("news.a", None, 401),
        ] {
            assert_eq!(status(&server, topic, login), expected, "{topic} {login:?}");
        }
        let counts = ["right", "remembered", "wrong", "unknown_user", "late"];
        let counts = counts.map(|reason| passwords(&server, reason));
        assert_eq!(counts, ["2.0", "1.0", "2.0", "1.0", "0.0"]);
        let (_, refused) = upgrade(&server, "news.a", None);
        let challenge = "Basic realm=\"ringwire\", charset=\"UTF-8\"";
        assert_eq!(refused.header("www-authenticate"), Some(challenge));
        let said = server.output();
        assert!(!said.contains("without TLS"), "{said}");
        server.stop();
    }
}

#[test]
fn another_list_holds_at_once_and_a_wrong_one_never() {
    let users = File::new(&format!("ann:{BCRYPT}\nbob:{BCRYPT}\n"));
    let grants = File::new("subscribe ** *\n");
    let flags = ["--basic-users", users.name(), "--user-grants", grants.name()];
    let server = Server::start(1, &flags);
    for user in ["ann", "bob"] {
        assert_eq!(status(&server, "a", Some(&format!("{user}:secret"))), 101);
    }
    users.write("ann:$apr1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbbb\n");
    server.signal("HUP");
    wait_until("the log tells", || server.output().contains("htpasswd -B"));
    assert!(server.output().contains("line 1") && !server.output().contains("apr1"));
    assert_eq!(status(&server, "a", Some("ann:secret")), 101);
    // The password of `bob` is another now, and what was remembered does not count.
    let another = "$2a$05$abcdefghijklmnopqrstuujf8SX2ahXLwp9w/B.Y5XdysS6yR576q";
    users.write(&format!("ann:{BCRYPT}\nbob:{another}\n"));
    server.signal("HUP");
    wait_until("the list holds", || status(&server, "a", Some("bob:secret")) == 401);
    assert_eq!(status(&server, "a", Some(&format!("bob:{}", "x".repeat(72)))), 101);
    assert_eq!(status(&server, "a", Some("ann:secret")), 101);
    // What they may do is another file, which is heeded as well.
    grants.write("subscribe b *\n");
    server.signal("HUP");
    wait_until("the grants hold", || status(&server, "a", Some("ann:secret")) == 403);
    server.stop();
}
