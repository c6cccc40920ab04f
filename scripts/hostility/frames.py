"""Attacks with frames, and ends in the middle of them."""

import os
import time

from hostility.checks import expect, send_unheard
from hostility.peer import BINARY, FIN, PING, TEXT, frame


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
            peer.shut_down_writing()
            expect(peer.frame() == (FIN | TEXT, b"last words"), "no answer after FIN")
            expect(not peer.fill(), "no end after FIN")
    return f"{count:,} half-closed peers: all got their answer and then FIN"
