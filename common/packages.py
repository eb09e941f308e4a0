"""A Python without the packages is the first thing that many meet: one line, no traceback."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIRED = {  # what is imported: what is installed
    'numpy': 'numpy',
    'cv2': 'opencv-python-headless',
    'PIL': 'pillow',
    'simplejpeg': 'simplejpeg',
    'safetensors': 'safetensors',
    'tqdm': 'tqdm',
    'wcwidth': 'wcwidth',
}


def require(names: dict[str, str]) -> None:
    """End one of our commands where a package is missing: {module: package}.

    A program that imports us gets Python's own ImportError later.
    """
    program = getattr(sys.modules['__main__'], '__file__', None)
    if not program or Path(program).resolve().parent != ROOT:
        return
    missing = [package for module, package in names.items() if not _is_there(module)]
    if missing:
        activate = r'.venv\Scripts\activate' if sys.platform == 'win32' else '. .venv/bin/activate'
        raise SystemExit(
            f'{Path(program).name}: {", ".join(missing)} not installed in this Python '
            f'({sys.executable}): activate the environment ({activate}), or run '
            'pip install -r requirements.txt -r requirements-paddle.txt'
        )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # half imported
        return False
