"""The network in one C file: its numbers are NumPy's, whatever the variant and the compiler."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import CAT, COFFEE, ROOT

import export
from common.console import UserError
from exports import c_compiler, c_plan, c_source, int8, integer_network
from network.config import make_config
from network.numpy_network import NumpyNetwork
from network.preprocessing import Preprocessing
from reader import network_input

OFFICIAL = ROOT / 'data' / 'squeezenet_v1.1.caffemodel'
STRICT = ('-Wall', '-Wextra', '-Wconversion', '-Wshadow', '-pedantic', '-Werror')
SANITISED = ('-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all')
HOST = [name for name in ('gcc', 'clang') if shutil.which(name)]
needs_compiler = pytest.mark.skipif(not HOST, reason='neither gcc nor clang is installed')
# version, bypass, conv10_pad, conv10_relu, class_num, crop, scale, channel order of the network
VARIANTS = [
    ('1.1', None, 0, True, 10, 64, 1.0, 'BGR'),
    ('1.1', None, 1, False, 3, 17, 0.5, 'RGB'),
    ('1.1', 'simple', 1, True, 5, 48, 1.0, 'BGR'),
    ('1.0', 'complex', 1, False, 7, 50, -1.0, 'BGR'),
    ('1.0', None, 0, True, 1, 65, 1.0, 'BGR'),
]


def crops_of(pixels, size):
    return np.ascontiguousarray(pixels[:, 60 : 60 + size, 60 : 60 + size]).astype(np.uint8)


CALIBRATED = {}  # of each variant, which takes seconds


def build(seeded_tensors, pixels, variant, pictures_order='RGB'):
    """(IntegerNetwork, float logits of the crops, uint8 BGR crops)."""
    if variant not in CALIBRATED:
        CALIBRATED[variant] = calibrate(seeded_tensors, pixels, variant)
    parts, exact, crops = CALIBRATED[variant]
    return integer_network.build(*parts, pictures_order), exact, crops


def calibrate(seeded_tensors, pixels, variant):
    version, bypass, pad, relu, class_num, crop, scale, order = variant
    wanted = Preprocessing(crop=crop, scale=scale, channel_order=order)
    config = make_config(
        version, bypass, class_num, conv10_pad=pad, conv10_relu=relu, preprocessing=wanted
    )
    tensors = seeded_tensors(version, bypass, class_num)
    crops = crops_of(pixels, crop)
    feeds = [network_input(crops, wanted)]
    rounded, steps = int8.rounded_weights(tensors, config, False, feeds)
    ranges = int8.blob_ranges(rounded, config, False, feeds)
    parts = rounded, config, steps, ranges, max(map(abs, ranges['logits']))
    return parts, NumpyNetwork(tensors, config)(feeds[0]), crops


@needs_compiler
@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_compiled_file_gives_the_numbers_of_numpy(variant, seeded_tensors, pixels):
    network, exact, crops = build(seeded_tensors, pixels, variant)
    made = c_source.write(network, c_source.Options('net'))
    rgb = crops[..., ::-1]
    pictures = np.concatenate([rgb, np.full_like(rgb, 255), np.zeros_like(rgb)])
    wanted = network.logits(pictures)
    flags = (*STRICT, *SANITISED)
    answers, logits = c_compiler.run([HOST[0]], made, 'net', pictures, flags)
    np.testing.assert_array_equal(logits, wanted)
    np.testing.assert_array_equal(answers, wanted.argmax(axis=1))
    difference = np.abs(wanted[:2] / 2.0**network.logit_bits - exact).max()
    assert difference < 0.1 * np.abs(exact).max()


@needs_compiler
@pytest.mark.parametrize('compiler', HOST)
def test_every_optimisation_gives_the_same_numbers(compiler, seeded_tensors, pixels):
    network, _, crops = build(seeded_tensors, pixels, VARIANTS[2], 'BGR')
    made = c_source.write(network, c_source.Options('net', 'BGR'))
    _, logits = c_compiler.run([compiler], made, 'net', crops, (*STRICT, '-O3'))
    np.testing.assert_array_equal(logits, network.logits(crops))


def test_bgr_file_reads_what_the_rgb_file_reads(seeded_tensors, pixels):
    rgb, _, crops = build(seeded_tensors, pixels, VARIANTS[0], 'RGB')
    bgr, _, _ = build(seeded_tensors, pixels, VARIANTS[0], 'BGR')
    np.testing.assert_array_equal(rgb.logits(crops[..., ::-1]), bgr.logits(crops))


def held_rows(config):
    """The most rows of each blob that a slow model holds: rows are made as early as can be, and
    kept until nothing that is not made yet reads them. {blob: rows}"""
    found = {}
    for step in c_plan.steps(config):
        if step.squeezed:
            most, used = 0, 0
            for made in range(1, step.width + 1):
                most = max(most, made - max(0, used - 1))  # output y reads from y - 1 on
                used = step.width if made == step.width else made - 1
            found[step.row.name] = most
    return found


@pytest.mark.parametrize('crop', [64, 227])
def test_plan_holds_the_rows_that_a_slow_model_holds(crop):
    config = make_config('1.1', None, 10, preprocessing=Preprocessing(crop=crop))
    for step in c_plan.steps(config):
        if step.squeezed:
            assert step.squeezed.slots == 3 == held_rows(config)[step.row.name]


def test_stated_multiplications_are_those_of_the_network():
    config = make_config('1.1', None, 1000)
    assert abs(c_plan.multiplications(config) / 388e6 - 1) < 0.03
    assert c_plan.multiplications({**config, 'conv10_relu': False}) < 300e6


@needs_compiler
def test_stated_memory_is_what_the_compiler_reserves(seeded_tensors, pixels, tmp_path):
    network, _, _ = build(seeded_tensors, pixels, VARIANTS[0])
    made = c_source.write(network, c_source.Options('net'))
    (tmp_path / 'net.h').write_text(made.header)
    (tmp_path / 'net.c').write_text(made.source)
    subprocess.run([HOST[0], '-O2', '-c', 'net.c'], cwd=tmp_path, check=True)
    done = subprocess.run(['size', 'net.o'], cwd=tmp_path, capture_output=True, text=True)
    reserved = int(done.stdout.splitlines()[1].split()[2])
    assert made.memory <= reserved <= made.memory + 32 * 30  # alignment
    assert f'#define NET_MEMORY {made.memory} ' in made.header


def test_the_full_network_fits_into_48_kilobytes():
    config = make_config('1.1', None, 1000)
    assert sum(c_plan.buffers(config).values()) + 4 * 1000 + 16 < 48 * 1024


MAIN = """
#include <stdio.h>
#include "net.h"
static uint8_t picture[3 * NET_SIZE * NET_SIZE];
static int stop(void *context, int y, uint8_t *row) { (void)context; (void)row; return y == 5; }
int main(void) {
    int c;
    if (fread(picture, 1, sizeof picture, stdin) != sizeof picture) return 1;
    printf("%d\\n", net_classify_rows(stop, 0));
    printf("%d\\n", net_end());
    printf("%d\\n", net_classify(picture));
    for (c = 0; c < NET_CLASSES; c++) printf("%.7f %s\\n", (double)net_probability(c), net_name(c));
    printf("%.1f %s\\n", (double)net_probability(99), net_name(NET_UNKNOWN));
    return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize('threshold', [0.0, 0.999])
def test_probabilities_names_and_threshold(threshold, seeded_tensors, pixels, tmp_path):
    network, _, crops = build(seeded_tensors, pixels, VARIANTS[2])
    names = ['plain', 'gräs "砾石"', '??/ trigraph', 'back\\slash\n', '\x017']
    made = c_source.write(
        network, c_source.Options('net', 'RGB', names, True, temperature=2.5, threshold=threshold)
    )
    for name, text in (('net.h', made.header), ('net.c', made.source), ('main.c', MAIN)):
        (tmp_path / name).write_text(text)
    command = [HOST[0], '-std=c99', *STRICT, *SANITISED, 'net.c', 'main.c', '-o', 'main']
    subprocess.run(command, cwd=tmp_path, check=True)
    picture = np.ascontiguousarray(crops[:1, :, :, ::-1])
    done = subprocess.run([tmp_path / 'main'], input=picture.tobytes(), capture_output=True)
    text = done.stdout.decode()
    logits = network.logits(picture)[0] / 2.0**network.logit_bits / 2.5
    wanted = np.exp(logits - logits.max())
    wanted /= wanted.sum()
    answer = -1 if wanted.max() < threshold else logits.argmax()
    assert text.startswith(f'-2\n-2\n{answer}\n')
    found = [float(p) for p in re.findall(r'^(0\.\d{7}|1\.0{7}) ', text, re.MULTILINE)]
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    for name in names:
        assert f' {name}\n' in text
    assert text.endswith('0.0 unknown\n')


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('mine', 'mine'), ('my-net v2', 'my_net_v2'), ('2nd', 'net_2nd'), ('猫', 'net'), ('_x', 'x')],
)
def test_identifiers(name, expected):
    assert c_source.identifier(name) == expected


