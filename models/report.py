"""The model card: what a version is and how well it does, in Markdown."""

from typing import Any

from models.schema import Manifest


def card(manifest: Manifest) -> str:
    """A model card from the manifest's own figures (no figure is typed by hand)."""
    e, c, i = manifest.evaluation, manifest.calibration, manifest.input
    rows = "\n".join(f"| {r['attack']} | {r['eps']:g} | {r['accuracy']:.1%} |" for r in e["robust_curve"])
    recipe = ", ".join(f"{k} {v}" for k, v in manifest.training["recipe"].items())
    return f"""# {manifest.model}, version {manifest.version}

Made {manifest.created_at} because: {manifest.event.get("reason", "unknown")}. Parent version: {manifest.parent or "none"}.

## Use
Classifies `{i.name}`: {i.kind}, {i.dtype}, shape {list(i.shape)}, values {i.low:g} to {i.high:g}, into
{len(manifest.classes)} classes ({", ".join(manifest.classes)}).

## Figures on {e["n"]} held-out rows
| what | value (95 % interval) |
|---|---|
| clean accuracy | {_interval(e["clean"])} |
| accuracy under PGD-100 and APGD-100, L-inf {e["eps"]:g} | {_interval(e["robust"])} |
| clean rows flagged as drift (set to {c.alpha:.0%}) | {_interval(e["scores"]["drift_false_positives"])} |
| clean rows flagged as perturbed (set to {c.alpha:.0%}) | {_interval(e["scores"]["perturbation_false_positives"])} |
| attacked rows flagged as perturbed | {_interval(e["scores"]["perturbation_detected"])} |

| attack | eps (of the 0..1 range) | accuracy |
|---|---|---|
{rows}

## Training
{recipe}; seed {manifest.training["seed"]}; data {manifest.training["data"]["name"]}
(`{manifest.training["data"]["fingerprint"][:16]}`), {manifest.training["rows"]} rows; {manifest.training["cpu_seconds"]:.0f} CPU-seconds.
Scores calibrated on {c.n} rows: {c.source}.

## Limits
The figures hold for white-box L-inf attacks of the sizes named and for data like the held-out rows. An
attacker who knows the perturbation head can evade it in part: it is a tripwire, not a defence.
"""


def _interval(p: dict[str, Any]) -> str:
    return f"{p['value']:.1%} ({p['low']:.1%} to {p['high']:.1%}, n = {p['n']})"
