// The page: classes and their pictures, what is learnt of them, and what it answers.
'use strict';

const HARDEST = 12;  // pictures shown
const RECORD_EVERY = 250, WAIT = 400;  // ms: between recorded pictures; after the last change
const $ = (id) => document.getElementById(id);
const about = JSON.parse($('about').textContent);
const channels = about.rows.find(({ name }) => name === 'conv10').in_channels;
let words = WORDS[/^zh/i.test(navigator.language) ? 'zh' : 'en'];
let status = ['ready'];
let classes = [];  // {name, pictures: [{thumbnail, views}], card}
let taught = null;  // {names, head, held, threshold, pictures} of the last fit
let unsaved = false, target = null, shown = null, changes = 0, timer = 0;
let work = { done: 0, all: 0, skipped: [], failure: null };

const workers = Math.max(1, Math.min(MOST_WORKERS, (navigator.hardwareConcurrency || 2) - 1));
const opening = { about, model: $('model').textContent, metric: $('metric').textContent };
const source = $('engine').textContent + $('worker').textContent;
const pool = makePool(source, workers, opening);
const fitter = makePool(source, 1, opening);

// --- words ---------------------------------------------------------------------------------------

function say(...what) {
  status = what;
  const text = words[what[0]];
  $('status').textContent = typeof text === 'function' ? text(...what.slice(1)) : text;
}

// What went wrong: a thing of the picture, which has words of its own, or of the page.
function showBroken({ message }) {
  if (isWorded(message)) say(message, about.preprocessing.crop); else say('broken', message);
}

const isWorded = (message) => Object.hasOwn(words, message);

function speak() {
  document.documentElement.lang = words === WORDS.zh ? 'zh-CN' : 'en';
  document.title = words.heading;
  for (const element of document.querySelectorAll('[data-words]')) {
    element.textContent = words[element.dataset.words];
  }
  $('language').textContent = words.other;
  classes.forEach(showClass);
  if ($('video').srcObject) $('camera').textContent = words.stop;
  showQuality();
  say(...status);
}

// --- classes -------------------------------------------------------------------------------------

function addClass(name) {
  const card = document.createElement('section'), one = { name, pictures: [], card };
  card.className = 'card';
  card.innerHTML = '<div class="class-head"><input type="text" maxlength="200" dir="auto">'
    + '<span class="count"></span><button type="button" class="quiet">×</button></div>'
    + '<div class="thumbnails"></div><div class="buttons"><button type="button"></button>'
    + '<button type="button"></button></div>';
  const [input, remove] = card.querySelectorAll('input, .class-head button');
  const [photos, hold] = card.querySelectorAll('.buttons button');
  input.value = name;
  input.oninput = () => { one.name = input.value.trim(); change(); };
  remove.onclick = () => removeClass(one);
  photos.onclick = () => { target = one; $('files').click(); };
  hold.onpointerdown = () => record(one, hold);
  hold.onkeydown = ({ key, repeat }) => {
    if ((key === ' ' || key === 'Enter') && !repeat) record(one, hold);
  };
  card.onfocusin = card.onpointerenter = () => { target = one; };
  classes.push(one);
  $('classes-list').append(card);
  showClass(one);
  return one;
}

function showClass(one) {
  const [input, remove] = one.card.querySelectorAll('input, .class-head button');
  const [photos, hold] = one.card.querySelectorAll('.buttons button');
  input.setAttribute('aria-label', words.className);
  remove.setAttribute('aria-label', words.removeClass(one.name));
  [photos.textContent, hold.textContent] = [words.photos, words.hold];
  one.card.querySelector('.count').textContent = one.pictures.length;
  one.card.querySelectorAll('.thumbnails button').forEach((button, i) => {
    button.setAttribute('aria-label', words.removePicture(one.name, i + 1));
  });
}

function removeClass(one) {
  const { name, pictures } = one;
  if (pictures.length && !confirm(words.sure(name, pictures.length))) return;
  classes = classes.filter((other) => other !== one);
  one.card.remove();
  change();
}

function thumbnailButton(picture, label, remove) {
  const button = document.createElement('button'), image = new Image();
  button.type = 'button';
  button.setAttribute('aria-label', label);
  image.src = picture.thumbnail;
  image.alt = '';
  button.append(image);
  button.onclick = remove;
  return button;
}

