"""Import this before Paddle: it makes training on a CPU faster and the start quiet.

Most of it is read when Paddle's libraries are loaded, which is why it stands in a module of its own
that pyproject.toml sorts to the top. Whoever sets these variables otherwise is left alone.
"""

import ctypes
import os
import sys
import warnings

import common.opencv_setup  # noqa: F401 - Paddle imports OpenCV

from common.signals import let_interrupts_end_imports

os.environ.setdefault('GLOG_minloglevel', '2')  # C++ notes that mean nothing to a user
warnings.filterwarnings('ignore', message='No ccache found')


def _use_vector_instructions():
    """Paddle's matrix library, an MKL of 2019, goes by the maker's name: to it an AMD has none."""
    try:
        with open('/proc/cpuinfo', encoding='ascii', errors='replace') as file:
            flags = next((line for line in file if line.startswith('flags')), '').split()
            file.seek(0)
            amd = 'AuthenticAMD' in file.read()
    except OSError:  # not Linux
        return
    if amd and 'avx2' in flags:
        os.environ.setdefault('MKL_DEBUG_CPU_TYPE', '7' if 'avx512dq' in flags else '5')


def _keep_freed_memory():
    """Let malloc keep what a step frees: getting it back from Linux page by page takes longer."""
    if sys.platform == 'linux':
        libc = ctypes.CDLL(None)
        if hasattr(libc, 'mallopt'):  # glibc; its malloc.h has the numbers
            libc.mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap, too,
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: which does not shrink,
            libc.mallopt(-2, 2**28)  # M_TOP_PAD: and grows in large steps


let_interrupts_end_imports()
_use_vector_instructions()
_keep_freed_memory()
