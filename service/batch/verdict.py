"""Whether a batch as a whole drifts: the watcher's evidence over the sums of the same counters.

Counters add up in any order, and so the order of the rows plays no part: the sums are weighed as
one interval, which the evidence deals at random (`StreamEvidence.update`) with a fixed seed. A file
that is sorted does not look like drift, and parts may be scored in any order, anywhere.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Literal

import msgspec
import numpy as np

from models.versions.bundle import Bundle
from monitoring.counting.cells import RowCounts
from monitoring.counting.likelihood_cells import CHANNEL
from monitoring.evidence.alarm import Bin
from monitoring.evidence.bets import ChannelReference, IntArray
from monitoring.evidence.channels import MOST_PIECE, IncrementError, StreamEvidence
from monitoring.evidence.explanation import histogram
from monitoring.evidence.perturbation.attacked import BLOCK
from monitoring.evidence.perturbation.watch import open_watch
from monitoring.evidence.stream import references

FALSE_ALARMS = 1000  # batches in the mean to one that alarms falsely, at least
# The evidence weighs pieces of a 20th of the reference, at most 250 rows. So many are weighed:
# of a batch that is far larger than what it is compared with, rows are drawn at random.
MOST_PIECES, PIECES_OF_REFERENCE = 4000, 20
PIECES_DEALT = 100  # at once: memory stays bounded
MOST_EXACT = 10**9  # rows that NumPy deals without replacement
MOST_BLOCKS = 2000  # of rows that are weighed for attacks: of more, so many drawn at random
SEED, ATTACKS = 0, 1 << 20
Verdict = Literal["drift", "no drift", "not known"]


class DriftVerdict(msgspec.Struct, frozen=True):
    """What the counters of a batch say together.

    Args:
        verdict: `not known` where too few rows have scores to tell.
        why: a sentence.
        rows: that were weighed; of a large batch so many drawn at random, and fewer where drift was
            clear before the end.
        log10_evidence: by channel.
        threshold_log10: at which a channel alarms.
        channel, words: what moved most; empty where nothing did.
        histogram: of that channel, in the reference and in the batch.
        attacked: whether the rows look attacked; None: not known.
    """

    verdict: Verdict
    why: str
    rows: int
    log10_evidence: dict[str, float]
    threshold_log10: float | None = None
    channel: str = ""
    words: str = ""
    histogram: tuple[Bin, ...] = ()
    attacked: bool | None = None


def judge(bundle: Bundle, counts: IntArray, requests_per_alarm: float) -> DriftVerdict:
    """Judge the sums of a batch against the reference of its version.

    P(a false alarm within T rows) <= T / c, so c is at least `FALSE_ALARMS` times the rows.

    Args:
        bundle: of the version.
        counts: of `RowCounts`, over all rows with scores.
        requests_per_alarm: c of the watcher, the least that is taken here.
    """
    parts = RowCounts(bundle.manifest).part(counts)
    likelihoods = parts.pop(CHANNEL, None)
    own = references(bundle)
    rows = int(next(iter(parts.values())).sum())
    if rows == 0:
        return DriftVerdict("not known", "no row has scores", 0, {})
    smallest = min(int(each.alpha.sum()) for each in own)
    piece = max(1, min(MOST_PIECE, smallest // PIECES_OF_REFERENCE))
    rows = min(rows, MOST_PIECES * piece)
    c = max(requests_per_alarm, float(FALSE_ALARMS * rows))
    attacked = _attacked(bundle, likelihoods, c)
    evidence = StreamEvidence(own, c=c, eta="auto")
    try:
        _weigh(evidence, parts, rows, piece * PIECES_DEALT)
    except IncrementError as error:
        why = f"the counts do not fit the version's reference: {error}"
        return DriftVerdict("not known", why, rows, {}, attacked=attacked)
    told = {name: round(value, 3) for name, value in evidence.log10_evidence().items()}
    bar = round(evidence.threshold_log10, 3)
    promise = f"at most one in {FALSE_ALARMS:,} such batches without drift would say drift"
    alarm = evidence.alarm
    if alarm is None:
        if not _can_tell(own, rows, c):
            why = f"{rows} rows are too few to show drift, whatever they are"
            return DriftVerdict("not known", why, rows, told, bar, attacked=attacked)
        why = f"the evidence stays below its threshold; {promise}"
        return DriftVerdict("no drift", why, rows, told, bar, attacked=attacked)
    info = next(c for c in bundle.manifest.channels if c.name == alarm.channel)
    reference = next(r for r in own if r.name == alarm.channel).alpha
    edges = bundle.reference.get(f"{alarm.channel}/edges")
    if info.groups or (edges is not None and len(edges) + 1 != len(info.labels)):
        edges = None
    after = parts[alarm.channel]
    bins = histogram(info, edges, reference / reference.sum(), after / after.sum())
    return DriftVerdict(
        "drift", f"{alarm.words}; {promise}", alarm.requests, told, bar, alarm.channel,
        alarm.words, bins, attacked,
    )  # fmt: skip


def _weigh(evidence: StreamEvidence, parts: dict[str, IntArray], rows: int, size: int) -> None:
    """Weigh `rows` of the sums, drawn at random, `size` at a time, until they alarm."""
    dealt = [_deal(counts, size, number) for number, counts in enumerate(parts.values())]
    for step in zip(*dealt, strict=True):
        evidence.update(dict(zip(parts, step, strict=True)))
        if evidence.alarm is not None or evidence.requests >= rows:
            return


def _deal(counts: IntArray, size: int, number: int) -> Iterator[IntArray]:
    """Deal counts `(G,)` at random into pieces of `size` rows, the last of which is smaller."""
    rng, left = np.random.default_rng([SEED, number]), counts.copy()
    total = int(left.sum())
    while total > size:
        if total < MOST_EXACT:
            piece = rng.multivariate_hypergeometric(left, size, method="marginals")
        else:  # so many that drawing with replacement is the same to six digits
            piece = np.minimum(rng.multinomial(size, left / total), left)
        piece = np.asarray(piece, dtype=np.int64)
        yield piece
        left = left - piece
        total = int(left.sum())
    yield left


def _can_tell(own: list[ChannelReference], rows: int, c: float) -> bool:
    """Whether so many rows could alarm at all: those that all lie in the rarest cell of a channel.

    The copy weighs one channel after the other, at the threshold of all together.
    """
    for each in own:
        rarest = int(np.where(each.alpha > 0, each.alpha, np.inf).argmin())
        one = StreamEvidence([each], c=c * len(own), eta=1.0)
        step = np.zeros(len(each.alpha), dtype=np.int64)
        step[rarest] = 1
        for _ in range(min(rows, 1000)):
            one.update({each.name: step})
            if one.alarm is not None:
                return True
    return False


def _attacked(bundle: Bundle, counts: IntArray | None, c: float) -> bool | None:
    """Whether the stream of attacks alarms; None where the version has no such cells."""
    watch = open_watch(bundle, c=c)
    if watch is None or counts is None or not counts.any():
        return None
    if counts.sum() < BLOCK:
        return None  # it weighs nothing before
    pieces = islice(_deal(counts, BLOCK, ATTACKS), MOST_BLOCKS)
    raised = [watch.update(piece, 0.0) for piece in pieces]  # all: it learns from each
    return any(raised)
