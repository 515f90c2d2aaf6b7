"""Two real services as overlay `production` has them: one registry that they only read."""

from pathlib import Path

import pytest
import requests

from tests import bundles
from tests.ops import ROOT
from tests.service.processes import running
from tests.test_places import needs_namespaces
from tests.waiting import PATIENCE_SECONDS, wait_until

SECRET = "an admin token of this test"
# A mount of this process only, as a volume of Kubernetes with `readOnly: true`.
READ_ONLY = """
set -e
mkdir -p "$0/registry"
mount --bind "$1" "$0/registry"
mount -o remount,bind,ro "$0/registry"
if touch "$0/registry/x" 2>/dev/null; then echo 'still writable'; exit 9; fi
shift
cd /
exec "$@"
"""


@needs_namespaces
def test_replicas_with_states_of_their_own_serve_one_registry_that_they_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    registry = tmp_path / "registry"
    bundles.publish(registry)
    states = [tmp_path / name for name in ("holdfast-0", "holdfast-1")]
    for state in states:
        state.mkdir()
    prefixes = [
        ("unshare", "--mount", "sh", "-c", READ_ONLY, str(state), str(registry)) for state in states
    ]
    rows = {"instances": bundles.digits().test.x[:1].tolist()}
    token = tmp_path / "admin_token"
    token.write_text(SECRET)
    with (
        running(states[0], prefixes[0], admin_token_file=token) as first,
        running(states[1], prefixes[1]) as second,
    ):
        for each in (first, second):
            answer = requests.post(f"{each.url}/predict", json=rows, timeout=PATIENCE_SECONDS)
            assert answer.json()["version"] == 1
        bundles.publish(registry, bend=1.1)  # as the watcher does, who may write

        def served(url: str) -> dict[str, int]:
            found: dict[str, int] = requests.get(f"{url}/readyz", timeout=5).json()["models"]
            return found

        for each in (first, second):
            wait_until(lambda u=each.url: served(u) == {"digits": 2}, what="the new champion")
        headers = {"Authorization": f"Bearer {SECRET}"}
        url = f"{first.url}/v2/repository/models/digits/unload"
        refused = requests.post(url, headers=headers, timeout=PATIENCE_SECONDS)
        assert refused.status_code == 503
        assert "read-only" in refused.json()["error"].lower()
        assert served(first.url) == {"digits": 2}
