"""Runs `ringwire bench` and reads what it reports."""

import json
import pathlib
import subprocess
import tempfile

# What is compared, with the words of the tables.
METRICS = {
    "per_second": "per second",
    "cpu_us": "CPU, us per operation",
    "p50_us": "p50, us",
    "p99_us": "p99, us",
    "p999_us": "p99.9, us",
    "user_bytes": "user memory, bytes per connection",
    "slab_bytes": "kernel slab of both ends, bytes per connection",
}
# From this share of its core on, the generator may be what limits a run.
GENERATOR_SHARE_MOST = 0.9
# For servers whose answers mean nothing: messages are counted, not compared.
UNCHECKED = "--unchecked"


class Generator:
    """The load generator of a ringwire program, pinned to some cores."""

    def __init__(self, program, cores, timeout_s=600):
        self.program = program
        self.cores = cores
        self.timeout_s = timeout_s

    def command(self, url, arguments, server_pid, json_file, is_unchecked=False):
        """The exact command of a run."""
        command = [self.program, "bench", url, *arguments, "--json", json_file,
                   "--cores", ",".join(map(str, self.cores)), "--server-pid", server_pid]
        return [str(part) for part in command] + ([UNCHECKED] if is_unchecked else [])

    def run(self, command):
        """Makes a run; returns everything that was reported and the metrics of it."""
        json_file = pathlib.Path(command[command.index("--json") + 1])
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=self.timeout_s)
            status, said = run.returncode, run.stderr.strip()
        except subprocess.TimeoutExpired:
            status, said = None, f"no end within {self.timeout_s} s"
        report = None
        if json_file.exists() and json_file.stat().st_size:
            report = json.loads(json_file.read_text())
        if report is None:
            return None, {"ok": False, "remarks": [said or f"status {status}, no report"]}
        metrics = read_metrics(report)
        metrics["ok"] = status == 0
        if status != 0:
            metrics["remarks"].append(said.splitlines()[-1] if said else f"status {status}")
        return report, metrics


def temporary_json():
    """A path for a report that is read and thrown away."""
    return pathlib.Path(tempfile.mkdtemp(prefix="ringwire-")) / "report.json"


def read_metrics(report):
    """The metrics of a report; those that its workload does not have are left out."""
    found = {metric: find(report, *path) for metric, path in PATHS.items()}
    metrics = {metric: value for metric, value in found.items() if value is not None}
    metrics["remarks"] = []
    shares = [thread.get("share") or 0 for thread in find(report, "generator", "threads") or []]
    if shares and max(shares) > GENERATOR_SHARE_MOST:
        metrics["generator_share"] = max(shares)
        metrics["remarks"].append("the generator's core was full: throughput and latency are its own")
    return metrics


def find(report, *path):
    """The value at a path of keys, or nothing."""
    for key in path:
        if not isinstance(report, dict) or key not in report:
            return None
        report = report[key]
    return report


# Where a report has the metrics.
PATHS = {
    "per_second": ("throughput", "messages_per_second"),
    "cpu_us": ("server", "cpu_us_per_message"),
    "p50_us": ("latency_us", "p50"),
    "p99_us": ("latency_us", "p99"),
    "p999_us": ("latency_us", "p99.9"),
    "user_bytes": ("server", "resident_bytes_per_connection"),
    "slab_bytes": ("server", "system_slab_bytes_per_connection"),
}
