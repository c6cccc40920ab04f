"""An application with `cent` and clients with `centrifuge`, both from PyPI, on one server.

usage: python_api.py HOST PORT KEY
"""

import asyncio
import json
import sys
import urllib.error
import urllib.request

import centrifuge
from cent import (
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    ChannelsRequest,
    Client,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)

HOST, PORT, KEY = sys.argv[1], sys.argv[2], sys.argv[3]
API = f"http://{HOST}:{PORT}/api"
DEADLINE = 20


class Heard(centrifuge.SubscriptionEventHandler):
    def __init__(self):
        self.publications = asyncio.Queue()

    async def on_publication(self, context):
        await self.publications.put((context.pub.offset, context.pub.data))


class Told(centrifuge.ClientEventHandler):
    def __init__(self):
        self.told = asyncio.Queue()

    async def on_publication(self, context):
        await self.told.put(("publication", context.channel, context.pub.data))

    async def on_subscribed(self, context):
        await self.told.put(("subscribed", context.channel))

    async def on_unsubscribed(self, context):
        await self.told.put(("unsubscribed", context.channel))

    async def on_disconnected(self, context):
        await self.told.put(("disconnected", context.code))


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, DEADLINE)


async def call(method, *arguments):
    return await asyncio.to_thread(method, *arguments)


async def main():
    api = Client(API, KEY, timeout=DEADLINE)
    told = Told()
    client = centrifuge.Client(f"ws://{HOST}:{PORT}/connection/websocket", events=told)
    heard = Heard()
    subscription = client.new_subscription("kept:news", events=heard)
    await soon(client.connect())
    await soon(client.ready())
    await soon(subscription.subscribe())
    await soon(subscription.ready())

    # Publications have their places, and repeats have those of the first.
    first = await call(api.publish, PublishRequest(channel="kept:news", data={"n": 1}))
    assert first.offset == 1 and first.epoch, first
    again = PublishRequest(channel="kept:news", data={"n": 2}, idempotency_key="once")
    second = await call(api.publish, again)
    repeated = await call(api.publish, again)
    assert second.offset == repeated.offset == 2, (second, repeated)
    skipped = await call(
        api.publish, PublishRequest(channel="kept:news", data={"n": 0}, skip_history=True))
    assert not skipped.offset, skipped
    broadcast = await call(api.broadcast, BroadcastRequest(
        channels=["kept:news", "plain", "nowhere:x"], data={"n": 3}))
    replies = [(reply.result, reply.error and reply.error.code) for reply in broadcast.responses]
    assert replies[0][0].offset == 3 and replies[1][1] is None and replies[2][1] == 102, replies
    got = [await soon(heard.publications.get()) for _ in range(4)]
    assert got == [(1, {"n": 1}), (2, {"n": 2}), (0, {"n": 0}), (3, {"n": 3})], got

    # What was published, and who is there.
    history = await call(api.history, HistoryRequest(channel="kept:news", limit=2))
    assert [it.data for it in history.publications] == [{"n": 1}, {"n": 2}], history
    later = await call(api.history, HistoryRequest(
        channel="kept:news", limit=10, since=StreamPosition(offset=2, epoch=first.epoch)))
    assert [it.offset for it in later.publications] == [3] and later.offset == 3, later
    await call(api.history_remove, HistoryRemoveRequest(channel="kept:news"))
    history = await call(api.history, HistoryRequest(channel="kept:news", limit=10))
    assert history.publications == [] and history.offset == 3, history
    presence = await call(api.presence, PresenceRequest(channel="kept:news"))
    assert len(presence.presence) == 1, presence
    (who,) = presence.presence
    stats = await call(api.presence_stats, PresenceStatsRequest(channel="kept:news"))
    assert (stats.num_clients, stats.num_users) == (1, 1), stats
    channels = await call(api.channels, ChannelsRequest(pattern="kept:*"))
    assert {name: it.num_clients for name, it in channels.channels.items()} == {"kept:news": 1}
    info = await call(api.info, InfoRequest())
    assert info.nodes[0].num_clients == 1 and info.nodes[0].num_channels == 1, info

    # Sessions are ruled over, on whichever shard they are.
    await call(api.subscribe, SubscribeRequest(user="", channel="plain", client=who))
    assert await soon(told.told.get()) == ("subscribed", "plain")
    await call(api.publish, PublishRequest(channel="plain", data=[1]))
    assert await soon(told.told.get()) == ("publication", "plain", [1])
    await call(api.refresh, RefreshRequest(user="", client=who, expire_at=0))
    await call(api.unsubscribe, UnsubscribeRequest(user="", channel="plain", client=who))
    assert await soon(told.told.get()) == ("unsubscribed", "plain")

    # Errors are told, each by itself.
    try:
        await call(api.publish, PublishRequest(channel="nowhere:x", data={}))
        raise AssertionError("an unknown namespace")
    except CentApiResponseError as error:
        assert error.code == 102, error
    batch = await call(api.batch, BatchRequest(requests=[
        PublishRequest(channel="kept:news", data={"n": 4}),
        HistoryRequest(channel="kept:news", limit=1),
        PresenceStatsRequest(channel="kept:news"),
    ]))
    assert batch.replies[0].offset == 4 and batch.replies[1].publications[0].offset == 4, batch
    for headers, body, status in [
        ({}, b"{}", 401),
        ({"X-API-Key": KEY + "x"}, b"{}", 401),
        ({"Authorization": f"apikey {KEY}"}, b"{", 400),
        ({"Authorization": f"apikey {KEY}"}, b"{}", 200),
        ({"X-API-Key": KEY, "X-Centrifugo-Error-Mode": "transport"}, b"{}", 400),
    ]:
        assert await call(status_of, "publish", headers, body) == status, (headers, body)
    assert await call(status_of, "nothing", {"X-API-Key": KEY}, b"{}") == 404
    lines = b'{"method":"info","params":{}}\n{"method":"publish","params":{}}'
    answer = await call(post, "", {"X-API-Key": KEY}, lines)
    info, failed = [json.loads(line) for line in answer.split(b"\n")]
    assert "result" in info and failed["error"]["code"] == 107, answer

    await call(api.disconnect, DisconnectRequest(user="", client=who))
    assert await soon(told.told.get()) == ("disconnected", 3503)
    print("all is as it should be")


def post(method, headers, body):
    url = API + ("/" + method if method else "")
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=DEADLINE) as response:
        return response.read()


def status_of(method, headers, body):
    try:
        post(method, headers, body)
        return 200
    except urllib.error.HTTPError as error:
        return error.code


asyncio.run(asyncio.wait_for(main(), 3 * DEADLINE))
