//! The floor: a TCP echo and a TCP fan-out on the ring of this project, without WebSocket.
//!
//! What the server costs above this program is the price of the protocol and of what the server
//! does for its peers. The ring, its flags, its buffers and its one enter per tick are those of the
//! server. Left out are frame headers, masks, text, topics, timers and limits: once a connection is
//! upgraded only bytes are counted, because all frames of a run are equally long. Answers look like
//! server frames so that the load generator of the server can drive this program as well; what is
//! in them is meaningless, so its check of contents has to be switched off.

mod connections;
mod frame;
mod published;
mod reactor;

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use mimalloc::MiMalloc;
use ringwire::config::{Config, ListenAddress};
use ringwire::http::Policy;
use ringwire::io::listener::{Listener, OpenSockets};
use ringwire::io::probe::Abilities;
use ringwire::io::{Ring, RingOptions};

use frame::FrameSize;
use published::Published;
use reactor::Reactor;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The bare floor below the server: io_uring TCP, no WebSocket.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// Who gets an answer to a frame.
    mode: Mode,
    /// Where to listen; port 0 lets the kernel choose.
    #[arg(long, default_value = "127.0.0.1:7072")]
    listen: SocketAddr,
    /// Bytes of every frame a client sends, header and mask included.
    #[arg(long, value_name = "BYTES", default_value = "26")]
    frame: FrameSize,
    /// Where the bytes of an echo come from.
    #[arg(long, value_enum, default_value_t = Reply::Constant)]
    reply: Reply,
    /// Event loops, each with a thread and a table of files of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    shards: usize,
    /// End after this many seconds, as a guard against being forgotten.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    lifetime_s: u64,
}

/// Who gets an answer to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The sender alone.
    Echo,
    /// All connections, the sender included.
    FanOut,
}

/// Where the bytes of an echo come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Reply {
    /// One constant buffer, once the whole frame is there: the least work there can be.
    Constant,
    /// The buffer that the frame is arriving in, part by part: what a plain TCP echo does.
    Received,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    if options.mode == Mode::FanOut && options.reply == Reply::Received {
        return Err("a fan-out sends a constant frame; --reply received is for the echo".into());
    }
    let lifetime = Duration::from_secs(options.lifetime_s);
    std::thread::spawn(move || {
        std::thread::sleep(lifetime);
        std::process::exit(0);
    });
    let config = Config::default();
    let mut listener = Listener::bind(
        &ListenAddress::Tcp(options.listen).into(),
        options.shards,
        &mut OpenSockets::default(),
    )?;
    let ring_options = RingOptions {
        abilities: Abilities::probe()?,
        slots: u32::try_from(rlimit::Resource::NOFILE.get_soft()?)?,
        receive_buffers: config.engine.receive_buffers,
        receive_buffer_bytes: config.engine.receive_buffer_bytes,
        batch_wait_us: None,
    };
    let published = Published::new(options.shards);
    let (policy, all_rings) = (Policy::new(&config), Mutex::new(Vec::new()));
    let have_rings = Barrier::new(options.shards + 1);
    std::thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        for number in 0..options.shards {
            let socket = listener.take_socket();
            let (ring_options, all_rings, have_rings) = (&ring_options, &all_rings, &have_rings);
            let (published, policy) = (published.for_shard(number), policy.clone());
            scope.spawn(move || {
                // A ring belongs to the thread that makes it.
                let mut ring = Ring::new(ring_options).expect("a ring");
                ring.listen(socket.into_iter().collect());
                all_rings.lock().expect("nobody panics with it").push((number, ring.descriptor()));
                have_rings.wait();
                let mut rings = all_rings.lock().expect("nobody panics with it").clone();
                rings.sort_unstable();
                ring.join(rings.into_iter().map(|(_, descriptor)| descriptor).collect());
                let result = Reactor::new(ring, policy, published, options).run();
                result.expect("the kernel goes on");
            });
        }
        have_rings.wait();
        // The line that the server prints as well, so that scripts start both alike.
        if let ListenAddress::Tcp(address) = &listener.address {
            writeln!(std::io::stdout(), "listening on ws://{address}/")?;
        }
        Ok(())
    })
}
