// Pictures as a browser decodes them: upright, in sRGB, on white where transparent.

import { Failure } from "./failure.js";

/** A file as { width, height, data, alpha }: RGBA whose fourth value is 255, and the transparency (H, W) or null. */
export async function decode(file) {
  const bitmap = await opened(file);
  try {
    const { width, height } = bitmap;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const alpha = file.type === "image/jpeg" ? null : alphaOf(bitmap, context);
    return { ...onWhite(bitmap, context), alpha };
  } finally {
    bitmap.close();
  }
}

/** A file decoded at a smaller size: fast, for previews. */
export async function decodeSmall(file, width, height) {
  const bitmap = await opened(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
  try {
    return pixelsOf(bitmap);
  } finally {
    bitmap.close();
  }
}

/** What a bitmap shows, as RGBA on white. */
export function pixelsOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  return onWhite(bitmap, canvas.getContext("2d", { willReadFrequently: true }));
}

async function opened(file, options) {
  try {
    return await createImageBitmap(file, options);
  } catch {
    throw new Failure("picture", "This picture cannot be opened: the file is damaged, or too large for this browser.");
  }
}

function onWhite(bitmap, context) {
  const { width, height } = bitmap;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  return { width, height, data: context.getImageData(0, 0, width, height).data };
}

function alphaOf(bitmap, context) {
  const { width, height } = bitmap;
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const alpha = new Uint8Array(width * height);
  let least = 255;
  for (let i = 0; i < alpha.length; i++) {
    alpha[i] = data[4 * i + 3];
    least = Math.min(least, alpha[i]);
  }
  return least === 255 ? null : alpha;
}

/** { width, height } within a longest side, never larger. */
export function within({ width, height }, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}
