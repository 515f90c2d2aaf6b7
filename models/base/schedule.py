"""When scheduled evaluations are due: a cron line, read in a stated time zone.

croniter finds local times without a zone; here they become instants. A local clock skips an hour
and repeats one each year, and there croniter counts wrong. As in Debian's cron:

    a line that names hours      fires once for each time that it names: a time that the clock skips
                                 right after the gap, a time that comes twice the first time
    a line of every hour         fires whenever the clock shows the minute
"""

import os
import re
import time
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import msgspec
from croniter import CroniterError, croniter

from models.base.errors import HoldfastError
from models.base.files import write_atomic

DAY_SECONDS = 86_400
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
ITEM = re.compile(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/[1-9][0-9]*)?", re.ASCII)
POSIX_ZONE = re.compile(r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]+>)[+-]?\d")  # such as CET-1CEST,M3.5.0,...
EXAMPLE = "such as '0 3 * * *' (every day at 03:00)"


class Field(NamedTuple):
    """One of the five fields: its meaning, its range of numbers, and their names."""

    what: str
    least: int
    most: int
    names: tuple[str, ...] = ()

    def values(self) -> str:
        """Describe the values that the field may have."""
        names = f" or {', '.join(self.names)}" if self.names else ""
        return (
            f"numbers from {self.least} to {self.most}{names}, *, ranges 1-5, lists 1,5 and steps "
            f"*/15 for the {self.what}"
        )


FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of the month", 1, 31),
    Field("month", 1, 12, MONTHS),
    Field("day of the week", 0, 7, DAYS),
)


