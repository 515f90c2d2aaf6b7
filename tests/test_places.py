"""Places that leave a process little: a read-only root without /tmp, a user nobody knows."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.base.files import shared_with_group
from service.cli.serve import answers
from tests import bundles
from tests.e2e.stack import get, status_of
from tests.ops import ROOT, free_port
from tests.waiting import wait_until

COMMAND = (sys.executable, "-m", "service")
FIRST, SECOND = 1_000_680_000, 1_000_690_000  # as OpenShift gives them
# Everything is made read-only but the state, then the command runs. `remount,bind` changes this
# namespace only.
READ_ONLY = """
set -e
mount --bind "$STATE" "$STATE"
for at in $(awk '{print $5}' /proc/self/mountinfo | grep -v -E '^/(proc|sys)(/|$)'); do
  [ "$at" = "$STATE" ] || mount -o remount,bind,ro "$at"
done
if touch /tmp/x 2>/dev/null || touch /dev/shm/x 2>/dev/null; then echo 'still writable'; exit 9; fi
touch "$STATE/x"
cd /
exec "$@"
"""


def namespaces() -> bool:
    """Whether mounts of our own can be made."""
    probe = ["unshare", "--mount", "mount", "-o", "remount,bind,ro", "/dev"]
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def as_user(uid: int, gid: int, scratch: Path) -> tuple[str, ...]:
    """A prefix that runs a command as another user, who can read interpreter and checkout."""
    needed = {Path(sys.base_prefix), Path(sys.prefix).resolve(), ROOT}
    needed |= {Path(p).resolve() for p in sys.path if p.endswith("site-packages")}
    closed = {d for path in needed for d in path.parents if not d.stat().st_mode & 0o001}
    lines, hold = ["set -e", "umask 022"], scratch / "hold"
    within = sorted(p for p in needed if closed & set(p.parents))
    for index, path in enumerate(within):
        lines += [f"mkdir -p {hold}/{index}", f"mount --bind {path} {hold}/{index}"]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {folder}" for folder in outermost(closed)]
    for index, path in enumerate(within):
        lines += [f"mkdir -p {path}", f"mount --bind {hold}/{index} {path}"]
    lines += ["cd /", f'exec setpriv --reuid {uid} --regid {gid} --clear-groups "$@"']
    return ("unshare", "--mount", "sh", "-c", "\n".join(lines), "sh")


def outermost(folders: set[Path]) -> list[Path]:
    """Those that lie in none of the others."""
    return sorted(folder for folder in folders if not folders & set(folder.parents))


needs_namespaces = pytest.mark.skipif(
    not namespaces(), reason="mounts of one's own take root and unshare"
)


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory with a model that every user can reach: pytest's folders are closed."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-places-"))
    folder.chmod(0o755)
    bundles.publish(folder / "state" / "registry")
    yield folder / "state"
    shutil.rmtree(folder)


def environment(state: Path, ports: tuple[int, int]) -> dict[str, str]:
    """Of a container: no home, no name, no folder for temporary files."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HOLDFAST_STATE": str(state),
        "HOLDFAST_WORKERS": "1",
        "HOLDFAST_PORT": str(ports[0]),
        "HOLDFAST_WATCH_PORT": str(ports[1]),
        "HOLDFAST_WATCH_INTERVAL_SECONDS": "0.5",
        "HOLDFAST_DRAIN_SECONDS": "0.1",
    }


