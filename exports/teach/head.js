// A new last layer: logistic regression on the means of fire9's map, as training/head.py has it.
'use strict';

const DECAY = 2e-4;  // of the weights, in the metric of the old layer
const ITERATIONS = 100, MEMORY = 10;
const FOLDS = 5;
const UNKNOWN_SHARE = 0.05;  // of what is recognised rightly may be called unknown

// --- the metric ----------------------------------------------------------------------------------

// {directions, values, rest} of the bytes that teach_page.py makes: directions are unit vectors.
function openMetric(bytes, values, rest) {
  const size = values.length && bytes.length / values.length;
  const directions = values.map((_, i) => {
    const row = Float64Array.from(new Int8Array(bytes.buffer, bytes.byteOffset + i * size, size));
    const length = Math.sqrt(dot(row, row));
    return row.map((x) => x / length);
  });
  return { directions, values, rest };
}

// rest * x + sum of (value - rest) * (direction . x) * direction: symmetric, so its own transpose.
function applyMetric({ directions, values, rest }, x) {
  const out = Float64Array.from(x, (value) => rest * value);
  directions.forEach((direction, i) => {
    const factor = (values[i] - rest) * dot(direction, x);
    for (let k = 0; k < out.length; k++) out[k] += factor * direction[k];
  });
  return out;
}

function dot(x, y) {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] * y[i];
  return sum;
}

// --- the convex problem --------------------------------------------------------------------------

// {weight: one Float64Array a class, bias} with the least mean loss, each class counting alike.
function fitHead(features, labels, classes, metric) {
  const size = features[0].length, mean = meanOf(features);
  const rows = features.map((row) => applyMetric(metric, row.map((x, i) => x - mean[i])));
  const scale = 1 / Math.sqrt(rows.reduce((sum, x) => sum + dot(x, x), 0) / rows.length || 1);
  const x = new Float32Array(rows.length * size);
  rows.forEach((row, i) => x.set(row.map((value) => value * scale), i * size));
  const flat = minimise(makeLoss(x, labels, classes, size), classes * (size + 1));
  const weight = [], bias = [];
  for (let c = 0; c < classes; c++) {
    const part = applyMetric(metric, flat.subarray(c * size, (c + 1) * size));
    weight.push(part.map((value) => value * scale));
    bias.push(flat[classes * size + c] - dot(weight[c], mean));
  }
  return { weight, bias };
}

function meanOf(rows) {
  const mean = new Float64Array(rows[0].length);
  for (const row of rows) for (let i = 0; i < mean.length; i++) mean[i] += row[i] / rows.length;
  return mean;
}

// Function (flat weights then biases, gradient to fill) -> the loss.
function makeLoss(x, labels, classes, size) {
  const counts = new Array(classes).fill(0);
  for (const label of labels) counts[label]++;
  const present = counts.filter((count) => count).length;
  const logits = new Float64Array(classes);
  return (flat, gradient) => {
    let loss = 0;
    for (let i = 0; i < classes * size; i++) {
      loss += DECAY / 2 * flat[i] * flat[i];
      gradient[i] = DECAY * flat[i];
    }
    gradient.fill(0, classes * size);
    for (let n = 0; n < labels.length; n++) {
      const importance = 1 / (counts[labels[n]] * present);
      for (let c = 0; c < classes; c++) {
        logits[c] = dotAt(flat, c * size, x, n * size, size) + flat[classes * size + c];
      }
      const chances = softmax(logits);
      loss -= importance * Math.log(Math.max(chances[labels[n]], 1e-300));
      for (let c = 0; c < classes; c++) {
        const slope = importance * (chances[c] - (c === labels[n] ? 1 : 0));
        addAt(gradient, c * size, slope, x, n * size, size);
        gradient[classes * size + c] += slope;
      }
    }
    return loss;
  };
}

function dotAt(x, i, y, j, count) {
  let even = 0, odd = 0;
  for (let k = 0; k < count; k += 2) {
    even += x[i + k] * y[j + k];
    odd += x[i + k + 1] * y[j + k + 1];
  }
  return even + odd;
}

function addAt(x, i, factor, y, j, count) {
  for (let k = 0; k < count; k++) x[i + k] += factor * y[j + k];
}

