"""All settings in one record: name, type, bounds, default, meaning and unit.

The composition root reads the record once from `holdfast.toml` and `HOLDFAST_*` variables (which
win) and passes it down. Help, documentation and checks are made from the fields below.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from models.versions.signature import Keys
from monitoring.records.keeping.limits import ALL, Kept
from service.configuration.checks import check_limits, check_sample, check_schedule
from service.configuration.filling import fill_settings
from service.configuration.model_specs import ModelLimits, ModelSpec, parse_limits, parse_models
from service.configuration.places import Places
from service.configuration.platform_variables import without_platforms
from service.configuration.values import Policy, collect, read_toml, read_value, unknown
from service.web.errors import SettingsError, raise_faults

PREFIX = "HOLDFAST_"


def _about(help: str, unit: str = "", **bounds: Any) -> Meta:
    return Meta(description=help, extra={"unit": unit}, **bounds)


class Settings(Places, msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings; `load` fills in empty `*_url` texts and counts of 0."""

    state: Annotated[str, _about("directory of registry, records and run files")] = "./state"
    host: Annotated[str, _about("address the service listens on")] = "127.0.0.1"
    port: Annotated[int, _about("port of the service", ge=1, le=65535)] = 8080
    grpc_port: Annotated[int, _about("port of gRPC, on the same host; 0: none", ge=0, le=65535)] = 0
    grpc_cert_file: Annotated[str, _about("file with gRPC's TLS certificate; empty: no TLS")] = ""
    grpc_key_file: Annotated[str, _about("file with the key of that certificate")] = ""
    grpc_client_ca_file: Annotated[
        str, _about("file with the authority that must have signed the clients' certificates")
    ] = ""
    models: Annotated[
        str,
        _about(
            "models to serve, comma-separated, NAME or NAME@VERSION (pinned: the champion does not "
            "matter); empty: every one with a champion"
        ),
    ] = ""
    model_limits: Annotated[
        str,
        _about(
            "NAME:rows=N,concurrent=N of some models, separated by ';': most rows in a request, "
            "most runs at once in a worker; empty: none of their own"
        ),
    ] = ""
    workers: Annotated[
        int, _about("worker processes of the service; 0: chosen from the cores", ge=0, le=256)
    ] = 0
    threads: Annotated[int, _about("request threads of a worker; 0: chosen", ge=0, le=256)] = 0
    model_threads: Annotated[
        int, _about("threads of onnxruntime for a run; 0: chosen from the cores", ge=0, le=256)
    ] = 0
    max_requests: Annotated[
        int, _about("requests after which a worker is replaced, and up to a quarter more; 0: never",
                    "requests", ge=0)
    ] = 0  # fmt: skip
    drain_seconds: Annotated[
        float, _about("time in which a stopping service says so before it stops accepting", "s",
                      ge=0, le=300)
    ] = 1.0  # fmt: skip
    grace_seconds: Annotated[
        int, _about("time in which a stopping service ends, at most", "s", ge=2, le=3600)
    ] = 30
    watch_host: Annotated[str, _about("address the watcher listens on")] = "127.0.0.1"
    watch_port: Annotated[int, _about("port of the watcher", ge=1, le=65535)] = 9108
    watch_interval_seconds: Annotated[
        float, _about("time between two looks at the counters", "s", gt=0, le=3600)
    ] = 2.0
    service_url: Annotated[
        str,
        _about(
            "where the watcher finds the service, several comma-separated; empty: on this machine, "
            "at host and port"
        ),
    ] = ""
    prometheus_url: Annotated[
        str,
        _about(
            "Prometheus from which the watcher takes the counters of all services of the job "
            "holdfast-service; empty: from the services themselves"
        ),
    ] = ""
    watch_url: Annotated[
        str,
        _about("where the console finds the watcher; empty: on this machine, at its host and port"),
    ] = ""
    console: Annotated[
        Literal["on", "token", "off"],
        _about(
            "the page at /; on: who sits at this machine needs no token where there are none; "
            "token: everybody does, for inputs and actions; off: there is none"
        ),
    ] = "on"
    database_url: Annotated[
        str,
        _about(
            "SQLAlchemy URL of records and feedback; ?password_file=PATH: its password is in a "
            "file; empty: SQLite in the state directory"
        ),
    ] = ""
    max_body_bytes: Annotated[
        int, _about("largest request body", "B", ge=1024, le=2**30)
    ] = 8 * 2**20  # fmt: skip
    max_waiting_bytes: Annotated[
        int, _about("most of unfinished requests that a worker holds, together", "B", ge=2**20)
    ] = 2**28
    header_timeout_seconds: Annotated[
        float, _about("time in which the head of a request must have come", "s", gt=0, le=3600)
    ] = 10.0
    body_timeout_seconds: Annotated[
        float, _about("time in which the body that follows must have come", "s", gt=0, le=3600)
    ] = 30.0
    max_rows: Annotated[int, _about("most rows in one request", ge=1, le=2**20)] = 1024
    max_image_pixels: Annotated[
        int, _about("most pixels of the images of a request, together", "pixels", ge=1, le=10**9)
    ] = 16_000_000
    certify_max_runs: Annotated[
        int, _about("most noisy rows that one /certify request may run", "rows", ge=1000, le=10**8)
    ] = 20_000
    policy: Annotated[
        Policy, _about("flagged, suspicious or uncertified rows are answered, or refused with 409")
    ] = "observe"
    query_detection: Annotated[
        Literal["on", "off"], _about("watch each client's queries for attacks that probe the model")
    ] = "on"
    query_clients: Annotated[
        int, _about("clients whose last queries are kept; 0.5 MiB each", "clients", ge=1, le=4096)
    ] = 256
    query_key: Annotated[
        Literal["token", "address"],
        _about("a client is the token it was let in with, else its address; or always its address"),
    ] = "token"
    rate_per_second: Annotated[
        float, _about("most calls of a client, over all workers; 0: any", "1/s", ge=0, le=1e6)
    ] = 0.0
    rate_burst: Annotated[
        int, _about("calls of a client that may come at once", "calls", ge=1, le=10**6)
    ] = 20
    client_concurrency: Annotated[
        int, _about("most calls of a client under way at once; 0: any", "calls", ge=0, le=10**4)
    ] = 0
    trusted_proxies: Annotated[
        str, _about("addresses and networks whose X-Forwarded-For is believed, comma-separated")
    ] = ""
    allowed_hosts: Annotated[
        str, _about("names in `Host` that are this service's beside loopback ones, comma-separated")
    ] = ""
    allowed_origins: Annotated[
        str, _about("origins such as https://app.example whose pages may call, comma-separated")
    ] = ""
    reload_interval_seconds: Annotated[
        float, _about("time between two looks at the aliases", "s", gt=0, le=3600)
    ] = 0.5
    record_queue: Annotated[
        int, _about("records of a worker that may wait to be written", "rows", ge=1, le=10**7)
    ] = 10_000
    record_rows_kept: Annotated[
        int, _about("records kept for feedback and retraining", "rows", ge=1)
    ] = 200_000
    record_bytes_kept: Annotated[
        int, _about("inputs kept with them; the oldest records go first", "bytes", ge=1)
    ] = 1 << 32
    record_days_kept: Annotated[
        float, _about("age at which a record goes with its label; 0: none", "days", ge=0)
    ] = 0.0
    record_limits: Annotated[
        str,
        _about("NAME:rows=N,bytes=N,days=D of some models, separated by ';': records kept of each"),
    ] = ""
    record_sample: Annotated[
        str,
        _about(
            "requests recorded: all, flagged, a share such as 0.1, or reservoir:N (N rows a model)"
        ),
    ] = "all"
    keep_inputs: Annotated[
        Literal["on", "off"],
        _about("whether records hold inputs; without them nothing is retrained or shown to label"),
    ] = "on"
    job_days_kept: Annotated[
        float, _about("age at which a job that ended goes, files and row; 0: none", "days", ge=0)
    ] = 0.0
    feedback_wait_seconds: Annotated[
        float, _about("how long feedback waits for the record it names", "s", ge=0, le=60)
    ] = 2.0
    drift_c: Annotated[
        float,
        _about(
            "requests to a false drift alarm, at least, on average, if requests come independently "
            "from one distribution",
            "requests",
            ge=100,
        ),
    ] = 1e6
    min_labels: Annotated[int, _about("labelled rows that a retraining needs", "rows", ge=1)] = 300
    labeller_share: Annotated[
        float,
        _about(
            "most of a window that one client labels where others label, too; one with the scope "
            "feedback:any may label all",
            gt=0, le=1,
        ),
    ] = 0.5  # fmt: skip
    trusted_labellers: Annotated[
        str,
        _about("tokens, comma-separated, whose labels need no person's word where labels change"),
    ] = ""
    label_patience_seconds: Annotated[
        float, _about("how long a failed re-evaluation waits for those labels", "s", ge=0)
    ] = 900.0
    cool_down_seconds: Annotated[
        float,
        _about(
            "rest of the loop after a run of a model, from its end; doubled by each run in a row "
            "that led nowhere, up to a day",
            "s",
            ge=0,
        ),
    ] = 300.0
    daily_budget: Annotated[
        int,
        _about(
            "runs of a model in 24 hours that the loop begins by itself, at most; those of a "
            "person do not count",
            "runs",
            ge=0,
        ),
    ] = 20
    mode: Annotated[
        Literal["auto", "manual", "report"],
        _about("promote by itself, after approval, or never"),
    ] = "auto"
    approval_timeout_seconds: Annotated[
        float, _about("how long a challenger waits for approval", "s", gt=0)
    ] = 86_400.0
    shadow_seconds: Annotated[
        float,
        _about(
            "how long a challenger answers live requests in the champion's shadow before it is "
            "promoted; less where it is shown to be no worse", "s", ge=0,
        ),
    ] = 30.0  # fmt: skip
    canary: Annotated[
        float,
        _about(
            "share of the requests that a challenger answers after its time in the shadow; "
            "0: none", "", ge=0, le=0.5,
        ),
    ] = 0.0  # fmt: skip
    canary_seconds: Annotated[
        float, _about("how long it may take to show that it is no worse there", "s", gt=0)
    ] = 600.0
    probation_seconds: Annotated[
        float, _about("how long a new champion is watched before it stays", "s", ge=0)
    ] = 30.0
    retrain_epochs: Annotated[int, _about("epochs of a retraining", "epochs", ge=1)] = 20
    trainings: Annotated[
        int, _about("trainings of the loop at the same time, over all models", "trainings", ge=1)
    ] = 1
    step_timeout_seconds: Annotated[
        float, _about("how long a step of the loop may take, a training for one", "s", gt=0)
    ] = 3600.0
    schedule: Annotated[
        str, _about("cron line of scheduled evaluations, of five fields; empty: none")
    ] = ""
    timezone: Annotated[
        str,
        _about("zone of that line, a name such as Europe/Berlin; empty: the system's zone"),
    ] = ""
    tokens_file: Annotated[
        str, _about("file with the service's tokens; empty: tokens.json in the state directory")
    ] = ""
    admin_token_file: Annotated[str, _about("file with the token of the admin calls")] = ""
    alert_token_file: Annotated[str, _about("file with the token of the alert webhook")] = ""
    trusted_keys: Annotated[
        str, _about("file with public keys; set: versions without a signature by one are refused")
    ] = ""
    signing_key_file: Annotated[
        str, _about("file with the private key that signs new versions; empty: they are not signed")
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _about("least severe line that is logged")
    ] = "info"
    access_log: Annotated[
        Literal["off", "errors", "all"],
        _about("requests that get a line in the log: none, those of status 400 and above, all"),
    ] = "errors"
    trace_endpoint: Annotated[
        str,
        _about(
            "OTLP/HTTP address traces go to, such as http://127.0.0.1:4318; "
            "empty: OTEL_EXPORTER_OTLP_ENDPOINT, else none"
        ),
    ] = ""

    @property
    def keys(self) -> Keys:
        """What versions are signed with, and whose signatures are trusted."""
        return Keys(trusted=self.trusted_keys, signing=self.signing_key_file)

    @property
    def kept(self) -> Kept:
        """What is kept of the records."""
        limits, sample = check_limits(self.record_limits), check_sample(self.record_sample)
        rows, size, days = self.record_rows_kept, self.record_bytes_kept, self.record_days_kept
        inputs, jobs = self.keep_inputs == "on", self.job_days_kept
        return Kept(rows, size, days, limits, sample, inputs, jobs)

    @property
    def model_specs(self) -> tuple[ModelSpec, ...]:
        """The models named in `models`; empty means every one."""
        return parse_models(self.models)

    @property
    def limits(self) -> Mapping[str, ModelLimits]:
        """The limits of `model_limits`, by model."""
        return parse_limits(self.model_limits, self.max_rows, self.model_specs)


