"""Errors of models and registry; each says what was wrong, what was expected and what to do.

HoldfastError
├── InputError          an array or value does not fit the input schema (a client's fault)
├── DataError           a data set cannot be read or is unfit for training
├── TrainingError       training or export did not give a usable model
├── AdaptError          an ONNX model made elsewhere cannot be read, understood or wrapped
├── BundleError         a bundle is incomplete, altered or from another schema version
└── RegistryError       the registry cannot do what was asked
    ├── UnfitFileError       no regular file, or too large: it is not read
    ├── UnknownModelError
    ├── UnknownVersionError
    ├── ChampionMovedError   compare-and-swap: the champion is not the one judged against any more
    └── HeldError            a person holds the model: the loop promotes nothing (`registry_state`)
"""

from pathlib import Path

SHOWN_CHARACTERS = 80


class HoldfastError(Exception):
    """Base of all errors that Holdfast raises on purpose; the message is meant for users."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: NumPy says so by the type, torch and onnxruntime by the text."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


class InputError(HoldfastError):
    """An input does not fit the schema: names the field, what was expected and what came."""

    def __init__(self, field: str, expected: str, got: str) -> None:
        super().__init__(f"{field}: expected {expected}, got {got}")
        self.field = field
        self.expected = expected
        self.got = got


class DataError(HoldfastError):
    """A data set cannot be used as it is."""


class TrainingError(HoldfastError):
    """Training or export did not give a usable model."""


class AdaptError(HoldfastError):
    """An ONNX model made elsewhere cannot be wrapped; says which part, and what to do."""


class BundleError(HoldfastError):
    """A bundle on disk is not what its manifest promises."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"bundle {path}: {reason}")
        self.path = path
        self.reason = reason


class RegistryError(HoldfastError):
    """The registry cannot do what was asked."""


class UnfitFileError(RegistryError):
    """An entry of the registry is no regular file (or folder), or a file is too large."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path = path
        self.reason = f"{path.name!r} {reason}"


class UnknownModelError(RegistryError):
    """No such model in the registry."""

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown model {model!r}; known: {', '.join(known) or 'none'}")
        self.model = model


class UnknownVersionError(RegistryError):
    """No such version or alias of the model."""

    def __init__(self, model: str, version: str, known: tuple[int, ...]) -> None:
        text = ", ".join(map(str, known)) or "none"
        super().__init__(f"model {model!r} has no version {version}; known: {text}")
        self.model = model
        self.version = version


class ChampionMovedError(RegistryError):
    """The champion is no longer the one the challenger was judged against."""

    def __init__(self, model: str, expected: int | None, champion: int | None) -> None:
        super().__init__(
            f"model {model!r}: the challenger was judged against champion {expected}, "
            f"but the champion is {champion}; judge it again"
        )
        self.expected = expected
        self.champion = champion


def show_value(value: object) -> str:
    """Render a client's value for messages and logs: short, and in ASCII.

    >>> show_value("é" * 3), show_value(True), show_value(None), show_value([1, 2])
    ("'\\\\xe9\\\\xe9\\\\xe9'", 'true', 'null', 'a list of 2')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    head = ascii(value[: SHOWN_CHARACTERS + 1] if isinstance(value, str | bytes) else value)
    return head if len(head) <= SHOWN_CHARACTERS else head[:SHOWN_CHARACTERS] + "..."