function addPicture(one, picture) {
  one.pictures.push(picture);
  const label = words.removePicture(one.name, one.pictures.length);
  picture.button = thumbnailButton(picture, label, () => removePicture(one, picture));
  one.card.querySelector('.thumbnails').append(picture.button);
  one.card.querySelector('.count').textContent = one.pictures.length;
  change();
}

function removePicture(one, picture) {
  one.pictures = one.pictures.filter((other) => other !== picture);
  picture.button.remove();
  showClass(one);
  change();
}

// --- pictures ------------------------------------------------------------------------------------

// Files into a class, or, where they lie in folders, into the classes of these names.
function takeFiles(found, one = null) {
  const pictures = found.filter(({ file }) => isPicture(file));
  if (!pictures.length) return say('noFile');
  if (!classes.includes(one)) one = null;  // removed since
  const folders = new Set(pictures.map(({ folder }) => folder));
  if (folders.size > 1) for (const empty of classes.filter(isUntouched)) removeClass(empty);
  return Promise.all(pictures.map(({ file, folder }) => {
    const into = one && folders.size === 1 ? one : classNamed(folder) || one || classNamed('1');
    return learnPicture(into, file, file.name);
  }));
}

const isUntouched = ({ name, pictures }) =>
  !pictures.length && [1, 2].some((n) => name === words.newClass(n));

function classNamed(folder) {
  if (!folder) return classes[0] || addClass(words.newClass(1));
  return classes.find(({ name }) => name === folder) || addClass(folder);
}

async function learnPicture(one, picture, name) {
  work.all++;
  showWork();
  try {
    const question = { source: picture, mirrored: true, thumbnail: true };
    const { views, thumbnail } = await pool.ask('see', question);
    if (classes.includes(one)) addPicture(one, { views, thumbnail });
  } catch (error) {
    if (isWorded(error.message)) work.skipped.push(name); else work.failure = error;
  }
  work.done++;
  showWork();
}

function showWork() {
  $('progress').hidden = work.done === work.all;
  $('progress').value = work.done / work.all;
  if (work.done < work.all) return say('progress', work.done, work.all);
  const { skipped, failure } = work;
  work = { done: 0, all: 0, skipped: [], failure: null };
  if (failure) showBroken(failure);
  else if (skipped.length) say('skipped', skipped.length, skipped[0]);
  return change(Boolean(failure) || skipped.length > 0);
}

// --- learning ------------------------------------------------------------------------------------

function change(quiet = false) {
  unsaved = classes.some(({ pictures }) => pictures.length);
  taught = null;
  changes++;
  for (const id of ['page', 'save-model']) $(id).disabled = true;
  $('project').disabled = !unsaved;
  clearTimeout(timer);
  if (!work.all) timer = setTimeout(() => learn(quiet).catch(showBroken), WAIT);
}

async function learn(quiet) {
  const full = classes.filter(({ pictures }) => pictures.length), now = changes;
  const names = full.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  const problem = full.length < 2 ? ['need'] : names.includes('') ? ['nameless']
    : twice !== undefined ? ['duplicate', twice] : null;
  $('quality').hidden = true;
  if (problem) return quiet || say(...problem);
  const pictures = full.flatMap(({ pictures: own }, label) =>
    own.map((picture) => ({ label, picture, one: full[label] })));
  if (!quiet) say('learning');
  const start = performance.now();
  const views = $('mirrored').checked ? 2 : 1;
  const question = pictures.map(({ label, picture }) =>
    ({ label, views: picture.views.slice(0, views) }));
  const found = await fitter.ask('teach', { pictures: question, classes: names.length });
  if (now !== changes) return null;
  taught = { ...found, names, pictures };
  for (const id of ['page', 'save-model']) $(id).disabled = false;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  if (!quiet) say('learnt', pictures.length, seconds);
  showQuality();
  if (shown) showAnswers(shown);
  return taught;
}

