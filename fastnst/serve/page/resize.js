// Pictures scaled as Pillow scales them, to the last bit: the same filters, fixed-point weights and order of passes.
//
// A picture is { width, height, data } with RGBA in a Uint8ClampedArray, as in ImageData; its fourth value is 255.

const BITS = 22; // of fixed-point weights
const LINES = 64; // rows of a pass between two looks at whether to stop

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

const FILTERS = {
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
  bicubic: { support: 2, at: cubic },
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
};

function cubic(x) {
  const a = -0.5;
  const far = Math.abs(x);
  if (far < 1) return ((a + 2) * far - (a + 3)) * far * far + 1;
  return far < 2 ? (((far - 5) * far + 8) * far - 4) * a : 0;
}

/** The half-even rounding of Python. */
export function round(value) {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
}

/** Where each of `size` results looks and with which weights, of what is `length` long from 0 to `end`. */
export function taps(filter, length, size, end = length) {
  const { support, at } = FILTERS[filter];
  const scale = end / size;
  const wide = Math.max(scale, 1);
  return Array.from({ length: size }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support * wide + 0.5));
    const last = Math.min(length, Math.trunc(center + support * wide + 0.5));
    const weights = Array.from({ length: last - first }, (_, tap) => at((tap + first - center + 0.5) / wide));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => (sum ? weight / sum : weight)) };
  });
}

/** The same with weights in fixed point. */
function fixedTaps(filter, length, size) {
  return taps(filter, length, size).map(({ first, weights }) => ({
    first,
    weights: Int32Array.from(weights, (weight) => Math.trunc(weight * 2 ** BITS + (weight < 0 ? -0.5 : 0.5))),
  }));
}

/** A picture scaled to exactly this size; `step` is called every few rows with the share that is done. */
export async function resize(picture, width, height, filter = "lanczos", step = () => {}) {
  let { data } = picture;
  if (width !== picture.width) {
    data = await widened(data, picture, width, filter, step);
  }
  if (height !== picture.height) {
    data = await heightened(data, width, picture.height, height, filter, step);
  }
  return { width, height, data };
}

async function widened(data, { width, height }, wanted, filter, step) {
  const made = new Uint8ClampedArray(wanted * height * 4);
  const places = fixedTaps(filter, width, wanted);
  for (let y = 0; y < height; y++) {
    if (y % LINES === 0) await step((y / height) * 0.5);
    let to = y * wanted * 4;
    for (const { first, weights } of places) {
      let from = (y * width + first) * 4;
      let red = 1 << (BITS - 1);
      let green = red;
      let blue = red;
      for (let tap = 0; tap < weights.length; tap++, from += 4) {
        const weight = weights[tap];
        red += data[from] * weight;
        green += data[from + 1] * weight;
        blue += data[from + 2] * weight;
      }
      made[to] = red >> BITS;
      made[to + 1] = green >> BITS;
      made[to + 2] = blue >> BITS;
      made[to + 3] = 255;
      to += 4;
    }
  }
  return made;
}

async function heightened(data, width, height, wanted, filter, step) {
  const made = new Uint8ClampedArray(width * wanted * 4);
  const sums = new Int32Array(width * 4);
  const places = fixedTaps(filter, height, wanted);
  for (let y = 0; y < wanted; y++) {
    if (y % LINES === 0) await step(0.5 + (y / wanted) * 0.5);
    const { first, weights } = places[y];
    sums.fill(1 << (BITS - 1));
    for (let tap = 0; tap < weights.length; tap++) {
      const weight = weights[tap];
      let from = (first + tap) * width * 4;
      for (let x = 0; x < width * 4; x++, from++) sums[x] += data[from] * weight;
    }
    let to = y * width * 4;
    for (let x = 0; x < width * 4; x++, to++) made[to] = sums[x] >> BITS;
  }
  return made;
}

/** Means of blocks of `factor` pixels a side, those at the right and bottom of what is there: three planes. */
export function reduced({ width, height, data }, factor) {
  const [columns, rows] = [Math.ceil(width / factor), Math.ceil(height / factor)];
  const planes = [0, 1, 2].map(() => new Float32Array(columns * rows));
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const right = Math.min(width, (column + 1) * factor);
      const bottom = Math.min(height, (row + 1) * factor);
      const sums = [0, 0, 0];
      for (let y = row * factor; y < bottom; y++) {
        for (let at = (y * width + column * factor) * 4; at < (y * width + right) * 4; at += 4) {
          sums[0] += data[at];
          sums[1] += data[at + 1];
          sums[2] += data[at + 2];
        }
      }
      const count = (right - column * factor) * (bottom - row * factor);
      const multiplier = Math.floor(2 ** 24 / count);
      sums.forEach((sum, channel) => {
        planes[channel][row * columns + column] = Math.floor(((sum + (count >> 1)) * multiplier) / 2 ** 24);
      });
    }
  }
  return { width: columns, height: rows, planes };
}

/** A picture whose longer side has at most so many pixels, never larger than it is. */
export async function shrink(picture, longest, step) {
  const scale = longest / Math.max(picture.width, picture.height);
  if (scale >= 1) return picture;
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, round(side * scale)));
  return resize(picture, width, height, "lanczos", step);
}
