// Asks the server that sent this page for its counters once a second, and draws what has changed.
// Whatever comes from the server is put on the page as text, never as HTML.
"use strict";

const PERIOD_MS = 1000;
const TIMEOUT_MS = 5000;
// What is kept for the charts, and how far apart two points may be that belong together.
const KEPT_SECONDS = 900;
const GAP_SECONDS = 3.5;
// Where a route is missing or off, it is asked again after this long.
const MISSING_SECONDS = 60;

// ---- What the server says ----

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const UNESCAPED = { n: "\n", '"': '"', "\\": "\\" };

// The text format of Prometheus: the samples of each name.
class Metrics {
  constructor(text) {
    this.samples = new Map();
    for (const line of text.split("\n")) {
      const match = line.startsWith("#") ? null : SAMPLE.exec(line);
      if (!match) continue;
      const labels = {};
      for (const [, name, value] of (match[2] || "").matchAll(LABEL)) {
        labels[name] = value.replace(/\\(.)/g, (_, escaped) => UNESCAPED[escaped] ?? escaped);
      }
      if (!this.samples.has(match[1])) this.samples.set(match[1], []);
      const value = match[3] === "+Inf" ? Infinity : Number(match[3]);
      this.samples.get(match[1]).push({ labels, value });
    }
  }

  of(name, where = {}) {
    const wanted = Object.entries(where);
    return (this.samples.get(name) || []).filter(({ labels }) =>
      wanted.every(([label, value]) => labels[label] === value));
  }

  // The sum over all other labels; null where there is nothing to add.
  sum(name, where) {
    const samples = this.of(name, where);
    return samples.length ? samples.reduce((sum, { value }) => sum + value, 0) : null;
  }

  // The counts of a histogram at or below each bound, of all series together.
  buckets(name, where) {
    const counts = new Map();
    for (const { labels, value } of this.of(`${name}_bucket`, where)) {
      const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
      counts.set(bound, (counts.get(bound) || 0) + value);
    }
    return [...counts].sort(([left], [right]) => left - right);
  }
}

// What has happened between two answers.
class Change {
  constructor(before, now, seconds) {
    Object.assign(this, { before, now, seconds });
  }

  count(name, where) {
    const [before, now] = [this.before.sum(name, where), this.now.sum(name, where)];
    return before === null || now === null || now < before ? null : now - before;
  }

  rate(name, where) {
    const count = this.count(name, where);
    return count === null ? null : count / this.seconds;
  }

  // Below which the share of all that was measured meanwhile lies, as Prometheus reckons it.
  quantile(share, name, where) {
    const before = new Map(this.before.buckets(name, where));
    const counts = this.now.buckets(name, where)
      .map(([bound, count]) => [bound, count - (before.get(bound) || 0)]);
    const total = counts.length ? counts[counts.length - 1][1] : 0;
    if (total <= 0) return null;
    let [lower, below] = [0, 0];
    for (const [bound, count] of counts) {
      if (count >= share * total) {
        if (bound === Infinity) return lower;
        return lower + (bound - lower) * (share * total - below) / Math.max(count - below, 1);
      }
      [lower, below] = [bound, count];
    }
    return lower;
  }
}

async function ask(path) {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(path, { cache: "no-store", signal });
  return { status: response.status, text: await response.text() };
}

// ---- How values are written ----

