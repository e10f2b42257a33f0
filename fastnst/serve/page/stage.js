// The picture and its painting on one sheet, with a divider between them, and closer by a click.

const LARGEST = 16_000_000; // pixels of a canvas that every browser can show
const UPSCALED = 2.5; // times as large as its pixels, at most, is a small picture shown
const STILL = 5; // pixels that a pointer may move in a click

export class Stage {
  #start = null;

  constructor(find) {
    this.stage = find("stage");
    this.frame = this.stage.parentElement;
    this.sheet = find("sheet");
    this.before = find("before");
    this.after = find("after");
    this.divider = find("divider");
    this.reveal = find("reveal");
    this.tags = find("tags");
    this.zoomButton = find("zoom");
    this.reveal.addEventListener("input", () => this.#place(Number(this.reveal.value)));
    this.zoomButton.addEventListener("click", () => this.zoom(!this.zoomed));
    this.sheet.addEventListener("pointerdown", (event) => this.#down(event));
    this.sheet.addEventListener("pointermove", (event) => this.#move(event));
    this.sheet.addEventListener("pointerup", (event) => this.#up(event));
    this.sheet.addEventListener("pointercancel", () => (this.#start = null));
    this.sheet.addEventListener("dragstart", (event) => event.preventDefault());
    this.zoomable = false;
  }

  get zoomed() {
    return this.stage.dataset.zoom === "true";
  }

  /** Hang a picture, without a painting. */
  picture({ url, width, height, name }) {
    this.zoom(false);
    Object.assign(this.before, { src: url, width, height, alt: `The picture: ${name}` });
    const { style } = this.frame;
    style.setProperty("--ratio", (width / height).toFixed(4));
    style.setProperty("--widest", `${UPSCALED * width}px`);
    this.#show(false);
  }

  /** The picture alone again. */
  bare() {
    this.#show(false);
  }

  /** Show pixels or a bitmap over the picture; a sketch is small, and stands for what is to come. */
  async painting({ width, height, data, bitmap }, { sketch = false, at = null } = {}) {
    const scale = Math.min(1, Math.sqrt(LARGEST / (width * height)));
    const [wide, high] = [width, height].map((side) => Math.max(1, Math.floor(side * scale)));
    const whole = bitmap ?? new ImageData(data, width, height);
    const image = scale < 1 ? await createImageBitmap(whole, { resizeWidth: wide, resizeHeight: high }) : whole;
    const context = this.after.getContext("2d");
    Object.assign(this.after, { width: wide, height: high });
    if (image instanceof ImageData) context.putImageData(image, 0, 0);
    else context.drawImage(image, 0, 0);
    this.after.classList.toggle("sketch", sketch);
    const first = this.after.hidden;
    this.#show(true);
    if (at !== null || first) this.#place(at ?? 0);
  }

  /** What is seen of the painting: a value of 0 is all, 100 nothing. */
  #place(value) {
    this.reveal.value = value;
    this.reveal.setAttribute("aria-valuetext", `${100 - value} percent painting`);
    this.after.style.clipPath = `inset(0 0 0 ${value}%)`;
    this.divider.style.left = `clamp(1.375rem, ${value}%, calc(100% - 1.375rem))`;
    this.divider.classList.toggle("edge", value < 1 || value > 99);
    this.tags.dataset.only = value < 12 ? "painting" : value > 88 ? "picture" : "";
  }

  #show(shown) {
    for (const element of [this.after, this.divider, this.reveal, this.tags]) element.hidden = !shown;
  }

  /** Closer, or all of it; closer at a point of the screen. */
  zoom(closer, point = null) {
    const { width: fitted } = this.sheet.getBoundingClientRect();
    this.stage.dataset.zoom = String(closer);
    this.zoomButton.setAttribute("aria-pressed", String(closer));
    if (!closer) {
      this.before.style.width = "";
      return;
    }
    const box = this.stage.getBoundingClientRect();
    const pixels = this.after.hidden ? this.before.naturalWidth : this.after.width;
    const width = Math.max(pixels / window.devicePixelRatio, 1.6 * fitted);
    const height = (width * this.before.naturalHeight) / this.before.naturalWidth;
    this.before.style.width = `${width}px`;
    const [x, y] = point ? [(point.x - box.left) / box.width, (point.y - box.top) / box.height] : [0.5, 0.5];
    this.stage.scrollTo(x * width - box.width / 2, y * height - box.height / 2);
  }

  #down(event) {
    if (event.button !== 0) return;
    const { scrollLeft, scrollTop } = this.stage;
    const divides = this.divider.contains(event.target);
    this.#start = { x: event.clientX, y: event.clientY, scrollLeft, scrollTop, divides, moved: false };
    if (event.pointerType === "mouse" || divides) this.sheet.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const start = this.#start;
    if (!start) return;
    const [x, y] = [event.clientX - start.x, event.clientY - start.y];
    start.moved ||= Math.hypot(x, y) > STILL;
    if (!start.moved) return;
    if (this.zoomed && !start.divides) {
      if (event.pointerType === "mouse") this.stage.scrollTo(start.scrollLeft - x, start.scrollTop - y);
    } else if (!this.after.hidden) {
      const { left, width } = this.sheet.getBoundingClientRect();
      this.#place(Math.round(Math.min(100, Math.max(0, (100 * (event.clientX - left)) / width))));
    }
  }

  #up(event) {
    const start = this.#start;
    this.#start = null;
    if (!start || start.moved || start.divides || !this.zoomable) return;
    this.zoom(!this.zoomed, { x: event.clientX, y: event.clientY });
  }
}
