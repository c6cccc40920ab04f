"""Subscribers that do not read, and those that do and must lose nothing."""

import contextlib
import itertools
import statistics
import threading
import time

from hostility.checks import MIB, close_all, eventually, expect
from hostility.peer import BINARY, FIN, TEXT, frame
from hostility.stage import Usage
from measuring import machine
from measuring.generator import find

POLICIES = ("disconnect", "drop-newest", "drop-oldest", "latest")
# Messages in a burst and bytes of each: more than a backlog at once, and no more than its readers
# have asked for.
BURSTS = ((3, "900KiB"), (4, "256KiB"), (17, "64KiB"), (66, "16KiB"), (300, "4KiB"))
SHARDS = (1, 2, 5)


def never_reads(policy):
    """Subscribers that never read what is broadcast, under one policy."""
    def attack(scene):
        before = scene.resident_bytes()
        peak = scene.watch_resident()
        report = scene.bench("/broadcast/slow", "slow", "--subscribers", "40", "--publishers", "2",
                             "--slow-share", "25", "--rate", "200", "--duration", scene.seconds(4))
        grown = (peak.stop() - before) / MIB
        p99 = find(report, "latency_ns", "p99") / 1e6
        # Ten backlogs of 1 MiB, which share what is queued, and receive buffers.
        expect(grown < 40, f"{grown:.0f} MiB more at the peak")
        return (f"10 of 40 subscribers stop reading 16 KiB messages: the others lose nothing, "
                f"p99 {p99:.1f} ms; {grown:.1f} MiB more at the peak")
    attack.__doc__ = never_reads.__doc__.replace("one policy", policy)
    attack.__name__ = f"never_reads_{policy.replace('-', '_')}"
    attack.flags = ("--slow-consumer", policy)
    return attack


