//! The search for the highest rate that a server holds.

use serde_json::Value;

use super::bench_peers::{Fault, SERVICE_TIME, Server, broken};
use super::{bench, count, directory, measure, passes};

#[test]
fn the_capacity_of_a_slow_server_is_found() {
    // Nothing slower than the server's sleep can make it quicker; a busy machine makes it slower.
    let most = 1.0 / SERVICE_TIME.as_secs_f64();
    let quick = "--p99 250ms --rate 50 --duration 500ms --warmup 100ms";
    let line = format!("capacity {quick} --connections 4 --repeat 2");
    let json = passes(&broken(Fault::SlowEcho), &line);
    let capacity = &json["capacity"];
    assert_eq!(capacity["rates"].as_array().map(Vec::len), Some(2), "{json:#}");
    assert_eq!(capacity["is_complete"], true);
    let rate = count(capacity, "/rate");
    assert!(rate >= 10 && rate as f64 <= most * 1.5, "{capacity:#}");
    assert_eq!(count(capacity, "/limits/max_connections"), 4);
    let trials = capacity["trials"].as_array().expect("a list");
    let fails = |trial: &Value| trial["holds"] == false && trial["reason"].is_string();
    assert!(trials.iter().any(fails), "{capacity:#}");
    let confirms = |trial: &&Value| trial["confirms"] == true && trial["holds"] == true;
    assert_eq!(trials.iter().filter(confirms).count(), 2, "{capacity:#}");
}

#[test]
fn the_capacity_of_a_broadcast_names_the_limits_to_configure() {
    let directory = directory("capacity");
    let file = directory.join("result.json");
    let quick = "--p99 250ms --rate 50 --duration 500ms --warmup 100ms";
    let roles = "--workload broadcast --publishers 2 --subscribers 3";
    let line = format!("capacity {quick} {roles} --repeat 1 --json {}", file.display());
    let output = bench(&broken(Fault::SlowBroadcast), &line);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    for part in ["capacity: broadcast", "deliveries/s", "--max-connections", "--max-backlog"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let text = std::fs::read_to_string(&file).expect("a file");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let rate = count(&json, "/capacity/rate");
    // 20 bytes and a header of two, for one topic.
    assert_eq!(count(&json, "/capacity/limits/max_backlog_bytes"), rate * 22);
    let deliveries = json["capacity"]["limits"]["deliveries_per_second"].as_f64();
    assert_eq!(deliveries, Some(rate as f64 * 3.0));
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[test]
fn a_search_is_bounded_and_says_when_nothing_holds() {
    let server = Server::ringwire(&[]);
    let line = "capacity --p99 60s --trials 2 --rate 5 --connections 2 --duration 100ms";
    let (code, json) = measure(&format!("{}/echo", server.url), line);
    assert_eq!(code, Some(1), "{json:#}");
    assert_eq!(json["capacity"]["trials"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&json["capacity"]["rate"], &json["capacity"]["limits"]),
        (&Value::Null, &Value::Null)
    );
    let warning = json["warnings"][0].as_str().expect("text");
    assert!(warning.contains("NOT COMPLETE") && warning.contains("--trials"), "{warning}");
    let line = "capacity --p99 60s --rate 2 --connections 2 --duration 100ms --warmup 0ms";
    let (code, json) = measure(&format!("{}/nowhere", server.url), line);
    assert_eq!((code, &json["capacity"]["is_complete"]), (Some(1), &true.into()), "{json:#}");
    let reason = json["capacity"]["trials"][0]["reason"].as_str().expect("text");
    assert!(reason.contains("status 404"), "{reason}");
}
