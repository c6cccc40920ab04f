"""Attacks before and around the upgrade."""

import contextlib
import random

from hostility.checks import close_all, eventually, expect, send_unheard, tell
from hostility.peer import Ended, Refused, plain_request, upgrade_request
from measuring.generator import find


def slow_loris(scene):
    """Handshakes that never end, while good clients are served."""
    count = scene.count(10_000)
    good = scene.good_clients(seconds=5)
    peers = []
    for number in range(count):
        peer = scene.subject.connect()
        peer.send(upgrade_request("/echo")[:20 + number % 100])
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


def storm(scene):
    """Everybody is reset at once and comes back at once."""
    count = scene.count(15_000)
    good = scene.good_clients(seconds=9 if count > 5000 else 5)
    report = scene.bench("/echo", "storm", "--connections", str(count), "--rounds", "2",
                         "--duration", "8s" if count > 5000 else "3s")
    back = find(report, "latency_ns", "max") / 1e9
    told = good.result(at_most_ms=1000)
    return f"2 x {count:,} connections dropped and back within {back:.2f} s; {told}"


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


def kept_alive(stage):
    """Clients that keep plain connections open: they count, and they are the first to go when
    somebody wants to upgrade."""
    limit, slots, tries = 100, 300, 20
    cases = ((f"--max-connections {limit}", ("--max-connections", str(limit)), (), 2 * limit),
             (f"{slots} slots", (), ("prlimit", f"--nofile={slots // 2}:{slots // 2}"), slots))
    told, is_right = [], True
    for what, flags, prefix, most in cases:
        with stage.server("--shards", "2", *flags, prefix=prefix) as subject:
            peers = [plain_client(subject) for _ in range(400)]
            # Seen from their side: the server may have no slot for a question.
            held = sum(map(is_open, peers))
            outcomes = [upgrade_outcome(subject) for _ in range(tries)]
            close_all(peers)
        counts = {outcome: outcomes.count(outcome) for outcome in outcomes}
        told.append(f"{what}: {held} of {len(peers)} stay open, {tries} upgrades get "
                    f"{tell(counts)}")
        # One or the other may be refused while somebody is closed for the next.
        is_right &= held <= most and counts.keys() <= {"101", "503"}
        is_right &= counts.get("101", 0) > tries / 2
    words = "plain connections that are kept; " + "; ".join(told)
    expect(is_right, words)
    return words


def plain_client(subject):
    """One that has made a request, if the server let it."""
    peer = subject.connect()
    peer.socket.settimeout(0.3)
    with contextlib.suppress(OSError, Ended):
        peer.send(plain_request("/healthz"))
        peer.response()
    return peer


def is_open(peer):
    peer.socket.setblocking(False)
    try:
        return bool(peer.socket.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def upgrade_outcome(subject):
    """The status that an upgrade gets within a second, in words."""
    with subject.connect() as peer:
        peer.socket.settimeout(1)
        try:
            peer.upgraded()
            return "101"
        except Refused as refusal:
            return str(refusal)
        except (OSError, Ended):
            return "no answer"
