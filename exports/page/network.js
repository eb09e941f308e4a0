// The network in plain JavaScript: a SqueezeNet from pixels to logits, on one core, in typed arrays.
//
// A blob is {channels, height, width, plane, data}: Float32Array, a channel every `plane` numbers
// (height * width, rounded up to whole tiles). Sums are kept in float64, as JavaScript has them.
'use strict';

const TILE = 4;  // outputs x pixels that are summed at once, in registers
const PANEL = 64;  // pixels whose inputs are gathered at once, to stay in the cache

const roundUp = (count) => Math.ceil(count / TILE) * TILE;

function makeBlob(channels, height, width) {
  const plane = roundUp(height * width);
  return { channels, height, width, plane, data: new Float32Array(roundUp(channels) * plane) };
}

// A convolution whose weights [outputs, inputs * kernel * kernel] stand in the order of use: for
// four outputs at a time the four weights of each input.
function makeConvolution(weight, bias, { kernel = 1, stride = 1, pad = 0, relu = true } = {}) {
  const outputs = bias.length, inputs = weight.length / outputs;
  const weights = new Float32Array(roundUp(outputs) * inputs);
  for (let o = 0; o < outputs; o++) {
    const start = (o - o % TILE) * inputs + o % TILE;
    for (let k = 0; k < inputs; k++) weights[start + k * TILE] = weight[o * inputs + k];
  }
  const biases = new Float32Array(roundUp(outputs));
  biases.set(bias);
  return { outputs, inputs, weights, biases, kernel, stride, pad, relu };
}

// `into` is a blob that takes the outputs from its channel `first` on; by default a new one.
function convolve(x, layer, into = null, first = 0) {
  const { kernel, stride, pad, inputs } = layer;
  const height = Math.floor((x.height + 2 * pad - kernel) / stride) + 1;
  const width = Math.floor((x.width + 2 * pad - kernel) / stride) + 1;
  const out = into || makeBlob(layer.outputs, height, width);
  const panel = new Float32Array(PANEL * inputs);
  for (let start = 0; start < height * width; start += PANEL) {
    const pixels = Math.min(PANEL, out.plane - start);
    gather(x, layer, width, start, pixels, panel);
    for (let o = 0; o < layer.outputs; o += TILE) {
      for (let p = 0; p < pixels; p += TILE) {
        const place = (first + o) * out.plane + start + p;
        multiply(layer.weights, o * inputs, panel, p * inputs, inputs, layer.biases, o,
          layer.relu, out.data, place, out.plane);
      }
    }
  }
  return out;
}

// panel: for four pixels at a time the four values of each input, zeros outside of the picture.
function gather(x, { kernel, stride, pad, inputs }, width, start, pixels, panel) {
  const data = x.data;
  for (let p = 0; p < pixels; p++) {
    const top = Math.floor((start + p) / width) * stride - pad;
    const left = (start + p) % width * stride - pad;
    let to = (p - p % TILE) * inputs + p % TILE;
    for (let c = 0; c < x.channels; c++) {
      for (let row = top; row < top + kernel; row++) {
        const inRow = row >= 0 && row < x.height;
        const from = c * x.plane + row * x.width;
        for (let column = left; column < left + kernel; column++, to += TILE) {
          panel[to] = inRow && column >= 0 && column < x.width ? data[from + column] : 0;
        }
      }
    }
  }
}

// Four outputs of four pixels: out = bias + sum over `count` inputs of weight * x.
function multiply(w, i, x, j, count, bias, o, relu, out, to, plane) {
  let a0 = bias[o], a1 = a0, a2 = a0, a3 = a0;
  let b0 = bias[o + 1], b1 = b0, b2 = b0, b3 = b0;
  let c0 = bias[o + 2], c1 = c0, c2 = c0, c3 = c0;
  let d0 = bias[o + 3], d1 = d0, d2 = d0, d3 = d0;
  for (const end = i + TILE * count; i < end; i += TILE, j += TILE) {
    const x0 = x[j], x1 = x[j + 1], x2 = x[j + 2], x3 = x[j + 3];
    const a = w[i], b = w[i + 1], c = w[i + 2], d = w[i + 3];
    a0 += a * x0; a1 += a * x1; a2 += a * x2; a3 += a * x3;
    b0 += b * x0; b1 += b * x1; b2 += b * x2; b3 += b * x3;
    c0 += c * x0; c1 += c * x1; c2 += c * x2; c3 += c * x3;
    d0 += d * x0; d1 += d * x1; d2 += d * x2; d3 += d * x3;
  }
  store(out, to, a0, a1, a2, a3, relu);
  store(out, to + plane, b0, b1, b2, b3, relu);
  store(out, to + 2 * plane, c0, c1, c2, c3, relu);
  store(out, to + 3 * plane, d0, d1, d2, d3, relu);
}

