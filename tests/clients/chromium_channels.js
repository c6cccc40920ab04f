// Headless Chromium on the page at `/`, with a channel that keeps what is published to it.
// Argument: the URL of a server that lets everybody do everything, and keeps 10 publications.
"use strict";
const assert = require("node:assert/strict");
const { chromium } = require("playwright-core");
const { launch } = require("./browser.js");

const [base] = process.argv.slice(2);

async function connect(page) {
  await page.click("#connect");
  await logged(page, "info", /subscribed|resumed/);
}

async function disconnect(page) {
  await page.click("#disconnect");
  await page.waitForFunction(() =>
    document.querySelector("#status").textContent === "disconnected");
  await page.click("#clear");
}

async function send(page, text) {
  await page.fill("#message", text);
  await page.click("#send");
}

// Waits for an event whose text is like this.
async function logged(page, kind, pattern) {
  await page.waitForFunction(([kind, source]) =>
    [...document.querySelectorAll(`#log li.${kind}`)]
      .some((entry) => new RegExp(source).test(entry.textContent)), [kind, pattern.source]);
}

async function cameIn(page, patterns) {
  await page.waitForFunction(
    (count) => document.querySelectorAll("#log li.in").length >= count, patterns.length);
  const shown = await page.$$eval("#log li.in", (entries) =>
    entries.map((entry) => entry.textContent));
  assert.equal(shown.length, patterns.length, `${shown}`);
  patterns.forEach((pattern, index) => assert.match(shown[index], pattern));
}

// Node ends with 0 when nothing is left to wait for, as after a promise that nobody keeps.
process.exitCode = 1;
(async () => {
  const browser = await launch(chromium);
  try {
    const faults = [];
    const [ann, bob] = [await browser.newPage(), await browser.newPage()];
    for (const page of [ann, bob]) {
      page.setDefaultTimeout(30000);
      page.on("pageerror", (error) => faults.push(error.message));
      await page.goto(base.replace("ws", "http") + "/");
      await page.selectOption("#route", "channel");
      await page.fill("#topic", "news");
    }
    await connect(ann);
    await send(ann, "one");
    await send(ann, '{"two":2}');
    await cameIn(ann, [/one.* #1/, /\{"two":2\}.* #2/]);

    await connect(bob);
    await cameIn(bob, [/one.*history #1/, /two.*history #2/]);
    await disconnect(bob);
    await send(ann, "three");
    await send(ann, "four");
    await cameIn(ann, [/one/, /two/, /three/, /four/]);
    await connect(bob);
    await logged(bob, "info", /resumed: 2 missed/);
    await cameIn(bob, [/three.*missed #3/, /four.*missed #4/]);

    await disconnect(bob);
    for (let number = 5; number < 17; number += 1) await send(ann, `${number}`);
    await logged(ann, "in", /16.* #16/);
    await connect(bob);
    await logged(bob, "info", /not resumed/);
    await cameIn(bob, Array.from({ length: 10 }, (_, index) => RegExp(`history #${7 + index}`)));
    assert.deepEqual(faults, []);
  } finally {
    await browser.close();
  }
  process.exitCode = 0;
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
