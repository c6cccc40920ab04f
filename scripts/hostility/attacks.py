"""Each attack does its worst and returns what is worth telling about how the server took it."""

import os
import random
import signal
import socket
import threading
import time

from hostility.peer import BINARY, FIN, PING, TEXT, UPGRADE, Ended, Refused, frame
from measuring.generator import find

MIB = 1 << 20


def slow_loris(scene):
    """Handshakes that never end, while good clients are served."""
    count = scene.count(10_000)
    good = scene.good_clients(seconds=5)
    peers = []
    for number in range(count):
        peer = scene.subject.connect()
        peer.send(UPGRADE.format(path="/echo").encode()[:20 + number % 100])
        peers.append(peer)
    report = good.result()
    answers = [peer.response()[0] for peer in peers]
    close_all(peers)
    expect(all(status == 408 for status in answers), f"answers {set(answers)}")
    return f"{count:,} unfinished requests: all 408; {report}"


def header_flood(scene):
    """Requests with more headers than anybody needs: in bytes, in fields, in the request line."""
    count = scene.count(2000)
    floods = [(431, b"GET /echo HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000),
              (431, b"GET /echo HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 1000 + b"\r\n"),
              (414, b"GET /" + b"x" * 20_000)]
    good = scene.good_clients(seconds=3)
    for number in range(count):
        status, flood = floods[number % len(floods)]
        with scene.subject.connect() as peer:
            send_unheard(peer, flood)
            expect(peer.response()[0] == status, f"not {status}")
    return f"{count:,} heads of 6 to 20 KB: all 431 or 414; {good.result()}"


def fragments(scene):
    """A message of a hundred thousand fragments of one byte, from several clients."""
    count = scene.count(100_000)
    data = frame(TEXT, b"a") + frame(0, b"b") * (count - 2) + frame(FIN, b"c")
    good = scene.good_clients(seconds=3)
    slowest = 0
    for _ in range(5):
        with scene.subject.connect() as peer:
            begin = time.monotonic()
            peer.upgraded().send(data)
            first, payload = peer.frame()
            slowest = max(slowest, time.monotonic() - begin)
            expect(first == FIN | TEXT and len(payload) == count, "the message differs")
            peer.reset()
    return f"5 x {count:,} fragments of 1 byte: each back within {slowest:.2f} s; {good.result()}"


def ping_flood(scene):
    """Pings as fast as they can be sent."""
    count = scene.count(200)
    good = scene.good_clients(seconds=3)
    pings = frame(FIN | PING, b"x" * 125) * 5000
    for _ in range(count):
        with scene.subject.connect() as peer:
            send_unheard(peer.upgraded(), pings)
            expect(peer.close_code() == 1008, "not closed with 1008")
    return f"{count} x 5,000 pings at once: all closed with 1008; {good.result()}"


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


def reset_within_a_frame(scene):
    """Half a frame, then RST."""
    count = scene.count(5000)
    half = frame(FIN | BINARY, os.urandom(4000))[:2000]
    good = scene.good_clients(seconds=4)
    for number in range(count):
        peer = scene.subject.connect().upgraded("/echo" if number % 2 else "/broadcast/half")
        peer.send(half)
        peer.reset()
    return f"{count:,} resets within a frame; {good.result()}"


def half_close(scene):
    """FIN after the last message: the answer must still come, and then the end."""
    count = scene.count(3000)
    for _ in range(count):
        with scene.subject.connect() as peer:
            peer.upgraded().send(frame(FIN | TEXT, b"last words"))
            peer.socket.shutdown(socket.SHUT_WR)
            expect(peer.frame() == (FIN | TEXT, b"last words"), "no answer after FIN")
            expect(not peer.fill(), "no end after FIN")
    return f"{count:,} half-closed peers: all got their answer and then FIN"


def storm(scene):
    """Everybody is reset at once and comes back at once."""
    count = scene.count(15_000)
    good = scene.good_clients(seconds=9 if count > 5000 else 5)
    report = scene.bench("/echo", "storm", "--connections", str(count), "--rounds", "2",
                         "--duration", "8s" if count > 5000 else "3s")
    back = find(report, "latency_ns", "max") / 1e9
    told = good.result(at_most_ms=1000)
    return f"2 x {count:,} connections dropped and back within {back:.2f} s; {told}"


def garbage(scene):
    """Bytes that are no request, and TLS hellos, on the plain port."""
    count = scene.count(4000)
    chance = random.Random(1)
    # A record header, a ClientHello of TLS 1.2 and its random part.
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(506)
    good = scene.good_clients(seconds=4)
    statuses = {}
    for number in range(count):
        with scene.subject.connect() as peer:
            is_hello = number % 2
            send_unheard(peer, hello if is_hello else chance.randbytes(9000))
            status = peer.response()[0]
            statuses[status] = statuses.get(status, 0) + 1
    expect(set(statuses) <= {400, 414, 431}, f"answers {statuses}")
    return f"{count:,} connections, half of them TLS hellos: {tell(statuses)}; {good.result()}"


def stopped(scene):
    """SIGSTOP under load, SIGCONT two seconds later."""
    good = scene.good_clients(seconds=6)
    time.sleep(2)
    scene.subject.running.process.send_signal(signal.SIGSTOP)
    time.sleep(2)
    scene.subject.running.process.send_signal(signal.SIGCONT)
    return f"stopped for 2 s: nothing lost, nobody disconnected; {good.result()}"


def descriptors(scene):
    """More connections than the table of descriptors holds."""
    def outcomes(count):
        peers, refused = [], 0
        for _ in range(count):
            try:
                peers.append(scene.subject.connect().upgraded())
            except Refused as refusal:
                expect(refusal.args == (503,), f"refused with {refusal}")
                refused += 1
        return peers, refused
    peers, refused = outcomes(900)
    expect(len(peers) >= 400 and refused > 0, f"{len(peers)} served")
    close_all(peers)
    expect(eventually(scene.subject.echoes), "no service when slots are free")
    again, _ = outcomes(300)
    expect(len(again) == 300, "no service when slots are free")
    close_all(again)
    return f"tables for 2 x 300: {len(peers)} served, {refused} got 503; 300 served again"


descriptors.prefix = ("prlimit", "--nofile=300:300")


def memory(scene):
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


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


def eventually(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def send_unheard(peer, data):
    """Sends what the server may refuse to take, because it has had enough."""
    try:
        peer.send(data)
    except OSError:
        pass


def close_all(peers):
    for peer in peers:
        peer.close()


def tell(counts):
    return ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))
