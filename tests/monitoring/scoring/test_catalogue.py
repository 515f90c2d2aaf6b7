"""Channels stand in one list: the method's table has them all, and the battery tries them."""

import re

from monitoring.scoring.channels.catalogue import CATALOGUE
from tests.monitoring.battery import world
from tests.monitoring.evidence.test_battery import MOVES
from tests.test_docs import text_of

# Not fitted, but made of the columns of a table, and of the answer.
OTHERS = ["column:NAME", "column:NAME", "column:NAME", "class"]


def test_every_channel_stands_in_the_table_of_methods_in_its_order() -> None:
    _, _, rest = text_of("docs/methods.md").partition("| channel | of |")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    names = [name for row in rows for name in re.findall(r"`([\w:]+)`", row.split("|")[1])]
    assert sorted(names) == sorted([*CATALOGUE, *OTHERS])


def test_every_channel_is_tried_by_the_battery_and_has_what_moves_it() -> None:
    tried = {case.name for kind in ("image", "table") for case in world(kind).cases}
    assert set(CATALOGUE) <= tried & set(MOVES)
    for kind, name in (("image", "image"), ("table", "tabular")):
        own = {channel.name for channel in CATALOGUE.values() if name in channel.kinds}
        assert {case.name for case in world(kind).cases} & set(CATALOGUE) <= own
