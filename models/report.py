"""The model card: what a version is and how well it does, in Markdown."""

from typing import Any

from models.schema import Manifest

CARD = """# {model}, version {version}

Made {made} because: {reason}. Parent version: {parent}.

## Use
Classifies `{input}` ({kind}, {dtype}, shape {shape}, values {low:g} to {high:g})
into {count} classes: {classes}.

## Figures on {n} held-out rows
| what | value (95 % interval) |
|---|---|
{figures}

| attack | eps (of the 0..1 range) | accuracy |
|---|---|---|
{curve}

## Training
{recipe}.
Data {data} (`{fingerprint}`), {rows} rows, {cpu_seconds:.0f} CPU-seconds.
Scores calibrated on {calibrated} rows: {source}.

## Limits
The figures hold for white-box L-inf attacks of the sizes named and for data like the held-out
rows. An attacker who knows the perturbation head can evade it in part: it is a tripwire, the
training is the defence.
"""


def card(manifest: Manifest) -> str:
    """A model card from the manifest's own figures (no figure is typed by hand)."""
    schema, training, calibration = manifest.input, manifest.training, manifest.calibration
    points = manifest.evaluation["robust_curve"]
    return CARD.format(
        model=manifest.model,
        version=manifest.version,
        made=manifest.created_at,
        reason=manifest.event.get("reason", "unknown"),
        parent=manifest.parent or "none",
        input=schema.name,
        kind=schema.kind,
        dtype=schema.dtype,
        shape=list(schema.shape),
        low=schema.low,
        high=schema.high,
        count=len(manifest.classes),
        classes=", ".join(manifest.classes),
        n=manifest.evaluation["n"],
        figures="\n".join(f"| {what} | {value} |" for what, value in _figures(manifest)),
        curve="\n".join(f"| {p['attack']} | {p['eps']:g} | {_interval(p)} |" for p in points),
        recipe=", ".join(f"{k} {v}" for k, v in training["recipe"].items()),
        data=training["data"]["name"],
        fingerprint=training["data"]["fingerprint"][:16],
        rows=training["rows"],
        cpu_seconds=training["cpu_seconds"],
        calibrated=calibration.n,
        source=calibration.source,
    )


def _figures(manifest: Manifest) -> list[tuple[str, str]]:
    figures, alpha = manifest.evaluation, manifest.calibration.alpha
    scores, eps = figures["scores"], figures["eps"]
    low, high = scores["false_positives_expected"]
    usual = f"set to {alpha:.0%}; {low} to {high} of {figures['n']} rows are usual"
    rows = [
        ("clean accuracy", figures["clean"]),
        (f"accuracy under PGD-100 and APGD-100, L-inf {eps:g}", figures["robust"]),
        (f"clean rows flagged as drift ({usual})", scores["drift_false_positives"]),
        (f"clean rows flagged as perturbed ({usual})", scores["perturbation_false_positives"]),
        ("attacked rows flagged as perturbed", scores["perturbation_detected"]),
    ]
    if figures.get("window"):
        rows.append(("accuracy on held-out live rows of the window", figures["window"]))
    return [(what, _interval(p)) for what, p in rows]


def _interval(p: dict[str, Any]) -> str:
    return f"{p['value']:.1%} ({p['low']:.1%} to {p['high']:.1%}, n = {p['n']})"
