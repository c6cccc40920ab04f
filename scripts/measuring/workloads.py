"""The workloads that a comparison runs, and the figures they are to reach."""

from dataclasses import dataclass, replace

KIB = 1024


@dataclass(frozen=True)
class Target:
    """A figure of one server that is to be at most so many times another's, or without another at
    most so much."""

    subject: str
    other: str | None
    most: float
    # A metric of measuring.generator.METRICS.
    metric: str = "cpu_us"


def at_most(other, most, metric="cpu_us"):
    return Target("ringwire", other, most, metric)


@dataclass(frozen=True)
class Workload:
    """One run of the load generator."""

    name: str
    title: str
    # What `ringwire bench` is asked for, besides size and connections.
    kind: str
    options: tuple = ()
    size: int = 20
    # Connections, or subscribers of a broadcast.
    connections: int = 1000
    targets: tuple = ()
    plots: bool = False
    # Whether the server needs all cores that the generator leaves.
    all_cores: bool = False
    # What is asked for besides where the server speaks TLS.
    secured_options: tuple = ()

    @property
    def is_broadcast(self):
        return self.kind == "broadcast"

    @property
    def path(self):
        return "/broadcast" if self.is_broadcast else "/echo"

    def arguments(self, shrink=1):
        """Arguments of `ringwire bench`; a trial divides the connections by `shrink`."""
        count = max(self.connections // shrink, 4)
        arguments = [self.kind, *self.options]
        if self.is_broadcast:
            return [*arguments, "--subscribers", str(count), "--size", str(self.size)]
        arguments += ["--connections", str(count)]
        return arguments + (["--size", str(self.size)] if self.kind in ("echo", "rate") else [])


def broadcast(size, burst):
    size_name = f"{size} B" if size < KIB else f"{size // KIB} KiB"
    how = "one at a time" if burst == 1 else f"bursts of {burst}"
    title = f"broadcast, 1 publisher, 1,000 subscribers, {size_name}, {how}"
    return Workload(
        f"broadcast-{size}x{burst}", title,
        "broadcast", ("--publishers", "1", "--burst", str(burst)), size=size,
        targets=(at_most("floor", 1.08), BUN), plots=burst == 1 and size == 20)


# Against Bun: ahead, and at the same rate with a shorter tail.
BUN = at_most("bun", 1.0)
BUN_TAIL = tuple(at_most("bun", 1.0, metric)
                 for metric in ("p50_us", "p99_us", "p999_us", "p99_part_us"))


def economy(cpu_most):
    """The setting that gathers messages, against waking for each."""
    return Target("ringwire-economy", "ringwire", cpu_most)


def economy_tail(p99_us_most):
    """Its latency in itself."""
    return tuple(Target("ringwire-economy", None, p99_us_most, metric)
                 for metric in ("p99_us", "p99_part_us"))


# A shard that spins against one that sleeps.
BUSY_POLL = Target("ringwire-busy-poll", "ringwire", 0.7, "p50_us")


ALL = (
    Workload("echo-1000x1", "echo, 1,000 connections, 20 B, 1 in flight", "echo",
             targets=(at_most("floor", 1.04), BUN), plots=True),
    Workload("echo-200x32", "echo, 200 connections, 20 B, bursts of 32", "echo",
             ("--burst", "32"), connections=200, targets=(at_most("floor", 1.08), BUN)),
    Workload("echo-64KiB", "echo, 20 connections, 64 KiB", "echo", size=64 * KIB, connections=20,
             targets=(at_most("floor", 1.15), at_most("floor-received", 1.15), BUN)),
    Workload("echo-1MiB", "echo, 20 connections, 1 MiB", "echo", size=KIB * KIB, connections=20,
             targets=(at_most("floor", 1.15), at_most("floor-received", 1.15), BUN)),
    Workload("echo-1KiBx32", "echo, 20 connections, 1 KiB, bursts of 32", "echo",
             ("--burst", "32"), size=KIB, connections=20,
             targets=(at_most("floor", 1.15), at_most("floor-received", 1.15), BUN)),
    broadcast(20, 1),
    broadcast(20, 16),
    broadcast(KIB, 1),
    broadcast(KIB, 16),
    Workload("rate-20000", "echo at 20,000 messages a second over 1,000 connections", "rate",
             ("--rate", "20000"), targets=(economy(0.72), BUN)),
    Workload("rate-60000", "echo at 60,000 messages a second over 1,000 connections", "rate",
             ("--rate", "60000"), targets=(economy(0.66), BUN)),
    # A generator that sleeps adds its own wake-up to every latency, one that polls never lets the
    # server's peer rest: CPU is compared with the one, latency with the other.
    Workload("latency-20000", "the same at 20,000, with a generator that polls", "rate",
             ("--rate", "20000", "--busy-poll"), plots=True,
             targets=(*economy_tail(300), *BUN_TAIL, BUSY_POLL)),
    Workload("latency-60000", "the same at 60,000, with a generator that polls", "rate",
             ("--rate", "60000", "--busy-poll"), plots=True,
             targets=(*economy_tail(420), *BUN_TAIL)),
    Workload("two-shards", "echo, 1,000 connections, 20 B, 1 in flight, servers on all cores",
             "echo", targets=(Target("ringwire-2-shards", "ringwire", 1.05),), all_cores=True),
    Workload("handshakes", "handshakes, closed at once", "connect", connections=100,
             targets=(at_most("bun", 1 / 1.3),)),
    Workload("idle", "10,000 idle connections, 6 s after the first", "idle", connections=10_000,
             targets=(at_most("bun", 1.0, "user_bytes"),)),
)


def channels(burst, plain, positions):
    """A broadcast to a channel, with and without positions, and what either may cost of a raw
    broadcast of the same bytes."""
    how = "one at a time" if burst == 1 else f"bursts of {burst}"
    return Workload(
        f"channel-100x{burst}", f"1 publisher, 1,000 subscribers, 100 B in JSON, {how}",
        "broadcast", ("--publishers", "1", "--burst", str(burst)), size=100,
        targets=(Target("channel", "raw", plain), Target("channel-positions", "raw", positions)))


# What a client publishes to a channel arrives with the name of that and with whose it is: 93 bytes
# beside 100 of data in quotes.
CHANNELS = (channels(1, 1.05, 1.10), channels(16, 1.15, 1.25))


# Whose processor time is counted without that of the server behind them.
IN_FRONT = ("nginx-in-front", "haproxy-in-front")


def secured(base, plain, bun, metric="cpu_us", **changes):
    """The workload `base` with TLS: what it may cost of plain and of Bun with TLS, `None` where
    plain says nothing of it; and it is ahead of what a proxy in front takes for itself."""
    limits = [("ringwire", plain), ("bun-tls", bun), *((proxy, 1.0) for proxy in IN_FRONT)]
    targets = tuple(Target("ringwire-tls", other, most, metric)
                    for other, most in limits if most)
    workload = next(workload for workload in ALL if workload.name == base)
    return replace(workload, targets=targets, plots=False, **changes)


# Large messages cost what the cipher takes for their bytes, so plain is no measure of them.
SECURED = (
    secured("echo-1000x1", 1.15, 0.85),
    secured("echo-1KiBx32", None, 1.0),
    secured("echo-64KiB", None, 1.0),
    secured("echo-1MiB", None, 1.0),
    secured("broadcast-20x1", 1.10, 1.0),
    secured("broadcast-20x16", 1.15, 1.0),
    secured("broadcast-1024x1", 1.15, 1.0),
    secured("handshakes", None, 1.0),
    secured("handshakes", None, 1.0, name="resumptions", secured_options=("--resume",),
            title="handshakes that go on with earlier sessions, closed at once"),
    # As many as a proxy has descriptors for, two to each.
    secured("idle", None, 1.0, "user_bytes", connections=4_000,
            title="4,000 idle connections, 6 s after the first"),
)


def of_names(names, choice=ALL):
    """The workloads of these names, all of `choice` when there are none."""
    known = {workload.name: workload for workload in choice}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"error: no workload {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(choice)
