"""`python -m benchmarks.harm`: evidence from labels. False alarms, delays, and biased labels.

1. Harm: false alarms over 1000 streams of 100,000 labels whose accuracy never lies below the floor,
   beside a Wilson window of 500 labels that is looked at after every label.
2. Harm: labels until a fall is seen.
3. Which requests get labels: random samples called biased, and labels until a choice is seen.
4. Only thumbs up: honest labels called so, and labels until it is seen.
5. Observed accuracy with and without post-stratification, and how often the interval covers.

All streams are simulated, many at a time, with the functions of the product.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from models.statistics.arrays import Bools
from monitoring.evidence.labels import harm, labelling, thumbs_up
from monitoring.evidence.labels.poststratified import poststratify

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
C = 1e6
WINDOW, LEAST = 500, 100  # labels of the Wilson window
CLASSES = 10
RATE = 0.2  # share of the requests that get a label
NEVER = 10**9
SEED = 20261130


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--labels", type=int, default=100_000)
    asked = parser.parse_args()
    rng, streams, labels = np.random.default_rng(SEED), asked.streams, asked.labels
    for part in (
        lambda: harm_false_alarms(rng, streams, labels),
        lambda: harm_delays(rng, 2 * streams),
        lambda: labelling_tables(rng, 2 * streams, labels // 2),
        lambda: thumbs_up_tables(rng, streams, labels // 2),
        lambda: corrected_accuracy(rng, streams),
    ):
        began = time.process_time()
        part()
        print(f"\n{time.process_time() - began:.0f} CPU-s\n", flush=True)


Accuracy = Callable[[int], float]  # after so many labels


def harm_alarms(
    floor: float, accuracy: Accuracy, streams: int, labels: int, rng: np.random.Generator
) -> Ints:
    """Label at which each stream first alarms, or `NEVER`."""
    factor, r = harm.factors(floor), np.full((streams, len(harm.ODDS)), harm.HEAD_START * C)
    first = np.full(streams, NEVER)
    for t in range(1, labels + 1):
        r = harm.advance(r, rng.random(streams) >= accuracy(t), factor)
        first[(r.mean(axis=1) >= C) & (first == NEVER)] = t
        if (first < NEVER).all():
            break
    return first


def wilson_ends(right: Floats, n: Floats) -> tuple[Floats, Floats]:
    """The 95 % Wilson interval."""
    z, share = 1.96, right / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return middle - half, middle + half


def window_alarms(
    floor: float, accuracy: Accuracy, streams: int, labels: int, rng: np.random.Generator
) -> Ints:
    """As `harm_alarms`, of a window that alarms when its whole interval lies below the floor."""
    chance = np.array([accuracy(t) for t in range(1, labels + 1)])
    n = np.minimum(np.arange(1, labels + 1), WINDOW).astype(np.float64)
    first = np.full(streams, NEVER)
    for k in range(streams):
        total = np.concatenate([[0.0], np.cumsum(rng.random(labels) < chance)])
        right = total[1:] - total[np.maximum(np.arange(1, labels + 1) - WINDOW, 0)]
        below = np.flatnonzero((wilson_ends(right, n)[1] < floor) & (n >= LEAST))
        if len(below):
            first[k] = below[0] + 1
    return first


def harm_false_alarms(rng: np.random.Generator, streams: int, labels: int) -> None:
    """Print table 1."""
    print(
        f"## Harm: false alarms in {streams} streams of {labels:,} labels, c = {C:g} "
        f"(promised: at most {labels / C:.0%})\n\n"
        "| live accuracy | floor | streams that alarm | 95 % interval | Wilson window of 500 |\n"
        "|---|---|---|---|---|"
    )
    for words, live, value, n in (
        ("exactly at the floor", 0.96, 0.97, 10_000),
        ("exactly at the floor", 0.89, 0.90, 10_000),
        ("as promised (.90, n = 2000)", 0.90, 0.90, 2000),
        ("as promised (.90, n = 360)", 0.90, 0.90, 360),
        (".99, from the middle on at the floor of .94", None, 0.95, 100_000),
        ("to and fro between .97 and the floor every 500", None, 0.96, 100_000),
    ):
        low = float(wilson_ends(np.array(value * n), np.array(float(n)))[0])
        floor = harm.floor_of(value, low) if live is None or live >= value else live
        half, switched = labels // 2, value == 0.95

        def accuracy(
            t: int, live: float | None = live, floor: float = floor, half: int = half,
            switched: bool = switched,
        ) -> float:  # fmt: skip
            if live is not None:
                return live
            if switched:
                return 0.99 if t <= half else floor
            return 0.97 if t // 500 % 2 else floor

        ours = harm_alarms(floor, accuracy, streams, labels, rng) < NEVER
        few = max(1, streams // 5)
        theirs = window_alarms(floor, accuracy, few, labels, rng) < NEVER
        hits = int(ours.sum())
        bounds = stats.binomtest(hits, streams).proportion_ci()
        print(
            f"| {words} | {floor:.3f} | {hits / streams:.1%} | {bounds.low:.1%} to "
            f"{bounds.high:.1%} | {theirs.mean():.0%} |",
            flush=True,
        )


def harm_delays(rng: np.random.Generator, streams: int) -> None:
    """Print table 2."""
    print(
        f"## Harm: labels until a fall is seen, c = {C:g}, {streams} streams, tolerance .01\n\n"
        "| promised | fall | at once: median / 90 % | after 1000 good labels | not in 20,000 |\n"
        "|---|---|---|---|---|"
    )
    for value in (0.97, 0.90):
        floor = value - harm.TOLERANCE
        for fall in (0.03, 0.05, 0.10, 0.20):
            at_once = harm_alarms(floor, lambda _, a=value - fall: a, streams, 20_000, rng)  # type: ignore[misc]
            later = harm_alarms(
                floor, lambda t, a=value - fall, v=value: v if t <= 1000 else a, streams // 4,
                20_000, rng,
            ) - 1000  # type: ignore[misc]  # fmt: skip
            median, most = np.quantile(at_once, (0.5, 0.9))
            print(
                f"| {value:.2f} | {fall:.0%} | {shown(median)} / {shown(most)} | "
                f"{shown(float(np.median(later[later > 0])))} | {(at_once == NEVER).mean():.1%} |",
                flush=True,
            )


def shown(labels: float) -> str:
    """A number of labels, or a dash."""
    return "-" if labels >= NEVER - 1000 else f"{labels:,.0f}"


Chance = Callable[[Floats, Ints], Floats]  # of a label, from ranks (S, 100) and classes (S, 100)


def labelling_crossings(
    chance: Chance, streams: int, intervals: int, rng: np.random.Generator, *, random: int = 0
) -> tuple[Ints, Ints]:
    """Requests, and labels, when each stream first crosses; the first intervals are random ones."""
    norm = np.array([[labelling.ln_normaliser(k, n) for n in range(101)] for k in range(101)])
    cells = labelling.RANK_CELLS + CLASSES
    m = np.zeros((streams, cells, len(labelling.OMEGA)))
    labels, at, of = np.zeros(streams, np.int64), np.full(streams, NEVER), np.full(streams, NEVER)
    rows = np.repeat(np.arange(streams)[:, None], labelling.INTERVAL, axis=1)
    for t in range(1, intervals + 1):
        rank = rng.random((streams, labelling.INTERVAL)).argsort(axis=1)
        mix = 1.0 + 4.0 * (np.arange(CLASSES) == t // 50 % CLASSES)  # the classes drift all along
        answered = rng.choice(CLASSES, rank.shape, p=mix / mix.sum())
        rate = np.full(rank.shape, RATE) if t <= random else chance(rank, answered)
        labelled = rng.random(rank.shape) < rate
        n = labelled.sum(axis=1)
        strange = rng.random(rank.shape).argsort(axis=1)  # the ranks of the p-values
        low = np.stack([rank, strange], axis=-1)[..., None] < np.array(labelling.LOWEST)
        low = low.reshape(*rank.shape, labelling.RANK_CELLS)
        inside = np.zeros((streams, CLASSES), np.int64)
        both = inside.copy()
        np.add.at(inside, (rows, answered), 1)
        np.add.at(both, (rows[labelled], answered[labelled]), 1)
        inside = np.concatenate([low.sum(axis=1), inside], axis=1)
        both = np.concatenate([(low & labelled[..., None]).sum(axis=1), both], axis=1)
        ln_e = both[..., None] * labelling.LN_OMEGA - norm[inside, n[:, None]]
        m = labelling.accumulate(m, ln_e, t)
        labels += n * (t > random)
        fresh = (m.mean(axis=(1, 2)) >= labelling.THRESHOLD) & (at == NEVER)
        at[fresh], of[fresh] = (t - random) * labelling.INTERVAL, labels[fresh]
        if (at < NEVER).all():
            break
    return at, of


def labelling_tables(rng: np.random.Generator, streams: int, requests: int) -> None:
    """Print table 3."""
    intervals = requests // labelling.INTERVAL

    def sample(rank: Floats, answered: Ints) -> Floats:
        return np.full(rank.shape, RATE)

    def quarter(times: float, base: float) -> Chance:
        return lambda rank, answered: np.where(rank < 25, times * base, base)

    def class_never(rank: Floats, answered: Ints) -> Floats:
        return np.where(answered == 3, 0.0, RATE)

    crossed = labelling_crossings(sample, streams, intervals, rng)[0] < NEVER
    print(
        "## Which requests get labels\n\n"
        f"Random samples of {RATE:.0%}, {streams} streams of {requests:,} requests whose classes "
        f"drift: {int(crossed.sum())} called biased (promised: at most "
        f"{streams / labelling.THRESHOLD:g} in the mean).\n\n"
        "| labels | seen after labels: median / 90 % | requests | after 10,000 random ones |\n"
        "|---|---|---|---|"
    )
    for words, chance in (
        ("the hardest quarter 4 times as often", quarter(4, 0.1)),
        ("the hardest quarter twice as often", quarter(2, 0.16)),
        ("the hardest quarter never", quarter(0, RATE)),
        ("a class never", class_never),
    ):
        at, of = labelling_crossings(chance, 400, 500, rng)
        _, late = labelling_crossings(chance, 400, 600, rng, random=100)
        median, most = np.quantile(of, (0.5, 0.9))
        print(
            f"| {words} | {shown(median)} / {shown(most)} | {shown(float(np.median(at)))} | "
            f"{shown(float(np.median(late)))} |",
            flush=True,
        )


def draw_calibrated(accuracy: float, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Probabilities of being right with this mean: most answers sure, some not."""
    doubt = rng.beta(0.25, 0.25 * (0.5 / (1 - accuracy) - 1), shape)
    return 1 - doubt / 2


