// How pictures and styles come in: chosen, dropped, pasted, photographed.

import { SMALLEST } from "./compose.js";
import { Failure } from "./failure.js";

const MOST = { pixels: 50e6, side: 16_384 }; // as on the command line
const TOUCH = window.matchMedia("(pointer: coarse)");

let next = 0;

/** A file as a picture: { id, file, url, width, height, name }. Throws Failure for what is none, or unusable. */
export async function openPicture(file) {
  const name = file.name || "picture";
  if (!file.size) throw new Failure("picture", `${name} is empty. Choose another file.`);
  const url = URL.createObjectURL(file);
  const image = new Image();
  try {
    if (file.type === "image/svg+xml") throw new Error("it has no pixels");
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject, src: url }));
    const { naturalWidth: width, naturalHeight: height } = image;
    check(name, width, height);
    return { id: next++, file, url, width, height, name: name.replace(/\.[^.]*$/, "") || "picture" };
  } catch (error) {
    URL.revokeObjectURL(url);
    if (error instanceof Failure) throw error;
    const heic = /\.hei[cf]$/i.test(name);
    const remedy = heic ? "It does not open HEIC; save it as a JPEG first." : "Choose a JPEG, PNG, WebP or AVIF file.";
    throw new Failure("picture", `${name} is no picture that this browser can open. ${remedy}`);
  }
}

function check(name, width, height) {
  const size = `${name} has ${width} × ${height} pixels`;
  if (Math.min(width, height) < SMALLEST) {
    const least = `${SMALLEST} × ${SMALLEST}`;
    throw new Failure("picture", `${size}, but at least ${least} are needed. Choose a larger picture.`);
  }
  if (width * height > MOST.pixels || Math.max(width, height) > MOST.side) {
    const most = `${MOST.pixels / 1e6} megapixels, and sides of ${MOST.side}`;
    throw new Failure("picture", `${size}, but at most ${most}, can be painted. Scale it down first.`);
  }
}

/** Listen for files on the whole page; `onFile` gets each, `onNothing` a sentence if what came holds none. */
export function listen({ onFile, onNothing, find }) {
  const inputs = ["file", "capture", "style-file"].map(find);
  for (const input of inputs) {
    input.addEventListener("change", () => {
      const [file] = input.files;
      input.value = ""; // so that the same file can be chosen again
      if (file) onFile(file);
    });
  }
  find("choose").addEventListener("click", () => find("file").click());

  const overlay = find("drop");
  let inside = 0;
  const hide = () => {
    inside = 0;
    overlay.hidden = true;
  };
  document.addEventListener("dragenter", (event) => {
    event.preventDefault();
    inside += 1;
    overlay.hidden = false;
  });
  document.addEventListener("dragleave", () => {
    inside -= 1;
    if (inside <= 0) hide();
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    hide();
    const [file] = event.dataTransfer.files;
    if (file) onFile(file);
    else onNothing("That was no file. Save the picture first, and drop the file.");
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) onFile(file);
    else if (event.target === document.body) onNothing("The clipboard holds no picture. Copy one, and paste again.");
  });
}

/** Whether the device's own camera program is better than the page's. */
export function takesPhotographs() {
  return TOUCH.matches && !window.matchMedia("(hover: hover)").matches && "capture" in HTMLInputElement.prototype;
}