function store(out, to, v0, v1, v2, v3, relu) {
  out[to] = relu && v0 < 0 ? 0 : v0;
  out[to + 1] = relu && v1 < 0 ? 0 : v1;
  out[to + 2] = relu && v2 < 0 ? 0 : v2;
  out[to + 3] = relu && v3 < 0 ? 0 : v3;
}

// 3x3, stride 2; the output size is rounded up, as in Caffe.
function maxPool(x) {
  const height = Math.ceil((x.height - 3) / 2) + 1, width = Math.ceil((x.width - 3) / 2) + 1;
  const out = makeBlob(x.channels, height, width);
  for (let c = 0; c < x.channels; c++) {
    for (let row = 0; row < height; row++) {
      const bottom = Math.min(2 * row + 3, x.height);
      for (let column = 0; column < width; column++) {
        const right = Math.min(2 * column + 3, x.width);
        let largest = -Infinity;
        for (let y = 2 * row; y < bottom; y++) {
          const from = c * x.plane + y * x.width;
          for (let i = from + 2 * column; i < from + right; i++) {
            if (x.data[i] > largest) largest = x.data[i];
          }
        }
        out.data[c * out.plane + row * width + column] = largest;
      }
    }
  }
  return out;
}

function addTo(x, y) {
  for (let i = 0; i < x.data.length; i++) x.data[i] += y.data[i];
}

// [name, outputs, inputs] of each convolution, in the order of the packed file.
function convolutionShapes(rows) {
  return rows.flatMap(({ kind, name, in_channels: inputs, ...row }) => {
    if (kind === 'MaxPool') return [];
    if (kind === 'Conv') return [[name, row.out_channels, inputs * row.kernel ** 2]];
    const { s1x1, e1x1, e3x3 } = row;
    const shapes = [[`${name}.squeeze1x1`, s1x1, inputs], [`${name}.expand1x1`, e1x1, s1x1],
      [`${name}.expand3x3`, e3x3, s1x1 * 9]];
    if (row.bypass === 'complex') shapes.push([`${name}.bypass1x1`, e1x1 + e3x3, inputs]);
    return shapes;
  });
}

// A network from the rows of its table and {name: {weight, bias}}: a function from a blob to
// {map, logits}, conv10's blob and the mean of each of its channels.
function makeNetwork(rows, tensors, { conv10_pad, conv10_relu }) {
  const convolution = (name, how) => makeConvolution(tensors[name].weight, tensors[name].bias, how);
  const steps = rows.map((row) => {
    if (row.kind === 'MaxPool') return maxPool;
    if (row.kind === 'Fire') return makeFire(row, convolution);
    const last = row.name === 'conv10';
    const pad = last ? conv10_pad : 0, relu = last ? conv10_relu : true;
    const layer = convolution(row.name, { kernel: row.kernel, stride: row.stride, pad, relu });
    return (x) => convolve(x, layer);
  });
  return (x) => {
    const map = steps.reduce((blob, step) => step(blob), x);
    return { map, logits: means(map) };
  };
}

function makeFire({ name, bypass, e1x1, e3x3 }, convolution) {
  const squeeze = convolution(`${name}.squeeze1x1`);
  const small = convolution(`${name}.expand1x1`);
  const large = convolution(`${name}.expand3x3`, { kernel: 3, pad: 1 });
  const around = bypass === 'complex' && convolution(`${name}.bypass1x1`, { relu: false });
  return (x) => {
    const squeezed = convolve(x, squeeze);
    const out = makeBlob(e1x1 + e3x3, x.height, x.width);
    convolve(squeezed, small, out);
    convolve(squeezed, large, out, e1x1);
    if (bypass) addTo(out, around ? convolve(x, around) : x);
    return out;
  };
}

function means({ channels, height, width, plane, data }) {
  return Float32Array.from({ length: channels }, (_, c) => {
    let sum = 0;
    for (let i = 0; i < height * width; i++) sum += data[c * plane + i];
    return sum / (height * width);
  });
}

function softmax(logits, temperature = 1) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const powers = Array.from(logits, (logit) => Math.exp((logit - largest) / temperature));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}
