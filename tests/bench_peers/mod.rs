//! Servers to measure: the real one, broken ones, and those of other projects.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::authority::Authority;

/// A server in a process of its own, which ends with this value.
pub struct Server {
    child: Child,
    /// `ws://host:port` without a path.
    pub url: String,
}

impl Server {
    /// Ringwire itself.
    pub fn ringwire(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwire"));
        command.args(["serve", "--admin", "off", "--pin", "false"]).args(arguments);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        // The server takes every variable of this prefix for a setting.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RINGWIRE_")) {
            command.env_remove(name);
        }
        Self::start(command)
    }

    /// Ringwire with a listener for TLS, which shows `server.pem` of this authority.
    pub fn secured(authority: &Authority, arguments: &[&str]) -> Self {
        authority.issue("server", &["localhost", "127.0.0.1"]);
        let flags = authority.flags("server");
        let tls = flags.iter().map(String::as_str).chain(["--listen", "127.0.0.1:0,tls"]);
        let arguments: Vec<_> = tls.chain(arguments.iter().copied()).collect();
        Self::ringwire(&arguments)
    }

    /// A Node server on the package `ws`, when the tools are there.
    pub fn node() -> Option<Self> {
        let mut command = Command::new("node");
        command.arg(peer("ws_server.mjs")).arg(tools()?.join("node"));
        Some(Self::start(command))
    }

    /// A Python server on the package `websockets`, when the tools are there.
    pub fn python() -> Option<Self> {
        let mut command = Command::new(tools()?.join("python/bin/python"));
        // It tells at length of every connection that is reset.
        command.arg(peer("websockets_server.py")).stderr(Stdio::null());
        Some(Self::start(command))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("a first line").expect("UTF-8");
        let url = line.trim_start_matches("listening on ").trim_end_matches('/').to_owned();
        assert!(url.starts_with("ws"), "{line}");
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a broken server does wrong, to its tenth message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Changes the last byte of an echo.
    ChangedByte,
    /// Swaps two echoes.
    SwappedEchoes,
    /// Cuts an echo short.
    ShortEcho,
    /// Answers with the other type.
    OtherType,
    /// Sends an echo twice.
    EchoTwice,
    /// Does not echo.
    NoEcho,
    /// Broadcasts to all but one.
    Lost,
    /// Broadcasts twice.
    Duplicated,
    /// Broadcasts after the next one.
    Reordered,
    /// Broadcasts to all but the publisher itself.
    LostCopy,
    /// Broadcasts twice to the publisher itself.
    DuplicatedCopy,
    /// Broadcasts to the publisher itself after the next one.
    ReorderedCopy,
    /// Broadcasts to all but the publisher itself, always, which is no fault.
    ExcludesSelf,
    /// Answers nobody for a second.
    Stalls,
    /// Sends responses 100 and 103 before its 101, which is no fault.
    InterimResponses,
    /// Takes 5 ms for each message, one after the other, so it serves at most 200 in a second.
    SlowEcho,
    /// The same, and broadcasts it.
    SlowBroadcast,
    /// Answers the seventh and the eighth connection with 503.
    RefusesTwice,
    /// Closes with code 1011.
    Closes,
    /// Ends the stream.
    Aborts,
}

type Subscribers = Arc<Mutex<Vec<UnboundedSender<Message>>>>;

/// Starts a server with a fault and returns its URL. It ends with the test's process.
pub fn broken(fault: Fault) -> String {
    counting(fault).0
}

/// The same, and how many messages the server has received.
pub fn counting(fault: Fault) -> (String, Arc<AtomicU64>) {
    let received = Arc::new(AtomicU64::new(0));
    let counter = received.clone();
    let (tell, told) = std::sync::mpsc::channel::<SocketAddr>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            tell.send(listener.local_addr().expect("bound")).expect("the test waits");
            let subscribers = Subscribers::default();
            for number in 1.. {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                if fault == Fault::RefusesTwice && matches!(number, 7 | 8) {
                    let mut request = [0; 1024];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\n\r\n").await;
                    continue;
                }
                tokio::spawn(serve(stream, fault, subscribers.clone(), counter.clone()));
            }
        });
    });
    (format!("ws://{}/", told.recv().expect("it listens")), received)
}

