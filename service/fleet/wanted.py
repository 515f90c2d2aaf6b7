"""Which models are to be served: those of the settings, more or less of them as operators said."""

from collections.abc import Iterable, Mapping

from models.versions.registry import MODEL_NAME, Registry
from service.configuration.model_specs import ModelSpec
from service.fleet.overrides import Decisions, Repository, Signature


class WantedModels:
    """What one worker knows of it.

    Args:
        registry: whose champions are wanted where no model is named.
        specs: the models that the settings name.
    """

    def __init__(self, registry: Registry, specs: tuple[ModelSpec, ...]) -> None:
        self.named: Mapping[str, ModelSpec] = {spec.name: spec for spec in specs}
        self._root = registry.root
        self._repository = Repository(registry.root)
        self._decisions = Decisions()
        self._seen: Signature | None = None

    def spec(self, model: str) -> ModelSpec:
        """What is served of a model, if it is."""
        return self.named.get(model, ModelSpec(model))

    def is_unloaded(self, model: str) -> bool:
        """Whether an operator wants it not to be served."""
        return self._decisions.models.get(model) is False

    def decide(self, model: str, loaded: bool) -> None:
        """Keep what an operator wants. Raises RegistryError or OSError where that fails."""
        self._repository.decide(model, loaded, not self.named or model in self.named)

    def look(self) -> bool:
        """Whether operators have said something since the last look.

        Raises:
            RegistryError, OSError: the file cannot be read, told once; what was known still holds.
        """
        signature = self._repository.signature()
        if signature == self._seen:
            return False
        self._seen = signature
        self._decisions = self._repository.read()
        return True

    def specs(self, served: Iterable[str]) -> dict[str, ModelSpec]:
        """What is to be served, by name.

        A folder that cannot be seen for a moment takes away nothing that is `served`.
        """
        base = self.named or {name: ModelSpec(name) for name in [*self._present(), *served]}
        decisions = self._decisions.models
        loaded = {name: base.get(name, ModelSpec(name)) for name, on in decisions.items() if on}
        return {n: spec for n, spec in {**base, **loaded}.items() if decisions.get(n, True)}

    def _present(self) -> list[str]:
        names = (path.parent.name for path in self._root.glob("*/aliases.json"))
        return sorted(name for name in names if MODEL_NAME.fullmatch(name))
