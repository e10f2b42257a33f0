// Faint steps evened out before the first layer, outside the network: its AveragePool takes a third of the whole time
// in WASM, a running sum next to none.

import { FLOAT32, floats, freeEnd } from "./onnx.js";

/**
 * A model without the nodes that even out, and how they do: { model, even }, where `even` is null if it has none.
 *
 * What they made becomes an input; `image` stays one, for its size.
 */
export function withoutEvening(model) {
  const [image] = model.inputs;
  const rows = model.nodes.find((node) => node.operator === "AveragePool" && node.inputs[0] === image.name);
  const follow = (node, operator) =>
    node && model.nodes.find((next) => next.operator === operator && next.inputs.includes(node.outputs[0]));
  const mean = follow(rows, "AveragePool");
  const difference = follow(mean, "Sub");
  const limited = follow(difference, "Clip");
  const last = follow(limited, "Add");
  const contrast = limited && model.constants.get(limited.inputs[2]);
  const window = rows?.attributes.kernel_shape?.[1];
  const asKnown =
    last?.inputs.includes(image.name) &&
    rows.attributes.kernel_shape.join() === `1,${window}` &&
    mean.attributes.kernel_shape.join() === `${window},1` &&
    difference.inputs[1] === image.name &&
    image.kind === FLOAT32 &&
    contrast?.raw;
  if (!asKnown) return { model, even: null };
  const gone = new Set([rows, mean, difference, limited, last]);
  const nodes = model.nodes.filter((node) => !gone.has(node));
  const name = last.outputs[0];
  const sized = nodes.some((node) => node.inputs.includes(image.name));
  const inputs = [...(sized ? [image] : []), freeEnd(name, FLOAT32, 4)];
  const used = new Set(nodes.flatMap((node) => node.inputs));
  const constants = new Map([...model.constants].filter(([constant]) => used.has(constant)));
  return { model: { ...model, nodes, constants, inputs }, even: { window, contrast: floats(contrast)[0] } };
}

/** Each value of a plane moved up to `contrast` towards the mean of the window around it. */
export function evenOut(plane, width, height, { window, contrast }) {
  const half = window >> 1;
  const rows = new Float32Array(plane.length);
  for (let y = 0; y < height; y++) {
    running(width, half, (x) => plane[y * width + x], (x, value) => (rows[y * width + x] = value));
  }
  const sums = new Float64Array(width);
  const add = (y, sign) => {
    for (let x = 0, at = y * width; x < width; x++, at++) sums[x] += sign * rows[at];
  };
  const even = new Float32Array(plane.length);
  for (let y = 0; y < Math.min(half, height); y++) add(y, 1);
  for (let y = 0; y < height; y++) {
    if (y + half < height) add(y + half, 1);
    if (y > half) add(y - half - 1, -1);
    const count = Math.min(height - 1, y + half) - Math.max(0, y - half) + 1;
    for (let x = 0, at = y * width; x < width; x++, at++) {
      const away = sums[x] / count - plane[at];
      even[at] = plane[at] + Math.min(contrast, Math.max(-contrast, away));
    }
  }
  return even;
}

/** Means of the values up to `half` before and behind each. */
function running(length, half, get, set) {
  let sum = 0;
  for (let x = 0; x < Math.min(half, length); x++) sum += get(x);
  for (let x = 0; x < length; x++) {
    if (x + half < length) sum += get(x + half);
    if (x > half) sum -= get(x - half - 1);
    set(x, sum / (Math.min(length - 1, x + half) - Math.max(0, x - half) + 1));
  }
}