def thumbs_up_crossings(
    accuracy: float, streams: int, labels: int, rng: np.random.Generator, *, errors: float,
    hidden: bool = False,
) -> Ints:  # fmt: skip
    """Label at which wrong answers first seem to get no labels.

    `errors` times the calibrated doubt is the chance of a wrong answer; `hidden`: those get none.
    """
    m, first = np.zeros((streams, len(thumbs_up.FACTORS))), np.full(streams, NEVER)
    row = np.arange(streams)
    for t in range(1, labels + 1):
        g = draw_calibrated(accuracy, (streams, 8 if hidden else 1), rng)
        wrong = rng.random(g.shape) < errors * (1 - g)
        pick = (~wrong).argmax(axis=1) if hidden else np.zeros(streams, np.intp)
        factor = thumbs_up.factors(g[row, pick])[wrong[row, pick].astype(np.intp), row]
        m = np.minimum((m + 1 / (t * (t + 1))) * factor, thumbs_up.MOST)
        first[(m.mean(axis=1) >= thumbs_up.THRESHOLD) & (first == NEVER)] = t
        if (first < NEVER).all():
            break
    return first


def thumbs_up_tables(rng: np.random.Generator, streams: int, labels: int) -> None:
    """Print table 4."""
    print(
        f"## Only thumbs up\n\nHonest labels, {streams} streams of {labels:,} (promised: at most "
        f"{streams / thumbs_up.THRESHOLD:g} called so, in the mean), and labels until it is seen "
        "where wrong answers get none.\n\n"
        "| accuracy | honest: calibrated | errors a third rarer than calibrated (the null's edge) "
        "| twice as frequent | seen: median / 90 % |\n|---|---|---|---|---|"
    )
    for accuracy in (0.98, 0.94, 0.82):
        honest = [
            int((thumbs_up_crossings(accuracy, streams, labels, rng, errors=e) < NEVER).sum())
            for e in (1.0, 1 / thumbs_up.ROOM, 2.0)
        ]
        seen = thumbs_up_crossings(accuracy, streams, 20_000, rng, errors=1.0, hidden=True)
        median, most = np.quantile(seen, (0.5, 0.9))
        print(
            f"| {accuracy:.2f} | " + " | ".join(f"{count} of {streams}" for count in honest)
            + f" | {shown(median)} / {shown(most)} |",
            flush=True,
        )  # fmt: skip


