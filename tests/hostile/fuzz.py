"""Feeds mutated and crafted files to everything that reads files, and looks at what happens.

    python tests/hostile/fuzz.py                        # 2000 inputs for each kind of file
    python tests/hostile/fuzz.py --seconds 600 --only picture,pdparams --seed 3
    python tests/hostile/fuzz.py --only picture --seed 3 --first 1234 --examples 1  # one again

Every input must end in its module's own error, a line, or in a correct result; within 10 seconds
and 2 GB; without a crash; with nothing executed, opened or written outside its folder. Inputs are
read by worker processes of limited memory. Input number i of a kind depends on i and --seed alone.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import fuzz_worker

HANG = 240  # seconds until a worker that is still at the same input is ended; others may be busy
BATCH = 250  # inputs of one worker
KINDS = ','.join(fuzz_worker.READERS)
SHOWN = 3  # findings with one text
FAILED = 'FAILED'
JOBS = os.cpu_count()
ENVIRONMENT = {**os.environ, 'OPENBLAS_NUM_THREADS': '1'}


class Batch:
    """What became of inputs of one kind, and the most that one of them took."""

    def __init__(self):
        self.outcomes, self.findings = Counter(), []  # findings: (number, what happened)
        self.seconds, self.megabytes = 0.0, 0

    def add(self, other):
        self.outcomes += other.outcomes
        self.seconds = max(self.seconds, other.seconds)
        self.megabytes = max(self.megabytes, other.megabytes)

    def fail(self, number, text):
        self.outcomes[FAILED] += 1
        self.findings.append((number, text))


def run_batch(kind, seed, start, stop, folder):
    """The Batch of inputs start to stop, whose workers are started anew behind a crash."""
    batch = Batch()
    while True:
        ended = run_worker(kind, seed, start, stop, folder)
        rows = [json.loads(line) for line in (folder / 'log.txt').read_text().splitlines()]
        for what, number, *text in rows:
            if what == 'ends':
                batch.outcomes[text[0]] += 1
                batch.seconds = max(batch.seconds, text[1])
            elif what == 'fails':
                batch.fail(number, text[0])
        if not rows:
            raise SystemExit(f'{kind}: the worker {ended}')
        last = rows[-1]
        if last[0] == 'done':
            batch.megabytes = last[1]
            return batch
        batch.fail(last[1], ended)
        (folder / 'input').mkdir(exist_ok=True)  # moved away, if the one before it failed
        (folder / 'input').rename(folder / f'failed-{last[1]}')
        start = last[1] + 1
        if stop is not None and start >= stop:
            return batch


def run_worker(kind, seed, start, stop, folder):
    """Returns how the worker ended, whom a crash or a kill may have met."""
    command = [sys.executable, fuzz_worker.__file__, json.dumps([kind, seed, start, stop])]
    log = folder / 'log.txt'
    with open(folder / 'stderr.txt', 'wb') as errors:
        worker = subprocess.Popen([*command, str(folder)], stderr=errors, env=ENVIRONMENT)
        size = seen = 0
        while worker.poll() is None:
            time.sleep(0.1)
            now = log.stat().st_size if log.exists() else 0
            if now != size:
                size, seen = now, 0
            seen += 1
            if seen > HANG * 10:
                worker.kill()
                worker.wait()
                return f'hangs for {HANG} s'
    tail = (folder / 'stderr.txt').read_text(errors='replace').strip()[-300:]
    return f'crashes with status {worker.returncode}: {tail}'


def batches(args, deadline):
    """(kind, start, stop): the crafted inputs first, then the kinds in turn until it is enough."""
    if args.first is None:
        yield from ((kind, 0, None) for kind in args.only)
    begin = args.first or 0
    end = begin + args.examples if deadline is None else sys.maxsize
    for start in range(begin, end, BATCH):
        for kind in args.only:
            if deadline is not None and time.monotonic() > deadline:
                return
            yield kind, start, min(start + BATCH, end)


def fuzz(args, folder):
    """Run all batches in worker processes; returns {kind: Batch}."""
    totals, seen = {kind: Batch() for kind in args.only}, Counter()
    deadline = time.monotonic() + args.seconds if args.seconds else None
    waiting = set()

    def run(kind, start, stop):
        place = folder / f'{kind}-{"crafted" if stop is None else start}'
        place.mkdir()
        batch = run_batch(kind, args.seed, start, stop, place)
        name = f'{kind}-{"crafted" if stop is None else "mutated"}'
        return kind, name, batch, place

    def gather(most):
        """Wait until no more than `most` batches are under way."""
        nonlocal waiting
        while len(waiting) > most:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                kind, *rest = future.result()
                totals[kind].add(report(kind, *rest, folder, seen))

    with ThreadPoolExecutor(JOBS) as pool:
        for batch in batches(args, deadline):
            waiting.add(pool.submit(run, *batch))
            gather(JOBS - 1)
        gather(0)
    return totals


def print_summary(totals, messages):
    """A line for each kind; with `messages` every way in which it was refused, too."""
    for kind, batch in totals.items():
        counts = batch.outcomes
        total, read, failed = sum(counts.values()), counts.pop('read', 0), counts.pop(FAILED, 0)
        print(
            f'{kind:12} {total:7} inputs: {read} read, {total - read - failed} refused with '
            f'{len(counts)} messages, {failed} failed; at most {batch.seconds:.1f} s and '
            f'{batch.megabytes} MB'
        )
        for text, count in counts.most_common() if messages else ():
            print(f'    {count:7} {text}')


def report(kind, name, batch, place, folder, seen):
    """Keep the inputs of a batch's findings, and print a line for each; returns the batch."""
    for number, text in batch.findings:
        skeleton = re.sub(r'\d+', '', text)[:60]
        seen[kind, skeleton] += 1
        if seen[kind, skeleton] <= SHOWN:
            kept = folder / f'{name}-{number}'
            shutil.move(place / f'failed-{number}', kept)
            print(f'{kind} input {number}: {text}\n    {kept}', flush=True)
    shutil.rmtree(place)
    return batch


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument('--examples', type=int, default=2000, help='mutated inputs a kind (2000)')
    amount.add_argument('--seconds', type=float, help='go on for so long instead')
    parser.add_argument('--seed', type=int, default=1, help='another seed mutates otherwise (1)')
    parser.add_argument('--only', default=KINDS, help=f'some of {KINDS}')
    parser.add_argument('--first', type=int, help='start there, without the crafted inputs')
    parser.add_argument('--messages', action='store_true', help='count the ways of refusal')
    args = parser.parse_args()
    args.only = args.only.split(',')
    unknown = set(args.only) - set(fuzz_worker.READERS)
    if unknown:
        parser.error(f'--only: there is no {unknown.pop()}')
    return args


def main():
    args = parse_arguments()
    folder = Path(tempfile.mkdtemp(prefix='fuzz-')).resolve()
    totals = fuzz(args, folder)
    failed = sum(batch.outcomes[FAILED] for batch in totals.values())
    print_summary(totals, args.messages)
    if not failed:
        shutil.rmtree(folder)
        return 0
    print(f'{failed} inputs failed; the first ones are kept in {folder}')
    return 1


if __name__ == '__main__':
    sys.exit(main())
