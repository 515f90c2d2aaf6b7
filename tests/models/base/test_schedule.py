"""Laws of the schedule: every time once, in every zone, across clock changes and downtime."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from models.base.schedule import DueTimes, ScheduleError, Timetable, read_zone

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
# Half an hour; a day that begins at 01:00; a whole day that never was.
ODD_ZONES = ("Australia/Lord_Howe", "America/Santiago", "Pacific/Apia")
DAY = 86_400
Matches = Callable[[datetime], bool]
LINES: dict[str, Matches] = {
    "0 3 * * *": lambda at: (at.hour, at.minute) == (3, 0),
    "30 2 * * *": lambda at: (at.hour, at.minute) == (2, 30),
    "0 0 * * *": lambda at: (at.hour, at.minute) == (0, 0),
    "15,45 1-3 * * *": lambda at: at.hour in (1, 2, 3) and at.minute in (15, 45),
    "0 */2 * * *": lambda at: at.hour % 2 == 0 and at.minute == 0,
    "0 3 * * 1": lambda at: at.weekday() == 0 and (at.hour, at.minute) == (3, 0),
    "0 3 * * sun": lambda at: at.weekday() == 6 and (at.hour, at.minute) == (3, 0),
    "30 2 29 * 7": lambda at: (
        (at.day == 29 or at.weekday() == 6) and (at.hour, at.minute) == (2, 30)
    ),
    "*/15 * * * *": lambda at: at.minute % 15 == 0,
    "5 * * * *": lambda at: at.minute == 5,
    "*/20 * * mar,oct sun": lambda at: (
        at.month in (3, 10) and at.weekday() == 6 and at.minute % 20 == 0
    ),
}
EVERY_HOUR = ("*/15 * * * *", "5 * * * *", "*/20 * * mar,oct sun")


@pytest.fixture(params=ZONES)
def system_zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """The process in one zone after another."""
    yield from _in_zone(request.param)


def _in_zone(name: str) -> Iterator[str]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield name
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def at(text: str, zone: str) -> float:
    """Seconds since 1970 of a time on the clock of a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def between(timetable: Timetable, start: float, end: float) -> list[float]:
    """When it is due after `start` and until `end`."""
    found, now = [], start
    while (now := timetable.following(now)) <= end:
        found.append(now)
    return found


def changes(zone: str) -> list[float]:
    """Noons of the days of a year (and of one odd week) on which the offset changes."""
    info, found = ZoneInfo(zone), []
    for first, days in ((datetime(2011, 12, 28, 12), 5), (datetime(2026, 1, 1, 12), 365)):
        for day in range(days):
            noon = first.replace(tzinfo=UTC) + timedelta(days=day)
            offsets = {(noon + timedelta(days=k)).astimezone(info).utcoffset() for k in (0, 1)}
            found += [noon.timestamp()] * (len(offsets) > 1)
    return found


def by_force(
    matches: Matches, every_hour: bool, zone: str, start: float, end: float
) -> list[float]:
    """The law, minute by minute: a time is due when the clock first shows it or a later one."""
    info = ZoneInfo(zone)
    shown = datetime.fromtimestamp(start, info).replace(tzinfo=None)
    due = []
    for instant in range(int(start) + 60, int(end) + 60, 60):
        wall = datetime.fromtimestamp(instant, info).replace(tzinfo=None)
        if every_hour:
            due += [float(instant)] * matches(wall)
            continue
        passed = []
        while shown < wall:
            shown += timedelta(minutes=1)
            passed.append(matches(shown))
        due += [float(instant)] * any(passed)
    return due


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("zone", [*ZONES, *ODD_ZONES])
def test_it_is_due_as_the_law_says_around_every_clock_change(zone: str, line: str) -> None:
    noons = [at("2026-06-01T00:00", "UTC"), *changes(zone)]
    assert len(noons) == {"UTC": 1, "Asia/Kolkata": 1, "Pacific/Apia": 2}.get(zone, 3)
    for noon in noons:
        start, end = noon - DAY, noon + 2 * DAY
        wanted = by_force(LINES[line], line in EVERY_HOUR, zone, start, end)
        assert between(Timetable(line, zone), start, end) == wanted


