// What a worker does: features of pictures, and the fit; the engine's modules stand before it.
'use strict';

const THUMBNAIL = 144;  // pixels
let work = null;  // {about, network, metric}

onmessage = async ({ data: { kind, ...question } }) => {
  try {
    postMessage({ result: await { open, see, teach: learn }[kind](question) });
  } catch (error) {
    postMessage({ error: error.message });
  }
};

async function open({ about, model, metric }) {
  work = {
    about,
    network: await openFeatures(about, model),
    metric: openMetric(bytesOf(metric, about.metric_bytes), about.metric_values, about.metric_rest),
  };
}

// `source` is a file or a bitmap. {views, thumbnail, map, small, picture}, of which the last three
// are there if `mapped`.
async function see({ source, mirrored, thumbnail, mapped }) {
  const { about, network } = work;
  const picture = await (source instanceof Blob ? readPicture(source) : takeBitmap(source));
  const small = resize(picture, about.preprocessing);
  const input = networkInput(small, about.preprocessing);
  const map = network(input);
  const views = [meanFeatures(map, about.conv10_pad)];
  if (mirrored) views.push(meanFeatures(network(mirror(input)), about.conv10_pad));
  return {
    views,
    thumbnail: thumbnail && await thumbnailOf(small),
    ...mapped && { map, small: { width: small.width, height: small.height }, picture },
  };
}

function takeBitmap(bitmap) {
  const picture = pixelsOf(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  return picture;
}

async function thumbnailOf({ width, height, data }) {
  const whole = new OffscreenCanvas(width, height), side = Math.min(width, height);
  whole.getContext('2d').putImageData(new ImageData(data, width, height), 0, 0);
  const canvas = new OffscreenCanvas(THUMBNAIL, THUMBNAIL);
  const place = [(width - side) / 2, (height - side) / 2, side, side, 0, 0, THUMBNAIL, THUMBNAIL];
  canvas.getContext('2d').drawImage(whole, ...place);
  const blob = await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.8 });
  return new FileReaderSync().readAsDataURL(blob);
}

function learn({ pictures, classes }) {
  return teach(pictures, classes, work.metric);
}
