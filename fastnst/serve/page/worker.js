// The thread that paints. It is asked { id, kind, ... } and answers { id, result } or { id, failure }, and tells
// { id, progress } in between; { cancel: id } stops what was asked.

import { encodeJpeg } from "./jpeg.js";
import { canceled, Failure } from "./failure.js";
import { mixed } from "./mix.js";
import { ModelError } from "./onnx.js";
import { Network } from "./network.js";
import { decode, decodeSmall, pixelsOf } from "./picture.js";
import { encodePng } from "./png.js";
import { shrink } from "./resize.js";
import { Runtime } from "./runtime.js";
import { atScale, finish, paintedScale, paintedSize } from "./stylize.js";

const PAUSE = 30; // milliseconds of work between two looks at what else is asked
const QUALITY = 92; // of JPEG, as on the command line
const FINISH = 0.08; // of the work, for colors and strength

let runtime = null;
let opened; // once there is a runtime
const opening = new Promise((resolve) => (opened = resolve));
let memory = 0; // bytes that one painting may take in WASM
const networks = new Map(); // name -> Network
const between = new Map(); // names and share -> Network, the last few
const stopped = new Set();

// The last picture at full size, what a network made of it, and what came of that.
let source = { key: "" };
const small = new Map(); // its smaller forms by their keys
let stylized = { key: "" };
let result = null;
let lastLarge = Promise.resolve();

const kinds = { open, style, paint, frame, encode };

self.addEventListener("message", async ({ data: { id, kind, cancel, ...asked } }) => {
  if (cancel !== undefined) {
    stopped.add(cancel);
    return;
  }
  try {
    const { transfer = [], ...answer } = await kinds[kind](asked, stepper(id));
    self.postMessage({ id, result: answer }, transfer);
  } catch (error) {
    self.postMessage({ id, failure: Failure.packed(error) });
  } finally {
    stopped.delete(id);
  }
});

/** What work calls with its share that is done: it tells, lets messages in, and throws once the work was stopped. */
function stepper(id) {
  let paused = performance.now();
  return async (share) => {
    const now = performance.now();
    if (now - paused > PAUSE) {
      self.postMessage({ id, progress: share });
      await new Promise((resume) => setTimeout(resume, 0));
      paused = performance.now();
    }
    if (stopped.has(id)) throw canceled();
  };
}

/** Load the runtime; WebGPU has to paint the reference as ONNX Runtime did. */
async function open({ folder, engine, threads, memory: bytes, reference }) {
  runtime = await Runtime.open(folder, engine, threads);
  memory = bytes;
  if (reference) await check(reference);
  opened();
  return { engine, threads };
}

async function check({ file, width, height, input, output }) {
  const rgb = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const [given, wanted] = [rgb(input), rgb(output)];
  const value = (_, i) => (i % 4 < 3 ? given[3 * (i >> 2) + (i % 4)] : 255);
  const data = new Uint8ClampedArray(4 * width * height).map(value);
  const painted = await new Network(runtime, file).paint({ width, height, data });
  const away = wanted.map((value, i) => Math.abs(value - painted.data[4 * Math.floor(i / 3) + (i % 3)]));
  const mean = away.reduce((a, b) => a + b, 0) / away.length;
  if (!(mean <= 1 && Math.max(...away) <= 3)) throw new Failure("disagrees", "WebGPU paints other colors here");
}

/** Learn a style, by its file. */
async function style({ name, file }) {
  await opening;
  const network = new Network(runtime, file);
  await network.paint({ width: 16, height: 16, data: new Uint8ClampedArray(1024).fill(127) });
  networks.set(name, network);
  return { ...network.about, inParts: network.inParts };
}

/** The network of a style, or between it and another one. */
function networkOf(name, other, share) {
  if (!other || !share) return networks.get(name);
  const key = [name, other, share].join();
  if (!between.has(key)) {
    try {
      between.set(key, new Network(runtime, mixed(networks.get(name).model, networks.get(other).model, share)));
    } catch (error) {
      throw error instanceof ModelError ? new Failure("model", error.message) : error;
    }
    if (between.size > 4) {
      const [oldest, network] = between.entries().next().value;
      between.delete(oldest);
      network.release({ all: true });
    }
  }
  return between.get(key);
}

/** Paint a file: `size` is a fast small painting, else `longest` bounds its longer side, null at full size. */
function paint(asked, step) {
  return asked.size ? paintSmall(asked, step) : inTurn(() => paintLarge(asked, step));
}

