"""Against a mark on real tissue: spots of an unseen section, the genes that are measured best, and what counting leaves.

The mark: ridge regression on features of an ordinary network trained on ImageNet reaches, on one unseen section of her2st, a
mean correlation of 0.2 over the 1,000 best measured genes and 0.48 over the 50 that are best on that section. That network
is not part of this project, so the mark is a number to stand beside, not one that is made again here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.data.genes import dense
from rnasynth.data.patients import PatientInputs, others
from rnasynth.data.transform import Transform, default_scale
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles.baselines import RIDGE_FEATURES, ridge_features
from rnasynth.evaluation.profiles.genes import (
    gene_correlation,
    interval_of,
    order_by_validation,
    resample_counts,
    weighted_correlation,
    well_measured,
)
from rnasynth.evaluation.profiles.pairs import Pairs, ProfileModel, pair
from rnasynth.evaluation.profiles.study import Study
from rnasynth.evaluation.profiles.surroundings import (
    KERNEL,
    has_places,
    kernel_regression,
    next_spots,
    with_surroundings,
)
from rnasynth.evaluation.stats import Interval, mean_and_range, mean_of_known, resampling_units

MARKS = {"measured": 0.2, "best": 0.48}  # of the module's text
N_GENES, N_BEST = 1000, 50
CEILING = "ceiling: all but the noise of counting"
NEXT_DOOR = "real RNA of the spots next to it"
ANOTHER = "of another spot"
TOGETHER = "and kernel, mean"
SHUFFLES = 40  # of spots, for what chance gives
BY_CHANCE = f"mean and 95 % of {SHUFFLES} shuffles"
Rows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class MarkReport:
    """Mean correlation of the best measured genes over held-out spots.

    Attributes
    ----------
    numbers : "mark_MODEL_measured" (all these genes), "mark_MODEL_first" (the first 50 in an order fixed by validation
        spots), "mark_MODEL_best" (the 50 best on these very spots: optimistic), and "sections_MODEL_measured" and so on:
        mean and range of sections held out in turn.
    labels : the same keys -> words.
    rows, section_rows : for `plots.intervals`: label, group, value, low, high, n.
    first : the model whose predictions for other spots show what chance gives.
    unit : what the intervals of `rows` resample.
    n : test spots.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    rows: pd.DataFrame
    section_rows: pd.DataFrame
    first: str
    unit: str
    n: int

    @property
    def caption(self) -> str:
        """What the figure of `panels` shows."""
        return (
            f"The best measured genes on unseen spots. Circles: 95 % intervals over {self.unit} (for another spot's, over "
            "shuffles). Squares: regressions, mean and range of sections held out in turn. Dashed: the mark."
        )

    @property
    def alt(self) -> str:
        """That figure in words."""
        return "Three panels of points with intervals, one row a model or control, one panel a set of genes."

    @property
    def of(self) -> str:
        """How many of what."""
        return f"{self.n} test spots"

    def panels(self) -> dict[str, tuple[pd.DataFrame, float | None]]:
        """Return set of genes -> (rows, `group` the unit in words; the mark or None), for `plots.profiles.beside_marks`."""
        every = pd.concat(
            [
                self.rows.assign(unit="spots of one unseen section"),
                self.section_rows.assign(unit="sections held out in turn"),
            ]
        )
        marks = dict(zip(self.rows["group"].unique(), (MARKS["measured"], None, MARKS["best"]), strict=True))
        return {
            str(words): (rows.assign(group=rows["unit"])[["label", "group", "value", "low", "high", "n"]], marks[words])
            for words, rows in every.groupby("group", sort=False)
        }

    def table(self) -> pd.DataFrame:
        """Return the numbers as text: a row a model, a column a set of genes, the marks in the first row."""
        rows: dict[str, dict[str, str]] = {"mark (ridge, ImageNet features)": {}}
        for frame, more in ((self.rows, ""), (self.section_rows, ", sections in turn")):
            for row in frame.to_dict("records"):
                text = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
                rows.setdefault(str(row["label"]), {})[f"{row['group']}{more}"] = text
        words = words_of(N_GENES)
        rows["mark (ridge, ImageNet features)"] = {words[name]: f"{value:g}" for name, value in MARKS.items()}
        return pd.DataFrame.from_dict(rows, orient="index").fillna("").rename_axis("model")

    def summary(self, *models: str) -> str:
        """Say of models whether their intervals are above the marks, and what the ceiling and chance are."""
        parts = []
        for model in models:
            said = []
            for name, words in (("measured", "over the best measured genes"), ("best", "over the 50 best on these spots")):
                found = self.numbers[f"mark_{key_of(model)}_{name}"]
                said.append(
                    f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}] {words} ({beside_the_mark(found, name)})"
                )
            parts.append(f"{model}: {', '.join(said)}")
        by_chance = {kind: self.numbers[f"mark_{key_of(f'{self.first} {ANOTHER}')}_{kind}"] for kind in MARKS}
        ceiling = self.numbers[f"mark_{key_of(CEILING)}_measured"]
        parts.append(
            f"counting is so noisy that nothing could exceed {ceiling.value:.2f} over the best measured genes; predictions "
            f"for another spot reach {by_chance['measured'].value:.2f}, and {by_chance['best'].value:.2f} over the 50 that "
            "are best by chance"
        )
        return "; ".join(parts) + "."


