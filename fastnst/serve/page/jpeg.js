// Pixels as a baseline JPEG with colors in full size; a canvas would halve them. Tables are those of the standard
// (ITU-T T.81, annex K), so that values are those that libjpeg writes at the same quality.

const ZIGZAG = zigzag();

// Annex K.1, row by row.
const BRIGHTNESS = [
  16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
  87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
  72, 92, 95, 98, 112, 100, 103, 99,
];
const COLOR = [
  [17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99],
];

// Annex K.3: how many codes have 1 to 16 bits, and what they stand for.
const DC = [
  { counts: [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], values: [...Array(12).keys()] },
  { counts: [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], values: [...Array(12).keys()] },
];
const AC = [
  {
    counts: [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d],
    values: acValues("01020300041105122131410613516107227114328191A1082342B1C11552D1F02433627282090A"),
  },
  {
    counts: [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77],
    values: acValues("0001020311040521310612415107617113223281081442" + "91A1B1C109233352F0156272D10A162434E125F1"),
  },
];

/** A picture as a Blob, of a quality 1 to 100; transparency is to be on white already. */
export async function encodeJpeg({ width, height, data }, quality, step = () => {}) {
  const tables = [BRIGHTNESS, Array.from({ length: 64 }, (_, i) => COLOR[i >> 3]?.[i & 7] ?? 99)].map((table) =>
    scaled(table, quality),
  );
  const bits = new Bits();
  const before = [0, 0, 0];
  const planes = [0, 1, 2].map(() => new Int32Array(64));
  const codes = [0, 1].map((table) => [codesOf(DC[table]), codesOf(AC[table])]);
  for (let top = 0; top < height; top += 8) {
    await step(top / height);
    for (let left = 0; left < width; left += 8) {
      readBlock(data, width, height, left, top, planes);
      planes.forEach((plane, channel) => {
        const table = channel === 0 ? 0 : 1;
        before[channel] = writeBlock(bits, transformed(plane, tables[table]), before[channel], codes[table]);
      });
    }
  }
  return new Blob([headers(width, height, tables), bits.finished(), Uint8Array.of(0xff, 0xd9)], { type: "image/jpeg" });
}

function zigzag() {
  const order = [...Array(64).keys()];
  const diagonal = (i) => (i >> 3) + (i & 7);
  const along = (i) => (diagonal(i) % 2 ? i >> 3 : i & 7);
  return order.sort((a, b) => diagonal(a) - diagonal(b) || along(a) - along(b));
}

/** All values of a table of AC codes: those that begin it, and the others in order. */
function acValues(first) {
  const begin = first.match(/../g).map((pair) => parseInt(pair, 16));
  const all = [...Array(256).keys()].filter((value) => value & 15 && (value & 15) <= 10);
  return [...begin, ...all.filter((value) => !begin.includes(value))];
}

function scaled(table, quality) {
  const scale = quality < 50 ? Math.floor(5000 / quality) : 200 - 2 * quality;
  return table.map((value) => Math.min(255, Math.max(1, Math.floor((value * scale + 50) / 100))));
}

/** Brightness and the two differences of color of a block, from -128, in the fixed point that libjpeg rounds with. */
function readBlock(data, width, height, left, top, [bright, blue, red]) {
  for (let i = 0; i < 64; i++) {
    const [x, y] = [Math.min(width - 1, left + (i & 7)), Math.min(height - 1, top + (i >> 3))];
    const at = 4 * (y * width + x);
    const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
    bright[i] = ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16) - 128;
    blue[i] = (-11059 * r - 21709 * g + 32768 * b + 32767) >> 16;
    red[i] = (32768 * r - 27439 * g - 5329 * b + 32767) >> 16;
  }
}

const MADE = new Int32Array(64);

/** The cosine transform of a block, divided by a table and rounded, in the order in which it is written. */
function transformed(block, table) {
  for (let row = 0; row < 64; row += 8) transform(block, row, 1, 2, 11);
  for (let column = 0; column < 8; column++) transform(block, column, 8, -2, 15);
  for (let place = 0; place < 64; place++) {
    const at = ZIGZAG[place];
    const divisor = 8 * table[at];
    const value = Math.floor((Math.abs(block[at]) + divisor / 2) / divisor);
    MADE[place] = block[at] < 0 ? -value : value;
  }
  return MADE;
}

