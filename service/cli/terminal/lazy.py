"""Commands that are loaded when they are asked for: the start of one does not wait for all."""

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module

import click


class LazyCommands(MutableMapping[str, click.Command]):
    """Commands by name, as a group of click's takes them.

    Args:
        modules: by a command's name the module that has it under that name.

    Example:
        >>> LazyCommands({"train": "service.cli.train"})["train"].name
        'train'
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            found = getattr(import_module(self._modules[name]), name)
            assert isinstance(found, click.Command), f"{self._modules[name]}.{name}"
            self._loaded[name] = found
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"a command stays in its group; got {name!r}")

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*self._modules, *self._loaded))

    def __len__(self) -> int:
        return len(list(iter(self)))
