// npm `centrifuge` as it is, on a server whose backend answers what the data of a question wants it
// to (tests/blackbox/hooks.rs). Arguments: its URL, and `json` or `protobuf`.
"use strict";
const assert = require("node:assert/strict");
const WebSocket = require("ws");

const [base, encoding] = process.argv.slice(2);
const isJson = encoding === "json";
const { Centrifuge } = require(isJson ? "centrifuge" : "centrifuge/build/protobuf");
const pack = (value) => (isJson ? value : Buffer.from(JSON.stringify(value)));
const unpack = (data) => (isJson ? data : JSON.parse(Buffer.from(data).toString()));
const next = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));
const say = (answer) => pack({ say: answer });

async function main() {
  const client = new Centrifuge(`${base}/connection/websocket`, { websocket: WebSocket });
  const connected = next(client, "connected");
  client.connect();
  assert.deepEqual(unpack((await connected).data), { a: 1 });

  const answer = await client.rpc("m", say({ result: { data: { b: 2 } } }));
  assert.deepEqual(unpack(answer.data), { b: 2 });
  const refused = client.rpc("m", say({ error: { code: 1234, message: "no" } }));
  await assert.rejects(refused, { code: 1234, message: "no" });
  if (isJson) {
    await assert.rejects(client.rpc("m", null), { code: 100 });
  } else {
    // What is no JSON goes to the backend and comes back as it is.
    const binary = await client.rpc("m", Buffer.from([255, 0]));
    assert.deepEqual([...binary.data], [255, 254]);
  }

  const channel = client.newSubscription("asked:a", { data: say({ result: { data: { c: 3 } } }) });
  const subscribed = next(channel, "subscribed");
  channel.subscribe();
  assert.deepEqual(unpack((await subscribed).data), { c: 3 });
  const published = next(channel, "publication");
  await channel.publish(say({ result: { data: { d: 4 } } }));
  assert.deepEqual(unpack((await published).data), { d: 4 });

  const closed = client.newSubscription("asked:b", {
    data: say({ error: { code: 403, message: "no" } }),
  });
  const unsubscribed = next(closed, "unsubscribed");
  closed.subscribe();
  assert.equal((await unsubscribed).code, 403);

  const disconnected = next(client, "disconnected");
  client.rpc("m", say({ disconnect: { code: 4500, reason: "away" } })).catch(() => {});
  assert.equal((await disconnected).code, 4500);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