def corrected_accuracy(rng: np.random.Generator, trials: int) -> None:
    """Print table 5."""
    print(
        f"## Observed accuracy, corrected for which requests got labels ({trials} trials, 2000 "
        "requests)\n\n| labels | n | true | raw | corrected | its interval covers | its width |\n"
        "|---|---|---|---|---|---|---|"
    )
    for words, times in (("a random sample", 1.0), ("hardest quarter x4", 4.0), ("x1/4", 0.25)):
        for n in (100, 500):
            rows = np.array([_one_correction(times, n, rng) for _ in range(trials)])
            true, raw, value, covered, width = np.nanmean(rows, axis=0)
            print(
                f"| {words} | {n} | {true:.3f} | {raw:.3f} | {value:.3f} | {covered:.1%} | "
                f"{width:.3f} |",
                flush=True,
            )


def _one_correction(times: float, n: int, rng: np.random.Generator) -> tuple[float, ...]:
    confidence = rng.random(2000)
    error = 0.11 * np.exp(-6 * confidence)
    right: Bools = rng.random(2000) >= error
    weight = np.where(confidence < 0.25, times, 1.0)
    some = rng.choice(2000, n, replace=False, p=weight / weight.sum())
    found = poststratify(confidence, confidence[some], right[some])
    true, raw = 1 - float(error.mean()), float(right[some].mean())
    if found is None:
        return true, raw, np.nan, np.nan, np.nan
    return true, raw, found.value, found.low <= true <= found.high, found.high - found.low


if __name__ == "__main__":
    main()
