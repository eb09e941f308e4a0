"""The house: folders import downwards alone, so that each can be read without those above it."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# From the ground up; what stands on one floor does not import its neighbours. squeezenet.py and
# reader.py are rooms of the root that others build on; the other commands stand at the top.
FLOORS = (
    {'common'},
    {'network'},
    {'squeezenet'},
    {'caffe_format', 'pictures'},
    {'models', 'figures'},
    {'reader'},
    {'evaluation', 'quantisation', 'exports'},
    {'training'},
    {'runs'},
    {'train', 'infer', 'caffe2paddle', 'compress', 'export'},
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def imported(path):
    """The first parts of all that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split('.')[0]


def test_folders_import_downwards_alone():
    modules = [*ROOT.glob('*.py'), *(p for name in FLOOR_OF for p in ROOT.glob(f'{name}/**/*.py'))]
    assert len(modules) > 25
    for path in modules:
        home = path.relative_to(ROOT).parts[0].removesuffix('.py')
        for name in set(imported(path)) & FLOOR_OF.keys() - {home}:
            assert FLOOR_OF[name] < FLOOR_OF[home], f'{path.relative_to(ROOT)} imports {name}'


def test_the_root_holds_the_commands_alone():
    allowed = {'train', 'infer', 'reader', 'squeezenet', 'caffe2paddle', 'compress', 'export'}
    assert {path.stem for path in ROOT.glob('*.py')} <= allowed


def test_no_two_test_files_share_a_name():
    """pytest refuses the second, and all others with it; only a run of the whole shows it."""
    names = [path.name for path in (ROOT / 'tests').rglob('*.py')]
    assert sorted(names) == sorted(set(names))
