// The camera: what it sees, painted live, and a still of it.

const FASTEST = 24; // frames each second, above which there is room for larger ones
const SLOWEST = 6;
const SIDES = { least: 160, first: 256, most: 512 }; // of the longer side that is painted

const REASONS = {
  NotAllowedError: "The browser did not let this page use the camera. Allow it beside the address, and try again.",
  NotFoundError: "No camera was found. Plug one in, or choose a picture.",
  NotReadableError: "Another program uses the camera. Close it, and try again.",
};

const NONE = "This browser gives pages no camera, or only over https. Choose a picture.";

export class Camera {
  #stream = null;
  #running = 0;

  /** `onStill` gets a photograph as a File. */
  constructor(find, studio, { onStill }) {
    Object.assign(this, { find, studio });
    this.dialog = find("camera");
    this.video = find("video");
    this.canvas = find("live-painting");
    this.facts = find("camera-facts");
    find("camera-close").addEventListener("click", () => this.dialog.close());
    find("still").addEventListener("click", async () => {
      const file = await this.#still();
      this.dialog.close();
      if (file) onStill(file);
    });
    this.dialog.addEventListener("close", () => this.#stop());
  }

  /** Open the camera, painted in one of some styles. */
  async open(styles) {
    const select = this.find("live-style");
    select.replaceChildren(...styles.map(({ name, title }) => new Option(title, name)));
    this.#painted(false);
    this.facts.textContent = "Waiting for the camera…";
    this.dialog.showModal();
    const running = ++this.#running;
    try {
      if (!navigator.mediaDevices) throw new Error("no devices");
      const wanted = { video: { width: { ideal: 1280 }, facingMode: "user" }, audio: false };
      const stream = await navigator.mediaDevices.getUserMedia(wanted);
      if (running !== this.#running) return stream.getTracks().forEach((track) => track.stop());
      this.#stream = stream;
      this.video.srcObject = stream;
      await this.video.play();
    } catch (error) {
      if (running !== this.#running) return;
      this.facts.textContent = REASONS[error.name] ?? NONE;
      return;
    }
    await this.#paint(running);
  }

  #stop() {
    this.#running++;
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.video.srcObject = null;
  }

  async #paint(running) {
    await this.studio.ready;
    if (!this.studio.paintsHere) {
      this.facts.textContent = "This browser cannot paint live; take the picture to have it painted.";
      return;
    }
    let longest = SIDES.first;
    let rate = 0;
    let told = 0;
    while (running === this.#running && this.dialog.open) {
      const began = performance.now();
      try {
        await this.#frame(longest);
      } catch (error) {
        if (running === this.#running) this.facts.textContent = `The camera is not painted: ${error.message}`;
        return;
      }
      const now = 1000 / Math.max(1, performance.now() - began);
      rate = rate ? 0.8 * rate + 0.2 * now : now;
      if (performance.now() - told < 500) continue;
      told = performance.now();
      const { width, height } = this.canvas;
      this.facts.textContent = `${rate.toFixed(1)} frames per second, ${width} × ${height} pixels`;
      if (rate < SLOWEST) longest = Math.max(SIDES.least, Math.round(longest * 0.85));
      else if (rate > FASTEST) longest = Math.min(SIDES.most, Math.round(longest * 1.15));
    }
  }

  async #frame(longest) {
    const { videoWidth, videoHeight } = this.video;
    const scale = longest / Math.max(videoWidth, videoHeight);
    const [resizeWidth, resizeHeight] = [videoWidth, videoHeight].map((side) => Math.max(16, Math.round(side * scale)));
    const name = this.find("live-style").value;
    await this.studio.style(name);
    const bitmap = await createImageBitmap(this.video, { resizeWidth, resizeHeight });
    const { width, height, data } = await this.studio.painter.ask("frame", { bitmap, name }, { transfer: [bitmap] });
    // With the next frame of the screen, so that a fast machine leaves it time.
    await new Promise(requestAnimationFrame);
    Object.assign(this.canvas, { width, height });
    this.#painted(true);
    this.canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  }

  #painted(shown) {
    this.canvas.hidden = !shown;
    this.canvas.parentElement.classList.toggle("painted", shown);
  }

  async #still() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width) return null;
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    return new File([await canvas.convertToBlob({ type: "image/png" })], "photograph.png", { type: "image/png" });
  }
}
