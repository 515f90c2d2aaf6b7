"""Small inputs that once came out wrong, where they lie beside the checkout."""

from pathlib import Path

import pytest

CASES = (Path(__file__).parents[1] / "../shared/cases").resolve()
PICTURES, TABLES = CASES / "pictures", CASES / "tables"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared cases")
