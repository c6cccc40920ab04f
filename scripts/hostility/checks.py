"""What attacks and their scenes share: expectations, patience, and words."""

import time

MIB = 1 << 20


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
