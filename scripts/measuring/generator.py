"""Runs `ringwire bench` and reads what it reports."""

import atexit
import json
import pathlib
import shutil
import subprocess
import tempfile
from statistics import median

# What is compared, with the words of the tables.
METRICS = {
    "per_second": "per second",
    "cpu_us": "CPU, us per operation",
    "p50_us": "p50, us",
    "p99_us": "p99, us",
    "p999_us": "p99.9, us",
    "p99_part_us": "p99 of the middle 50 ms, us",
    "user_bytes": "user memory, bytes per connection",
    "slab_bytes": "kernel slab of both ends, bytes per connection",
}
# Means something only where connections do nothing else.
MEMORY = {"user_bytes": "resident_bytes", "slab_bytes": "system_slab_bytes"}
# For servers whose answers mean nothing: messages are counted, not compared, and nobody waits for
# the answer to a close frame.
UNCHECKED = ("--unchecked", "--close", "reset")


class Generator:
    """The load generator of a ringwire program, pinned to some cores."""

    def __init__(self, program, cores, timeout_s=600):
        self.program = program
        self.cores = cores
        self.timeout_s = timeout_s

    def command(self, url, arguments, server_pid, json_file, is_unchecked=False,
                certificate=None):
        """The exact command of a run; `certificate` is that of a server with TLS."""
        command = [self.program, "bench", url, *arguments, "--json", json_file,
                   "--cores", ",".join(map(str, self.cores)), "--server-pid", server_pid]
        command += ["--ca", certificate] if certificate else []
        return [str(part) for part in command] + (list(UNCHECKED) if is_unchecked else [])

    def run(self, command, watch=lambda pid: None):
        """Makes a run; returns everything that was reported and the metrics of it.

        `watch` is told the process of the generator.
        """
        json_file = pathlib.Path(command[command.index("--json") + 1])
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True)
        watch(process.pid)
        try:
            said = process.communicate(timeout=self.timeout_s)[1].strip()
        except subprocess.TimeoutExpired:
            process.kill()
            said = f"no end within {self.timeout_s} s"
            process.communicate()
        if not json_file.exists() or not json_file.stat().st_size:
            lines = said.splitlines() or [f"status {process.returncode}, no report"]
            return None, {"ok": False, "remarks": lines[:1]}
        report = json.loads(json_file.read_text())
        return report, read_metrics(report, process.returncode)


def temporary_json():
    """A path for a report that is read, and removed when the program ends."""
    directory = tempfile.mkdtemp(prefix="ringwire-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return pathlib.Path(directory) / "report.json"


def read_metrics(report, status):
    """The metrics of a report; those that its workload does not have are left out."""
    metrics = {}
    for metric, (path, scale) in PATHS.items():
        value = find(report, *path)
        if value is not None:
            metrics[metric] = value * scale
    metrics.update(read_memory(report))
    parts = [part["p99_ns"] for part in find(report, "intervals", "parts") or [] if part["p99_ns"]]
    if parts:
        # Half of all intervals were better: what single stalls of the machine do not touch.
        metrics["p99_part_us"] = median(parts) * 1e-3
    if not find(report, "latency_ns", "count"):
        metrics = {name: value for name, value in metrics.items() if name not in LATENCIES}
    remarks = list(report.get("warnings", []))
    for failure in find(report, "failures", "kinds") or []:
        remarks.append(f"{failure['phase']}: {failure['error']} ({failure['count']} times)")
    return {**metrics, "ok": status == 0, "remarks": remarks}


def read_memory(report):
    """Memory per connection at the end, when servers have put quiet connections to rest."""
    before, until = (find(report, "server", "samples", when) for when in ("before", "until"))
    opened = find(report, "connect", "connections_open")
    if not opened or not before:
        return {}
    grown = {metric: until[key] - before[key] for metric, key in MEMORY.items()}
    return {metric: size / opened for metric, size in grown.items()}


def find(report, *path):
    """The value at a path of keys, or nothing."""
    for key in path:
        if not isinstance(report, dict) or key not in report:
            return None
        report = report[key]
    return report


# Where a report has the metrics, and what they are multiplied by.
PATHS = {
    "per_second": (("throughput", "per_second"), 1),
    "cpu_us": (("server", "cpu_us_per_message"), 1),
    "p50_us": (("latency_ns", "p50"), 1e-3),
    "p99_us": (("latency_ns", "p99"), 1e-3),
    "p999_us": (("latency_ns", "p999"), 1e-3),
}
LATENCIES = ("p50_us", "p99_us", "p999_us", "p99_part_us")
