"""The sentences of the page: what matters most is said first, and unknown is never good."""

import msgspec
import pytest

from monitoring.evidence.labels.biases import BEYOND_REPAIR
from service.console.telling.answers import Answer, tell_answers
from service.console.telling.asks import tell_asks, tell_happened
from service.console.telling.drift import tell_drift
from service.console.telling.headline import tell_headline
from service.console.telling.loop import tell_loop, tell_stages, title_of
from service.console.watched import (
    Accuracy,
    Alarm,
    Aliases,
    Change,
    Check,
    Demo,
    Estimated,
    Explained,
    FullJob,
    Harm,
    HarmAlarm,
    Hold,
    Job,
    Look,
    Mended,
    Observed,
    Progress,
    Rates,
    Row,
    ServiceState,
    Share,
    Trouble,
    View,
    Wait,
    Watcher,
)

NOW = 1_800_000_000.0
ROW = Row(
    "digits", 2, 4897, {"energy": 3.4, "class": 1.0}, 6.85, promise="at most one false alarm",
    expected_accuracy=0.9, aliases=Aliases(2, None, 1),
    accuracy=Accuracy(Observed(Share(0.94, 0.91, 0.96, 500))), harm=Harm(labels=500, floor=0.88),
    services=(ServiceState("http://s"),),
)  # fmt: skip
RATES = Rates(38.0, 0.0019, 0.0046, 9000.0, 0.0, rows=2000.0, perturbed=18.0, since=NOW - 9000)
CALM = View(now=NOW, served=2, model="digits", row=ROW, rates=RATES)
EARLY, FEW = Share(0.5, 0.2, 0.8, 10), Share(0.7, 0.66, 0.74, 500)
AS_PROMISED = Share(0.9, 0.87, 0.93, 500)
ALARM = Alarm("energy", "higher", "energy: higher than the reference", 19.5, 1262)
WAITING = Job("j", "evaluate", "digits", 2, 3, "drift", "energy", state="waiting", stage="approval",
              passed=11, waits_until=NOW + 7200)  # fmt: skip


FAILING = msgspec.structs.replace(CALM, rates=Rates(answered_hour=9e3, failed_hour=90.0))
PROBED = msgspec.structs.replace(CALM, rates=msgspec.structs.replace(RATES, probing=41.0))


def with_row(**changes: object) -> View:
    return msgspec.structs.replace(CALM, row=msgspec.structs.replace(ROW, **changes))


def with_view(**changes: object) -> View:
    return msgspec.structs.replace(CALM, **changes)


def answer(view: View, question: str) -> Answer:
    (found,) = (each for each in tell_answers(view) if question in each.question)
    return found


@pytest.mark.parametrize(
    ("view", "title"),
    [
        (CALM, "Nothing has moved in the last 4,897 requests."),
        (with_view(served=None, row=None, any_version=False), "There is no model yet."),
        (with_view(served=None, row=None), "No model answers."),
        (
            with_view(served=None, any_version=False, loading=Progress("digits", "training")),
            "The demo model is being trained.",
        ),
        (
            msgspec.structs.replace(
                with_row(aliases=Aliases(3, None, 2)), refused="sha256 does not match"
            ),
            "Version 3 cannot be loaded; 2 answers.",
        ),
        (with_view(watcher="away", away="refused"), "Predictions go on; nobody watches."),
        (
            msgspec.structs.replace(
                with_row(services=(ServiceState("http://s", "refused", NOW - 90),)), watcher="blind"
            ),
            "The watcher sees no counters.",
        ),
        (with_view(jobs=(WAITING,)), "Version 3 passed every gate and waits for your word."),
        (
            with_row(harm=Harm(labels=90, alarm=HarmAlarm(), words="90 labels")),
            "It is right less often than promised.",
        ),
        (with_row(alarm=ALARM, alarm_since=NOW - 240), "The world moved 4 minutes ago."),
        (
            with_row(alarm=ALARM, alarm_since=NOW - 240, harmless="as right as before"),
            "The world moved 4 minutes ago, and answers are as good as before.",
        ),
        (with_row(problems=(Trouble("records"),)), "Something is broken; the rest goes on."),
        (FAILING, "It answers with errors."),
        (msgspec.structs.replace(FAILING, jobs=(WAITING,)), "Version 3 passed every gate and waits "
         "for your word."),
        (PROBED, "A client probes the model."),
        (with_row(requests=37), "Too early to say."),
    ],
)  # fmt: skip
def test_the_first_thing_that_matters_is_the_headline(view: View, title: str) -> None:
    assert tell_headline(view).title == title


