// After the network: how much of the stylized picture, and how large its strokes. The same as fastnst/compose.py.

import { luma, writeFitted } from "./colors.js";
import { reduced, resize, round, taps } from "./resize.js";

export const SMALLEST = 16; // pixels a side

// naturalMix
const TONES = 0.6; // the exponent with which they lead
const STROKES = 1.2; // how much of their contrast is given back
const TEXTURE = 1; // how much sooner the photo's own goes
const DETAIL = 3; // pixels: what is finer is a detail
const AREA = 16; // pixels: what is coarser is a tone
const FEW = 4; // so that differences of a few gray levels are no texture

const STEPS = 3; // of sharpening, in enlarge
const BAND = 2 ** 18; // pixels of a band of rows, about

/** How many times as large a photo is stylized for naturalMix: finer strokes for less strength, 1 to 1.25. */
export function fineness(strength) {
  return Math.min(2 - strength, 1.25);
}

/** { width, height } at which a picture is stylized so that strokes become 1 / scale as large. */
export function strokeScale({ width, height }, scale) {
  return { width: Math.max(1, round(width * scale)), height: Math.max(1, round(height * scale)) };
}

/** Between the content, strength 0, and its stylized picture, 1, without the ghosts of a cross-fade. */
export async function naturalMix(content, stylized, strength, step = () => {}) {
  if (strength === 1) return stylized;
  const { width } = content;
  const lead = strength ** TONES - strength;
  const tonesOf = tones(content, stylized);
  return inBands(content, 2 * reach(DETAIL), step, (top, bottom, from, to, data) => {
    const planes = [content, stylized].map((picture) => lumaPlane(picture, top, bottom));
    const details = mixedDetails(...planes, width, bottom - top, strength);
    for (let y = from; y < to; y++) {
      const tone = tonesOf(y);
      for (let x = 0; x < width; x++) {
        const at = (y * width + x) * 4;
        const detail = details[(y - top) * width + x];
        for (let channel = 0; channel < 3; channel++) {
          const before = content.data[at + channel];
          const faded = before + (stylized.data[at + channel] - before) * strength;
          data[at + channel] = faded + lead * tone[channel][x] + detail;
        }
        data[at + 3] = 255;
      }
    }
  });
}

/** What naturalMix adds to the luma of a cross-fade. */
function mixedDetails(before, after, width, height, strength) {
  const given = withoutBlur(before, width, height);
  const painted = withoutBlur(after, width, height);
  const times = (a, b) => blur(a.map((value, i) => value * b[i]), width, height, DETAIL);
  const [energy, paintedEnergy, shared] = [times(given, given), times(painted, painted), times(given, painted)];
  const rest = 1 - strength;
  const stronger = STROKES * strength ** 2 * rest;
  const fainter = rest - rest ** (1 + TEXTURE);
  return given.map((value, i) => {
    const both = (Math.max(shared[i], 0) + FEW) / Math.sqrt((energy[i] + FEW) * (paintedEnergy[i] + FEW));
    return (1 - both) * (stronger * painted[i] - fainter * value); // `both` is 1 where they have the same details
  });
}

function withoutBlur(plane, width, height) {
  const blurred = blur(plane, width, height, DETAIL);
  return plane.map((value, i) => value - blurred[i]);
}

/** How much brighter a stylized picture is over areas of 16 pixels, smooth in between: a row in three channels. */
function tones(content, stylized) {
  const [before, after] = [content, stylized].map((picture) => reduced(picture, AREA));
  const { width, height } = content;
  const columns = taps("bilinear", before.width, width, width / AREA);
  const rows = taps("bilinear", before.height, height, height / AREA);
  const wide = after.planes.map((plane, channel) => {
    const made = new Float32Array(width * before.height);
    for (let y = 0; y < before.height; y++) {
      const at = y * before.width;
      for (let x = 0; x < width; x++) {
        const { first, weights } = columns[x];
        let sum = 0;
        weights.forEach((weight, tap) => {
          sum += weight * (plane[at + first + tap] - before.planes[channel][at + first + tap]);
        });
        made[y * width + x] = sum;
      }
    }
    return made;
  });
  return (y) =>
    wide.map((plane) => {
      const row = new Float32Array(width);
      rows[y].weights.forEach((weight, tap) => {
        const at = (rows[y].first + tap) * width;
        for (let x = 0; x < width; x++) row[x] += weight * plane[at + x];
      });
      return row;
    });
}

