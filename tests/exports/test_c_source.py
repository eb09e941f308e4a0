"""The network in one C file: its numbers are NumPy's, whatever the variant and the compiler."""

import re
import shutil
import subprocess

import c_networks
import numpy as np
import pytest

import export
from common.console import UserError
from exports import c_compiler, c_names, c_network, c_plan, c_source, integer_network
from network.config import make_config
from network.preprocessing import Preprocessing

STRICT = ('-Wall', '-Wextra', '-Wconversion', '-Wshadow', '-pedantic', '-Werror')
SANITISED = ('-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all')
HOST = [name for name in ('gcc', 'clang') if shutil.which(name)]
needs_compiler = pytest.mark.skipif(not HOST, reason='neither gcc nor clang is installed')


@pytest.fixture(scope='module')
def build(seeded_tensors, pixels):
    return c_networks.builder(seeded_tensors, pixels)


@needs_compiler
@pytest.mark.parametrize('variant', c_networks.VARIANTS, ids=str)
def test_compiled_file_gives_the_numbers_of_numpy(variant, build):
    network, exact, crops = build(variant)
    made = c_source.write(network, c_source.Options('net'))
    rgb = crops[..., ::-1]
    pictures = np.concatenate([rgb, np.full_like(rgb[:1], 255), np.zeros_like(rgb[:1])])
    wanted = network.logits(pictures)
    flags = (*STRICT, *SANITISED)
    answers, logits = c_compiler.run([HOST[0]], made, 'net', pictures, flags)
    np.testing.assert_array_equal(logits, wanted)
    np.testing.assert_array_equal(answers, wanted.argmax(axis=1))
    difference = np.abs(wanted[:2] / 2.0**network.logit_bits - exact).max()
    assert difference < 0.15 * np.abs(exact).max()


@needs_compiler
@pytest.mark.parametrize('compiler', HOST)
def test_every_optimisation_gives_the_same_numbers(compiler, build):
    network, _, crops = build(c_networks.VARIANTS[2], 'BGR')
    made = c_source.write(network, c_source.Options('net', 'BGR'))
    _, logits = c_compiler.run([compiler], made, 'net', crops, (*STRICT, '-O3'))
    np.testing.assert_array_equal(logits, network.logits(crops))


def test_bgr_file_reads_what_the_rgb_file_reads(build):
    rgb, _, crops = build(c_networks.VARIANTS[0], 'RGB')
    bgr, _, _ = build(c_networks.VARIANTS[0], 'BGR')
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
def test_stated_memory_is_what_the_compiler_reserves(build, tmp_path):
    network, _, _ = build(c_networks.VARIANTS[0])
    made = c_source.write(network, c_source.Options('net'))
    (tmp_path / 'net.h').write_text(made.header)
    (tmp_path / 'net.c').write_text(made.source)
    subprocess.run([HOST[0], '-O2', '-c', 'net.c'], cwd=tmp_path, check=True)
    done = subprocess.run(['size', 'net.o'], cwd=tmp_path, capture_output=True, text=True)
    reserved = int(done.stdout.splitlines()[1].split()[2])
    assert made.memory <= reserved <= made.memory + 32 * 30  # alignment
    assert f'#define NET_MEMORY {made.memory} ' in made.header


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
def test_probabilities_names_and_threshold(threshold, build, tmp_path):
    network, _, crops = build(c_networks.VARIANTS[2])
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
    [
        ('mine', 'mine'),
        ('my-net v2', 'my_net_v2'),
        ('2nd', 'net_2nd'),
        ('猫', 'net'),
        ('_x', 'x'),
        ('conv', 'net_conv'),
        ('fire2', 'net_fire2'),
    ],
)
def test_identifiers(name, expected):
    assert c_names.identifier(name) == expected


@pytest.mark.parametrize('name', ['a"b', 'a\\b', 'a\nb', '??/', '', '..'])
def test_names_that_no_include_can_have_are_refused(name):
    with pytest.raises(UserError, match='not a name that C can #include'):
        c_names.check_name(name)


def test_a_name_that_hides_a_header_of_c_is_refused():
    with pytest.raises(UserError, match=r'stdint.h is a header of C itself'):
        c_names.files('folder/stdint.c')


@needs_compiler
def test_a_file_whose_name_its_own_functions_have_compiles(build):
    network, _, crops = build(c_networks.VARIANTS[1], 'BGR')
    made = c_source.write(network, c_source.Options('conv', 'BGR'))
    answers, _ = c_compiler.run([HOST[0]], made, 'conv', crops, (*STRICT, '-O0'))
    np.testing.assert_array_equal(answers, network.logits(crops).argmax(axis=1))


