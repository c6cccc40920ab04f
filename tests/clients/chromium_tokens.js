// Headless Chromium shows a token in each way that a page has, and sees why it is refused.
// Arguments: the URL of a server that closes those it refuses, takes tokens from the cookie `token`
// and speaks the subprotocol `chat`; and a token that grants all of `news.*`.
"use strict";
const assert = require("node:assert/strict");
const { chromium } = require("playwright-core");
const { launch } = require("./browser.js");

const [base, token] = process.argv.slice(2);

// What becomes of a WebSocket of the page: its subprotocol and the echo, or the code of its close.
const talk = (page, path, protocols) => page.evaluate(([url, protocols]) =>
  new Promise((resolve) => {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => socket.send("hello");
    socket.onmessage = ({ data }) => {
      resolve([socket.protocol, data]);
      socket.close();
    };
    socket.onclose = ({ code, reason }) => resolve([code, reason]);
  }), [base + path, protocols]);

async function main() {
  const browser = await launch(chromium);
  try {
    const page = await browser.newPage();
    await page.goto(base.replace("ws:", "http:") + "/");
    const offered = ["chat", "ringwire.bearer." + token];
    assert.deepEqual(await talk(page, "/broadcast/news.a", offered), ["chat", "hello"]);
    assert.deepEqual(await talk(page, "/broadcast/news.a", []), [3000, "This takes a token"]);
    assert.deepEqual(await talk(page, "/broadcast/other", offered),
      [3003, "The token does not grant this"]);
    const post = (headers) => page.evaluate(async (headers) =>
      (await fetch("/broadcast/news.a", { method: "POST", body: "x", headers })).status, headers);
    assert.equal(await post({ Authorization: "Bearer " + token }), 202);
    assert.equal(await post({}), 401);
    await page.evaluate((token) => { document.cookie = "token=" + token; }, token);
    assert.deepEqual(await talk(page, "/broadcast/news.a", []), ["", "hello"]);
    assert.equal(await post({}), 202);
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