@contextmanager
def running(state: Path, prefix: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Service and watcher on the state until the block ends; their addresses."""
    ports = (free_port(), free_port())
    env = {**environment(state, ports), "STATE": str(state)}
    urls = (f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
    logs = [state.parent / f"{name}-{ports[0]}.log" for name in ("serve", "watch")]
    processes = []
    try:
        for log, name in zip(logs, ("serve", "watch"), strict=True):
            with log.open("wb") as stream:
                command = [*prefix, *COMMAND, name]
                processes.append(subprocess.Popen(command, env=env, stdout=stream, stderr=stream))
        for log, process, url in zip(
            logs, processes, (f"{urls[0]}/readyz", f"{urls[1]}/healthz"), strict=True
        ):
            wait_until(
                lambda u=url, p=process: answers(u) or p.poll() is not None,
                seconds=120, what=f"{url} answers",
            )  # fmt: skip
            assert process.poll() is None, log.read_text()[-2000:]
        yield urls
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(60)
    for log in logs:
        assert "Traceback" not in log.read_text(), log.read_text()[-3000:]


def use(service: str, request_id: str) -> None:
    """A prediction and its label."""
    rows = {"instances": bundles.digits().test.x[:1].tolist()}
    status, told = status_of(f"{service}/predict", rows, {"X-Request-Id": request_id})
    assert status == 200, told
    label = told["predictions"][0]["label"]
    feedback = {"id": request_id, "label": label}
    wait_until(  # the row it belongs to is written behind the answer
        lambda: status_of(f"{service}/feedback", feedback)[0] == 200,
        seconds=20, what="the label is taken",
    )  # fmt: skip


@needs_namespaces
def test_service_and_watcher_need_only_the_state_to_be_writable(state: Path) -> None:
    prefix = ("unshare", "--mount", "sh", "-c", READ_ONLY, "sh")
    with running(state, prefix) as (service, watcher):
        use(service, "one")
        assert get(f"{watcher}/jobs") == []
    assert (state / "run" / "tmp").is_dir(), "nothing else could take temporary files"


@needs_namespaces
@pytest.mark.slow
def test_training_needs_only_the_state_to_be_writable(state: Path) -> None:
    prefix = ("unshare", "--mount", "sh", "-c", READ_ONLY, "sh")
    for command in (("train", "wine", "--quick", "--epochs", "30"), ("evaluate", "wine")):
        done = subprocess.run(
            [*prefix, *COMMAND, *command], capture_output=True, text=True, timeout=400, check=False,
            env={**environment(state, (1, 1)), "STATE": str(state)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@needs_namespaces
def test_two_users_of_group_0_serve_and_watch_one_state_after_each_other(state: Path) -> None:
    with pytest.raises(KeyError):
        pwd.getpwuid(FIRST)
    give_to_group_0(state)
    for uid in (FIRST, SECOND):
        with running(state, as_user(uid, 0, state.parent)) as (service, watcher):
            use(service, f"by-{uid}")
            assert get(f"{watcher}/jobs") == []
            token = (state / "run" / "admin_token").read_text()
            asked = {"model": "digits", "reason": "a test"}
            header = {"Authorization": f"Bearer {token}"}
            assert status_of(f"{watcher}/models/digits/rollback", asked, header)[0] != 401
    owners = {path.stat().st_uid for path in state.rglob("*")}
    assert {FIRST, SECOND} <= owners
    for secret in ("admin_token", "alert_token"):
        assert (state / "run" / secret).stat().st_mode & 0o777 == 0o660


@needs_namespaces
@pytest.mark.parametrize(
    ("uid", "gid", "mode", "shared"),
    [
        (FIRST, 0, 0o775, True),
        (FIRST, 0, 0o755, False),
        (FIRST, 7, 0o775, False),
        (0, 0, 0o775, False),
    ],
)
def test_secrets_are_for_the_group_only_where_a_platform_asks_for_it(
    uid: int, gid: int, mode: int, shared: bool, state: Path
) -> None:
    folder = state.parent / "secrets"
    folder.mkdir()
    os.chown(folder, uid, 0 if gid == 0 else gid)
    folder.chmod(mode)
    code = (
        "import os, sys; from pathlib import Path; from models.base import files\n"
        "os.umask(0o022); folder = Path(sys.argv[1]); files.share_with_group(folder)\n"
        "files.write_atomic(folder / 'secret', b'x', 0o600)\n"
        "files.write_atomic(folder / 'plain', b'x')\n"
    )
    subprocess.run(
        [*as_user(uid, gid, state.parent), sys.executable, "-c", code, str(folder)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    modes = [(folder / name).stat().st_mode & 0o777 for name in ("secret", "plain")]
    assert modes == ([0o660, 0o664] if shared else [0o600, 0o644])


def test_root_shares_nothing_by_itself(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    assert not shared_with_group(tmp_path) or os.geteuid() != 0


def give_to_group_0(state: Path) -> None:
    """What a volume looks like there: root's, and the group may do what its owner may."""
    for path in (state, *state.rglob("*")):
        path.chmod(0o775 if path.is_dir() else 0o664)
    state.parent.chmod(0o777)  # the logs lie beside it
