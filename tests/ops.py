"""Prometheus and Alertmanager for tests: the repository's own files, on free ports of this machine.

    watcher, service, alerts = free_port(), free_port(), free_port()
    alertmanager = render_alertmanager(tmp / "am", watcher_port=watcher, token="secret")
    prometheus = render_prometheus(
        tmp / "prom", service_port=service, watcher_port=watcher, alertmanager_port=alerts
    )
    with start_alertmanager(alertmanager, port=alerts), start_prometheus(prometheus) as url:
        assert ask(url, "up")

Only addresses, intervals and waiting times differ from what is shipped: see `render_prometheus`.
Where windows are hours, `scale` lets the same rules run in minutes.
"""

import json
import random
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.waiting import PATIENCE_SECONDS, wait_until

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "monitoring" / "prometheus"
ALERTMANAGER = ROOT / "monitoring" / "alertmanager"
_PORTS = (12_000, 32_000)  # Linux takes ports for outgoing connections from 32768 on
_HELD: list[socket.socket] = []  # names of this process's ports, for as long as it lives
_MILLISECONDS = {
    "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000,
    "y": 31_536_000_000,
}  # fmt: skip
_LEAST_MILLISECONDS = 1000
_DURATION = r"(?:\d+(?:ms|[smhdwy]))+"


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on and nobody else is given.

    The system gives port 0 and outgoing connections ports of one range, so a port of that range may
    be some client's before it is listened on. These lie below it; other test processes leave one
    alone while this process lives, which holds a name for it.
    """
    for _ in range(1000):
        port = random.SystemRandom().randrange(*_PORTS)
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                name.bind(f"\0holdfast-test-port-{port}")
                listener.bind(("127.0.0.1", port))
            except OSError:
                name.close()
                continue
        _HELD.append(name)
        return port
    raise OSError(f"no free TCP port in {_PORTS}")


def missing_programs(*names: str) -> list[str]:
    """Return those of the programs that are not installed (for a test's skip reason)."""
    return [name for name in names if shutil.which(name) is None]


def render_prometheus(
    directory: Path,
    *,
    service_port: int,
    watcher_port: int,
    alertmanager_port: int,
    interval: str = "2s",
    hold: str = "1s",
    scale: float = 1.0,
    more_services: Sequence[int] = (),
) -> Path:
    """Write the repository's Prometheus files for local ports and return the configuration's path.

    `interval` is the scrape and evaluation interval, `hold` replaces every `for` and
    `keep_firing_for` of the alerts. Expressions, and so their 5 minute windows, stay as shipped;
    with a `scale` all durations are divided by it instead (`scale_rules`). `more_services` are
    ports of further instances of the service.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = _load(PROMETHEUS / "prometheus.yml")
    config["global"] = {
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "evaluation_interval": interval,
    }
    ports = {"holdfast-service": service_port, "holdfast-watcher": watcher_port}
    for job in config["scrape_configs"]:
        more = more_services if job["job_name"] == "holdfast-service" else ()
        targets = [f"127.0.0.1:{port}" for port in (ports[job["job_name"]], *more)]
        job["static_configs"] = [{"targets": targets}]
    receiver = {"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}
    config["alerting"] = {"alertmanagers": [receiver]}
    for name in config["rule_files"]:
        rules = _load(PROMETHEUS / name)
        if scale == 1.0:
            for rule in (rule for group in rules["groups"] for rule in group["rules"]):
                rule |= {key: hold for key in ("for", "keep_firing_for") if key in rule}
        else:
            rules = scale_rules(rules, scale)
        _dump(directory / name, rules)
    return _dump(directory / "prometheus.yml", config)


def scale_rules(rules: Any, scale: float) -> Any:
    """Return a file of rules in which time passes `scale` times as fast.

    Divided are every `for` and `keep_firing_for`, and ranges, steps and offsets in expressions. No
    number is: a bound in seconds (`> 900`) stays, and names of recorded series (`:5m`) do, too.
    """
    groups = []
    for group in rules["groups"]:
        scaled = []
        for rule in group["rules"]:
            waits = {k: rule[k] for k in ("for", "keep_firing_for") if k in rule}
            shorter = {key: scale_duration(value, scale) for key, value in waits.items()}
            scaled.append(rule | shorter | {"expr": scale_expression(rule["expr"], scale)})
        groups.append(group | {"rules": scaled})
    return rules | {"groups": groups}


def scale_expression(expression: str, scale: float) -> str:
    """Return a PromQL expression with ranges, steps and offsets divided; strings stay as they are.

    >>> scale_expression('rate(a{x=~"[5m]"}[1h]) / max_over_time(b[3d:5m] offset 1h)', 60)
    'rate(a{x=~"[5m]"}[60000ms]) / max_over_time(b[4320000ms:5000ms] offset 60000ms)'
    """
    spans = rf"\[({_DURATION})(?::({_DURATION})?)?\]|\boffset\s+({_DURATION})"

    def shorten(found: re.Match[str]) -> str:
        return re.sub(_DURATION, lambda each: scale_duration(each[0], scale), found[0])

    parts = re.split(r'("(?:[^"\\]|\\.)*")', expression)
    return "".join(part if part.startswith('"') else re.sub(spans, shorten, part) for part in parts)


def scale_duration(duration: str, scale: float) -> str:
    """Return a duration of Prometheus divided by `scale`, but a second at least.

    >>> scale_duration("1h30m", 60), scale_duration("30s", 60)
    ('90000ms', '1000ms')

    Raises:
        ValueError: it is no duration.
    """
    if re.fullmatch(_DURATION, duration) is None:
        raise ValueError(f"no duration of Prometheus: {duration!r}")
    parts = re.findall(r"(\d+)(ms|[smhdwy])", duration)
    whole = sum(int(number) * _MILLISECONDS[unit] for number, unit in parts)
    return f"{max(_LEAST_MILLISECONDS, round(whole / scale))}ms"


def render_alertmanager(
    directory: Path, *, watcher_port: int, token: str, wait: str = "1s", people_url: str = ""
) -> Path:
    """Write the repository's Alertmanager file for a local watcher and return its path.

    `token` is written to the file that the webhook's bearer token is read from; `wait` replaces
    the grouping's waiting times; `people_url` is a webhook for all receivers but the watcher.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = _load(ALERTMANAGER / "alertmanager.yml")
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": wait, "group_interval": wait}
    secret = directory / "alert_token"
    secret.write_text(token, encoding="utf-8")
    for people in config["receivers"] if people_url else ():
        if people["name"] != "watcher":
            people["webhook_configs"] = [{"url": people_url, "send_resolved": True}]
    (watcher,) = (each for each in config["receivers"] if each["name"] == "watcher")
    (webhook,) = watcher["webhook_configs"]
    webhook["url"] = f"http://127.0.0.1:{watcher_port}/alerts"
    webhook["http_config"]["authorization"]["credentials_file"] = str(secret)
    return _dump(directory / "alertmanager.yml", config)


@contextmanager
def start_prometheus(config: Path, *, port: int | None = None) -> Iterator[str]:
    """Run Prometheus with this configuration; yield its base URL once it is ready."""
    port = port or free_port()
    arguments = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={config.parent / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with _running(arguments, port, config.parent / "prometheus.log") as url:
        yield url


@contextmanager
def start_alertmanager(config: Path, *, port: int | None = None) -> Iterator[str]:
    """Run Alertmanager with this configuration; yield its base URL once it is ready."""
    port = port or free_port()
    arguments = [
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={config.parent / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with _running(arguments, port, config.parent / "alertmanager.log") as url:
        yield url


def ask(prometheus_url: str, expression: str) -> list[dict[str, Any]]:
    """Return the answer to an instant query: one `{"metric": ..., "value": ...}` per series."""
    query = urllib.parse.urlencode({"query": expression})
    answer = _get_json(f"{prometheus_url}/api/v1/query?{query}")
    data = answer["data"]
    if data["resultType"] != "vector":
        return [{"metric": {}, "value": data["result"]}]
    result: list[dict[str, Any]] = data["result"]
    return result


def firing(prometheus_url: str) -> dict[str, str]:
    """Return the state of every active alert by name: `pending` or `firing`."""
    answer = _get_json(f"{prometheus_url}/api/v1/alerts")
    return {each["labels"]["alertname"]: each["state"] for each in answer["data"]["alerts"]}


def _get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
        return json.load(response)


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _dump(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@contextmanager
def _running(arguments: Sequence[str], port: int, log: Path) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(arguments, stdout=output, stderr=output) as process,
    ):
        try:
            _wait_ready(f"{url}/-/ready", process, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    def ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended: {log.read_text(encoding='utf-8')}")
        try:
            with urllib.request.urlopen(url, timeout=10):
                return True
        except (urllib.error.URLError, OSError):
            return False

    wait_until(ready, what=f"{url} answers; its log: {log}")