def bursts_to_readers(stage):
    """Bursts beyond the backlog, to subscribers that read all the time: nobody may lose any."""
    cases = list(itertools.product(SHARDS, POLICIES, ((), ("--compression", "shared"))))
    if stage.is_quick:
        cases = [(2, "disconnect", ()), (2, "latest", ("--compression", "shared"))]
    runs, failures = 0, []
    for shards, policy, compression in cases:
        flags = ("--shards", str(shards), "--slow-consumer", policy, *compression)
        content = ("--compression", "--content", "json") if compression else ()
        with stage.server(*flags) as subject:
            for burst, size in BURSTS:
                runs += 1
                try:
                    stage.bench(subject, "/broadcast/a", "broadcast", "--subscribers", "8",
                                "--burst", str(burst), "--size", size, "--duration", "200ms",
                                "--warmup", "100ms", "--timeout", "2s", *content)
                except AssertionError as error:
                    failures.append(f"{burst} x {size} ({' '.join(flags)}): {error}")
    expect(not failures, f"{len(failures)} of {runs} runs lost something, for example "
           + "; ".join(failures[::max(len(failures) // 3, 1)]))
    return f"{runs} runs of bursts up to 2.7 MiB to 8 subscribers: nothing lost, nobody closed"


def steady_reader(stage):
    """A reader with a receive buffer of next to nothing, who reads on and on: what it is behind
    stays below the backlog, so it gets everything, in order, under each policy."""
    rounds = 5 if stage.is_quick else 10
    bursts = ((3, 300 << 10), (15, 64 << 10), (60, 16 << 10), (240, 4 << 10))
    messages = 0
    policies = POLICIES[:1] if stage.is_quick else POLICIES
    for shards, policy in itertools.product(SHARDS, policies):
        with stage.server("--shards", str(shards), "--slow-consumer", policy) as subject:
            readers = [subject.connect(receive_buffer=4096).upgraded("/broadcast/steady")
                       for _ in range(4)]
            publisher = subject.connect().upgraded("/broadcast/steady?exclude_self=true")
            numbers = itertools.count()
            for count, size in bursts * rounds:
                sent = [b"%012d" % next(numbers) + bytes(size - 12) for _ in range(count)]
                burst = b"".join(frame(FIN | BINARY, message) for message in sent)
                sender = threading.Thread(target=publisher.send, args=(burst,), daemon=True)
                sender.start()
                for message in sent:
                    for reader in readers:
                        first, got = reader.frame()
                        expect(first == FIN | BINARY and got == message,
                               f"{policy}, {shards} shards: {got[:12]} of {len(got)} bytes, "
                               f"kind {first:#x}, instead of {message[:12]}")
                sender.join()
                messages += count
            for peer in (*readers, publisher):
                peer.close()
    return f"4 readers with receive buffers of 4 KiB: all {messages:,} messages in order"


def silent_topic(stage):
    """A member that publishes as fast as it can and never reads: another who reads must hear on
    and on, though the rings between shards are full."""
    seconds = 2 if stage.is_quick else 5
    longest_most = 1.0
    told = []
    for policy in ("drop-newest", "latest"):
        with stage.server("--shards", "2", "--slow-consumer", policy) as subject:
            # Where a connection lives is chance; some of these pairs live apart.
            for number in range(2 if stage.is_quick else 4):
                path = f"/broadcast/loud{number}"
                observers = [subject.connect().upgraded(path + "?exclude_self=true")
                             for _ in range(4)]
                publisher = subject.connect(receive_buffer=4096).upgraded(path)
                with flooding(publisher):
                    longest = max(longest_silence(observers, seconds))
                for peer in (*observers, publisher):
                    peer.close()
                told.append(longest)
                expect(longest <= longest_most,
                       f"{policy}: somebody heard nothing for {longest:.1f} of {seconds} s")
    return (f"{len(told)} topics for {seconds} s each: "
            f"the longest silence {max(told) * 1e3:.0f} ms")


@contextlib.contextmanager
def flooding(peer):
    """A peer that sends messages of 1 KiB as fast as it can, until the end of the block."""
    flood = frame(FIN | BINARY, bytes(1024)) * 60
    stop = threading.Event()

    def flood_on():
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                peer.send(flood)

    peer.socket.settimeout(0.2)
    thread = threading.Thread(target=flood_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def longest_silence(peers, seconds):
    """For how long each of these who read all the time hears nothing, at the most."""
    silences = []

    def listen(peer):
        longest, heard = 0, time.monotonic()
        end = heard + seconds
        peer.socket.settimeout(0.1)
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                if not peer.socket.recv(1 << 18):
                    break
                longest, heard = max(longest, time.monotonic() - heard), time.monotonic()
        silences.append(max(longest, end - heard))

    threads = [threading.Thread(target=listen, args=(peer,), daemon=True) for peer in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return silences


def many_small_queued(stage):
    """Half a million empty messages queue for a peer that reads only then: what reading costs."""
    count = 500_000
    with stage.server("--shards", "1", "--max-backlog", "8MiB") as subject:
        peer = subject.connect(receive_buffer=4096).upgraded()
        expected = fill_kernel(peer) + 2 * count
        peer.send(EMPTY_TEXT * count)
        expect(eventually(lambda: subject.stats()["messages_in"] >= count),
               "the messages are not taken")
        with Usage(subject.running.pid) as usage:
            while expected > 0:
                chunk = peer.socket.recv(1 << 16)
                expect(chunk, "the connection ended")
                expected -= len(chunk)
        peer.close()
    words = (f"{count:,} empty messages queued behind 5 MB, then all is read: "
             f"{usage.spent * 1e3:.0f} ms of the server's processor time")
    # To queue them took a tenth of a second.
    expect(usage.spent < 0.3, words)
    return words


def small_messages_held(stage):
    """A backlog full of the smallest messages, for an echo and for subscribers: what is held is at
    most half as much again as the limit says."""
    told = []
    backlog = 8 * MIB
    with stage.server("--shards", "1", "--max-backlog", str(backlog)) as subject:
        peer = subject.connect(receive_buffer=4096).upgraded()
        fill_kernel(peer)
        before = resident(subject)
        peer.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):
            peer.send(EMPTY_TEXT * backlog)
        told.append((resident(subject) - before, backlog))
        peer.reset()
    backlog, readers = 64 << 10, 8
    with stage.server("--shards", "1", "--max-backlog", str(backlog), "--slow-consumer",
                      "drop-oldest") as subject:
        peers = slow_readers(subject, readers)
        before = resident(subject)
        publish_one_by_one(peers[0], backlog // 2)
        told.append((resident(subject) - before, readers * backlog))
        close_all(peers)
    words = "; ".join(f"{grown / MIB:.1f} MiB more for {most / MIB:.1f} MiB of backlog"
                      for grown, most in told)
    # Pools and the allocator's own round it up.
    expect(all(grown <= 1.5 * most + 3 * MIB for grown, most in told), words)
    return words


def resident(subject):
    return machine.resident_bytes(subject.running.pid)


def drops_from_long_queues(stage):
    """A queue of many small messages, each of which gives way to a new one: a message that is
    dropped costs no more the longer the queue is."""
    backlog = (4 << 20) if stage.is_quick else (32 << 20)
    with stage.server("--shards", "1", "--max-backlog", str(backlog), "--slow-consumer",
                      "drop-oldest") as subject:
        peers = slow_readers(subject, 1)

        def publish():
            """Microseconds of processor time for a message, and how many gave way to so many."""
            before = subject.stats()["dropped"]["drop_oldest"]
            with Usage(subject.running.pid) as usage:
                publish_one_by_one(peers[0], PART)
            return usage.spent / PART * 1e6, subject.stats()["dropped"]["drop_oldest"] - before

        # What fills the queue first is large, so that hardly anything gives way to small messages
        # until they fill it.
        growing, dropped = [], 0
        while dropped < PART // 2:
            cost, dropped = publish()
            growing.append(cost)
        long = [publish() for _ in range(8)]
        close_all(peers)
    queued = (len(growing) - 1) * PART
    # A message at a time wakes a core that rests in between, which costs twice as much at one moment
    # as at another: the dearest of several measurements counts while the queue is short, and the
    # median when it is long.
    before, after = max(growing[:4]), statistics.median(cost for cost, _ in long)
    words = (f"{before:.1f} us of processor time for a message while the queue is short, "
             f"{after:.1f} us when {queued:,} are queued and the oldest gives way")
    expect(sum(dropped for _, dropped in long) >= len(long) * PART // 2, f"dropped {long}")
    expect(queued > 8 * PART, f"only {queued} are queued")
    expect(after < 1.7 * before, words)
    return words


# Messages that a cost is measured with.
PART = 1000
# A text in two fragments returns as a frame of its own of two bytes.
EMPTY_TEXT = frame(TEXT, b"") + frame(FIN, b"")


def fill_kernel(peer):
    """Sends echoes that fill the kernel's buffers on the way back when nobody reads; returns how
    many bytes come back."""
    count, payload = 80, bytes(65_000)
    peer.send(frame(FIN | BINARY, payload) * count)
    return count * (4 + len(payload))


def slow_readers(subject, count):
    """A publisher that gets its own messages, and so many others that have stopped reading
    already."""
    path = "/broadcast/held"
    readers = [subject.connect(receive_buffer=4096).upgraded(path) for _ in range(count)]
    publisher = subject.connect().upgraded(path)
    # The kernel's buffers are full when messages are dropped again and again.
    while subject.stats()["dropped"]["drop_oldest"] < 8 * count:
        publish_one_by_one(publisher, 4, bytes(32_000))
    return [publisher, *readers]


def publish_one_by_one(publisher, count, payload=b""):
    """Publishes messages, each when the one before is back: no two in the same tick."""
    message = frame(FIN | BINARY, payload)
    for _ in range(count):
        publisher.send(message)
        expect(publisher.frame() == (FIN | BINARY, payload), "the publisher gets something else")
