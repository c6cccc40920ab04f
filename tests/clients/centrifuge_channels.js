// npm `centrifuge` as it is: channels, presence, history, recovery, tokens. Arguments: the URL of a
// server with tests/config/channels.toml, and `json` or `protobuf`; with `restart` as a third it
// says when it has subscribed, and waits until the server has gone and come back.
"use strict";
const assert = require("node:assert/strict");
const { createHmac } = require("node:crypto");
const { once } = require("node:events");
const WebSocket = require("ws");

const [base, encoding, mode] = process.argv.slice(2);
const { Centrifuge } = require(encoding === "json" ? "centrifuge" : "centrifuge/build/protobuf");
const url = `${base}/connection/websocket`;
const clients = [];
let names = 0;

/** A channel that no other scenario uses. */
const channelIn = (namespace) => `${namespace}${namespace && ":"}${encoding}-${names++}`;
const nowSeconds = () => Math.floor(Date.now() / 1000);
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function token(claims) {
  const signed = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url(claims)}`;
  return `${signed}.${createHmac("sha256", "secret").update(signed).digest("base64url")}`;
}

const pack = (value) => (encoding === "json" ? value : Buffer.from(JSON.stringify(value)));
const unpack = (data) =>
  encoding === "json" || data === undefined ? data : JSON.parse(Buffer.from(data).toString());

/** A client whose socket can be cut or left unread; it tells of all that happens to it. */
function makeClient(options = {}) {
  let socket;
  class Watched extends WebSocket {
    constructor(...parameters) {
      super(...parameters);
      socket = this;
    }
  }
  const given = { websocket: Watched, minReconnectDelay: 1, maxReconnectDelay: 50, ...options };
  if (!("token" in given) && !("getToken" in given)) given.token = token({ sub: "somebody" });
  const client = new Centrifuge(url, given);
  clients.push(client);
  client.socket = () => socket;
  client.cut = () => socket.terminate();
  return client;
}

const next = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));

async function connected(options) {
  const client = makeClient(options);
  const event = next(client, "connected");
  client.connect();
  client.first = await event;
  return client;
}

/** Subscribes, and keeps what is published. */
async function subscribed(client, channel, options = {}) {
  const subscription = client.newSubscription(channel, options);
  subscription.got = [];
  subscription.on("publication", (it) => subscription.got.push(it));
  const event = next(subscription, "subscribed");
  subscription.subscribe();
  subscription.first = await event;
  return subscription;
}

/** Waits until a subscription has so many publications. */
async function until(subscription, count) {
  while (subscription.got.length < count) await next(subscription, "publication");
}

const datas = (subscription) => subscription.got.map((it) => unpack(it.data));
const offsets = (subscription) => subscription.got.map((it) => Number(it.offset));
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** Publishes as an application does. */
async function publishAs(channel, data, tags) {
  const body = JSON.stringify({ channel, data, tags });
  const headers = { "X-API-Key": "key-of-the-tests" };
  const address = `${base.replace("ws", "http")}/api/publish`;
  let response;
  do {
    // A machine that has much to do refuses some.
    response = await fetch(address, { method: "POST", headers, body });
  } while (response.status === 503);
  assert.match(await response.text(), /^{"result":/);
}

/** Publishes numbers, and tells by tags what they are. */
async function publishNumbers(channel, from, to) {
  for (const number of range(from, to)) {
    const tags = { parity: number % 2 ? "odd" : "even", number: String(number) };
    await publishAs(channel, number, tags);
  }
}

const odd = { key: "parity", cmp: "eq", val: "odd" };

/** The code of a promise that is to be refused. */
async function codeOf(promise) {
  const error = await promise.then(
    (value) => assert.fail(`not refused, but ${JSON.stringify(value)}`),
    (error) => error,
  );
  return error.code;
}

const scenarios = {
  async "a client says who it is"() {
    const claims = { sub: "ann", info: { a: 1 } };
    const client = await connected({ token: token(claims), data: pack({}) });
    assert.match(client.first.client, /^[0-9a-f-]{36}$/);
    const subscription = await subscribed(client, channelIn(""));
    const { clients } = await subscription.presence();
    const info = clients[client.first.client];
    assert.equal(info.user, "ann");
    assert.deepEqual(unpack(info.connInfo), { a: 1 });
  },

  async "nobody comes without a token, or with a wrong one"() {
    for (const [given, code] of [["", 3501], ["a.b.c", 3500], [`${token({ sub: "a" })}x`, 3500]]) {
      const client = makeClient({ token: given });
      client.connect();
      assert.equal((await next(client, "disconnected")).code, code, given);
    }
  },

  async "a token that has expired is exchanged"() {
    let calls = 0;
    const getToken = async () => token({ sub: "ann", exp: nowSeconds() + (calls++ ? 600 : -60) });
    const client = makeClient({ getToken });
    client.newSubscription(channelIn("")).subscribe();
    client.connect();
    await next(client, "connected");
    assert.equal(calls, 2);
  },

  async "what is published comes in order, to all"() {
    const [channel, publisher] = [channelIn(""), await connected()];
    const readers = await Promise.all(range(1, 4).map(() => connected()));
    const subscriptions = await Promise.all(readers.map((it) => subscribed(it, channel)));
    await Promise.all(range(1, 100).map((n) => publisher.publish(channel, pack({ n }))));
    for (const subscription of subscriptions) {
      await until(subscription, 100);
      assert.deepEqual(datas(subscription).map((it) => it.n), range(1, 100));
      assert.deepEqual(offsets(subscription), range(1, 100));
      assert.equal(subscription.got[0].info.client, publisher.first.client);
    }
  },

  async "nothing is kept where nothing is to be kept"() {
    const [channel, publisher, reader] = [channelIn("plain"), await connected(), await connected()];
    const subscription = await subscribed(reader, channel);
    assert.equal(subscription.first.recoverable, false);
    await Promise.all(range(1, 20).map((n) => publisher.publish(channel, pack({ n }))));
    await until(subscription, 20);
    assert.deepEqual(datas(subscription).map((it) => it.n), range(1, 20));
    assert.equal(await codeOf(subscription.history({ limit: 1 })), 108);
    assert.equal(await codeOf(subscription.presence()), 108);
  },

  async "those who come and go are told to those who ask"() {
    const [channel, watcher, other] = [channelIn(""), await connected(), await connected()];
    const events = [];
    const subscription = watcher.newSubscription(channel, { joinLeave: true });
    subscription.on("join", (it) => events.push(["join", it.info.client]));
    subscription.on("leave", (it) => events.push(["leave", it.info.client]));
    const own = next(subscription, "join");
    subscription.subscribe();
    await own;
    let event = next(subscription, "join");
    const theirs = await subscribed(other, channel);
    await event;
    const { numClients, numUsers } = await subscription.presenceStats();
    assert.deepEqual([Number(numClients), Number(numUsers)], [2, 1]);
    event = next(subscription, "leave");
    theirs.unsubscribe();
    await event;
    event = next(subscription, "join");
    theirs.subscribe();
    await event;
    event = next(subscription, "leave");
    other.cut();
    other.disconnect();
    await event;
    assert.equal(Number((await subscription.presenceStats()).numClients), 1);
    assert.deepEqual(Object.keys((await subscription.presence()).clients), [watcher.first.client]);
    const [a, b] = [watcher.first.client, other.first.client];
    assert.deepEqual(events, [["join", a], ["join", b], ["leave", b], ["join", b], ["leave", b]]);
  },

  async "the history comes page by page, both ways"() {
    const [channel, client] = [channelIn(""), await connected()];
    for (const n of range(1, 25)) await client.publish(channel, pack({ n }));
    const { epoch, offset, publications } = await client.history(channel, { limit: 0 });
    assert.deepEqual([Number(offset), publications.length], [25, 0]);
    for (const reverse of [false, true]) {
      const pages = [];
      let since = reverse ? undefined : { offset: 0, epoch };
      for (;;) {
        const page = await client.history(channel, { limit: 10, since, reverse });
        if (page.publications.length === 0) break;
        pages.push(page.publications.map((it) => unpack(it.data).n));
        since = { offset: Number(page.publications.at(-1).offset), epoch };
        if (reverse && since.offset === 1) break;
      }
      const all = reverse ? range(1, 25).reverse() : range(1, 25);
      assert.deepEqual(pages.flat(), all);
      assert.deepEqual(pages.map((it) => it.length), [10, 10, 5]);
    }
    assert.equal((await client.history(channel, { limit: -1 })).publications.length, 25);
    const wrong = { offset: 3, epoch: "another" };
    assert.equal(await codeOf(client.history(channel, { limit: 1, since: wrong })), 112);
  },

  async "whoever was cut off gets what it has missed, once"() {
    const [channel, publisher, reader] = [channelIn(""), await connected(), await connected()];
    const subscription = await subscribed(reader, channel, { recoverable: true });
    const publish = (from, to) =>
      Promise.all(range(from, to).map((n) => publisher.publish(channel, pack({ n }))));
    for (const round of range(0, 4)) {
      // Some before the cut, some while it is away, some when it is about to be back.
      const event = next(subscription, "subscribed");
      const begin = round * 60;
      await publish(begin + 1, begin + 20);
      reader.cut();
      await publish(begin + 21, begin + 40);
      await Promise.all([event, publish(begin + 41, begin + 60)]);
      const { wasRecovering, recovered } = await event;
      assert.deepEqual([wasRecovering, recovered], [true, true]);
    }
    await until(subscription, 300);
    assert.deepEqual(offsets(subscription), range(1, 300));
    assert.deepEqual(datas(subscription).map((it) => it.n), range(1, 300));
  },

  async "whoever has missed more than is kept is told so"() {
    const [channel, publisher, reader] = [channelIn("small"), await connected(), await connected()];
    const subscription = await subscribed(reader, channel);
    assert.equal(subscription.first.recoverable, true);
    await publisher.publish(channel, pack({ n: 1 }));
    await until(subscription, 1);
    for (const [missed, isRecovered, got] of [[2, true, 3], [3, false, 3]]) {
      const away = next(subscription, "subscribing");
      reader.disconnect();
      await away;
      for (const n of range(1, missed)) await publisher.publish(channel, pack({ n }));
      const event = next(subscription, "subscribed");
      reader.connect();
      const { wasRecovering, recovered } = await event;
      assert.deepEqual([wasRecovering, recovered], [true, isRecovered]);
      await until(subscription, got);
      assert.equal(subscription.got.length, got);
    }
  },

  async "a reader that is slow loses its subscription, and nothing else"() {
    const [channel, publisher, reader] = [channelIn(""), await connected(), await connected()];
    const subscription = await subscribed(reader, channel, { positioned: true, recoverable: true });
    const ends = [];
    subscription.on("subscribing", (it) => ends.push(it.code));
    const back = next(subscription, "subscribed");
    reader.socket()._socket.pause();
    const text = "x".repeat(60_000);
    for (const n of range(1, 250)) await publisher.publish(channel, pack({ n, text }));
    reader.socket()._socket.resume();
    assert.equal((await back).recovered, true);
    await until(subscription, 250);
    assert.deepEqual(offsets(subscription), range(1, 250));
    assert.equal(ends[0], 2500);
  },

  async "the server subscribes whom a token says, and each user to a channel of their own"() {
    const [channel, user, publisher] = [channelIn(""), `user-${encoding}`, await connected()];
    const reader = makeClient({ token: token({ sub: user, channels: [channel] }) });
    const events = [];
    reader.on("subscribed", (it) => events.push(it.channel));
    reader.on("publication", (it) => events.push([it.channel, unpack(it.data)]));
    const event = next(reader, "connected");
    reader.connect();
    await event;
    assert.deepEqual(events.splice(0).sort(), [`#${user}`, channel].sort());
    let came = next(reader, "publication");
    await publisher.publish(channel, pack("to all"));
    await came;
    came = next(reader, "publication");
    await publisher.publish(`#${user}`, pack("to one"));
    await came;
    assert.deepEqual(events, [[channel, "to all"], [`#${user}`, "to one"]]);
  },

  async "channels that need a token take one, and a new one later"() {
    const channel = `$${channelIn("closed")}`;
    const client = await connected();
    const refused = client.newSubscription(channelIn("closed"));
    refused.subscribe();
    assert.equal((await next(refused, "unsubscribed")).code, 103);
    const calls = [];
    const getToken = async (context) => {
      calls.push(context.channel);
      // One that has expired, one that soon will, and one that lasts.
      const seconds = [-60, 3, 600][calls.length - 1];
      return token({ sub: "somebody", channel, exp: nowSeconds() + seconds });
    };
    const subscription = client.newSubscription(channel, { getToken, minResubscribeDelay: 1 });
    let ends = 0;
    subscription.on("unsubscribed", () => ends++);
    subscription.subscribe();
    await next(subscription, "subscribed");
    while (calls.length < 3) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(calls, [channel, channel, channel]);
    await client.ready();
    await client.history(channelIn(""), { limit: 0 });
    assert.deepEqual([ends, subscription.state], [0, "subscribed"]);
  },

  async "a token is exchanged before it expires"() {
    let calls = 0;
    const getToken = async () => token({ sub: "ann", exp: nowSeconds() + (calls++ ? 600 : 3) });
    const client = await connected({ getToken });
    let ends = 0;
    client.on("connecting", () => ends++);
    while (calls < 2) await new Promise((resolve) => setTimeout(resolve, 20));
    await client.history(channelIn(""), { limit: 0 });
    assert.deepEqual([ends, client.state], [0, "connected"]);
  },

  async "whoever has unsubscribed gets nothing more"() {
    const [channel, publisher, reader] = [channelIn(""), await connected(), await connected()];
    const subscription = await subscribed(reader, channel);
    await publisher.publish(channel, pack({ n: 1 }));
    await until(subscription, 1);
    subscription.unsubscribe();
    await reader.history(channel, { limit: 0 });
    await publisher.publish(channel, pack({ n: 2 }));
    await reader.history(channel, { limit: 0 });
    assert.equal(subscription.got.length, 1);
  },

  async "what is not there is refused"() {
    const client = await connected();
    assert.equal(await codeOf(client.publish(channelIn("nowhere"), pack({}))), 102);
    assert.equal(await codeOf(client.publish(channelIn("closed"), pack({}))), 103);
    assert.equal(await codeOf(client.rpc("any", pack({}))), 108);
    const names = [["nowhere:a", 102], ["x".repeat(300), 107], ["caf\u00e9", 107]];
    for (const [channel, code] of names) {
      const subscription = client.newSubscription(channel);
      subscription.subscribe();
      assert.equal((await next(subscription, "unsubscribed")).code, code, channel);
    }
  },

  async "tags choose who gets what"() {
    const large = { key: "number", cmp: "gte", val: "8" };
    const both = { op: "and", nodes: [odd, large] };
    for (const namespace of ["chosen", "plain"]) {
      const channel = channelIn(namespace);
      // Of what has no history the order is that of each publisher, and there are several.
      const told = (it) => (namespace === "plain" ? datas(it).sort((a, b) => a - b) : datas(it));
      const all = await subscribed(await connected(), channel);
      const options = [odd, odd, large, both].map((tagsFilter) => ({ tagsFilter }));
      const readers = await Promise.all(
        options.map(async (it) => subscribed(await connected(), channel, it)),
      );
      await all.publish(pack(0));
      await publishNumbers(channel, 1, 12);
      const expected = [range(1, 6).map((it) => 2 * it - 1), range(8, 12), [9, 11]];
      expected.unshift(expected[0]);
      for (const [place, reader] of readers.entries()) {
        await until(reader, expected[place].length);
        assert.deepEqual(told(reader), expected[place]);
      }
      await until(all, 13);
      assert.deepEqual(told(all), range(0, 12));
      const nine = readers[3].got.find((it) => unpack(it.data) === 9);
      assert.deepEqual(nine.tags, { parity: "odd", number: "9" });
      if (namespace === "plain") continue;
      // Whoever chooses may choose again.
      readers[0].unsubscribe();
      readers[0].setTagsFilter(large);
      readers[0].got.length = 0;
      const event = next(readers[0], "subscribed");
      readers[0].subscribe();
      await event;
      await publishNumbers(channel, 7, 8);
      await until(readers[0], 1);
      assert.deepEqual(datas(readers[0]), [8]);
    }
  },

  async "whoever chooses by tags recovers what it has chosen"() {
    const client = await connected();
    const [channel, other] = [channelIn("chosen"), channelIn("chosen")];
    const options = { tagsFilter: odd, recoverable: true };
    const reader = await subscribed(client, channel, options);
    const none = await subscribed(client, other, options);
    let published = 0;
    for (const count of [1, 4, 4]) {
      const back = [reader, none].map((it) => next(it, "subscribed"));
      client.cut();
      await next(client, "connecting");
      await publishNumbers(channel, published + 1, published + count);
      published += count;
      await publishNumbers(other, 2, 2);
      for (const event of back) assert.equal((await event).recovered, true);
    }
    await publishNumbers(channel, 10, 11);
    await until(reader, 6);
    assert.deepEqual(datas(reader), [1, 3, 5, 7, 9, 11]);
    assert.deepEqual(datas(none), []);
  },

  async "a pattern stands for all channels that it matches"() {
    const [reader, other, publisher] = await Promise.all(range(1, 3).map(() => connected()));
    const name = channelIn("open");
    const [near, far] = [`${name}/*`, `${name}/**`];
    const subscriptions = [
      await subscribed(reader, near),
      await subscribed(reader, far, { recoverable: true, positioned: true }),
      await subscribed(other, near),
    ];
    assert.equal(subscriptions[1].first.recoverable, false);
    for (const rest of ["/a", "/b/c", "/$d", "/e#1", "/f"]) {
      await publisher.publish(`${name}${rest}`, pack(rest));
      await publisher.publish(`${channelIn("plain")}${rest}`, pack(rest));
    }
    await until(subscriptions[0], 3);
    await until(subscriptions[1], 4);
    await until(subscriptions[2], 3);
    // The order is that of each channel.
    const got = subscriptions.map((it) => it.got.map(({ tags }) => tags.channel).sort());
    const expected = ["/$d", "/a", "/f"].map((it) => `${name}${it}`);
    assert.deepEqual(got[0], expected);
    assert.deepEqual(got[2], expected);
    assert.deepEqual(got[1], ["/$d", "/a", "/b/c", "/f"].map((it) => `${name}${it}`));
    for (const { tags, data } of subscriptions[0].got) {
      assert.equal(tags.channel, `${name}${unpack(data)}`);
    }
    assert.equal(subscriptions[0].got[0].channel, near);
    assert.equal(subscriptions[0].got[0].info.user, "somebody");
    subscriptions[0].unsubscribe();
    await publishAs(`${name}/g`, 1, { channel: "is told anew", a: "b" });
    await until(subscriptions[2], 4);
    assert.deepEqual(subscriptions[2].got[3].tags, { channel: `${name}/g`, a: "b" });
    assert.equal(subscriptions[0].got.length, 3);
  },

  async "a pattern needs a permission, and has neither history nor presence"() {
    const client = await connected();
    const [near, closed] = [`${channelIn("open")}*`, `$${channelIn("open")}*`];
    assert.equal(await codeOf(client.publish(near, pack(1))), 107);
    assert.equal(await codeOf(client.presence(near)), 108);
    assert.equal(await codeOf(client.presenceStats(near)), 108);
    assert.equal(await codeOf(client.history(near, { limit: 1 })), 108);
    for (const [pattern, code] of [
      [`${channelIn("plain")}*`, 103],
      [closed, 103],
      ["open:*#*", 103],
      ["op*:a", 102],
      ["open:***", 107],
    ]) {
      const subscription = client.newSubscription(pattern);
      subscription.subscribe();
      assert.equal((await next(subscription, "unsubscribed")).code, code, pattern);
      client.removeSubscription(subscription);
    }
    const channel = closed.replace("*", "1");
    const few = await subscribed(client, closed, {
      token: token({ sub: "somebody", channel: closed }),
    });
    await publishAs(channel, 1);
    await until(few, 1);
    assert.equal(few.got[0].tags.channel, channel);
  },

  async "what is no choice is refused"() {
    const client = await connected();
    for (const [namespace, tagsFilter] of [
      ["", odd],
      ["chosen", { key: "parity" }],
      ["chosen", { op: "or", nodes: [] }],
    ]) {
      const subscription = client.newSubscription(channelIn(namespace), { tagsFilter });
      subscription.subscribe();
      assert.equal((await next(subscription, "unsubscribed")).code, 107);
    }
  },

  async "differences keep texts whole"() {
    const [channel, publisher, reader] = [channelIn(""), await connected(), await connected()];
    const options = { delta: "fossil", positioned: true, recoverable: true };
    const subscription = await subscribed(reader, channel, options);
    const other = await connected();
    const plain = await subscribed(other, channel);
    const words = ["\u0416\u0443\u043a", "\u4e16\u754c", "\u{1f389}", "\u00e9t\u00e9", '\n"b"\\'];
    const word = (n, place) => words[(place * (place === n % 40 ? n : 1)) % words.length];
    const text = (n) => range(1, 40).map((place) => word(n, place)).join(" ");
    const texts = range(1, 60).map((n) => ({ n, text: text(n) }));
    for (const it of texts.slice(0, 30)) await publisher.publish(channel, pack(it));
    await until(subscription, 30);
    await until(plain, 30);
    const [some, all] = [reader, other].map((it) => it.socket()._socket.bytesRead);
    assert.ok(some < all / 2, `${some} bytes of ${all}`);
    const event = next(subscription, "subscribed");
    reader.cut();
    for (const it of texts.slice(30, 45)) await publisher.publish(channel, pack(it));
    assert.equal((await event).recovered, true);
    for (const it of texts.slice(45)) await publisher.publish(channel, pack(it));
    await until(subscription, 60);
    await until(plain, 60);
    assert.deepEqual(datas(subscription), texts);
    assert.deepEqual(datas(plain), texts);
  },

  async "a hundred subscriptions come with the first frame"() {
    const [client, publisher] = [makeClient(), await connected()];
    let count = 0;
    const subscriptions = range(1, 100).map(() => {
      const subscription = client.newSubscription(channelIn(""), { recoverable: true });
      subscription.got = [];
      subscription.on("publication", (it) => subscription.got.push(it));
      subscription.on("subscribed", () => count++);
      subscription.subscribe();
      return subscription;
    });
    client.connect();
    while (count < 100) await new Promise((resolve) => setTimeout(resolve, 5));
    const published = subscriptions.map((it, n) => publisher.publish(it.channel, pack({ n })));
    await Promise.all(published);
    for (const [n, subscription] of subscriptions.entries()) {
      await until(subscription, 1);
      assert.deepEqual(datas(subscription), [{ n }]);
    }
  },

  async "pings of the protocol are answered"() {
    const client = await connected();
    let pings = 0;
    client.socket().on("message", (data) => (pings += (data.length ?? data.byteLength) <= 2));
    while (pings < 2) await once(client.socket(), "message");
    assert.equal(client.state, "connected");
    await client.history(channelIn(""), { limit: 0 });
  },
};

/** The server goes, and another comes in its place that knows nothing of what was published. */
async function restart() {
  const client = await connected();
  const subscription = await subscribed(client, channelIn(""), { recoverable: true });
  await client.publish(subscription.channel, pack({ n: 1 }));
  await until(subscription, 1);
  const [gone, back] = [next(client, "connecting"), next(subscription, "subscribed")];
  console.log("subscribed");
  assert.equal((await gone).code, 3001);
  const { wasRecovering, recovered } = await back;
  assert.deepEqual([wasRecovering, recovered], [true, false]);
  await client.publish(subscription.channel, pack({ n: 2 }));
  await until(subscription, 2);
}

async function main() {
  if (mode === "restart") await restart();
  const all = mode === undefined ? Object.entries(scenarios) : [];
  const running = all.map(([name, scenario]) =>
    scenario().then(
      () => console.log(name),
      (error) => assert.fail(`${name}: ${error.stack ?? JSON.stringify(error)}`),
    ));
  await Promise.all(running);
  for (const client of clients) client.disconnect();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