@pytest.mark.parametrize("line", LINES)
def test_the_systems_zone_counts_where_none_is_stated(system_zone: str, line: str) -> None:
    for noon in [at("2026-06-01T00:00", "UTC"), *changes(system_zone)]:
        start, end = noon - DAY, noon + 2 * DAY
        stated = between(Timetable(line, system_zone), start, end)
        assert between(Timetable(line), start, end) == stated


def test_a_stated_zone_counts_whatever_the_systems(system_zone: str) -> None:
    timetable = Timetable("0 3 * * *", "Asia/Kolkata")
    due = timetable.following(at("2026-06-01T12:00", "UTC"))
    assert due == at("2026-06-02T03:00", "Asia/Kolkata")
    assert timetable.render_time(due) == "2026-06-02 03:00:00+05:30"
    assert timetable.describe_zone() == "Asia/Kolkata"
    assert system_zone in Timetable("0 3 * * *").describe_zone()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("line", ["0 3 * * *", "30 2 * * *", "15 1 * * *"])
def test_once_a_day_is_once_a_day_for_a_whole_year(zone: str, line: str) -> None:
    due = between(Timetable(line, zone), at("2026-01-01T00:00", zone), at("2027-01-01T00:00", zone))
    days = {datetime.fromtimestamp(each, ZoneInfo(zone)).date() for each in due}
    assert len(due) == len(days) == 365


