"""Child processes that end with the one that started them."""

import ctypes
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
# Loaded here: between fork and exec nothing may be imported or looked up.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def ends_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: on Linux the kernel sends `number` once the parent is gone."""

    def ask_the_kernel() -> None:
        if _LIBC is not None:
            _LIBC.prctl(PR_SET_PDEATHSIG, number)

    return ask_the_kernel
