"""A server on the `websockets` package: /echo echoes, any other path broadcasts to all on it."""

import asyncio
import collections

from websockets.asyncio.server import broadcast, serve

topics = collections.defaultdict(set)


async def handle(connection):
    path = connection.request.path
    if path == "/echo":
        async for message in connection:
            await connection.send(message)
        return
    topics[path].add(connection)
    try:
        async for message in connection:
            broadcast(topics[path], message)
    finally:
        topics[path].discard(connection)


async def main():
    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


asyncio.run(main())
