"""What every attack takes place in: a server of its own, good clients beside it, and the same
questions afterwards."""

import contextlib
import json
import os
import pathlib
import subprocess
import threading
import time

from hostility.checks import MIB, eventually, expect
from hostility.peer import Subject
from measuring import machine
from measuring.generator import find, temporary_json
from measuring.servers import Running

# Memory is back when it is within this of where it was.
TOLERANCE = 0.05
# Pools may fill for several rounds; what leaks does not stop.
ROUNDS_MOST = 6
SETTLE_SECONDS = 30
GIVE_BACK_SECONDS = 6


class Skipped(Exception):
    """The machine does not let this be tried, for the reason given."""


class Scene:
    """One attack on one server."""

    def __init__(self, program, attack, is_quick, limit_bytes=None, group=None, pair=None):
        self.program = program
        # Certificate and key, if peers come by TLS.
        self.pair = pair
        self.attack = attack
        self.is_quick = is_quick
        self.limit_bytes = limit_bytes
        self.group = group
        self.subject = None

    def play(self):
        """The attack at least twice: the first fills pools, and then memory must come back."""
        listen = ["--listen", "127.0.0.1:0"]
        if self.pair:
            listen = ["--listen", "127.0.0.1:0,tls",
                      "--tls-cert", str(self.pair[0]), "--tls-key", str(self.pair[1])]
        flags = [*getattr(self.attack, "flags", ()), "--shards", "2", *listen,
                 "--log-level", "error", "--handshake-timeout", "8s", "--close-timeout", "1s"]
        if self.limit_bytes:
            flags += ["--max-backlog", "16MiB"]
        if self.limit_bytes and not self.group:
            flags += ["--max-memory", f"{self.limit_bytes // MIB}MiB"]
        enter = self.group.prefix() if self.group else getattr(self.attack, "prefix", ())
        command = [*enter, str(self.program), "serve", *flags]
        cores = ",".join(map(str, machine.cores()))
        with Running(command, cores) as running:
            self.subject = Subject(running, self.pair and self.pair[0])
            expect(self.subject.echoes(), "no echo at the start")
            figure, before, after = self.attack_until_memory_is_back()
            self.check_counters()
            expect(self.subject.echoes(), "no echo afterwards")
            change = 100 * (after - before) / before
            return figure, f"{before / MIB:.1f} -> {after / MIB:.1f} MiB ({change:+.1f} %)"

    def attack_until_memory_is_back(self):
        """Attacks again and again until memory is back where it was before the attack: what is
        only filled once does not grow for ever, and what leaks does."""
        self.attack(self)
        seen = [self.settle()]
        while len(seen) < ROUNDS_MOST:
            figure = self.attack(self)
            seen.append(self.settle(seen[-1]))
            if seen[-1] <= seen[-2] * (1 + TOLERANCE):
                return figure, *seen[-2:]
        told = ", ".join(f"{resident / MIB:.1f}" for resident in seen)
        raise AssertionError(f"{figure}; memory grows: {told} MiB")

    def settle(self, goal=None):
        """Waits until everybody is gone and memory is back; returns what is resident."""
        expect(eventually(self.is_alone, SETTLE_SECONDS), "connections stay open")
        resident = self.resident_bytes()
        deadline = time.monotonic() + (GIVE_BACK_SECONDS if goal else 2)
        while time.monotonic() < deadline and resident > (goal or 0) * (1 + TOLERANCE):
            time.sleep(0.25)
            # Somebody comes now and then, as in life.
            self.subject.echoes()
            resident = self.resident_bytes()
        return resident

    def is_alone(self):
        """Whether nobody is connected."""
        return self.subject.stats()["connections_open"] == 0

    def check_counters(self):
        """Every WebSocket that was opened is open or has been closed, once."""
        expect(eventually(self.is_alone, SETTLE_SECONDS), "connections stay open")
        stats = self.subject.stats()
        closes = sum(sum(codes.values()) for codes in stats["closes"].values())
        expect(stats["upgrades"] == stats["websockets_open"] + closes,
               f"{stats['upgrades']} upgrades, {closes} closes")
        for name in ("connections_accepted", "connections_open", "upgrades", "messages_in"):
            parts = sum(shard[name] for shard in stats["shards"])
            expect(parts == stats[name], f"{name}: {stats[name]}, shards: {parts}")
        expect(stats["connections_accepted"] >= stats["upgrades"], "more upgrades than accepts")

    def count(self, full):
        """How many of something: a twentieth when it has to be quick."""
        return max(full // 20, 20) if self.is_quick else full

    def seconds(self, full):
        return f"{full * 500 if self.is_quick else full * 1000}ms"

    def resident_bytes(self):
        return machine.resident_bytes(self.subject.running.pid) or 0

    def watch_resident(self):
        return Peak(self.resident_bytes)

    def bench(self, path, *arguments):
        """A run of the load generator, which must pass; its report."""
        return self.start_bench(path, arguments).report()

    def good_clients(self, seconds):
        """Good clients beside the attack: 50 connections with 500 echoes a second."""
        arguments = ("rate", "--connections", "50", "--rate", "500", "--duration",
                     self.seconds(seconds))
        return Good(self.start_bench("/echo", arguments))

    def start_bench(self, path, arguments):
        trust = ("--ca", self.pair[0], "--server-name", "localhost") if self.pair else ()
        return Bench(self.program, self.subject.running.url + path, (*arguments, *trust))


class Bench:
    """The load generator at work."""

    def __init__(self, program, url, arguments):
        self.file = temporary_json()
        command = [program, "bench", url, *arguments, "--json", self.file]
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def report(self):
        said = self.process.communicate(timeout=120)[1].strip()
        text = self.file.read_text() if self.file.exists() else ""
        report = json.loads(text) if text else None
        if self.process.returncode:
            faults = [f"{kind['count']} x {kind['error']}"
                      for kind in find(report, "failures", "kinds") or []]
            if lost := find(report, "counters", "lost"):
                expected = find(report, "counters", "deliveries_expected")
                faults.append(f"{lost} of {expected} deliveries lost")
            raise AssertionError(f"bench failed: {'; '.join(faults) or said[-500:]}")
        return report


class Good:
    """Good clients that have been started."""

    def __init__(self, bench):
        self.bench = bench

    def result(self, at_most_ms=None):
        """Waits for their end; what they felt, in words."""
        report = self.bench.report()
        p99, most = (find(report, "latency_ns", key) / 1e6 for key in ("p99", "max"))
        expect(at_most_ms is None or most <= at_most_ms, f"a good client waited {most:.0f} ms")
        return f"good clients p99 {p99:.1f} ms, max {most:.0f} ms"


class Peak:
    """The most of something that was seen until it is stopped."""

    def __init__(self, measure):
        self.most = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, args=(measure,), daemon=True)
        self.thread.start()

    def watch(self, measure):
        while not self.ended.wait(0.01):
            self.most = max(self.most, measure())

    def stop(self):
        self.ended.set()
        self.thread.join()
        return self.most