@pytest.mark.parametrize('name', ['a"b', 'a\\b', 'a\nb', '??/', ''])
def test_names_that_no_include_can_have_are_refused(name):
    with pytest.raises(UserError, match='not a name that C can #include'):
        c_source.check_name(name)


@pytest.fixture
def calibration_list(tmp_path):
    for path in (CAT, COFFEE):
        shutil.copy(path, tmp_path / path.name)
    (tmp_path / 'list.txt').write_text('cat_227.png 0\ncoffee_227.png 1\n')
    return tmp_path / 'list.txt'


def run(model, calibrate, output, *others):
    arguments = ['--model', model, '--to', 'c', '--calibrate', calibrate, '--output', output]
    return export.main([str(argument) for argument in (*arguments, *others)])


def test_command_writes_checks_and_compares(model, calibration_list, tmp_path, capfd):
    path = model('1.1', None, 3, preprocessing=Preprocessing(crop=64, resize_size=80))
    status = run(path, calibration_list, tmp_path / 'mine.c', '--val_list', calibration_list)
    printed = capfd.readouterr().out
    assert status == 0
    header = (tmp_path / 'mine.h').read_text()
    memory = int(re.search(r'MINE_MEMORY (\d+)', header)[1])
    multiplications = int(re.search(r'MINE_MULTIPLICATIONS (\d+)', header)[1])
    assert f'memory {memory:,} bytes' in printed.splitlines()[-1]
    assert f'{multiplications:,} multiplications' in printed.splitlines()[-1]
    assert re.search('2 images: float32 top-1', printed)
    if HOST:
        assert 'on 3 pictures the numbers that NumPy gives' in printed


