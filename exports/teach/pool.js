// Workers, which take one question each at a time; what waits longest and is urgent goes first.
'use strict';

const MOST_WORKERS = 4;

// {ask}: ask(kind, question, urgent) gives a promise of the answer. `opening` is asked of each
// worker before all else.
function makePool(source, count, opening) {
  const address = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
  const waiting = [], free = [];
  let last = 0;
  for (let i = 0; i < count; i++) {
    const worker = { thread: new Worker(address), done: null };
    worker.thread.onmessage = ({ data: { result, error } }) => {
      const { resolve, reject } = worker.done;
      free.push(worker);
      if (error === undefined) resolve(result); else reject(new Error(error));
      next();
    };
    worker.thread.onerror = (event) => worker.done && worker.done.reject(new Error(event.message));
    give(worker, { kind: 'open', question: opening, resolve() {}, reject: showBroken });
  }

  function give(worker, task) {
    worker.done = task;
    const transfer = task.question.source instanceof ImageBitmap ? [task.question.source] : [];
    worker.thread.postMessage({ id: ++last, kind: task.kind, ...task.question }, transfer);
  }

  function next() {
    while (free.length && waiting.length) give(free.pop(), waiting.shift());
  }

  return {
    ask: (kind, question, urgent = false) => new Promise((resolve, reject) => {
      const task = { kind, question, resolve, reject };
      if (urgent) waiting.unshift(task); else waiting.push(task);
      next();
    }),
  };
}
