// The model that a page holds, and what it makes of a picture.
'use strict';

const SHOWN = 5;  // classes

// {names, network} of the page's texts; `about` is what web_page.py says of the model. A page that
// was taught has its names in `about`, and conv10 as text of its own: float32, weights then biases.
async function openModel(about, namesText, modelText, headText = '') {
  const shapes = convolutionShapes(about.rows);
  const packed = headText ? shapes.slice(0, -1) : shapes;
  const tensors = await unpack(bytesOf(modelText, about.model_bytes), packed);
  if (headText) tensors.conv10 = splitHead(floatsOf(headText), about.class_num);
  return {
    names: about.names || await readNames(namesText, about.names_bytes),
    network: makeNetwork(about.rows, tensors, about),
    temperature: about.temperature,
  };
}

async function readNames(text, size) {
  return JSON.parse(new TextDecoder().decode(await inflate(bytesOf(text, size))));
}

function splitHead(numbers, classes) {
  const end = numbers.length - classes;
  return { weight: numbers.subarray(0, end), bias: numbers.subarray(end) };
}

// Float32Array of base64, and back.
function floatsOf(text) {
  return new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

function textOfFloats(numbers) {
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  let text = '';
  for (let i = 0; i < bytes.length; i += 8192) {
    text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return btoa(text);
}

// {small, answer}: the picture at the size that the crop is cut from, and {map, logits,
// probabilities, ranking}: the likeliest classes' numbers.
function look(model, preprocessing, picture) {
  const small = resize(picture, preprocessing);
  const answer = model.network(networkInput(small, preprocessing));
  answer.probabilities = softmax(answer.logits, model.temperature);
  answer.ranking = Array.from(answer.logits, (_, i) => i)
    .sort((a, b) => answer.logits[b] - answer.logits[a] || a - b).slice(0, SHOWN);
  return { small, answer };
}