function scaled(value, base, units) {
  let index = 0;
  while (Math.abs(value) >= base * 0.9995 && index < units.length - 1) {
    value /= base;
    index += 1;
  }
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${Number(value.toFixed(digits))}${units[index]}`;
}

const number = (value) => scaled(value, 1000, ["", "k", "M", "G", "T"]);
const bytes = (value) =>
  scaled(value, 1024, ["\u00a0B", "\u00a0KiB", "\u00a0MiB", "\u00a0GiB", "\u00a0TiB"]);
const rate = (value) => `${number(value)}/s`;
const byteRate = (value) => `${bytes(value)}/s`;
const percent = (value) => `${Number((value * 100).toFixed(value < 0.0995 ? 1 : 0))}\u00a0%`;

function duration(seconds) {
  if (seconds === 0) return "0\u00a0s";
  if (seconds < 1) return scaled(seconds * 1e6, 1000, ["\u00a0\u00b5s", "\u00a0ms", "\u00a0s"]);
  if (seconds < 60) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))}\u00a0s`;
  const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  const [large, name, small, smallName] = units.find(([large]) => seconds >= large);
  const rest = Math.floor(seconds % large / small);
  const whole = `${Math.floor(seconds / large)}\u00a0${name}`;
  return rest === 0 ? whole : `${whole}\u00a0${rest}\u00a0${smallName}`;
}

// Nothing is told of what is not known.
const isKnown = (value) => value !== null && value !== undefined;
const written = (format, value) => (isKnown(value) ? format(value) : "\u2013");

// ---- Elements ----

const find = (id) => document.getElementById(id);
const DRAWING = find("drawing").namespaceURI;

function element(tag, options = {}, ...children) {
  const { namespace, ...attributes } = options;
  const made = namespace ? document.createElementNS(namespace, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const drawn = (tag, attributes, ...children) =>
  element(tag, { namespace: DRAWING, ...attributes }, ...children);

// A table of rows of cells; a cell is a text, or { text, bar, kind } with a share of a bar.
function table(columns, rows) {
  const cell = (content, index) => {
    const { text, bar, kind } = typeof content === "object" ? content : { text: content };
    const names = [columns[index].kind, kind, bar === undefined ? "" : "bar"].filter(Boolean);
    const made = element("td", { class: names.join(" ") });
    if (bar === undefined) {
      made.textContent = text;
    } else {
      const share = element("i");
      share.style.width = `calc(${Math.min(1, Math.max(0, bar))} * (100% - .8rem))`;
      made.append(share, element("span", {}, text));
    }
    return made;
  };
  const heads = columns.map(({ name, kind }) =>
    element("th", { scope: "col", class: kind || "" }, name));
  return element("table", {},
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))));
}

const none = (text) => element("p", { class: "none" }, text);

// ---- Charts ----

const history = [];
const charts = [];
let windowSeconds = 300;
// The time that is marked in all charts, if any.
let marked = null;

class Chart {
  constructor(host, { title, format, curves, isLogarithmic = false, empty = "Nothing yet" }) {
    Object.assign(this, { title, format, isLogarithmic });
    this.curves = curves.map(([key, name, tone]) => ({
      key,
      name,
      line: drawn("path", { class: `curve ${tone}` }),
      area: drawn("path", { class: `area ${tone}` }),
      value: element("b", {}, "\u2013"),
      tone,
    }));
    this.grid = drawn("path", { class: "grid" });
    this.mark = drawn("line", { class: "mark", y1: 0, y2: 100, visibility: "hidden" });
    const areas = isLogarithmic ? [] : [this.curves[0].area];
    const lines = [...areas, ...this.curves.map(({ line }) => line).reverse()];
    this.labels = element("div");
    this.when = element("span", { class: "label when" });
    this.empty = element("p", { class: "empty" }, empty);
    this.drawing = drawn("svg",
      { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": true },
      this.grid, ...lines, this.mark);
    this.plot = element("div",
      { class: "plot", tabindex: 0, role: "slider", "aria-label": title, "aria-valuemax": 0 },
      this.drawing, this.labels, this.when, this.empty);
    const legend = this.curves.map(({ name, tone, value }) =>
      element("span", {}, element("i", { class: tone }), `${name} `, value));
    host.append(element("figure", { class: "card" },
      element("figcaption", {}, title, element("div", { class: "legend" }, ...legend)), this.plot));
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => setMark(null));
    this.plot.addEventListener("blur", () => setMark(null));
    this.plot.addEventListener("keydown", (event) => step(event));
    charts.push(this);
  }

