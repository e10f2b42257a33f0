// Where a painting is made: in this browser, or on the server if the browser cannot.

import { Failure } from "./failure.js";
import { Painter } from "./painter.js";
import { within } from "./picture.js";
import { Server } from "./server.js";

export class Studio {
  #styles = new Map(); // name -> Promise of what the painter says of it
  #files = new Map(); // name -> address, or the bytes of an own style

  constructor(config, askToken) {
    this.config = config;
    config.styles.forEach(({ name, file }) => this.#files.set(name, file));
    const folder = config.runtime && new URL(config.runtime, document.baseURI).href;
    this.painter = new Painter({ folder, reference: () => this.#reference() });
    this.server = config.api ? new Server({ limits: config.limits, askToken }) : null;
    this.paintsHere = false;
    this.ready = this.#open();
  }

  async #open() {
    try {
      this.engine = await this.painter.open();
      this.paintsHere = true;
    } catch (error) {
      this.reason = error.message;
    }
    return this.paintsHere || Boolean(this.server);
  }

  async #reference() {
    const told = await (await fetch("reference.json")).json();
    return { ...told, file: await this.#file(told.style) };
  }

  async #file(name) {
    const known = this.#files.get(name);
    if (known instanceof Uint8Array) return known;
    const gone = new Failure("network", "This style did not arrive. See whether the network is there, and try again.");
    let answer;
    try {
      answer = await fetch(known);
    } catch {
      throw gone;
    }
    if (!answer.ok) throw gone;
    return new Uint8Array(await answer.arrayBuffer());
  }

  /** Load a style; what is known of it, { preset, credit, inParts }. */
  style(name) {
    if (!this.#styles.has(name)) {
      const loading = this.#file(name).then((file) => this.painter.ask("style", { name, file }));
      loading.catch(() => this.#styles.delete(name)); // so that it is tried again
      this.#styles.set(name, loading);
    }
    return this.#styles.get(name);
  }

  /** Add somebody's own style from a file; throws Failure for one that is none. */
  async ownStyle(name, file) {
    await this.ready;
    if (!this.paintsHere) {
      throw new Failure("model", "own styles are painted in the browser, which cannot paint here");
    }
    const bytes = new Uint8Array(await file.arrayBuffer());
    const about = await this.painter.ask("style", { name, file: bytes });
    this.#files.set(name, bytes);
    this.#styles.set(name, Promise.resolve(about));
    return about;
  }

  /**
   * Paint { picture, style, mix, options, size, longest }: `size` is a small, fast painting; `longest` bounds the
   * longer side of a large one. Resolves to { width, height, data or bitmap, blob, here, seconds }.
   */
  async paint(job, { signal, onProgress } = {}) {
    const began = performance.now();
    if (!(await this.ready)) {
      throw new Failure("runtime", `This browser cannot paint (${this.reason}), and no server is here to do it.`);
    }
    const timed = (painted) => ({ ...painted, seconds: (performance.now() - began) / 1000 });
    if (!this.paintsHere) return timed(await this.#there(job, signal));
    try {
      return timed(await this.#here(job, signal, onProgress));
    } catch (error) {
      if (error.crashed) this.#again();
      if (error.code === "again") return this.paint(job, { signal, onProgress }); // it was another painting's fault
      if (error.code !== "large" || !this.server || job.style.own) throw error;
      onProgress?.(null);
      return timed(await this.#there(job, signal));
    }
  }

  /** A fresh thread: one whose memory ran out paints nothing any more. */
  #again() {
    this.#styles.clear();
    this.ready = this.#open();
  }

  async #here({ picture, style, mix, options, size, longest }, signal, onProgress) {
    const [{ inParts }] = await Promise.all([this.style(style.name), mix && this.style(mix.name)]);
    const tell = (share) => onProgress?.(inParts ? share : null);
    const asked = { picture: picture.id, file: picture.file, size, longest, name: style.name, options };
    Object.assign(asked, mix && { other: mix.name, share: mix.share });
    return { ...(await this.painter.ask("paint", asked, { signal, onProgress: tell })), here: true };
  }

  async #there({ picture, style, mix, options, size, longest }, signal) {
    if (style.own) throw new Failure("model", "Own styles are painted in the browser, which cannot paint this.");
    if (!size) this.server.check(picture, longest);
    const small = size ?? (longest && within(picture, longest));
    const file = small ? await scaled(picture.file, small) : picture.file;
    const blob = await this.server.paint({ file, style: style.name, mix, options, signal });
    const bitmap = await createImageBitmap(blob);
    return { width: bitmap.width, height: bitmap.height, bitmap, blob, here: false };
  }

  /** A painting as a file, "png" or "jpeg". */
  async file({ here, blob }, format) {
    if (blob && format === "png") return blob;
    return (await this.painter.ask("encode", { format, file: here ? null : blob })).blob;
  }
}

async function scaled(file, { width, height }) {
  const bitmap = await createImageBitmap(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/png" });
}
