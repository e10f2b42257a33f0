// Pixels as a PNG of exactly these values; a canvas would change the colors of what is transparent.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

const ROWS = 128; // of a piece that is compressed at once

/** A picture, its alpha (H, W) or null, as a Blob. */
export async function encodePng({ width, height, data }, alpha, step = () => {}) {
  const channels = alpha ? 4 : 3;
  const packed = new CompressionStream("deflate"); // in zlib's format, as PNG wants it
  const compressed = new Response(packed.readable).arrayBuffer();
  const writer = packed.writable.getWriter();
  const line = channels * width;
  let above = new Uint8Array(line);
  for (let top = 0; top < height; top += ROWS) {
    await step(top / height);
    const rows = Math.min(ROWS, height - top);
    const piece = new Uint8Array(rows * (line + 1));
    for (let row = 0; row < rows; row++) {
      const current = pixelRow(data, alpha, top + row, width, channels);
      filter(current, above, channels, piece.subarray(row * (line + 1), (row + 1) * (line + 1)));
      above = current;
    }
    await writer.write(piece);
  }
  await writer.close();
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8);
  header.setUint8(9, alpha ? 6 : 2);
  return new Blob(
    [
      Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
      chunk("IHDR", new Uint8Array(header.buffer)),
      chunk("IDAT", new Uint8Array(await compressed)),
      chunk("IEND", new Uint8Array(0)),
    ],
    { type: "image/png" },
  );
}

function pixelRow(data, alpha, y, width, channels) {
  const row = new Uint8Array(channels * width);
  let from = 4 * y * width;
  for (let x = 0, to = 0; x < width; x++, from += 4, to += channels) {
    row[to] = data[from];
    row[to + 1] = data[from + 1];
    row[to + 2] = data[from + 2];
    if (alpha) row[to + 3] = alpha[y * width + x];
  }
  return row;
}

/** A row as differences to the left, above, or what Paeth guesses from both: whichever are smallest. */
function filter(row, above, channels, into) {
  const length = row.length;
  const made = [1, 2, 4].map((number) => ({ number, bytes: new Uint8Array(length), sum: 0 }));
  const [left, up, both] = made.map(({ bytes }) => bytes);
  for (let i = 0; i < length; i++) {
    const a = i < channels ? 0 : row[i - channels];
    const b = above[i];
    const c = i < channels ? 0 : above[i - channels];
    left[i] = row[i] - a;
    up[i] = row[i] - b;
    const pa = Math.abs(b - c);
    const pb = Math.abs(a - c);
    const pc = Math.abs(a + b - 2 * c);
    both[i] = row[i] - (pa <= pb && pa <= pc ? a : pb <= pc ? b : c);
  }
  for (const way of made) for (const byte of way.bytes) way.sum += byte < 128 ? byte : 256 - byte;
  const best = made.reduce((one, other) => (other.sum < one.sum ? other : one));
  into[0] = best.number;
  into.set(best.bytes, 1);
}

function chunk(name, data) {
  const whole = new Uint8Array(12 + data.length);
  const view = new DataView(whole.buffer);
  view.setUint32(0, data.length);
  whole.set(new TextEncoder().encode(name), 4);
  whole.set(data, 8);
  let sum = 0xffffffff;
  for (const byte of whole.subarray(4, 8 + data.length)) sum = TABLE[(sum ^ byte) & 0xff] ^ (sum >>> 8);
  view.setUint32(8 + data.length, ~sum >>> 0);
  return whole;
}
