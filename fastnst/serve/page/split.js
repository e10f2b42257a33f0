// A style's graph cut into parts that run one after the other, so that progress is real and a painting can be stopped.

import { FLOAT32, freeEnd, INT64, integers, UINT8, writeModel } from "./onnx.js";

const SMALLEST_PART = 0.03; // of the whole work
const MOST_LIVE = 4; // values that go from one part to the next
const ELEMENT = 12; // multiply-adds that take about as long as reading and writing one value

/**
 * A model as [{ data, inputs, outputs, share }]: the bytes of each part, names of values, and its share of the work.
 *
 * What depends on constants only goes into every part that needs it. Returns null if the graph is not understood.
 */
export function split(model) {
  const values = describe(model);
  if (!values) return null;
  const moving = model.nodes.filter((node) => !node.outputs.every((name) => values.get(name).constant));
  const groups = cut(moving, values, model);
  if (groups.length < 2) return null;
  const work = groups.map((group) => group.reduce((sum, node) => sum + effort(node, values), 0));
  const total = work.reduce((sum, one) => sum + one, 0);
  return groups.map((group, place) => {
    const later = groups.slice(place + 1).flat();
    return { ...part(group, later, model, values), share: work[place] / total };
  });
}

/** Bytes for each pixel of the picture that the largest part holds at once, about; null if it is not understood. */
export function bytesPerPixel(model) {
  const values = describe(model);
  if (!values) return null;
  const moving = model.nodes.filter((node) => !node.outputs.every((name) => values.get(name).constant));
  let most = 0;
  moving.forEach((_, place) => {
    const held = new Set([...liveAt(moving, place, model, values), ...moving[place].outputs]);
    const bytes = [...held].reduce((sum, name) => sum + 4 * perPixel(values.get(name)), 0);
    most = Math.max(most, bytes);
  });
  return most;
}

/**
 * Each value by name: its element type, whether it is constant, its shape if so, else its channels and how many of
 * its pixels there are along a side of the picture's. Null if an operator is not known.
 */
function describe(model) {
  const values = new Map([["", { constant: true }]]);
  for (const [name, { kind, shape }] of model.constants) values.set(name, { constant: true, kind, shape });
  for (const { name, kind } of model.inputs) values.set(name, { kind, channels: 3, scale: 1, rank: 4 });
  for (const node of model.nodes) {
    const given = node.inputs.map((name) => values.get(name));
    if (given.some((value) => !value) || node.outputs.length !== 1) return null;
    const made = result(node, given, model);
    if (!made) return null;
    values.set(node.outputs[0], made);
  }
  return values;
}

function result(node, given, model) {
  const { operator, attributes } = node;
  const [first] = given;
  if (given.every((value) => value.constant)) {
    const shape = operator === "Reshape" ? integers(model.constants.get(node.inputs[1])) : first.shape;
    return { constant: true, kind: operator === "Cast" ? attributes.to : first.kind, shape };
  }
  // Of the inputs that move the one that is largest says where in the picture this is.
  const moving = given.filter((value) => !value.constant && value.rank === 4);
  const base = moving.reduce((a, b) => (b.thin && !a.thin ? a : perPixel(b) > perPixel(a) ? b : a), moving[0] ?? first);
  switch (operator) {
    case "Shape":
      return { kind: INT64, rank: 1 };
    case "Squeeze":
      return { ...first, rank: 0 };
    case "Range":
      return { kind: INT64, rank: 1 };
    case "Gather": // of noise, for each pixel
      return { kind: first.kind, channels: 1, scale: 1, rank: 2 };
    case "Cast":
      return { ...first, kind: attributes.to };
    case "Conv":
      if (!given[1].shape?.length) return null;
      return { ...base, channels: given[1].shape[0], scale: base.scale / (attributes.strides?.[0] ?? 1) };
    case "DepthToSpace":
      return { ...base, channels: base.channels / attributes.blocksize ** 2, scale: base.scale * attributes.blocksize };
    case "Slice":
      return { ...base, thin: base.thin || isStrip(node, model) };
    case "Concat":
      return first.rank === 1 ? first : { ...(moving.find((value) => !value.thin) ?? base) };
    case "Transpose":
      return first;
    case "Reshape":
      return { ...first, rank: integers(model.constants.get(node.inputs[1]))?.length ?? 4 };
    case "InstanceNormalization":
      return { ...first };
    default:
      return ELEMENTWISE.has(operator) ? { ...base } : null;
  }
}

