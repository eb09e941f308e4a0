"""The part of fuzz.py that meets the hostile files: a process of limited memory, in which the audit
hook forbids commands and files outside one folder.
"""

import itertools
import json
import os
import random
import re
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from common.opencv_setup import MAX_PIXELS  # noqa: E402

import hostile_caffe  # noqa: E402
import hostile_models  # noqa: E402
import hostile_packed  # noqa: E402
import hostile_paddle_v2  # noqa: E402
import hostile_pickles  # noqa: E402
import hostile_pictures  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

import reader  # noqa: E402
from caffe_format import caffemodel  # noqa: E402
from common.console import UserError  # noqa: E402
from models import model_io  # noqa: E402
from network.preprocessing import RESIZES, Preprocessing  # noqa: E402
from pictures import lists  # noqa: E402
from runs import checkpoint  # noqa: E402

CRAFTED, MUTATED = {}, {}
for _module in (
    hostile_caffe,
    hostile_models,
    hostile_packed,
    hostile_paddle_v2,
    hostile_pickles,
    hostile_pictures,
):
    CRAFTED.update(_module.CRAFTED)
    MUTATED.update(_module.MUTATED)
SECONDS = 10  # of CPU for an input; the largest picture that is admitted takes 4
MEMORY = 2 << 30  # bytes above what a worker has once everything is imported
LONGEST = 1000  # letters of an error message


class Finding(Exception):
    """What must not happen."""


class Forbidden(BaseException):
    """Raised by the audit hook; not an Exception, so that no reader takes it for damage."""


# --- what reads each kind of file, and what has to hold of the result -----------------------------


def read_caffemodel(folder):
    path = folder / 'net.caffemodel'
    refused(lambda: caffemodel.describe_layers(path))
    read_model(path, folder)


def read_model(path, folder):
    """What is read must be a whole network, and come back the same when it is written."""
    tensors, config = model_io.read_model(path, say=check_message)
    for name, value in tensors.items():
        expect(value.dtype == np.float32 and np.isfinite(value).all(), f'{name} is not sound')
    model_io.write_model(folder / 'written', tensors, config)
    again, config_again = model_io.read_model(folder / 'written', say=check_message)
    expect(same_json(config, config_again), 'config.json does not come back')
    same = all(value.tobytes() == again[name].tobytes() for name, value in tensors.items())
    expect(list(tensors) == list(again) and same, 'the tensors do not come back')


def read_checkpoint(folder):
    parameters, moments, state = checkpoint.load_newest(folder, report=check_message)
    sound = isinstance(state.iteration, int) and parameters and isinstance(moments, dict)
    expect(sound, 'the checkpoint is not whole')


def read_list(folder):
    refused(lambda: lists.class_names_of(folder / 'list.txt'))
    pictures = lists.read_list(folder / 'list.txt')
    lines = (folder / 'list.txt').read_bytes().removeprefix(b'\xef\xbb\xbf').split(b'\n')
    wanted = [
        (i + 1, *line.strip().rsplit(None, 1)) for i, line in enumerate(lines) if line.strip()
    ]
    expect(len(wanted) == len(pictures), f'{len(pictures)} pictures on {len(wanted)} lines')
    for i in random.Random(0).sample(range(len(wanted)), min(100, len(wanted))):
        number, path, label = wanted[i]
        expect(pictures.entry(i).encode().strip() == path, f'the path of line {number}')
        expect(pictures.label(i) == int(label), f'the label of line {number}')
        expect(pictures.where(i).endswith(f'line {number}'), f'the place of line {number}')
    pictures.class_counts()
    refused(lambda: lists.check_files_exist(pictures))


def read_picture(folder):
    picture = reader.load_picture(folder / 'picture')
    height, width, channels = picture.shape
    expect(picture.dtype == np.uint8 and channels == 3 and height and width, 'no picture')
    expect(height * width <= MAX_PIXELS, 'the picture is too large')
    for how in RESIZES:
        refused(lambda how=how: reader.centre_crop(reader.resize(picture, Preprocessing(how)), 227))


READERS = {  # kind: what reads it, the error that it may end in
    'caffemodel': (read_caffemodel, UserError),
    'safetensors': (lambda d: read_model(d / 'model.safetensors', d), (UserError, OSError)),
    'config': (lambda d: read_model(d, d), (UserError, OSError)),
    'pdparams': (lambda d: read_model(d / 'model.pdparams', d), (UserError, OSError)),
    'v2': (lambda d: read_model(d, d), (UserError, OSError)),
    'tar': (lambda d: read_model(d / 'model.tar', d), (UserError, OSError)),
    'sqz': (lambda d: read_model(d / 'net.sqz', d), (UserError, OSError)),
    'net': (lambda d: read_model(d / 'old.net', d), (UserError, OSError)),
    'checkpoint': (read_checkpoint, UserError),
    'list': (read_list, UserError),
    'picture': (read_picture, reader.PictureError),
}


