// What is taken along: a page, a model, the project.
'use strict';

const PROJECT = 'squeezenet-teach-1';

function download(name, content, type) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// A title as a file's name: letters, digits and - of any language.
function fileName(title, suffix) {
  const plain = title.normalize('NFC').replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '');
  return (plain.slice(0, 60) || 'my-classes') + suffix;
}

const flatHead = ({ weight, bias }) => Float32Array.from([...weight, bias].flatMap((x) => [...x]));

function configOf(about, names, threshold) {
  return {
    version: about.version,
    bypass: about.bypass,
    class_num: names.length,
    conv10_pad: about.conv10_pad,
    conv10_relu: false,
    preprocessing: about.preprocessing,
    class_names: names,
    ...threshold > 0 && { threshold },
  };
}

// The recogniser's page for these classes; `template` is its text with places for them.
function recogniserPage(template, about, modelText, { title, names, head, threshold }) {
  const flat = flatHead(head);
  const rows = about.rows.map((row) => row.name === 'conv10'
    ? { ...row, out_channels: names.length } : row);
  const parts = {
    about: JSON.stringify({
      conv10_pad: about.conv10_pad,
      conv10_relu: false,
      class_num: names.length,
      preprocessing: about.preprocessing,
      rows,
      names,
      threshold,
      temperature: 1,
      model_bytes: about.model_bytes,
      head_bytes: flat.byteLength,
    }).replaceAll('<', '\\u003c'),
    names: '',
    model: modelText,
    head: textOfFloats(flat),
    title: escapeHtml(title),
  };
  return template.replace(/\{\{(about|names|model|head|title)\}\}/g, (_, name) => parts[name]);
}

const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escapeHtml = (text) => text.replace(/[&<>"']/g, (letter) => ESCAPES[letter]);

// model.safetensors with its configuration, as models/model_io.py writes it: Uint8Array.
function safetensors(tensors, config) {
  const header = { __metadata__: { config: JSON.stringify(config) } };
  let size = 0;
  for (const { name, shape } of tensors) {
    const bytes = 4 * shape.reduce((a, b) => a * b);
    header[name] = { dtype: 'F32', shape, data_offsets: [size, size += bytes] };
  }
  let text = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(text.length / 8) * 8, out = new Uint8Array(8 + padded + size);
  new DataView(out.buffer).setBigUint64(0, BigInt(padded), true);
  out.fill(32, 8 + text.length, 8 + padded);
  out.set(text, 8);
  for (const { name, data } of tensors) {
    const { byteOffset, byteLength, buffer } = data;
    out.set(new Uint8Array(buffer, byteOffset, byteLength), 8 + padded + header[name].data_offsets[0]);
  }
  return out;
}

// [{name, shape, data}] of the whole network, conv10 new, in the network's order.
async function allTensors(about, modelText, head) {
  const rows = about.rows.filter(({ name }) => name !== 'conv10');
  const shapes = convolutionShapes(rows);
  const unpacked = await unpack(bytesOf(modelText, about.model_bytes), shapes);
  const kernels = { conv1: about.rows[0].kernel };
  const tensors = shapes.flatMap(([name, outputs, columns]) => {
    const kernel = kernels[name] || (name.endsWith('3x3') ? 3 : 1);
    const shape = [outputs, columns / kernel ** 2, kernel, kernel];
    return [{ name: `${name}.weight`, shape, data: unpacked[name].weight },
      { name: `${name}.bias`, shape: [outputs], data: unpacked[name].bias }];
  });
  const { weight, bias } = splitHead(flatHead(head), head.bias.length);
  const shape = [head.bias.length, head.weight[0].length, 1, 1];
  return [...tensors, { name: 'conv10.weight', shape, data: weight },
    { name: 'conv10.bias', shape: [head.bias.length], data: bias }];
}

// --- the project: classes, thumbnails and features ------------------------------------------------

function projectText({ title, mirrored, classes }) {
  return JSON.stringify({
    format: PROJECT,
    title,
    mirrored,
    classes: classes.map(({ name, pictures }) => ({
      name,
      pictures: pictures.map(({ thumbnail, views }) => (
        { thumbnail, views: views.map(textOfFloats) })),
    })),
  });
}

// {title, mirrored, classes} of such a text; throws Error('noProject').
function readProject(text, size) {
  try {
    const { format, title, mirrored, classes } = JSON.parse(text);
    if (format !== PROJECT) throw new Error(format);
    return {
      title: String(title),
      mirrored: Boolean(mirrored),
      classes: classes.map(({ name, pictures }) => ({
        name: String(name), pictures: pictures.map((picture) => readSaved(picture, size)),
      })),
    };
  } catch {
    throw new Error('noProject');
  }
}

function readSaved({ thumbnail, views }, size) {
  const features = views.map(floatsOf);
  const sound = features.length === 2 && features.every((x) => x.length === size && x.every(isFinite));
  if (!sound || !/^data:image\/jpeg;base64,/.test(thumbnail)) throw new Error('unsound');
  return { thumbnail, views: features };
}