  point(event) {
    const { left, width } = this.drawing.getBoundingClientRect();
    const share = (event.clientX - left) / width;
    setMark(end() - windowSeconds * (1 - Math.min(1, Math.max(0, share))));
  }

  draw(points) {
    const [from, to] = [end() - windowSeconds, end()];
    const values = points.flatMap((point) => this.curves.map(({ key }) => point[key]))
      .filter(isKnown);
    const scale = this.isLogarithmic ? logarithmic(values) : linear(values, this.format);
    const x = (point) => ((point.time - from) / windowSeconds * 1000).toFixed(1);
    const place = (point, key) => `${x(point)} ${scale.y(point[key]).toFixed(2)}`;
    for (const { key, line, area } of this.curves) {
      const runs = [];
      let last = -Infinity;
      for (const point of points) {
        if (!isKnown(point[key])) continue;
        if (point.time - last > GAP_SECONDS) runs.push([]);
        runs[runs.length - 1].push(point);
        last = point.time;
      }
      const paths = runs.map((run) => `M${run.map((point) => place(point, key)).join("L")}`);
      line.setAttribute("d", paths.map((path) => `${path}h.01`).join(""));
      area.setAttribute("d", paths.map((path, index) =>
        `${path}L${x(runs[index].at(-1))} 100L${x(runs[index][0])} 100Z`).join(""));
    }
    this.grid.setAttribute("d", scale.ticks.map((tick) => `M0 ${scale.y(tick)}H1000`).join(""));
    this.labels.replaceChildren(...scale.ticks.filter((tick) => tick > 0).map((tick) => {
      const label = element("span", { class: "label" }, this.format(tick));
      label.style.top = `${scale.y(tick)}%`;
      return label;
    }));
    this.empty.hidden = values.length > 0;
    this.labels.hidden = values.length === 0;
    this.tell(points, from, to);
  }

  // Writes the values at the mark, or the last ones.
  tell(points, from, to) {
    const point = marked === null ? points.at(-1) : nearest(points, marked);
    for (const { key, value } of this.curves) {
      value.textContent = written(this.format, point?.[key]);
    }
    const isMarked = marked !== null && point !== undefined;
    this.mark.setAttribute("visibility", isMarked ? "visible" : "hidden");
    const age = point === undefined ? 0 : Math.max(0, to - point.time);
    if (isMarked) {
      const x = (point.time - from) / windowSeconds * 1000;
      this.mark.setAttribute("x1", x);
      this.mark.setAttribute("x2", x);
    }
    this.when.textContent = isMarked ? `${duration(Math.round(age))} ago` : "";
    const said = this.curves.map(({ name, value }) => `${name} ${value.textContent}`).join(", ");
    this.plot.setAttribute("aria-valuemin", -windowSeconds);
    this.plot.setAttribute("aria-valuenow", -Math.round(age));
    this.plot.setAttribute("aria-valuetext", `${duration(Math.round(age))} ago: ${said}`);
  }
}

function linear(values, format) {
  const most = Math.max(...values, 0);
  const isBytes = format === bytes || format === byteRate;
  const unit = isBytes ? 1024 ** Math.floor(Math.log(Math.max(most, 1)) / Math.log(1024)) : 1;
  const least = format === percent ? 0.1 : 1;
  const power = 10 ** Math.floor(Math.log10(Math.max(most / unit, least)));
  const top = [1, 2, 4, 6, 8, 10].map((step) => step * power * unit)
    .find((step) => step >= most * 1.02) ?? 20 * power * unit;
  return { ticks: [0, top / 2, top], y: (value) => 100 - value / top * 100 };
}

function logarithmic(values) {
  const seen = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...seen, 1)) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...seen, 1e-9)) - 1e-9));
  const decades = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index));
  const ticks = decades.filter((_, index) => high - low <= 4 || index % 2 === 0);
  const y = (value) => 100 - (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low) * 100;
  return { ticks, y };
}

