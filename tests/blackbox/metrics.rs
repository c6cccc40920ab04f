//! What a monitoring system is told: exact counts after a known load, in two formats, read by a
//! parser that nobody here wrote; and how connections ended.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::SHARD_COUNTS;
use crate::foreign_clients::{program, tools};
use crate::peer::{BINARY, FIN, PING, PONG, Peer, TEXT, frame};
use crate::server::{Server, wait_until};

/// The samples of one moment by series, such as `ringwire_closes_total{initiator="local",...}`.
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn of(server: &Server) -> Self {
        let response = Peer::connect(server.admin()).get("/metrics");
        assert_eq!(response.status, 200);
        let text = String::from_utf8(response.body).expect("UTF-8");
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            (series.to_owned(), value.parse().expect("a number"))
        });
        Self(samples.collect())
    }

    /// The value of a series, named without the prefix of the program.
    fn value(&self, series: &str) -> f64 {
        let series = format!("ringwire_{series}");
        *self.0.get(&series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// All series of a name together, whatever their labels.
    fn sum(&self, name: &str) -> f64 {
        let begin = format!("ringwire_{name}{{");
        let series: Vec<_> =
            self.0.iter().filter(|(series, _)| series.starts_with(&begin)).collect();
        assert!(!series.is_empty(), "no series {name}");
        series.into_iter().map(|(_, value)| value).sum()
    }
}

#[test]
fn counts_are_exact_after_a_known_load() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--ping-interval", "off", "--idle-timeout", "off"]);
        load(&server);
        let metrics = Metrics::of(&server);
        for (series, expected) in LOAD {
            assert_eq!(metrics.value(series), *expected, "{series}, {shards} shards");
        }
        for (name, expected) in LOAD_BY_SHARD {
            assert_eq!(metrics.sum(name), *expected, "{name}, {shards} shards");
        }
        let ticks: f64 = metrics.sum("ticks_total");
        // The tick that a shard is in has not ended.
        let measured = metrics.sum("tick_duration_seconds_count");
        assert!(measured >= ticks - shards as f64, "{measured} of {ticks}");
        assert!(metrics.value("delivery_duration_seconds_count") >= 1.0);
        let stats = server.stats();
        assert_eq!((stats.messages_in(), stats.messages_out(), stats.upgrades()), (20, 25, 5));
        server.stop();
    }
}

/// Three echoes of five messages each, two members of a topic to which four messages come from one
/// of them and one by request, pings and pongs, ends and refusals.
fn load(server: &Server) {
    let mut echoes: Vec<_> = (0..3).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    for peer in &mut echoes {
        for number in 0..5 {
            peer.send_frame(if number % 2 == 0 { TEXT } else { BINARY }, b"payload");
            peer.read_frame();
        }
    }
    let mut members: Vec<_> =
        (0..2).map(|_| Peer::upgrade(server.address(), "/broadcast/news")).collect();
    for _ in 0..4 {
        members[0].send_frame(TEXT, b"news");
        members.iter_mut().for_each(|member| member.expect(TEXT, b"news"));
    }
    let mut poster = Peer::connect(server.address());
    poster.send(b"POST /broadcast/news HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\npost");
    assert_eq!(poster.read_response().status, 202);
    members.iter_mut().for_each(|member| member.expect(BINARY, b"post"));
    assert_eq!(poster.get("/nowhere").status, 404);
    echoes[0].send(&[frame(FIN | PONG, b"unasked"), frame(FIN | PING, b"1")].concat());
    echoes[0].expect(PONG, b"1");
    echoes[0].send_close(1000);
    echoes[0].read_close();
    echoes[1].send_close(4321);
    echoes[1].read_close();
    drop((echoes, members, poster));
    wait_until("all have gone", || server.stats().connections_open() == 0);
}

