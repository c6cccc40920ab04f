//! The machine that a result is from.

use std::fs;

use serde_json::{Value, json};

/// Kernel, processor and this program, as JSON.
pub fn describe() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find(|line| line.starts_with("model name") || line.starts_with("CPU part"))
        .and_then(|line| line.split_once(':'))
        .map_or_else(|| "unknown".to_owned(), |(_, model)| model.trim().to_owned());
    let memory = read("/proc/meminfo");
    let memory_kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "architecture": std::env::consts::ARCH,
        "cpu": model,
        "cores": core_affinity::get_core_ids().map_or(0, |cores| cores.len()),
        "memory_bytes": memory_kib.map(|kib| kib << 10),
        "ringwire": crate::VERSION,
        "command": without_secrets(std::env::args()),
        "nofile_limit": rlimit::Resource::NOFILE.get_soft().ok(),
        "somaxconn": read("/proc/sys/net/core/somaxconn").parse::<u64>().ok(),
    })
}

/// A command line, but for the values of options that may be secret, as results are passed on.
fn without_secrets(arguments: impl Iterator<Item = String>) -> String {
    let mut is_secret = false;
    let shown = arguments.map(|argument| {
        let (name, has_value) =
            argument.split_once('=').map_or((&*argument, false), |(name, _)| (name, true));
        let begins_secret = SECRET.contains(&name);
        let shown = match (is_secret, begins_secret && has_value) {
            (true, _) => "...".to_owned(),
            (false, true) => format!("{name}=..."),
            (false, false) => argument.clone(),
        };
        is_secret = !is_secret && begins_secret && !has_value;
        shown
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Options whose values let in whoever knows them.
const SECRET: [&str; 3] = ["--token", "--header", "--proxy"];

/// The server's program and what it was started with, as JSON, where /proc tells.
pub fn describe_process(pid: u32) -> Value {
    let path = |name: &str| format!("/proc/{pid}/{name}");
    let command = fs::read(path("cmdline")).unwrap_or_default();
    let arguments: Vec<_> = command
        .split(|&byte| byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    let status = fs::read_to_string(path("status")).unwrap_or_default();
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value.map(|value| value.trim().to_owned())
    };
    json!({
        "pid": pid,
        "program": fs::read_link(path("exe")).ok(),
        "command": arguments.join(" "),
        "threads": field("Threads:").and_then(|threads| threads.parse::<u32>().ok()),
        "cores_allowed": field("Cpus_allowed_list:"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_name_no_secrets() {
        let line = "bench ws://a/ --token t --header=X:t --proxy http://me:t@a --size 5 --token=t";
        let shown = without_secrets(line.split(' ').map(str::to_owned));
        let expected = "bench ws://a/ --token ... --header=... --proxy ... --size 5 --token=...";
        assert_eq!(shown, expected);
    }
}
