"""What bystanders feel of a busy server, and at the same moment of an idle one on the same core.

Everything that a stall of the machine or of the measuring process does to the one it does to the
other, so the difference is what the busy server owes.
"""

import bisect
import collections
import heapq
import itertools
import selectors
import socket
import time

from hostility.checks import expect
from hostility.peer import (CLOSE, FIN, PING, PONG, TEXT, Peer, frame, upgrade_request)

ECHOES = 4
MESSAGE_EVERY = 0.010
NEWCOMER_EVERY = 0.100
# After the last message: who has no answer by then has waited for at least so long.
PATIENCE_SECONDS = 3


class Bystanders:
    """Bystanders of a busy server and of an idle one, who all do the same at the same moments."""

    def __init__(self, busy, idle):
        """They are connected before anybody keeps the one server busy."""
        self.loop = Loop()
        self.felt = [self.enter(busy), self.enter(idle)]

    def enter(self, address):
        felt = Felt()
        for peer in upgraded(address, ECHOES):
            self.loop.add_line(Line(felt.of("echo"), peer, peer, TEXT))
        [pinger] = upgraded(address, 1)
        self.loop.add_line(Line(felt.of("ping"), pinger, pinger, PING))
        [publisher] = upgraded(address, 1, "/broadcast/quiet?exclude_self=true")
        [subscriber] = upgraded(address, 1, "/broadcast/quiet")
        self.loop.add_line(Line(felt.of("topic"), publisher, subscriber, TEXT))
        request = upgrade_request("/echo")
        self.loop.add_newcomers(lambda: Newcomer(address, felt, "upgrade", request, 101))
        # Half a request: 408 at the deadline.
        self.loop.add_newcomers(lambda: Newcomer(address, felt, "deadline", request[:30], 408))
        return felt

    def watch(self, seconds):
        """Goes on for so long; returns the `Felt` of the busy server and of the idle one."""
        self.loop.run(seconds)
        return self.felt


def upgraded(address, count, path="/echo"):
    peers = [Peer(address).upgraded(path) for _ in range(count)]
    for peer in peers:
        peer.socket.setblocking(False)
    return peers


class Felt:
    """How long bystanders of a server waited, by what for: pairs of when and how long."""

    def __init__(self):
        self.waits = collections.defaultdict(list)
        # Newcomers that got another answer than they should, by what they wanted.
        self.refused = collections.Counter()

    def of(self, what):
        return self.waits[what]

    def beyond(self, what, reference):
        """How much longer than at the idle server each of these waits was, sorted.

        The measure of a wait is the longest at the idle server among those that began while it
        lasted: whatever held up the machine meanwhile has held up them.
        """
        idle = sorted(reference.of(what))
        begins = [begin for begin, _ in idle]
        beyond = []
        for begin, waited in self.of(what):
            first = bisect.bisect_left(begins, begin - MESSAGE_EVERY)
            last = bisect.bisect_right(begins, begin + waited)
            same = max((waited for _, waited in idle[first:last]), default=0)
            beyond.append(waited - same)
        expect(beyond, f"nobody has measured: {what}")
        return sorted(beyond)


