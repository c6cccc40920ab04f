"""Raw peers: plain sockets and just enough of HTTP and framing to break every rule on purpose."""

import json
import os
import socket
import ssl
import struct

HANG_SECONDS = 30
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN = 0x80
# The bit of compressed messages in the first byte of a frame (RFC 7692 section 6).
RSV1 = 0x40
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"


def upgrade_request(path, *fields):
    """The request for an upgrade, with further header fields."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket",
             "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
             "Sec-WebSocket-Version: 13", *fields]
    return "\r\n".join([*lines, "\r\n"]).encode()


def plain_request(path, *fields):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *fields, "\r\n"]).encode()


def frame(first, payload):
    """A masked frame; the mask of zeros is as good as any other to the server."""
    size = len(payload)
    if size <= 125:
        header = struct.pack("!BB", first, 0x80 | size)
    elif size <= 0xFFFF:
        header = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        header = struct.pack("!BBQ", first, 0x80 | 127, size)
    return header + bytes(4) + payload


class Peer:
    """One end of a connection to the server."""

    def __init__(self, address, receive_buffer=None, context=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(HANG_SECONDS)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.received = b""

    def upgraded(self, path="/echo", *fields):
        """Upgrades; the status of the answer is another than 101 when the server refuses."""
        self.send(upgrade_request(path, *fields))
        status, _, _ = self.response()
        if status != 101:
            raise Refused(status)
        return self

    def send(self, data):
        self.socket.sendall(data)

    def fill(self):
        """Receives something; false at the end of the connection."""
        try:
            chunk = self.socket.recv(1 << 18)
        except (ConnectionResetError, ssl.SSLEOFError):
            chunk = b""
        self.received += chunk
        return bool(chunk)

    def take(self, size):
        while len(self.received) < size:
            if not self.fill():
                raise Ended
        taken, self.received = self.received[:size], self.received[size:]
        return taken

    def response(self):
        """Status, head and body of the next response."""
        while b"\r\n\r\n" not in self.received:
            if not self.fill():
                raise Ended
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        fields = head.decode().split("\r\n")
        lengths = [line.split(":")[1] for line in fields
                   if line.lower().startswith("content-length:")]
        return int(fields[0].split()[1]), fields[1:], self.take(int(lengths[0]) if lengths else 0)

    def frame(self):
        """First byte and payload of the next frame."""
        first, size = self.take(2)
        if size > 125:
            size = int.from_bytes(self.take(2 if size == 126 else 8), "big")
        return first, self.take(size)

    def close_code(self):
        """Reads up to the close frame; its code, nothing when the connection ends without one."""
        try:
            while True:
                first, payload = self.frame()
                if first & 15 == CLOSE:
                    return int.from_bytes(payload[:2], "big")
        except Ended:
            return None

    def shut_down_writing(self):
        """Sends a FIN and still reads; below TLS, which says nothing of it."""
        socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def reset(self):
        """Ends with a TCP reset instead of a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Refused(Exception):
    """The server answered an upgrade with this status."""


class Ended(Exception):
    """The connection ended where more was expected."""


class Subject:
    """The running server, seen from outside."""

    def __init__(self, running, certificate=None):
        self.running = running
        host, port = running.url.split("://")[1].rsplit(":", 1)
        self.address = (host, int(port))
        self.context = ssl.create_default_context(cafile=certificate) if certificate else None

    def connect(self, receive_buffer=None):
        return Peer(self.address, receive_buffer, self.context)

    def stats(self):
        """The counters as they are now."""
        with Peer(self.running.admin_address()) as peer:
            peer.send(plain_request("/stats", "Connection: close"))
            return json.loads(peer.response()[2])

    def echoes(self):
        """Whether a new client is served."""
        try:
            with self.connect() as peer:
                message = os.urandom(200)
                peer.upgraded().send(frame(FIN | BINARY, message))
                served = peer.frame() == (FIN | BINARY, message)
                peer.send(frame(FIN | CLOSE, b"\x03\xe8"))
                return served and peer.close_code() == 1000
        except (Ended, Refused, OSError):
            return False

    def is_alive(self):
        return self.running.process.poll() is None
