"""Python `websockets` as members of a topic that are closed by whoever runs the server.

Arguments: the URL of the topic, how many members, and the code and the reason that each of them
must be told.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

URL, MEMBERS, CODE, REASON = sys.argv[1:]


async def member():
    async with connect(URL, proxy=None) as socket:
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            told = closed.rcvd
            assert told and (told.code, told.reason) == (int(CODE), REASON), told
            assert closed.rcvd_then_sent, "the server began"
            return
    raise AssertionError("a message, and nobody sends any")


async def main():
    await asyncio.wait_for(asyncio.gather(*(member() for _ in range(int(MEMBERS)))), 60)


asyncio.run(main())
