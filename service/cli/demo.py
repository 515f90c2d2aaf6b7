"""`holdfast demo`: all there is to see, in an empty folder and without a checkout."""

import os
from pathlib import Path

import click

from models.base.errors import HoldfastError
from models.versions.registry import Registry
from service.cli.checks.extras import missing_for_training
from service.cli.serve import DEMO, start
from service.configuration.settings import PREFIX, Settings
from service.configuration.values import read_toml

REST = f"{PREFIX}COOL_DOWN_SECONDS"
REST_SECONDS = 5.0  # of the loop: who looks for five minutes does not wait for five more


@click.command()
@click.pass_obj
def demo(settings: Settings) -> None:
    """Train the demo model here, serve it and watch it; Ctrl-C stops, the state stays.

    Needs an empty folder and the train extra. As `holdfast up`, but that the loop rests for
    5 seconds after a run, unless HOLDFAST_COOL_DOWN_SECONDS says something else. A second time it
    starts with what is there.

    \b
    Example:
      mkdir try && cd try && holdfast demo
    """
    registry = Registry(settings.registry_dir, settings.keys)
    others = sorted(set(registry.models()) - {DEMO})
    if others:
        raise HoldfastError(
            f"{settings.state} holds {', '.join(others)}, and the demo wants a state of its own: "
            "start it in an empty folder, or serve what is here with `holdfast up`"
        )
    if not registry.versions(DEMO) and (missing := missing_for_training()):
        raise HoldfastError(
            f"the demo trains its model, and {missing}. Without it versions that were made "
            f"elsewhere are served: copy their folder `registry` into {settings.state}, then "
            "`holdfast up`"
        )
    rest = {}
    if REST not in os.environ and "cool_down_seconds" not in read_toml(Path("holdfast.toml")):
        rest[REST] = f"{REST_SECONDS:g}"
    start(settings, DEMO, rest)
