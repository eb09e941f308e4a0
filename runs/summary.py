"""What a run tells: a line an epoch, why it ends, and at its end run.json and report/index.html."""

import importlib.metadata
import json
import math
import platform
import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np

import reader
from common.console import quoted
from common.files import atomic_write, check_writable, current_path
from evaluation import temperature
from evaluation.activation_map import ActivationMaps, worst_mistakes
from evaluation.evaluator import class_names, per_class, write_report
from figures import image_grid
from models import model_io
from network.preprocessing import preprocessing_of
from pictures import lists
from pictures.augmentation import Augmentation
from runs import html_report, run_lists, setup

SHOWN = 24  # pictures of --show_batch
FEW_VAL_PICTURES = 50  # of fewer, one that is right by chance is a difference
NUMPY_AND_OTHERS = ('numpy', 'opencv-python-headless', 'safetensors')


def epoch_line(row):
    trained = f'train loss {row["train_loss"]:.4f}, ' if 'train_loss' in row else ''
    speed = f', {row["images_per_second"]:.1f} images/s' if row['images_per_second'] else ''
    return (
        f'epoch {row["epoch"]}: {trained}val loss {row["val_loss"]:.4f}, '
        f'top-1 {row["val_top1"]:.2%}, top-5 {row["val_top5"]:.2%}{speed}'
    )


def should_stop(state, options):
    """Why a run ends before its last epoch, in words, or None; the same in every process."""
    rows = [row for row in state.rows if row['iteration'] >= state.cycle_start]
    best = max(rows, key=lambda row: (row['val_top1'], -row['val_loss']), default=None)
    waited = rows[-1]['epoch'] - best['epoch'] if rows else 0
    if options.patience and waited >= options.patience:
        return f'no better epoch for {waited}: the run ends (--patience)'
    if options.time and len(rows) > 1:
        an_epoch = rows[-1]['seconds'] - rows[-2]['seconds']
        if rows[-1]['seconds'] + an_epoch > options.time:
            return f'one more epoch would not fit into {options.time:.0f} s: the run ends (--time)'
    return None


def collapse_warning(row, evaluation, class_num):
    """What is wrong with how it learns, in words, or None."""
    if answers_alike(evaluation):
        return 'the network gives every picture the same answer: try a lower --lr, or --head fit'
    if abs(row.get('train_loss', 0) - math.log(class_num)) < 1e-4:
        return (
            f'the loss stays at ln {class_num} = {math.log(class_num):.4f}, as if nothing were '
            'learned: try another --lr, or --head fit'
        )
    return None


def answers_alike(evaluation):
    """Whether all of several pictures got the same classes with the same probabilities."""
    if len(evaluation.labels) < 2 or evaluation.classes.shape[1] < 2:
        return False
    spread = np.ptp(evaluation.probabilities, axis=0).max()
    return (evaluation.classes == evaluation.classes[0]).all() and spread < 1e-6


def report_best(run):
    """Evaluate best/ once more: report/, its temperature and threshold, the test list, run.json."""
    tensors, config = model_io.read_model(run.output / 'best')
    config = calibrated(run, tensors, config)
    model_io.write_model(run.output / 'best', tensors, config)
    evaluator = run.evaluator(tensors, config)
    val = evaluator.evaluate(run.val_list)
    test = evaluator.evaluate(run.test_list) if run.test_list else None
    write_report(val, run.val_list, config, run.output / 'report')
    told = describe(run, config, val, test)
    with atomic_write(run.output / 'run.json', 'w', beside=True) as file:
        json.dump(told, file, indent=1, ensure_ascii=False)
    write_page(run, (tensors, config), val, told)
    print(closing_words(run, told))


def calibrated(run, tensors, config):
    """`config` with the temperature and, with --unknown, the threshold that the val list gives."""
    options = run.options
    config = {k: v for k, v in config.items() if k not in ('temperature', 'threshold')}
    if not (options.calibrate or options.unknown):
        return config
    evaluator = run.evaluator(tensors, config)
    logits, labels = evaluator.logits(run.val_list)
    if options.calibrate:
        config['temperature'] = temperature.fit_temperature(logits, labels)
    if options.unknown:
        chances = temperature.log_softmax(logits, config.get('temperature', 1.0))
        right = chances.argmax(axis=1) == labels
        certainties = np.exp(chances.max(axis=1))
        chosen = temperature.choose_threshold(certainties, right, options.unknown)
        if chosen is None:
            print(f'--unknown {options.unknown:g}: no threshold makes its answers right so often')
        else:
            config['threshold'] = chosen.value
            print(
                f'below a probability of {chosen.value:.3f} it answers `unknown`: on the val list, '
                f'{chosen.precision:.1%} of its answers are right, and it answers '
                f'{chosen.answered:.1%} of the pictures'
            )
    return config


def describe(run, config, val, test):
    """What run.json holds."""
    rows = run.state.rows
    best = max(rows, key=lambda row: (row['val_top1'], -row['val_loss']))
    results = {'best_epoch': best['epoch'], 'val': measures(val, config)}
    if test is not None:
        results['test'] = measures(test, config)
    return {
        'results': results,
        'start': {'val_top1': rows[0]['val_top1']},
        'seconds': rows[-1]['seconds'],
        'device': str(run.device),
        'pictures': {'train': len(run.train_list), 'val': len(run.val_list)},
        'temperature': config.get('temperature'),
        'threshold': config.get('threshold'),
        'options': vars(run.options),
        'versions': versions(),
    }


