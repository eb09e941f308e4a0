// Files of what is dropped, folders and all.
'use strict';

const IMAGE = /\.(jpe?g|png|webp|gif|bmp|avif)$/i;
const isPicture = ({ name, type }) => type.startsWith('image/') || IMAGE.test(name);

// [{file, folder}] of a drop; `folder` is the name of the folder that a file lies in, or ''.
async function droppedFiles({ items, files }) {
  const entries = [...items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry());
  if (entries.every((entry) => !entry)) return [...files].map((file) => ({ file, folder: '' }));
  const found = await Promise.all(entries.filter(Boolean).map((entry) => filesOf(entry, '')));
  return found.flat();
}

async function filesOf(entry, folder) {
  if (entry.isFile) {
    const file = await new Promise((done, fail) => entry.file(done, fail));
    return [{ file, folder }];
  }
  const reader = entry.createReader(), found = [];
  for (;;) {  // a reader gives a hundred entries at a time
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) return found.flat();
    found.push(...await Promise.all(some.map((child) => filesOf(child, entry.name))));
  }
}

// As droppedFiles, of an input with webkitdirectory.
function chosenFiles(files) {
  return [...files].map((file) => {
    const parts = (file.webkitRelativePath || '').split('/');
    return { file, folder: parts[parts.length - 2] || '' };
  });
}
