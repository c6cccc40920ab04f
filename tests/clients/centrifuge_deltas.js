// Deltas of ours against the decoder of npm `centrifuge`. Argument: a file with a case in each line,
// of four words: `text` or `bytes`, and source, target and delta in base 64.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const Module = require("node:module");

// The package keeps the decoder to itself, so its own file is run with one more line.
const file = require.resolve("centrifuge");
const library = new Module(file);
library.paths = Module._nodeModulePaths(file);
library._compile(`${fs.readFileSync(file, "utf8")}\nexports.applyDelta = applyDelta;`, file);
const { applyDelta } = library.exports;

let cases = 0;
for (const line of fs.readFileSync(process.argv[2], "utf8").trimEnd().split("\n")) {
  const [kind, ...fields] = line.split(" ");
  const [source, target, delta] = fields.map((field) => Buffer.from(field, "base64"));
  let arrived = new Uint8Array(delta);
  if (kind === "text") {
    // The way of a delta in JSON: as a string, whose characters must be whole.
    const text = new TextDecoder("utf-8", { fatal: true }).decode(delta);
    arrived = new TextEncoder().encode(JSON.parse(JSON.stringify(text)));
  }
  const made = Buffer.from(applyDelta(new Uint8Array(source), arrived));
  assert.ok(made.equals(target), `case ${cases}: ${line}`);
  cases += 1;
}
console.log(`${cases} deltas`);
