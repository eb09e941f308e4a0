"""Fine-tune SqueezeNet on a list of pictures: `python train.py --model caffe_params --trainer 2`.

Reads like the experiment that it is: `main` parses, checks and starts the processes, `train` is a
run, `Run` its epochs, `training/step.py` one update. All that is random depends on --seed and the
position in the run alone, so a run that was stopped continues bit for bit.
"""

import signal
import sys
from itertools import islice
from pathlib import Path

import common.paddle_setup  # noqa: F401 - before Paddle

import paddle

import reader
from common.console import Meter, UserError, one_line_errors
from common.cores import default_workers
from common.device import choose_device
from models import parameters
from network.preprocessing import preprocessing_of
from pictures import lists
from results import report
from results.evaluation import Evaluator, write_report
from results.events import Events
from training import output, processes, start
from training.checkpoint import save_checkpoint
from training.feed import feed
from training.options import parse_options
from training.precision import Precision, check_precision
from training.solver import SGD, Schedule
from training.step import FrozenFeatures, Learner, SharedDropout, train_step, trained_parameters


@one_line_errors
def main(argv=None):
    paddle.disable_signal_handler()  # it writes C++ traces where a signal ends the process
    options = parse_options(argv)
    if options.resume and processes.first():
        options = parse_options(argv, start.stored_options(options))
    device = choose_device(options.device, options.amp == 'tf32')
    check_precision(options.amp, device)
    options.trainer = processes.count_trainers(options.trainer, device)
    if options.num_workers is None:
        options.num_workers = default_workers(options.trainer)
    if processes.first():
        print(f'device: {device}, {options.amp or "float32"}, trainers: {options.trainer}')
    lock = prepare(options) if processes.first() else None
    try:
        if options.trainer == 1 or processes.launched():
            return train(options)
        return processes.run_trainers(train, options, options.trainer, device.backend)
    finally:
        if lock is not None:
            lock.close()


def prepare(options):
    """Check all that can be wrong; then make room for the run, which is the last thing done."""
    options.output = output.choose_output(options)
    start.check(options)
    earlier = output.earlier_run(options.output, options.model) if options.overwrite else []
    lock = output.lock(options.output)
    output.delete(earlier)
    return lock


def train(options):
    """A whole run, in each of its processes; returns the exit status."""
    device = choose_device(options.device, options.amp == 'tf32')
    rank, world = processes.join_group(device)
    stop = processes.StopRequest()
    begun, options = start.shared_start(options, rank)
    run = Run(options, begun, (rank, world), device)
    if not run.to_the_end(stop):
        return stopped(run, stop)
    if run.is_first:
        report_best(run)
    return 0


