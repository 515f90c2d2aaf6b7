"""What is said of an adapted model: facts for the manifest, and notes for its owner."""

import onnx

from models.versions.facts import LayerFacts, OutputFacts, SkillFacts, WrappingFacts
from models.wrapping.choose import Choice
from models.wrapping.features import Features
from models.wrapping.feeding.tables import TablePlan
from models.wrapping.graphs.edit import show
from models.wrapping.outputs import ClassOutput
from models.wrapping.skill import describe_weakness

NO_FEATURES = "it has no feature layer: the scores rest on its answers and the input alone"


def describe(
    model: onnx.ModelProto,
    choice: Choice,
    skill: SkillFacts,
    classes: ClassOutput,
    features: Features | None,
) -> WrappingFacts:
    """The facts of an adapted model, without those of its file, its parity and notes."""
    plan = choice.trial.plan
    return WrappingFacts(
        file="",
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opset={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        output=OutputFacts(show(classes.output), classes.surface.kind, show(classes.inner.tensor)),
        features=None if features is None else LayerFacts(show(features.tensor), features.size),
        layout=plan.words["layout"],
        scale=plan.words["scale"],
        classes=choice.trial.order.name,
        spelling=plan.spelt() if isinstance(plan, TablePlan) else {},
        skill=skill,
        tried=tuple(trial.facts() for trial in choice.trials),
        refused=choice.refused,
        not_measured={"feature distances": NO_FEATURES} if features is None else {},
    )


def notes_on(
    choice: Choice, skill: SkillFacts, classes: ClassOutput, opened: int | None
) -> list[str]:
    """Sentences that the owner should know."""
    plan, notes = choice.trial.plan, []
    weakness = describe_weakness(skill)
    if weakness:
        notes.append(weakness)
    if "probab" in classes.inner.kind:
        notes.append("it gives no logits: its probabilities stand for them")
    if choice.alike:
        others = ", ".join(trial.plan.words["scale"] for trial in choice.alike)
        notes.append(
            f"scale {plan.words['scale']} was taken, but {others} fit as well: see --scale"
        )
    if opened is not None:
        notes.append(f"it took batches of {opened} and was made to take any")
    return [*notes, *_notes_on_columns(plan)] if isinstance(plan, TablePlan) else notes


def _notes_on_columns(plan: TablePlan) -> list[str]:
    notes = []
    unused = [c.name for i, c in enumerate(plan.columns) if i not in plan.used]
    if unused:
        notes.append(f"it does not use the columns {', '.join(unused)}")
    spelt = [f"{name} {how}" for name, how in plan.spelt().items()]
    if spelt:
        notes.append(f"categories are given to it in its own spelling: {', '.join(spelt)}")
    return notes
