"""How the C library gives memory back to the system."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let glibc keep what is freed: training and attacks allocate the same batches all the time.

    By default glibc returns large blocks to the system at once, and the next step pays for every
    page again. For processes that train or attack, not for those that serve.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc takes
        mallopt(M_TRIM_THRESHOLD, 2**30)