async fn serve(
    mut stream: tokio::net::TcpStream,
    fault: Fault,
    subscribers: Subscribers,
    received: Arc<AtomicU64>,
) {
    if fault == Fault::InterimResponses {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        stream.write_all(interim.as_bytes()).await.expect("sent");
    }
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let (mut sink, mut stream) = socket.split();
    let (sender, mut receiver) = unbounded_channel();
    let is_broadcast = matches!(
        fault,
        Fault::Lost
            | Fault::Duplicated
            | Fault::Reordered
            | Fault::LostCopy
            | Fault::DuplicatedCopy
            | Fault::ReorderedCopy
            | Fault::ExcludesSelf
            | Fault::SlowBroadcast
    );
    if is_broadcast {
        subscribers.lock().expect("no panic").push(sender.clone());
    }
    tokio::spawn(async move {
        while let Some(message) = receiver.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // All senders are gone: the stream ends without a close frame.
    });
    let mut held = None;
    let mut held_copy = None;
    let mut count = 0;
    while let Some(Ok(message)) = stream.next().await {
        if message.is_close() {
            let _ = stream.next().await;
            return;
        }
        if !(message.is_binary() || message.is_text()) {
            continue;
        }
        count += 1;
        received.fetch_add(1, Ordering::Relaxed);
        if matches!(fault, Fault::SlowEcho | Fault::SlowBroadcast) {
            // Blocks every connection: all run on this thread.
            std::thread::sleep(SERVICE_TIME);
        }
        let messages = spoil(fault, count == 10, message, &mut held);
        match (fault, count) {
            (Fault::Aborts, 10) => return,
            (Fault::Closes, 10) => {
                let code =
                    tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode::Error;
                let reason = "broken".into();
                let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame { code, reason };
                let _ = sender.send(Message::Close(Some(frame)));
            }
            _ if is_broadcast => {
                let all = subscribers.lock().expect("no panic").clone();
                let skipped = usize::from(fault == Fault::Lost && count == 10);
                for message in messages {
                    let copies = spoil_copy(fault, count == 10, &message, &mut held_copy);
                    for subscriber in all.iter().rev().skip(skipped) {
                        if subscriber.same_channel(&sender) {
                            copies.iter().for_each(|copy| drop(sender.send(copy.clone())));
                        } else {
                            let _ = subscriber.send(message.clone());
                        }
                    }
                }
            }
            (Fault::Stalls, 10) => {
                // Blocks every connection: all run on this thread.
                std::thread::sleep(STALL);
                messages.into_iter().for_each(|message| drop(sender.send(message)));
            }
            _ => messages.into_iter().for_each(|message| drop(sender.send(message))),
        }
    }
}

/// What comes back to the publisher of `message`; the fault is in the one that `now` marks.
fn spoil_copy(
    fault: Fault,
    now: bool,
    message: &Message,
    held: &mut Option<Message>,
) -> Vec<Message> {
    match fault {
        Fault::ExcludesSelf => Vec::new(),
        Fault::LostCopy if now => Vec::new(),
        Fault::DuplicatedCopy if now => vec![message.clone(); 2],
        Fault::ReorderedCopy if now => {
            *held = Some(message.clone());
            Vec::new()
        }
        _ => std::iter::once(message.clone()).chain(held.take()).collect(),
    }
}

/// What is sent for `message`; the fault is in the one that `now` marks.
fn spoil(fault: Fault, now: bool, message: Message, held: &mut Option<Message>) -> Vec<Message> {
    let mut bytes = message.clone().into_data().to_vec();
    match fault {
        Fault::SwappedEchoes | Fault::Reordered if now => {
            *held = Some(message);
            return Vec::new();
        }
        Fault::SwappedEchoes | Fault::Reordered => {
            return std::iter::once(message).chain(held.take()).collect();
        }
        _ if !now => return vec![message],
        Fault::ChangedByte => {
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
        }
        Fault::ShortEcho => drop(bytes.pop()),
        Fault::OtherType => return vec![Message::text("12345678901234567890")],
        Fault::EchoTwice | Fault::Duplicated => return vec![message.clone(), message],
        Fault::NoEcho => return Vec::new(),
        Fault::None
        | Fault::Lost
        | Fault::LostCopy
        | Fault::DuplicatedCopy
        | Fault::ReorderedCopy
        | Fault::ExcludesSelf
        | Fault::Stalls
        | Fault::SlowEcho
        | Fault::SlowBroadcast
        | Fault::RefusesTwice
        | Fault::InterimResponses
        | Fault::Closes
        | Fault::Aborts => return vec![message],
    }
    vec![Message::binary(Bytes::from(bytes))]
}

/// A directory with `node/node_modules/ws` and a Python environment with `websockets`.
fn tools() -> Option<PathBuf> {
    std::env::var_os(TOOLS).map(PathBuf::from)
}

fn peer(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bench_peers").join(file)
}

/// How long a server stalls.
pub const STALL: Duration = Duration::from_secs(1);

/// How long a slow server takes for a message.
pub const SERVICE_TIME: Duration = Duration::from_millis(5);

const TOOLS: &str = "RINGWIRE_TEST_TOOLS";
