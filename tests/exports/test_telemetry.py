"""ONNX Runtime reports nothing to its maker, on whatever path it is loaded."""

import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT

# As ONNX Runtime is loaded, what its telemetry goes by is printed.
WATCH = """
import os, sys
from importlib.abc import MetaPathFinder

class Watch(MetaPathFinder):
    def find_spec(self, name, *_):
        if name == 'onnxruntime':
            print(os.environ.get('ORT_DISABLE_TELEMETRY'))

sys.meta_path.insert(0, Watch())
import exports
"""
QUANTISED = "exports.load('int8')"
SESSION = """
try:
    exports.load('onnx_file').session(b'no model')
except Exception:
    pass
"""


def what_onnxruntime_finds(load, **environment):
    unset = {name: text for name, text in os.environ.items() if name != 'ORT_DISABLE_TELEMETRY'}
    done = subprocess.run(
        [sys.executable, '-c', WATCH + load],
        cwd=ROOT,
        env={**unset, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


@pytest.mark.parametrize('load', [QUANTISED, SESSION])
def test_telemetry_is_off_before_onnxruntime_is_loaded(load):
    assert what_onnxruntime_finds(load) == '1\n'
    assert what_onnxruntime_finds(load, ORT_DISABLE_TELEMETRY='0') == '0\n'  # the user's own word


def test_every_module_that_loads_onnxruntime_turns_telemetry_off_first():
    loading = [
        path
        for path in ROOT.glob('*/*.py')
        if path.parent.name not in ('tests', 'benchmarks') and 'onnxruntime' in imports_of(path)
    ]
    assert len(loading) >= 2
    for path in loading:
        names = imports_of(path)
        assert names.index('common.onnxruntime_setup') < names.index('onnxruntime'), path


def imports_of(path):
    """The modules that `path` imports, a package's as the package, in the order of its lines."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, node.module.split('.')[0]))
    return [name for _, name in sorted(found)]
