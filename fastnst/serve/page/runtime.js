// onnxruntime-web, in the thread that paints.

import { Failure } from "./failure.js";
import { FLOAT32, freeEnd, writeModel } from "./onnx.js";
import { message } from "./protobuf.js";

const ENTRIES = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs" };

export class Runtime {
  #last = Promise.resolve();

  constructor(ort, kind, threads) {
    Object.assign(this, { ort, kind, threads });
  }

  /** Load it from a folder, for "wasm" or "webgpu", with its program, which would come with the first graph only. */
  static async open(folder, kind, threads) {
    try {
      const ort = await import(new URL(ENTRIES[kind], folder));
      ort.env.wasm.wasmPaths = folder;
      ort.env.wasm.numThreads = threads;
      ort.env.logLevel = "error";
      const runtime = new Runtime(ort, kind, threads);
      await (await runtime.session(nothing())).release();
      return runtime;
    } catch (error) {
      const reason = error.message.split("\n")[0];
      throw new Failure("runtime", `onnxruntime-web did not load: ${reason}`);
    }
  }

  /** A graph ready to run; of several outputs the floats may stay on a GPU. */
  async session(data, floating = []) {
    const there = this.kind === "webgpu" && floating.length > 0;
    const options = {
      executionProviders: [this.kind],
      enableCpuMemArena: false, // it would keep the memory of every part
      enableMemPattern: false,
      logSeverityLevel: 3,
      ...(there && { preferredOutputLocation: Object.fromEntries(floating.map((name) => [name, "gpu-buffer"])) }),
    };
    try {
      return await this.#inTurn(() => this.ort.InferenceSession.create(data, options));
    } catch (error) {
      throw new Failure("runtime", `onnxruntime-web cannot open this style: ${error.message}`);
    }
  }

  run(session, given) {
    return this.#inTurn(() => session.run(given));
  }

  /** One thing after another: with WebGPU a runtime does no two at a time. */
  #inTurn(work) {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    return turn;
  }

  tensor(kind, data, shape) {
    return new this.ort.Tensor(kind, data, shape);
  }
}

/** A graph that returns what it is given. */
function nothing() {
  const node = { bytes: message([[1, "given"], [2, "same"], [4, "Identity"]]) };
  const [inputs, outputs] = ["given", "same"].map((name) => [freeEnd(name, FLOAT32, 1)]);
  const opsets = [message([[1, ""], [2, 18]])];
  return writeModel({ irVersion: 8, opsets, nodes: [node], constants: new Map(), inputs, outputs });
}