const LOAD: &[(&str, f64)] = &[
    ("upgrades_total{service=\"echo\"}", 3.0),
    ("upgrades_total{service=\"broadcast\"}", 2.0),
    ("messages_received_total{service=\"echo\"}", 15.0),
    ("messages_received_total{service=\"broadcast\"}", 5.0),
    ("messages_sent_total{service=\"echo\"}", 15.0),
    ("messages_sent_total{service=\"broadcast\"}", 10.0),
    ("messages_published_total", 5.0),
    ("pings_received_total", 1.0),
    ("pongs_received_total", 1.0),
    ("pings_sent_total", 0.0),
    ("requests_refused_total{reason=\"not_found\"}", 1.0),
    ("requests_refused_total{reason=\"full\"}", 0.0),
    ("closes_total{initiator=\"remote\",code=\"1000\"}", 1.0),
    ("closes_total{initiator=\"remote\",code=\"other\"}", 1.0),
    ("closes_total{initiator=\"remote\",code=\"1006\"}", 3.0),
    ("closes_total{initiator=\"local\",code=\"1000\"}", 0.0),
    ("websocket_duration_seconds_count", 5.0),
    ("websocket_duration_seconds_bucket{le=\"+Inf\"}", 5.0),
    ("ping_round_trip_seconds_count", 0.0),
    ("connections_peak", 6.0),
    ("draining", 0.0),
    ("shards_ailing{ailment=\"stuck\"}", 0.0),
    ("memory_pressure", 0.0),
    ("log_lines_total{level=\"error\"}", 0.0),
];

/// The same of counters that each shard has of its own.
const LOAD_BY_SHARD: &[(&str, f64)] =
    &[("connections_accepted_total", 6.0), ("connections", 0.0), ("websockets", 0.0)];

#[test]
fn a_parser_of_others_reads_both_formats() {
    let Some(tools) = tools() else { return };
    let labels = ["--label", "region=eu", "--label", "quoted=\"a\\b\""];
    let server = Server::start(2, &[&labels[..], &["--ping-interval", "off"]].concat());
    load(&server);
    let output = Command::new(tools.join("python/bin/python"))
        .arg(program("prometheus.py"))
        .arg(format!("http://{}/metrics", server.admin()))
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let samples: BTreeMap<String, f64> = serde_json::from_slice(&output.stdout).expect("JSON");
    for (series, expected) in LOAD {
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.replace(['"', '}'], "").replace("+Inf", "inf");
        let own = labels.split(',').filter(|label| !label.is_empty()).map(str::to_owned);
        let mut labels: Vec<_> =
            own.chain(["region=eu".to_owned(), "quoted=\"a\\b\"".to_owned()]).collect();
        labels.sort_unstable();
        let series = format!("ringwire_{name}{{{}}}", labels.join(","));
        assert_eq!(samples.get(&series), Some(expected), "{series} in {samples:#?}");
    }
    server.stop();
}

#[test]
fn the_format_is_what_the_client_accepts() {
    let server = Server::start(1, &[]);
    let mut peer = Peer::connect(server.admin());
    let (text, open) = ("text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0");
    for (accept, content_type) in [
        ("", text),
        ("Accept: text/plain\r\n", text),
        ("Accept: application/openmetrics-text; version=1.0.0\r\n", open),
        ("Accept: application/openmetrics-text;q=0.1, text/plain;q=0.5\r\n", text),
        ("Accept: image/png\r\n", text),
    ] {
        peer.send(format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n{accept}\r\n").as_bytes());
        let response = peer.read_response();
        let told = response.header("content-type").expect("a type");
        assert_eq!((response.status, told), (200, &*format!("{content_type}; charset=utf-8")));
        assert_eq!(response.body.ends_with(b"# EOF\n"), content_type == open, "{accept}");
    }
    server.stop();
}

#[test]
fn no_counter_ever_falls() {
    let server = Server::start(2, &["--ping-interval", "200ms", "--lifetime", "500ms"]);
    let (address, is_over) = (server.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        for path in ["/echo", "/broadcast/a", "/broadcast/b"] {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let mut peer = Peer::upgrade(address, path);
                    for _ in 0..20 {
                        peer.send_frame(TEXT, b"x");
                    }
                    peer.send_close(1000);
                    while peer.try_read_frame().is_some() {}
                }
            });
        }
        let mut before = Metrics::of(&server);
        for _ in 0..20 {
            let after = Metrics::of(&server);
            for (series, value) in &before.0 {
                let name = series.split('{').next().expect("a name");
                let ends = ["_total", "_bucket", "_count", "_sum"];
                if ends.iter().any(|end| name.ends_with(end)) {
                    assert!(after.0[series] >= *value, "{series}: {value}, {}", after.0[series]);
                }
            }
            before = after;
        }
        assert!(before.sum("messages_received_total") > 0.0, "there was a load");
        is_over.store(true, Ordering::Relaxed);
    });
    server.stop();
}

