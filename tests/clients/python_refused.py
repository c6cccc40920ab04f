"""Python `websockets` is refused by a WebSocket that closes at once, and sees code and reason.

Argument: the URL of a server that is full and was started with `--refuse-with close`.
"""

import asyncio
import re
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main():
    async with connect(sys.argv[1], proxy=None) as socket:
        try:
            await socket.recv()
            raise AssertionError("a message from a server that is full")
        except ConnectionClosed as closed:
            received = closed.rcvd
    assert received.code == 1013, received
    assert re.fullmatch(r"The server is full; come back in \d+ s", received.reason), received


asyncio.run(main())
