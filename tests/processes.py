"""Questions about processes that may end while they are asked about."""

import psutil


def children_with(words: str, parent: psutil.Process | None = None) -> list[psutil.Process]:
    """Living children of `parent` (this process, if None) whose command line holds `words`."""
    found = []
    for child in (parent or psutil.Process()).children():
        try:
            if words in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:  # also a zombie, whose command line is gone
            continue
    return found


def is_over(process: psutil.Process | int) -> bool:
    """Whether it (or the one with this id) runs no more; nobody may have asked for its end."""
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