const end = () => (history.length ? history.at(-1).time : 0);
const nearest = (points, time) => points.reduce((best, point) =>
  (best && Math.abs(best.time - time) <= Math.abs(point.time - time) ? best : point), undefined);

function visible() {
  return history.filter(({ time }) => time >= end() - windowSeconds);
}

function setMark(time) {
  marked = time;
  const [points, to] = [visible(), end()];
  for (const chart of charts) chart.tell(points, to - windowSeconds, to);
}

function step(event) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
  if (event.key === "Escape") {
    setMark(null);
  } else if (event.key in steps) {
    event.preventDefault();
    const time = (marked ?? end()) + steps[event.key] * windowSeconds / 60;
    setMark(Math.min(end(), Math.max(end() - windowSeconds, time)));
  }
}

const quantiles = (key) => [
  [`${key}_50`, "half", "blue"], [`${key}_99`, "99\u00a0%", "amber"]];

function makeCharts() {
  const [load, latency, resources] =
    ["load", "latency", "resources"].map((name) => find(`charts-${name}`));
  new Chart(load, { title: "Messages", format: rate,
    curves: [["received", "in", "blue"], ["sent", "out", "amber"]] });
  new Chart(load, { title: "Traffic", format: byteRate,
    curves: [["received_bytes", "in", "blue"], ["sent_bytes", "out", "amber"]] });
  new Chart(load, { title: "Connections", format: number,
    curves: [["websockets", "WebSockets", "blue"], ["streams", "streams", "green"],
      ["others", "others", "violet"]] });
  new Chart(load, { title: "Coming and going", format: rate,
    curves: [["upgrades", "upgraded", "blue"], ["closes", "closed", "amber"],
      ["refused", "refused", "violet"]] });
  new Chart(latency, { title: "Tick of a shard", format: duration, isLogarithmic: true,
    curves: quantiles("tick") });
  new Chart(latency, { title: "Delivery to a topic", format: duration, isLogarithmic: true,
    curves: quantiles("delivery"), empty: "Nothing was published" });
  new Chart(latency, { title: "Round trip of a ping", format: duration, isLogarithmic: true,
    curves: quantiles("ping"), empty: "No ping was answered" });
  new Chart(resources, { title: "Processor, in cores", format: number,
    curves: [["processor", "process", "blue"], ["processor_shards", "shards", "green"]] });
  new Chart(resources, { title: "Memory", format: bytes,
    curves: [["resident", "resident", "blue"], ["backlog", "backlog of peers", "amber"]] });
}

// ---- From answers to what is shown ----

const RINGWIRE = (name) => `ringwire_${name}`;
const HISTOGRAMS = { tick: "tick_duration_seconds", delivery: "delivery_duration_seconds",
  ping: "ping_round_trip_seconds" };

function point(time, metrics, change) {
  const sum = (name) => metrics.sum(RINGWIRE(name));
  const [websockets, streams] = [sum("websockets"), sum("streams")];
  const made = { time, websockets, streams, backlog: sum("backlog_bytes"),
    others: Math.max(0, sum("connections") - websockets - streams),
    resident: metrics.sum("process_resident_memory_bytes") };
  if (!change) return made;
  const per = (name) => change.rate(RINGWIRE(name));
  Object.assign(made, {
    received: per("messages_received_total"), sent: per("messages_sent_total"),
    received_bytes: per("received_bytes_total"), sent_bytes: per("sent_bytes_total"),
    upgrades: per("upgrades_total"), closes: per("closes_total"),
    refused: per("requests_refused_total"), processor: change.rate("process_cpu_seconds_total"),
    processor_shards: per("shard_cpu_seconds_total"),
  });
  for (const [key, name] of Object.entries(HISTOGRAMS)) {
    made[`${key}_50`] = change.quantile(0.5, RINGWIRE(name));
    made[`${key}_99`] = change.quantile(0.99, RINGWIRE(name));
  }
  return made;
}

