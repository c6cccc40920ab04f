//! What a run leaves behind: files, what is printed, and what becomes of it when a signal comes.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bench_peers::{Fault, Server, counting};
use super::{SHORT, bench, count, directory};

#[test]
fn results_are_written_in_every_form() {
    let server = Server::ringwire(&[]);
    let directory = directory("forms");
    let file = |name: &str| -> PathBuf { directory.join(name) };
    let (json, hdr) = (file("a.json"), file("a.hlog"));
    for plot in [file("a.svg"), file("a.png")] {
        let outputs =
            format!("--json {} --hdr {} --plot {}", json.display(), hdr.display(), plot.display());
        let output = bench(&server.url, &format!("--connections 3 {SHORT} {outputs}"));
        let table = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
        assert!(table.contains("throughput") && table.contains("p99 "), "{table}");
        // Nothing but the result: no progress line where there is no terminal.
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let picture = std::fs::read(&plot).expect("a picture");
        assert!(picture.starts_with(b"<svg") || picture.starts_with(b"\x89PNG"));
    }
    let text = std::fs::read_to_string(&json).expect("JSON");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    for field in FIELDS {
        assert!(value.pointer(field).is_some_and(|value| !value.is_null()), "{field}: {value:#}");
    }
    let log = std::fs::read_to_string(&hdr).expect("a log");
    let histograms = log.lines().filter(|line| line.contains(",HISTFAAAA")).count();
    assert_eq!(histograms, 60, "{log}");
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[test]
fn files_are_written_whole_though_nothing_can_be_printed() {
    let server = Server::ringwire(&[]);
    let directory = directory("full");
    // A path that does not broadcast makes for a warning, which goes to standard error.
    for (line, json) in [("--json result.json", Some("result.json")), ("--json", None)] {
        let full = || std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwire"));
        command.current_dir(&directory).stdout(full()).stderr(full());
        command.args(["bench", &format!("{}/echo", server.url)]);
        let workload = "broadcast --subscribers 3 --rate 50 --duration 200ms --timeout 500ms";
        let outputs = "--hdr result.hlog --plot result.svg";
        command.args(format!("{workload} {outputs} {line}").split_whitespace());
        command.status().expect("it runs");
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect(name);
        assert!(read("result.hlog").contains(",HISTFAAAA"));
        assert!(read("result.svg").ends_with("</svg>\n"));
        if let Some(json) = json {
            let value: Value = serde_json::from_str(&read(json)).expect("JSON");
            assert_eq!(value["verdict"], "failed");
        }
    }
    // A result that cannot be written does not keep the others from being written.
    std::fs::remove_file(directory.join("result.hlog")).expect("removed");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwire"));
    command.current_dir(&directory).args(["bench", &server.url]);
    let outputs = "--json /dev/full --hdr result.hlog";
    let output = command.args(format!("{SHORT} {outputs}").split_whitespace()).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/dev/full"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("throughput"));
    assert!(directory.join("result.hlog").exists());
    std::fs::remove_dir_all(&directory).expect("removed");
}

/// Starts a run that would take minutes, and waits until it exchanges messages.
fn start_long_run(fault: Fault, line: &str) -> Child {
    let (url, received) = counting(fault);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwire"));
    command.args(["bench", &url]).args(line.split_whitespace());
    command.args(["--duration", "10m", "--warmup", "0ms"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let start = Instant::now();
    while received.load(Ordering::Relaxed) < 10 {
        assert!(start.elapsed() < Duration::from_secs(20), "no message came");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn send_signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status();
    assert!(sent.expect("it runs").success());
}

#[test]
fn a_signal_ends_the_run_with_its_results_so_far() {
    let directory = directory("signal");
    let hdr = directory.join("result.hlog");
    for (signal, status, workload) in [
        ("INT", 130, "echo --connections 3"),
        ("TERM", 143, "rate --rate 1000,2000 --connections 3"),
        ("INT", 130, "broadcast --subscribers 3"),
    ] {
        let fault =
            if workload.starts_with("broadcast") { Fault::ExcludesSelf } else { Fault::None };
        let line = format!("{workload} --hdr {} --json", hdr.display());
        let child = start_long_run(fault, &line);
        send_signal(&child, signal);
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{workload}: {said}");
        assert!(said.contains(&format!("INTERRUPTED by SIG{signal}")), "{said}");
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(json["verdict"], "interrupted", "{json:#}");
        assert!(count(&json, "/latency_ns/count") > 0, "{workload}: {json:#}");
        let seconds = json["throughput"]["seconds"].as_f64().expect("a number");
        assert!(seconds > 0.0 && seconds < 500.0, "{seconds}");
        assert_eq!((&json["failures"]["total"], &json["counters"]["lost"]), (&0.into(), &0.into()));
        assert!(std::fs::read_to_string(&hdr).expect("a log").contains(",HISTFAAA"));
    }
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[test]
fn a_second_signal_ends_the_run_at_once() {
    // An answer that never comes is waited for a while, so the first signal is not the end.
    let mut child = start_long_run(Fault::NoEcho, "echo --connections 1");
    while child.try_wait().expect("its status").is_none() {
        send_signal(&child, "INT");
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing is printed any more");
}

const FIELDS: [&str; 18] = [
    "/verdict",
    "/started_unix_ms",
    "/parameters/url",
    "/parameters/size",
    "/environment/generator/kernel",
    "/environment/generator/cpu",
    "/environment/generator/cores",
    "/environment/generator/ringwire",
    "/connect/seconds",
    "/throughput/per_second",
    "/latency_ns/p50",
    "/latency_ns/p9999",
    "/latency_ns/curve/0/1",
    "/intervals/parts/0/p99_ns",
    "/counters/lost",
    "/failures/kinds",
    "/generator_threads/0/core",
    "/generator_threads/0/cpu_share",
];
