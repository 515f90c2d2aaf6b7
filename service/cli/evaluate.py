"""`holdfast evaluate`: judge a version anew, with a bar, and go on where it was cut off."""

from pathlib import Path
from typing import Literal

import click
import msgspec

from models.base.errors import UnknownModelError
from models.base.files import write_atomic
from models.training.recipe import DEVICES
from models.versions.figures import Evaluation
from models.versions.judging import NORMS, SUITES, ThreatModel
from models.versions.registry import Registry
from models.versions.schema import Manifest
from service.cli.checks.extras import need_training
from service.cli.terminal.figures import figure_lines
from service.cli.terminal.output import emit, json_option
from service.cli.terminal.progress import Bar
from service.configuration.settings import Settings

EPS = 0.15  # where neither the command nor the version says


@click.command()
@click.argument("model", default="digits")
@click.option("--version", "which", default="champion", help="A number or an alias.")
@click.option(
    "--suite",
    type=click.Choice(SUITES),
    default="quick",
    help="quick: seconds to minutes. full: long attacks, all corruptions, certificates.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many held-out rows.")
@click.option("--eps", type=float, help="Size of the attack in units of 0..1 (as evaluated first).")
@click.option("--norm", type=click.Choice(NORMS), help="What eps measures (as evaluated first).")
@click.option("--autoattack", is_flag=True, help="Run the reference AutoAttack as well.")
@click.option("--seed", type=int, default=0, help="Of attacks, noise and corruptions.")
@click.option(
    "--device", type=click.Choice(DEVICES), default="auto", help="That attacks on the net run on."
)
@json_option
@click.pass_obj
def evaluate(
    settings: Settings,
    model: str,
    which: str,
    suite: Literal["quick", "full"],
    limit: int | None,
    eps: float | None,
    norm: Literal["linf", "l2"] | None,
    autoattack: bool,
    seed: int,
    device: Literal["auto", "cpu", "cuda"],
    as_json: bool,
) -> None:
    """Evaluate a version again on its held-out data: clean, attacked, corrupted, edge cases.

    Figures and the report go to `evaluations/<model>/<version>/` in the state directory. Cut off
    and run again, it goes on where it was. Several processes share the work under torchrun.

    \b
    Example:
      holdfast evaluate digits --version 2 --suite full
      torchrun --nproc-per-node 4 --no-python holdfast evaluate digits --suite full
    """
    need_training()
    from models import reporting
    from models.data.source import relabelled_data
    from models.evaluation.suite import evaluate as judge
    from models.training import distributed
    from models.training.precision import choose_device
    from monitoring.making.opening import open_subject

    where = choose_device(device)
    registry = Registry(settings.registry_dir, settings.keys)
    bundle = registry.open(model, which)
    manifest = bundle.manifest
    threat = _threat(manifest, eps, norm)
    folder = Path(settings.state) / "evaluations" / model / str(manifest.version)
    before, figures_before = _previous(registry, manifest, folder.parent, suite)
    first = distributed.rank() == 0
    with Bar(bundle.name, silent=not first) as bar:
        bar("reading", 0, 0, "")
        data = relabelled_data(bundle)
        figures = judge(
            open_subject(bundle).on(where), data.test,
            unseen=data.unseen_test, groups=data.test_groups,
            suite=suite, threat=threat, previous=figures_before, previous_version=before,
            limit=limit, autoattack=autoattack, seed=seed, work=folder / "work",
            progress=bar.of("judging"),
        )  # fmt: skip
    distributed.leave()
    if not first:
        return
    name = suite if limit is None else f"{suite}-{limit}"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{name}.json", msgspec.json.format(msgspec.json.encode(figures)))
    write_atomic(folder / f"{name}.html", reporting.render(manifest, figures).encode())
    emit(
        msgspec.to_builtins(figures),
        as_json,
        lambda: _text(bundle.name, figures, folder / f"{name}.html"),
    )


def _threat(
    manifest: Manifest, eps: float | None, norm: Literal["linf", "l2"] | None
) -> ThreatModel:
    """What the options say, else what the version was evaluated with when it was made."""
    own = ThreatModel(eps=EPS) if manifest.evaluation is None else manifest.evaluation.threat
    if norm is not None and norm != own.norm and eps is None:
        raise click.UsageError(f"--norm {norm} needs --eps: the version's own is of another norm")
    return msgspec.structs.replace(
        own, norm=own.norm if norm is None else norm, eps=own.eps if eps is None else eps
    )


def _previous(
    registry: Registry, manifest: Manifest, evaluations: Path, suite: str
) -> tuple[int | None, Evaluation | None]:
    """The champion to compare with: the standing one, or for itself the one before it.

    Its figures are those of the same suite where it was evaluated with it, else its manifest's.
    """
    try:
        aliases = registry.aliases(manifest.model)
    except UnknownModelError:
        return None, None
    version = aliases.champion if aliases.champion != manifest.version else aliases.previous
    if version is None or version == manifest.version:
        return None, None
    path = evaluations / str(version) / f"{suite}.json"
    try:
        return version, msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except (OSError, msgspec.DecodeError):
        figures = registry.manifest(manifest.model, version).evaluation
        return (None, None) if figures is None else (version, figures)


def _text(name: str, figures: Evaluation, page: Path) -> str:
    first = f"{name} on {figures.n} held-out rows (95 % intervals)"
    return "\n".join([first, *figure_lines(figures), f"report: {page}"])