async function paintSmall({ picture, file, size, name, other, share, options }, step) {
  const network = networkOf(name, other, share);
  const content = await smaller(picture, file, size);
  const painted = await atScale(content, options, (given, tell) => painting(network, given, tell), step);
  return shown(await finish(content, painted, options, step), null);
}

async function paintLarge({ picture, file, longest, name, other, share, options }, step) {
  const network = networkOf(name, other, share);
  const content = await full(picture, file, longest, step);
  refuseTooLarge(network, paintedSize(content, options));
  const key = [picture, longest, name, other, share, paintedScale(options)].join();
  const most = 1 - FINISH;
  if (stylized.key !== key) {
    for (const each of [...networks.values(), ...between.values()]) if (each !== network) await each.release();
    const paintIt = (given, tell) => painting(network, given, tell);
    stylized = { key, picture: await atScale(content, options, paintIt, (part) => step(part * most)) };
  }
  const finished = await finish(content, stylized.picture, options, (part) => step(most + part * FINISH));
  result = { ...finished, alpha: content.alpha };
  return shown(finished, content.alpha);
}

/** Large paintings one after another: one that was stopped may still hold what the next would let go of. */
function inTurn(work) {
  const turn = lastLarge.then(work);
  lastLarge = turn.catch(() => {});
  return turn;
}

/** A small picture is decoded once: of a photo that takes longer than painting it. */
async function smaller(picture, file, { width, height }) {
  const key = [picture, width, height].join();
  if (!small.has(key)) {
    if (small.size > 3) small.clear();
    small.set(key, await decodeSmall(file, width, height));
  }
  return small.get(key);
}

async function full(picture, file, longest, step) {
  const key = `${picture},${longest}`;
  if (source.key !== key) {
    source = stylized = { key: "" };
    result = null;
    const decoded = await decode(file);
    const content = longest ? await shrink(decoded, longest, step) : decoded;
    const alpha = longest && decoded.alpha ? await shrunkAlpha(decoded, content, longest) : decoded.alpha;
    source = { key, content: { ...content, alpha } };
  }
  return source.content;
}

/** The alpha scaled like the picture, as one whose red it is. */
async function shrunkAlpha({ width, height, alpha }, content, longest) {
  if (content.width === width) return alpha;
  const data = new Uint8ClampedArray(4 * alpha.length);
  alpha.forEach((value, i) => (data[4 * i] = value));
  const scaled = await shrink({ width, height, data }, longest);
  return Uint8Array.from({ length: content.width * content.height }, (_, i) => scaled.data[4 * i]);
}

function refuseTooLarge(network, { width, height }) {
  const limit = Math.floor(memory / network.bytesPerPixel);
  if (width * height > limit) {
    throw new Failure("large", "too large for this browser", { limit, pixels: width * height });
  }
}

async function painting(network, given, step) {
  try {
    return await network.paint(given, step);
  } catch (error) {
    if (error instanceof Failure) throw error;
    // Out of memory is said in many ways; smaller is what helps in each.
    const pixels = given.width * given.height;
    throw new Failure("large", `the browser could not paint it: ${error.message}`, { pixels, crashed: true });
  }
}

/** A frame of a camera, painted as it is. */
async function frame({ bitmap, name }) {
  const content = pixelsOf(bitmap);
  bitmap.close();
  return shown(await networks.get(name).paint(content), null);
}

/** Pixels for a canvas, as a copy that may leave this thread. */
function shown({ width, height, data }, alpha) {
  const copy = data.slice();
  if (alpha) alpha.forEach((value, i) => (copy[4 * i + 3] = value));
  return { width, height, data: copy, transfer: [copy.buffer] };
}

/** The last painting at full size, or a file, as a file of another format. */
async function encode({ format, file }, step) {
  const picture = file ? await decode(file) : result;
  if (!picture) throw new Failure("picture", "There is no painting yet.");
  const blob = format === "jpeg" ? await jpeg(picture, step) : await encodePng(picture, picture.alpha, step);
  return { blob };
}

function jpeg(picture, step) {
  const { alpha, data } = picture;
  if (!alpha) return encodeJpeg(picture, QUALITY, step);
  const onWhite = data.map((value, i) => 255 + ((value - 255) * alpha[i >> 2]) / 255);
  return encodeJpeg({ ...picture, data: onWhite }, QUALITY, step);
}
