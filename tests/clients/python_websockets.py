"""Python `websockets` against echo and broadcast: content, order, close codes.

Arguments: the server's URL, which speaks the subprotocol `chat` and takes messages up to 1 MiB, and
how it compresses.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

BASE, COMPRESSION = sys.argv[1:]
# By default the client offers what it can; small windows make references wrap.
OFFERS = [
    ClientPerMessageDeflateFactory(client_max_window_bits=True),
    ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=9),
    ClientPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True),
]
offer = OFFERS[0]


async def open_at(path, **options):
    # Compression is always offered: a server without it must decline and still serve.
    socket = await connect(
        BASE + path, proxy=None, max_size=None, extensions=[offer], compression=None, **options)
    assert bool(socket.protocol.extensions) == (COMPRESSION != "off"), socket.protocol.extensions
    return socket


async def echo():
    async with await open_at("/echo", subprotocols=["mqtt", "chat"]) as socket:
        assert socket.subprotocol == "chat", socket.subprotocol
        for size in (0, 1, 125, 126, 65_535, 65_536, 1 << 20):
            for message in ("\u00e9" * (size // 2), bytes(index % 256 for index in range(size))):
                await socket.send(message)
                assert await socket.recv() == message, "%d bytes" % size

        async def publish():
            for index in range(3000):
                await socket.send("message %d" % index)

        publishing = asyncio.create_task(publish())
        for index in range(3000):
            assert await socket.recv() == "message %d" % index
        await publishing
        await (await socket.ping(b"are you there"))
        await socket.send(["frag", "men", "ted"])
        assert await socket.recv() == "fragmented"
    assert socket.close_code == 1000, socket.close_code


async def close_codes():
    for code in (1000, 1001, 1011, 3000, 4999):
        async with await open_at("/echo") as socket:
            await socket.close(code, "because")
        assert socket.close_code == code, (code, socket.close_code)
        assert socket.state.name == "CLOSED"
    async with await open_at("/echo") as socket:
        try:
            await socket.send(bytes((1 << 20) + 1))
            await socket.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed
        else:
            raise AssertionError("1 MiB and one byte were accepted")


async def broadcast():
    members = [await open_at("/broadcast/python") for _ in range(8)]
    quiet = await open_at("/broadcast/python?exclude_self=true")
    elsewhere = await open_at("/broadcast/elsewhere")
    count = 200

    async def publish(number):
        for index in range(count):
            await members[number].send("%d %d" % (number, index))

    async def receive(member):
        following = [0, 0, 0]
        for _ in range(2 * count + (member is not quiet)):
            publisher, index = map(int, (await member.recv()).split())
            assert index == following[publisher], (publisher, index, following)
            following[publisher] += 1
        assert following[2] == (member is not quiet)

    await asyncio.gather(
        publish(0), publish(1), quiet.send("2 0"), *map(receive, [*members, quiet]))
    await elsewhere.send("alone")
    assert await elsewhere.recv() == "alone"
    for member in [*members, quiet, elsewhere]:
        await member.close()
        assert member.close_code == 1000, member.close_code


async def refusals():
    try:
        await open_at("/nowhere")
    except InvalidStatus as refusal:
        assert refusal.response.status_code == 404, refusal
    else:
        raise AssertionError("/nowhere was upgraded")


async def main():
    global offer
    for offer in OFFERS if COMPRESSION != "off" else OFFERS[:1]:
        await echo()
        await close_codes()
        await broadcast()
    await refusals()


asyncio.run(main())