class Group:
    """A control group with a limit of memory, version 2 or 1, for as long as it is entered."""

    def __init__(self, limit_bytes):
        self.limit_bytes = limit_bytes
        self.directory = None

    def __enter__(self):
        name = f"ringwire-{os.getpid()}"
        homes = [("memory.max", pathlib.Path("/sys/fs/cgroup")),
                 ("memory.limit_in_bytes", pathlib.Path("/sys/fs/cgroup/memory"))]
        for limit, home in homes:
            directory = home / name
            try:
                # Only a group that is made has files from the start.
                directory.mkdir()
                self.directory = directory
                (directory / "cgroup.procs").read_text()
                (directory / limit).write_text(str(self.limit_bytes))
                return self
            except OSError:
                self.__exit__()
        raise Skipped("no control group with a limit of memory can be made here")

    def __exit__(self, *_):
        if self.directory:
            # Gone is who was in it, but the kernel may need a moment to know.
            eventually(self.remove, 5)
        self.directory = None

    def remove(self):
        with contextlib.suppress(OSError):
            self.directory.rmdir()
        return not self.directory.exists()

    def prefix(self):
        """What puts a command into the group."""
        enter = f'echo $$ > {self.directory}/cgroup.procs && exec "$@"'
        return ("sh", "-c", enter, "sh")

