"""Import this before Paddle: it makes training on a CPU faster and the start quiet.

All of it is read when Paddle's libraries are loaded, which is why it stands in a module of its own
that pyproject.toml sorts to the top. Whoever sets these variables otherwise is left alone.
"""

import ctypes
import os
import sys
import warnings

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
    """Let malloc keep what a step frees: getting it back from Linux page by page costs a sixth."""
    if sys.platform == 'linux':
        largest = 2**31 - 1
        libc = ctypes.CDLL(None)
        if hasattr(libc, 'mallopt'):
            libc.mallopt(-1, largest)  # M_TRIM_THRESHOLD
            libc.mallopt(-3, largest)  # M_MMAP_THRESHOLD


_use_vector_instructions()
_keep_freed_memory()
