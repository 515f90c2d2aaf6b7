"""Checks of what is stored: models and their versions, tokens, the database."""

import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from models.base.errors import BundleError, HoldfastError, RegistryError
from models.versions.bundle import Bundle
from models.versions.registry import Registry
from monitoring.counting import query_embedding
from monitoring.records.database import engine_url
from service.access import auth
from service.access.guard import exposure
from service.cli.checks.findings import Finding, failed, noted, passed
from service.configuration.checks import hide_password
from service.configuration.model_specs import ModelSpec
from service.configuration.settings import Settings
from service.fleet.overrides import Repository

CONNECT_SECONDS = 3
LIMITED = ("rows in a request", "runs at once in a worker")
TOKEN = "holdfast tokens create NAME --scope predict"


def check_models(settings: Settings) -> Iterator[Finding]:
    """Every version with an alias is there and whole; what the settings name can be served."""
    registry = Registry(settings.registry_dir, settings.keys)
    try:
        names = registry.models()
    except (HoldfastError, OSError) as error:
        yield failed("models", str(error), "see to the folder, or restore it from a backup")
        return
    if names:
        yield passed("models", ", ".join(names))
    else:
        yield failed("models", "none", "holdfast demo, or holdfast train DATA")
    yield from _check_named_models(settings, registry)
    for model in names:
        yield from _check_versions(settings, registry, model)


def check_tokens(settings: Settings) -> Iterator[Finding]:
    """Who may call: the tokens, and whether one of them has expired."""
    path = settings.tokens_path
    if danger := exposure(settings):
        yield noted("callers", danger, TOKEN)
    else:
        exposed = settings.host not in ("127.0.0.1", "::1", "localhost")
        yield passed("callers", "the network, with tokens" if exposed else "this machine only")
    if not path.exists():
        return  # with `tokens_file` set, the check of that setting says so
    try:
        tokens = auth.read(path)
    except HoldfastError as error:
        yield failed("tokens", str(error), f"chmod 600 {path}, or restore it from a backup")
        return
    over = ", ".join(token.name for token in tokens if token.expired())
    if not tokens:
        yield failed("tokens", f"{path} holds none: every call is refused", TOKEN)
    elif over:
        fix = "holdfast tokens revoke NAME, then holdfast tokens create NAME"
        yield noted("tokens", f"{len(tokens)}, of which these have expired: {over}", fix)
    else:
        yield passed("tokens", f"{len(tokens)}, none has expired")


def check_database(url: str) -> Finding:
    """Whether the database answers; a SQLite file that is not there is not made."""
    what, shown = "database", hide_password(url)
    try:
        address = engine_url(url)
        if address.get_backend_name() == "sqlite":
            return _check_file(Path(address.database or ""))
        engine = sa.create_engine(address, connect_args={"connect_timeout": CONNECT_SECONDS})
        with engine.connect():
            pass
        engine.dispose()
    except HoldfastError as error:  # the file of the password
        return failed(what, f"{shown}: {error}", "correct the file that password_file names")
    except (sa.exc.SQLAlchemyError, ImportError, ValueError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())
        fix = "start the database, or correct HOLDFAST_DATABASE_URL"
        return failed(what, f"{shown} does not answer: {reason}", fix)
    return passed(what, f"{shown} answers")


def _check_file(file: Path) -> Finding:
    """Whether a SQLite file can be written, or made together with its directory."""
    place = file
    while not place.exists():
        place = place.parent
    if os.access(place, os.W_OK):
        return passed("database", f"SQLite file {file}")
    fix = f"chown {os.geteuid()} {place}, or set HOLDFAST_DATABASE_URL"
    return failed("database", f"SQLite file {file} cannot be written", fix)


def _check_versions(settings: Settings, registry: Registry, model: str) -> Iterator[Finding]:
    what = f"champion of {model}"
    try:
        aliases = registry.aliases(model)
        if aliases.champion is None:
            promote = f"holdfast models promote {model} {(registry.versions(model) or (1,))[-1]}"
            yield noted(what, "none: it is not served", promote)
            return
        champion = registry.open(model)
    except (BundleError, RegistryError) as error:
        fix = f"holdfast models rollback {model}, or holdfast models promote {model} VERSION"
        yield failed(what, str(error), fix)
        return
    yield passed(what, f"{champion.name}, every sha256 right")
    if aliases.previous is not None:
        yield _check_previous(registry, model, aliases.previous)
    yield _check_queries(settings, champion)


def _check_previous(registry: Registry, model: str, version: int) -> Finding:
    what = f"previous of {model}"
    try:
        bundle = registry.open(model, str(version))
    except (BundleError, RegistryError) as error:
        fix = f"restore {registry.path(model, version)} from a backup; until then no way back"
        return noted(what, str(error), fix)
    return passed(what, f"{bundle.name}, every sha256 right")


def _check_queries(settings: Settings, champion: Bundle) -> Finding:
    """Whether query attacks on a model are detected."""
    what = f"query detection of {champion.manifest.model}"
    if settings.query_detection == "off":
        return noted(what, "off", "HOLDFAST_QUERY_DETECTION=on")
    if query_embedding.read(champion.manifest.input, champion.reference) is None:
        fix = "train or wrap the model anew"
        return noted(what, f"{champion.name} has no threshold for it", fix)
    return passed(what, f"the last queries of {settings.query_clients} clients are kept")


def _check_named_models(settings: Settings, registry: Registry) -> Iterator[Finding]:
    """The models that settings name, that were loaded or unloaded by call, and their limits."""
    for spec in settings.model_specs:
        yield _check_named_model(spec, registry)
    try:
        for name, loaded in Repository(registry.root).read().models.items():
            state = "loaded beside the named ones" if loaded else "unloaded, until it is loaded"
            yield passed(f"model {name}", f"{state} (V2 repository call)")
    except RegistryError as error:
        fix = "load or unload a model again: POST /v2/repository/models/NAME/load"
        yield failed("loaded and unloaded models", str(error), fix)
    for name, limits in settings.limits.items():
        own = [f"{n} {what}" for n, what in zip(limits, LIMITED, strict=True) if n is not None]
        yield passed(f"limits of {name}", ", ".join(own))


def _check_named_model(spec: ModelSpec, registry: Registry) -> Finding:
    """Whether a named model can be served, and at which version."""
    what, detail = f"model {spec.name}", "follows its champion"
    try:
        champion = registry.aliases(spec.name).champion
        if spec.version is not None:
            bundle = registry.open(spec.name, str(spec.version))
            detail = f"pinned: {bundle.name}, every sha256 right; the loop does not replace it"
            if champion not in (None, spec.version):
                detail += f" (champion is {champion})"
    except (BundleError, RegistryError) as error:
        return failed(what, str(error), "correct HOLDFAST_MODELS; holdfast models list has names")
    return passed(what, detail)
