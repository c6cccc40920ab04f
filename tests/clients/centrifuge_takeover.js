// npm `centrifuge` as it is, while one server takes over from another: nothing is lost, doubled or
// out of order, and nobody is told that anything might be. Arguments: the URL of a server with
// tests/config/channels.toml, and `json` or `protobuf`. Says `ready` when it publishes, and ends
// with its input.
"use strict";
const assert = require("node:assert/strict");
const WebSocket = require("ws");

const [base, encoding] = process.argv.slice(2);
const { Centrifuge } = require(encoding === "json" ? "centrifuge" : "centrifuge/build/protobuf");
const pack = (value) => (encoding === "json" ? value : Buffer.from(JSON.stringify(value)));
const unpack = (data) => (encoding === "json" ? data : JSON.parse(Buffer.from(data).toString()));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const next = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));

async function connected() {
  const options = { websocket: WebSocket, minReconnectDelay: 1, maxReconnectDelay: 50 };
  const client = new Centrifuge(`${base}/connection/websocket`, options);
  client.connect();
  await client.ready();
  return client;
}

async function subscribed(client, channel, options) {
  const subscription = client.newSubscription(channel, options);
  Object.assign(subscription, { got: [], returns: 0 });
  subscription.on("publication", (it) => subscription.got.push(it));
  const event = next(subscription, "subscribed");
  subscription.subscribe();
  await event;
  subscription.on("subscribed", (it) => {
    assert.deepEqual([it.wasRecovering, it.recovered], [true, true]);
    subscription.returns++;
  });
  return subscription;
}

(async () => {
  const channels = ["a", "b", "c"].map((name) => `takeover-${encoding}-${name}`);
  const publisher = await connected();
  const subscriptions = [];
  for (const channel of channels) {
    for (const delta of encoding === "json" ? [undefined, "fossil"] : [undefined]) {
      const reader = await connected();
      subscriptions.push(await subscribed(reader, channel, { recoverable: true, delta }));
    }
  }
  let isOver = false;
  process.stdin.on("end", () => (isOver = true)).resume();
  const acknowledged = channels.map(() => []);
  console.log("ready");
  for (let number = 1; !isOver; number++) {
    const place = number % channels.length;
    const data = { number, text: "the same every time" };
    try {
      await publisher.publish(channels[place], pack(data));
      acknowledged[place].push(number);
    } catch (error) {
      // It is sent to the other server, and was not published, or does not know.
    }
    await sleep(2);
  }
  const tops = await Promise.all(channels.map((it) => publisher.history(it, { limit: 0 })));
  for (const subscription of subscriptions) {
    const place = channels.indexOf(subscription.channel);
    const top = Number(tops[place].offset);
    while (subscription.got.length < top) await next(subscription, "publication");
    const offsets = subscription.got.map((it) => Number(it.offset));
    assert.deepEqual(offsets, Array.from({ length: top }, (_, index) => index + 1));
    const numbers = subscription.got.map((it) => unpack(it.data).number);
    assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b));
    const lost = acknowledged[place].filter((it) => !numbers.includes(it));
    assert.deepEqual([lost, subscription.returns >= 1], [[], true]);
  }
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
