// Headless Chromium on the page of the admin listener, while another client sends echoes.
// Arguments: the URL of the page and of the echo route; a WebSocket has ended before with 4001
// and a reason that looks like HTML.
"use strict";
const assert = require("node:assert/strict");
const { chromium } = require("playwright-core");
const { launch } = require("./browser.js");
const WebSocket = require("ws");

const [pageUrl, echoUrl] = process.argv.slice(2);

// Sockets that send again whatever comes back.
async function load(count) {
  const sockets = Array.from({ length: count }, () => new WebSocket(echoUrl));
  await Promise.all(sockets.map((socket) => new Promise((resolve, reject) => {
    socket.on("open", resolve);
    socket.on("error", reject);
  })));
  for (const socket of sockets) {
    socket.on("message", (data) => socket.send(data));
    socket.send("x".repeat(100));
  }
  return sockets;
}

const figure = (name) => {
  const terms = [...document.querySelectorAll("#figures dt")];
  const term = terms.find((term) => term.textContent === name);
  return term?.parentElement.querySelector(".value").textContent ?? "";
};

process.exitCode = 1;
(async () => {
  const sockets = await load(10);
  const browser = await launch(chromium);
  try {
    const faults = [];
    const asked = new Set();
    const page = await browser.newPage({ viewport: { width: 320, height: 700 } });
    page.setDefaultTimeout(30000);
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("dialog", (dialog) => faults.push(`a dialog: ${dialog.message()}`));
    page.on("request", (request) => asked.add(new URL(request.url()).origin));
    // What a server does not have, or has off, is none of the page's faults.
    page.on("console", (line) => {
      const { pathname } = new URL(line.location().url || pageUrl);
      const isOptional = ["/top", "/capacity"].includes(pathname);
      if (line.type() === "error" && !isOptional) faults.push(line.text());
    });
    await page.goto(pageUrl);
    await page.addScriptTag({ content: "" }).then(
      () => assert.fail("the policy lets an inline script pass"), () => {});
    faults.length = 0;
    await page.selectOption("#window", "60");
    await page.evaluate(`window.figure = ${figure}`);
    for (const name of ["Messages in", "Messages out", "Traffic"]) {
      await page.waitForFunction((name) => /[1-9].*\/s/.test(window.figure(name)), name);
    }
    // One more may still be counted, whose end is told below.
    await page.waitForFunction(() => window.figure("WebSockets") === "10");
    assert.equal(await page.textContent("#state"), "ready");
    await page.waitForFunction(() =>
      document.querySelector("#closed").textContent.includes("<img src=x onerror=alert(1)>"));
    assert.equal(await page.locator("#closed tbody tr").count(), 1);
    assert.equal(await page.locator("#shards tbody tr").count(), 2);
    // So many that the one before the last has rates as well.
    await page.waitForFunction(() =>
      /^M[\d. ]+L[\d. ]+L/.test(document.querySelector("#charts-load path.curve").getAttribute("d")));
    assert.ok(await page.evaluate(() =>
      document.documentElement.scrollWidth <= window.innerWidth), "wider than a phone");
    // The mark goes back from the end by keys.
    const plot = page.locator(".plot").first();
    await plot.focus();
    await page.keyboard.press("ArrowLeft");
    assert.match(await plot.getAttribute("aria-valuetext"), /ago: in .*\/s, out/);
    await page.click("#pause");
    assert.equal(await page.getAttribute("#pause", "aria-pressed"), "true");
    assert.deepEqual([...asked], [new URL(pageUrl).origin]);
    assert.deepEqual(faults, [], "the page has no errors and breaks no policy of its own");
  } finally {
    await browser.close();
    for (const socket of sockets) socket.terminate();
  }
  process.exitCode = 0;
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
