"""Training mirrors its pictures, unless classes are seen to be each other's mirror images."""

import json

import cv2
import numpy as np
import pytest

import train
from runs import setup, summary
from runs.options import parse_options
from training.head import Centres
from training.mirroring import find_mirror_pair

NO_OLD_CLASSES = np.empty((0, 8), np.float32)


def centres(of_each, sides, noise, classes=2, seed=0):
    """Made up: what tells classes 0 and 1 apart is by `sides` of the sign that mirroring turns."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), of_each)
    plain = random.normal(0, noise, (len(labels), 8))
    mirrored = plain + random.normal(0, noise, plain.shape) / 3
    for features, sign in ((plain, 1), (mirrored, 1 - 2 * sides)):
        features[labels == 0, 0] += sign
        features[labels == 1, 0] -= sign
        for other in range(2, classes):
            features[labels == other, other] += 2
    return Centres(*np.float32([plain, mirrored]), labels, np.arange(len(labels)))


@pytest.mark.parametrize(
    ('of_each', 'noise', 'classes'), [(12, 0.2, 2), (19, 0.6, 2), (30, 0.4, 5)]
)
def test_classes_that_are_mirror_images_are_seen(of_each, noise, classes):
    pair = find_mirror_pair(centres(of_each, 1, noise, classes), classes, NO_OLD_CLASSES)
    assert pair.classes == (0, 1)
    assert of_each < pair.swapped <= pair.recognised <= 2 * of_each


@pytest.mark.parametrize('noise', [0.2, 1.0, 5.0])  # of 5.0, nothing can be told apart
@pytest.mark.parametrize('of_each', [1, 2, 5, 40])
def test_ordinary_classes_are_not_taken_for_mirror_images(of_each, noise):
    for seed in range(10):
        made = centres(of_each, 0, noise, 3, seed)
        assert find_mirror_pair(made, 3, NO_OLD_CLASSES) is None


def test_few_pictures_prove_nothing():
    assert find_mirror_pair(centres(4, 1, 0.1), 2, NO_OLD_CLASSES) is None


@pytest.fixture(scope='module')
def arrows(tmp_path_factory):
    """A folder: 14 pictures each of triangles that point left and right, on noise."""
    folder, random = tmp_path_factory.mktemp('arrows'), np.random.default_rng(3)
    for name, side in (('left', -1), ('right', 1)):
        (folder / name).mkdir()
        for number in range(14):
            picture = random.integers(0, 60, (160, 160, 3)).astype(np.uint8)
            x, y = random.integers(65, 95, 2)
            size = int(random.integers(25, 50))
            corners = [
                (x + side * size, y),
                (x - side * size, y - size),
                (x - side * size, y + size),
            ]
            colour = random.integers(120, 255, 3).tolist()
            cv2.fillPoly(picture, [np.int32(corners)], colour)
            cv2.imwrite(str(folder / name / f'{number}.png'), picture)
    return folder


def test_arrows_are_not_mirrored_and_the_decision_is_kept(arrows, tmp_path, capsys):
    output = tmp_path / 'out'
    flags = '--device', 'cpu', '--num_workers', '0', '--output', str(output)
    assert train.main([str(arrows), *flags, '--epochs', '0']) == 0
    text = capsys.readouterr().out
    assert "'left' and 'right' are classified as the other one" in text and '--no-mirror' in text
    assert setup.stored_options(parse_options(['--resume', *flags]))['mirror'] is False
    assert train.main(['--resume', *flags, '--epochs', '1']) == 0
    assert setup.stored_options(parse_options(['--resume', *flags]))['mirror'] is False
    assert 'classified as the other one' not in capsys.readouterr().out
    begun = ['--model', str(output / 'best'), '--output', str(tmp_path / 'again'), '--epochs', '0']
    assert train.main([str(arrows), *flags, *begun]) == 0  # conv10 is not made anew
    assert 'classified as the other one' in capsys.readouterr().out


@pytest.mark.parametrize(('flags', 'expected'), [((), 0.0), (('--mirror',), 0.5)])
def test_the_batch_shown_is_mirrored_as_training_would(
    arrows, tmp_path, monkeypatch, flags, expected
):
    made = []
    augmentation = summary.Augmentation
    monkeypatch.setattr(
        summary, 'Augmentation', lambda **how: made.append(how) or augmentation(**how)
    )
    command = [str(arrows), '--show_batch', str(tmp_path / 'a.png'), '--num_workers', '0', *flags]
    assert train.main(command) == 0
    assert made[-1]['mirror'] == expected


def test_without_mirroring_conv10_is_fitted_to_unmirrored_pictures_alone(arrows, tmp_path):
    """One that has seen each picture from both sides cannot tell left from right."""
    losses = []
    for flag in ('--mirror', '--no-mirror'):
        output = tmp_path / flag
        flags = '--device', 'cpu', '--num_workers', '0', '--epochs', '0', '--output', str(output)
        assert train.main([str(arrows), flag, *flags]) == 0
        losses.append(json.loads((output / 'run.json').read_text())['results']['val']['loss'])
    assert losses[0] > 0.5 > 0.1 > losses[1]  # ln 2 is 0.69
