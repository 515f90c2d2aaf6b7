"""Prometheus and Alertmanager for tests: the repository's own files, on free ports of this machine.

    watcher, service, alerts = free_port(), free_port(), free_port()
    alertmanager = render_alertmanager(tmp / "am", watcher_port=watcher, token="secret")
    prometheus = render_prometheus(
        tmp / "prom", service_port=service, watcher_port=watcher, alertmanager_port=alerts
    )
    with start_alertmanager(alertmanager, port=alerts), start_prometheus(prometheus) as url:
        assert ask(url, "up")

Only addresses, intervals and waiting times differ from what is shipped: see `render_prometheus`.
"""

import json
import random
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
) -> Path:
    """Write the repository's Prometheus files for local ports and return the configuration's path.

    `interval` is the scrape and evaluation interval, `hold` replaces every `for` and
    `keep_firing_for` of the alerts. Expressions, and so their 5 minute windows, stay as shipped.
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
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    receiver = {"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}
    config["alerting"] = {"alertmanagers": [receiver]}
    for name in config["rule_files"]:
        rules = _load(PROMETHEUS / name)
        for rule in (rule for group in rules["groups"] for rule in group["rules"]):
            rule |= {key: hold for key in ("for", "keep_firing_for") if key in rule}
        _dump(directory / name, rules)
    return _dump(directory / "prometheus.yml", config)


def render_alertmanager(
    directory: Path, *, watcher_port: int, token: str, wait: str = "1s"
) -> Path:
    """Write the repository's Alertmanager file for a local watcher and return its path.

    `token` is written to the file that the webhook's bearer token is read from; `wait` replaces
    the grouping's waiting times.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = _load(ALERTMANAGER / "alertmanager.yml")
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": wait, "group_interval": wait}
    secret = directory / "alert_token"
    secret.write_text(token, encoding="utf-8")
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