class ScheduleError(HoldfastError):
    """A cron line or a time zone cannot be used: `expected` says what can be, `got` what came."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


class Timetable:
    """The instants at which a cron line is due.

    >>> berlin = Timetable("30 2 * * *", "Europe/Berlin")
    >>> before = datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()
    >>> berlin.render_time(berlin.following(before))  # 02:30 does not exist on that day
    '2026-03-29 03:00:00+02:00'

    Args:
        line: five fields: minute, hour, day of the month, month, day of the week (0 and 7: Sunday).
        zone: a name of the tz database such as `Europe/Berlin`; empty: the system's zone.

    Raises:
        ScheduleError: the line is not valid or never due, or the zone is unknown.
    """

    def __init__(self, line: str, zone: str = "") -> None:
        self.line = " ".join(_check_line(line))
        self.zone = zone.strip()
        self._zone = read_zone(zone)
        try:
            self._every_hour = croniter.expand(self.line)[0][1] == ["*"]
            next(self._walls(datetime(2000, 1, 1)))
        except CroniterError:
            raise ScheduleError("a day that exists", f"{line!r}, which never comes") from None

    def following(self, after: float) -> float:
        """Return the first due instant after `after`; both in seconds since 1970."""
        # Where the clock goes back soon, times that it shows already will come once more.
        ahead = self._offset(after) - self._offset(after + DAY_SECONDS)
        start = self._wall(after) - max(ahead, timedelta())
        best = float("inf")
        for wall in self._walls(start):
            instants = self._instants(wall)
            best = min([best, *(at for at in instants if at > after)])
            if instants and instants[0] > after:
                break
        return best

    def render_time(self, at: float) -> str:
        """Render an instant (seconds since 1970) as local time with its offset from UTC."""
        return str(datetime.fromtimestamp(at, UTC).astimezone(self._zone))

    def describe_zone(self) -> str:
        """Name the time zone for people."""
        return self.zone or f"the system's zone ({os.environ.get('TZ') or '/'.join(time.tzname)})"

    def _walls(self, after: datetime) -> Iterator[datetime]:
        times: Iterator[datetime] = croniter(self.line, after, ret_type=datetime)
        return times

    def _instants(self, wall: datetime) -> tuple[float, ...]:
        """Return the instants at which a local time fires: none, one or two."""
        first, second = (wall.replace(tzinfo=self._zone, fold=k).timestamp() for k in (0, 1))
        if first > second:  # the clock skips it
            return () if self._every_hour else (float(self._change(int(second), int(first))),)
        return (first, second) if self._every_hour and second > first else (first,)

    def _change(self, before: int, after: int) -> int:
        """Return the first second with the new offset, between two instants."""
        old = self._offset(before)
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (middle, after) if self._offset(middle) == old else (before, middle)
        return after

    def _offset(self, at: float) -> timedelta:
        offset = datetime.fromtimestamp(at, UTC).astimezone(self._zone).utcoffset()
        assert offset is not None
        return offset

    def _wall(self, at: float) -> datetime:
        return datetime.fromtimestamp(at, UTC).astimezone(self._zone).replace(tzinfo=None)


class DueTimes:
    """When each model is due next, stored in a file: what was due during a stop fires once.

    Args:
        timetable: of all models.
        path: of the file; a damaged one, or one of another timetable, counts as absent. If it
            cannot be written, `fault` says why.
    """

    def __init__(self, timetable: Timetable, path: Path) -> None:
        self.timetable = timetable
        self._path = path
        self._key = f"{timetable.line} {timetable.describe_zone()}"
        self.fault = ""  # of the file, in words; empty once it is written
        self._due = self._read()

    def due(self, model: str, now: float) -> bool:
        """Whether the model is due; the first call for a model only notes its next time."""
        if self.fault:
            self._write()
        at = self._due.get(model)
        following = self.timetable.following(now)
        # One that is later than the next was noted by a clock that ran ahead.
        if at is None or at > following:
            self._note(model, following)
            return False
        return at <= now

    def next_at(self, model: str) -> float:
        """When the model is due next, seconds since 1970; 0: that was not noted yet."""
        return self._due.get(model, 0.0)

    def done(self, model: str, now: float) -> None:
        """Note the next time of a model, after its present one led to a run or a refusal."""
        self._note(model, self.timetable.following(now))

    def _note(self, model: str, at: float) -> None:
        self._due[model] = at
        self._write()

    def _write(self) -> None:
        """Write the file; if that fails, the times stay in memory and the next look tries again."""
        text = msgspec.json.encode({"schedule": self._key, "due": self._due})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, text)
            self.fault = ""
        except OSError as error:
            self.fault = f"{self._path.name} cannot be written: {error.strerror or error}"

    def _read(self) -> dict[str, float]:
        try:
            state = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return {}
        return dict(state.due) if state.schedule == self._key else {}


class _File(msgspec.Struct, frozen=True):
    schedule: str
    due: dict[str, float]


def read_zone(name: str) -> tzinfo | None:
    """Return the zone with this name of the tz database; None: the system's, as libc reads it.

    >>> read_zone("Asia/Kolkata")
    zoneinfo.ZoneInfo(key='Asia/Kolkata')

    Raises:
        ScheduleError: there is no such zone, or the variable TZ names an unknown one.
    """
    if name.strip():
        return _find_zone(name.strip())
    # libc takes a name that it does not know for UTC, and says nothing.
    system = os.environ.get("TZ", "").removeprefix(":")
    if not system or POSIX_ZONE.match(system) or Path(system).is_absolute():
        return None
    return _find_zone(system, " in the variable TZ, or a zone of its own for the schedule")


def _find_zone(name: str, where: str = "") -> tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        zones = zoneinfo.available_timezones()
    expected = f"a zone of the tz database such as Europe/Berlin{where}"
    if not zones:
        expected += " (there is no tz database here: pip install tzdata)"
    by_lower = {each.lower(): each for each in zones}
    near = get_close_matches(name.lower(), list(by_lower), n=1)
    hint = f"; did you mean {by_lower[near[0]]}?" if near else ""
    raise ScheduleError(expected, repr(name)[:60] + hint)


def _check_line(line: str) -> list[str]:
    """Split a line of standard cron; croniter accepts much more, and reads some of it wrong.

    Raises:
        ScheduleError: a field is not valid.
    """
    texts = line.lower().split()
    if len(texts) != len(FIELDS):
        expected = f"the five fields {', '.join(field.what for field in FIELDS)}, {EXAMPLE}"
        raise ScheduleError(expected, f"{repr(line)[:60]}, which has {len(texts)}")
    for field, text in zip(FIELDS, texts, strict=True):
        for item in text.split(","):
            _check_item(field, item)
    return texts


def _check_item(field: Field, item: str) -> None:
    match = ITEM.fullmatch(item)
    if match is None:
        raise ScheduleError(field.values(), repr(item)[:60])
    ends = [end for end in match.groups() if end is not None]
    numbers = [int(end) for end in ends if end.isdigit()]
    valid = [end for end in ends if end.isdigit() or end in field.names]
    if valid != ends or not all(field.least <= n <= field.most for n in numbers):
        raise ScheduleError(field.values(), repr(item)[:60])
    if len(numbers) > 1 and numbers[0] >= numbers[1]:
        raise ScheduleError(f"a range from less to more for the {field.what}", repr(item))
