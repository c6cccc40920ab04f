"""Whoever takes all they can get may not make others wait: greedy peers of every sort, and beside
them bystanders, measured against those of an idle server on the same core."""

import contextlib
import functools
import os
import pathlib
import subprocess

from hostility.bystander import Bystanders
from hostility.checks import eventually, expect
from hostility.greedy import Sort, greedy, sorts
from hostility.stage import Usage

# How much longer than at the idle server one may wait, in milliseconds.
WORST_MS = 100
P99_MS = 20
# Deadlines are looked at every 100 ms, by each server at moments of its own.
DEADLINE_MS = WORST_MS + 100
# A second of a quick check has so few waits that one stall of the machine decides about their p99.
QUICK_ALLOWANCE = 5
# A machine that does other work as well may stall the busy server alone, because that has had its
# share of the core: what is unfair is so again.
TRIES = 2
# What bystanders wait for: many times a second, and now and then.
FREQUENT = ("echo", "topic", "ping")
KINDS = (*FREQUENT, "upgrade", "deadline")
COUNTS = (1, 8, 64)
SHARDS = (1, 2)
# Half requests get 408 after this; long enough for whoever completes theirs.
HANDSHAKE_TIMEOUT = "500ms"
# Both servers go ahead of whatever else this machine does, where that is allowed.
PRIORITY = "-10"


def fair(name):
    """Greedy peers of one sort, in several numbers, with 1 and 2 shards."""
    def attack(stage):
        counts = (8,) if stage.is_quick else COUNTS
        cases = [(count, shards) for shards in SHARDS for count in counts]
        return try_cases(stage, prepared()[name], cases)
    attack.__name__ = f"fair_{name}"
    attack.__doc__ = fair.__doc__.replace("one sort", name)
    return attack


def starved_of_buffers(stage):
    """One client that fills every receive buffer as soon as it is free, for longer than it takes
    to be parked."""
    return try_cases(stage, prepared()["alone"], [(1, 1)], 8, flags=("--park-after", "off"))


def stalled_by_inflating(stage):
    """One client whose messages take long to inflate and to compress again."""
    return try_cases(stage, prepared()["inflating"], [(1, 1)])


def large_topic(stage):
    """A topic with thousands of members, published to as fast as they are served; they all fall
    silent, and are parked, at the same moment."""
    subscribers = 1000 if stage.is_quick else 8000
    sort = Sort(f"deliveries to {subscribers} members", "", b"", flags=("--park-after", "1s"))
    crowd = functools.partial(subscribed, stage, subscribers)
    return try_cases(stage, sort, [(1, shards) for shards in SHARDS], crowd=crowd)


def busy_topics(stage):
    """Twenty publishers in topics of their own, beside one in another."""
    return try_cases(stage, prepared()["topics"], [(20, 2)])


FAIR = [fair(name) for name in ("echo", "alone", "broadcast", "inflating", "tiny", "huge",
                                "unread", "plain")]


def try_cases(stage, sort, cases, seconds=3, flags=(), crowd=None):
    """Tries these numbers of peers and shards; all figures are told if one is too much."""
    seconds = min(seconds, 1) if stage.is_quick else seconds
    crowd = crowd or (lambda subject, count: greedy(sort, subject.address, count,
                                                    stage.client_core))
    told, failures = [], 0
    for count, shards in cases:
        for _ in range(TRIES):
            try:
                is_right, words = try_one(stage, sort, count, shards, seconds, flags, crowd)
            except (AssertionError, OSError) as error:
                is_right, words = False, f"{type(error).__name__}: {error}"
            if is_right:
                break
        failures += not is_right
        told.append(f"{count} with {shards} shard{'s' * (shards > 1)}: {words}")
    figure = f"{sort.words}, milliseconds beyond those of an idle server; {'; '.join(told)}"
    expect(not failures, f"{failures} of {len(cases)} unfair: {figure}")
    return figure


prepared = functools.cache(sorts)


@contextlib.contextmanager
def subscribed(stage, subscribers, busy, publishers):
    """The load generator as the crowd, ahead of which the bystanders go as in `greedy`."""
    command = ["taskset", "-c", stage.client_core, "nice", "-n", 5, stage.program, "bench",
               busy.running.url + "/broadcast/large", "broadcast", "--subscribers", subscribers,
               "--publishers", publishers, "--warmup", "0s", "--duration", "30s"]
    wanted = busy.stats()["websockets_open"] + subscribers + publishers
    process = subprocess.Popen(list(map(str, command)), start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        expect(eventually(lambda: busy.stats()["websockets_open"] >= wanted),
               "the subscribers do not get in")
        yield
        expect(process.poll() is None, "the crowd has gone")
    finally:
        process.kill()
        process.wait()


def try_one(stage, sort, count, shards, seconds, flags, crowd):
    """One number of greedy peers; whether bystanders were well served, and their waits."""
    flags = ["--shards", str(shards), "--handshake-timeout", HANDSHAKE_TIMEOUT, *sort.flags, *flags]
    cores = [stage.server_core]
    with (stage.server(*flags, cores=cores) as idle,
          stage.server(*flags, cores=cores) as busy,
          on_core(stage.client_core)):
        for server in (idle, busy):
            put_ahead(server.running.pid)
        bystanders = Bystanders(busy.address, idle.address)
        with (crowd(busy, count),
              Usage(busy.running.pid) as usage):
            felt, reference = bystanders.watch(seconds)
    waits = {what: felt.beyond(what, reference) for what in KINDS}
    p99, slowest = max((in_ms(waits[what], 0.99), what) for what in FREQUENT)
    worst, worst_of = max((in_ms(waits[what], 1), what) for what in (*FREQUENT, "upgrade"))
    deadline = in_ms(waits["deadline"], 1)
    refused = sum(felt.refused.values())
    allowance = QUICK_ALLOWANCE if stage.is_quick else 1
    is_right = (p99 <= P99_MS * allowance and worst <= WORST_MS * allowance
                and deadline <= DEADLINE_MS * allowance and not refused)
    words = (f"p99 {p99:.0f} ({slowest}), worst {worst:.0f} ({worst_of}), "
             f"deadline {deadline:.0f}" + f", {refused} newcomers refused" * (refused > 0))
    return is_right, f"{words}, {usage.share:.0%} of a core"


def in_ms(waits, share):
    """The wait that this share of them does not exceed."""
    return waits[min(int(len(waits) * share), len(waits) - 1)] * 1e3


def put_ahead(pid):
    """Gives a process, and the scheduler's group that its session is, a higher priority."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, int(PRIORITY))
        # sched(7), "The autogroup feature": where it is on, niceness counts within a session only.
        pathlib.Path(f"/proc/{pid}/autogroup").write_text(PRIORITY)


@contextlib.contextmanager
def on_core(core):
    """This process on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
