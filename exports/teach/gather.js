// Files of what is dropped, folders and all.
'use strict';

const IMAGE = /\.(jpe?g|png|webp|gif|bmp|avif)$/i;
const isPicture = ({ name, type }) => type.startsWith('image/') || IMAGE.test(name);

// [{file, folder}] of a drop; `folder` is the name of the folder that a file lies in, or ''.
async function droppedFiles({ items, files }) {
  const dropped = [...items].filter(({ kind }) => kind === 'file').map((item) => ({
    file: item.getAsFile(),
    entry: item.webkitGetAsEntry?.(),
    handle: item.getAsFileSystemHandle?.(),
  }));  // all at once: the items are gone after the event
  if (!dropped.length) return [...files].map((file) => ({ file, folder: '' }));
  const found = await Promise.all(dropped.map(async ({ file, entry, handle }) => {
    if (!entry?.isDirectory) return [{ file, folder: '' }];
    return handle ? filesOfHandle(await handle, '') : filesOf(entry, '');
  }));
  return found.flat();
}

// Chromium reads no entries in a page from file://, but handles.
async function filesOfHandle(handle, folder) {
  if (handle.kind === 'file') return [{ file: await handle.getFile(), folder }];
  const found = [];
  for await (const child of handle.values()) found.push(...await filesOfHandle(child, handle.name));
  return found;
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
