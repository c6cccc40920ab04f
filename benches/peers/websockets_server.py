"""Echo and broadcast on the Python package websockets, which broadcasts natively."""

import asyncio
import sys
from collections import defaultdict

from websockets.asyncio.server import broadcast, serve

topics = defaultdict(set)


async def handle(connection):
    path = connection.request.path
    if not path.startswith("/broadcast"):
        async for message in connection:
            await connection.send(message)
        return
    members = topics[path]
    members.add(connection)
    try:
        async for message in connection:
            broadcast(members, message)
    finally:
        members.discard(connection)


async def main():
    host, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7073").split(":")
    options = {"compression": None, "max_size": 16 << 20, "ping_interval": None, "backlog": 4096}
    async with serve(handle, host, int(port), **options) as server:
        address = server.sockets[0].getsockname()
        print(f"listening on ws://{address[0]}:{address[1]}/", flush=True)
        await server.serve_forever()


asyncio.run(main())