function showQuality() {
  $('quality').hidden = !(taught && taught.held);
  if ($('quality').hidden) return;
  const { pictures, held, threshold, names } = taught, count = pictures.length;
  const right = pictures.filter(({ label }, i) => best(held[i]) === label).length;
  const [low, high] = wilson(right, count).map((share) => (100 * share).toFixed(0));
  $('share').textContent = words.share((100 * right / count).toFixed(0));
  $('interval').textContent = words.interval(right, count, low, high)
    + (threshold ? words.threshold(Math.round(100 * threshold)) : '');
  const order = pictures.map((_, i) => i).filter((i) => held[i][pictures[i].label] < 0.5)
    .sort((a, b) => held[a][pictures[a].label] - held[b][pictures[b].label]).slice(0, HARDEST);
  $('hard').hidden = !order.length;
  $('hardest').replaceChildren(...order.map((i) => {
    const { label, picture, one } = pictures[i], other = names[best(held[i])];
    const text = words.hardest(names[label], other);
    const button = thumbnailButton(picture, text, () => removePicture(one, picture));
    button.title = text;
    return button;
  }));
}

// --- trying --------------------------------------------------------------------------------------

async function tryPicture(picture) {
  if ($('video').srcObject) stopCamera();
  try {
    shown = await pool.ask('see', { source: picture, mapped: true }, true);
    showAnswers(shown);
  } catch (error) {
    showBroken(error);
  }
}

function showAnswers({ views, picture }) {
  if (!taught) return say('need');
  const { head, names, threshold } = taught, chances = probabilitiesOf(head, views[0]);
  const order = chances.map((_, i) => i).sort((a, b) => chances[b] - chances[a]).slice(0, 5);
  const rows = order.map((i) => answerRow(names[i], chances[i]));
  const likeliest = chances[order[0]];
  if (likeliest < threshold) rows.unshift(answerRow(words.unknown, 1 - likeliest));
  $('answers').replaceChildren(...rows);
  if (picture) drawShown(order[0]);
  return null;
}

function answerRow(name, chance) {
  const row = document.createElement('li');
  row.innerHTML = '<span class="name" dir="auto"></span><span class="share"></span>'
    + '<span class="bar"><i></i></span>';
  row.querySelector('.name').textContent = name;
  row.querySelector('.share').textContent = `${(100 * chance).toFixed(1)} %`;
  row.querySelector('i').style.width = `${100 * chance}%`;
  return row;
}

function drawShown(label) {
  const { picture, small, map } = shown, canvas = $('view'), context = canvas.getContext('2d');
  [canvas.width, canvas.height] = [picture.width, picture.height];
  context.putImageData(picture, 0, 0);
  if ($('mapped').checked) {
    const layer = { kernel: 1, pad: about.conv10_pad, relu: false };
    const { weight, bias } = taught.head;
    const one = makeConvolution(weight[label], [bias[label]], layer);
    const dark = drawMap(channelOf(convolve(map, one), 0), small, about);
    context.drawImage(dark, 0, 0, canvas.width, canvas.height);
  }
  const live = Boolean($('video').srcObject);
  $('map').hidden = canvas.hidden = live;
  $('stage').classList.toggle('empty', false);
}

async function startCamera() {
  const video = $('video');
  if (video.srcObject) return true;
  try {
    video.srcObject = await navigator.mediaDevices
      .getUserMedia({ video: { facingMode: 'environment' } });
  } catch {
    say('noCamera');
    return false;
  }
  for (const track of video.srcObject.getTracks()) track.onended = stopCamera;
  await video.play();
  [video.hidden, $('view').hidden, $('map').hidden] = [false, true, true];
  $('stage').classList.remove('empty');
  $('camera').textContent = words.stop;
  answerLive();
  return true;
}

function stopCamera() {
  const video = $('video');
  for (const track of video.srcObject.getTracks()) track.stop();
  [video.srcObject, video.hidden, shown] = [null, true, null];
  $('stage').classList.add('empty');
  $('camera').textContent = words.camera;
}

async function answerLive() {
  while ($('video').srcObject) {
    if (taught) await answerFrame().catch(showBroken);
    await new Promise((done) => setTimeout(done, taught ? 30 : 300));
  }
}

async function answerFrame() {
  const frame = await takeFrame(), found = frame && await pool.ask('see', { source: frame }, true);
  if (!found || !taught || !$('video').srcObject) return;  // stopped since
  shown = found;
  showAnswers(shown);
}

// A bitmap of the camera, or null as long as it has none.
function takeFrame() {
  const video = $('video'), ready = video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA;
  return ready ? createImageBitmap(video) : null;
}

