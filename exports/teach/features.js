// The network up to fire9, whose means a new last layer is fitted on.
'use strict';

// A function from a blob to fire9's map.
async function openFeatures(about, modelText) {
  const rows = about.rows.filter(({ name }) => name !== 'conv10');
  const tensors = await unpack(bytesOf(modelText, about.model_bytes), convolutionShapes(rows));
  const network = makeNetwork(rows, tensors, about);
  return (input) => network(input).map;
}

// As conv10 with its padding sees the means: Float32Array, one number a channel.
function meanFeatures(map, pad) {
  const places = map.height * map.width / ((map.height + 2 * pad) * (map.width + 2 * pad));
  return means(map).map((mean) => mean * places);
}

function mirror({ channels, height, width, plane, data }) {
  const out = makeBlob(channels, height, width);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < height; y++) {
      const start = c * plane + y * width;
      for (let x = 0; x < width; x++) out.data[start + x] = data[start + width - 1 - x];
    }
  }
  return out;
}
