"""What a worker loads before its first request: memory and seconds of every start."""

import subprocess
import sys

HEAVY = ("torch", "scipy", "sklearn", "pandas", "pyarrow", "matplotlib", "alembic", "grpc")


def test_worker_starts_without_what_only_training_and_reports_need() -> None:
    code = (
        "import sys, service.gunicorn_conf, service.server.worker, service.app; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]", "one import of a name can bring 60 MiB and a second"
