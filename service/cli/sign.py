"""`holdfast models sign`: a signature of a version that is there already."""

from pathlib import Path

import click

from models.versions.bundle import manifest_bytes, open_bundle
from models.versions.registry import Registry
from models.versions.signature import Keys
from service.cli.terminal.output import emit, json_option
from service.configuration.settings import Settings


@click.command()
@click.argument("model")
@click.argument("version", default="champion")
@click.option(
    "--key", type=click.Path(path_type=Path),
    help="File with the private key (PEM, Ed25519); HOLDFAST_SIGNING_KEY_FILE.", show_default=False,
)  # fmt: skip
@json_option
@click.pass_obj
def sign(settings: Settings, model: str, version: str, key: Path | None, as_json: bool) -> None:
    """Sign a version, so that services with HOLDFAST_TRUSTED_KEYS load it.

    All its digests are checked first. An earlier signature is replaced.

    \b
    Example:
      openssl genpkey -algorithm ed25519 -out signing.pem
      openssl pkey -in signing.pem -pubout >> trusted.pem
      holdfast models sign digits 2 --key signing.pem
    """
    keys = Keys(signing=str(key) if key else settings.signing_key_file)
    if not keys.signing:
        raise click.UsageError("give --key, or set HOLDFAST_SIGNING_KEY_FILE")
    registry = Registry(settings.registry_dir)
    number = registry.resolve(model, version)
    path = registry.path(model, number)
    open_bundle(path)
    keys.sign(path, manifest_bytes(path))
    value = {"model": model, "version": number, "signed": True}
    emit(value, as_json, lambda: f"{model}/{number} is signed")
