// Where the network sees a class in a picture.
'use strict';

const DIMMED = 0.4;  // of the dark where nothing of the class is seen: 60 % of the light remain

// A canvas over a class's `values` {width, height, data}: clear where the network saw the class.
function drawMap(values, small, { rows, conv10_pad, preprocessing }) {
  const { first, step } = mapPlace(rows, conv10_pad), size = preprocessing.crop;
  const { left, top } = cropPlace(small, size);
  const largest = Math.max(values.data.reduce((a, b) => Math.max(a, b)), 1e-9);
  const canvas = new OffscreenCanvas(small.width, small.height), context = canvas.getContext('2d');
  const image = context.createImageData(small.width, small.height);
  for (let y = -top, to = 0; y < small.height - top; y++) {
    for (let x = -left; x < small.width - left; x++, to += 4) {
      const inside = x >= 0 && x < size && y >= 0 && y < size;
      const place = [(x - first) / step, (y - first) / step];
      const seen = Math.min(Math.max(inside ? between(values, ...place) / largest : 0, 0), 1);
      image.data.set([10, 14, 36, 255 * DIMMED * (1 - seen)], to);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// The values of one channel of a blob.
function channelOf({ plane, width, height, data }, channel) {
  return { width, height, data: data.subarray(channel * plane, channel * plane + width * height) };
}

// Where conv10's places have their centres in the input: first, first + step, ...
function mapPlace(rows, pad) {
  let first = 0, step = 1;
  for (const row of rows) {
    if (row.kind === 'Fire') continue;
    const [kernel, stride] = row.kind === 'MaxPool' ? [3, 2] : [row.kernel, row.stride];
    first += (kernel - 1) / 2 * step;
    step *= stride;
  }
  return { first: first - pad * step, step };
}

// Bilinear; beyond the outermost centres it stays as it is there.
function between({ width, height, data: values }, x, y) {
  x = Math.min(Math.max(x, 0), width - 1);
  y = Math.min(Math.max(y, 0), height - 1);
  const left = Math.min(Math.floor(x), Math.max(width - 2, 0)), a = x - left;
  const top = Math.min(Math.floor(y), Math.max(height - 2, 0)), b = y - top;
  const right = Math.min(left + 1, width - 1), bottom = Math.min(top + 1, height - 1);
  const upper = values[top * width + left] * (1 - a) + values[top * width + right] * a;
  const lower = values[bottom * width + left] * (1 - a) + values[bottom * width + right] * a;
  return upper * (1 - b) + lower * b;
}
