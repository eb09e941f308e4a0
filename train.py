"""Teach SqueezeNet one's own pictures: `python train.py my_photos`, a folder of class folders.

Reads like the experiment that it is: `main` parses, checks and starts the processes, `train` is a
run, `Run` its epochs, `training/step.py` one update. All that is random depends on --seed and the
position in the run alone, so a run that was stopped continues bit for bit.
"""

import signal
import sys
import time
from argparse import Namespace
from itertools import islice
from pathlib import Path
from typing import Optional

import common.paddle_start  # noqa: F401 - before Paddle

import numpy as np
import paddle

import reader
from common.console import Meter, UserError, one_line_errors, quoted
from common.cores import default_workers
from common.device import choose_device
from common.signals import StopRequest, end_on_signals
from evaluation.evaluator import Evaluator
from models import model_io
from network.preprocessing import preprocessing_of
from pictures.augmentation import Augmentation
from pictures.decoding import load_picture
from runs import curves, run_directory, run_lists, setup, summary
from runs.caching import cache_of, kept
from runs.checkpoint import save_checkpoint
from runs.lock import RunLock
from runs.options import parse_options
from runs.tensorboard import Events
from training import distributed
from training.precision import Precision, check_precision
from training.solver import Schedule, make_solver
from training.step import (
    FrozenFeatures,
    Learner,
    SharedDropout,
    freeze_boundary,
    train_step,
    trained_parameters,
)
from training.to_device import feed
from training.trainers import run_trainers


@one_line_errors
def main(argv=None):
    end_on_signals()  # until StopRequest answers them by saving first
    options = parse_options(argv)
    if options.resume and distributed.first():
        options = parse_options(argv, setup.stored_options(options))
    device = choose_device(options.device, options.amp == 'tf32')
    check_precision(options.amp, device, options.freeze)
    options.trainer = distributed.count_trainers(options.trainer, device)
    if options.num_workers is None:
        options.num_workers = default_workers(options.trainer)
    if distributed.first():
        numbers = options.amp or 'float32'
        if options.amp and not device.is_gpu:
            numbers = f'float32, {options.amp} up to {options.freeze}'
        print(f'device: {device}, {numbers}, trainers: {options.trainer}')
    if options.show_batch:
        return summary.show_batch(options) if distributed.first() else 0
    lock = prepare(options) if distributed.first() else None
    try:
        if options.trainer == 1 or distributed.launched():
            return train(options, lock)
        return run_trainers(train, (options, lock), options.trainer, device.backend)
    finally:
        if lock is not None:
            cache_of(options).clear()
            run_directory.release(lock)


def prepare(options: Namespace) -> RunLock:
    """Keep other runs out of the output, then check all that can be wrong; nothing is replaced."""
    lock = run_directory.open_output(options)
    try:
        if options.folder and not options.resume:
            new_lists = run_directory.new_lists_of(options.output)
            run_lists.make_lists(options, new_lists)
            run_directory.check_new_lists(options.output)
            place = Path(options.train_list).parent
            place = run_directory.lists_of(options.output) if place == new_lists else place
            print(f'lists: {place}', flush=True)
        setup.check(options)
        cache_of(options).clear()  # of a run that was killed
    except BaseException:
        run_directory.release(lock)
        raise
    return lock


def train(options: Namespace, lock: Optional[RunLock]) -> int:
    """A whole run, in each of its processes; returns the exit status. Rank 0 has the `lock`."""
    device = choose_device(options.device, options.amp == 'tf32')
    rank, world = distributed.join_group(device)
    begun, options = setup.shared_start(options, rank)
    stop = StopRequest()
    run = Run(options, begun, (rank, world), device, lock)
    if not run.to_the_end(stop):
        return stopped(run, stop)
    if run.is_first:
        lock.check()
        summary.report_best(run)
    return 0


