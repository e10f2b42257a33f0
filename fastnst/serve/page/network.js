// One style, ready to paint pixels: whole, or in parts with progress.

import { Failure } from "./failure.js";
import { ModelError, readModel, takesBytes } from "./onnx.js";
import { bytesPerPixel, split } from "./split.js";

const WHOLE = 256 * 1024; // pixels up to which a picture is painted in one go
const MEMORY = 1.75; // times what its values take is what a part was measured to take in WASM
const UNIT = Float32Array.from({ length: 256 }, (_, value) => value / 255);
const UNKNOWN = 600; // bytes for each pixel of a graph that is not understood

export class Network {
  #runtime;
  #data;
  #parts;
  #most;
  #whole = null;
  #sessions = null;

  /** Of the bytes of a file; throws Failure for one that is no style. `whole` pixels are painted in one go. */
  constructor(runtime, file, whole = WHOLE) {
    this.#runtime = runtime;
    this.#most = whole;
    try {
      this.model = readModel(file);
      this.bytes = takesBytes(this.model);
      this.#data = file;
      this.input = this.model.inputs[0].name;
      this.output = this.model.outputs[0].name;
      this.#parts = split(this.model);
      this.about = about(this.model.metadata.fastnst);
      this.bytesPerPixel = MEMORY * (bytesPerPixel(this.model) ?? UNKNOWN);
    } catch (error) {
      if (error instanceof ModelError) throw new Failure("model", error.message);
      throw error;
    }
  }

  /** Whether progress is known while a large picture is painted. */
  get inParts() {
    return this.#parts !== null;
  }

  /** A picture -> the same, stylized; `step` is told which share is done. */
  async paint(picture, step = () => {}) {
    const { width, height } = picture;
    const small = width * height <= this.#most || !this.#parts;
    const given = { [this.input]: this.#tensor(picture) };
    const made = small ? await this.#runWhole(given) : await this.#runParts(given, step);
    const values = await made.getData();
    made.dispose();
    return this.#pixels(values, width, height);
  }

  /** Let go of what was opened for large pictures. */
  async release({ all = false } = {}) {
    const opened = this.#sessions ?? [];
    this.#sessions = null;
    if (all && this.#whole) opened.push(await this.#whole);
    if (all) this.#whole = null;
    for (const session of opened) await session.release();
  }

  async #runWhole(given) {
    this.#whole ??= this.#runtime.session(this.#data);
    const session = await this.#whole.catch((error) => {
      this.#whole = null; // so that it is tried again
      throw error;
    });
    return (await this.#runtime.run(session, given))[this.output];
  }

  async #runParts(given, step) {
    const sessions = (this.#sessions ??= []);
    const held = new Map(Object.entries(given));
    let done = 0;
    try {
      for (const [place, part] of this.#parts.entries()) {
        await step(done);
        const last = place === this.#parts.length - 1;
        sessions[place] ??= await this.#runtime.session(part.data, last ? [] : part.floating);
        const inputs = Object.fromEntries(part.inputs.map((name) => [name, held.get(name)]));
        const made = await this.#runtime.run(sessions[place], inputs);
        Object.entries(made).forEach(([name, tensor]) => held.set(name, tensor));
        const later = new Set(this.#parts.slice(place + 1).flatMap((next) => next.inputs));
        for (const [name, tensor] of held) {
          if (later.has(name) || name === this.output) continue;
          tensor.dispose();
          held.delete(name);
        }
        done += part.share;
      }
    } catch (error) {
      held.forEach((tensor) => tensor.dispose());
      throw error;
    }
    return held.get(this.output);
  }

  #tensor({ width, height, data }) {
    const count = width * height;
    if (this.bytes) {
      const rgb = new Uint8Array(3 * count);
      for (let i = 0, from = 0, to = 0; i < count; i++, from += 4, to += 3) {
        rgb[to] = data[from];
        rgb[to + 1] = data[from + 1];
        rgb[to + 2] = data[from + 2];
      }
      return this.#runtime.tensor("uint8", rgb, [1, height, width, 3]);
    }
    const planes = new Float32Array(3 * count);
    for (let channel = 0; channel < 3; channel++) {
      const plane = planes.subarray(channel * count, (channel + 1) * count);
      for (let i = 0, from = channel; i < count; i++, from += 4) plane[i] = UNIT[data[from]];
    }
    return this.#runtime.tensor("float32", planes, [1, 3, height, width]);
  }

  #pixels(values, width, height) {
    const count = width * height;
    const data = new Uint8ClampedArray(4 * count).fill(255);
    const [step, plane, white] = this.bytes ? [3, 1, 1] : [1, count, 255];
    for (let channel = 0; channel < 3; channel++) {
      for (let i = 0, from = channel * plane, to = channel; i < count; i++, from += step, to += 4) {
        const value = values[from];
        // It would become black.
        if (Number.isNaN(value)) throw new Failure("runtime", "the network painted values that are not numbers");
        data[to] = value * white;
      }
    }
    return { width, height, data };
  }
}

/** Preset and credit, of what fastnst writes into a file. */
function about(told) {
  try {
    const { preset, style } = JSON.parse(told);
    return { preset: String(preset ?? ""), credit: String(style?.credit ?? "") };
  } catch {
    throw new ModelError("what it says of itself is damaged");
  }
}
