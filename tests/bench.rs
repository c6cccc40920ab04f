//! The load generator as a user meets it: the built binary against this server, broken servers and
//! those of other projects.

mod authority;
mod bench_capacity;
mod bench_channels;
mod bench_peers;
mod bench_results;
mod bench_tls;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bench_peers::{Fault, STALL, Server, broken};
use serde_json::Value;

/// Runs a workload and returns its JSON; `line` is what follows the URL.
fn measure(url: &str, line: &str) -> (Option<i32>, Value) {
    let output = bench(url, &format!("{line} --json"));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let json = serde_json::from_str(&text);
    let said = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), json.unwrap_or_else(|error| panic!("{error}: {text}{said}")))
}

fn bench(url: &str, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwire"));
    command.arg("bench").arg(url).args(line.split_whitespace());
    command.output().expect("it runs")
}

/// Runs a workload that must pass.
fn passes(url: &str, line: &str) -> Value {
    let (code, json) = measure(url, line);
    assert_eq!(code, Some(0), "{line}: {json:#}");
    assert_eq!(json["verdict"], "passed");
    assert_eq!(json["failures"]["total"], 0);
    json
}

fn count(json: &Value, pointer: &str) -> u64 {
    let value = json.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing: {json:#}"));
    value.as_u64().unwrap_or_else(|| panic!("{pointer} is {value}"))
}

const SHORT: &str = "--duration 200ms --warmup 50ms";

#[test]
fn echo_answers_with_every_form_of_message() {
    let server = Server::ringwire(&["--shards", "2"]);
    let url = format!("{}/echo", server.url);
    for line in [
        "--connections 5",
        "--connections 3 --text --size 0",
        "--connections 3 --size 1 --in-flight 3",
        "--connections 4 --size 20:70,1KiB:30,100KiB:1 --in-flight 8 --burst 4",
        "--connections 2 --size 1MiB --text --threads 2 --cores 0",
        "--connections 4 --source 127.0.0.5-127.0.0.6 --timeout 5s --close reset",
    ] {
        let json = passes(&url, &format!("echo {line} {SHORT}"));
        assert!(count(&json, "/throughput/count") > 0, "{line}");
        assert!(count(&json, "/latency_ns/p50") > 1000, "{line}");
        assert_eq!(count(&json, "/counters/unanswered"), 0);
        assert_eq!(json["counters"]["messages_sent"], json["counters"]["messages_received"]);
        let closed = if line.contains("reset") { "closed_otherwise" } else { "closed_cleanly" };
        assert_eq!(json["counters"][closed], json["parameters"]["connections"], "{json:#}");
    }
}

#[test]
fn compressed_messages_are_sent_inflated_and_compared() {
    let server = Server::ringwire(&["--compression", "dedicated"]);
    let json_of_1_kib = "--compression --content json --size 1KiB";
    for line in [
        format!("echo --connections 3 --in-flight 4 {json_of_1_kib}"),
        format!("broadcast --subscribers 5 --burst 8 {json_of_1_kib}"),
    ] {
        let path = if line.starts_with("echo") { "echo" } else { "broadcast/a" };
        let json = passes(&format!("{}/{path}", server.url), &format!("{line} {SHORT}"));
        let received = count(&json, "/counters/messages_received");
        assert!(received > 0, "{json:#}");
        assert_eq!(count(&json, "/counters/messages_compressed"), received, "{json:#}");
    }
    let plain = Server::ringwire(&[]);
    let (code, json) =
        measure(&format!("{}/echo", plain.url), &format!("echo --compression {SHORT}"));
    assert_eq!((code, &json["verdict"]), (Some(1), &"failed".into()), "{json:#}");
}

#[test]
fn a_rate_is_kept_step_by_step() {
    let server = Server::ringwire(&[]);
    let json =
        passes(&server.url, &format!("rate --connections 4 --rate 200,400 --busy-poll {SHORT}"));
    let steps = json["steps"].as_array().expect("a list");
    assert_eq!(steps.len(), 2);
    assert_eq!((&steps[0]["rate"], &steps[1]["rate"]), (&200.into(), &400.into()));
    // What was due in 200 ms at 200/s and at 400/s, answered however late.
    assert_eq!(count(&json, "/latency_ns/count"), 40 + 80);
    assert_eq!(count(&json, "/lateness_ns/count"), 40 + 80);
}

#[test]
fn broadcasts_reach_every_subscriber() {
    let server = Server::ringwire(&["--shards", "2"]);
    let url = format!("{}/broadcast/{{topic}}", server.url);
    let line = "broadcast --publishers 3 --subscribers 10 --topics 2 --burst 4 --threads 2";
    let closed = passes(&url, &format!("{line} {SHORT}"));
    assert!(count(&closed, "/counters/deliveries_expected") > 0);
    assert!(count(&closed, "/counters/messages_to_publishers") > 0);
    let open = passes(&url, &format!("{line} --rate 400 --park --text {SHORT}"));
    assert!(count(&open, "/latency_ns/count") > 0);
    for disorder in ["lost", "duplicated", "reordered", "bursts_stalled"] {
        assert_eq!(closed["counters"][disorder], 0, "{disorder}");
    }
}

#[test]
fn connections_come_and_go() {
    let server = Server::ringwire(&[]);
    let json = passes(&server.url, &format!("connect --connections 4 {SHORT}"));
    assert_eq!(json["throughput"]["unit"], "handshakes");
    assert_eq!(json["counters"]["handshakes"], json["counters"]["closed_cleanly"]);
    passes(&server.url, &format!("connect --connections 4 --close reset {SHORT}"));
    let json = passes(&server.url, &format!("connect --connections 9 --close none {SHORT}"));
    assert_eq!(count(&json, "/throughput/count"), 9);
    let json = passes(&server.url, "storm --connections 20 --rounds 2 --duration 500ms");
    assert_eq!(count(&json, "/latency_ns/count"), 40);
    assert_eq!(count(&json, "/counters/open_at_end"), 20);
    let line = "storm --connections 20 --close handshake --duration 5s";
    assert_eq!(count(&passes(&server.url, line), "/latency_ns/count"), 20);
}

#[test]
fn idle_connections_stay_and_answer_pings() {
    let server = Server::ringwire(&["--idle-timeout", "200ms"]);
    let line = "idle --connections 20 --duration 1s --warmup 0ms";
    let json = passes(&server.url, &format!("{line} --server-pid {}", server.pid()));
    assert_eq!(count(&json, "/counters/open_at_end"), 20);
    assert!(count(&json, "/counters/pings_answered") >= 20);
    let samples = &json["server"]["samples"];
    assert!(count(samples, "/until/resident_bytes") > 0);
    assert!(count(samples, "/until/cpu_ns") > 0);
    assert!(json["environment"]["server"]["command"].as_str().expect("text").contains("serve"));
}

#[test]
fn slow_readers_do_not_fail_the_run() {
    let server = Server::ringwire(&[]);
    let line = "slow --subscribers 8 --slow-share 25% --size 64KiB --rate 150 --duration 1s";
    let json = passes(&format!("{}/broadcast", server.url), line);
    assert_eq!(json["steps"].as_array().map(Vec::len), Some(2));
    assert_eq!(count(&json, "/counters/slow_cut"), 2, "{json:#}");
    assert_eq!(count(&json, "/counters/lost"), 0);
}

#[test]
fn well_behaved_clients_come_back_after_a_while_and_try_again() {
    let line = "storm --backoff --connections 6 --warmup 0ms";
    let json = passes(&broken(Fault::RefusesTwice), line);
    let storm = &json["storm"];
    assert_eq!(storm["connections_by_attempts"], serde_json::json!([4, 2]), "{json:#}");
    assert_eq!(count(storm, "/failed_attempts/total"), 2);
    let error = storm["failed_attempts"]["kinds"][0]["error"].as_str().expect("text");
    assert!(error.contains("status 503"), "{error}");
    assert_eq!((count(storm, "/rounds/0/dropped"), count(storm, "/rounds/0/back")), (6, 6));
    // 1 s before the first attempt, and 2 s more before the second; histograms round a little.
    let seconds = storm["rounds"][0]["seconds_until_all_back"].as_f64().expect("a number");
    assert!(seconds >= 3.0, "{seconds}");
    assert!(count(&json, "/latency_ns/min") >= 999_000_000, "{json:#}");
}

#[test]
fn wrong_echoes_fail_the_run() {
    for (fault, part) in [
        (Fault::ChangedByte, "differs from byte 19"),
        (Fault::SwappedEchoes, "it says that it is message 10 of connection 0"),
        (Fault::ShortEcho, "has 19 bytes instead of 20"),
        (Fault::OtherType, "a Text message instead of a Binary one"),
        (Fault::EchoTwice, "it says that it is message 9 of connection 0"),
        (Fault::NoEcho, "it says that it is message 10 of connection 0"),
        (Fault::Closes, "closed by the server with 1011 (broken)"),
        (Fault::Aborts, "ended the connection without a close frame"),
    ] {
        // What a server leaves unread turns the end of its stream into a reset.
        let in_flight = if fault == Fault::Aborts { 1 } else { 4 };
        let line = format!("echo --connections 1 --in-flight {in_flight} {SHORT}");
        let (code, json) = measure(&broken(fault), &line);
        assert_eq!(code, Some(1), "{fault:?}: {json:#}");
        let failure = &json["failures"]["kinds"][0];
        let error = failure["error"].as_str().expect("text");
        assert!(error.contains(part), "{fault:?}: {error}");
        assert_eq!((&failure["phase"], &failure["first_connection"]), (&"open".into(), &0.into()));
    }
}

#[test]
fn wrong_content_passes_only_unchecked_and_a_wrong_length_never() {
    let line = format!("echo --connections 1 --unchecked {SHORT}");
    let (code, json) = measure(&broken(Fault::ChangedByte), &line);
    assert_eq!(code, Some(0), "{json:#}");
    let (code, _) = measure(&broken(Fault::ShortEcho), &line);
    assert_eq!(code, Some(1));
}

#[test]
fn a_missing_answer_fails_the_run_unless_allowed() {
    let line = format!("echo --connections 1 --timeout 300ms {SHORT}");
    let (code, json) = measure(&broken(Fault::NoEcho), &line);
    assert_eq!((code, count(&json, "/counters/unanswered")), (Some(1), 1));
    assert_eq!(json["failures"]["kinds"][0]["error"], "no answer within 300 ms");
    let (code, _) = measure(&broken(Fault::NoEcho), &format!("{line} --allow-failures"));
    assert_eq!(code, Some(0));
}

#[test]
fn a_stall_over_the_end_of_a_closed_loop_shows_in_its_latencies() {
    let line = "echo --connections 1 --duration 900ms --warmup 0ms";
    let (code, json) = measure(&broken(Fault::Stalls), line);
    // Answered in the end, so nothing failed.
    assert_eq!(code, Some(0), "{json:#}");
    assert!(u128::from(count(&json, "/latency_ns/max")) >= STALL.as_nanos(), "{json:#}");
    // Over the beginning too: the tenth message is sent before the measured time.
    let line = "echo --connections 1 --duration 3s --warmup 500ms";
    let (_, json) = measure(&broken(Fault::Stalls), line);
    assert!(u128::from(count(&json, "/latency_ns/max")) >= STALL.as_nanos(), "{json:#}");
}

#[test]
fn copies_that_come_back_to_publishers_are_checked_like_deliveries() {
    for (fault, name) in [
        (Fault::LostCopy, "lost"),
        (Fault::DuplicatedCopy, "duplicated"),
        (Fault::ReorderedCopy, "reordered"),
    ] {
        let line = "broadcast --publishers 2 --subscribers 3 --rate 400 --duration 300ms \
                    --timeout 1s";
        let (code, json) = measure(&broken(fault), line);
        assert_eq!(code, Some(1), "{fault:?}: {json:#}");
        // One for each publisher, and the subscribers saw nothing wrong.
        assert_eq!(count(&json, &format!("/counters/{name}")), 2, "{fault:?}: {json:#}");
        let sent = count(&json, "/counters/messages_sent");
        assert_eq!(count(&json, "/counters/copies_expected"), 2 * sent, "{json:#}");
    }
}

#[test]
fn a_server_may_leave_the_sender_out() {
    let line = "broadcast --publishers 2 --subscribers 3 --rate 400 --duration 300ms";
    let json = passes(&broken(Fault::ExcludesSelf), line);
    let sent = count(&json, "/counters/messages_sent");
    assert_eq!(count(&json, "/counters/copies_expected"), sent, "each is for the other one");
    assert_eq!(count(&json, "/counters/messages_to_publishers"), sent);
}

#[test]
fn interim_responses_are_no_refusal() {
    let json = passes(&broken(Fault::InterimResponses), &format!("--connections 2 {SHORT}"));
    assert_eq!(count(&json, "/counters/handshakes"), 2);
}

#[test]
fn disordered_broadcasts_fail_the_run_unless_allowed() {
    for (fault, name) in
        [(Fault::Lost, "lost"), (Fault::Duplicated, "duplicated"), (Fault::Reordered, "reordered")]
    {
        let line = "broadcast --subscribers 3 --burst 4 --rate 400 --duration 300ms --timeout 1s";
        let (code, json) = measure(&broken(fault), line);
        assert_eq!(code, Some(1), "{fault:?}: {json:#}");
        assert!(count(&json, &format!("/counters/{name}")) > 0, "{fault:?}: {json:#}");
        assert_eq!(json["failures"]["total"], 0, "{json:#}");
        let (code, _) = measure(&broken(fault), &format!("{line} --allow-loss"));
        assert_eq!(code, Some(0), "{fault:?}");
    }
}

#[test]
fn a_path_that_does_not_broadcast_is_suspected() {
    let server = Server::ringwire(&[]);
    let line = "broadcast --subscribers 3 --rate 50 --duration 200ms --timeout 500ms";
    let (code, json) = measure(&format!("{}/echo", server.url), line);
    assert_eq!(code, Some(1), "{json:#}");
    let mut warnings = json["warnings"].as_array().expect("a list").iter();
    let is_suspected = |text: &Value| text.as_str().is_some_and(|text| text.contains("NOTHING"));
    assert!(warnings.any(is_suspected), "{json:#}");
}

#[test]
fn refusals_name_phase_status_and_cause() {
    let server = Server::ringwire(&[]);
    let (code, json) = measure(&format!("{}/nowhere", server.url), "--connections 2");
    assert_eq!(code, Some(1));
    let failure = &json["failures"]["kinds"][0];
    assert_eq!((&failure["phase"], &failure["count"]), (&"handshake".into(), &2.into()));
    assert!(failure["error"].as_str().expect("text").contains("status 404"), "{failure}");
    let (code, json) = measure("ws://127.0.0.1:9/", "connect --duration 200ms");
    assert_eq!((code, &json["failures"]["kinds"][0]["phase"]), (Some(1), &"connect".into()));
}

/// A fresh directory for the files of a test.
fn directory(name: &str) -> PathBuf {
    let name = format!("bench-{name}-{}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

#[test]
fn a_unix_socket_is_a_target_too() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = directory.join(format!("bench-{}.sock", std::process::id()));
    let listener = format!("unix:{}", path.display());
    let _server = Server::ringwire(&["--listen", &listener]);
    let url = format!("ws+unix:{}:/echo", path.display());
    let json = passes(&url, &format!("echo --connections 3 {SHORT}"));
    assert!(count(&json, "/throughput/count") > 0);
}

#[test]
fn what_makes_no_run_is_refused() {
    for (url, line, part) in [
        ("http://127.0.0.1/", "", "ws://host:port/path"),
        ("ws://127.0.0.1:1/", "--size 1GiB", "--size"),
        ("ws://127.0.0.1:1/", "--cores 4095", "--cores 4095"),
        ("ws://127.0.0.1:1/", "--rate 5", "--rate: only for"),
        ("ws://127.0.0.1:1/", "--plot /tmp/ringwire-no-plot.jpg", ".svg or a .png"),
        ("ws://127.0.0.1:1/", "--json /nowhere/a.json", "/nowhere/a.json"),
        ("ws://127.0.0.1:1/", "--json echo", "this is a workload, not a file"),
        ("ws://127.0.0.1:1/", "--hdr Storm", "this is a workload, not a file"),
        ("--json", "ws://127.0.0.1:1/", "this is a URL, not a file"),
        ("--plot", "WS+unix:/a:/ echo", "this is a URL, not a file"),
        ("ws://127.0.0.1:1/", "--hdr -", "only --json can go to standard output"),
        ("ws://127.0.0.1:1/", "--json /dev/null --hdr /dev/null", "for two results"),
        ("ws://::1:7071/", "", "//[::1]:7071"),
        ("ws://127.0.0.1:1/", "--server-pid 4294967295", "--server-pid 4294967295"),
    ] {
        let output = bench(url, line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(part), "{line}: {said}");
    }
    assert!(!Path::new("/tmp/ringwire-no-plot.jpg").exists(), "a refused run leaves nothing");
}

/// Each option of the help is used by a test.
#[test]
fn every_option_has_a_test() {
    let help = Command::new(env!("CARGO_BIN_EXE_ringwire")).args(["bench", "--help"]).output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("UTF-8");
    let options: BTreeSet<&str> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"))
        .filter_map(|rest| rest.split([' ', '[']).next())
        .collect();
    assert!(options.len() > 20, "{options:?}");
    let tests = [
        include_str!("bench.rs"),
        include_str!("bench_capacity/mod.rs"),
        include_str!("bench_channels/mod.rs"),
        include_str!("bench_results/mod.rs"),
        include_str!("bench_tls/mod.rs"),
    ];
    for option in options {
        let option = format!("--{option}");
        assert!(tests.iter().any(|text| text.contains(&option)), "{option} has no test");
    }
}

#[test]
fn other_projects_servers_can_be_measured() {
    for server in [Server::node(), Server::python()].into_iter().flatten() {
        let echo = format!("{}/echo", server.url);
        for line in ["--text --size 20:1,70KiB:1", "--in-flight 16 --size 1KiB"] {
            let json = passes(&echo, &format!("echo --connections 5 {line} {SHORT}"));
            assert_eq!(count(&json, "/counters/closed_cleanly"), 5);
        }
        passes(&echo, &format!("rate --connections 5 --rate 500 {SHORT}"));
        passes(&echo, &format!("connect --connections 3 {SHORT}"));
        passes(&echo, "storm --connections 20");
        passes(&echo, &format!("idle --connections 20 {SHORT}"));
        let topics = format!("{}/topic-{{topic}}", server.url);
        let line = "broadcast --publishers 2 --topics 2 --subscribers 10 --burst 3";
        assert!(count(&passes(&topics, &format!("{line} {SHORT}")), "/throughput/count") > 0);
    }
}