class Run:
    """One process's part of a run: what it trains (`learner`, `solver`), on what (`train_list`,
    `sampling`), how far it is (`state`), and the steps from there to the end."""

    def __init__(self, options, begun, place, device, lock):
        self.options, self.state, self.device, self.lock = options, begun.state, device, lock
        self.rank, self.world = place
        self.is_first = self.rank == 0
        self.output = Path(options.output)
        self.preprocessing = preprocessing_of(self.state.config)
        self._read_lists()
        self._build_learner(begun)
        self.schedule = Schedule(
            options.lr_policy,
            options.lr,
            setup.last_iteration(options, self.epoch_iterations, len(self.train_list)),
            options.power,
            options.step_size,
            options.gamma,
            options.warmup,
            self.state.cycle_start,
        )
        self.events = Events(self.output / 'events', options.tensorboard and self.is_first)
        self.images_per_second = None
        self.began = time.monotonic() - (self.state.rows or [{'seconds': 0}])[-1]['seconds']

    def _read_lists(self):
        options = self.options
        self.train_list, self.val_list, self.test_list = run_lists.read_lists(
            options, self.state.config, self.state.left_out
        )
        self.sampling = reader.Sampling(
            options.batch_size,
            options.seed,
            options.crop,
            options.mirror,
            Augmentation(mirror=0.5 * options.mirror, colour=options.colour),
            self.rank,
            self.world,
            options.iter_size,
            options.fast_decode,
        )
        self.epoch_iterations = self.sampling.iterations(len(self.train_list))
        group_batch = options.batch_size * self.world
        if self.state.group_batch not in (None, group_batch):
            raise UserError(
                f'the processes share batches of {group_batch} and did of '
                f'{self.state.group_batch}: on --resume, their number times --batch_size must stay'
            )
        self.state.group_batch = group_batch

    def _build_learner(self, begun):
        options, config = self.options, self.state.config
        self.dropout = SharedDropout(options.dropout, options.seed, self.rank, self.world)
        network = model_io.build_network(begun.tensors, config, self.dropout)
        end_layer = freeze_boundary(network.stages, options.freeze)
        self.features = None  # what the readers compute of the frozen layers, on a CPU
        if end_layer and not self.device.is_gpu:
            amp = options.amp or 'float32'
            self.features = FrozenFeatures(begun.tensors, config, end_layer, amp)
        precision = Precision(options.amp if self.device.is_gpu else None, self.state.precision)
        weights = run_lists.class_weights(self.train_list, config) if options.balance else None
        self.learner = Learner(network, precision, self.features and end_layer, weights)
        trained = trained_parameters(network, end_layer)
        self.solver = make_solver(options.solver, trained, options.momentum, options.weight_decay)
        for kind, values in begun.moments.items():
            self.solver.moments[kind] = self.solver.flat.join(values)

    def to_the_end(self, stop):
        """All the epochs that are left; returns False where the run was asked to stop."""
        if self.state.iteration == 0 and not self.state.rows:
            self.save_checkpoint()
            self.finish_epoch()  # the row of epoch 0: before training
        while not self.is_over():
            if not self.evaluation_due():
                if not self.train_epoch(stop):
                    return False
                self.save_checkpoint()  # before the evaluation, which may be long
            self.finish_epoch()
        self.save_checkpoint()
        return True

    def is_over(self):
        """Whether all updates are made, or --patience or --time is at its end."""
        if self.evaluation_due():
            return False
        if self.state.iteration >= self.schedule.max_iter:
            return True
        reason = summary.should_stop(self.state, self.options)
        if reason and self.is_first:
            print(reason, flush=True)
        return bool(reason)

    def train_epoch(self, stop):
        """From where the run is to the epoch's end; returns False where it was asked to stop."""
        options, state = self.options, self.state
        epoch, position = divmod(state.iteration, self.epoch_iterations)
        left = min(self.epoch_iterations - position, self.schedule.max_iter - state.iteration)
        pictures = state.group_batch * options.iter_size
        batches = self.batches(epoch, position)
        with Meter(f'epoch {epoch + 1}', left * pictures, self.is_first) as meter:
            for _ in range(left):
                step = self.update(batches, bool(stop))
                meter.count(pictures, loss=step.loss, lr=self.schedule.rate(state.iteration - 1))
                if step.stop or state.iteration % options.save_every == 0:
                    self.save_checkpoint()
                if step.stop:
                    break
        batches.close()
        self.images_per_second = meter.rate()
        return not step.stop

    def batches(self, epoch, position):
        """What the learner is fed, from iteration `position` of an epoch on."""
        read = reader.train_loader(
            self.train_list, self.preprocessing, self.sampling, epoch, position,
            self.options.num_workers, self.features, kept(self.options, load_picture),
        )  # fmt: skip
        return read if self.features else feed(read, self.preprocessing, self.device)

    def update(self, batches, stop):
        """One iteration: the next iter_size of `batches`, and one train_step."""
        iteration = self.state.iteration
        rate = self.schedule.rate(iteration)
        self.dropout.begin(iteration)
        chosen = islice(batches, self.options.iter_size)
        try:
            step = train_step(self.learner, self.solver, chosen, rate, iteration, stop)
        except FloatingPointError:
            raise UserError(
                f'the loss or a gradient is NaN or infinite at iteration {iteration} (rate '
                f'{rate:g}); the last checkpoint is kept. Try a lower --lr'
            ) from None
        self.state.precision = self.learner.precision.state
        self.state.add(step)
        return step

    def evaluation_due(self):
        """Whether an epoch (or the run) is complete but for its evaluation."""
        iteration = self.state.iteration
        complete = iteration % self.epoch_iterations == 0 or iteration == self.schedule.max_iter
        return complete and self.state.sums[2] > 0

    def finish_epoch(self):
        """Evaluate; then write best/ (if it is), last/, log.csv and curves.png."""
        state = self.state
        row = {
            'epoch': -(-state.iteration // self.epoch_iterations),
            'iteration': state.iteration,
            'lr': 0.0,
            'images_per_second': self.images_per_second,
        }
        if state.iteration < self.schedule.max_iter:
            row['lr'] = self.schedule.rate(state.iteration)
        loss, top1, count = state.sums
        if count:
            row.update(train_loss=loss / count, train_top1=top1 / count)
        part = self.evaluate()
        row.update(self.measures(part))
        if self.is_first and (
            words := summary.collapse_warning(row, part, state.config['class_num'])
        ):
            print(words, flush=True)
        is_best = all(better(row, old) for old in state.rows)
        state.close_epoch(row)
        if self.is_first:
            self.write_results(row, is_best)

    def evaluate(self):
        """The Evaluation of this process's part of the val list."""
        evaluator = self.evaluator(self.tensors(), self.state.config)
        with Meter('evaluation', len(self.val_list) // self.world, self.is_first) as meter:
            return evaluator.evaluate(self.val_list, self.rank, self.world, meter)

    def evaluator(self, tensors, config):
        """The Evaluator of a model, on this run's device."""
        options, read = self.options, kept(self.options, reader.preprocess)
        return Evaluator(tensors, config, self.device, options.num_workers, read=read)

    def measures(self, part):
        """The part of a row that all processes' `part`s of the val list give together."""
        by_class = part.class_sums(self.state.config['class_num'])
        seconds = [time.monotonic() - self.began]
        vector = np.concatenate([part.sums(), seconds, by_class.ravel()])
        mean = distributed.mean_over_group(paddle.to_tensor(vector, 'float64')).numpy()
        pictures, top1, top5, loss, seconds = mean[:5].tolist()
        in_class, right = mean[5:].reshape(by_class.shape)
        return {
            'val_loss': loss / pictures,
            'val_top1': top1 / pictures,
            'val_top5': top5 / pictures,
            'val_balanced': float((right[in_class > 0] / in_class[in_class > 0]).mean()),
            'seconds': seconds,
        }

    def tensors(self):
        return {name: value.numpy() for name, value in self.learner.network.state_dict().items()}

    def save_checkpoint(self):
        """Rank 0 alone writes."""
        if self.is_first:
            self.lock.check()
            flat = self.solver.flat
            moments = {kind: flat.arrays(value) for kind, value in self.solver.moments.items()}
            folder = run_directory.checkpoints_of(self.options)
            save_checkpoint(folder, self.tensors(), moments, self.state, self.options.keep)

    def write_results(self, row, is_best):
        """best/ (if it is), last/, log.csv, curves.png, and a line for the reader."""
        self.lock.check()
        rows, tensors, config = self.state.rows, self.tensors(), self.state.config
        if is_best:
            model_io.write_model(self.output / 'best', tensors, config)
        model_io.write_model(self.output / 'last', tensors, config)
        curves.write_log(rows, self.output / 'log.csv')
        curves.draw_curves(rows, self.output / 'curves.png')
        self.events.write(row)
        print(summary.epoch_line(row) + (' (best)' if is_best else ''), flush=True)


def better(row, other):
    """By top-1, and by the loss where that is the same."""
    return (row['val_top1'], -row['val_loss']) > (other['val_top1'], -other['val_loss'])


def stopped(run, stop):
    """Say how to go on; the exit status of a process that a signal ended."""
    if run.is_first:
        print(
            f'stopped after iteration {run.state.iteration} of {run.schedule.max_iter}; '
            f'continue with: python train.py --resume --output {quoted(run.output)}',
            flush=True,
        )
    return 128 + (stop.signal or signal.SIGTERM)


if __name__ == '__main__':
    sys.exit(main())
