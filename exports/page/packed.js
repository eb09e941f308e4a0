// The packed file of compress.py: from its bytes to weights. models/packed.py describes the format.
'use strict';

const HEAD = 44;  // bytes before the header: magic, version, sha256, length of the header
const SIDES = ['row_steps', 'column_steps', 'row_classes', 'column_classes', 'bias_low',
  'bias_high'];
const BASES = [0, 256, 16, 6, 4, 3];  // levels to a byte: how many symbols each can be

// {config, tensors} of a file's bytes; tensors: {name: {weight, bias}}, Float32Arrays. `shapes`:
// [name, outputs, inputs] of each convolution, in order. Throws an Error for a damaged file.
async function unpack(bytes, shapes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== 0x1a5a5153 || view.getUint32(4, true) !== 1) {
    throw new Error('not a packed network of version 1');
  }
  if (sha256(bytes.subarray(40)).some((byte, i) => byte !== bytes[8 + i])) {
    throw new Error('the network is damaged: its checksum does not fit');
  }
  const start = HEAD + view.getUint32(40, true);
  const header = JSON.parse(new TextDecoder().decode(await inflate(bytes.subarray(HEAD, start))));
  const streams = await Promise.all(cut(bytes, start, header.lengths).map(inflate));
  const layers = splitSides(shapes, streams);
  const classes = streams.slice(SIDES.length, -1).map((s, i) => symbols(s, header.packing[i]));
  addExtra(classes, header.packing, streams[streams.length - 1]);
  const taken = classes.map(() => 0);
  const tensors = {};
  layers.forEach((layer, i) => {
    const [exponent, biasExponent, dependent] = header.layers[i];
    const levels = takeLevels(layer, classes, taken);
    if (dependent) makeDependent(levels, layer.column_steps);
    const rows = steps(layer.row_steps, header.row_bits, 0);
    const columns = steps(layer.column_steps, header.column_bits, exponent);
    tensors[layer.name] = {
      weight: Float32Array.from(levels, (level, at) => {
        const column = at % columns.length;
        return Math.fround(level * rows[(at - column) / columns.length]) * columns[column];
      }),
      bias: Float32Array.from(layer.bias_low, (low, o) =>
        (low | layer.bias_high[o] << 24 >> 16) * 2 ** biasExponent),
    };
  });
  return { config: header.config, tensors };
}

function cut(bytes, start, lengths) {
  return lengths.map((length) => bytes.subarray(start, start += length));
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// One {name, row_steps, ...} for each convolution.
function splitSides(shapes, streams) {
  const layers = shapes.map(([name]) => ({ name }));
  SIDES.forEach((side, i) => {
    const counts = shapes.map(([, rows, columns]) => side.startsWith('column') ? columns : rows);
    cut(streams[i], 0, counts).forEach((part, layer) => { layers[layer][side] = part; });
  });
  return layers;
}

function symbols(stream, packing) {
  const found = new Uint16Array(stream.length * packing), base = BASES[packing];
  for (let i = 0; i < stream.length; i++) {
    for (let byte = stream[i], n = 0; n < packing; n++, byte = Math.floor(byte / base)) {
      found[i * packing + n] = byte % base;
    }
  }
  return found;
}

function addExtra(classes, packing, stream) {
  let at = 0;
  classes.forEach((found, i) => {
    const last = BASES[packing[i]] - 1;
    for (let n = 0; n < found.length; n++) {
      if (found[n] === last) found[n] += stream[at++] | stream[at++] << 8;
    }
  });
}

// The levels of one layer, Int32Array, row by row; a symbol is a level in zigzag.
function takeLevels({ row_classes: rows, column_classes: columns }, classes, taken) {
  const levels = new Int32Array(rows.length * columns.length);
  for (let at = 0, row = 0; row < rows.length; row++) {
    for (let column = 0; column < columns.length; column++, at++) {
      const kind = rows[row] + columns[column];
      const symbol = classes[kind][taken[kind]++];
      levels[at] = symbol & 1 ? symbol + 1 >> 1 : -(symbol >> 1);
    }
  }
  return levels;
}

// Levels of the dependent quantiser to integers: 2 k - q sign(k), where q is the parity of the sum
// of the levels one, three, five ... places before, in the order of the columns' steps.
function makeDependent(levels, columnSteps) {
  const order = Array.from(columnSteps, (_, i) => i);
  order.sort((a, b) => columnSteps[a] - columnSteps[b] || a - b);
  for (let start = 0; start < levels.length; start += order.length) {
    let one = 0, two = 0;  // parities: of what stands 1, 3, 5 ... and 2, 4, 6 ... places before
    for (const column of order) {
      const level = levels[start + column];
      levels[start + column] = 2 * level - one * Math.sign(level);
      [one, two] = [two ^ level & 1, one];
    }
  }
}

function steps(bytes, bits, exponent) {
  const part = 2 ** bits;
  return Float32Array.from(bytes, (a) => (1 + a % part / part) * 2 ** ((a >> bits) + exponent));
}

// --- bytes ---------------------------------------------------------------------------------------

// Bytes from text of seven bits a character; of what HTML would change, only these bits count.
function bytesOf(text, length) {
  const bytes = new Uint8Array(length);
  for (let i = 0, at = 0, held = 0, bits = 0; at < length; i++) {
    held = held << 7 | text.charCodeAt(i) & 127;
    bits += 7;
    if (bits >= 8) {
      bits -= 8;
      bytes[at++] = held >> bits;
      held &= (1 << bits) - 1;
    }
  }
  return bytes;
}

// FIPS 180-4
function sha256(bytes) {
  const fraction = (x) => (x - Math.floor(x)) * 2 ** 32 | 0;
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const constants = primes.map((prime) => fraction(Math.cbrt(prime)));
  const state = Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
  const padded = new DataView(new ArrayBuffer(Math.ceil((bytes.length + 9) / 64) * 64));
  new Uint8Array(padded.buffer).set(bytes);
  padded.setUint8(bytes.length, 128);
  padded.setUint32(padded.byteLength - 4, bytes.length * 8);
  const words = new Int32Array(64);
  for (let at = 0; at < padded.byteLength; at += 64) {
    for (let i = 0; i < 16; i++) words[i] = padded.getInt32(at + 4 * i);
    mix(state, words, constants);
  }
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => digest.setInt32(4 * i, word));
  return new Uint8Array(digest.buffer);
}

function mix(state, words, constants) {
  const turn = (x, n) => x >>> n | x << 32 - n;
  for (let i = 16; i < 64; i++) {
    const early = words[i - 15], late = words[i - 2];
    words[i] = words[i - 16] + (turn(early, 7) ^ turn(early, 18) ^ early >>> 3)
      + words[i - 7] + (turn(late, 17) ^ turn(late, 19) ^ late >>> 10);
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const first = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g)
      + constants[i] + words[i];
    const second = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c);
    [h, g, f, e, d, c, b, a] = [g, f, e, d + first | 0, c, b, a, first + second | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => { state[i] += word; });
}
