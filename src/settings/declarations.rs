//! Every setting, declared once: the flag, the environment variable, the key of the file, the help,
//! the man page, the completions and `ringwire config` are all made from these lines.

use super::form::{boolean, choice, count, duration, parsed, power_of_two, size, word};
use super::setting::{Setting, Value, list, one};
use crate::config::{Admin, HostPattern, OriginPattern, Subprotocol};
use crate::limits;

/// All settings in the order in which they are shown.
pub fn declarations() -> Vec<Setting> {
    let groups = [
        ("Listeners", listeners()),
        ("Engine", engine()),
        ("WebSocket", websocket()),
        ("Compression", compression()),
        ("Limits", limits()),
        ("Slow consumers", slow_consumers()),
        ("Stop", stop()),
        ("Logs", logs()),
    ];
    let under = |(heading, rows): (&'static str, Vec<Row>)| {
        rows.into_iter().map(move |(key, value_name, help, value)| Setting {
            key,
            heading,
            value_name,
            help,
            value,
        })
    };
    groups.into_iter().flat_map(under).collect()
}

/// Key, value name, help and value of a setting.
type Row = (&'static str, &'static str, &'static str, Value);

fn listeners() -> Vec<Row> {
    let address = parsed("IP:PORT such as 127.0.0.1:7071 or [::1]:7071, or unix:PATH");
    vec![
        (
            "listen",
            "ADDRESS",
            "Accept connections on IP:PORT, [IPv6]:PORT or unix:PATH; may be repeated",
            list(address, |config| &mut config.listen).at_least_one(),
        ),
        (
            "admin",
            "ADDRESS",
            "Tell counters, health and readiness, and take requests to drain, on IP:PORT or \
             unix:PATH; off is nowhere, auto is 127.0.0.1:7072 unless that is taken",
            one(parsed(Admin::GRAMMAR), |config| &mut config.admin),
        ),
    ]
}

fn engine() -> Vec<Row> {
    vec![
        (
            "shards",
            "COUNT",
            "Event loops, a thread each; more than the cores hold more connections",
            one(count(&limits::SHARDS), |config| &mut config.engine.shards)
                .default_in_words("available cores"),
        ),
        (
            "pin",
            "BOOLEAN",
            "Pin each shard's thread to a core",
            one(boolean(), |config| &mut config.engine.pin),
        ),
        (
            "raise-nofile",
            "BOOLEAN",
            "Raise the soft RLIMIT_NOFILE, which bounds a shard's connections, to the hard one",
            one(boolean(), |config| &mut config.engine.raise_nofile),
        ),
        (
            "receive-buffers",
            "COUNT",
            "Receive buffers of a shard, shared by its connections",
            one(power_of_two(count(&limits::RECEIVE_BUFFERS)), |config| {
                &mut config.engine.receive_buffers
            }),
        ),
        (
            "receive-buffer-size",
            "SIZE",
            "Size of one receive buffer",
            one(power_of_two(size(&limits::RECEIVE_BUFFER_BYTES)), |config| {
                &mut config.engine.receive_buffer_bytes
            }),
        ),
        (
            "broadcast-ring",
            "COUNT",
            "Messages in flight between shards, per shard; a full ring slows its publishers",
            one(power_of_two(count(&limits::BROADCAST_RING_SLOTS)), |config| {
                &mut config.engine.broadcast_ring_slots
            }),
        ),
        (
            "park-after",
            "TIME",
            "Quiet time after which a connection gives its kernel memory back",
            one(duration(&limits::PARK_AFTER).or_off(), |config| &mut config.engine.park_after),
        ),
        (
            "batch-wait-us",
            "COUNT",
            "Microseconds to gather messages before waking for them: less CPU, more latency",
            one(count(&limits::BATCH_WAIT_US).or_off(), |config| &mut config.engine.batch_wait_us),
        ),
        (
            "disable",
            "ABILITY",
            "Do not use this kernel ability even when it is present; may be repeated",
            list(word(&limits::DISABLEABLE_ABILITIES), |config| {
                &mut config.engine.disabled_abilities
            })
            .default_in_words("none"),
        ),
    ]
}

fn websocket() -> Vec<Row> {
    vec![
        (
            "root",
            "ROUTE",
            "What / does with messages: return them, or send them to the topic `default`",
            one(choice(), |config| &mut config.root),
        ),
        (
            "broadcast-access",
            "ACCESS",
            "Who may use /broadcast: all, WebSockets to subscribe (a message closes with 1008) and \
             POST to publish, or nobody (403)",
            one(choice(), |config| &mut config.broadcast_access),
        ),
        (
            "allow-host",
            "HOST",
            "Answer requests for this host alone, exact or *.example.org, others with 421; may be \
             repeated",
            list(parsed(HostPattern::GRAMMAR), |config| &mut config.allow_host)
                .default_in_words("every host"),
        ),
        (
            "allow-origin",
            "ORIGIN",
            "Accept pages of this origin alone, exact or *.example.org, and the server's own; may \
             be repeated",
            list(parsed(OriginPattern::GRAMMAR), |config| &mut config.allow_origin)
                .default_in_words("every origin"),
        ),
        (
            "subprotocol",
            "NAME",
            "Subprotocol spoken; the client's first that is listed is chosen; may be repeated",
            list(parsed(Subprotocol::GRAMMAR), |config| &mut config.subprotocols)
                .default_in_words("none"),
        ),
        (
            "subprotocol-required",
            "BOOLEAN",
            "Refuse upgrades that offer none of the subprotocols spoken with 400",
            one(boolean(), |config| &mut config.subprotocol_required),
        ),
        (
            "message-types",
            "TYPES",
            "Message types accepted; others close the connection with 1003",
            one(choice(), |config| &mut config.message_types),
        ),
    ]
}

fn compression() -> Vec<Row> {
    vec![
        (
            "compression",
            "MODE",
            "Compress messages (RFC 7692) for peers that offer it: each by itself, or in context",
            one(choice(), |config| &mut config.compression.mode),
        ),
        (
            "compression-level",
            "LEVEL",
            "How hard to compress: 0 stores, 9 is smallest and slowest",
            one(count(&limits::COMPRESSION_LEVEL), |config| &mut config.compression.level),
        ),
        (
            "compression-window",
            "BITS",
            "How far back compressed messages refer, in bits of the size",
            one(count(&limits::COMPRESSION_WINDOW_BITS), |config| {
                &mut config.compression.window_bits
            }),
        ),
        (
            "compression-threshold",
            "SIZE",
            "Messages smaller than this are sent plain",
            one(size(&limits::COMPRESSION_THRESHOLD_BYTES), |config| {
                &mut config.compression.threshold_bytes
            }),
        ),
    ]
}

fn limits() -> Vec<Row> {
    let mut rows = size_limits();
    rows.extend(time_limits());
    rows
}

fn size_limits() -> Vec<Row> {
    vec![
        (
            "max-connections",
            "COUNT",
            "Open WebSockets of the whole process; further upgrades are answered 503",
            one(count(&limits::CONNECTIONS).or_off(), |config| &mut config.limits.connections),
        ),
        (
            "max-request-head",
            "SIZE",
            "Size of a request line with its headers; longer ones are answered 414 or 431",
            one(size(&limits::REQUEST_HEAD_BYTES), |config| &mut config.limits.request_head_bytes),
        ),
        (
            "max-request-headers",
            "COUNT",
            "Header fields of a request; more are answered 431",
            one(count(&limits::REQUEST_HEADERS), |config| &mut config.limits.request_headers),
        ),
        (
            "max-message",
            "SIZE",
            "Payload of a message over all its fragments; longer ones close with 1009",
            one(size(&limits::MESSAGE_BYTES), |config| &mut config.limits.message_bytes),
        ),
        (
            "max-fragments",
            "COUNT",
            "Fragments of a message; more close with 1008",
            one(count(&limits::MESSAGE_FRAGMENTS), |config| &mut config.limits.message_fragments),
        ),
        (
            "max-control-rate",
            "COUNT",
            "Control frames of a connection per second; more close with 1008",
            one(count(&limits::CONTROL_FRAMES_PER_SECOND), |config| {
                &mut config.limits.control_frames_per_second
            }),
        ),
        (
            "max-memory",
            "SIZE",
            "Resident memory: refuse with 503 from 85 % on, shed with 1013 from 95 % on",
            one(size(&limits::MEMORY_BYTES).or_off(), |config| &mut config.limits.memory_bytes),
        ),
    ]
}

fn time_limits() -> Vec<Row> {
    vec![
        (
            "handshake-timeout",
            "TIME",
            "From accept to the complete request; later ones are answered 408",
            one(duration(&limits::HANDSHAKE_TIMEOUT), |config| {
                &mut config.limits.handshake_timeout
            }),
        ),
        (
            "idle-timeout",
            "TIME",
            "Close when the peer is silent for this long; it has been pinged before",
            one(duration(&limits::IDLE_TIMEOUT).or_off(), |config| &mut config.limits.idle_timeout),
        ),
        (
            "close-timeout",
            "TIME",
            "Wait this long, from when it was last seen to read, for the peer's half of a close",
            one(duration(&limits::CLOSE_TIMEOUT), |config| &mut config.limits.close_timeout),
        ),
        (
            "ping-interval",
            "TIME",
            "Ping after this long without a byte in one of the directions (at most half of \
             --idle-timeout)",
            one(duration(&limits::PING_INTERVAL).or_off(), |config| {
                &mut config.limits.ping_interval
            }),
        ),
        (
            "message-idle-timeout",
            "TIME",
            "Close a connection after this long without a data message in either direction",
            one(duration(&limits::MESSAGE_IDLE_TIMEOUT).or_off(), |config| {
                &mut config.limits.message_idle_timeout
            }),
        ),
        (
            "message-timeout",
            "TIME",
            "Time from the beginning of a message to its end, if that does not come at once; later \
             closes with 1008",
            one(duration(&limits::MESSAGE_TIMEOUT).or_off(), |config| {
                &mut config.limits.message_timeout
            }),
        ),
        (
            "lifetime",
            "TIME",
            "Close a connection this long after it opened",
            one(duration(&limits::LIFETIME).or_off(), |config| &mut config.limits.lifetime),
        ),
    ]
}

fn slow_consumers() -> Vec<Row> {
    vec![
        (
            "slow-consumer",
            "POLICY",
            "On a full backlog: close with 1013, drop the new message, the oldest, or the queue",
            one(choice(), |config| &mut config.slow_consumer),
        ),
        (
            "max-backlog",
            "SIZE",
            "Bytes queued for a connection that does not read",
            one(size(&limits::BACKLOG_BYTES), |config| &mut config.limits.backlog_bytes),
        ),
    ]
}

fn stop() -> Vec<Row> {
    vec![(
        "drain",
        "TIME",
        "On SIGTERM, SIGINT or SIGHUP, spread the closing of all connections over this time",
        one(duration(&limits::DRAIN), |config| &mut config.drain),
    )]
}

fn logs() -> Vec<Row> {
    vec![
        (
            "log-level",
            "LEVEL",
            "Least severe lines written to standard error; `info` is start, stop and drain",
            one(choice(), |config| &mut config.logs.level),
        ),
        (
            "log-format",
            "FORMAT",
            "Log lines for a person, or one JSON object each",
            one(choice(), |config| &mut config.logs.format),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_key_is_declared_once_and_every_default_is_allowed() {
        let settings = declarations();
        for (index, setting) in settings.iter().enumerate() {
            assert!(settings.iter().skip(index + 1).all(|other| other.key != setting.key));
            let mut config = Config::default();
            let items = setting.value.read(&mut config);
            assert_eq!(setting.value.write(&mut config, &items), Ok(()), "{}", setting.key);
            assert_eq!(config, Config::default(), "{}", setting.key);
        }
    }

    #[test]
    fn one_value_is_not_a_list() {
        let settings = declarations();
        let shards = settings.iter().find(|setting| setting.key == "shards").expect("declared");
        let items = ["1".to_owned(), "2".to_owned()];
        assert_eq!(shards.value.write(&mut Config::default(), &items), Err("1,2".to_owned()));
        assert_eq!(shards.value.write(&mut Config::default(), &[]), Err(String::new()));
    }
}
