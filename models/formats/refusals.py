"""Directories that are given as a model and are none of ours: named for what they are."""

from common.console import UserError
from common.files import read_head

FLUID_START = bytes(12)  # a LoDTensor's version and levels: Paddle 0.11 to 2.x, a file a parameter


def refuse_directory(directory):
    """Raises UserError where a directory is known to be something else, or holds the model."""
    names = sorted(path.name for path in directory.iterdir())
    by_suffix = {name.rsplit('.', 1)[-1]: name for name in reversed(names) if '.' in name}
    if 'pdiparams' in by_suffix or 'pdmodel' in by_suffix:
        raise UserError(
            f"{directory}: holds Paddle's inference form ({_first(by_suffix)}), whose parameters "
            'have lost their names; give the model that it was exported from'
        )
    if '__model__' in names or any(_is_fluid(directory / name) for name in names[:100]):
        raise UserError(
            f'{directory}: holds a fluid model (Paddle 1.x), which is not read; save its '
            'parameters by name as a .pdparams file, with paddle.save'
        )
    for suffix in ('caffemodel', 'pdparams', 'safetensors', 'tar'):
        if suffix in by_suffix:
            raise UserError(f'{directory}: is no model itself; name {by_suffix[suffix]} in it')
    for name in ('best', 'last'):
        if (directory / name / 'model.safetensors').exists():
            raise UserError(f'{directory}: is a run of train.py; name {directory / name}')


def _first(by_suffix):
    return by_suffix.get('pdiparams') or by_suffix['pdmodel']


def _is_fluid(path):
    if not path.is_file():  # nor a FIFO
        return False
    return read_head(path, len(FLUID_START)) == FLUID_START
