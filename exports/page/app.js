// The page: takes pictures by file, drop, paste and camera; shows classes and where they were seen.
'use strict';

const MOST_PIXELS = 16e6;  // of a canvas, on phones
const LONGEST = 20;  // times as long as wide: such pictures are refused

const $ = (id) => document.getElementById(id);
const about = JSON.parse($('about').textContent);
let words = WORDS[/^zh/i.test(navigator.language) ? 'zh' : 'en'];
let shown = null;  // {picture, small, answer, chosen} of what is on the page
let status = ['loading'];

// --- from a file, or the camera, to pixels -------------------------------------------------------

// Colours as they stand in the file, as OpenCV takes them; transparent places on white.
async function readPicture(file) {
  const plain = { colorSpaceConversion: 'none', premultiplyAlpha: 'none' };
  const bitmap = await createImageBitmap(file, plain).catch(() => { throw new Error('noPicture'); });
  return pixelsOf(bitmap, bitmap.width, bitmap.height);
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

// --- the page ------------------------------------------------------------------------------------

function say(...what) {
  status = what;
  const [word, ...values] = what;
  const text = words[word];
  $('status').textContent = typeof text === 'function' ? text(...values) : text;
  $('status').classList.toggle('error', ['noPicture', 'noFile', 'small', 'thin', 'noCamera']
    .includes(word));
}

function speak() {
  document.documentElement.lang = words === WORDS.zh ? 'zh-CN' : 'en';
  for (const element of document.querySelectorAll('[data-words]')) {
    element.textContent = words[element.dataset.words];
  }
  const size = Math.round(about.model_bytes / 1000);
  $('subtitle').textContent = words.subtitle(about.class_num, size);
  $('language').textContent = words.other;
  say(...status);
}

const painted = () => new Promise((done) => setTimeout(done, 30));

async function show(getPicture) {
  const model = await ready;
  try {
    say('looking');
    const picture = await getPicture();
    await painted();
    const start = performance.now();
    const { small, answer } = look(model, about.preprocessing, picture);
    say('took', ((performance.now() - start) / 1000).toFixed(2));
    shown = { picture, small, answer, chosen: answer.ranking[0] };
    showClasses(model.names);
    draw();
  } catch (error) {
    if (!(error.message in words)) throw error;
    say(error.message, about.preprocessing.crop);
  }
}

function showClasses(names) {
  const rows = shown.answer.ranking.map((number) => {
    const [name, ...others] = names[number].split(', ');
    const probability = shown.answer.probabilities[number];
    return makeRow(name, others.join(', '), probability, () => {
      shown.chosen = number;
      showClasses(names);
      draw();
    }, number === shown.chosen);
  });
  $('classes').classList.remove('waiting');
  $('classes').replaceChildren(...rows);
}

function makeRow(name, others, probability, choose, chosen) {
  const row = document.createElement('li');
  row.innerHTML = '<button type="button"><span class="name"></span><span class="share"></span>'
    + '<span class="bar"><i></i></span></button>';
  const label = row.querySelector('.name');
  label.textContent = name;
  if (others) {
    const small = document.createElement('small');
    small.textContent = `  ${others}`;
    label.append(small);
  }
  row.querySelector('.share').textContent = name && `${(100 * probability).toFixed(1)} %`;
  row.querySelector('i').style.width = `${100 * probability}%`;
  row.querySelector('button').setAttribute('aria-pressed', chosen);
  row.querySelector('button').disabled = !choose;
  row.querySelector('button').onclick = choose;
  return row;
}

function draw() {
  const { picture, small, answer, chosen } = shown;
  const canvas = $('view'), context = canvas.getContext('2d');
  canvas.width = picture.width;
  canvas.height = picture.height;
  context.putImageData(new ImageData(picture.data, picture.width, picture.height), 0, 0);
  if ($('mapped').checked) {
    context.drawImage(drawMap(answer.map, chosen, small), 0, 0, canvas.width, canvas.height);
  }
  $('map').hidden = canvas.hidden = false;
  $('stage').classList.remove('empty');
}

// A class's activation map over the picture: dark where the network did not see the class.
function drawMap(map, channel, small) {
  const start = channel * map.plane, { first, step } = mapPlace(about.rows, about.conv10_pad);
  const values = map.data.subarray(start, start + map.height * map.width);
  const largest = Math.max(values.reduce((a, b) => Math.max(a, b)), 1e-9);
  const size = about.preprocessing.crop, { left, top } = cropPlace(small, size);
  const canvas = new OffscreenCanvas(small.width, small.height), context = canvas.getContext('2d');
  const image = context.createImageData(small.width, small.height);
  for (let y = -top, to = 0; y < small.height - top; y++) {
    for (let x = -left; x < small.width - left; x++, to += 4) {
      const inside = x >= 0 && x < size && y >= 0 && y < size;
      const value = inside ? between(values, map, (x - first) / step, (y - first) / step) : 0;
      const seen = Math.min(Math.max(value / largest, 0), 1);
      image.data.set([10, 14, 36, 200 * (1 - seen)], to);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
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
function between(values, { width, height }, x, y) {
  x = Math.min(Math.max(x, 0), width - 1);
  y = Math.min(Math.max(y, 0), height - 1);
  const left = Math.min(Math.floor(x), Math.max(width - 2, 0)), a = x - left;
  const top = Math.min(Math.floor(y), Math.max(height - 2, 0)), b = y - top;
  const right = Math.min(left + 1, width - 1), bottom = Math.min(top + 1, height - 1);
  const upper = values[top * width + left] * (1 - a) + values[top * width + right] * a;
  const lower = values[bottom * width + left] * (1 - a) + values[bottom * width + right] * a;
  return upper * (1 - b) + lower * b;
}

// --- the camera ----------------------------------------------------------------------------------

async function startCamera() {
  if (!navigator.mediaDevices) return $('capture').click();  // a phone's own camera
  try {
    $('video').srcObject = await navigator.mediaDevices
      .getUserMedia({ video: { facingMode: 'environment' } });
  } catch {
    return say('noCamera');
  }
  await $('video').play();
  showCamera(true);
}

function showCamera(on) {
  $('video').hidden = $('shoot').hidden = !on;
  $('choose').hidden = $('camera').hidden = on;
  $('view').hidden = on || !shown;
  $('map').hidden = on || !shown;
  $('stage').classList.toggle('empty', !on && !shown);
}

function stopCamera() {
  const video = $('video');
  if (!video.srcObject) return;
  video.srcObject.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  showCamera(false);
}

function shoot() {
  const video = $('video');
  const picture = pixelsOf(video, video.videoWidth, video.videoHeight);
  stopCamera();
  return show(() => picture);
}

// --- what a person does --------------------------------------------------------------------------

function take(files) {
  const file = [...files].find(({ type }) => type.startsWith('image/'));
  if (!file) return say('noFile');
  stopCamera();
  return show(() => readPicture(file));
}

function listen() {
  for (const input of [$('file'), $('capture')]) {
    input.onchange = () => {
      if (input.files.length) take(input.files);
      input.value = '';  // so that the same file can be chosen again
    };
  }
  $('choose').onclick = () => $('file').click();
  $('stage').onkeydown = ({ key }) => { if (key === 'Enter') $('file').click(); };
  $('camera').onclick = startCamera;
  $('shoot').onclick = shoot;
  $('mapped').onchange = draw;
  $('language').onclick = () => {
    words = words === WORDS.en ? WORDS.zh : WORDS.en;
    speak();
  };
  document.addEventListener('paste', ({ clipboardData }) => {
    if (clipboardData.files.length) take(clipboardData.files);
  });
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    $('stage').classList.add('over');
  });
  document.addEventListener('dragleave', ({ relatedTarget }) => {
    if (!relatedTarget) $('stage').classList.remove('over');
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    $('stage').classList.remove('over');
    take(event.dataTransfer.files);
  });
}

speak();
listen();
const waiting = Array.from({ length: Math.min(SHOWN, about.class_num) }, () => makeRow('', '', 0));
$('classes').classList.add('waiting');
$('classes').replaceChildren(...waiting);
const ready = openModel(about, $('names').textContent, $('model').textContent);
ready.then(() => say('ready'), (error) => {
  $('status').textContent = words.broken + error.message;
  $('status').classList.add('error');
});