_DEFAULTS = Settings()


def load(env: Mapping[str, str], toml_path: Path | None = None) -> Settings:
    """Read the settings; the environment wins over the file, which wins over the defaults.

    Args:
        env: variables; those that begin with `HOLDFAST_` must be settings, but for what platforms
            set by themselves (`platform_variables`).
        toml_path: a file with `name = value` lines, or None; one that is absent is no error.

    Raises:
        SettingsError: an unknown name or a value that does not fit; ManySettingsError where there
            are several, with all of them.
    """
    faults: list[SettingsError] = []
    ours = {k: v for k, v in env.items() if k.startswith(PREFIX)}
    variables = {k.removeprefix(PREFIX).lower(): v for k, v in without_platforms(ours).items()}
    nothing: dict[str, object] = {}
    values = {**collect(faults, lambda: read_toml(toml_path), nothing), **variables}
    hints = get_type_hints(Settings, include_extras=True)
    fields = {}
    for name, value in sorted(values.items()):
        if name not in hints:
            faults.append(unknown(name, hints, f"{PREFIX}{name.upper()}"))
            continue
        parse = partial(read_value, name, value, hints[name])
        fields[name] = collect(faults, parse, getattr(_DEFAULTS, name))
    settings = Settings(**fields)
    # Of settings that are wrong the defaults stand there, so that no fault brings a second one.
    collect(faults, lambda: dict(settings.limits), nothing)
    collect(faults, lambda: dict(check_limits(settings.record_limits)), nothing)
    collect(faults, lambda: check_sample(settings.record_sample), ALL)
    collect(faults, lambda: check_schedule(settings.schedule, settings.timezone), None)
    raise_faults(faults)
    return fill_settings(settings)


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables from which `load` makes these settings."""
    values = msgspec.structs.asdict(settings)
    return {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()}
