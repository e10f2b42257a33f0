// onnxruntime-web, in the thread that paints.

import { Failure } from "./failure.js";

const ENTRIES = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs" };

export class Runtime {
  #last = Promise.resolve();

  constructor(ort, kind, threads) {
    Object.assign(this, { ort, kind, threads });
  }

  /** Load it from a folder, for "wasm" or "webgpu". */
  static async open(folder, kind, threads) {
    try {
      const ort = await import(new URL(ENTRIES[kind], folder));
      ort.env.wasm.wasmPaths = folder;
      ort.env.wasm.numThreads = threads;
      ort.env.logLevel = "error";
      return new Runtime(ort, kind, threads);
    } catch (error) {
      throw new Failure("runtime", `onnxruntime-web did not load: ${error.message}`);
    }
  }

  /** A graph ready to run; of several outputs the floats may stay on a GPU. */
  async session(data, floating = []) {
    const there = this.kind === "webgpu" && floating.length > 0;
    try {
      return await this.ort.InferenceSession.create(data, {
        executionProviders: [this.kind],
        enableCpuMemArena: false, // it would keep the memory of every part
        enableMemPattern: false,
        logSeverityLevel: 3,
        ...(there && { preferredOutputLocation: Object.fromEntries(floating.map((name) => [name, "gpu-buffer"])) }),
      });
    } catch (error) {
      throw new Failure("runtime", `onnxruntime-web cannot open this style: ${error.message}`);
    }
  }

  /** Run one; one after another, because a runtime runs one at a time. */
  run(session, given) {
    const turn = this.#last.then(() => session.run(given));
    this.#last = turn.catch(() => {});
    return turn;
  }

  tensor(kind, data, shape) {
    return new this.ort.Tensor(kind, data, shape);
  }
}