def test_a_gate_that_is_unknown_is_never_a_pass_in_the_headline() -> None:
    open_ = msgspec.structs.replace(WAITING, passed=10, unknown=1)
    title = tell_headline(with_view(jobs=(open_,))).title
    assert "1 of its gates" in title
    assert "every" not in title
    checks = (Check("a", "pass"), Check("b", "unknown"))
    job = FullJob("j", challenger=3, state="waiting", checks=checks)
    assert title_of(job) == "Version 3 passed 1 of 2 gates and waits for your word."


def test_the_promise_stands_with_its_condition_beside_calm_and_alarm() -> None:
    for view in (CALM, with_row(alarm=ALARM)):
        note = tell_headline(view).note
        assert "At most one false alarm." in note
        assert "the alarm is at 10^6.85" in note


def test_calm_answers_say_so_with_their_figures() -> None:
    words = [each.word for each in tell_answers(CALM)]
    assert words == ["Yes", "No", "No", "Better"]
    assert "99 of 100 within 4.6 ms" in answer(CALM, "serving").text
    assert "94% (91.0 to 96.0) on 500 labels; 90% promised" in answer(CALM, "right").text


@pytest.mark.parametrize(
    ("question", "view", "word"),
    [
        ("serving", with_view(served=None), "No"),
        ("serving", with_view(ready=False), "No"),
        ("serving", with_view(rates=None), "It answers"),
        ("serving", with_view(rates=Rates(answered_hour=9e3, failed_hour=90.0)), "With errors"),
        ("serving", with_view(rates=msgspec.structs.replace(RATES, p99=0.4)), "Slowly"),
        ("moved", with_view(row=None), "Unknown"),
        ("moved", with_view(watcher="blind"), "Unknown"),
        ("moved", with_row(requests=20), "Too early to say"),
        ("moved", with_row(alarm=ALARM), "Yes"),
        ("moved", with_row(alarm=ALARM, harmless="fine"), "Yes, harmlessly"),
        ("tampering", with_view(rates=None), "Unknown"),
        ("tampering", with_view(watcher="away"), "Unknown"),
        ("tampering", with_view(rates=Rates(rows=20.0)), "Too early to say"),
        ("tampering", with_view(rates=Rates(rows=2000.0, perturbed=60.0)), "More than usual"),
        ("tampering", with_view(rates=Rates(rows=2000.0, probing=9.0)), "A client probes"),
        ("right", with_view(row=None), "Unknown"),
        ("right", with_row(accuracy=None), "Nobody has told it"),
        ("right", with_row(accuracy=Accuracy(Observed(EARLY))), "Too early to say"),
        ("right", with_row(accuracy=Accuracy(Observed(FEW))), "Less often"),
        ("right", with_row(accuracy=Accuracy(Observed(AS_PROMISED))), "As promised"),
        (
            "right",
            with_row(accuracy=Accuracy(Observed(Share(0.89, 0.86, 0.92, 500), bias="thumbs up"))),
            "Unknown",
        ),
    ],
)  # fmt: skip
def test_words_follow_intervals(question: str, view: View, word: str) -> None:
    assert answer(view, question).word == word


def test_nothing_that_is_not_known_is_told_in_the_colour_of_good_news() -> None:
    unknown = (
        with_view(row=None), with_view(rates=None), with_view(watcher="away"),
        with_view(watcher="blind"), with_row(requests=3), with_row(accuracy=None),
        with_view(rates=Rates()),
    )  # fmt: skip
    for view in unknown:
        for each in tell_answers(view):
            if each.word in ("Unknown", "Too early to say", "It answers", "Nobody has told it"):
                assert each.tone == "unknown", each


