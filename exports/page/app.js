// The page: takes pictures by file, drop, paste and camera; shows classes and where they were seen.
'use strict';

const $ = (id) => document.getElementById(id);
const about = JSON.parse($('about').textContent);
let words = WORDS[/^zh/i.test(navigator.language) ? 'zh' : 'en'];
let shown = null;  // {picture, small, answer, chosen} of what is on the page
let status = ['loading'];

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
  const size = Math.round((about.model_bytes + (about.head_bytes || 0)) / 1000);
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
  const likeliest = shown.answer.probabilities[shown.answer.ranking[0]];
  const rows = likeliest < about.threshold ? [makeRow(words.unknown, '', 1 - likeliest)] : [];
  rows.push(...shown.answer.ranking.map((number) => {
    const [name, ...others] = names[number].split(', ');
    const probability = shown.answer.probabilities[number];
    return makeRow(name, others.join(', '), probability, () => {
      shown.chosen = number;
      showClasses(names);
      draw();
    }, number === shown.chosen);
  }));
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
    const map = drawMap(channelOf(answer.map, chosen), small, about);
    context.drawImage(map, 0, 0, canvas.width, canvas.height);
  }
  $('map').hidden = canvas.hidden = false;
  $('stage').classList.remove('empty');
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
const ready = openModel(about, $('names').textContent, $('model').textContent, $('head').textContent);
ready.then(() => say('ready'), (error) => {
  $('status').textContent = words.broken + error.message;
  $('status').classList.add('error');
});
