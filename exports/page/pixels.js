// From a file, or the camera, to pixels.
'use strict';

const MOST_PIXELS = 16e6;  // of a canvas, on phones
const LONGEST = 20;  // times as long as wide: such pictures are refused

// Colours as they stand in the file, as OpenCV takes them; transparent places on white.
async function readPicture(file) {
  const plain = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' };
  const bitmap = await createImageBitmap(file, plain).catch(() => { throw new Error('noPicture'); });
  try {
    return pixelsOf(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

function pixelsOf(source, width, height) {
  if (Math.max(width, height) > LONGEST * Math.min(width, height)) throw new Error('thin');
  const shrink = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const canvas = new OffscreenCanvas(Math.floor(width * shrink), Math.floor(height * shrink));
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