@pytest.mark.parametrize("watcher", ["away", "blind"])
@pytest.mark.parametrize(
    "row",
    [
        ROW,
        msgspec.structs.replace(ROW, alarm=ALARM),
        msgspec.structs.replace(ROW, accuracy=Accuracy(Observed(FEW))),
        msgspec.structs.replace(ROW, requests=0, accuracy=None),
    ],
)
def test_while_nobody_looks_what_was_is_told_as_of_then_and_what_is_as_unknown(
    watcher: Watcher, row: Row
) -> None:
    seen = NOW - 3 * 86_400
    if watcher == "blind":
        row = msgspec.structs.replace(row, services=(ServiceState("s", "refused", seen),))
    view = with_view(row=row, watcher=watcher, seen_at=seen, away="refused")
    before = msgspec.structs.replace(view, watcher="here")
    for question in ("moved", "right"):
        told = answer(view, question)
        assert (told.word, told.tone, told.scale) == ("Unknown", "unknown", None)
        assert f"as of @{{{seen:.0f}}}: {answer(before, question).word}" in told.text
    top = tell_drift(view).top
    assert (top.title, top.tone) == ("Whether it drifts now is not known.", "unknown")
    assert f"@{{{seen:.0f}}}" in top.lead
    assert b'"tone":"good"' not in msgspec.json.encode(tell_drift(view))


def test_without_evidence_nothing_is_said_to_have_stood_still() -> None:
    for changes in ({"evidence_log10": None}, {"evidence_log10": {}}, {"threshold_log10": None}):
        view = with_row(**changes)
        assert tell_headline(view).tone == "unknown"
        assert answer(view, "moved").word == "Unknown"
    assert tell_drift(with_row(requests=3)).top.title == "Too early to say."


def test_labels_that_are_no_random_sample_are_corrected_and_said_so() -> None:
    observed = Observed(Share(0.7, 0.66, 0.74, 500), "hard rows", Mended(0.9, 0.86, 0.94, 500))
    told = answer(with_row(accuracy=Accuracy(observed)), "right")
    assert told.word == "As promised"
    assert "hard rows" in told.text
    assert "corrected" in told.text


@pytest.mark.parametrize("reason", BEYOND_REPAIR)
def test_what_no_weighting_corrects_is_never_good_news(reason: str) -> None:
    observed = Observed(Share(0.99, 0.97, 1.0, 500), reason, Mended(0.99, 0.97, 1.0, 500))
    view = with_row(accuracy=Accuracy(observed))
    assert answer(view, "right").word == "Unknown"
    assert "no random sample" in tell_headline(view).lead


def test_an_estimate_is_grey_and_says_when_it_is_not_to_be_trusted() -> None:
    estimated = Estimated(0.92, 0.84, 1.0, why="the inputs are new")
    told = answer(with_row(accuracy=Accuracy(estimated=estimated)), "right")
    assert told.scale is not None
    assert told.scale.grey
    assert "not to be trusted: the inputs are new" in told.text


def test_what_waits_for_a_person_is_asked_with_the_buttons_that_answer_it() -> None:
    hold = Hold("ada", "audit week", until=NOW + 3600)
    view = msgspec.structs.replace(
        with_row(alarm=ALARM, hold=hold, waits=(Wait("cool_down", "it rests for 40 s"),)),
        jobs=(WAITING,), demo=Demo(failed="no scikit-learn"),
    )  # fmt: skip
    asks = {ask.id.split()[0]: ask for ask in tell_asks(view)}
    assert set(asks) == {"approve", "held", "waits", "moved", "demo"}
    assert [act.label for act in asks["approve"].acts] == [
        "Approve …", "Reject …", "Hold the loop …",
    ]  # fmt: skip
    assert "2 hours" in asks["approve"].text
    assert "audit week" in asks["held"].text
    assert "The loop is at it" in asks["moved"].text
    idle = {ask.id: ask for ask in tell_asks(with_row(alarm=ALARM, hold=hold))}
    assert "The loop is held" in idle["moved"].text, "nobody looks at it then"
    assert tell_asks(CALM) == ()


