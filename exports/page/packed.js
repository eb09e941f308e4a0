// The packed file of compress.py: from its bytes to weights. models/formats/packed.py describes the format.
'use strict';

const HEAD = 44;  // bytes before the header: magic, version, sha256, length of the header
const SIDES = ['row_steps', 'column_steps', 'row_classes', 'column_classes', 'bias_low',
  'bias_high'];
const NOT_IN_HTML = [0, 13, 60];  // NUL, CR, <
const BASES = [0, 256, 16, 6, 4, 3];  // levels to a byte: how many symbols each can be

// {name: {weight, bias}} as Float32Arrays of a file's bytes. `shapes`: [name, outputs, inputs] of
// each convolution, in order. Throws an Error for a damaged file.
async function unpack(bytes, shapes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== 0x1a5a5153 || view.getUint32(4, true) !== 1) {
    throw new Error('not a packed network of version 1');
  }
  await checkSum(bytes.subarray(40), bytes.subarray(8, 40));
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
  return tensors;
}

async function checkSum(bytes, wanted) {
  if (!globalThis.crypto?.subtle) return;  // as in pages that a server gives without https
  const found = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  if (found.some((byte, i) => byte !== wanted[i])) throw new Error('its checksum does not fit');
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
// of the levels one, three, five ... places before; in order of the columns' steps, largest first.
function makeDependent(levels, columnSteps) {
  const order = Array.from(columnSteps, (_, i) => i);
  order.sort((a, b) => columnSteps[b] - columnSteps[a] || a - b);
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

// Bytes from the text that web_page.py makes of them: seven bits a character, or sixteen.
function bytesOf(text, length) {
  const bytes = new Uint8Array(length);
  for (let i = 0, at = 0, held = 0, bits = 0; i < text.length; i++) {
    const code = text.charCodeAt(i), long = code >= 256;
    const value = long ? NOT_IN_HTML[code - 256 >> 9] << 9 | code - 256 & 511 : code;
    held = held << (long ? 16 : 7) | value;
    for (bits += long ? 16 : 7; bits >= 8; held &= (1 << bits) - 1) {
      bits -= 8;
      bytes[at++] = held >> bits;
    }
  }
  return bytes;
}