def best_measured(cohort: Cohort, n_genes: int = N_GENES) -> Cohort:
    """Return a cohort of spots with the genes that most training spots have counts of; any other cohort as it is."""
    if not has_places(cohort.profiles.obs):
        return cohort
    genes = well_measured(cohort.only("train").profiles, n_genes)
    return replace(cohort, profiles=cohort.profiles[:, genes].copy())


def mark_report(
    cohort: Cohort, compared: Study, *, models: Sequence[str], n_best: int = N_BEST, n_boot: int = 300, seed: int = 0
) -> MarkReport:
    """Judge trained generators, ridge regression and a kernel regression with surroundings on the best measured genes.

    Parameters
    ----------
    cohort : with all its genes; spots with a place on an array (`surroundings.has_places`).
    compared : trained on `best_measured(cohort)`.
    models : of `compared`; the first one is also averaged with the kernel regression.
    n_best : size of the smaller sets.

    Raises
    ------
    InputError : samples without place or tiles. SplitError : a section in two splits.
    """
    parts = {"train": compared.train, "val": compared.val, "test": compared.test}
    test, obs, first = compared.test, cohort.profiles.obs, models[0]
    expected = expected_profiles({name: compared.models[name] for name in models}, parts, obs, seed=seed)
    order = order_by_validation(compared.val.z, expected["val"])
    units, unit = resampling_units(test.groups)
    weights, n_groups = resample_counts(units, n_boot, seed)
    method = f"percentile bootstrap over {unit}, {n_boot} resamples, 95%"
    words, once = words_of(len(test.genes), n_best), np.ones((1, len(test)))
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    rows: Rows = []

    def keep(label: str, kind: str, found: Interval) -> None:
        key = f"mark_{key_of(label)}_{kind}"
        numbers[key], labels[key] = found, f"mean correlation, {words[kind]}: {label}"
        rows.append({"label": label, "group": words[kind], **found.to_dict()})

    real = test.z.astype(np.float64)
    sides = halves(best_measured(cohort, len(test.genes)).only("test").profiles, test, compared.transform, seed=seed)
    pairs = {name: (real, np.asarray(made, np.float64)) for name, made in expected["test"].items()}
    pairs |= {NEXT_DOOR: (real, next_spots(test.z, test.inputs, obs)), CEILING: sides}
    for label, (x, y) in pairs.items():
        r, drawn = weighted_correlation(x, y, once)[0], weighted_correlation(x, y, weights)
        if label == CEILING:
            r, drawn = reachable(r), reachable(drawn)
        for kind, genes in gene_sets(r, order, n_best).items():
            value = mean_of_known(r[genes])
            keep(label, kind, interval_of(value, np.nanmean(drawn[:, genes], axis=1), n_groups, method))
    for kind, values in of_another_spot(real, pairs[first][1], order, n_best=n_best, seed=seed).items():
        keep(f"{first} {ANOTHER}", kind, interval_of(float(np.mean(values)), np.array(values), SHUFFLES, BY_CHANCE))
    sections = regressions_in_turn(cohort, compared, n_best=n_best, seed=seed)
    for row in sections:
        key, found = row.pop("key"), row.pop("interval")
        numbers[key], labels[key] = found, f"mean correlation, {row['group']}, sections held out in turn: {row['label']}"
    return MarkReport(numbers, labels, pd.DataFrame(rows), pd.DataFrame(sections), first, unit, len(test))