def test_no_compiler_is_said(model, calibration_list, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(c_compiler, 'find_compiler', lambda: None)
    path = model('1.1', None, 3, preprocessing=Preprocessing(crop=64, resize_size=80))
    assert run(path, calibration_list, tmp_path / 'mine') == 0
    assert 'not compiled: no C compiler is installed' in capfd.readouterr().out


def test_a_threshold_without_probabilities_is_refused(model, calibration_list, tmp_path, capfd):
    path = model('1.1', None, 3, threshold=0.4, preprocessing=Preprocessing(crop=64))
    assert run(path, calibration_list, tmp_path / 'mine', '--no_softmax') == 1
    assert '--no_softmax leaves out' in capfd.readouterr().err
    assert not (tmp_path / 'mine.c').exists()


def test_without_softmax_nothing_is_in_floating_point(seeded_tensors, pixels):
    network, _, _ = build(seeded_tensors, pixels, VARIANTS[0])
    made = c_source.write(network, c_source.Options('net', softmax=False))
    for text in (made.source, made.header):
        assert not re.search(r'\b(float|double|malloc|probability|share)\b', text)


def test_flags_of_c_do_not_go_with_others(tmp_path, capfd):
    with pytest.raises(SystemExit):
        export.main(['--to', 'onnx', '--output', str(tmp_path / 'x'), '--no_softmax'])
    assert '--no_softmax does not go with --to onnx' in capfd.readouterr().err


@needs_compiler
def test_the_official_network_as_a_user_runs_it(tmp_path, calibration_list):
    command = [sys.executable, ROOT / 'export.py', '--model', OFFICIAL, '--to', 'c']
    command += ['--calibrate', calibration_list, '--output', tmp_path / 'my net']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 'on 3 pictures the numbers that NumPy gives' in done.stdout
    assert int(re.search(r'MY_NET_MEMORY (\d+)', (tmp_path / 'my net.h').read_text())[1]) < 107_520
