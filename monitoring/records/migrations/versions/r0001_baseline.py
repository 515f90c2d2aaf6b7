"""The tables when migrations began; a store that has them and no revision is at this one."""

revision = "0001"
down_revision = None

BASELINE = {
    "requests": {
        "last", "rows", "id", "row", "at", "model", "version", "client", "bytes", "total",
        "segment", "place", "scores", "x",
    },
    "written": {"one", "rows", "bytes"},
    "segments": {"number", "bytes", "last"},
    "feedback": {"number", "seq", "label", "at", "client", "trusted", "contradicted"},
    "further_labels": {"seq", "client", "label", "at"},
}  # fmt: skip


def upgrade() -> None:
    """Do nothing: no store is older than this and has a revision."""