@pytest.mark.skipif(not (HOST and shutil.which('g++')), reason='no compiler of C++ is installed')
def test_header_in_cpp(build, tmp_path):
    network, _, _ = build(c_networks.VARIANTS[1])
    made = c_source.write(network, c_source.Options('2 gräs-v2', class_names=['a', 'b', 'c']))
    name = 'net_2_gr_s_v2'
    main = (
        f'#include "2 gräs-v2.h"\nint main() {{ return {name}_name({name}_end())[0] != \'u\'; }}\n'
    )
    for file, text in (('2 gräs-v2.h', made.header), ('n.c', made.source), ('main.cpp', main)):
        (tmp_path / file).write_text(text, encoding='utf-8')
    subprocess.run([HOST[0], '-std=c99', '-c', 'n.c'], cwd=tmp_path, check=True)
    command = ['g++', '-std=c++11', '-Wall', '-Wextra', '-pedantic', '-Werror', 'main.cpp', 'n.o']
    subprocess.run([*command, '-o', 'main'], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / 'main'], check=True)


@needs_compiler
def test_the_official_network_names_the_cat(official_tensors, pixels):
    config, crops = make_config('1.1', None, 1000), pixels[:1].astype(np.uint8)
    parts, exact = c_networks.calibrated(official_tensors, config, crops)
    network = integer_network.build(*parts, 'BGR')
    made = c_source.write(network, c_source.Options('net', 'BGR'))
    answers, logits = c_compiler.run([HOST[0]], made, 'net', crops)
    np.testing.assert_array_equal(logits, network.logits(crops))
    assert answers[0] == exact.argmax()
    assert made.memory < 48 * 1024


# --- the command ----------------------------------------------------------------------------------


def export_c(model, pictures, output, *others):
    arguments = ['--model', model, '--to', 'c', '--calibrate', pictures, '--output', output]
    return export.main([str(argument) for argument in (*arguments, *others)])


@pytest.fixture(scope='module')
def small_model(model):
    wanted = Preprocessing(crop=33, resize_size=40)
    return model('1.1', None, 3, threshold=0.4, preprocessing=wanted)


def test_command_writes_checks_and_compares(model, pair, tmp_path, capfd):
    wanted = Preprocessing(crop=33, resize_size=40)
    path = model('1.1', None, 3, class_names=['a', 'gräs', '砾石'], preprocessing=wanted)
    status = export_c(path, pair, tmp_path / 'my net.c', '--val_list', pair, '--class_names')
    printed = capfd.readouterr().out
    assert status == 0
    header = (tmp_path / 'my net.h').read_text()
    memory = int(re.search(r'MY_NET_MEMORY (\d+)', header)[1])
    multiplications = int(re.search(r'MY_NET_MULTIPLICATIONS (\d+)', header)[1])
    assert f'memory {memory:,} bytes' in printed.splitlines()[-1]
    assert f'{multiplications:,} multiplications' in printed.splitlines()[-1]
    assert re.search('2 images: float32 top-1', printed)
    assert 'my_net_name' in (tmp_path / 'my net.c').read_text()
    if HOST:
        assert 'on 3 pictures the numbers that NumPy gives' in printed


def test_no_compiler_is_stated(build, monkeypatch):
    network, _, crops = build(c_networks.VARIANTS[1])
    options = c_source.Options('net')
    made = c_source.write(network, options)
    monkeypatch.setattr(c_compiler, 'find_compiler', lambda: None)
    line = c_network.CNetwork(network, options, made).check(crops)
    assert line.startswith('not compiled: no C compiler is installed')


@pytest.mark.parametrize(
    ('flag', 'message'),
    [('--no_softmax', '--no_softmax leaves out'), ('--class_names', 'has no class names')],
)
def test_what_a_model_does_not_have_is_refused(flag, message, small_model, pair, tmp_path, capfd):
    assert export_c(small_model, pair, tmp_path / 'mine', flag) == 1
    assert message in capfd.readouterr().err
    assert not list(tmp_path.glob('mine*'))


@pytest.mark.parametrize('output', ['.', '..', 'stdint.c', 'a"b'])
def test_names_that_cannot_be_are_refused_in_one_line(output, small_model, pair, capfd):
    assert export_c(small_model, pair, output) == 1
    assert len(capfd.readouterr().err.strip().splitlines()) == 1


def test_without_softmax_nothing_is_in_floating_point(build):
    network, _, _ = build(c_networks.VARIANTS[0])
    made = c_source.write(network, c_source.Options('net', softmax=False))
    for text in (made.source, made.header):
        assert not re.search(r'\b(float|double|malloc|probability|share)\b', text)


def test_flags_of_c_do_not_go_with_others(tmp_path, capfd):
    with pytest.raises(SystemExit):
        export.main(['--to', 'onnx', '--output', str(tmp_path / 'x'), '--no_softmax'])
    assert '--no_softmax does not go with --to onnx' in capfd.readouterr().err
