// The live page: one WebSocket, a tile per stream, one stream large. See page.py for the messages.

import { Counts } from "./chart.js";
import { instanceAt } from "./masks.js";

const STALE = 5;  // seconds without a result
const tiles = new Map();
const grid = document.querySelector("#tiles");
const dialog = document.querySelector("#large");
const seen = new IntersectionObserver(() => watch());
let socket = null;
let large = null;
let pause = 0;
let hasOutputs = false;  // else each stream of another process says what is wrong with those of its own
let ahead = 0;  // of our clock, in seconds

function connect() {
  const address = new URL("live", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    pause = 0;
    document.querySelector("#lost").hidden = true;
    for (const tile of tiles.values()) tile.counts = new Counts();  // all of it is sent again
    watch();
  };
  socket.onmessage = ({ data }) => typeof data === "string" ? takeStatus(JSON.parse(data)) : takePicture(data);
  socket.onclose = () => {
    document.querySelector("#lost").hidden = false;
    for (const root of [dialog, ...[...tiles.values()].map((tile) => tile.root)]) {
      root.dataset.lost = true;
      root.querySelector(".age").textContent = "connection lost";
    }
    pause = Math.min(2 * pause || 500, 5000);
    setTimeout(connect, pause);
  };
}

function say(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

// Only what can be seen is asked for: hidden tabs and tiles out of sight cost nothing.
function watch() {
  const visible = document.hidden ? [] : [...tiles.values()].filter((tile) => !dialog.open && tile.inSight());
  say({ type: "watch", tiles: visible.map((tile) => tile.id), large: document.hidden ? null : large?.id ?? null });
}

function takeStatus({ time: now, streams, outputs }) {
  ahead = Date.now() / 1000 - now;
  for (const stream of streams) {
    if (!tiles.has(stream.id)) tiles.set(stream.id, new Tile(stream.id));
    tiles.get(stream.id).update(stream, now);
  }
  for (const [id, tile] of tiles) {
    if (!streams.some((stream) => stream.id === id)) {
      tile.remove();
      tiles.delete(id);
    }
  }
  document.querySelector("#empty").hidden = tiles.size > 0;
  const live = streams.filter((stream) => stream.state === "live");
  const fps = streams.reduce((sum, stream) => sum + stream.fps, 0);
  document.querySelector("#totals").textContent =
    `${live.length} of ${streams.length} live · ${fps.toFixed(1)} frames/s`;
  takeOutputs(outputs);
}

// Outputs that hand on nothing, and those that have lost results.
function takeOutputs(outputs) {
  hasOutputs = outputs.length > 0;
  document.querySelector("#outputs").replaceChildren(...outputs.flatMap(({ name, trouble, dropped }) => {
    if (!trouble && !dropped) return [];
    const entry = document.createElement("li");
    entry.dataset.output = name;
    entry.dataset.up = !trouble;
    entry.textContent = [`${name} ${trouble ? `is down: ${trouble}` : "is up"}`, dropped && `${dropped} results dropped`]
      .filter(Boolean).join(" · ");
    return [entry];
  }));
}

async function takePicture(data) {
  const length = new DataView(data).getUint32(0, true);
  const { stream, result } = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const picture = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
  tiles.get(stream)?.show(picture, result);
  picture.close();
  say({ type: "drawn", stream });
}

function facts(status) {
  const { width, height, fps, latency_ms: latency, dropped, missed, reconnects, damaged } = status;
  const packets = status.lost_packets;
  return [
    width && `${width}×${height}`,
    `${fps.toFixed(1)} frames/s`,
    latency !== null && `${Math.round(latency)} ms`,
    `${dropped ?? 0} dropped`,
    missed > 0 && `${missed} missed`,
    reconnects > 0 && `${reconnects} reconnects`,
    damaged > 0 && `${damaged} damaged`,
    packets > 0 && `${packets} packets lost`,
  ].filter(Boolean).join(" · ");
}

function since(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

// A picture that is not of now must not look as if it were.
function age(stream) {
  if (stream.state === "ended" || stream.age === null) return "";
  return stream.state === "live" && stream.age < STALE ? "" : `last picture ${since(stream.age)} ago`;
}

function fill(root, stream, counts, now) {
  const old = age(stream);
  root.dataset.lost = old !== "";
  root.querySelector(".age").textContent = old;
  root.querySelector(".name").textContent = stream.id;
  root.querySelector(".name").title = stream.source ?? stream.id;
  root.querySelector(".state").textContent = stream.state;
  root.querySelector(".state").dataset.state = stream.state;
  root.querySelector(".facts").textContent = facts(stream);
  // What went wrong last stays known after all is well again; it is shown only while it matters.
  const wrong = ["live", "ended"].includes(stream.state) ? "" : stream.error ?? "";
  root.querySelector(".error").textContent = [wrong, !hasOutputs && stream.outputs].filter(Boolean).join(" · ");
  root.querySelector(".counts").replaceChildren(...counts.legend(now).map(([label, colour, count]) => {
    const entry = document.createElement("span");
    const dot = document.createElement("i");
    dot.style.background = colour;
    entry.append(dot, `${count ?? "–"} ${label}`);
    return entry;
  }));
  counts.draw(root.querySelector(".chart"), now);
}

function draw(canvas, picture) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
  canvas.getContext("2d").drawImage(picture, 0, 0);
}

class Tile {
  constructor(id) {
    this.id = id;
    this.counts = new Counts();
    this.root = document.querySelector("#tile").content.firstElementChild.cloneNode(true);
    this.root.dataset.stream = id;
    this.root.querySelector(".open").setAttribute("aria-label", `show ${id} large`);
    this.root.querySelector(".open").onclick = () => enlarge(this);
    grid.append(this.root);
    seen.observe(this.root);
    watch();
  }

  update(stream, now) {
    this.status = stream;
    this.counts.add(stream.history);
    fill(this.root, stream, this.counts, now);
    if (large === this) fill(dialog, stream, this.counts, now);
  }

  show(picture, result) {
    draw(this.root.querySelector(".picture"), picture);
    this.root.dataset.pictures = Number(this.root.dataset.pictures ?? 0) + 1;
    if (large !== this) return;
    draw(dialog.querySelector(".picture"), picture);
    if (result) this.result = result;
    point();
  }

  inSight() {
    const { top, bottom } = this.root.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  }

  remove() {
    if (large === this) dialog.close();
    seen.unobserve(this.root);
    this.root.remove();
  }
}

function enlarge(tile) {
  large = tile;
  tile.result = null;
  const [small, canvas] = [tile.root, dialog].map((root) => root.querySelector(".picture"));
  draw(canvas, small);  // until the first larger one comes
  dialog.showModal();
  fill(dialog, tile.status, tile.counts, Date.now() / 1000 - ahead);
  watch();
}

// The instance under the pointer (or the finger): its class, score and id.
const tip = dialog.querySelector(".tip");
let pointer = null;

function point(event) {
  if (event) pointer = { x: event.clientX, y: event.clientY };
  const result = large?.result;
  tip.hidden = true;
  if (!pointer || !result) return;
  const frame = dialog.querySelector(".picture").getBoundingClientRect();
  // The picture keeps its ratio inside the canvas' box, with bars at two sides.
  const scale = Math.min(frame.width / result.width, frame.height / result.height);
  const x = (pointer.x - frame.left - (frame.width - result.width * scale) / 2) / scale;
  const y = (pointer.y - frame.top - (frame.height - result.height * scale) / 2) / scale;
  const found = instanceAt(result, x, y);
  if (!found) return;
  tip.textContent = `${found.label} ${found.score.toFixed(2)}${found.id === null ? "" : ` #${found.id}`}`;
  tip.style.left = `${pointer.x - frame.left}px`;
  tip.style.top = `${pointer.y - frame.top}px`;
  tip.hidden = false;
}

const stage = dialog.querySelector(".stage");
stage.onpointermove = stage.onpointerdown = point;
stage.onpointerleave = () => {
  pointer = null;
  point();
};
dialog.querySelector(".close").onclick = () => dialog.close();
dialog.onclick = (event) => event.target === dialog && dialog.close();
dialog.onclose = () => {
  large = null;
  watch();
};
document.onvisibilitychange = () => watch();
connect();
