// One style between two: each weight the mean of theirs, as fastnst stylize --mix does.

import { floatConstant, floats, ModelError, writeModel } from "./onnx.js";

const RELATED = 0.5; // likeness of kernels that mix; those of strangers have about 0

/**
 * The file of a network between two, of which the second has a share, 0..1; what is not learned, such as a margin, is
 * that of the first.
 *
 * Kernels may be stored as learned or as applied: what makes one of the other is linear, so the mean is the same, but
 * for the lengths that kernels before a norm are brought to, which are then those of the applied ones.
 * Throws ModelError for networks of different shapes, and for those that were not trained from the same start.
 */
export function mixed(one, other, share) {
  if (!sameNetwork(one, other)) {
    throw new ModelError("these styles are networks of different shapes, which do not mix");
  }
  if (likeness(one, other) < RELATED) {
    throw new ModelError("these styles were not trained from the same start, so they do not mix");
  }
  const constants = new Map();
  for (const [name, constant] of one.constants) {
    const [a, b] = isNamed(name) ? [constant, other.constants.get(name)].map(floats) : [null, null];
    const times = one.constants.has(normAfter(name)) ? length(a) / Math.max(length(b), 1e-30) : 1;
    // In float32 even where both are stored as float16: the graph casts to that first of all.
    constants.set(name, a ? floatConstant(name, constant.shape, mean(a, b, times, share)) : constant);
  }
  return writeModel({ ...one, constants });
}

function sameNetwork(one, other) {
  const [ours, theirs] = [one, other].map((model) => [...model.constants.keys()].filter(isNamed));
  return (
    ours.length === theirs.length &&
    ours.every((name) => sameConstant(one.constants.get(name), other.constants.get(name)))
  );
}

/** Whether a constant is a weight, or belongs to one; others are numbered, and which has which depends on the graph. */
function isNamed(name) {
  return name.includes(".") && !name.startsWith("constant.");
}

function sameConstant(a, b) {
  if (!b || a.kind !== b.kind || a.shape.join() !== b.shape.join()) return false;
  return floats(a) !== null || sameBytes(a.bytes, b.bytes);
}

function sameBytes(a, b) {
  return a.length === b.length && a.every((byte, place) => byte === b[place]);
}

/** Cosine of the angle between the kernels of two networks. */
function likeness(one, other) {
  let both = 0;
  let ones = 0;
  let others = 0;
  for (const [name, constant] of one.constants) {
    if (constant.shape.length !== 4 || !isNamed(name)) continue;
    const [a, b] = [constant, other.constants.get(name)].map(floats);
    for (let i = 0; i < a.length; i++) {
      both += a[i] * b[i];
      ones += a[i] * a[i];
      others += b[i] * b[i];
    }
  }
  return both / Math.max(Math.sqrt(ones * others), 1e-30);
}

/** What the norm behind a kernel is called, where there is one; it makes the kernel's length unimportant. */
function normAfter(name) {
  if (name.startsWith("paint.weight")) return "paint_norm.weight";
  return name.includes(".conv.weight") ? name.replace(/conv\.weight.*/, "norm.weight") : null;
}

function length(values) {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

/** The mean of values and of others times a factor, of which the others have a share. */
function mean(a, b, times, share) {
  return a.map((value, place) => value + (b[place] * times - value) * share);
}
