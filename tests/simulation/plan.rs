//! What one client is going to do, drawn from the seed before it starts.

use fastrand::Rng;

use crate::compression::OFFERS;

/// What the client wants of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    Echo,
    Topic {
        topic: u8,
        exclude_self: bool,
    },
    /// The messages of a topic as lines of a response.
    Stream {
        topic: u8,
        /// Of HTTP: `1.1` in chunks, `1.0` to the end of the connection.
        version: &'static str,
    },
    /// Plain requests only.
    Http,
    /// Requests that publish to a topic.
    Post {
        topic: u8,
    },
    /// Bytes that are no request.
    Noise,
    /// A request that never ends.
    Loris,
}

/// How the client receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Prompt,
    Slow,
    Never,
}

/// How the client ends, once its messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A close frame.
    Close,
    /// FIN without a close frame, then reading on.
    HalfClose,
    /// RST at any moment.
    Reset,
    /// Silence from any moment on, as if the cable had been cut.
    Vanish,
    /// Stays until it is told to leave, or the server stops.
    Stay,
    /// A breach of the protocol.
    Violate,
    /// Random bytes.
    Noise,
}

/// A client's intentions.
#[derive(Clone, Debug)]
pub struct Plan {
    pub shard: usize,
    /// The round in which it connects.
    pub start: u32,
    pub service: Service,
    pub reading: Reading,
    pub ending: Ending,
    /// Messages of the first burst.
    pub messages: u32,
    /// Further bursts, each after everything has come to rest.
    pub bursts: u32,
    pub bytes_max: usize,
    pub fragments_max: usize,
    /// Likelihood of a ping with each message, in percent.
    pub pings: u8,
    /// Whether frames are sent before the upgrade has been answered.
    pub pipelined: bool,
    /// Plain requests before the upgrade.
    pub requests: u32,
    /// Bytes of one write, at most.
    pub write_bytes_max: usize,
    /// Extensions offered.
    pub offer: Option<&'static str>,
}

impl Plan {
    /// Draws a plan; `bytes_max` bounds messages.
    pub fn draw(rng: &mut Rng, shards: usize, bytes_max: usize) -> Self {
        let service = match rng.u8(..20) {
            0..9 => Service::Echo,
            9..15 => Service::Topic { topic: rng.u8(..2), exclude_self: rng.u8(..4) == 0 },
            15 | 16 => Service::Post { topic: rng.u8(..2) },
            17 => Service::Http,
            18 => Service::Noise,
            _ => Service::Loris,
        };
        let reading = match rng.u8(..10) {
            0 => Reading::Never,
            1 | 2 => Reading::Slow,
            _ => Reading::Prompt,
        };
        let ending = match rng.u8(..16) {
            0..4 => Ending::Close,
            4..6 => Ending::HalfClose,
            6 => Ending::Reset,
            7 => Ending::Vanish,
            8 | 9 => Ending::Violate,
            // Random bytes might make a message that others could not recognise.
            10 if service == Service::Echo => Ending::Noise,
            _ => Ending::Stay,
        };
        let requests = match service {
            Service::Http => rng.u32(1..40),
            Service::Echo if rng.u8(..5) == 0 => rng.u32(1..40),
            _ => 0,
        };
        let write_bytes_max = 1 << rng.u8(0..13);
        let service = with_streams(rng, service);
        let publishes = !matches!(service, Service::Stream { .. });
        let is_quick = write_bytes_max > 64 && reading != Reading::Slow;
        Self {
            shard: rng.usize(..shards),
            start: rng.u32(..30),
            service,
            reading,
            ending,
            messages: rng.u32(..30) * u32::from(publishes),
            bursts: rng.u32(..3) * u32::from(publishes),
            bytes_max: if is_quick && rng.u8(..3) == 0 { bytes_max } else { bytes_max.min(300) },
            fragments_max: if rng.bool() { 1 } else { rng.usize(1..6) },
            pings: if rng.bool() { 0 } else { rng.u8(..60) },
            pipelined: rng.bool(),
            requests,
            write_bytes_max,
            offer: offer(rng),
        }
    }

    /// Whether the client keeps to the protocol and reads what it is sent.
    pub fn is_well_behaved(&self) -> bool {
        let is_served = !matches!(self.service, Service::Noise | Service::Loris);
        let is_orderly = !matches!(self.ending, Ending::Reset | Ending::Vanish | Ending::Noise);
        is_served && is_orderly && self.reading != Reading::Never
    }

    /// Whether the client belongs to a topic, to which it may publish as well.
    pub fn is_member(&self) -> bool {
        matches!(self.service, Service::Topic { .. })
    }

    /// Whether the client gets a topic as a stream.
    pub fn is_stream(&self) -> bool {
        matches!(self.service, Service::Stream { .. })
    }
}

/// Some of the members get lines. Drawn aside, so that all else stays as it is without streams.
fn with_streams(rng: &Rng, service: Service) -> Service {
    let mut aside = Rng::with_seed(rng.get_seed().rotate_left(32));
    let version = if aside.u8(..4) == 0 { "1.0" } else { "1.1" };
    match service {
        Service::Topic { topic, .. } if aside.u8(..3) == 0 => Service::Stream { topic, version },
        service => service,
    }
}

/// Drawn aside, so that all else stays as it is without offers.
fn offer(rng: &Rng) -> Option<&'static str> {
    let mut aside = Rng::with_seed(!rng.get_seed());
    if aside.u8(..3) == 0 { None } else { aside.choice(&OFFERS).copied() }
}