def test_what_is_red_in_an_answer_is_asked_about_too_with_its_runbook() -> None:
    for view, page in ((FAILING, "HoldfastErrorRatio"), (PROBED, "HoldfastQueryAttack")):
        (ask,) = tell_asks(view)
        assert ask.tone == "bad"
        assert [act.href for act in ask.acts] == [f"/runbooks/{page}"]
        assert tell_asks(msgspec.structs.replace(view, watcher="away")) == ()


def test_every_act_names_version_and_model_and_sends_the_champion_that_was_seen() -> None:
    view = msgspec.structs.replace(with_row(alarm=ALARM), jobs=(WAITING,))
    acts = [act for ask in tell_asks(view) for act in ask.acts if not act.href]
    assert len(acts) == 4
    for act in acts:
        assert "digits" in act.go
        assert any(f"{number}" in act.go for number in (2, 3))
        assert act.body["expected"] == 2
        assert act.does
        assert act.stays


def test_a_run_without_labels_asks_for_some() -> None:
    job = Job("j", model="digits", stage="awaiting labels")
    assert [ask.title for ask in tell_asks(with_view(jobs=(job,)))] == ["A run waits for labels."]
    assert [ask.title for ask in tell_asks(with_row(accuracy=None))] == ["Label 20 rows?"]


def test_what_happened_is_told_newest_first_and_by_name() -> None:
    changes = (Change(NOW - 50, "promote", 2, "token ada", "gates passed"),)
    told = tell_happened(with_view(changes=changes, jobs=(WAITING,)))
    assert told[0].text == "token ada made version 2 the champion: gates passed"
    assert told[1].href == "#loop?job=j"


def test_moved_and_harmed_stand_apart_each_with_its_promise() -> None:
    harm = Harm(90, 7.0, 6.0, 0.88, HarmAlarm(), words="70 of 90 right", promise="of labels")
    last = Explained(2, NOW, "energy", "energy higher", 800, NOW - 60, NOW - 9)
    told = msgspec.json.encode(tell_drift(with_row(alarm=ALARM, harm=harm, last_alarm=last)))
    for part in (
        b"The world moved",
        b"At most one false alarm",
        b"Does it do harm?",
        b"Of labels.",
    ):
        assert part in told
    away = tell_drift(with_view(row=None, away="refused"))
    assert away.top.title == "Whether it drifts is not known."
    assert away.top.tone == "unknown"


def test_no_gate_drops_from_the_view_of_a_run() -> None:
    checks = (Check("referee", "pass", 0.1, 0.2), Check("parity"), Check("size", "fail", 4.0, 3.0))
    for stages in ({}, {"gating": NOW}):
        job = FullJob("j", model="digits", challenger=3, checks=checks, stages=stages)
        told = msgspec.json.encode(tell_loop(CALM, job))
        for check in checks:
            assert f"`{check.name}`".encode() in told


def test_stages_have_lengths_and_those_not_reached_say_so() -> None:
    stages = {"collecting": NOW - 100, "evaluating": NOW - 90, "done": NOW - 40}
    job = FullJob("j", state="done", stage="done", stages=stages, ended_at=NOW - 40)
    told = {stage.name: stage for stage in tell_stages(job, NOW)}
    assert (told["Collect"].lasted, told["Evaluate"].lasted) == ("10 s", "50 s")
    assert told["Train"].more == "not reached"


def test_what_the_evaluation_found_is_short_under_its_stage_and_whole_below() -> None:
    words = "live accuracy 69.9% (65.8% to 73.7%, n = 521), expected 96.4%, floor 93.9%"
    stages = {"collecting": NOW - 100, "evaluating": NOW - 90}
    job = FullJob("j", stages=stages, stage="evaluating", evaluation=Look(words))
    (short,) = (each.more for each in tell_stages(job, NOW) if each.name == "Evaluate")
    assert short == "live accuracy 69.9%"
    assert words.encode() in msgspec.json.encode(tell_loop(CALM, job))
