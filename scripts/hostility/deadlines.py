"""Time that the server does not have, and peers that take theirs."""

import contextlib
import os
import selectors
import signal
import time

from hostility.checks import close_all, expect
from hostility.peer import BINARY, CLOSE, FIN, PING, PONG, Ended, frame


def stopped(scene):
    """SIGSTOP under load, SIGCONT two seconds later."""
    good = scene.good_clients(seconds=6)
    time.sleep(2)
    scene.subject.running.process.send_signal(signal.SIGSTOP)
    time.sleep(2)
    scene.subject.running.process.send_signal(signal.SIGCONT)
    return f"stopped for 2 s: nothing lost, nobody disconnected; {good.result()}"


def slow_but_steady(stage):
    """Peers that read slowly and without a pause when the closing handshake begins: whoever makes
    progress gets all of it and the close frame."""
    timeout_ms, rate = 500, 250_000
    size = (512 << 10) if stage.is_quick else (2 << 20)
    told = []
    for what, flags in (("their own close", ()), ("--lifetime", ("--lifetime", "1s"))):
        with stage.server("--shards", "1", "--close-timeout", f"{timeout_ms}ms", "--max-backlog",
                          "8MiB", *flags) as subject:
            with subject.connect(receive_buffer=4096) as peer:
                message = os.urandom(1 << 16)
                peer.upgraded().send(frame(FIN | BINARY, message) * (size >> 16))
                if not flags:
                    peer.send(frame(FIN | CLOSE, b"\x03\xe8"))
                begin = time.monotonic()
                got, code = read_slowly(peer, rate)
            seconds = time.monotonic() - begin
        told.append((code is not None and got == size >> 16,
                     f"{what}: {got} of {size >> 16} messages, close code {code}, in "
                     f"{seconds:.1f} s"))
    words = (f"--close-timeout {timeout_ms}ms, {size >> 10} KiB read at {rate / 1e6:.2f} MB/s; "
             + "; ".join(words for _, words in told))
    expect(all(is_right for is_right, _ in told), words)
    return words


def read_slowly(peer, rate):
    """Reads so many bytes a second to the end; how many data frames came, and the close code."""
    step = 0.02
    begin, taken = time.monotonic(), 0
    with contextlib.suppress(ConnectionResetError):
        while chunk := peer.socket.recv(int(rate * step)):
            peer.received += chunk
            taken += len(chunk)
            time.sleep(max(begin + taken / rate - time.monotonic(), 0))
    messages = 0
    with contextlib.suppress(Ended, OSError):
        while True:
            first, payload = peer.frame()
            if first & 15 == CLOSE:
                return messages, int.from_bytes(payload[:2], "big")
            messages += 1
    return messages, None


def longer_than_idle(stage):
    """The server is stopped for longer than --idle-timeout: whoever has sent something meanwhile,
    and whoever answers the ping that follows, is alive and may not be closed."""
    idle, stop, count = (1, 1.5, 20) if stage.is_quick else (2, 3, 20)
    with stage.server("--shards", "2", "--idle-timeout", f"{idle}s") as subject:
        talkers = [subject.connect().upgraded() for _ in range(count)]
        listeners = [subject.connect().upgraded("/broadcast/listen") for _ in range(count)]
        subject.running.process.send_signal(signal.SIGSTOP)
        time.sleep(stop / 2)
        for peer in talkers:
            peer.send(frame(FIN | BINARY, b"alive"))
        time.sleep(stop / 2)
        subject.running.process.send_signal(signal.SIGCONT)
        closed = answer_pings([*talkers, *listeners], 2 * idle)
        told = [sum(peer in closed for peer in peers) for peers in (talkers, listeners)]
        close_all([*talkers, *listeners])
    words = (f"stopped for {stop} s with --idle-timeout {idle}s: {told[0]} of {count} that had "
             f"sent something and {told[1]} of {count} that answer pings were closed")
    expect(not any(told), words)
    return words


def answer_pings(peers, seconds):
    """Answers pings for so long; returns who has been closed meanwhile."""
    closed = set()
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for peer in peers:
            selector.register(peer.socket, selectors.EVENT_READ, peer)
        while (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                peer = key.data
                try:
                    first, payload = peer.frame()
                    if first & 15 == PING:
                        peer.send(frame(FIN | PONG, payload))
                    is_closed = first & 15 == CLOSE
                except (Ended, OSError):
                    is_closed = True
                if is_closed:
                    closed.add(peer)
                    selector.unregister(peer.socket)
    return closed
