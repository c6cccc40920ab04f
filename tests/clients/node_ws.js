// Node `ws` against echo and broadcast: content, order, close codes. Arguments: the server's URL,
// which speaks the subprotocol `chat` and takes messages up to 1 MiB, and how it compresses.
"use strict";
const assert = require("node:assert/strict");
const { once } = require("node:events");
const WebSocket = require("ws");

const [base, compression] = process.argv.slice(2);
// What is offered to a server that compresses; its answer decides.
const offers = {
  off: [false],
  shared: [true, { threshold: 0, serverMaxWindowBits: 8 }],
  dedicated: [
    true,
    { threshold: 0, clientMaxWindowBits: 9, serverMaxWindowBits: 9 },
    { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
  ],
};
let offer = false;

// A client that queues what arrives, so that nothing is missed between two waits.
async function open(path, protocols = []) {
  const socket = new WebSocket(base + path, protocols, { perMessageDeflate: offer });
  const queue = [];
  const waiting = [];
  socket.on("message", (data, isBinary) => {
    const message = isBinary ? data : data.toString();
    if (waiting.length > 0) waiting.shift()(message);
    else queue.push(message);
  });
  socket.next = () =>
    queue.length > 0
      ? Promise.resolve(queue.shift())
      : new Promise((resolve) => waiting.push(resolve));
  socket.closed = new Promise((resolve) =>
    socket.on("close", (code, reason) => resolve([code, reason.toString()])));
  socket.on("error", () => {}); // the close event says the same and more
  await once(socket, "open");
  assert.equal(socket.extensions !== "", compression !== "off" && offer !== false);
  return socket;
}

async function close(socket, code, reason) {
  socket.close(code, reason);
  assert.equal((await socket.closed)[0], code ?? 1005);
}

async function echo() {
  const socket = await open("/echo", ["mqtt", "chat"]);
  assert.equal(socket.protocol, "chat");
  for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
    const text = "\u00e9".repeat(size / 2);
    socket.send(text);
    assert.ok((await socket.next()) === text, `text of ${size} bytes`);
    const bytes = Buffer.alloc(size, "ringwire");
    socket.send(bytes);
    const answer = await socket.next();
    assert.ok(Buffer.isBuffer(answer) && answer.equals(bytes), `binary of ${size} bytes`);
  }
  for (let index = 0; index < 5000; index++) socket.send(`message ${index}`);
  for (let index = 0; index < 5000; index++) {
    assert.equal(await socket.next(), `message ${index}`);
  }
  const pong = once(socket, "pong");
  socket.ping("are you there");
  assert.equal((await pong)[0].toString(), "are you there");
  socket.send("frag", { fin: false });
  socket.send("men", { fin: false });
  socket.send("ted", { fin: true });
  assert.equal(await socket.next(), "fragmented");
  await close(socket, 1000, "done");
}

async function closeCodes() {
  for (const code of [undefined, 1000, 1001, 1011, 3000, 4999]) {
    await close(await open("/echo"), code, code && "because");
  }
  const large = await open("/echo");
  large.send(Buffer.alloc((1 << 20) + 1));
  assert.equal((await large.closed)[0], 1009);
}

async function broadcast() {
  const members = await Promise.all(
    Array.from({ length: 8 }, () => open("/broadcast/node")));
  const quiet = await open("/broadcast/node?exclude_self=true");
  const elsewhere = await open("/broadcast/elsewhere");
  const count = 200;
  for (let index = 0; index < count; index++) {
    members[0].send(`0 ${index}`);
    members[1].send(`1 ${index}`);
  }
  quiet.send("2 0");
  for (const member of [...members, quiet]) {
    const next = [0, 0, 0];
    const expected = 2 * count + (member === quiet ? 0 : 1);
    for (let received = 0; received < expected; received++) {
      const [publisher, index] = (await member.next()).split(" ").map(Number);
      assert.equal(index, next[publisher]++, `order of publisher ${publisher}`);
    }
    assert.equal(next[2], member === quiet ? 0 : 1);
  }
  elsewhere.send("alone");
  assert.equal(await elsewhere.next(), "alone");
  for (const member of [...members, quiet, elsewhere]) await close(member, 1000);
}

async function refusals() {
  const socket = new WebSocket(base + "/nowhere");
  const [, response] = await once(socket, "unexpected-response");
  assert.equal(response.statusCode, 404);
  socket.on("error", () => {});
  socket.terminate();
}

// Node ends with 0 when nothing is left to wait for, as after a promise that nobody keeps.
process.exitCode = 1;
(async () => {
  for (offer of offers[compression]) {
    await echo();
    await closeCodes();
    await broadcast();
  }
  await refusals();
  process.exitCode = 0;
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
