"""Attacks on memory."""

import signal
import threading
import time

from hostility.checks import MIB, close_all, eventually, expect, send_unheard
from hostility.greedy import deflated_zeros
from hostility.peer import BINARY, FIN, OFFER, RSV1, TEXT, Ended, Refused, frame, upgrade_request
from hostility.stage import high_water_bytes


def fill(scene):
    """Clients that send and never read, until the limit is near."""
    limit = scene.limit_bytes
    peak = scene.watch_resident()
    flood = b"".join(frame(FIN | TEXT, bytes([65 + i % 26]) * 60_000) for i in range(400))
    stop = threading.Event()

    def never_read():
        while not stop.is_set():
            try:
                with scene.subject.connect(receive_buffer=4096) as peer:
                    peer.socket.settimeout(2)
                    send_unheard(peer.upgraded(), flood)
            except Refused:
                time.sleep(0.05)
            except (OSError, Ended):
                pass

    threads = [threading.Thread(target=never_read, daemon=True) for _ in range(24)]
    for thread in threads:
        thread.start()
    stats = until_shed(scene.subject)
    stop.set()
    for thread in threads:
        thread.join()
    shed, refused = stats["connections_shed"], stats["connections_refused"]["short_of_memory"]
    expect(scene.subject.is_alive(), "the server has ended")
    # Whether somebody must be shed as well depends on how fast memory fills: refusing may suffice.
    expect(refused > 0, f"{shed} shed, {refused} refused: {stats['memory']}")
    most = peak.stop()
    expect(most <= limit, f"{most / MIB:.0f} MiB resident at the peak")
    calm = eventually(lambda: scene.subject.stats()["memory"]["pressure"] == "calm")
    expect(calm, "never calm again")
    return (f"limit {limit // MIB} MiB: {shed} shed, {refused} upgrades got 503, "
            f"{most / MIB:.0f} MiB resident at the peak; calm afterwards")


def until_shed(subject, enough=20):
    """The counters when this many have been refused and shed, or shedding has had its chance."""
    def refused():
        return subject.stats()["connections_refused"]["short_of_memory"] >= enough

    eventually(refused, 15)
    eventually(lambda: subject.stats()["connections_shed"] >= enough, 5)
    return subject.stats()


def inflated_broadcasts(stage):
    """Messages of 16 KB that inflate to 16 MiB each, published together, under a limit."""
    count, limit = 32, 128 * MIB
    flags = ("--compression", "shared", "--max-memory", f"{limit // MIB}MiB")
    bombs = frame(FIN | RSV1 | BINARY, deflated_zeros(16 * MIB)) * count
    told = []
    for shards in (1, 2):
        with stage.server("--shards", str(shards), *flags) as subject:
            before = high_water_bytes(subject.running.pid)
            with subject.connect() as peer:
                send_unheard(peer.upgraded("/broadcast/bombs?exclude_self=true", OFFER), bombs)
                taken = eventually(lambda: subject.stats()["broadcasts"] >= count, 20)
            most = high_water_bytes(subject.running.pid)
            told.append((most, f"{shards} shard{'s' * (shards > 1)}: {before / MIB:.0f} -> "
                         f"{most / MIB:.0f} MiB at the most{'' if taken else ', not all taken'}"))
    words = (f"{len(bombs) >> 10} KiB that inflate to {count} x 16 MiB, limit {limit // MIB} MiB; "
             + "; ".join(words for _, words in told))
    expect(all(most <= limit for most, _ in told), words)
    return words


def standing_refusal(stage):
    """Unfinished messages that fill memory so far that upgrades are refused, and no further: the
    refusal may not last."""
    limit, patience = 128 * MIB, 15
    with stage.server("--shards", "2", "--max-memory", f"{limit // MIB}MiB") as subject:
        peers = []
        # Large ones, and then small ones up to the moment that upgrades are refused.
        for size in [14 * MIB] * 6 + [2 * MIB] * 20:
            peers.append(subject.connect().upgraded())
            send_unheard(peers[-1], frame(FIN | TEXT, b"x" * size)[:-1])
            # Memory is measured up to 100 ms later.
            time.sleep(0.15)
            if subject.stats()["memory"]["pressure"] != "calm":
                break
        else:
            raise AssertionError(f"{len(peers)} unfinished messages do not fill memory")
        begin = time.monotonic()
        refused = 0
        while not subject.echoes():
            refused += 1
            expect(time.monotonic() < begin + patience,
                   f"{len(peers)} unfinished messages: {refused} of {refused} upgrades in "
                   f"{patience} s refused")
            time.sleep(0.2)
        took = time.monotonic() - begin
        close_all(peers)
    return f"{len(peers)} unfinished messages: service again after {took:.1f} s"


def publishers_spared(stage):
    """Members that publish at once and do not want their own: each gets all the rest, which must
    not take a copy for each."""
    count, size = 400, 1000
    # The kernel hands over few completions at a time (io_uring/io_uring.c, IO_LOCAL_TW_DEFAULT_MAX)
    # unless they are gathered: so there are a hundred or so in a tick.
    flags = ("--batch-wait-us", "50000", "--receive-buffers", "16")
    with stage.server("--shards", "1", *flags) as subject:
        peers = [subject.connect(receive_buffer=4096) for _ in range(count)]
        for peer in peers:
            peer.send(upgrade_request("/broadcast/spared?exclude_self=true"))
        expect(all(peer.response()[0] == 101 for peer in peers), "a member does not get in")
        before = high_water_bytes(subject.running.pid)
        # What all have sent is there when the server goes on.
        subject.running.process.send_signal(signal.SIGSTOP)
        for number, peer in enumerate(peers):
            peer.send(frame(FIN | BINARY, b"%06d" % number + bytes(size - 6)))
        subject.running.process.send_signal(signal.SIGCONT)
        expected = count * (count - 1)
        expect(eventually(lambda: subject.stats()["deliveries"] >= expected), "not all delivered")
        grown = high_water_bytes(subject.running.pid) - before
        for number in (0, count // 2, count - 1):
            got = {int(peers[number].frame()[1][:6]) for _ in range(count - 1)}
            expect(len(got) == count - 1 and number not in got, "what a member gets is wrong")
        close_all(peers)
    words = (f"{count:,} members publish {size:,} bytes each at once: "
             f"{grown / MIB:.1f} MiB more at the peak")
    expect(grown <= 6 * MIB, words)
    return words
