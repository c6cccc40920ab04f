// Headless Chromium using the page at `/` as a person would, and its own WebSocket for the rest.
// Arguments: the URL of a server that speaks the subprotocol `chat` and takes messages up to 1 MiB,
// and its setting for compression, which every browser offers.
"use strict";
const assert = require("node:assert/strict");
const { chromium } = require("playwright-core");
const { launch } = require("./browser.js");

const [base, compression] = process.argv.slice(2);

async function connect(page, { route, topic, exclude }) {
  await page.selectOption("#route", route);
  if (route === "broadcast") {
    await page.fill("#topic", topic);
    await page.setChecked("#exclude", exclude);
  }
  await page.click("#connect");
  await page.waitForFunction(() => document.querySelector("#status").textContent === "connected");
}

async function send(page, text) {
  await page.fill("#message", text);
  await page.click("#send");
}

// Waits until as many messages have come in, then compares all of them, in order.
async function expectIn(page, texts) {
  await page.waitForFunction(
    (count) => document.querySelectorAll("#log li.in").length >= count, texts.length);
  const shown = await page.$$eval("#log li.in", (entries) =>
    entries.map((entry) => entry.textContent));
  assert.equal(shown.length, texts.length, `${shown}`);
  texts.forEach((text, index) => assert.ok(shown[index].includes(text), shown[index]));
}

async function disconnect(page) {
  await page.click("#disconnect");
  await page.waitForFunction(() =>
    document.querySelector("#status").textContent === "disconnected");
  const last = await page.$eval("#log li.info:last-of-type", (entry) => entry.textContent);
  assert.match(last, /1000/);
  assert.doesNotMatch(last, /not clean/);
}

async function echoOnThePage(page) {
  await connect(page, { route: "echo" });
  const texts = Array.from({ length: 20 }, (_, index) => `echo ${index} \u20ac`);
  for (const text of texts) await send(page, text);
  assert.equal(await page.locator("#log li.out").count(), texts.length);
  await expectIn(page, texts);
  await disconnect(page);
}

async function broadcastOnThePages(loud, quiet) {
  for (const page of [loud, quiet]) await page.goto(base.replace("ws", "http") + "/");
  await connect(loud, { route: "broadcast", topic: "a room/b", exclude: false });
  await connect(quiet, { route: "broadcast", topic: "a room/b", exclude: true });
  await send(quiet, "from quiet");
  await expectIn(loud, ["from quiet"]);
  await send(loud, "from loud");
  await expectIn(loud, ["from quiet", "from loud"]);
  await expectIn(quiet, ["from loud"]);
  await disconnect(loud);
  await disconnect(quiet);
}

// Runs inside the page: the browser's own client, without the page's script.
async function inTheBrowser({ base, compression }) {
  const closed = (socket) => new Promise((resolve) =>
    socket.addEventListener("close", ({ code, wasClean }) => resolve(`${code} ${wasClean}`)));
  const opened = (socket) => new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("close", () => reject(new Error(`closed: ${socket.url}`)));
  });
  const check = (right, what) => {
    if (!right) throw new Error(what);
  };

  const socket = new WebSocket(`${base}/echo`, ["mqtt", "chat"]);
  socket.binaryType = "arraybuffer";
  const received = [];
  const count = 2000;
  const all = new Promise((resolve) => {
    socket.onmessage = ({ data }) => {
      received.push(data);
      if (received.length === count + 3) resolve();
    };
  });
  const end = closed(socket);
  await opened(socket);
  check(socket.protocol === "chat", `subprotocol ${socket.protocol}`);
  const isCompressed = socket.extensions.startsWith("permessage-deflate");
  check(isCompressed === (compression !== "off"), `extensions ${socket.extensions}`);
  for (let index = 0; index < count; index++) socket.send(`message ${index}`);
  const bytes = new Uint8Array(1 << 20).map((_, index) => index % 251);
  socket.send(bytes);
  socket.send("");
  socket.send("\u20ac".repeat(100000));
  await all;
  for (let index = 0; index < count; index++) {
    check(received[index] === `message ${index}`, `order at ${index}: ${received[index]}`);
  }
  const binary = new Uint8Array(received[count]);
  check(binary.length === bytes.length, `${binary.length} bytes of binary`);
  check(binary.every((byte, index) => byte === bytes[index]), "binary content");
  check(received[count + 1] === "", "empty text");
  check(received[count + 2] === "\u20ac".repeat(100000), "long text");
  socket.close(4321, "done");
  check((await end) === "4321 true", `closed with ${await end}`);

  const large = new WebSocket(`${base}/echo`);
  const refused = closed(large);
  await opened(large);
  large.send(new Uint8Array((1 << 20) + 1));
  check((await refused).startsWith("1009"), `too large: closed with ${await refused}`);
}

// Node ends with 0 when nothing is left to wait for, as after a promise that nobody keeps.
process.exitCode = 1;
(async () => {
  const browser = await launch(chromium);
  try {
    const faults = [];
    const pages = [await browser.newPage(), await browser.newPage()];
    for (const page of pages) {
      page.setDefaultTimeout(30000);
      page.on("pageerror", (error) => faults.push(error.message));
      page.on("console", (line) => line.type() === "error" && faults.push(line.text()));
    }
    await pages[0].goto(base.replace("ws", "http") + "/");
    await echoOnThePage(pages[0]);
    await broadcastOnThePages(pages[0], pages[1]);
    assert.deepEqual(faults, [], "the page has no errors and breaks no policy of its own");
    await pages[0].evaluate(inTheBrowser, { base, compression });
  } finally {
    await browser.close();
  }
  process.exitCode = 0;
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