function showFigures(metrics, now) {
  const sum = (name) => metrics.sum(RINGWIRE(name));
  const limit = sum("websockets_limit");
  const memoryLimit = sum("memory_limit_bytes");
  const figures = [
    ["WebSockets", number, now.websockets, limit ? `of ${number(limit)}` : ""],
    ["Messages in", rate, now.received, ""],
    ["Messages out", rate, now.sent, ""],
    ["Traffic", byteRate,
      isKnown(now.received_bytes) ? now.received_bytes + now.sent_bytes : null, "in and out"],
    ["Delivery, 99\u00a0%", duration, now.delivery_99,
      now.tick_99 ? `tick ${duration(now.tick_99)}` : ""],
    ["Processor", (value) => `${value.toFixed(2)}`, now.processor,
      `cores of ${metrics.of(RINGWIRE("ticks_total")).length} shards`],
    ["Memory", bytes, now.resident, memoryLimit ? `limit ${bytes(memoryLimit)}` : "resident"],
  ];
  find("figures").replaceChildren(...figures.map(([name, format, value, note]) =>
    element("div", {}, element("dt", {}, name),
      element("dd", { class: "value" }, written(format, value)),
      element("dd", { class: "note" }, note))));
}

function showShards(metrics, change) {
  const names = metrics.of(RINGWIRE("ticks_total")).map(({ labels }) => labels.shard);
  const rows = names.map((shard) => {
    const now = (name) => metrics.sum(RINGWIRE(name), { shard });
    const per = (name) => (change ? change.rate(RINGWIRE(name), { shard }) : null);
    const bytesPerSecond = per("received_bytes_total");
    return { shard, connections: now("connections"), processor: per("shard_cpu_seconds_total"),
      traffic: bytesPerSecond === null ? null : bytesPerSecond + per("sent_bytes_total"),
      tick: change ? change.quantile(0.99, RINGWIRE(HISTOGRAMS.tick), { shard }) : null,
      backlog: now("backlog_bytes"), delay: now("standing_delay_seconds") };
  });
  const most = (key) => Math.max(...rows.map((row) => row[key] ?? 0), 1e-9);
  const bar = (row, key, format, whole = most(key)) =>
    ({ text: written(format, row[key]), bar: (row[key] ?? 0) / whole });
  find("shards").replaceChildren(table(
    [{ name: "Shard" }, { name: "Open" }, { name: "Traffic" }, { name: "Processor" },
      { name: "Tick, 99\u00a0%", kind: "wide" }, { name: "Backlog", kind: "wide" },
      { name: "Standing delay", kind: "wide" }],
    rows.map((row) => [row.shard, bar(row, "connections", number), bar(row, "traffic", byteRate),
      bar(row, "processor", percent, 1), written(duration, row.tick), written(bytes, row.backlog),
      { text: written(duration, row.delay), kind: row.delay > 0.005 ? "bad" : "" }])));
}

const CODES = { 1000: "normal closure", 1001: "going away", 1002: "protocol error",
  1003: "unsupported data", 1005: "no code", 1006: "without a close", 1007: "invalid data",
  1008: "policy violation", 1009: "message too big", 1010: "extension missing",
  1011: "internal error", 1012: "service restart", 1013: "try again later" };
const INITIATORS = { local: "server", remote: "peer" };

// Counters by label, the most first: bars of what has happened within the window.
function showCounts(id, metrics, name, toName, empty) {
  const first = oldest();
  const rows = metrics.of(RINGWIRE(name)).filter(({ value }) => value > 0)
    .map(({ labels, value }) => {
      const within = first ? value - (first.sum(RINGWIRE(name), labels) ?? 0) : 0;
      return { name: toName(labels), value, within: Math.max(0, within) };
    }).sort((left, right) => right.within - left.within || right.value - left.value);
  const most = Math.max(...rows.map(({ within }) => within), 1);
  find(id).replaceChildren(rows.length === 0 ? none(empty) : table(
    [{ name: "", kind: "text" }, { name: "In the window" },
      { name: "Since start", kind: "number" }],
    rows.slice(0, 12).map((row) =>
      [row.name, { text: number(row.within), bar: row.within / most }, number(row.value)])));
}