class Run:
    """One process's part of a run: what it trains (`learner`, `solver`), on what (`train_list`,
    `sampling`), how far it is (`state`), and the steps from there to the end."""

    def __init__(self, options, begun, place, device):
        self.options, self.state, self.device = options, begun.state, device
        self.rank, self.world = place
        self.is_first = self.rank == 0
        self._read_lists()
        self._build_learner(begun)
        self.schedule = Schedule(
            options.lr_policy,
            options.lr,
            options.max_iter or options.epochs * self.epoch_iterations,
            options.power,
            options.step_size,
            options.gamma,
        )
        self.output = Path(options.output)
        self.events = Events(self.output / 'events', options.tensorboard and self.is_first)
        self.images_per_second = None

    def _read_lists(self):
        options, config = self.options, self.state.config
        self.train_list = lists.read_list(options.train_list, options.data_dir, config['class_num'])
        self.val_list = lists.read_list(options.val_list, options.data_dir, config['class_num'])
        self.sampling = reader.Sampling(
            options.batch_size,
            options.seed,
            options.mirror,
            self.rank,
            self.world,
            options.iter_size,
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
        self.preprocessing = preprocessing_of(config)
        self.features = None  # what the readers compute of the frozen layers, on a CPU
        if options.freeze and not self.device.is_gpu:
            self.features = FrozenFeatures(begun.tensors, config, options.freeze)
        self.dropout = SharedDropout(options.dropout, options.seed, self.rank, self.world)
        network = parameters.build_network(begun.tensors, config, self.dropout)
        precision = Precision(options.amp, self.state.precision)
        after = options.freeze if self.features else None
        self.learner = Learner(network, precision, after)
        trained = trained_parameters(network, options.freeze)
        self.solver = SGD(trained, options.momentum, options.weight_decay, options.solver)
        self.solver.velocity = self.solver.flat.join(begun.velocity)

    def to_the_end(self, stop):
        """All the epochs that are left; returns False where the run was asked to stop."""
        if self.state.iteration == 0 and not self.state.rows:
            self.save_checkpoint()
            self.finish_epoch()  # the row of epoch 0: before training
        while self.state.iteration < self.schedule.max_iter or self.evaluation_due():
            if not self.evaluation_due():
                if not self.train_epoch(stop):
                    return False
                self.save_checkpoint()  # before the evaluation, which may be long
            self.finish_epoch()
        self.save_checkpoint()
        return True

    def train_epoch(self, stop):
        """From where the run is to the epoch's end; returns False where it was asked to stop."""
        options, state = self.options, self.state
        epoch, position = divmod(state.iteration, self.epoch_iterations)
        batches = self.batches(epoch, position)
        left = min(self.epoch_iterations - position, self.schedule.max_iter - state.iteration)
        pictures = state.group_batch * options.iter_size
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
            self.options.num_workers, self.features,
        )  # fmt: skip
        return read if self.features else feed(read, self.preprocessing, self.device)

    def update(self, batches, stop):
        """One iteration: the next iter_size of `batches`, and one train_step."""
        iteration = self.state.iteration
        rate = self.schedule.rate(iteration)
        self.dropout.begin(iteration)
        chosen = islice(batches, self.options.iter_size)
        try:
            step = train_step(self.learner, self.solver, chosen, rate, stop)
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
        row.update(self.evaluate())
        is_best = all(better(row, old) for old in state.rows)
        state.close_epoch(row)
        if self.is_first:
            self.write_results(row, is_best)

    def evaluate(self):
        """{val_loss, val_top1, val_top5} of the whole val list; each picture counts once."""
        workers = self.options.num_workers
        evaluator = Evaluator(self.tensors(), self.state.config, self.device, workers)
        with Meter('evaluation', len(self.val_list) // self.world, self.is_first) as meter:
            part = evaluator.evaluate(self.val_list, self.rank, self.world, meter)
        sums = processes.mean_over_group(paddle.to_tensor(part.sums(), 'float64'))
        pictures, top1, top5, loss = sums.tolist()
        return {
            'val_loss': loss / pictures,
            'val_top1': top1 / pictures,
            'val_top5': top5 / pictures,
        }

    def tensors(self):
        return {name: value.numpy() for name, value in self.learner.network.state_dict().items()}

    def save_checkpoint(self):
        """Rank 0 alone writes."""
        if self.is_first:
            velocity = self.solver.flat.arrays(self.solver.velocity)
            folder = output.checkpoints_of(self.options)
            save_checkpoint(folder, self.tensors(), velocity, self.state, self.options.keep)

    def write_results(self, row, is_best):
        """best/ (if it is), last/, log.csv, curves.png, and a line for the reader."""
        rows, tensors, config = self.state.rows, self.tensors(), self.state.config
        if is_best:
            parameters.write_model(self.output / 'best', tensors, config)
        parameters.write_model(self.output / 'last', tensors, config)
        report.write_log(rows, self.output / 'log.csv')
        report.draw_curves(rows, self.output / 'curves.png')
        self.events.write(row)
        print(epoch_line(row) + (' (best)' if is_best else ''), flush=True)


def better(row, other):
    """By top-1, and by the loss where that is the same."""
    return (row['val_top1'], -row['val_loss']) > (other['val_top1'], -other['val_loss'])


def epoch_line(row):
    trained = f'train loss {row["train_loss"]:.4f}, ' if 'train_loss' in row else ''
    speed = f', {row["images_per_second"]:.1f} images/s' if row['images_per_second'] else ''
    return (
        f'epoch {row["epoch"]}: {trained}val loss {row["val_loss"]:.4f}, '
        f'top-1 {row["val_top1"]:.2%}, top-5 {row["val_top5"]:.2%}{speed}'
    )


def stopped(run, stop):
    """Say how to go on; the exit status of a process that a signal ended."""
    if run.is_first:
        print(
            f'stopped after iteration {run.state.iteration} of {run.schedule.max_iter}; '
            f'continue with: python train.py --resume --output {run.output}',
            flush=True,
        )
    return 128 + (stop.signal or signal.SIGTERM)


def report_best(run):
    """Evaluate best/ once more, for report/: per-class table, confusion matrix, mistakes."""
    tensors, config = parameters.read_model(run.output / 'best')
    evaluator = Evaluator(tensors, config, run.device, run.options.num_workers)
    write_report(evaluator.evaluate(run.val_list), run.val_list, config, run.output / 'report')
    rows = run.state.rows
    best = max(row['val_top1'] for row in rows)
    print(
        f'val top-1 {rows[0]["val_top1"]:.2%} before training, {best:.2%} at its best\n'
        f'written to {run.output}: best/, last/, log.csv, curves.png, report/'
    )


if __name__ == '__main__':
    sys.exit(main())
