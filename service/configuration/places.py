"""Files and folders of a state directory."""

from pathlib import Path


class Places:
    """What of the settings is a place; `state` and the names of files are settings."""

    __slots__ = ()
    state: str
    tokens_file: str

    @property
    def registry_dir(self) -> Path:
        """Root of the model registry."""
        return Path(self.state) / "registry"

    @property
    def draining_file(self) -> Path:
        """A file that exists while the service stops and is not ready any more."""
        return Path(self.state) / "run" / "draining"

    @property
    def progress_file(self) -> Path:
        """How a training that a person began comes along, for the console."""
        return Path(self.state) / "run" / "progress.json"

    @property
    def metrics_dir(self) -> Path:
        """Counter files of the workers."""
        return Path(self.state) / "run" / "metrics"

    @property
    def tokens_path(self) -> Path:
        """Where the tokens of the service are kept."""
        return Path(self.tokens_file or Path(self.state) / "tokens.json")

    @property
    def admin_token_path(self) -> Path:
        """Where the token of the admin calls is made if `admin_token_file` names none."""
        return Path(self.state) / "run" / "admin_token"

    @property
    def alert_token_path(self) -> Path:
        """Where the token of the alerts is made if `alert_token_file` names none."""
        return Path(self.state) / "run" / "alert_token"
