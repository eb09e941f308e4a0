"""--amp bfloat16 on a processor: the layers that --freeze keeps, which Paddle Inference computes.

It is meant for processors with amx_bf16. Those with avx512_bf16 compute the same, only slower, so
these tests run there, too, told that amx_bf16 was there.
"""

import csv

import numpy as np
import pytest

import train
from common.console import UserError
from common.device import CPU
from evaluation import precision
from models import model_io
from training.precision import check_precision
from training.step import FrozenFeatures

HAS_BFLOAT16 = {'amx_bf16', 'avx512_bf16'} & set(precision.processor_flags())
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason='this processor has no bfloat16')


@pytest.fixture
def told_of_amx(tmp_path, monkeypatch):
    (tmp_path / 'cpuinfo').write_text('flags : fpu amx_bf16\n')
    monkeypatch.setattr(precision, 'PROCESSOR', tmp_path / 'cpuinfo')


def test_what_a_processor_cannot_do_is_refused(told_of_amx, tmp_path):
    check_precision('bfloat16', CPU, 'fire5')
    for amp, freeze in (('float16', 'fire5'), ('tf32', 'fire5'), ('bfloat16', 'none')):
        with pytest.raises(UserError, match=f'--amp {amp} needs a GPU'):
            check_precision(amp, CPU, freeze)
    (tmp_path / 'cpuinfo').write_text('flags : fpu avx512_bf16\n')
    with pytest.raises(UserError, match='--amp bfloat16 needs a processor with amx_bf16'):
        check_precision('bfloat16', CPU, 'fire5')


@needs_bfloat16
def test_features_are_within_a_fiftieth_of_the_largest(seeded_tensors, pixels):
    config = model_io.make_config('1.1', None, 10)
    crops, labels = pixels.astype(np.uint8), np.arange(2)
    exact, rounded = (
        FrozenFeatures(seeded_tensors('1.1'), config, 'pool5', digits)(None, crops, labels)[0]
        for digits in ('float32', 'bfloat16')
    )
    assert rounded.dtype == np.float32
    difference = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 0 < difference < 0.02


@needs_bfloat16
def test_a_run_takes_them_and_trains_in_float32(told_of_amx, three_classes, pair, tmp_path, capsys):
    losses = {}
    for name, flags in (('float32', ()), ('bfloat16', ('--amp', 'bfloat16'))):
        output = tmp_path / name
        common = ['--model', three_classes, '--train_list', pair, '--val_list', pair]
        common += ['--epochs', 2, '--num_workers', 0, '--no-mirror', '--crop', 'five']
        arguments = [*common, '--output', output, '--device', 'cpu', *flags]
        assert train.main(list(map(str, arguments))) == 0
        words = 'float32, bfloat16 up to fire5' if flags else 'float32'
        assert f'device: CPU, {words}, trainers: 1' in capsys.readouterr().out
        with open(output / 'log.csv', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
        losses[name] = np.array([float(row['train_loss']) for row in rows[1:]])
    assert losses['bfloat16'] == pytest.approx(losses['float32'], rel=0.05)
    assert not np.array_equal(losses['bfloat16'], losses['float32'])
