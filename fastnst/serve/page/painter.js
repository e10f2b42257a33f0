// The page's side of the thread that paints.

import { canceled, Failure } from "./failure.js";

/** Bytes that one painting may take: a quarter of the memory where a browser tells it, of 4 GB at most in WASM. */
export function memoryToUse() {
  const gigabytes = navigator.deviceMemory ?? 4;
  return Math.min(2, gigabytes / 4) * 2 ** 30;
}

export class Painter {
  #asked = new Map();
  #next = 0;
  #worker = null;
  description = "";

  /** Where the runtime lies, null without one, and what tells whether WebGPU paints right. */
  constructor({ folder, reference }) {
    Object.assign(this, { folder, reference });
  }

  /** Load the runtime: WebGPU where it is and agrees with the reference, else WASM. Throws Failure without either. */
  async open() {
    this.#begin();
    if (!this.folder) throw new Failure("runtime", "there is no onnxruntime-web here");
    const threads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
    const common = { folder: this.folder, threads, memory: memoryToUse() };
    if (await hasWebGpu()) {
      try {
        await this.ask("open", { ...common, engine: "webgpu", reference: await this.reference() });
        return (this.description = "WebGPU");
      } catch {
        this.#begin(); // WASM paints what WebGPU does not, or not the same
      }
    }
    await this.ask("open", { ...common, engine: "wasm" });
    return (this.description = threads > 1 ? `WebAssembly, ${threads} threads` : "WebAssembly");
  }

  /** Ask the thread; rejects with Failure, "canceled" as soon as the signal says so. */
  ask(kind, asked = {}, { signal, onProgress, transfer = [] } = {}) {
    if (signal?.aborted) return Promise.reject(canceled());
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject, onProgress });
      signal?.addEventListener("abort", () => {
        this.#worker.postMessage({ cancel: id });
        this.#asked.delete(id);
        reject(canceled());
      });
      this.#worker.postMessage({ id, kind, ...asked }, transfer);
    });
  }

  #begin() {
    this.#worker?.terminate();
    this.#asked.forEach(({ reject }) => reject(new Failure("again", "the painting thread was started again")));
    this.#asked.clear();
    this.#worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.#worker.addEventListener("message", ({ data }) => this.#hear(data));
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      const failure = new Failure("runtime", event.message ?? "the painting thread stopped");
      this.#asked.forEach(({ reject }) => reject(failure));
      this.#asked.clear();
    });
  }

  #hear({ id, result, failure, progress }) {
    const asked = this.#asked.get(id);
    if (!asked) return;
    if (progress !== undefined) {
      asked.onProgress?.(progress);
      return;
    }
    this.#asked.delete(id);
    if (failure) asked.reject(Failure.unpacked(failure));
    else asked.resolve(result);
  }
}

/** Whether there is a graphics card; one played by the processor is slower than WASM. */
async function hasWebGpu() {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return false;
    const { isFallbackAdapter = adapter.isFallbackAdapter, architecture = "" } = adapter.info ?? {};
    return !isFallbackAdapter && architecture !== "swiftshader";
  } catch {
    return false;
  }
}
