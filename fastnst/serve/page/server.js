// The API of `fastnst serve`, which paints what this browser cannot.

import { Failure } from "./failure.js";

const TOKEN = "fastnst-token";

export class Server {
  #asking = null;

  /** Limits of it, or null; `askToken` resolves to a token, or to null if none is given. */
  constructor({ limits, askToken }) {
    Object.assign(this, { limits, askToken });
  }

  /** A picture file painted: the PNG as a Blob. Throws Failure. */
  async paint({ file, style, mix, options, longest, signal }) {
    const asked = new URLSearchParams({ strength: options.strength, stroke: options.stroke });
    if (mix) {
      asked.set("style", `${style},${mix.name}`);
      asked.set("mix", `${1 - mix.share},${mix.share}`);
    } else {
      asked.set("style", style);
    }
    if (options.colors) asked.set("preserve_color", options.colors);
    if (longest) asked.set("max_size", longest);
    const headers = { Accept: "image/png", "Content-Type": file.type || "application/octet-stream" };
    const answer = await this.#fetch(`v1/stylize?${asked}`, { method: "POST", body: file, headers, signal });
    return answer.blob();
  }

  /** Failure for a picture that the server would refuse. */
  check({ file, width, height }, longest) {
    const { pixels = Infinity, bytes = Infinity, side = Infinity } = this.limits ?? {};
    if (longest) return;
    if (width * height > pixels || Math.max(width, height) > side) {
      const limit = Math.min(pixels, side * Math.min(width, height));
      throw new Failure("large", "too large for the server", { limit });
    }
    if (file.size > bytes) throw new Failure("large", "too large for the server", { limit: (width * height) / 2 });
  }

  async #fetch(address, init, wrong = false) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...init.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    let answer;
    try {
      answer = await fetch(address, { ...init, headers });
    } catch (error) {
      if (error.name === "AbortError") throw new Failure("canceled", "canceled");
      throw new Failure("server", "The server does not answer. See whether it runs, and the network, and try again.");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      // One dialog, however many paintings wait for it.
      this.#asking ??= this.askToken(wrong || Boolean(token)).finally(() => (this.#asking = null));
      const given = await this.#asking;
      if (!given) throw new Failure("token", "The server paints only for those who have its token.");
      sessionStorage.setItem(TOKEN, given);
      return this.#fetch(address, init, true);
    }
    throw await refusal(answer);
  }
}

async function refusal(answer) {
  const problem = await answer.json().catch(() => ({}));
  const said = problem.detail ?? problem.title ?? `It answered ${answer.status}.`;
  if (answer.status === 503) {
    const wait = Number(answer.headers.get("Retry-After")) || 5;
    return new Failure("busy", `The server is busy; try again in ${wait} seconds.`, { wait });
  }
  return new Failure("server", `The server did not paint it: ${said}`);
}