def expected_profiles(
    models: Mapping[str, ProfileModel], parts: Mapping[str, Pairs], obs: pd.DataFrame, *, seed: int = 0
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Return what models and the regressions expect: "val" and "test" -> name -> profiles, shape (N, genes).

    Beside the models stand ridge regression on the own tile, kernel regression with surroundings, and the mean of the latter
    and the first model. The regressions are fitted and chosen here, on the training and validation samples of `parts`.
    """
    wide = {
        split: replace(part, inputs=with_surroundings(cast(PatientInputs, part.inputs), obs))
        for split, part in parts.items()
    }
    ridge, kernel = ridge_features(parts["train"], parts["val"]), kernel_regression(wide["train"], wide["val"])
    expected = {}
    for split in ("val", "test"):
        made = {name: model.mean(parts[split].inputs, 16, seed) for name, model in models.items()}
        made |= {RIDGE_FEATURES: ridge.mean(parts[split].inputs), KERNEL: kernel.mean(wide[split].inputs)}
        for first in list(models)[:1]:
            made[f"{first} {TOGETHER}"] = np.mean([made[first], made[KERNEL]], axis=0, dtype=np.float32)
        expected[split] = made
    return expected


def of_another_spot(
    real: NDArray[np.float64], made: NDArray[np.floating], order: NDArray[np.intp], *, n_best: int = N_BEST, seed: int = 0
) -> dict[str, list[float]]:
    """Return set of genes -> mean correlation of predictions for other spots, one a shuffle: what chance gives."""
    chance: dict[str, list[float]] = {}
    for number in range(SHUFFLES):
        r = gene_correlation(real, made[others(len(real), seed + number)])
        for kind, genes in gene_sets(r, order, n_best).items():
            chance.setdefault(kind, []).append(mean_of_known(r[genes]))
    return chance


def beside_the_mark(found: Interval, kind: str) -> str:
    """Say whether an interval lies above the mark of a set of genes ("measured" or "best")."""
    mark = MARKS[kind]
    word = "above" if found.low > mark else "not shown to be above" if found.high > mark else "below"
    return f"{word} the mark {mark:g}"


def gene_sets(r: NDArray[np.float64], order: NDArray[np.intp], n_best: int) -> dict[str, NDArray[np.intp]]:
    """Return columns of all genes, of the first in an order fixed beforehand, and of the best by these very samples."""
    best = np.argsort(-np.nan_to_num(r, nan=-2.0), kind="stable")
    return {"measured": np.arange(len(r)), "first": np.asarray(order)[:n_best], "best": best[:n_best]}


def halves(
    raw: AnnData, test: Pairs, transform: Transform, *, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return z-scores of two halves of each spot's counts, each count thrown into one of them by a coin."""
    part = _in_order(raw, test)
    counts = dense(part).astype(np.int64)
    one = np.random.default_rng(seed).binomial(counts, 0.5)
    sides = []
    for values in (one, counts - one):
        side = part.copy()
        side.X = values.astype(np.float32)
        sides.append(np.asarray(transform.apply(side).X, dtype=np.float64))
    return sides[0], sides[1]


def reachable(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest correlation that anything can have with a gene, from that of two halves of its counts.

    Reliability of the whole by Spearman and Brown, 2 r / (1 + r); its root (Spearman 1904). Below 0 counts as 0.
    """
    known = np.clip(r, 0.0, 1.0)
    return np.asarray(np.sqrt(2 * known / (1 + known)))


def regressions_in_turn(cohort: Cohort, compared: Study, *, n_best: int = N_BEST, seed: int = 0) -> Rows:
    """Hold out each split group in turn, for the regressions, which take seconds; `sections` does it for trained generators.

    Genes, scale, penalties and patterns are chosen anew without the group. Rows: key, interval (mean and range of groups),
    label, group and the interval's fields.
    """
    given = [cast(PatientInputs, part.inputs) for part in (compared.train, compared.val, compared.test)]
    everyone = PatientInputs(
        sum((part.sample_ids for part in given), ()),
        sum((part.bags for part in given), ()),
        sum((part.texts for part in given), ()),
        sum((part.tissues for part in given), ()),
        given[0].features,
    )
    place = {name: row for row, name in enumerate(everyone.sample_ids)}
    words = words_of(len(compared.test.genes), n_best)
    found: dict[tuple[str, str], list[float]] = {}
    for fold in cohort.folds(cohort.profiles.obs["split_group"].nunique(), seed=seed):
        fold = best_measured(fold, len(compared.test.genes))
        train = fold.only("train").profiles
        transform = Transform.fit(train, scale=default_scale(train))
        parts = {}
        for split in ("train", "val", "test"):
            profiles = fold.only(split).profiles
            rows = [place[name] for name in profiles.obs["sample_id"].astype(str) if name in place]
            parts[split] = pair(everyone.take(rows), profiles, transform)
        made = expected_profiles({}, parts, cohort.profiles.obs)
        order = order_by_validation(parts["val"].z, made["val"])
        for name, values in made["test"].items():
            r = gene_correlation(parts["test"].z, values)
            for kind, genes in gene_sets(r, order, n_best).items():
                found.setdefault((name, kind), []).append(mean_of_known(r[genes]))
    rows_of: Rows = []
    for (name, kind), each in found.items():
        interval = mean_and_range(each, f"{len(each)} sections, each held out in turn")
        key = f"sections_{key_of(name)}_{kind}"
        rows_of.append({"key": key, "interval": interval, "label": name, "group": words[kind], **interval.to_dict()})
    return rows_of


def _in_order(profiles: AnnData, part: Pairs) -> AnnData:
    place = {str(name): row for row, name in enumerate(profiles.obs["sample_id"])}
    return profiles[[place[name] for name in part.inputs.sample_ids]].copy()


def words_of(n_genes: int, n_best: int = N_BEST) -> dict[str, str]:
    """Return set of genes -> what it is, for readers."""
    return {
        "measured": f"{n_genes:,} best measured genes",
        "first": f"{n_best} best by validation spots",
        "best": f"{n_best} best on the test spots (optimistic)",
    }
