"""The C file on emulated processors: the same bytes on each, the host's among them."""

import shutil
import subprocess

import c_networks
import numpy as np
import pytest
from conftest import ROOT

from exports import c_compiler, c_source

EXAMPLE = ROOT / 'examples' / 'microcontroller'
ARM = ('arm-none-eabi-gcc', '-mthumb', '--specs=rdimon.specs', '-T', str(EXAMPLE / 'link.ld'))
START = str(EXAMPLE / 'start.c')
QUIET = ('-nographic', '-monitor', 'none')
# Without a C library: gcc then must not call its memset either.
BARE = ('-ffreestanding', '-nostdlib', '-fno-tree-loop-distribute-patterns', '-T', 'riscv.ld')
RISCV = ('riscv64-unknown-elf-gcc', *BARE)


def arm(cpu, board):
    emulator = ('qemu-system-arm', '-M', board, *QUIET, '-semihosting', '-kernel')
    return (*ARM, f'-mcpu={cpu}', START), emulator


def riscv(bits, abi):
    emulator = (f'qemu-system-riscv{bits}', '-M', 'virt', '-bios', 'none', *QUIET)
    compiler = (*RISCV, f'-march=rv{bits}imac', f'-mabi={abi}', '-mcmodel=medany')
    return compiler, (*emulator, '-serial', 'stdio', '-kernel')


# name: (compiler's command, emulator's command before the program)
DEVICES = {
    'cortex-m3': arm('cortex-m3', 'mps2-an385'),
    'cortex-m4': arm('cortex-m4', 'mps2-an386'),
    'cortex-m7': arm('cortex-m7', 'mps2-an500'),
    'riscv32': riscv(32, 'ilp32'),
    'riscv64': riscv(64, 'lp64'),
    'big-endian': (('powerpc-linux-gnu-gcc', '-static'), ('qemu-ppc',)),
}
# qemu's board `virt` begins at the memory's first byte, has a serial port at 0x10000000, and ends
# where 0x5555 is written to 0x100000.
RISCV_LINK = """
MEMORY { RAM (rwx) : ORIGIN = 0x80000000, LENGTH = 16M }
ENTRY(_start)
SECTIONS
{
    .text : { *(.start) *(.text*) *(.rodata*) *(.srodata*) } > RAM
    .data : { *(.data*) *(.sdata*) } > RAM
    .bss : { *(.bss*) *(.sbss*) *(COMMON) . = ALIGN(16); . += 16K; stack_top = .; } > RAM
}
"""
PROGRAM = r"""
#include "net.h"
#include "picture.h"
#ifdef __riscv
__asm__(".section .start,\"ax\"\n.globl _start\n_start: la sp, stack_top\ncall main\n"
        "1: j 1b\n.text");
static void put(char c) { *(volatile char *)0x10000000 = c; }
static void stop(void) { *(volatile uint32_t *)0x100000 = 0x5555; }
#else
#include <stdio.h>
static void put(char c) { putchar(c); }
static void stop(void) { fflush(stdout); }
#endif
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
    """(a folder with the program's files, NumPy's logits of its picture)."""
    network, _, crops = c_networks.builder(seeded_tensors, pixels)(c_networks.VARIANTS[2], 'BGR')
    made = c_source.write(network, c_source.Options('net', 'BGR'))
    folder = tmp_path_factory.mktemp('device')
    numbers = ','.join(map(str, crops[0].ravel().tolist()))
    picture = f'static const unsigned char picture[] = {{{numbers}}};\n'
    files = {'net.c': made.source, 'net.h': made.header, 'picture.h': picture, 'main.c': PROGRAM}
    for name, text in {**files, 'riscv.ld': RISCV_LINK}.items():
        (folder / name).write_text(text)
    return folder, network.logits(crops[:1])[0]


@pytest.fixture(scope='module')
def host_output(program):
    host = c_compiler.find_compiler()
    return host and output_of(program[0], host, (), 'host')


def output_of(folder, compiler, emulator, name):
    command = [*compiler, '-O2', 'net.c', 'main.c', '-lgcc', '-o', name]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    done = subprocess.run(
        [*emulator, f'./{name}'], cwd=folder, check=True, capture_output=True, timeout=300,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout.decode().split()


@pytest.mark.parametrize('device', DEVICES)
def test_device_gives_the_numbers_of_numpy(device, program, host_output):
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
    assert host_output in (None, found)


def _has_newlib():
    command = ['arm-none-eabi-gcc', '-print-file-name=rdimon.specs']
    return '/' in subprocess.run(command, capture_output=True, text=True).stdout