class Line:
    """A conversation: messages at their times, whether answers come or not."""

    def __init__(self, waits, speaker, listener, opcode):
        self.waits = waits
        self.speaker = speaker
        self.listener = listener
        self.opcode = opcode
        self.numbers = itertools.count()
        self.unanswered = collections.deque()
        self.received = b""

    @property
    def socket(self):
        return self.listener.socket

    def speak(self):
        message = f"message {next(self.numbers):012}".encode()
        self.unanswered.append((message, time.monotonic()))
        self.speaker.socket.send(frame(FIN | self.opcode, message))

    def readable(self):
        """Takes the answers that are there, each of which must be the next."""
        try:
            chunk = self.socket.recv(1 << 16)
        except BlockingIOError:
            return False
        expect(chunk, "a bystander was cut off")
        self.received += chunk
        now = time.monotonic()
        while len(self.received) >= 2 and len(self.received) >= 2 + self.received[1]:
            first, size = self.received[:2]
            payload, self.received = self.received[2:2 + size], self.received[2 + size:]
            if first & 15 == CLOSE:
                code = int.from_bytes(payload[:2], "big")
                raise AssertionError(f"a bystander was closed with {code}")
            answer = PONG if self.opcode == PING else self.opcode
            expect(first == FIN | answer, f"a bystander got a frame that begins {first:#x}")
            self.answered(payload, now)
        return False

    def answered(self, payload, now):
        while self.unanswered:
            message, begin = self.unanswered.popleft()
            self.waits.append((begin, now - begin))
            if message == payload:
                return
            # A pong answers all pings before it (RFC 6455 section 5.5.3); an echo does not.
            expect(self.opcode == PING, f"a bystander got {payload} for {message}")
        raise AssertionError(f"a bystander got {payload} unasked")

    def give_up(self, now):
        self.waits.extend((begin, now - begin) for _, begin in self.unanswered)
        self.speaker.close()
        self.listener.close()

    def is_done(self):
        return not self.unanswered


class Newcomer:
    """A new connection, which sends something and waits for a status."""

    def __init__(self, address, felt, what, request, status):
        self.felt = felt
        self.what = what
        self.request = request
        self.status = status
        self.received = b""
        self.begin = time.monotonic()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(address)

    def writable(self):
        self.socket.send(self.request)

    def readable(self):
        """Whether it is over."""
        try:
            chunk = self.socket.recv(4096)
        except BlockingIOError:
            return False
        self.received += chunk
        if chunk and b"\r\n\r\n" not in self.received:
            return False
        if not self.received.startswith(b"HTTP/1.1 %d" % self.status):
            self.felt.refused[self.what] += 1
        self.note(time.monotonic())
        return True

    def note(self, now):
        self.felt.of(self.what).append((self.begin, now - self.begin))

    def give_up(self, now):
        self.note(now)
        self.socket.close()


class Loop:
    """Everybody's turn, by the clock and by what arrives."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.lines = []
        self.makers = []
        self.newcomers = set()

    def add_line(self, line):
        self.lines.append(line)
        self.selector.register(line.socket, selectors.EVENT_READ, line)

    def add_newcomers(self, make):
        self.makers.append(make)

    def run(self, seconds):
        begin = time.monotonic()
        end = begin + seconds
        tasks = [(begin, number, MESSAGE_EVERY, line.speak)
                 for number, line in enumerate(self.lines)]
        tasks += [(begin, len(self.lines) + number, NEWCOMER_EVERY,
                   lambda make=make: self.enter(make())) for number, make in
                  enumerate(self.makers)]
        heapq.heapify(tasks)
        while (now := time.monotonic()) < end:
            while tasks[0][0] <= now:
                due, number, every, act = tasks[0]
                act()
                # What this process is late for is left out: it would come in a bunch.
                heapq.heapreplace(tasks, (max(due + every, now), number, every, act))
            self.wait(max(tasks[0][0] - time.monotonic(), 0))
        while time.monotonic() < end + PATIENCE_SECONDS and not self.is_done():
            self.wait(0.05)
        now = time.monotonic()
        for somebody in [*self.lines, *self.newcomers]:
            somebody.give_up(now)
        self.selector.close()

    def enter(self, newcomer):
        self.newcomers.add(newcomer)
        self.selector.register(newcomer.socket, selectors.EVENT_WRITE, newcomer)

    def wait(self, seconds):
        for key, events in self.selector.select(seconds):
            somebody = key.data
            if events & selectors.EVENT_WRITE:
                somebody.writable()
                self.selector.modify(key.fileobj, selectors.EVENT_READ, somebody)
            elif somebody.readable():
                self.newcomers.remove(somebody)
                self.selector.unregister(somebody.socket)
                somebody.socket.close()

    def is_done(self):
        return not self.newcomers and all(line.is_done() for line in self.lines)
