"""The `train` extra: what needs it says so before anything else fails for it."""

import importlib.util

from models.base.errors import HoldfastError

TRAIN_PACKAGES = ("torch", "onnx", "sklearn", "safetensors")
INSTALL = "pip install 'holdfast[train]'"


def missing_for_training() -> str:
    """What is missing of the train extra, and how it is installed; empty where nothing is.

    >>> missing_for_training() == "" or "train extra" in missing_for_training()
    True
    """
    missing = [name for name in TRAIN_PACKAGES if importlib.util.find_spec(name) is None]
    return f"the train extra ({', '.join(missing)}) is missing: {INSTALL}" if missing else ""


def need_training(what: str = "this command trains or measures") -> None:
    """Raise HoldfastError where `what` is asked for and the train extra is missing."""
    if missing := missing_for_training():
        raise HoldfastError(f"{what}, and {missing}")