def test_a_line_of_every_hour_has_no_pause_and_no_double() -> None:
    start = at("2026-10-24T00:00", "Europe/Berlin")
    due = between(Timetable("*/15 * * * *", "Europe/Berlin"), start, start + 3 * DAY)
    assert {b - a for a, b in pairwise(due)} == {900.0}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("every day", "five fields .* has 2"),
        ("@daily", "five fields .* has 1"),
        ("0 3 * * * *", "five fields .* has 6"),
        ("", "five fields .* has 0"),
        ("0 3 * * mo", "sun, mon, .* got 'mo'"),
        ("0 3 * foo *", "jan, feb, .* got 'foo'"),
        ("60 3 * * *", "0 to 59.* minute, got '60'"),
        ("0 24 * * *", "0 to 23.* hour, got '24'"),
        ("0 3 0 * *", "1 to 31.* got '0'"),
        ("0 3 * * 8", "0 to 7 .* got '8'"),
        ("*/0 3 * * *", "got '\\*/0'"),
        ("1,,2 3 * * *", "got ''"),
        ("R 3 * * *", "got 'r'"),  # croniter draws a number
        ("0-0 3 * * *", "from less to more"),  # croniter takes it for every minute
        ("50-10 3 * * *", "from less to more"),
        ('"0 3 * * *"', "minute, got"),
        ("0 3 L * *", "got 'l'"),
        ("٣ 3 * * *", "minute, got"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
    ],
)
def test_a_line_that_is_none_is_refused_in_a_sentence(line: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        Timetable(line, "UTC")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("europe/berlin", "did you mean Europe/Berlin"),
        ("UTC+2", "a zone of the tz database"),
        ("Mars/Olympus", "a zone of the tz database"),
        ("../../etc/passwd", "a zone of the tz database"),
        ("Europe", "a zone of the tz database"),
        ("\0", "a zone of the tz database"),
    ],
)
def test_a_zone_that_is_none_is_refused(name: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        read_zone(name)


@pytest.mark.parametrize("name", ["Europe/Berln", ":Europe/Berln"])
def test_a_system_zone_that_libc_would_take_for_utc_is_refused(name: str) -> None:
    for _ in _in_zone(name):
        with pytest.raises(ScheduleError, match="in the variable TZ"):
            Timetable("0 3 * * *")


def test_a_system_zone_in_the_form_of_posix_is_libcs() -> None:
    for _ in _in_zone("CET-1CEST,M3.5.0,M10.5.0/3"):
        due = Timetable("30 2 * * *").following(at("2026-03-29T01:00", "Europe/Berlin"))
        assert due == at("2026-03-29T03:00", "Europe/Berlin")


def ticks(times: DueTimes, start: float, end: float, seconds: int = 60) -> list[float]:
    """When a watcher that looks every minute finds it due, and answers."""
    fired = []
    for now in range(int(start), int(end), seconds):
        if times.due("digits", now):
            fired.append(float(now))
            times.done("digits", now)
    return fired


def test_three_starts_in_three_days_in_every_zone(system_zone: str, tmp_path: Path) -> None:
    times = DueTimes(Timetable("0 3 * * *"), tmp_path / "due.json")
    start = at("2026-06-01T12:00:20", system_zone)
    fired = ticks(times, start, start + 3 * DAY)
    days = ("2026-06-02", "2026-06-03", "2026-06-04")
    assert fired == [at(f"{day}T03:00:20", system_zone) for day in days]


def test_after_downtime_one_start_makes_up_for_all(system_zone: str, tmp_path: Path) -> None:
    path = tmp_path / "due.json"
    start = at("2026-06-01T12:00", system_zone)
    before = DueTimes(Timetable("0 3 * * *"), path)
    assert ticks(before, start, start + DAY) == [at("2026-06-02T03:00", system_zone)]
    back = at("2026-06-07T09:30", system_zone)  # five of them have passed
    fired = ticks(DueTimes(Timetable("0 3 * * *"), path), back, back + DAY)
    assert fired == [back, at("2026-06-08T03:00", system_zone)]


def test_what_was_due_when_the_watcher_died_is_due_when_it_is_back(tmp_path: Path) -> None:
    path, timetable = tmp_path / "due.json", Timetable("0 3 * * *", "UTC")
    now = at("2026-06-01T12:00", "UTC")
    assert not DueTimes(timetable, path).due("digits", now)
    at_three = at("2026-06-02T03:00", "UTC")
    assert DueTimes(timetable, path).due("digits", at_three)  # and died before it was answered
    assert DueTimes(timetable, path).due("digits", at_three + 1)


def test_every_model_has_its_own_time_and_a_new_one_waits_for_its_first(tmp_path: Path) -> None:
    times = DueTimes(Timetable("0 3 * * *", "UTC"), tmp_path / "due.json")
    noon = at("2026-06-01T12:00", "UTC")
    assert not times.due("a", noon)
    assert not times.due("b", noon + DAY)
    assert times.due("a", noon + DAY)
    times.done("a", noon + DAY)
    assert not times.due("a", noon + DAY)
    assert not times.due("b", noon + DAY)


def test_a_new_line_or_zone_forgets_the_times_of_the_old(tmp_path: Path) -> None:
    path, noon = tmp_path / "due.json", at("2026-06-01T12:00", "UTC")
    assert not DueTimes(Timetable("0 3 * * *", "UTC"), path).due("a", noon)
    assert not DueTimes(Timetable("0 4 * * *", "UTC"), path).due("a", noon + DAY)
    assert not DueTimes(Timetable("0 4 * * *", "Asia/Kolkata"), path).due("a", noon + 2 * DAY)


def test_a_clock_that_ran_ahead_does_not_silence_it(tmp_path: Path) -> None:
    times = DueTimes(Timetable("0 3 * * *", "UTC"), tmp_path / "due.json")
    noon = at("2026-06-01T12:00", "UTC")
    assert not times.due("a", noon + 3650 * DAY)
    assert not times.due("a", noon)
    assert times.due("a", noon + DAY)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schedule": "x", "due": {"a": "b"}}'])
def test_a_damaged_file_counts_as_absent(tmp_path: Path, text: str) -> None:
    path = tmp_path / "due.json"
    path.write_text(text)
    times = DueTimes(Timetable("0 3 * * *", "UTC"), path)
    noon = at("2026-06-01T12:00", "UTC")
    assert not times.due("a", noon)
    assert DueTimes(Timetable("0 3 * * *", "UTC"), path).due("a", noon + DAY)