function closeName({ initiator, code }) {
  const meaning = CODES[code] ? `${code} ${CODES[code]}` : code;
  return `${meaning}, by ${INITIATORS[initiator] ?? initiator}`;
}

function showClosed(closed) {
  const columns = [{ name: "When", kind: "tight" }, { name: "Code" }, { name: "By" },
    { name: "Reason", kind: "text" }, { name: "Age", kind: "tight" },
    { name: "Where", kind: "wide text" }, { name: "Backlog", kind: "number wide" }];
  const now = Date.now() / 1000;
  find("closed").replaceChildren(closed.length === 0 ? none("No WebSocket has ended yet.") : table(
    columns, closed.slice(0, 50).map((end) => [
      `${duration(Math.max(0, Math.round(now - end.time_s)))} ago`,
      `${end.code}`, INITIATORS[end.initiator] ?? end.initiator, end.reason || "\u2013",
      duration(end.age_s), end.topic === undefined ? end.service : `${end.service} ${end.topic}`,
      bytes(end.backlog_bytes)])));
}

function showTop({ entries, window_seconds: seconds }) {
  const columns = [{ name: "Connection", kind: "text" }, { name: "Bytes" },
    { name: "Messages", kind: "number" }, { name: "Topic", kind: "text" },
    { name: "Address", kind: "wide" }, { name: "Backlog", kind: "number wide" }];
  const most = Math.max(...entries.map((entry) => entry.bytes ?? 0), 1);
  const text = (value) => written(String, value);
  find("top").replaceChildren(entries.length === 0 ? none("Nobody sends or gets anything.") : table(
    columns, entries.map((entry) => [text(entry.connection),
      { text: written(bytes, entry.bytes), bar: (entry.bytes ?? 0) / most },
      written(number, entry.messages), text(entry.topic), text(entry.address),
      written(bytes, entry.backlog_bytes)])));
  if (seconds) find("top").append(none(`In the last ${duration(seconds)}.`));
}

function showCapacity({ resources }) {
  const format = (name) => (/memory|traffic|bytes/.test(name) ? bytes : number);
  find("capacity").replaceChildren(table(
    [{ name: "Resource" }, { name: "Used" }, { name: "Of", kind: "number" }, { name: "Lasts" }],
    resources.map(({ name, used, limit, used_up_in_seconds: left }) => [name,
      { text: written(format(name), used), bar: limit ? used / limit : 0 },
      written(format(name), limit),
      isKnown(left) ? `${duration(Math.round(left))} at this growth` : "does not grow"])));
}

// ---- Asking ----

const said = { isReady: null, words: "", fault: null };
let answers = [];
let isPaused = false;
// Counts the rounds that were begun, so that one that was overtaken stops.
let round = 0;

const oldest = () => answers.find(({ time }) => time >= end() - windowSeconds)?.metrics;

function showState() {
  const state = said.fault !== null ? "unreachable" : said.isReady === null ? "asking"
    : said.isReady ? "ready" : "unready";
  const text = { unreachable: "unreachable", asking: "asking", ready: "ready",
    unready: "not ready" }[state];
  if (find("state").textContent !== text) find("state").textContent = text;
  find("state").dataset.state = state;
  const banner = find("banner");
  const words = state === "unready" ? `Not ready: ${said.words}`
    : state === "unreachable" ? `The server does not answer: ${said.fault}` : "";
  if (banner.textContent !== words) banner.textContent = words;
  banner.dataset.state = state;
  banner.hidden = words === "";
  document.title = words === "" ? "Ringwire" : `${text} \u2013 Ringwire`;
}

