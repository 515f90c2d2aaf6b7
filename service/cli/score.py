"""`holdfast score`: predictions and scores for a file, and a verdict on drift for all of it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from models.base.errors import HoldfastError
from models.data.pieces import READ
from models.data.records import Format
from models.versions.registry import Registry
from service.cli.terminal.output import emit, fail_with_data, json_option
from service.cli.terminal.progress import Bar
from service.configuration.settings import Settings

if TYPE_CHECKING:
    from models.versions.bundle import Bundle
    from service.batch.facts import Job
    from service.batch.report import BatchReport

NEEDS = "reading and writing Parquet needs pyarrow: pip install 'holdfast[train]'"


@click.command()
@click.argument("data")
@click.option("--model", default="digits", help="Name of the model.")
@click.option("--version", "which", default="champion", help="A number or an alias.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True,
    help="Parquet file to write.",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(("auto", *READ)), default="auto",
    help="How to read DATA; told from the path by default.",
)  # fmt: skip
@click.option("--delimiter", default="", help="What separates the columns of a CSV.")
@click.option("--label", default="", help="Column of true labels: accuracy is measured, too.")
@click.option("--keep", multiple=True, help="Column of DATA to keep beside the scores (repeat).")
@click.option("--probabilities", is_flag=True, help="Write the probabilities of all classes.")
@click.option("--resize", default="", help="How pictures of other sizes become the model's.")
@click.option("--threads", type=click.IntRange(1), default=1, help="Of a run of the model.")
@click.option("--overwrite", is_flag=True, help="Replace what lies at --out.")
@click.option("--anew", is_flag=True, help="Drop what an earlier run has begun.")
@click.option("--ray", "address", default="", help="Address of a Ray cluster that does the work.")
@json_option
@click.pass_obj
def score(
    settings: Settings,
    data: str,
    model: str,
    which: str,
    out: Path,
    form: Format,
    delimiter: str,
    label: str,
    keep: tuple[str, ...],
    probabilities: bool,
    resize: str,
    threads: int,
    overwrite: bool,
    anew: bool,
    address: str,
    as_json: bool,
) -> None:
    """Score DATA (Parquet, CSV or NPZ, also larger than memory) as the service scores requests.

    Killed at any moment and run again, it goes on where it was and writes the same bytes. A row
    that the model cannot take has a fault in place of scores; a row group that is damaged is named,
    and the rest is scored: the status is 1 then.

    \b
    Example:
      holdfast score visits.parquet --model churn --out scored.parquet --keep visit_id
    """
    try:
        from models.data.pictures.resize import RESIZES
        from service.batch.facts import Options
        from service.batch.report import text_of
        from service.batch.run import begin, finish
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "pyarrow":
            raise
        raise HoldfastError(NEEDS) from error
    if resize and resize not in RESIZES:
        raise click.BadParameter(f"expected one of {', '.join(RESIZES)}", param_hint="--resize")
    bundle = Registry(settings.registry_dir, settings.keys).open(model, which)
    options = Options(keep, probabilities, label, delimiter, resize, threads)
    with Bar(bundle.name) as bar:
        job = begin(data, form, bundle, options, bar)
        report = _score(settings, job, bundle, out.absolute(), bar, address, overwrite, anew)
    emit(msgspec.to_builtins(report), as_json, lambda: text_of(report))
    finish(out.absolute())
    if report.shortfall:
        fail_with_data(report.shortfall)


def _score(
    settings: Settings,
    job: "Job",
    bundle: "Bundle",
    out: Path,
    bar: Bar,
    address: str,
    overwrite: bool,
    anew: bool,
) -> "BatchReport":
    from service.batch.cluster import on_ray
    from service.batch.run import score_batch

    engine = on_ray(address, settings.registry_dir, settings.keys, out) if address else None
    return score_batch(
        job, bundle, out, requests_per_alarm=settings.drift_c, progress=bar, engine=engine,
        overwrite=overwrite, anew=anew,
    )  # fmt: skip