// Where a smooth convex function is least, by L-BFGS (Nocedal and Wright, algorithm 7.5).
function minimise(lossOf, size) {
  let x = new Float64Array(size), gradient = new Float64Array(size), steps = [];
  let value = lossOf(x, gradient);
  const first = largest(gradient);
  for (let iteration = 0; iteration < ITERATIONS; iteration++) {
    const direction = twoLoops(gradient, steps).map((d) => -d), slope = dot(gradient, direction);
    const next = searchLine(lossOf, x, value, direction, slope);
    if (!next) break;
    const move = next.x.map((to, i) => to - x[i]);
    const change = next.gradient.map((to, i) => to - gradient[i]);
    if (dot(move, change) > 1e-10 * Math.sqrt(dot(move, move) * dot(change, change))) {
      steps = [...steps.slice(1 - MEMORY), { move, change, product: dot(move, change) }];
    }
    ({ x, value, gradient } = next);
    if (largest(gradient) < 1e-5 * first) break;
  }
  return x;
}

// Halves the step until the value falls enough (Armijo); null if it never does.
function searchLine(lossOf, x, value, direction, slope) {
  for (let length = 1, tries = 0; tries < 20; length /= 2, tries++) {
    const to = x.map((at, i) => at + length * direction[i]), gradient = new Float64Array(x.length);
    const found = lossOf(to, gradient);
    if (found <= value + 1e-4 * length * slope) return { x: to, value: found, gradient };
  }
  return null;
}

const largest = (x) => x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

// The gradient times the inverse curvature that the last steps showed (algorithm 7.4).
function twoLoops(gradient, steps) {
  if (!steps.length) {
    const length = Math.max(Math.sqrt(dot(gradient, gradient)), 1e-12);
    return gradient.map((g) => g / length);
  }
  const result = gradient.slice(), factors = [];
  for (const { move, change, product } of [...steps].reverse()) {
    factors.push(dot(move, result) / product);
    addAt(result, 0, -factors[factors.length - 1], change, 0, result.length);
  }
  const last = steps[steps.length - 1], scale = last.product / dot(last.change, last.change);
  for (let i = 0; i < result.length; i++) result[i] *= scale;
  for (const { move, change, product } of steps) {
    addAt(result, 0, factors.pop() - dot(change, result) / product, move, 0, result.length);
  }
  return result;
}

function probabilitiesOf({ weight, bias }, features) {
  return softmax(weight.map((row, c) => dot(row, features) + bias[c]));
}

// --- how good it is ------------------------------------------------------------------------------

// A picture is {label, views: [centre, ...]}. {head, held, threshold}: `held` are each picture's
// probabilities by a head that was fitted without it, or null where a class has one picture only.
function teach(pictures, classes, metric) {
  const head = fitPictures(pictures, classes, metric);
  const counts = new Array(classes).fill(0);
  for (const { label } of pictures) counts[label]++;
  if (Math.min(...counts) < 2) return { head, held: null, threshold: 0 };
  const seen = new Array(classes).fill(0), held = [];
  const fold = pictures.map(({ label }) => seen[label]++ % FOLDS);
  for (let k = 0; k < FOLDS; k++) {
    const without = pictures.filter((_, i) => fold[i] !== k);
    if (without.length === pictures.length) continue;
    const part = fitPictures(without, classes, metric);
    pictures.forEach(({ views }, i) => {
      if (fold[i] === k) held[i] = probabilitiesOf(part, views[0]);
    });
  }
  return { head, held, threshold: thresholdOf(pictures, held) };
}

function fitPictures(pictures, classes, metric) {
  const features = pictures.flatMap(({ views }) => views);
  const labels = pictures.flatMap(({ label, views }) => views.map(() => label));
  return fitHead(features, labels, classes, metric);
}

// What all but UNKNOWN_SHARE of the pictures that are recognised rightly reach.
function thresholdOf(pictures, held) {
  const right = pictures.flatMap(({ label }, i) => best(held[i]) === label ? [held[i][label]] : []);
  if (right.length < 20) return 0;  // too few to tell
  right.sort((a, b) => a - b);
  return Math.floor(100 * right[Math.floor(UNKNOWN_SHARE * right.length)]) / 100;
}

const best = (values) => values.indexOf(Math.max(...values));

// The 95 % interval of a share, after Wilson (1927).
function wilson(right, count, z = 1.959964) {
  const share = right / count, square = z * z / count;
  const middle = (share + square / 2) / (1 + square);
  const half = z / (1 + square) * Math.sqrt(share * (1 - share) / count + square / (4 * count));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}
