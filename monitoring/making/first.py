"""Whether a version becomes the champion of its model by itself."""

from models.evaluation.worth import reasons_against_serving
from models.versions.registry import Registry


def promote_first(registry: Registry, model: str, version: int, *, actor: str) -> str | None:
    """Make a version the champion where its model has none and nothing is against it.

    A version that is no better than naming the commonest class, or hardly robust, answers nobody
    before a person has said so.

    Args:
        registry: it is published there.
        model, version: of the version.
        actor: who made it, for the audit log.

    Returns:
        A sentence with the reasons and the way out where it was not made champion because of
        them; None where it was, or where another champion stands.

    Raises:
        RegistryError: the version cannot be promoted.
    """
    if registry.aliases(model).champion is not None:
        return None
    evaluation = registry.manifest(model, version).evaluation
    reasons = () if evaluation is None else reasons_against_serving(evaluation)
    if reasons:
        return (
            f"{model}/{version} was not made the champion: {' and '.join(reasons)}; to serve it "
            f"all the same: holdfast models promote {model} {version}"
        )
    registry.promote(model, version, expected=None, actor=actor, reason="the first", by_person=True)
    return None
