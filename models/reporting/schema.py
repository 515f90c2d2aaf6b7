"""The JSON schema of `report.json`; `python -m models.reporting.schema` writes it to the docs."""

from pathlib import Path
from typing import Any

import msgspec

from models.versions.figures import Evaluation

FILE = Path(__file__).parents[2] / "docs" / "report.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def report_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of the encoding of an `Evaluation`."""
    return {"$schema": DIALECT, "title": "report.json of a Holdfast version"} | msgspec.json.schema(
        Evaluation
    )


def encode_schema() -> bytes:
    """The schema as it stands in `docs/`."""
    return msgspec.json.format(msgspec.json.encode(report_schema()), indent=1) + b"\n"


if __name__ == "__main__":
    FILE.write_bytes(encode_schema())