/**
 * Eight values in place, in 13 bits of fixed point. Source: Loeffler, Ligtenberg and Moschytz 1989, "Practical fast 1-D
 * DCT algorithms with 11 multiplications", rounded where libjpeg rounds.
 */
function transform(d, at, by, bits, shift) {
  const down = (value) => (value + (1 << (shift - 1))) >> shift;
  const whole = (value) => (bits > 0 ? value << bits : (value + 2) >> 2);
  const v = (i) => d[at + i * by];
  const [s0, s1, s2, s3] = [v(0) + v(7), v(1) + v(6), v(2) + v(5), v(3) + v(4)];
  const [d0, d1, d2, d3] = [v(0) - v(7), v(1) - v(6), v(2) - v(5), v(3) - v(4)];
  const [even, odd] = [s0 - s3, s1 - s2];
  const turn = (even + odd) * 4433;
  const all = (d0 + d1 + d2 + d3) * 9633;
  const [far, near] = [(d0 + d3) * -7373, (d1 + d2) * -20995];
  const [first, second] = [(d1 + d3) * -16069 + all, (d0 + d2) * -3196 + all];
  d[at] = whole(s0 + s1 + s2 + s3);
  d[at + 4 * by] = whole(s0 + s3 - s1 - s2);
  d[at + 2 * by] = down(turn + even * 6270);
  d[at + 6 * by] = down(turn - odd * 15137);
  d[at + 7 * by] = down(d3 * 2446 + far + first);
  d[at + 5 * by] = down(d2 * 16819 + near + second);
  d[at + 3 * by] = down(d1 * 25172 + near + first);
  d[at + by] = down(d0 * 12299 + far + second);
}

/** Codes and their lengths by what they stand for. */
function codesOf({ counts, values }) {
  const made = [];
  let [code, place] = [0, 0];
  counts.forEach((count, length) => {
    for (let i = 0; i < count; i++) made[values[place++]] = [code++, length + 1];
    code <<= 1;
  });
  return made;
}

function writeBlock(bits, values, before, [dc, ac]) {
  const number = (codes, run, value) => {
    const size = 32 - Math.clz32(Math.abs(value));
    bits.write(...codes[16 * run + size]);
    if (size) bits.write(value < 0 ? value + (1 << size) - 1 : value, size);
  };
  number(dc, 0, values[0] - before);
  let run = 0;
  for (let place = 1; place < 64; place++) {
    if (!values[place]) {
      run++;
      continue;
    }
    for (; run > 15; run -= 16) bits.write(...ac[0xf0]);
    number(ac, run, values[place]);
    run = 0;
  }
  if (run) bits.write(...ac[0]);
  return values[0];
}

class Bits {
  bytes = new Uint8Array(1 << 16);
  length = 0;
  held = 0;
  count = 0;

  write(value, size) {
    this.held = (this.held << size) | value;
    this.count += size;
    while (this.count >= 8) this.#put((this.held >> (this.count -= 8)) & 0xff);
    this.held &= (1 << this.count) - 1;
  }

  finished() {
    if (this.count) this.write((1 << (8 - this.count)) - 1, 8 - this.count);
    return this.bytes.subarray(0, this.length);
  }

  #put(byte) {
    if (this.length + 2 > this.bytes.length) {
      const larger = new Uint8Array(2 * this.bytes.length);
      larger.set(this.bytes);
      this.bytes = larger;
    }
    this.bytes[this.length++] = byte;
    if (byte === 0xff) this.bytes[this.length++] = 0; // or it would begin a marker
  }
}

function headers(width, height, tables) {
  const two = (value) => [value >> 8, value & 255];
  const segment = (marker, ...content) => [0xff, marker, ...two(content.length + 2), ...content];
  const sides = [...two(height), ...two(width)];
  return Uint8Array.from([
    ...[0xff, 0xd8],
    ...segment(0xe0, 0x4a, 0x46, 0x49, 0x46, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0),
    ...tables.flatMap((table, i) => segment(0xdb, i, ...ZIGZAG.map((at) => table[at]))),
    ...segment(0xc0, 8, ...sides, 3, 1, 0x11, 0, 2, 0x11, 1, 3, 0x11, 1),
    ...[DC, AC].flatMap((pair, kind) =>
      pair.flatMap(({ counts, values }, i) => segment(0xc4, 16 * kind + i, ...counts, ...values)),
    ),
    ...segment(0xda, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0),
  ]);
}