async function askMetrics() {
  const { status, text } = await ask("metrics");
  if (status !== 200) throw new Error(`status ${status}`);
  const [time, metrics] = [performance.now() / 1000, new Metrics(text)];
  const last = answers.at(-1);
  const start = (answer) => answer.metrics.sum("process_start_time_seconds");
  const isSame = last !== undefined && start(last) === start({ metrics });
  // Counters of another process begin anew.
  if (!isSame) answers = [];
  const change = isSame ? new Change(last.metrics, metrics, time - last.time) : null;
  answers.push({ time, metrics });
  // The counts of the window need one answer in ten seconds, the next change the last one.
  answers = answers.filter((answer, index) => answer.time > time - KEPT_SECONDS &&
    (index === 0 || index === answers.length - 1 ||
      Math.floor(answer.time / 10) !== Math.floor(answers[index - 1].time / 10)));
  history.push(point(time, metrics, change));
  while (history[0].time < time - KEPT_SECONDS) history.shift();
  show(metrics, change);
}

function show(metrics, change) {
  showFigures(metrics, history.at(-1));
  showShards(metrics, change);
  showCounts("closes", metrics, "closes_total", closeName, "No WebSocket has ended yet.");
  showCounts("refusals", metrics, "requests_refused_total",
    ({ reason }) => reason.replaceAll("_", " "), "No request was refused.");
  const points = visible();
  for (const chart of charts) chart.draw(points);
  const version = metrics.of(RINGWIRE("build_info"))[0]?.labels.version;
  const start = metrics.sum("process_start_time_seconds");
  find("about").textContent = [version, location.host,
    start === null ? "" : `up ${duration(Math.max(1, Math.floor(Date.now() / 1000 - start)))}`]
    .filter(Boolean).join(" \u00b7 ");
}

async function askReadiness() {
  const { status, text } = await ask("readyz");
  Object.assign(said, { isReady: status === 200, words: text.trim() });
}

// One route that only some servers have, or only when it is on.
function optional(path, id, show) {
  let notBefore = 0;
  return async () => {
    if (performance.now() < notBefore) return;
    const { status, text } = await ask(path);
    if (status === 200) return show(JSON.parse(text));
    notBefore = performance.now() + MISSING_SECONDS * 1000;
    find(id).replaceChildren(
      none(status === 404 ? "This server does not tell." : errorOf(text) || `Status ${status}.`));
  };
}

function errorOf(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return text.trim();
  }
}

// What is asked beside the counters, one each second.
const OTHERS = [
  askReadiness,
  optional("closed?limit=50", "closed", ({ closed }) => showClosed(closed)),
  optional("top?by=bytes&limit=10", "top", showTop),
  optional("capacity", "capacity", showCapacity),
];

async function poll() {
  const own = ++round;
  for (let turn = 0; own === round && !isPaused && !document.hidden; turn += 1) {
    const begun = performance.now();
    try {
      await askMetrics();
      await OTHERS[turn % OTHERS.length]();
      said.fault = null;
    } catch (error) {
      said.fault = error.name === "TimeoutError" ? "no answer in time" : error.message;
    }
    if (own !== round) return;
    showState();
    const left = PERIOD_MS - (performance.now() - begun);
    await new Promise((resolve) => setTimeout(resolve, Math.max(left, PERIOD_MS / 4)));
  }
}

makeCharts();
for (const id of ["closed", "top", "capacity", "shards", "closes", "refusals"]) {
  find(id).replaceChildren(none("\u2026"));
}
find("window").addEventListener("change", ({ target }) => {
  windowSeconds = Number(target.value);
  const points = visible();
  for (const chart of charts) chart.draw(points);
});
find("pause").addEventListener("click", ({ target }) => {
  isPaused = !isPaused;
  target.setAttribute("aria-pressed", isPaused);
  target.textContent = isPaused ? "Go on" : "Pause";
  poll();
});
document.addEventListener("visibilitychange", poll);
poll();
