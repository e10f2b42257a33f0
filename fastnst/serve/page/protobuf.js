// Protobuf messages as bytes: the numbered fields of one that is read, and one written from its fields.

const TEXT = new TextDecoder("utf-8", { fatal: true });
const BYTES = new TextEncoder();

/** Fields of a message as [number, value]: integers as numbers, everything with a length as a Uint8Array. */
export function* fields(data) {
  let at = 0;
  while (at < data.length) {
    let tag;
    [tag, at] = varint(data, at);
    const number = Math.floor(tag / 8);
    const kind = tag % 8;
    if (number < 1 || number >= 2 ** 29) throw new RangeError(`field number ${number}`);
    if (kind === 0) {
      let value;
      [value, at] = varint(data, at);
      yield [number, value];
    } else if (kind === 1 || kind === 5) {
      at += kind === 1 ? 8 : 4;
      if (at > data.length) throw new RangeError("cut off");
    } else if (kind === 2) {
      let length;
      [length, at] = varint(data, at);
      if (at + length > data.length) throw new RangeError("cut off");
      yield [number, data.subarray(at, at + length)];
      at += length;
    } else {
      throw new RangeError(`wire type ${kind}`);
    }
  }
}

/** The number that begins at a place, and the place behind it; above 2 ** 53 it is rounded. */
function varint(data, at) {
  let value = 0;
  for (let shift = 0; shift < 70; shift += 7) {
    if (at >= data.length) throw new RangeError("cut off");
    const byte = data[at++];
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
  }
  throw new RangeError("number too long");
}

/** All numbers of a packed field. */
export function varints(data) {
  const numbers = [];
  let at = 0;
  while (at < data.length) {
    let value;
    [value, at] = varint(data, at);
    numbers.push(value);
  }
  return numbers;
}

export function text(bytes) {
  return TEXT.decode(bytes);
}

/** A message of fields [number, value]: integers of 0 and more, texts, and bytes. */
export function message(content) {
  const pieces = [];
  for (const [number, value] of content) {
    if (typeof value === "number") {
      pieces.push(varintBytes(number * 8), varintBytes(value));
    } else {
      const bytes = typeof value === "string" ? BYTES.encode(value) : value;
      pieces.push(varintBytes(number * 8 + 2), varintBytes(bytes.length), bytes);
    }
  }
  return joined(pieces);
}

function varintBytes(value) {
  const septets = [];
  while (value > 0x7f) {
    septets.push((value % 128) | 0x80);
    value = Math.floor(value / 128);
  }
  return Uint8Array.from([...septets, value]);
}

export function joined(pieces) {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
