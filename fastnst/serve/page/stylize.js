// One picture through a style, with strength, strokes and colors as fastnst stylize means them.

import { keepHistogramColors, keepLumaColors } from "./colors.js";
import { enlarge, fineness, naturalMix, SMALLEST, strokeScale } from "./compose.js";
import { Failure } from "./failure.js";
import { resize } from "./resize.js";

const RECOLOR = { luma: keepLumaColors, histogram: keepHistogramColors };

/** How many times as large a picture is painted. */
export function paintedScale({ strength, stroke }) {
  return Math.min(fineness(strength) / stroke, 2);
}

/** { width, height } at which a picture is painted; throws Failure if that is too small for a network. */
export function paintedSize(picture, options) {
  const size = strokeScale(picture, paintedScale(options));
  if (Math.min(size.width, size.height) < SMALLEST) {
    throw new Failure("picture", "The picture is too small for such large strokes; choose a smaller stroke size.");
  }
  return size;
}

/** A picture stylized `scale` times as large, and brought back to its size; `paint` is the network. */
export async function atScale(content, options, paint, step) {
  const { width, height } = content;
  const size = paintedSize(content, options);
  if (size.width === width && size.height === height) return paint(content, step);
  const scaled = await resize(content, size.width, size.height, "lanczos", (share) => step(share * 0.05));
  const stylized = await paint(scaled, (share) => step(0.05 + share * 0.85));
  const last = (share) => step(0.9 + share * 0.1);
  if (paintedScale(options) < 1) return enlarge(stylized, width, height, last);
  return resize(stylized, width, height, "lanczos", last);
}

/** The colors and the strength of the options. */
export async function finish(content, stylized, { strength, colors }, step) {
  const recolor = RECOLOR[colors];
  const painted = recolor ? await recolor(content, stylized, (share) => step(share * 0.3)) : stylized;
  return naturalMix(content, painted, strength, (share) => step(0.3 + share * 0.7));
}
