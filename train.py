"""Fine-tune SqueezeNet on a list of pictures: `python train.py --model caffe_params --trainer 2`.

Reads like the experiment that it is: `main` parses and starts the processes, `train` is the recipe
of a run, `train_step` one update as Caffe's solver makes it. All that is random depends on --seed
and the position in the run alone, so a run that was stopped continues bit for bit.
"""

import signal
import sys
from pathlib import Path

import common.paddle_setup  # noqa: F401 - before Paddle

import paddle

import reader
from common.console import Meter, UserError, one_line_errors
from common.device import choose_device
from models import parameters
from network.preprocessing import preprocessing_of
from pictures import lists
from results import report
from results.evaluation import Evaluator, write_report
from results.events import Events
from training import processes
from training.checkpoint import save_checkpoint
from training.options import parse_options
from training.precision import Precision, check_precision
from training.solver import SGD, learning_rate
from training.start import checkpoints_of, prepare, shared_start, stored_options
from training.step import FrozenFeatures, SharedDropout, train_step, trained_parameters


class TrainingError(UserError):
    """The run cannot go on."""


class Run:
    """One training run: its network, its solver, and how far it is (`progress`, see checkpoint)."""

    def __init__(self, options, start, rank, world, device, features):
        self.options, self.config, self.progress = options, start.config, start.progress
        self.rank, self.world, self.device = rank, world, device
        self.output = Path(options.output)
        self.preprocessing = preprocessing_of(start.config)
        self.sampling = reader.Sampling(
            options.batch_size, options.seed, options.mirror, rank, world, options.iter_size
        )
        class_num = start.config['class_num']
        self.train_list = lists.read_list(options.train_list, options.data_dir, class_num)
        self.val_list = lists.read_list(options.val_list, options.data_dir, class_num)
        self.epoch_iterations = self.sampling.iterations(len(self.train_list))
        self.max_iter = options.max_iter or options.epochs * self.epoch_iterations
        batch, before = options.batch_size * world, self.progress.get('batch_of_all')
        if before not in (None, batch):
            raise TrainingError(
                f'the processes share batches of {batch} and did of {before}: on --resume, their '
                'number times --batch_size must stay'
            )
        self.progress['batch_of_all'] = batch
        self.network = parameters.build_network(start.tensors, self.config, options.dropout)
        self.network.dropout = SharedDropout(options.dropout, rank, world)
        self.precision = Precision(options.amp, self.progress['precision'])
        trained = trained_parameters(self.network, options.freeze)
        self.solver = SGD(trained, options.momentum, options.weight_decay, options.solver)
        self.solver.velocity = {name: paddle.to_tensor(start.velocity[name]) for name in trained}
        self.after = options.freeze if features else None  # where the readers leave off
        self.features = features
        self.events = Events(self.output / 'events', options.tensorboard and rank == 0)
        self.images_per_second = None

    @property
    def iteration(self):
        return self.progress['iteration']

    def rate(self):
        options = self.options
        return learning_rate(
            options.lr_policy, options.lr, self.iteration, self.max_iter, options.power,
            options.step_size, options.gamma,
        )  # fmt: skip

    def tensors(self):
        return {name: value.numpy() for name, value in self.network.state_dict().items()}

    def save_checkpoint(self):
        """Rank 0 alone writes."""
        if self.rank == 0:
            velocity = {name: value.numpy() for name, value in self.solver.velocity.items()}
            folder = checkpoints_of(self.options)
            save_checkpoint(folder, self.tensors(), velocity, self.progress, self.options.keep)

    def to_the_end(self, stop):
        """All the epochs that are left; returns False where the run was asked to stop."""
        if self.iteration == 0 and not self.progress['rows']:
            self.save_checkpoint()
            self.finish_epoch()  # the row of epoch 0: before training
        while self.iteration < self.max_iter or self.evaluation_due():
            if not self.evaluation_due():
                if not self.train_epoch(stop):
                    return False
                self.save_checkpoint()  # before the evaluation, which may be long
            self.finish_epoch()
        self.save_checkpoint()
        return True

    def train_epoch(self, stop):
        """From where the run is to the epoch's end; returns False where it was asked to stop."""
        options = self.options
        epoch, position = divmod(self.iteration, self.epoch_iterations)
        batches = reader.train_loader(
            self.train_list, self.preprocessing, self.sampling, epoch, position,
            options.num_workers, self.features,
        )  # fmt: skip
        left = min(self.epoch_iterations - position, self.max_iter - self.iteration)
        pictures = options.batch_size * options.iter_size * self.world
        with Meter(f'epoch {epoch + 1}', left * pictures, self.rank == 0) as meter:
            for _ in range(left):
                rate = self.rate()
                step = self.update(batches, rate, bool(stop))
                meter.count(pictures, loss=step.loss, lr=rate)
                if step.stop or self.iteration % options.save_every == 0:
                    self.save_checkpoint()
                if step.stop:
                    batches.close()
                    return False
        batches.close()
        self.images_per_second = meter.rate()
        return True

    def update(self, batches, rate, stop):
        """One iteration: the next iter_size of `batches`, and one train_step."""
        options = self.options
        # Dropout depends on the iteration alone: there is no generator whose state to keep.
        paddle.seed((options.seed * 1_000_003 + self.iteration) % 2**31)
        chosen = [next(batches) for _ in range(options.iter_size)]
        if self.after is None:
            chosen = [(reader.network_input(c, self.preprocessing), labels) for c, labels in chosen]
        try:
            step = train_step(
                self.network, self.solver, chosen, rate, stop, self.precision, self.after
            )
        except FloatingPointError:
            raise TrainingError(
                f'the loss or a gradient is NaN or infinite at iteration {self.iteration} (rate '
                f'{rate:g}); the last checkpoint is kept. Try a lower --lr'
            ) from None
        sums = self.progress['epoch_sums']
        self.progress['epoch_sums'] = [sums[0] + step.loss, sums[1] + step.top1, sums[2] + 1]
        self.progress['precision'] = self.precision.state
        self.progress['iteration'] += 1
        return step

    def evaluation_due(self):
        """Whether an epoch (or the run) is complete but for its evaluation."""
        complete = self.iteration % self.epoch_iterations == 0 or self.iteration == self.max_iter
        return complete and self.progress['epoch_sums'][2] > 0

    def finish_epoch(self):
        """Evaluate; then write best/ (if it is), last/, log.csv and curves.png."""
        row = {
            'epoch': -(-self.iteration // self.epoch_iterations),
            'iteration': self.iteration,
            'lr': self.rate() if self.iteration < self.max_iter else 0.0,
            'images_per_second': self.images_per_second,
        }
        loss, top1, count = self.progress['epoch_sums']
        if count:
            row.update(train_loss=loss / count, train_top1=top1 / count)
        row.update(self.evaluate())
        is_best = all(better(row, old) for old in self.progress['rows'])
        self.progress['rows'].append(row)
        self.progress['epoch_sums'] = [0.0, 0.0, 0]
        if self.rank == 0:
            self.write_results(row, is_best)

    def evaluate(self):
        """{val_loss, val_top1, val_top5} of the whole val list; each picture counts once."""
        with Meter('evaluation', len(self.val_list) // self.world, self.rank == 0) as meter:
            evaluator = Evaluator(
                self.tensors(), self.config, self.device, self.options.num_workers
            )
            part = evaluator.evaluate(self.val_list, self.rank, self.world, meter)
        parts = processes.mean_over_group(paddle.to_tensor(part.sums(), 'float64')).tolist()
        pictures, top1, top5, loss = parts
        return {
            'val_loss': loss / pictures,
            'val_top1': top1 / pictures,
            'val_top5': top5 / pictures,
        }

    def write_results(self, row, is_best):
        """best/ (if it is), last/, log.csv, curves.png, and a line for the reader."""
        rows, tensors = self.progress['rows'], self.tensors()
        if is_best:
            parameters.write_model(self.output / 'best', tensors, self.config)
        parameters.write_model(self.output / 'last', tensors, self.config)
        report.write_log(rows, self.output / 'log.csv')
        report.draw_curves(rows, self.output / 'curves.png')
        self.events.write(row)
        trained = f'train loss {row["train_loss"]:.4f}, ' if 'train_loss' in row else ''
        speed = f', {row["images_per_second"]:.1f} images/s' if row['images_per_second'] else ''
        print(
            f'epoch {row["epoch"]}: {trained}val loss {row["val_loss"]:.4f}, '
            f'top-1 {row["val_top1"]:.2%}, top-5 {row["val_top5"]:.2%}{speed}'
            f'{" (best)" if is_best else ""}',
            flush=True,
        )


def better(row, other):
    """By top-1, and by the loss where that is the same."""
    return (row['val_top1'], -row['val_loss']) > (other['val_top1'], -other['val_loss'])


def train(options):
    """A whole run, in each of its processes; returns the exit status."""
    device = choose_device(options.device)
    check_precision(options.amp, device)
    rank, world = processes.join_group()
    stop = processes.StopRequest()
    start, options = shared_start(options, rank)
    features = None
    if options.freeze and not device.is_gpu:
        features = FrozenFeatures(start.tensors, start.config, options.freeze)
    run = Run(options, start, rank, world, device, features)
    finished = run.to_the_end(stop)
    if not finished:
        return stopped(run, stop)
    if rank == 0:
        report_best(run)
    return 0


def stopped(run, stop):
    """Say how to go on; the exit status of a process that a signal ended."""
    if run.rank == 0:
        print(
            f'stopped after iteration {run.iteration} of {run.max_iter}; '
            f'continue with: python train.py --resume --output {run.output}',
            flush=True,
        )
    return 128 + (stop.signal or signal.SIGTERM)


def report_best(run):
    """Evaluate best/ once more, for report/: per-class table, confusion matrix, mistakes."""
    tensors, config = parameters.read_model(run.output / 'best')
    evaluator = Evaluator(tensors, config, run.device, run.options.num_workers)
    result = evaluator.evaluate(run.val_list)
    write_report(result, run.val_list, config, run.output / 'report')
    first, best = run.progress['rows'][0], max(row['val_top1'] for row in run.progress['rows'])
    print(
        f'val top-1 {first["val_top1"]:.2%} before training, {best:.2%} at its best\n'
        f'written to {run.output}: best/, last/, log.csv, curves.png, report/'
    )


@one_line_errors
def main(argv=None):
    paddle.disable_signal_handler()  # it writes C++ traces where a signal ends the process
    options = parse_options(argv)
    if options.resume and processes.first():
        options = parse_options(argv, stored_options(options))
    device = choose_device(options.device)
    check_precision(options.amp, device)
    if processes.first():
        prepare(options)
    if options.trainer == 1 or processes.launched():
        return train(options)
    return processes.run_trainers(train, options, options.trainer, device.backend)


if __name__ == '__main__':
    sys.exit(main())
