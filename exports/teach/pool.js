// Workers, which take one question each at a time; what waits longest and is urgent goes first.
'use strict';

const MOST_WORKERS = 4;

// {ask}: ask(kind, question, urgent) gives a promise of the answer. `opening` is asked of each
// worker before all else; where none of them opens, or all end, all questions fail.
function makePool(source, count, opening) {
  const address = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
  const waiting = [], free = [];
  let alive = count, failure = null;
  for (let i = 0; i < count; i++) {
    const worker = { thread: new Worker(address), task: null };
    worker.thread.onmessage = ({ data: { result, error } }) => {
      const { kind, resolve, reject } = worker.task;
      if (kind === 'open' && error !== undefined) return lose(worker, new Error(error));
      if (error === undefined) resolve(result); else reject(new Error(error));
      worker.task = null;
      free.push(worker);
      return next();
    };
    worker.thread.onerror = (event) => lose(worker, new Error(event.message));
    give(worker, { kind: 'open', question: opening, resolve() {}, reject: showBroken });
  }

  function lose(worker, error) {
    worker.thread.terminate();
    if (free.includes(worker)) free.splice(free.indexOf(worker), 1);
    if (worker.task) worker.task.reject(error);
    if (--alive) return;
    failure = error;
    for (const task of waiting.splice(0)) task.reject(error);
  }

  function give(worker, task) {
    worker.task = task;
    const transfer = task.question.source instanceof ImageBitmap ? [task.question.source] : [];
    worker.thread.postMessage({ kind: task.kind, ...task.question }, transfer);
  }

  function next() {
    while (free.length && waiting.length) give(free.pop(), waiting.shift());
  }

  return {
    ask: (kind, question, urgent = false) => new Promise((resolve, reject) => {
      if (failure) reject(failure);
      const task = { kind, question, resolve, reject };
      if (urgent) waiting.unshift(task); else waiting.push(task);
      next();
    }),
  };
}