/** A stylized picture enlarged, with edges as steep as if it had been stylized at that size. */
export async function enlarge(stylized, width, height, step = () => {}) {
  const scale = Math.max(height / stylized.height, width / stylized.width);
  const enlarged = await resize(stylized, width, height, "bicubic", (share) => step(share * 0.3));
  const radius = Math.max(1, round(scale / 2));
  const amount = (1.5 * (scale - 1)) / (scale - 0.5);
  const far = STEPS * reach(scale / 2) + radius;
  const paint = (top, bottom, from, to, data) => {
    const rows = bottom - top;
    const before = lumaPlane(enlarged, top, bottom);
    const low = extreme(Math.min, before, width, rows, radius);
    const high = extreme(Math.max, before, width, rows, radius);
    let sharp = before;
    for (let i = 0; i < STEPS; i++) {
      const blurred = blur(sharp, width, rows, scale / 2);
      sharp = sharp.map((value, at) => Math.min(high[at], Math.max(low[at], value + amount * (value - blurred[at]))));
    }
    for (let at = from * width; at < to * width; at++) {
      const brighter = sharp[at - top * width] - before[at - top * width];
      const pixel = enlarged.data.subarray(4 * at, 4 * at + 3);
      writeFitted(data, 4 * at, pixel[0] + brighter, pixel[1] + brighter, pixel[2] + brighter);
    }
  };
  return inBands(enlarged, far, (share) => step(0.3 + share * 0.7), paint);
}

/** A picture made band by band from rows `from` to `to`, of which what surrounds them is seen as far as `far`. */
async function inBands({ width, height }, far, step, paint) {
  const data = new Uint8ClampedArray(width * height * 4);
  const rows = Math.max(16, Math.floor(BAND / width));
  for (let from = 0; from < height; from += rows) {
    await step(from / height);
    const to = Math.min(height, from + rows);
    paint(Math.max(0, from - far), Math.min(height, to + far), from, to, data);
  }
  return { width, height, data };
}

function lumaPlane({ width, data }, top, bottom) {
  const plane = new Float32Array((bottom - top) * width);
  for (let i = 0, at = top * width * 4; i < plane.length; i++, at += 4) {
    plane[i] = luma(data[at], data[at + 1], data[at + 2]);
  }
  return plane;
}

/** How many pixels far `blur` looks. */
function reach(deviation) {
  return Math.ceil(2.5 * deviation);
}

/** A Gaussian of a deviation in pixels; borders are repeated. */
function blur(plane, width, height, deviation) {
  const far = reach(deviation);
  const raw = Array.from({ length: 2 * far + 1 }, (_, i) => Math.exp(-((i - far) ** 2) / (2 * deviation ** 2)));
  const sum = raw.reduce((a, b) => a + b, 0);
  const weights = raw.map((weight) => weight / sum);
  const add = (row, from, weight) => {
    for (let x = 0; x < row.length; x++) row[x] += from[x] * weight;
  };
  return alongBoth(plane, width, height, far, (row, shifted) => {
    row.fill(0);
    weights.forEach((weight, tap) => add(row, shifted(tap), weight));
  });
}

/** The minimum or maximum of the square of 2 * radius + 1 pixels around each. */
function extreme(choose, plane, width, height, radius) {
  return alongBoth(plane, width, height, radius, (row, shifted) => {
    row.set(shifted(0));
    for (let tap = 1; tap <= 2 * radius; tap++) {
      const from = shifted(tap);
      for (let x = 0; x < row.length; x++) row[x] = choose(row[x], from[x]);
    }
  });
}

/** A plane made along columns and then along rows; `make` fills a row from what is shifted by -far to far pixels. */
function alongBoth(plane, width, height, far, make) {
  const half = new Float32Array(plane.length);
  for (let y = 0; y < height; y++) {
    const at = (tap) => Math.min(height - 1, Math.max(0, y + tap - far)) * width;
    make(half.subarray(y * width, (y + 1) * width), (tap) => plane.subarray(at(tap), at(tap) + width));
  }
  const made = new Float32Array(plane.length);
  const padded = new Float32Array(width + 2 * far);
  for (let y = 0; y < height; y++) {
    const row = half.subarray(y * width, (y + 1) * width);
    padded.fill(row[0], 0, far);
    padded.set(row, far);
    padded.fill(row[width - 1], far + width);
    make(made.subarray(y * width, (y + 1) * width), (tap) => padded.subarray(tap, tap + width));
  }
  return made;
}
