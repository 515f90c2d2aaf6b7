"""What a person can change on the page: each with what happens, what does not, and what is sent.

The button of the dialog names version and model, and the champion that was seen is sent along.
"""

from typing import Any
from urllib.parse import quote

import msgspec

HOLD_HOURS = 24.0


class Act(msgspec.Struct, frozen=True, omit_defaults=True):
    """A button and its dialog; `href` makes a link of it, `off` says why it is dead.

    Args:
        label: of the button; title, does, stays: of the dialog; go: of its second button.
        path, body: what is sent, beside the reason.
        kind: `main`, `danger`, or empty.
    """

    label: str
    href: str = ""
    title: str = ""
    does: str = ""
    stays: str = ""
    go: str = ""
    path: str = ""
    body: dict[str, Any] = {}
    kind: str = ""
    off: str = ""


class Subject(msgspec.Struct, frozen=True):
    """What an act is about; `version` is another one than the champion, `job` a run that waits."""

    model: str
    champion: int | None = None
    previous: int | None = None
    version: int | None = None
    job: str = ""


LABEL = Act("Label rows", href="#label")
LOOP = Act("Watch the loop", href="#loop")
DRIFT = Act("What moved", href="#drift")
ON_ERRORS = Act("What to do", href="/runbooks/HoldfastErrorRatio")
ON_PROBES = Act("What to do", href="/runbooks/HoldfastQueryAttack")


def _act(
    of: Subject,
    label: str,
    title: str,
    texts: tuple[str, str],
    go: str,
    path: str,
    *,
    kind: str = "",
    off: str = "",
    seen: bool = True,
    **body: Any,
) -> Act:
    if "kind_" in body:
        body["kind"] = body.pop("kind_")  # the run's, not the button's
    if seen and of.champion is not None:
        body["expected"] = of.champion
    return Act(label, "", title, *texts, go, path, body, kind, off)


def approve(of: Subject) -> Act:
    """Promote a challenger that waits."""
    return _act(
        of, "Approve …", f"Promote version {of.version} of {of.model}?",
        ("After its time in the shadow it answers all requests. If it turns out worse within its "
         "probation, it falls back by itself.",
         "No request is dropped, and the version before stays one step away."),
        f"Approve version {of.version} of {of.model}",
        f"/console/jobs/{quote(of.job, safe='')}/approve", kind="main",
    )  # fmt: skip


def reject(of: Subject) -> Act:
    """Refuse a challenger that waits."""
    return _act(
        of, "Reject …", f"Reject version {of.version} of {of.model}?",
        ("The run ends, and the challenger is withdrawn.",
         "The version that answers now goes on; the other stays on disk."),
        f"Reject version {of.version} of {of.model}",
        f"/console/jobs/{quote(of.job, safe='')}/reject", kind="danger",
    )  # fmt: skip


def follow(of: Subject) -> Act:
    """Say that changed labels are meant."""
    return _act(
        of, "They are meant …", f"Follow the changed labels of {of.model}?",
        ("Old rows of these classes are labelled anew, and a challenger is trained on them.",
         "It goes through every gate; nothing is promoted by this alone."),
        f"Follow the labels of {of.model}; version {of.champion} answers",
        f"/console/jobs/{quote(of.job, safe='')}/approve", kind="main",
    )  # fmt: skip


def refuse_labels(of: Subject) -> Act:
    """Say that changed labels are wrong."""
    return _act(
        of, "They are wrong …", f"Reject the changed labels of {of.model}?",
        ("The run ends, and nothing is trained on these labels.",
         f"Version {of.champion} goes on. Look at who labels: a coordinated flip looks the same."
         ),
        f"Reject the labels of {of.model}; version {of.champion} answers",
        f"/console/jobs/{quote(of.job, safe='')}/reject", kind="danger",
    )  # fmt: skip


def hold(of: Subject) -> Act:
    """Let the loop leave a model alone."""
    off = "" if of.champion is not None else "There is no champion."
    return _act(
        of, "Hold the loop …", f"Hold the loop of {of.model}?",
        (f"For {HOLD_HOURS:g} hours the loop starts nothing and promotes nothing by itself.",
         "Watching goes on, and what is on probation still falls back if it is worse."),
        f"Hold {of.model}; version {of.champion} stays",
        f"{_model(of)}/hold", off=off, hours=HOLD_HOURS,
    )  # fmt: skip


def release(of: Subject) -> Act:
    """End all holds of a model."""
    return _act(
        of, "Release …", f"Release the loop of {of.model}?",
        ("The loop acts by itself again.", "Nothing is promoted by this alone."),
        f"Release {of.model}; version {of.champion} answers", f"{_model(of)}/release",
    )  # fmt: skip


def accept(of: Subject) -> Act:
    """Take the traffic since the alarm for normal."""
    return _act(
        of, "This is normal now …", f"Is what {of.model} gets since the alarm normal?",
        ("From the next look on, traffic is compared with what came since the drift began. The "
         "alarm ends.",
         "The model is not trained, and its accuracy is still held against its promise. You can "
         "take it back."),
        f"Accept it for version {of.champion} of {of.model}", f"{_model(of)}/accept-drift",
    )  # fmt: skip


def unaccept(of: Subject) -> Act:
    """Compare with the training data again."""
    return _act(
        of, "Take that back …", f"Compare {of.model} with its training data again?",
        ("What was accepted as normal no longer is.", "No model is changed."),
        f"Take it back for version {of.champion} of {of.model}", f"{_model(of)}/accept-drift",
        undo=True,
    )  # fmt: skip


def rollback(of: Subject) -> Act:
    """Bring the previous champion back."""
    off = "" if of.previous is not None else "There is no version before."
    return _act(
        of, "Roll back …", f"Put version {of.previous} of {of.model} back?",
        ("It answers again within a second. From then on the loop only reports, until it is "
         "released.", "No request is dropped; the version that goes stays on disk."),
        f"Roll {of.model} back from version {of.champion} to {of.previous}",
        f"{_model(of)}/rollback", kind="danger", off=off,
    )  # fmt: skip


def promote(of: Subject) -> Act:
    """Make any version the champion."""
    return _act(
        of, "Make it champion …", f"Make version {of.version} of {of.model} the champion?",
        ("It answers all requests within a second, whatever its gates said.",
         "No request is dropped; the version before stays one step away."),
        f"Promote version {of.version} of {of.model}", f"{_model(of)}/promote", version=of.version,
    )  # fmt: skip


def evaluate(of: Subject, off: str = "") -> Act:
    """Start an evaluation."""
    return _act(
        of, "Evaluate now …", f"Evaluate version {of.champion} of {of.model} now?",
        ("A run looks at the labels since the alarm. If it fails, a challenger is trained.",
         "Nothing is promoted without its gates."),
        f"Evaluate version {of.champion} of {of.model}", "/console/jobs",
        off=off or ("" if of.champion is not None else "There is no champion."),
        seen=False, model=of.model, kind_="evaluate",
    )  # fmt: skip


def _model(of: Subject) -> str:
    return f"/console/models/{quote(of.model, safe='')}"
