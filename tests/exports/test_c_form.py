"""What circuits and small devices ask of the C file: a stack of known size, loops that end, and no
functions but its own. High-level synthesis takes it with __SYNTHESIS__, which leaves out the
callback and the floating point."""

import re
import shutil
import subprocess

import c_networks
import pytest

from exports import c_source

LOOP = re.compile(r'for \((?:int )?[^;]*; (\w+)(?: \+ \d+)? <=? [^;]+; \1(?:\+\+| \+= \d+)\)')


@pytest.fixture(scope='module', params=c_networks.VARIANTS[2:4], ids=['relu', 'complex, no relu'])
def source(request, seeded_tensors, pixels):
    network, _, _ = c_networks.builder(seeded_tensors, pixels)(request.param)
    names = [str(k) for k in range(request.param[4])]
    return c_source.write(network, c_source.Options('net', 'RGB', names, threshold=0.1))


def code(text):
    """C without comments, strings and numbers of arrays."""
    text = re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', ' ', text, flags=re.DOTALL)
    return re.sub(r'= \{[-\d,\s]*\}', '= {}', text)


def test_every_loop_counts_up_to_a_bound(source):
    text = code(source.source)
    assert not re.search(r'\b(while|do|goto)\b', text)
    assert len(re.findall(r'\bfor\b', text)) == len(LOOP.findall(text)) > 10
    for loop in LOOP.finditer(text):
        body = text[loop.end() :]
        assert not re.match(rf'\s*(?:{{[^{{}}]*)?\b{loop[1]} = ', body)


def test_floating_point_is_in_one_function_alone(source):
    text = code(source.source)
    without = re.sub(r'float net_probability\(.*?\n\}', '', text, flags=re.DOTALL)
    assert text != without
    assert not re.search(r'\b(float|double)\b|\d\.\d|\d[eE]-?\d', without)


def test_no_pointers_to_pointers_and_no_arrays_of_run_time_size(source):
    text = code(source.source)
    assert not re.search(r'\*\s*(const\s*)?\*', text)
    sizes = re.findall(
        r'^\s+(?:const )?u?int\d*(?:_t)? (?:\w+(?: = \w+)?, )*\w+\[([^\]]+)\]', text, re.M
    )
    assert sizes and all(re.fullmatch(r'\d+|NET_[A-Z]+', size) for size in sizes)


def call_graph(source, folder):
    """({function: those that it calls}, {function: how its stack is}) by gcc."""
    (folder / 'net.h').write_text(source.header)
    (folder / 'net.c').write_text(source.source)
    flags = ['-std=c99', '-O0', '-D__SYNTHESIS__', '-fcallgraph-info', '-fstack-usage', '-c']
    command = ['gcc', *flags, 'net.c', '-o', 'net.o']
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if '-fcallgraph-info' in done.stderr:
        pytest.skip('this gcc cannot write its call graph (10 and later can)')
    assert done.returncode == 0, done.stderr
    calls = {}
    edges = re.findall(
        r'sourcename: "([^"]+)" targetname: "([^"]+)"', (folder / 'net.ci').read_text()
    )
    for caller, called in edges:
        calls.setdefault(_plain(caller), set()).add(_plain(called))
    stacks = [line.split('\t') for line in (folder / 'net.su').read_text().splitlines()]
    return calls, {where.split(':')[-1]: kind for where, _, kind in stacks}


def _plain(name):
    return name.split(':')[-1]


@pytest.mark.skipif(shutil.which('gcc') is None, reason='gcc is not installed')
def test_functions_call_no_others_and_not_themselves(source, tmp_path):
    calls, stacks = call_graph(source, tmp_path)
    assert set(stacks.values()) <= {'static', 'dynamic,bounded'}  # pushed arguments are bounded
    called = set().union(*calls.values())
    assert called <= stacks.keys()  # no malloc, no library, no pointers to functions
    assert {'conv1', 'fire9_squeeze'} <= called
    for function in calls:
        assert function not in reachable(calls, function)


def reachable(calls, start):
    found, waiting = set(), list(calls[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += calls.get(name, ())
    return found
