"""Peers that take all they can get: a process of its own that keeps a server's core busy."""

import contextlib
import multiprocessing
import os
import select
import socket
import time
import zlib
from dataclasses import dataclass

from hostility.checks import MIB, expect
from hostility.peer import (BINARY, FIN, OFFER, RSV1, TEXT, frame, plain_request,
                            upgrade_request)

# Of one system call; the larger, the less the sender pays for each byte.
CHUNK_BYTES = 256 << 10
START_SECONDS = 20
# Who is cut off comes back after this.
RETURN_SECONDS = 0.05


@dataclass(frozen=True)
class Sort:
    """One way to be greedy: where to, and what is sent again and again."""

    words: str
    path: str
    data: bytes
    # Further header fields of the upgrade; nothing for plain HTTP.
    fields: tuple | None = ()
    reads: bool = True
    # Others that join with the publishers and read.
    readers: int = 0
    flags: tuple = ()


def sorts():
    """All sorts by name. Frames are prepared once; a whole number of them is sent in turns."""
    kibibyte = frame(FIN | BINARY, bytes(1024)) * 250
    empty = frame(FIN | BINARY, b"") * 40_000
    huge = frame(FIN | BINARY, bytes(16 * MIB)) + frame(FIN | TEXT, b"x" * (16 * MIB))
    inflating = frame(FIN | RSV1 | BINARY, deflated_zeros(16 * MIB))
    compression = ("--compression", "shared")
    alone = "/broadcast/a{number}?exclude_self=true"
    return {
        "echo": Sort("echoes of 1 KiB", "/echo", kibibyte),
        "alone": Sort("empty frames to a topic of one's own", alone, empty),
        "topics": Sort("1 KiB messages to a topic of one's own", alone, kibibyte),
        # Readers that fall behind stay all the same.
        "broadcast": Sort("1 KiB messages to 8 readers", "/broadcast/all?exclude_self=true",
                          kibibyte, readers=8, flags=("--slow-consumer", "drop-newest")),
        "inflating": Sort("messages that inflate to 16 MiB", "/echo", inflating * 4,
                          (OFFER,), flags=compression),
        "tiny": Sort("echoes of empty frames", "/echo", empty),
        "huge": Sort("echoes of 16 MiB", "/echo", huge),
        "unread": Sort("echoes that are never read", "/echo", kibibyte, reads=False),
        "plain": Sort("pipelined plain requests", "/healthz",
                      plain_request("/healthz") * 4000, None),
    }


def deflated_zeros(size):
    """The payload of a compressed message of so many zeros (RFC 7692 section 7.2.1)."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = stream.compress(bytes(size)) + stream.flush(zlib.Z_SYNC_FLUSH)
    return packed[:-4]


@contextlib.contextmanager
def greedy(sort, address, count, core):
    """So many greedy peers at work from the moment that all are connected."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    process = fork.Process(target=crowd, args=(sort, address, count, core, there), daemon=True)
    process.start()
    try:
        expect(here.poll(START_SECONDS), f"{count} greedy peers do not get in")
        expect(here.recv() == "connected", "no greedy peer gets in")
        yield
        expect(process.is_alive(), "the greedy peers have failed")
    finally:
        process.kill()
        process.join()
        here.close()


def crowd(sort, address, count, core, started):
    """The whole life of the process: it ends by being killed."""
    os.sched_setaffinity(0, {core})
    # A session of its own shares the core with the bystanders, who are measured on it: sched(7),
    # "The autogroup feature". Where that is off, niceness puts them first.
    os.setsid()
    os.nice(5)
    members = [Member(sort, address, number) for number in range(count)]
    members += [Member(sort, address, count, publishes=False) for _ in range(sort.readers)]
    poller = select.epoll()
    by_number = {}

    def enter(member):
        member.connect()
        by_number[member.socket.fileno()] = member
        poller.register(member.socket, select.EPOLLIN | select.EPOLLOUT)

    def turn(may_flood):
        """Everybody who can go on does, once; returns who is gone, nothing when all wait."""
        ready = poller.poll(0.1)
        gone = []
        for number, events in ready:
            member = by_number[number]
            try:
                wanted = member.act(events, may_flood)
                poller.modify(number, wanted)
            except OSError:
                gone.append(leave(number))
        return gone if ready else None

    def leave(number):
        member = by_number.pop(number)
        poller.unregister(number)
        member.socket.close()
        return member

    for member in members:
        enter(member)
    while not all(member.is_open for member in members):
        expect(not turn(may_flood=False), "a greedy peer is refused")
    started.send("connected")
    for number in by_number:
        poller.modify(number, select.EPOLLIN | select.EPOLLOUT)
    away, return_at = [], 0
    while True:
        gone = turn(may_flood=True)
        if gone is None and not sort.reads:
            # All have filled what there is to fill: they reset, and begin again.
            gone = [leave(number) for number in list(by_number)]
        away += gone or ()
        if away and time.monotonic() >= return_at:
            for member in away:
                enter(member)
            away, return_at = [], time.monotonic() + RETURN_SECONDS


class Member:
    """One greedy peer, or one of its readers, on a socket that never blocks."""

    trash = bytearray(CHUNK_BYTES)

    def __init__(self, sort, address, number, publishes=True):
        self.sort = sort
        self.address = address
        self.path = sort.path.format(number=number)
        self.publishes = publishes
        self.data = memoryview(sort.data)
        self.socket = None

    def connect(self):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(self.address)
        self.place = 0
        self.is_open = self.sort.fields is None
        self.request = b"" if self.is_open else upgrade_request(self.path, *self.sort.fields)
        self.answer = b""

    def act(self, events, may_flood):
        """Sends and receives once each, as far as it can; returns what to wait for."""
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self.receive()
        if events & select.EPOLLOUT:
            self.send(may_flood)
        floods = self.is_open and self.publishes and may_flood
        reads = select.EPOLLIN if self.sort.reads or not self.is_open else 0
        return reads | (select.EPOLLOUT if floods or self.request else 0)

    def receive(self):
        try:
            if self.is_open:
                if not self.socket.recv_into(self.trash):
                    raise ConnectionResetError
                return
            self.answer += self.socket.recv(4096)
        except BlockingIOError:
            return
        if not self.answer.startswith(b"HTTP/1.1 101"[:len(self.answer)]) or not self.answer:
            raise ConnectionResetError
        self.is_open = b"\r\n\r\n" in self.answer

    def send(self, may_flood):
        try:
            if self.request:
                self.request = self.request[self.socket.send(self.request):]
            elif self.is_open and self.publishes and may_flood:
                chunk = self.data[self.place:self.place + CHUNK_BYTES]
                self.place = (self.place + self.socket.send(chunk)) % len(self.data)
        except BlockingIOError:
            pass
