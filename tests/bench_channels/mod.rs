//! Clients of channels: `--protocol centrifugo`.

use super::bench_peers::Server;
use super::{SHORT, count, measure, passes};

/// Channels with history, those of namespace `plain` without, those of `little` with very little,
/// and those of `closed` for nobody.
fn server(options: &[&str]) -> Server {
    let open = "allow_subscribe_for_client,allow_subscribe_for_anonymous,\
                allow_publish_for_client,allow_publish_for_anonymous";
    let channels = format!("history_size=300,history_ttl=300s,force_recovery,{open}");
    let plain = format!("plain,{open}");
    let little = format!("little,history_size=2,history_ttl=300s,force_recovery,{open}");
    let mut all = vec!["--realtime", "true", "--client-allow-anonymous", "true", "--shards", "2"];
    all.extend(["--channels", &channels, "--namespace", &plain, "--namespace", &little]);
    all.extend(["--namespace", "closed"]);
    Server::ringwire(&[&all, options].concat())
}

fn url(server: &Server) -> String {
    format!("{}/connection/websocket", server.url)
}

const CLIENTS: &str = "--protocol centrifugo --threads 2";

#[test]
fn publications_reach_every_subscriber_with_the_next_offset() {
    let server = server(&[]);
    for line in [
        "--publishers 2 --subscribers 10 --burst 4",
        "--subscribers 6 --channel plain:{topic} --size 100",
        "--subscribers 12 --publishers 2 --topics 12 --subscriptions 4 --rate 400",
        "--subscribers 5 --publishers 3 --topics 5 --subscriptions 5",
    ] {
        let json = passes(&url(&server), &format!("broadcast {CLIENTS} {line} {SHORT}"));
        let counters = &json["counters"];
        assert!(count(&json, "/counters/deliveries_expected") > 0, "{line}: {json:#}");
        assert!(count(&json, "/latency_ns/p50") > 0, "{line}");
        for disorder in ["lost", "duplicated", "reordered", "offset_gaps", "offsets_repeated"] {
            assert_eq!(counters[disorder], 0, "{line}: {disorder}");
        }
        // Who only publishes gets nothing.
        assert_eq!(
            (&counters["copies_expected"], &counters["handshakes"]),
            (&0.into(), &json["parameters"]["connections"]),
            "{line}"
        );
    }
}

#[test]
fn publications_are_acknowledged() {
    let server = server(&[]);
    let line = format!("{CLIENTS} --connections 4 --topics 3 {SHORT}");
    let json = passes(&url(&server), &format!("echo {line} --in-flight 8 --burst 4 --size 0"));
    assert!(count(&json, "/throughput/count") > 0, "{json:#}");
    let json = passes(&url(&server), &format!("rate {line} --rate 400 --channel plain:{{topic}}"));
    // What was due in 200 ms.
    assert_eq!(count(&json, "/latency_ns/count"), 80);
}

#[test]
fn a_storm_recovers_what_it_has_missed() {
    let server = server(&[]);
    let line = format!("storm {CLIENTS} --connections 20");
    let json = passes(&url(&server), &format!("{line} --topics 5 --missed 7"));
    assert_eq!(count(&json, "/counters/recovered"), 20 * 7);
    assert_eq!(count(&json, "/latency_ns/count"), 20);
    assert_eq!(count(&json, "/storm/rounds/0/back"), 20);
    let rounds = "--topics 2 --subscriptions 2 --rounds 2 --duration 4s";
    let json = passes(&url(&server), &format!("{line} {rounds}"));
    // Of two channels, in two rounds.
    assert_eq!(count(&json, "/counters/recovered"), 20 * 10 * 2 * 2);
    // More than is kept, which the server says.
    let short = format!("{line} --duration 500ms --channel little:a --missed 3");
    let (code, json) = measure(&url(&server), &short);
    let kinds = json["failures"]["kinds"].to_string();
    assert_eq!(code, Some(1), "{json:#}");
    assert!(kinds.contains("what was missed is not recovered"), "{kinds}");
}

#[test]
fn clients_stay_and_answer_pings_and_refusals_are_told() {
    let server = server(&[]);
    let quick = self::server(&["--client-ping-interval", "2s", "--client-pong-timeout", "1900ms"]);
    let line = format!("{CLIENTS} --connections 8");
    let long = "--topics 4 --subscriptions 4 --duration 4s";
    let json = passes(&url(&quick), &format!("idle {line} {long}"));
    let line = format!("{line} {SHORT}");
    assert!(count(&json, "/counters/pings_answered") >= 8, "{json:#}");
    assert_eq!(count(&json, "/counters/open_at_end"), 8);
    passes(&url(&server), &format!("connect {line} --subscriptions 0"));
    for (wrong, part) in [
        ("storm --channel plain:a", "session: nothing can be recovered"),
        ("idle --channel closed:a", "session: refused to subscribe: 103"),
        ("idle --token nonsense", "session: closed by the server with 3500 (invalid token)"),
        ("echo --channel nowhere:a", "refused to publish: 102"),
    ] {
        let (code, json) = measure(&url(&server), &format!("{wrong} {line}"));
        assert_eq!(code, Some(1), "{wrong}: {json:#}");
        let kind = &json["failures"]["kinds"][0];
        let said = format!("{}: {}", kind["phase"], kind["error"]).replace('"', "");
        assert!(said.contains(part), "{wrong}: {said}");
    }
    let (code, json) = measure(&format!("{}/echo", server.url), &format!("idle {line}"));
    let said = json["failures"]["kinds"][0]["error"].to_string();
    assert_eq!(code, Some(1), "{json:#}");
    assert!(said.contains("without an id"), "{said}");
}
