"""A client by tlslite-ng that breaks rules of TLS, each on a connection of its own: records of a
wrong length, type or padding, empty ones, alerts, messages about keys without end, handshakes within
handshakes, and ends without a word. What is allowed is served, and what is not is answered with its
alert; in between somebody who breaks no rule is served as before.

Arguments: the server's host and port.
"""

import base64
import os
import socket
import sys

from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.constants import AlertDescription, AlertLevel, ContentType, KeyUpdateMessageType
from tlslite.errors import TLSAbruptCloseError, TLSClosedConnectionError, TLSRemoteAlert
from tlslite.messages import Alert, ApplicationData, ClientHello, Message

HOST, PORT = sys.argv[1], int(sys.argv[2])
HANG_SECONDS = 20
DATA, ALERT, HANDSHAKE = (ContentType.application_data, ContentType.alert, ContentType.handshake)
UPDATE = bytearray([24, 0, 0, 1, 1])


class Peer:
    """One connection, upgraded at the route that echoes."""

    def __init__(self, version=(3, 4)):
        settings = HandshakeSettings()
        settings.minVersion = settings.maxVersion = version
        settings.padding_cb = lambda length, kind, most: self.padding
        self.padding = 0
        self.tcp = socket.create_connection((HOST, PORT), HANG_SECONDS)
        self.tls = TLSConnection(self.tcp)
        self.tls.handshakeClientCert(settings=settings, serverName="localhost")
        key = base64.b64encode(os.urandom(16)).decode()
        self.tls.write(("GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        f"Sec-WebSocket-Key: {key}\r\n\r\n").encode())
        answer = bytearray()
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.tls.read(max=1, min=1)
        assert answer.startswith(b"HTTP/1.1 101"), answer

    def echoes(self, payload=b"hello"):
        # The mask is zero, so the payload is as it was.
        self.tls.write(bytes([0x82, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
        expected = bytes([0x82, len(payload)]) + payload
        answer = self.tls.read(max=len(expected), min=len(expected))
        assert answer == expected, answer

    def record(self, kind, content):
        """Sends a record of any type that says anything."""
        for _ in self.tls._recordLayer.sendRecord(Message(kind, bytearray(content))):
            pass

    def update(self):
        """Asks for another key, and takes one."""
        for _ in self.tls.send_keyupdate_request(KeyUpdateMessageType.update_requested):
            pass

    def raw(self, content):
        self.tcp.sendall(bytes(content))

    def ends(self):
        """How the server ends: an alert, or nothing said within TLS."""
        try:
            while self.tls.read(max=1, min=1):
                pass
            return None
        except TLSRemoteAlert as alert:
            return alert.description
        except (TLSAbruptCloseError, TLSClosedConnectionError, ConnectionResetError):
            return None


def empty_records(peer):
    for _ in range(30):
        peer.record(DATA, b"")
    peer.echoes()


def empty_records_without_end(peer):
    for _ in range(40):
        peer.record(DATA, b"")


def padding(peer):
    for peer.padding in (1, 255, 10_000):
        peer.echoes()


def only_padding(peer):
    peer.record(0, bytes(20))


def a_record_that_is_too_long(peer):
    peer.record(DATA, bytes(2**14 + 1))


def a_record_that_claims_too_much(peer):
    peer.raw([23, 3, 3, 0x41, 1])


def a_record_without_a_tag(peer):
    peer.raw([23, 3, 3, 0, 16] + [0] * 16)


def an_unknown_type(peer):
    peer.record(99, b"x")


def a_heartbeat(peer):
    peer.record(24, b"\1\0\4ping" + bytes(16))


def a_changed_record(peer):
    peer.raw([23, 3, 3, 0, 32] + [7] * 32)


def plaintext(peer):
    peer.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def a_change_of_cipher(peer):
    peer.raw([20, 3, 3, 0, 1, 1] + [0] * 40)


def keys(peer):
    for number in range(20):
        peer.update()
        peer.echoes(bytes([number]) * 100)


def keys_without_end(peer):
    for _ in range(40):
        peer.update()


def a_key_update_in_pieces_with_data_between(peer):
    peer.record(HANDSHAKE, UPDATE[:3])
    peer.record(DATA, b"x")


def a_key_update_that_asks_for_something_else(peer):
    peer.record(HANDSHAKE, UPDATE[:4] + b"\2")


def another_message(peer):
    peer.record(HANDSHAKE, [20, 0, 0, 4, 1, 2, 3, 4])


def an_empty_message(peer):
    peer.record(HANDSHAKE, b"")


def a_handshake_within(peer):
    hello = ClientHello().create((3, 3), bytearray(32), bytearray(0), [0x1301])
    peer.record(HANDSHAKE, hello.write())


def a_cut_alert(peer):
    peer.record(ALERT, b"\1")


def a_fatal_alert(peer):
    alert = Alert().create(AlertDescription.internal_error, AlertLevel.fatal)
    peer.record(ALERT, alert.write())


def an_end_without_a_word(peer):
    peer.tcp.shutdown(socket.SHUT_WR)


def an_end_within_a_record(peer):
    peer.raw([23, 3, 3, 1, 0, 1, 2, 3])
    peer.tcp.shutdown(socket.SHUT_WR)


def a_reset(peer):
    peer.tcp.close()


def renegotiation_once(peer):
    a_handshake_within(peer)
    assert peer.ends() == AlertDescription.no_renegotiation


SERVED = object()
CASES_OF_TLS_1_3 = [
    (empty_records, SERVED),
    (empty_records_without_end, AlertDescription.unexpected_message),
    (padding, SERVED),
    (only_padding, AlertDescription.unexpected_message),
    (a_record_that_is_too_long, AlertDescription.record_overflow),
    (a_record_that_claims_too_much, AlertDescription.record_overflow),
    (a_record_without_a_tag, AlertDescription.decode_error),
    (an_unknown_type, AlertDescription.unexpected_message),
    (a_heartbeat, AlertDescription.unexpected_message),
    (a_changed_record, AlertDescription.bad_record_mac),
    (plaintext, AlertDescription.unexpected_message),
    (a_change_of_cipher, AlertDescription.unexpected_message),
    (keys, SERVED),
    (keys_without_end, AlertDescription.unexpected_message),
    (a_key_update_in_pieces_with_data_between, AlertDescription.unexpected_message),
    (a_key_update_that_asks_for_something_else, AlertDescription.illegal_parameter),
    (another_message, AlertDescription.unexpected_message),
    (an_empty_message, AlertDescription.unexpected_message),
    (a_handshake_within, AlertDescription.unexpected_message),
    (a_cut_alert, AlertDescription.decode_error),
    (a_fatal_alert, None),
    (an_end_without_a_word, None),
    (an_end_within_a_record, None),
    (a_reset, None),
]
CASES_OF_TLS_1_2 = [
    (an_unknown_type, AlertDescription.decode_error),
    (a_changed_record, AlertDescription.bad_record_mac),
    (a_fatal_alert, None),
    (an_end_without_a_word, None),
    (renegotiation_once, None),
]


def main():
    bystander = Peer()
    for version, cases in (((3, 4), CASES_OF_TLS_1_3), ((3, 3), CASES_OF_TLS_1_2)):
        for misbehave, expected in cases:
            peer = Peer(version)
            peer.echoes()
            misbehave(peer)
            name = f"{misbehave.__name__}, {version}"
            if expected is SERVED:
                peer.echoes()
                peer.tls.close()
            elif misbehave is not a_reset:
                end = peer.ends()
                assert end == expected, f"{name}: {end}, expected {expected}"
            bystander.echoes()
            print(name, flush=True)


main()
