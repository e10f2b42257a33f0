// ONNX files read and written: nodes, constants, ends, metadata. The numbers are those of onnx.proto.

import { fields, message, text, varints } from "./protobuf.js";

export const FLOAT32 = 1;
export const UINT8 = 2;
export const INT64 = 7;
export const FLOAT16 = 10;

export const LARGEST = 64 << 20; // bytes; a float32 style of the largest preset has 7 MB

/** What the file of a style is not, in one sentence. */
export class ModelError extends Error {}

/**
 * A file as { irVersion, opsets, nodes, constants, inputs, outputs, metadata }; nodes and constants keep their bytes.
 *
 * Throws ModelError for what is no ONNX file, or one that reads other files.
 */
export function readModel(data) {
  const model = { irVersion: 8, opsets: [], nodes: [], constants: new Map(), inputs: [], outputs: [], metadata: {} };
  try {
    for (const [number, value] of fields(data)) {
      if (number === 1) model.irVersion = value;
      else if (number === 7) readGraph(value, model);
      else if (number === 8) model.opsets.push(value);
      else if (number === 14) Object.assign(model.metadata, pair(value));
      else if (number === 20 || number === 25) throw new RangeError("it trains or defines operators");
    }
  } catch (error) {
    if (error instanceof ModelError) throw error;
    throw new ModelError(`it is not a readable ONNX file (${error.message})`);
  }
  if (!model.nodes.length) throw new ModelError("it is not an ONNX file with a network in it");
  return model;
}

function readGraph(data, model) {
  for (const [number, value] of fields(data)) {
    if (number === 1) {
      model.nodes.push(readNode(value));
    } else if (number === 5) {
      const constant = readConstant(value);
      model.constants.set(constant.name, constant);
    } else if (number === 11) {
      model.inputs.push(readEnd(value));
    } else if (number === 12) {
      model.outputs.push(readEnd(value));
    } else if (number === 15) {
      throw new RangeError("it holds sparse weights");
    }
  }
  model.inputs = model.inputs.filter((input) => !model.constants.has(input.name));
}

function readNode(bytes) {
  const node = { bytes, operator: "", inputs: [], outputs: [], attributes: {} };
  for (const [number, value] of fields(bytes)) {
    if (number === 1) node.inputs.push(text(value));
    else if (number === 2) node.outputs.push(text(value));
    else if (number === 4) node.operator = text(value);
    else if (number === 5) Object.assign(node.attributes, readAttribute(value));
    else if (number === 7 && value.length && text(value) !== "ai.onnx") {
      throw new ModelError(`it needs operators of ${JSON.stringify(text(value))}`);
    }
  }
  return node;
}

/** An attribute that is an integer or several; others are passed on as bytes and need not be known. */
function readAttribute(bytes) {
  let name = "";
  let one;
  const several = [];
  for (const [number, value] of fields(bytes)) {
    if (number === 1) name = text(value);
    else if (number === 3) one = value;
    else if (number === 6 || number === 11) throw new RangeError("it holds graphs within its graph");
    else if (number === 8) several.push(...(typeof value === "number" ? [value] : varints(value)));
  }
  return { [name]: one ?? several };
}

function readConstant(bytes) {
  const constant = { bytes, name: "", kind: 0, shape: [], raw: null };
  for (const [number, value] of fields(bytes)) {
    if (number === 1) constant.shape.push(...(typeof value === "number" ? [value] : varints(value)));
    else if (number === 2) constant.kind = value;
    else if (number === 8) constant.name = text(value);
    else if (number === 9) constant.raw = value;
    else if (number === 13 || (number === 14 && value !== 0)) {
      throw new ModelError("it keeps weights in other files");
    }
  }
  return constant;
}

/** Name, element type and sides of an input or output; a side without a number is free, null. */
function readEnd(bytes) {
  const end = { bytes, name: "", kind: 0, shape: [] };
  for (const [number, value] of fields(bytes)) {
    if (number === 1) end.name = text(value);
    if (number !== 2) continue;
    for (const tensor of inner(value, 1)) {
      for (const [key, held] of fields(tensor)) {
        if (key === 1) end.kind = held;
        if (key !== 2) continue;
        for (const side of inner(held, 1)) {
          const known = [...fields(side)].find(([part]) => part === 1);
          end.shape.push(known ? known[1] : null);
        }
      }
    }
  }
  return end;
}

function* inner(data, wanted) {
  for (const [number, value] of fields(data)) if (number === wanted && typeof value !== "number") yield value;
}

function pair(data) {
  const [key, value] = [1, 2].map((wanted) => [...inner(data, wanted)].map(text).join(""));
  return { [key]: value };
}

/** The values of a float constant as float32, null for one of another type or in typed fields. */
export function floats(constant) {
  const { raw, kind } = constant;
  if (!raw) return null;
  if (kind === FLOAT32) return new Float32Array(raw.slice().buffer);
  if (kind === FLOAT16) return Float32Array.from(new Uint16Array(raw.slice().buffer), halfToFloat);
  return null;
}

/** The values of an int64 constant as numbers. */
export function integers(constant) {
  return constant?.raw && constant.kind === INT64
    ? Array.from(new BigInt64Array(constant.raw.slice().buffer), Number)
    : null;
}

function halfToFloat(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** A float32 constant. */
export function floatConstant(name, shape, values) {
  const raw = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bytes = message([...shape.map((side) => [1, side]), [2, FLOAT32], [8, name], [9, raw]]);
  return { bytes, name, kind: FLOAT32, shape, raw };
}

/** An input or output of a rank and an element type, all its sides free. */
export function freeEnd(name, kind, rank) {
  const shape = message(Array.from({ length: rank }, () => [1, new Uint8Array(0)]));
  return { name, kind, bytes: message([[1, name], [2, message([[1, message([[1, kind], [2, shape]])]])]]) };
}

/** A model as the bytes of a file. */
export function writeModel({ irVersion, opsets, nodes, constants, inputs, outputs, metadata = {} }) {
  const graph = message([
    ...nodes.map((node) => [1, node.bytes]),
    [2, "fastnst"],
    ...[...constants.values()].map((constant) => [5, constant.bytes]),
    ...inputs.map((end) => [11, end.bytes]),
    ...outputs.map((end) => [12, end.bytes]),
  ]);
  return message([
    [1, irVersion],
    [2, "fastnst"],
    [7, graph],
    ...opsets.map((opset) => [8, opset]),
    ...Object.entries(metadata).map(([key, value]) => [14, message([[1, key], [2, value]])]),
  ]);
}

/**
 * Whether an exported style takes uint8 (N, H, W, 3) rather than float (N, 3, H, W).
 *
 * Throws ModelError for a network that is no style of fastnst.
 */
export function takesBytes(model) {
  if (!("fastnst" in model.metadata)) {
    throw new ModelError("it was not exported by fastnst; turn its original into one with fastnst import and export");
  }
  const [takes, gives] = [model.inputs, model.outputs].map((ends) => (ends.length === 1 ? ends[0] : null));
  const free = (end, channel, sides) =>
    end?.shape.length === 4 && end.shape[channel] === 3 && sides.every((side) => end.shape[side] === null);
  if (takes && gives && takes.kind === gives.kind) {
    if (takes.kind === FLOAT32 && free(takes, 1, [2, 3])) return false;
    if (takes.kind === UINT8 && free(takes, 3, [1, 2])) return true;
  }
  throw new ModelError("it does not take and give pictures of any size; export the style again");
}