async function record(one, button) {
  let held = true;
  const release = () => { held = false; };
  for (const kind of ['pointerup', 'pointercancel', 'keyup', 'blur']) {
    window.addEventListener(kind, release, { once: true });
  }
  if (!await startCamera()) return;
  button.classList.add('main');
  do {
    const frame = await takeFrame();
    if (frame) learnPicture(one, frame, 'camera');
    await new Promise((done) => setTimeout(done, RECORD_EVERY));
  } while (held && $('video').srcObject);
  button.classList.remove('main');
}

// --- taking along --------------------------------------------------------------------------------

const titleOf = () => $('title').value.trim() || taught?.names.join(', ') || words.heading;

async function savePage() {
  const bytes = await inflate(bytesOf($('recogniser').textContent, about.recogniser_bytes));
  const template = new TextDecoder().decode(bytes), title = titleOf();
  const page = recogniserPage(template, about, $('model').textContent, { ...taught, title });
  download(fileName(title, '.html'), page, 'text/html');
}

async function saveModel() {
  const { names, threshold, head } = taught;
  const tensors = await allTensors(about, $('model').textContent, head);
  const content = safetensors(tensors, configOf(about, names, threshold));
  download(fileName(titleOf(), '.safetensors'), content, 'application/octet-stream');
}

function saveProject() {
  const project = { title: $('title').value, mirrored: $('mirrored').checked, classes };
  download(fileName(titleOf(), '.json'), projectText(project), 'application/json');
  unsaved = false;
}

async function openProject(file) {
  try {
    const project = readProject(await file.text(), channels);
    if (unsaved && !confirm(words.replace)) return;
    for (const { card } of classes) card.remove();
    classes = [];
    $('title').value = project.title;
    $('mirrored').checked = project.mirrored;
    for (const { name, pictures } of project.classes) {
      const one = addClass(name);
      for (const picture of pictures) addPicture(one, picture);
    }
    unsaved = false;
  } catch (error) {
    showBroken(error);
  }
}

// --- what a person does --------------------------------------------------------------------------

function onFiles(id, take) {
  $(id).onchange = () => {
    if ($(id).files.length) take([...$(id).files]);
    $(id).value = '';  // so that the same file can be chosen again
  };
}

function listen() {
  onFiles('files', (files) => takeFiles(files.map((file) => ({ file, folder: '' })), target));
  onFiles('folders', (files) => takeFiles(chosenFiles(files)));
  onFiles('projects', ([file]) => openProject(file));
  onFiles('try-file', ([file]) => tryPicture(file));
  $('add').onclick = () => addClass(words.newClass(classes.length + 1)).card.querySelector('input').select();
  $('folder').onclick = () => $('folders').click();
  $('open').onclick = () => $('projects').click();
  $('choose').onclick = () => $('try-file').click();
  $('camera').onclick = () => $('video').srcObject ? stopCamera() : startCamera();
  $('mirrored').onchange = () => change();
  $('title').oninput = () => { unsaved = classes.some(({ pictures }) => pictures.length); };
  $('mapped').onchange = () => shown && showAnswers(shown);
  $('page').onclick = savePage;
  $('save-model').onclick = saveModel;
  $('project').onclick = saveProject;
  $('language').onclick = () => { words = words === WORDS.en ? WORDS.zh : WORDS.en; speak(); };
  const classAt = ({ target: at }) => classes.find(({ card }) => card.contains(at));
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    for (const one of classes) one.card.classList.toggle('over', one === classAt(event));
  });
  document.addEventListener('drop', async (event) => {
    event.preventDefault();
    const one = classAt(event);
    for (const { card } of classes) card.classList.remove('over');
    const found = await droppedFiles(event.dataTransfer).catch(() => []);
    if ($('stage').contains(event.target) && found.length) return tryPicture(found[0].file);
    return takeFiles(found, one);
  });
  document.addEventListener('paste', ({ clipboardData: { files } }) => {
    if (files.length) takeFiles([...files].map((file) => ({ file, folder: '' })), target);
  });
  window.addEventListener('beforeunload', (event) => {
    if (unsaved) event.preventDefault();  // asks first
  });
}

for (const number of [1, 2]) addClass(words.newClass(number));
listen();
speak();
