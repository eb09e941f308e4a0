// Pictures as reader.py makes them ready: bilinear as OpenCV's INTER_LINEAR does it, to the last bit.
//
// A picture is {width, height, data}: uint8 RGBA, as a canvas gives it; A is not looked at.
'use strict';

function resize(picture, { resize: how, resize_size: size, crop }) {
  const { width, height } = picture;
  if (how === 'none') {
    if (Math.min(width, height) < crop) throw new Error('small');
    return picture;
  }
  const scale = size / Math.min(width, height);
  const side = (length) => how === 'warp' ? size : Math.max(size, roundHalfEven(length * scale));
  return bilinear(picture, side(width), side(height));
}

function roundHalfEven(x) {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below + below % 2;
}

function bilinear(picture, width, height) {
  if (picture.width === width && picture.height === height) return picture;
  if (picture.width === 2 * width && picture.height === 2 * height) return halve(picture);
  const columns = weigh(picture.width, width), rows = weigh(picture.height, height);
  const out = { width, height, data: new Uint8ClampedArray(width * height * 4) };
  for (let y = 0, to = 0; y < height; y++) {
    const upper = rows.first[y] * picture.width * 4, lower = rows.second[y] * picture.width * 4;
    const a = rows.weight[y], b = rows.other[y];
    for (let x = 0; x < width; x++) {
      const left = columns.first[x] * 4, right = columns.second[x] * 4;
      const c = columns.weight[x], d = columns.other[x];
      for (let i = 0; i < 4; i++, to++) {
        const above = picture.data[upper + left + i] * c + picture.data[upper + right + i] * d;
        const below = picture.data[lower + left + i] * c + picture.data[lower + right + i] * d;
        out.data[to] = (a * (above >> 4) >> 16) + (b * (below >> 4) >> 16) + 2 >> 2;
      }
    }
  }
  return out;
}

// For each new pixel its two old ones and their weights, in 2048ths (OpenCV: resize.cpp).
function weigh(from, to) {
  const first = new Int32Array(to), second = new Int32Array(to);
  const weight = new Int32Array(to), other = new Int32Array(to);
  for (let i = 0; i < to; i++) {
    const at = Math.fround((i + 0.5) * (from / to) - 0.5);
    const inside = at >= 0 && Math.floor(at) < from - 1;
    first[i] = Math.min(Math.max(Math.floor(at), 0), from - 1);
    second[i] = inside ? first[i] + 1 : first[i];
    const part = inside ? Math.fround(at - first[i]) : 0;
    weight[i] = roundHalfEven(Math.fround(1 - part) * 2048);
    other[i] = roundHalfEven(part * 2048);
  }
  return { first, second, weight, other };
}

// OpenCV takes the mean of four pixels where the size is halved exactly.
function halve({ width, height, data }) {
  const out = { width: width / 2, height: height / 2 };
  out.data = new Uint8ClampedArray(out.width * out.height * 4);
  for (let i = 0; i < out.data.length; i++) {
    const x = (i >> 2) % out.width, y = Math.floor((i >> 2) / out.width);
    const at = (2 * y * width + 2 * x) * 4 + i % 4;
    const sum = data[at] + data[at + 4] + data[at + 4 * width] + data[at + 4 * width + 4];
    out.data[i] = sum + 2 >> 2;
  }
  return out;
}

// Where the centre crop lies: {left, top}.
function cropPlace({ width, height }, size) {
  return { left: Math.floor((width - size) / 2), top: Math.floor((height - size) / 2) };
}

// The centre crop as the network takes it: scale * (pixel - mean), in its channel order.
function networkInput(picture, { crop, mean, scale, channel_order }) {
  const { left, top } = cropPlace(picture, crop);
  const blob = makeBlob(3, crop, crop);
  const channels = channel_order === 'BGR' ? [2, 1, 0] : [0, 1, 2];
  channels.forEach((channel, c) => {
    for (let y = 0; y < crop; y++) {
      for (let x = 0; x < crop; x++) {
        const pixel = picture.data[((top + y) * picture.width + left + x) * 4 + channel];
        blob.data[c * blob.plane + y * crop + x] = scale * Math.fround(pixel - Math.fround(mean[c]));
      }
    }
  });
  return blob;
}
