"""Pictures that were decoded once, kept on the disk for the next time."""

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from common.files import partial_neighbour

COUNT = '.pixels.size'
NAME = '[0-9a-f]' * 64 + '.pixels'
FILES = NAME, f'.{NAME}.*.partial', COUNT  # all that is written into the folder
PORTION = 1 << 16  # bytes in which the limit is counted
LEFT_FREE = 1 << 30  # bytes of the disk, for the checkpoints of the run and whatever else


class PictureCache:
    """Arrays, each in a file of `folder`, of `most_bytes` together.

    As many processes as there are share it without a word between them. A file is as it was written
    or not there; but a power cut may damage it, so the folder is to be emptied before it is used.
    """

    def __init__(self, folder, most_bytes):
        self.folder, self.most_bytes = Path(folder), most_bytes

    def kept(self, make, path, *how):
        """make(path, *how), a uint8 array, as it was made before, if it was: then it is read-only.

        A picture that has changed since is another. Raises what `make` does.
        """
        try:
            place = self._place(path, (make.__name__, *how))
        except (OSError, ValueError):  # there is no such file: `make` has the words for it
            return make(path, *how)
        with suppress(OSError, ValueError):
            # Mapped, not read: of 36 MB, a part that is resized takes few rows.
            return np.load(place, mmap_mode='r')
        made = make(path, *how)
        with suppress(OSError):  # a full disk, say: it will be made again
            self._keep(made, place)
        return made

    def _place(self, path, how):
        found = os.stat(path)
        identity = repr((os.path.abspath(path), found.st_size, found.st_mtime_ns, how))
        name = hashlib.sha256(identity.encode(errors='surrogateescape')).hexdigest()
        return self.folder / f'{name}.pixels'

    def _keep(self, array, place):
        self.folder.mkdir(exist_ok=True)  # without a parent, this is not the run's own machine
        if not self._has_room(array.nbytes):
            return
        aside = partial_neighbour(place)
        try:
            with open(aside, 'xb') as file:
                np.save(file, array)
            os.replace(aside, place)
        finally:
            aside.unlink(missing_ok=True)

    def _has_room(self, size):
        """Whether so many bytes more are within the limits; if so, they are counted.

        The count is the length of a file: what appends to it needs no lock. Processes that ask at
        the same moment may overstep the limit by a picture each.
        """
        if shutil.disk_usage(self.folder).free < size + LEFT_FREE:
            return False
        with open(self.folder / COUNT, 'ab') as file:
            if file.tell() * PORTION + size > self.most_bytes:
                return False
            file.write(bytes(-(-size // PORTION)))
        return True

    def clear(self):
        """Delete what was kept, and the folder if nothing else is in it."""
        for pattern in FILES:
            for path in self.folder.glob(pattern):
                with suppress(OSError):  # Windows: somebody still reads it
                    path.unlink()
        with suppress(OSError):  # not there, or not empty
            self.folder.rmdir()
