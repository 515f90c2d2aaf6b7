"""`holdfast certify`: radii within which the smoothed answers cannot be changed."""

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from models.base.errors import DataError
from models.versions.figures import CertifiedPoint
from models.versions.registry import Registry
from service.cli.terminal.output import emit, json_option, table
from service.configuration.settings import Settings

if TYPE_CHECKING:
    from models.data import Rows

STEPS_PER_SIGMA = 4


class CertifiedVersion(msgspec.Struct, frozen=True):
    """The certified accuracy of a version, and the largest radius that its samples allow."""

    model: str
    version: int
    largest_radius: float
    sigma: float
    samples: int
    alpha: float
    n: int
    points: tuple[CertifiedPoint, ...]


@click.command()
@click.argument("model", default="digits")
@click.option("--version", "which", default="champion", help="A number or an alias.")
@click.option(
    "--sigma",
    type=click.FloatRange(0, 10, min_open=True),
    default=0.25,
    help="Noise of the smoothing in units of 0..1.",
)
@click.option(
    "--samples", type=click.IntRange(1), default=1000, help="Noisy copies that a bound rests on."
)
@click.option("--rows", "most", type=click.IntRange(1), default=100, help="Held-out rows, at most.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.001,
    help="Probability that a certificate is wrong, at most.",
)
@click.option("--seed", type=int, default=0, help="Of the noise and the choice of rows.")
@json_option
@click.pass_obj
def certify(
    settings: Settings,
    model: str,
    which: str,
    sigma: float,
    samples: int,
    most: int,
    alpha: float,
    seed: int,
    as_json: bool,
) -> None:
    """Certify a version on held-out data by randomised smoothing (L2).

    The certified accuracy at a radius is the share of rows that the smoothed classifier answers
    right, whatever change up to that length is made to the row.

    \b
    Example:
      holdfast certify digits --sigma 0.25 --rows 200
    """
    from models.data.source import relabelled_data
    from models.evaluation.certify import certify_curve, largest_radius
    from models.versions.runner import Runner

    bundle = Registry(settings.registry_dir, settings.keys).open(model, which)
    rows = _choose_rows(relabelled_data(bundle).test, most, seed)
    reach = largest_radius(sigma, samples, alpha)
    radii = [
        step * sigma / STEPS_PER_SIGMA for step in range(int(reach / sigma * STEPS_PER_SIGMA) + 1)
    ]
    label = f"certifying {bundle.name}"
    with click.progressbar(length=len(rows), label=label, file=sys.stderr) as bar:
        figures = certify_curve(
            Runner(bundle),
            bundle.manifest.input,
            rows,
            radii,
            sigma=sigma,
            samples=samples,
            alpha=alpha,
            seed=seed,
            progress=lambda done, total: bar.update(1),
        )
    answer = CertifiedVersion(
        model=model,
        version=bundle.manifest.version,
        largest_radius=reach,
        sigma=figures.sigma,
        samples=figures.samples,
        alpha=figures.alpha,
        n=figures.n,
        points=figures.points,
    )
    emit(answer, as_json, lambda: _text(bundle.name, answer))


def _choose_rows(rows: "Rows", most: int, seed: int) -> "Rows":
    """Choose rows without a missing value at random; they keep their order."""
    import numpy as np

    whole = np.flatnonzero(~np.isnan(rows.x).reshape(len(rows), -1).any(axis=1))
    if not len(whole):
        raise DataError("every held-out row has a missing value: an L2 length needs them all")
    size = min(most, len(whole))
    rng = np.random.default_rng(seed)
    return rows.take(np.sort(rng.choice(whole, size, replace=False)))


def _text(name: str, answer: CertifiedVersion) -> str:
    lines = [
        (f"{p.radius:.4g}", f"{p.value:.1%}", f"{p.low:.1%} to {p.high:.1%}") for p in answer.points
    ]
    return (
        f"{name} on {answer.n} held-out rows, noise of sigma {answer.sigma:g}\n\n"
        + table(("L2 radius", "certified accuracy", "95 % interval"), lines)
        + f"\n\nThe radius is in units of the [0, 1] range; {answer.samples} samples reach "
        f"{answer.largest_radius:.4g}. A row's certificate is wrong with probability "
        f"{answer.alpha:g} at most."
    )
