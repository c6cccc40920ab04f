// npm `sockjs-client` against the mounts of tests/config/sockjs-protocol.toml: content, order and
// ends over each transport that it has. Arguments: the URL of the server, and `node`, or `chromium`
// for the transports that only a browser has.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");

const [base, kind] = process.argv.slice(2);
const transports = {
  node: ["websocket", "xhr-streaming", "eventsource", "xhr-polling"],
  chromium: ["websocket", "xhr-streaming", "eventsource", "iframe-eventsource", "htmlfile",
    "iframe-htmlfile", "xhr-polling", "iframe-xhr-polling", "jsonp-polling"],
};
// Whatever is sent comes back as it was, but for half a surrogate pair.
const texts = ["plain", "", "a\nb\r\u0000\t", "100% %20 %zz", "caf\u00e9 \u2028 \u200d \uffff",
  "\ud83d\ude00", "</script><!--", "\"quoted\\", "x".repeat(40000), "last"];

// Runs here, or within a page: it knows nothing but its arguments.
async function talk({ url, transport, texts, mode }) {
  const socket = new SockJS(url, null, { transports: transport, timeout: 30000 });
  const got = [];
  const end = new Promise((resolve) => {
    socket.onclose = ({ code, reason }) => resolve(`${code} ${reason}`);
  });
  await Promise.race([new Promise((resolve) => { socket.onopen = resolve; }), end]);
  if (mode === "closed") return [socket.transport, await end];
  const all = new Promise((resolve) => {
    socket.onmessage = ({ data }) => {
      got.push(data);
      if (got.length === texts.length) resolve();
    };
  });
  for (const text of texts) socket.send(text);
  await Promise.race([all, end]);
  const used = socket.transport;
  socket.close();
  return [used, await end, got];
}

async function check(run) {
  for (const transport of transports[kind]) {
    const url = `${base}/sockjs/echo`;
    const [used, end, got] = await run({ url, transport, texts, mode: "echo" });
    assert.equal(used, transport);
    assert.deepEqual(got, texts, transport);
    assert.equal(end, "1000 Normal closure", transport);
    const closed = { url: `${base}/sockjs/close`, transport, texts, mode: "closed" };
    assert.equal((await run(closed))[1], "3000 Go away!", transport);
  }
  // Without WebSocket on the server, the next transport is chosen.
  const url = `${base}/sockjs/disabled_websocket_echo`;
  const [used] = await run({ url, texts, mode: "echo" });
  assert.equal(used, "xhr-streaming");
}

async function inChromium() {
  const { chromium } = require("playwright-core");
  const { launch } = require("./browser.js");
  const script = fs.readFileSync(require.resolve("sockjs-client/dist/sockjs.min.js"), "utf8");
  const browser = await launch(chromium);
  try {
    const context = await browser.newContext();
    // The pages of iframes ask the server for it, which has no files.
    const contentType = "application/javascript";
    await context.route("**/sockjs.min.js", (route) =>
      route.fulfill({ contentType, body: script }));
    const page = await context.newPage();
    // Any page of the server: to another, Chromium would not let it talk.
    await page.goto(`${base}/sockjs/echo`);
    await page.addScriptTag({ content: script });
    await check((task) => page.evaluate(talk, task));
  } finally {
    await browser.close();
  }
}

async function inNode() {
  globalThis.SockJS = require("sockjs-client");
  await check(talk);
}

(kind === "chromium" ? inChromium() : inNode()).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  });