const ELEMENTWISE = new Set(
  "Pad AveragePool Sub Add Mul Div Neg Mod Clip Relu Tanh Round Sqrt Identity LeakyRelu".split(" "),
);

/** Whether a Slice takes a few rows or columns at a border, which cost next to nothing. */
function isStrip(node, model) {
  const [start, end, axes] = node.inputs.slice(1).map((name) => integers(model.constants.get(name)));
  return axes?.length === 1 && Boolean(start && end) && (end[0] < 64 || start[0] < 0);
}

/** Values that a tensor has for each pixel of the picture. */
function perPixel(value) {
  if (value?.constant || !value?.scale || value.thin) return 0;
  return value.channels * value.scale ** 2 * (value.kind === UINT8 ? 0.25 : 1);
}

/** Multiply-adds of a node for each pixel of the picture, or as many as take about as long. */
function effort(node, values) {
  const made = values.get(node.outputs[0]);
  if (made.thin || !made.scale) return 0;
  const kernel = node.operator === "Conv" ? values.get(node.inputs[1]).shape.slice(1) : [ELEMENT];
  return perPixel({ ...made, kind: FLOAT32 }) * kernel.reduce((product, side) => product * side, 1);
}

/** Nodes in groups, each of which begins with a layer. */
function cut(moving, values, model) {
  const total = moving.reduce((sum, node) => sum + effort(node, values), 0);
  const producer = new Map(moving.map((node) => [node.outputs[0], node.operator]));
  const groups = [[]];
  let work = 0;
  moving.forEach((node, place) => {
    const begins = node.operator === "Pad" || (node.operator === "Conv" && producer.get(node.inputs[0]) !== "Pad");
    if (begins && work >= SMALLEST_PART * total && passes(liveAt(moving, place, model, values), values)) {
      groups.push([]);
      work = 0;
    }
    groups.at(-1).push(node);
    work += effort(node, values);
  });
  return groups;
}

function passes(live, values) {
  return live.length <= MOST_LIVE && live.every((name) => values.get(name).kind && values.get(name).rank);
}

/** Names of the values that are there before a node runs and are still needed by it or later ones. */
function liveAt(moving, place, model, values) {
  const made = new Set(model.inputs.map((input) => input.name));
  for (const node of moving.slice(0, place)) node.outputs.forEach((name) => made.add(name));
  const needed = new Set(moving.slice(place).flatMap((node) => node.inputs));
  return [...made].filter((name) => needed.has(name) && !values.get(name).constant);
}

function part(group, later, model, values) {
  const made = new Set(group.flatMap((node) => node.outputs));
  const used = new Set(group.flatMap((node) => node.inputs));
  const neededLater = new Set([...later.flatMap((node) => node.inputs), ...model.outputs.map((output) => output.name)]);
  const moves = (name) => !values.get(name).constant;
  const inputs = [...used].filter((name) => moves(name) && !made.has(name));
  const outputs = [...made].filter((name) => neededLater.has(name));
  const { nodes, constants } = constantPart(used, model, values);
  const ends = new Map([...model.inputs, ...model.outputs].map((end) => [end.name, end]));
  const end = (name) => ends.get(name) ?? freeEnd(name, values.get(name).kind, values.get(name).rank);
  const data = writeModel({
    irVersion: model.irVersion,
    opsets: model.opsets,
    nodes: [...nodes, ...group],
    constants,
    inputs: inputs.map(end),
    outputs: outputs.map(end),
  });
  const floating = outputs.filter((name) => values.get(name).kind !== INT64);
  return { data, inputs, outputs, floating };
}

/** The constants that some values need, and the nodes that make such of others. */
function constantPart(used, model, values) {
  const needed = new Set([...used].filter((name) => values.get(name).constant));
  const nodes = [];
  for (const node of [...model.nodes].reverse()) {
    if (!node.outputs.some((name) => needed.has(name) && values.get(name).constant)) continue;
    nodes.unshift(node);
    node.inputs.forEach((name) => needed.add(name));
  }
  return { nodes, constants: new Map([...model.constants].filter(([name]) => needed.has(name))) };
}
