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
let memory = 0; // bytes that one painting may take in WASM
const networks = new Map(); // name -> Promise of a Network
const stopped = new Set();

// The last picture at full size, what a network made of it, and what came of that.
let source = { key: "" };
const small = new Map(); // its smaller forms by their keys
let stylized = { key: "" };
let result = null;

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
  return { engine, threads };
}

async function check({ file, width, height, input, output }) {
  const rgb = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const [given, wanted] = [rgb(input), rgb(output)];
  const data = new Uint8ClampedArray(4 * width * height).map((_, i) => (i % 4 < 3 ? given[3 * (i >> 2) + (i % 4)] : 255));
  const painted = await new Network(runtime, file).paint({ width, height, data });
  const away = wanted.map((value, i) => Math.abs(value - painted.data[4 * Math.floor(i / 3) + (i % 3)]));
  const mean = away.reduce((a, b) => a + b, 0) / away.length;
  if (!(mean <= 1 && Math.max(...away) <= 3)) throw new Failure("disagrees", "WebGPU paints other colors here");
}

/** Learn a style, by its file. */
async function style({ name, file }) {
  const network = new Network(runtime, file);
  await network.paint({ width: 16, height: 16, data: new Uint8ClampedArray(1024).fill(127) });
  networks.set(name, network);
  return { ...network.about, inParts: network.inParts };
}

/** The network of a style, or between it and another one. */
function networkOf(name, other, share) {
  if (!other || !share) return networks.get(name);
  const key = `${name}+${other}`;
  const known = networks.get(key);
  if (known?.share === share) return known;
  known?.release({ all: true });
  try {
    const between = new Network(runtime, mixed(networks.get(name).model, networks.get(other).model, share));
    networks.set(key, Object.assign(between, { share }));
    return between;
  } catch (error) {
    throw error instanceof ModelError ? new Failure("model", error.message) : error;
  }
}

/** Paint a file: `size` is a fast small painting, else `longest` bounds its longer side, null at full size. */
async function paint({ picture, file, size, longest, name, other, share, options }, step) {
  const network = networkOf(name, other, share);
  const content = size ? await smaller(picture, file, size) : await full(picture, file, longest, step);
  if (!size) refuseTooLarge(network, paintedSize(content, options));
  const key = [picture, longest, name, other, share, paintedScale(options)].join();
  const known = !size && stylized.key === key;
  const most = 1 - FINISH;
  const painted = known
    ? stylized.picture
    : await atScale(content, options, (given, tell) => painting(network, given, tell), (part) => step(part * most));
  if (!size) stylized = { key, picture: painted };
  const finished = await finish(content, painted, options, (part) => step(most + part * FINISH));
  if (!size) result = { ...finished, alpha: content.alpha };
  return shown(finished, size ? null : content.alpha);
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
  } finally {
    for (const other of networks.values()) if (other !== network) other.release();
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
