"""A process that kills itself at a chosen line, for tests of what a crash leaves behind."""

import os
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def in_child(
    action: Callable[[], Any], *, die_at_line: int | None = None, within: str = "/models/"
) -> int:
    """Run `action` in a process; it kills itself at a line of the code `within` (a pattern).

    Returns:
        The process id while it runs without `die_at_line`; else 0 where it lived to the end, 1
        where it was killed.
    """
    child = os.fork()
    if child == 0:
        left = die_at_line

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            name = f"{frame.f_code.co_filename}:{frame.f_code.co_name}"
            if not re.search(within, name) or "/tests/" in name:
                return None
            if event == "line" and left is not None:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace if die_at_line is not None else None)
            action()
        except BaseException:
            os._exit(3)
        os._exit(0)
    if die_at_line is None:
        return child
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return int(os.WIFSIGNALED(status))