def measures(evaluation, config):
    """{top1, top5, balanced, loss} of an Evaluation; shares of 1."""
    pictures, top1, top5, loss = evaluation.sums()
    in_class, right = evaluation.class_sums(config['class_num'])
    return {
        'top1': top1 / pictures,
        'top5': top5 / pictures,
        'balanced': float((right[in_class > 0] / in_class[in_class > 0]).mean()),
        'loss': loss / pictures,
    }


def versions():
    import paddle

    found = {'python': platform.python_version(), 'paddle': paddle.__version__}
    for name in NUMPY_AND_OTHERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_page(run, model, val, told):
    """report/index.html: figures, curves, classes, confusion, mistakes; see runs/html_report.py."""
    (tensors, config), results = model, told['results']
    figures = {'val top-1': f'{results["val"]["top1"]:.1%}'}
    if len(run.val_list.class_counts()) > 1:
        figures['val balanced accuracy'] = f'{results["val"]["balanced"]:.1%}'
    if 'test' in results:
        figures['test top-1'] = f'{results["test"]["top1"]:.1%}'
    figures['pictures to train on'] = f'{len(run.train_list):,}'
    figures['minutes'] = f'{told["seconds"] / 60:.1f}'
    folder, maps = run.output / 'report', ActivationMaps(tensors, config)
    mistakes = worst_mistakes(val, run.val_list, class_names(config), maps, SHOWN)
    sections = {
        'Learning': html_report.picture(
            current_path(run.output / 'curves.png').read_bytes(), 'learning curves'
        ),
        'Classes': html_report.class_table(per_class(val, config)),
        'Confusion': html_report.picture(
            current_path(folder / 'confusion.png').read_bytes(), 'confusion matrix'
        ),
        'Worst mistakes': html_report.mistake_cards(mistakes),
        'The run': html_report.details(told),
    }
    write = html_report.write_page
    write(folder / 'index.html', f'What {run.output.name}/best has learned', figures, sections)


def closing_words(run, told):
    """The last lines of a run, and what to do next."""
    before, results = told['start']['val_top1'], told['results']
    out = run.output
    test = f', test top-1 {results["test"]["top1"]:.2%}' if 'test' in results else ''
    lines = [
        f'val top-1 {before:.2%} at the start, {results["val"]["top1"]:.2%} at its best, '
        f'balanced {results["val"]["balanced"]:.2%}{test}',
        *val_remarks(before, results['val']['top1'], len(run.val_list), run.options.mirror),
        f'written to {out}: best/, last/, report/index.html, log.csv, curves.png, run.json',
        f'next: python infer.py --model {quoted(out / "best")} PICTURES',
    ]
    return '\n'.join(lines)


def val_remarks(before: float, best: float, pictures: int, mirror: bool) -> list[str]:
    """What val top-1 at the start and at its best allow to say, of so many pictures: 0 to 1 line.

    Of fewer than FEW_VAL_PICTURES only how sure the number is.
    """
    if pictures < FEW_VAL_PICTURES:
        from scipy.stats import binomtest  # 0.5 s

        right = round(best * pictures)
        interval = binomtest(right, pictures).proportion_ci(0.95, 'wilson')
        return [
            f'that is {right} of {pictures} right, and with so few val pictures anything from '
            f'{interval.low:.0%} to {interval.high:.0%} is likely (95 %); more of them tell more'
        ]
    if math.isclose(best, before) and before < 1:
        sides = '; where left and right differ, --no-mirror' if mirror else ''
        return [f'training brought nothing: more pictures per class help most{sides}']
    return []


def show_batch(options: Namespace) -> int:
    """--show_batch: draw what training sees of the first pictures; returns the exit status.

    Lists that a folder needs are gone afterwards. Raises UserError or OSError.
    """
    check_writable(options.show_batch)
    with tempfile.TemporaryDirectory() as place:
        if options.folder and not options.resume:
            run_lists.make_lists(options, Path(place))
        cells = _batch_cells(options)
    image_grid.draw_image_grid(cells, options.show_batch)
    print(f'written: {Path(options.show_batch)}, what training sees of {len(cells)} pictures')
    return 0


def _batch_cells(options: Namespace) -> list[tuple[np.ndarray, str, list]]:
    """The first pictures of the train list, augmented, as image_grid.draw_image_grid takes them."""
    pictures = lists.read_list(options.train_list, options.data_dir)
    names = lists.class_names_of(options.train_list)
    names = names or [str(label) for label in range(pictures.class_num)]
    if options.skip_bad:
        pictures = pictures.without(run_lists.bad_pictures(options, ['train_list'])['train_list'])
    tensors, config = setup.starting_model(options)
    classes = {**config, 'class_num': pictures.class_num, 'class_names': names}
    mirror = setup.may_mirror(options, tensors, classes, pictures)
    sampling = reader.Sampling(
        min(SHOWN, len(pictures)),
        options.seed,
        options.crop,
        mirror,
        Augmentation(mirror=0.5 * mirror, colour=options.colour),
        fast_decode=options.fast_decode,
    )
    crops, labels = next(reader.train_loader(pictures, preprocessing_of(config), sampling, 0))
    return [(crop, names[label], []) for crop, label in zip(crops, labels)]