def same_json(*values):
    return len({json.dumps(value, sort_keys=True) for value in values}) == 1


def expect(true, complaint):
    if not true:
        raise Finding(complaint)


def refused(call):
    """Let `call` end in a UserError whose text is fit to be shown, or in nothing."""
    try:
        call()
    except UserError as error:
        check_message(str(error))


def check_message(text):
    expect(text and len(text) <= LONGEST, f'a message of {len(text)} letters: {text[:80]}')


# --- guards ---------------------------------------------------------------------------------------

CHANGES = {'os.remove', 'os.rename', 'os.mkdir', 'os.rmdir', 'os.link', 'os.symlink', 'os.truncate'}
CHANGES |= {'os.chmod', 'os.chown', 'os.utime', 'shutil.rmtree', 'shutil.copyfile', 'shutil.move'}
COMMANDS = {'os.system', 'os.exec', 'os.posix_spawn', 'os.fork', 'os.forkpty', 'subprocess.Popen'}
COMMANDS |= {'pty.spawn', 'socket.connect', 'pickle.find_class', 'ctypes.dlopen', 'webbrowser.open'}


def forbid_all_but(folder):
    """From here on Python raises Forbidden for commands, and for files outside of `folder`."""
    code = tuple(map(str, (ROOT, sys.prefix, sys.base_prefix)))  # modules that are imported late

    def inside(path, *others):
        path = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ''
        return os.path.abspath(path).startswith((str(folder), *others)) or path == os.devnull

    def hook(event, arguments):
        if event in COMMANDS:
            raise Forbidden(f'{event} {arguments}')
        if event == 'exec' and sys._getframe(1).f_code.co_name != 'namedtuple':
            name = arguments[0].co_filename
            if not name.startswith((*code, '<frozen')):
                raise Forbidden(f'runs code of {name}')
        if event == 'open' and not isinstance(arguments[0], int):
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if not (inside(path) or (inside(path, *code) and not writes)):
                raise Forbidden(f'opens {path!r}')
        if event in CHANGES and not inside(arguments[0]):
            raise Forbidden(f'{event} {arguments}')

    sys.addaudithook(hook)


# --- work -----------------------------------------------------------------------------------------


def make_inputs(kind, seed, start, stop):
    """(number, files) of mutated inputs from start on; without a stop, of the crafted ones."""
    if stop is None:
        yield from list(enumerate(CRAFTED[kind]()))[start:]
    else:
        for number in range(start, stop):
            yield number, MUTATED[kind](random.Random(f'{seed} {kind} {number}'))


def read_input(kind, files, folder):
    """Put the files there and read them.

    Returns ('read', or the message without its particulars; seconds of the processor).
    """
    folder.mkdir(exist_ok=True)
    for path in sorted(folder.rglob('*'), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    read, error_type = READERS[kind]
    start, outcome = time.process_time(), 'read'
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('always')
        warnings.simplefilter('ignore', DeprecationWarning)  # Python does not show these
        try:
            read(folder)
        except error_type as error:
            check_message(str(error))
            expect(not lacked_memory(error), f'needs more than {MEMORY >> 20} MB: {error}')
            outcome = re.sub(r"'.*'|\".*\"|\S*/\S*|[\d.]+", '_', str(error))[:60]
    seconds = time.process_time() - start
    expect(seconds < SECONDS, f'takes {seconds:.1f} s')
    expect(not warned, f'warns: {warned[0].message if warned else ""}')
    return outcome, round(seconds, 3)


def lacked_memory(error):
    while error is not None and not isinstance(error, MemoryError):
        error = error.__context__
    return error is not None


def work(kind, seed, start, stop, folder):
    """Read the inputs; log.txt in `folder` tells the driver what was begun and how it ended."""
    os.nice(10)
    folder = Path(folder)
    log = os.open(folder / 'log.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def tell(*row):
        os.write(log, (json.dumps(row) + '\n').encode())

    Image.init()  # Pillow's plug-ins
    sys.dont_write_bytecode = True  # of what is imported late, outside of the folder
    inputs = make_inputs(kind, seed, start, stop)
    first = next(inputs, None)  # makes the crafted ones, before memory is limited
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    forbid_all_but(folder)
    before = megabytes()
    for number, files in itertools.chain([first] if first else [], inputs):
        tell('begins', number)
        try:
            tell('ends', number, *read_input(kind, files, folder / 'input'))
        except BaseException as error:
            os.rename(folder / 'input', folder / f'failed-{number}')
            tell('fails', number, describe(error))
    tell('done', megabytes() - before)


def megabytes():
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def describe(error):
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f'{type(error).__name__}: {str(error)[:300]} ({Path(place.filename).name}:{place.lineno})'
    )


if __name__ == '__main__':
    work(*json.loads(sys.argv[1]), sys.argv[2])
