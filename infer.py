"""What a SqueezeNet sees: top-1 and top-5 of a val list, or the likeliest classes of pictures.

python infer.py --model output/best --val_list data/val.txt --report report
python infer.py --model caffe_params photo.jpg folder_of_photos --plot sheet.png
"""

import argparse
import csv
import json
import os
import sys
from pathlib import Path

import common.paddle_setup  # noqa: F401 - before Paddle

import numpy as np

import reader
from common.console import Meter, UserError, one_line_errors
from common.cores import usable_cores
from common.device import choose_device
from common.files import atomic_write
from models import parameters
from network.preprocessing import RESIZES
from pictures import folders, lists
from results import evaluation, report

COLUMNS = ['path', 'label', *(f'{kind}{rank}' for rank in range(5) for kind in ('class', 'prob'))]
MOST_PLOTTED = 48


class InferError(UserError):
    """The command line asks for something that cannot be done."""


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('pictures', nargs='*', help='picture files, and folders of them')
    parser.add_argument(
        '--model',
        help='parameter directory, .caffemodel, .safetensors or .pdparams file (default: '
        'caffe_params if it is there, else the bundled Caffe weights)',
    )
    parser.add_argument('--val_list', help='list of lines `path label` to evaluate on')
    parser.add_argument('--data_dir', help="where its paths start (default: the list's folder)")
    parser.add_argument(
        '--resize', choices=RESIZES, help="default: as the model's config.json says"
    )
    parser.add_argument(
        '--num_workers',
        type=int,
        default=usable_cores(),
        help='processes for a val list (default: a core each); 0: none but this one',
    )
    parser.add_argument('--device', choices=['auto', 'cpu', 'gpu'], default='auto')
    parser.add_argument('--output', help='write results a picture: FILE.csv or FILE.json')
    parser.add_argument('--plot', metavar='PNG', help='draw the pictures with their classes')
    parser.add_argument(
        '--report', metavar='DIR', help='per-class table, confusion matrix, worst mistakes'
    )
    args = parser.parse_args(argv)
    if bool(args.pictures) == bool(args.val_list):
        parser.error('give pictures, or --val_list LIST')
    if args.report and not args.val_list:
        parser.error('--report needs a --val_list, since it compares with labels')
    if args.output and Path(args.output).suffix not in ('.csv', '.json'):
        parser.error(f'--output {args.output}: must end in .csv or .json')
    if args.num_workers < 0:
        parser.error('--num_workers must be 0 or more')
    return args


@one_line_errors
def main(argv=None):
    args = parse_arguments(argv)
    tensors, config = parameters.read_model(args.model or parameters.default_model())
    names = evaluation.class_names(config)
    if args.resize:
        config['preprocessing']['resize'] = args.resize
    device = choose_device(args.device)
    workers = args.num_workers if args.val_list else 0
    evaluator = evaluation.Evaluator(tensors, config, device, workers)
    if args.val_list:
        return evaluate_list(args, evaluator, {**config, 'class_names': names})
    return look_at_pictures(args, evaluator, names)


def evaluate_list(args, evaluator, config):
    """Top-1, top-5 and loss of --val_list; --output, --plot and --report as asked."""
    pictures = lists.read_list(args.val_list, args.data_dir, config['class_num'])
    with Meter('evaluation', len(pictures)) as meter:
        result = evaluator.evaluate(pictures, meter=meter)
        rate = meter.rate()
    count, top1, top5, loss = result.sums()
    summary = {
        'images': int(count),
        'top1': top1 / count,
        'top5': top5 / count,
        'loss': loss / count,
        'images_per_second': rate,
    }
    print(
        f'{count:.0f} images: top-1 {top1 / count:.2%}, top-5 {top5 / count:.2%}, '
        f'loss {loss / count:.4f}, {rate:.1f} images/s'
    )
    rows = [
        (pictures.entry(index), label, classes, probabilities)
        for index, label, classes, probabilities, _ in zip(*result)
    ]
    if args.output:
        write_results(args.output, rows, config['class_names'], summary)
    if args.plot:
        draw_sheet(
            args.plot,
            [(pictures.path(i), *row[2:]) for i, row in enumerate(rows)],
            config['class_names'],
        )
    if args.report:
        print(report.format_per_class(evaluation.per_class(result, config)))
        evaluation.write_report(result, pictures, config, args.report)
    return 0


def look_at_pictures(args, evaluator, names):
    """Print the likeliest classes of each picture; exit status 1 if any cannot be read."""
    rows, failed = [], 0
    for path in find_pictures(args.pictures):
        try:
            crop = reader.preprocess(path, evaluator.preprocessing)
        except reader.PictureError as error:
            print(f'infer.py: {error}', file=sys.stderr)
            failed += 1
            continue
        nothing = np.zeros(1, np.int64)
        scored = evaluator.compute(nothing, crop[None], nothing)
        _, _, (classes,), (probabilities,), _ = scored
        rows.append((path, '', classes, probabilities))
        print(readable(path))
        for number, probability in zip(classes, probabilities):
            print(f'  {probability:7.2%}  {names[number]}')
    if args.output:
        write_results(args.output, rows, names, {'images': len(rows)})
    if args.plot and rows:
        draw_sheet(args.plot, [(row[0], *row[2:]) for row in rows], names)
    return 1 if failed else 0


def find_pictures(paths):
    """Every picture named, and those in the folders named, in order. Raises InferError."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        found, _ = folders.find_pictures(path)
        if not found:
            raise InferError(f'{path}: holds no pictures')
        yield from found


def write_results(path, rows, names, summary):
    """--output: a csv of COLUMNS, or a json of the summary and the pictures with class names."""
    with atomic_write(path, 'w') as file:
        if Path(path).suffix == '.csv':
            writer = csv.writer(file, lineterminator='\n')
            writer.writerow(COLUMNS)
            for name, label, classes, probabilities in rows:
                pairs = [x for c, p in zip(classes, probabilities) for x in (c, f'{p:.9g}')]
                row = [readable(name), label, *pairs]
                writer.writerow(row + [''] * (len(COLUMNS) - len(row)))
            return
        pictures = [
            {
                'path': readable(name),
                'label': None if label == '' else int(label),
                'top': [
                    {'class': int(c), 'name': names[c], 'probability': float(p)}
                    for c, p in zip(classes, probabilities)
                ],
            }
            for name, label, classes, probabilities in rows
        ]
        json.dump({**summary, 'pictures': pictures}, file, indent=1, ensure_ascii=False)


def readable(path):
    """A path as text that can be written: Linux lets file names hold bytes that are no UTF-8."""
    return str(path).encode(errors='surrogateescape').decode(errors='replace')


def draw_sheet(path, rows, names):
    """--plot: the first MOST_PLOTTED pictures with their classes."""
    if len(rows) > MOST_PLOTTED:
        print(f'{path} shows the first {MOST_PLOTTED} of {len(rows)} pictures')
    report.draw_sheet(
        [
            (name, Path(name).name, [(names[c], p) for c, p in zip(classes, probabilities)])
            for name, classes, probabilities in rows[:MOST_PLOTTED]
        ],
        path,
    )


if __name__ == '__main__':
    sys.exit(main())
