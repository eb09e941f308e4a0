"""The C file on emulated processors: the same bytes on each, the host's among them."""

import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT

from exports import c_compiler, c_source, int8, integer_network
from network.config import make_config
from network.preprocessing import Preprocessing
from reader import network_input

EXAMPLE = ROOT / 'examples' / 'microcontroller'
ARM = ('arm-none-eabi-gcc', '-mthumb', '--specs=rdimon.specs', '-T', str(EXAMPLE / 'link.ld'))
START = str(EXAMPLE / 'start.c')
QUIET = ('-nographic', '-monitor', 'none', '-semihosting')
# name: (compiler's command, emulator's command before the program)
DEVICES = {
    'cortex-m3': ((*ARM, '-mcpu=cortex-m3', START), ('qemu-system-arm', '-M', 'mps2-an385')),
    'cortex-m4': ((*ARM, '-mcpu=cortex-m4', START), ('qemu-system-arm', '-M', 'mps2-an386')),
    'cortex-m7': ((*ARM, '-mcpu=cortex-m7', START), ('qemu-system-arm', '-M', 'mps2-an500')),
    'big-endian': (('powerpc-linux-gnu-gcc', '-static'), ('qemu-ppc',)),
}  # fmt: skip
PROGRAM = r"""
#include "net.h"
#include "picture.h"
#include <stdio.h>
static void put(char c) { putchar(c); }
static void stop(void) { fflush(stdout); }
static void print(uint32_t number)
{
    int k;
    for (k = 28; k >= 0; k -= 4)
        put("0123456789abcdef"[number >> k & 15]);
    put('\n');
}
int main(void)
{
    int c;
    print((uint32_t)net_classify(picture));
    for (c = 0; c < NET_CLASSES; c++) {
        print((uint32_t)net_logit(c));
        print(net_share(c));
    }
    stop();
    return 0;
}
"""


@pytest.fixture(scope='module')
def program(tmp_path_factory, seeded_tensors, pixels):
    """(a folder with the program's files, the host's picture and NumPy's logits)."""
    wanted = Preprocessing(crop=33)
    config = make_config('1.1', None, 3, preprocessing=wanted)
    crops = np.ascontiguousarray(pixels[:1, 90:123, 90:123]).astype(np.uint8)
    feeds = [network_input(crops, wanted)]
    rounded, steps = int8.rounded_weights(seeded_tensors('1.1', None, 3), config, False, feeds)
    ranges = int8.blob_ranges(rounded, config, False, feeds)
    most = max(map(abs, ranges['logits']))
    network = integer_network.build(rounded, config, steps, ranges, most, 'BGR')
    made = c_source.write(network, c_source.Options('net', 'BGR'))
    folder = tmp_path_factory.mktemp('device')
    numbers = ','.join(map(str, crops.ravel().tolist()))
    picture = f'static const unsigned char picture[] = {{{numbers}}};\n'
    files = {'net.c': made.source, 'net.h': made.header, 'picture.h': picture, 'main.c': PROGRAM}
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder, network.logits(crops)[0]


def output_of(folder, compiler, emulator, name):
    command = [*compiler, '-O2', 'net.c', 'main.c', '-lgcc', '-o', name]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    system = emulator and emulator[0].startswith('qemu-system')
    command = [*emulator, *QUIET, '-kernel', name] if system else [*emulator, f'./{name}']
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    return done.stdout.decode().split()


@pytest.mark.parametrize('device', DEVICES)
def test_device_gives_the_numbers_of_numpy(device, program):
    compiler, emulator = DEVICES[device]
    for tool in (compiler[0], emulator[0]):
        if shutil.which(tool) is None:
            pytest.skip(f'{tool} is not installed')
    folder, logits = program
    if '--specs=rdimon.specs' in compiler and not _has_newlib():
        pytest.skip('libnewlib-arm-none-eabi is not installed')
    found = output_of(folder, compiler, emulator, device)
    numbers = np.array([int(word, 16) for word in found], np.uint32).view(np.int32)
    assert numbers[0] == logits.argmax()
    np.testing.assert_array_equal(numbers[1::2], logits)
    host = c_compiler.find_compiler()
    if host:
        assert found == output_of(folder, host, (), 'host')


def _has_newlib():
    command = ['arm-none-eabi-gcc', '-print-file-name=rdimon.specs']
    return '/' in subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.skipif(
    not (shutil.which('clang') and shutil.which('gcc')), reason='gcc and clang are not both here'
)
def test_gcc_and_clang_give_the_same_numbers(program):
    folder, _ = program
    gcc, clang = (output_of(folder, [name], (), name) for name in ('gcc', 'clang'))
    assert gcc == clang