#[test]
fn only_pongs_that_answer_a_ping_are_timed() {
    let server = Server::start(2, &["--ping-interval", "200ms"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let ping = peer.read_frame();
    assert_eq!(ping.opcode, PING);
    let mut forged = ping.payload.clone();
    forged[0] ^= 1;
    for payload in [&forged[..], b"", b"of another kind", &[0; 16]] {
        peer.send_frame(PONG, payload);
    }
    let timed = || Metrics::of(&server).value("ping_round_trip_seconds_count");
    wait_until("the pongs are counted", || {
        Metrics::of(&server).value("pongs_received_total") >= 4.0
    });
    assert_eq!(timed(), 0.0);
    peer.send_frame(PONG, &ping.payload);
    wait_until("the answer is timed", || timed() == 1.0);
    let metrics = Metrics::of(&server);
    assert!(metrics.value("pings_sent_total") >= 1.0);
    assert!(metrics.value("ping_round_trip_seconds_sum") > 0.0);
    server.stop();
}

#[test]
fn labels_budget_and_what_the_log_would_say_are_told() {
    let mut command = Server::command();
    command.env("RINGWIRE_LABEL", "region=eu").env("RINGWIRE_NO_OPTION", "x");
    let flags = ["--traffic-budget", "1MiB", "--log-level", "error", "--max-connections", "7"];
    let server = Server::start_as(command, &["127.0.0.1:0"], 1, &flags);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    peer.send_frame(TEXT, &[b'x'; 1000]);
    peer.expect(TEXT, &[b'x'; 1000]);
    let metrics = Metrics::of(&server);
    assert!(metrics.0.keys().all(|series| series.contains("{region=\"eu\"")));
    assert!(metrics.value("traffic_bytes{region=\"eu\"}") >= 1000.0);
    assert_eq!(metrics.value("traffic_budget_bytes{region=\"eu\"}"), f64::from(1 << 20));
    assert_eq!(metrics.value("websockets_limit{region=\"eu\"}"), 7.0);
    assert_eq!(metrics.value("log_lines_total{region=\"eu\",level=\"warn\"}"), 1.0);
    assert!(!server.output().contains("RINGWIRE_NO_OPTION"), "it is counted, not written");
    server.stop();
}

#[test]
fn what_is_left_of_each_resource_is_told() {
    let flags = ["--max-connections", "10", "--traffic-budget", "1MiB"];
    let server = Server::start(2, &flags);
    let _peers: Vec<_> = (0..4).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    let told = || {
        let text = server.ask_admin("/capacity").expect("an answer");
        let body = text.split_once("\r\n\r\n").map_or(&*text, |(_, body)| body);
        serde_json::from_str::<Value>(body).expect("JSON")
    };
    let of = |told: &Value, name: &str| {
        let resources = told["resources"].as_array().expect("an array");
        resources.iter().find(|resource| resource["name"] == name).cloned()
    };
    let connections = of(&told(), "connections").expect("connections");
    assert_eq!((&connections["used"], &connections["left"]), (&4.0.into(), &6.0.into()));
    let traffic = of(&told(), "traffic_bytes").expect("a budget");
    assert_eq!(traffic["limit"], 1_048_576.0);
    assert!(traffic["used"].as_f64().is_some_and(|bytes| bytes > 0.0), "{traffic}");
    // The second sample tells what a core has done since the first, and how all else has grown.
    wait_until("there are two samples", || {
        let told = told();
        of(&told, "processor_of_shard_1").is_some()
            && of(&told, "traffic_bytes").is_some_and(|it| it["growth_per_second"].is_f64())
    });
    server.stop();
}

fn closed(server: &Server, query: &str) -> Vec<Value> {
    let response = Peer::connect(server.admin()).get(&format!("/closed{query}"));
    assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    let json: Value = serde_json::from_slice(&response.body).expect("JSON");
    json["closed"].as_array().expect("an array").clone()
}

#[test]
fn how_connections_ended_can_be_asked() {
    for shards in SHARD_COUNTS {
        let flags = ["--max-backlog", "64KiB", "--max-message", "1MiB"];
        let server = Server::start(shards, &flags);
        let mut polite = Peer::upgrade(server.address(), "/echo");
        polite.send_frame(8, &[&1000_u16.to_be_bytes()[..], b"done"].concat());
        polite.read_close();
        let mut wrong = Peer::upgrade(server.address(), "/broadcast/a%20b");
        wrong.send(&frame(FIN | TEXT, &[0xff]));
        assert_eq!(wrong.read_close().0, 1007);
        Peer::upgrade(server.address(), "/echo").reset();
        wait_until("all ends are told", || closed(&server, "").len() == 3);
        for (query, service, initiator, code, reason) in [
            ("?code=1000", "echo", "remote", 1000, "done"),
            ("?topic=a+b", "broadcast", "local", 1007, "text is not valid UTF-8"),
            ("?code=1006&initiator=remote", "echo", "remote", 1006, "connection lost"),
        ] {
            let [ending] = &closed(&server, query)[..] else { panic!("one end for {query}") };
            assert_eq!(ending["service"], service, "{ending}");
            assert_eq!(ending["initiator"], initiator, "{ending}");
            assert_eq!(ending["code"], code, "{ending}");
            assert!(ending["reason"].as_str().expect("a text").contains(reason), "{ending}");
            assert!(ending["age_s"].as_f64().expect("seconds") < 60.0, "{ending}");
            assert!(ending["shard"].as_u64().expect("a number") < shards as u64, "{ending}");
        }
        let newest = closed(&server, "?limit=1");
        let time_s = newest[0]["time_s"].as_f64().expect("seconds");
        let since = closed(&server, &format!("?since={time_s}"));
        assert!(since.contains(&newest[0]), "{since:?}");
        assert!(closed(&server, &format!("?since={}", time_s + 1.0)).is_empty());
        for query in ["limit=0", "since=nan"] {
            let response = Peer::connect(server.admin()).get(&format!("/closed?{query}"));
            assert_eq!(response.status, 400);
            let told: Value = serde_json::from_slice(&response.body).expect("JSON");
            assert!(told["error"].as_str().is_some_and(|it| it.contains("since=SECONDS")));
        }
        server.stop();
    }
}

#[test]
fn who_reads_too_slowly_is_told_of_with_what_waited() {
    let server = Server::start(1, &["--max-backlog", "64KiB", "--slow-consumer", "disconnect"]);
    let mut publisher = Peer::upgrade(server.address(), "/broadcast/flood?exclude_self=true");
    let _slow = Peer::connect_narrow(server.address()).upgraded("/broadcast/flood");
    let payload = vec![b'x'; 16 << 10];
    let stats = || server.stats();
    let mut has_seen_backlog = false;
    while stats().closes("local", 1013) == 0 {
        for _ in 0..32 {
            publisher.send_frame(BINARY, &payload);
        }
        has_seen_backlog |= Metrics::of(&server).sum("connections_backlogged") > 0.0;
    }
    let [ending] = &closed(&server, "?code=1013")[..] else { panic!("one end") };
    assert_eq!((&ending["topic"], &ending["initiator"]), (&"flood".into(), &"local".into()));
    assert!(ending["backlog_bytes"].as_u64().expect("bytes") > 64 << 10, "{ending}");
    assert!(has_seen_backlog, "what waits is seen while it does");
    assert!(Metrics::of(&server).value("backlog_peak_bytes") > f64::from(64 << 10));
    server.stop();
}
