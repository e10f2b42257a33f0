// Whose colors a painting has: the photo's by brightness or by histogram, and colors that fit into 0..255.

export const LUMA = [0.299, 0.587, 0.114]; // ITU-R BT.601

const ROWS = 64; // between two looks at whether to stop

export function luma(red, green, blue) {
  return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue;
}

/**
 * Write a color into RGBA pixels, clipped and rounded by them; one outside 0..255 is moved straight towards the gray
 * of the same luma until it fits.
 */
export function writeFitted(data, at, red, green, blue) {
  const gray = Math.min(255, Math.max(0, luma(red, green, blue)));
  const [r, g, b] = [red - gray, green - gray, blue - gray];
  const above = Math.max(r, g, b);
  const below = -Math.min(r, g, b);
  let fits = 1;
  if (above > 255 - gray) fits = (255 - gray) / above;
  if (below * fits > gray) fits = gray / below;
  data[at] = gray + r * fits;
  data[at + 1] = gray + g * fits;
  data[at + 2] = gray + b * fits;
  data[at + 3] = 255;
}

/** Brightness of the stylized picture, colors of the content. */
export async function keepLumaColors(content, stylized, step = () => {}) {
  const { width, height, data: before } = content;
  const after = stylized.data;
  const data = new Uint8ClampedArray(before.length);
  for (let y = 0; y < height; y++) {
    if (y % ROWS === 0) await step(y / height);
    for (let at = y * width * 4; at < (y + 1) * width * 4; at += 4) {
      const brighter = luma(after[at] - before[at], after[at + 1] - before[at + 1], after[at + 2] - before[at + 2]);
      writeFitted(data, at, before[at] + brighter, before[at + 1] + brighter, before[at + 2] + brighter);
    }
  }
  return { width, height, data };
}

/** The stylized picture with its mean color and color covariance moved to those of the content. */
export async function keepHistogramColors(content, stylized, step = () => {}) {
  return matchColors(stylized, statistics(stylized), statistics(content), step);
}

/** The mean (3) and covariance (3 x 3) of a picture's colors, 0..1; sums are of integers, so exact. */
export function statistics({ width, height, data }) {
  const total = [0, 0, 0];
  const products = new Float64Array(9);
  for (let at = 0; at < data.length; at += 4) {
    for (let i = 0; i < 3; i++) {
      total[i] += data[at + i];
      for (let j = i; j < 3; j++) products[3 * i + j] += data[at + i] * data[at + j];
    }
  }
  const count = width * height;
  const mean = total.map((sum) => sum / count);
  const covariance = [0, 1, 2].map((i) =>
    [0, 1, 2].map((j) => (products[3 * Math.min(i, j) + Math.max(i, j)] / count - mean[i] * mean[j]) / 255 ** 2),
  );
  return { mean: mean.map((value) => value / 255), covariance };
}

/** Pixels moved from their own statistics to wanted ones. */
async function matchColors(picture, own, wanted, step) {
  const matrix = product(inverse(squareRoot(own.covariance)), squareRoot(wanted.covariance));
  const offset = [0, 1, 2].map(
    (i) => 255 * (wanted.mean[i] - own.mean.reduce((sum, value, j) => sum + value * matrix[j][i], 0)),
  );
  const [[rr, rg, rb], [gr, gg, gb], [br, bg, bb]] = matrix;
  const { width, height, data: given } = picture;
  const data = new Uint8ClampedArray(given.length);
  for (let y = 0; y < height; y++) {
    if (y % ROWS === 0) await step(y / height);
    for (let at = y * width * 4; at < (y + 1) * width * 4; at += 4) {
      const [red, green, blue] = [given[at], given[at + 1], given[at + 2]];
      writeFitted(
        data,
        at,
        red * rr + green * gr + blue * br + offset[0],
        red * rg + green * gg + blue * bg + offset[1],
        red * rb + green * gb + blue * bb + offset[2],
      );
    }
  }
  return { width, height, data };
}

/** The symmetric square root of a covariance, by Jacobi's rotations. */
function squareRoot(covariance) {
  // A little of every color, so that gray pictures keep an invertible matrix.
  const a = covariance.map((row, i) => row.map((value, j) => value + (i === j ? 1e-5 : 0)));
  const vectors = [0, 1, 2].map((i) => [0, 1, 2].map((j) => Number(i === j)));
  for (let sweep = 0; sweep < 30; sweep++) {
    for (const [p, q] of [[0, 1], [0, 2], [1, 2]]) {
      if (Math.abs(a[p][q]) < 1e-18) continue;
      const angle = 0.5 * Math.atan2(2 * a[p][q], a[q][q] - a[p][p]);
      const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
      for (let k = 0; k < 3; k++) [a[k][p], a[k][q]] = turned(a[k][p], a[k][q], cosine, sine);
      for (let k = 0; k < 3; k++) [a[p][k], a[q][k]] = turned(a[p][k], a[q][k], cosine, sine);
      for (let k = 0; k < 3; k++) [vectors[k][p], vectors[k][q]] = turned(vectors[k][p], vectors[k][q], cosine, sine);
    }
  }
  const roots = [0, 1, 2].map((i) => Math.sqrt(Math.max(0, a[i][i])));
  return [0, 1, 2].map((i) =>
    [0, 1, 2].map((j) => roots.reduce((sum, root, k) => sum + vectors[i][k] * root * vectors[j][k], 0)),
  );
}

function turned(x, y, cosine, sine) {
  return [cosine * x - sine * y, sine * x + cosine * y];
}

function inverse(m) {
  const minor = (i, j) => {
    const [a, b] = [0, 1, 2].filter((row) => row !== i);
    const [c, d] = [0, 1, 2].filter((column) => column !== j);
    return ((i + j) % 2 ? -1 : 1) * (m[a][c] * m[b][d] - m[a][d] * m[b][c]);
  };
  const determinant = [0, 1, 2].reduce((sum, j) => sum + m[0][j] * minor(0, j), 0);
  return [0, 1, 2].map((i) => [0, 1, 2].map((j) => minor(j, i) / determinant));
}

function product(a, b) {
  return a.map((row) => [0, 1, 2].map((j) => row.reduce((sum, value, k) => sum + value * b[k][j], 0)));
}
