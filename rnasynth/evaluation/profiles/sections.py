"""Sections held out in turn for trained generators too: all is fitted anew for each, recorded, and joined over sections.

Of four sections of one tumour one alone says little. Here each is the unseen one once: genes, scale, beta-VAE, generator,
regressions and the order of the genes come from the others, two to train and one to validate. That takes minutes, so it is
recorded turn by turn, and a page joins the records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles.baselines import RIDGE_FEATURES
from rnasynth.evaluation.profiles.genes import gene_correlation, order_by_validation, weighted_correlation
from rnasynth.evaluation.profiles.mark import (
    ANOTHER,
    CEILING,
    MARKS,
    N_BEST,
    N_GENES,
    TOGETHER,
    beside_the_mark,
    best_measured,
    expected_profiles,
    gene_sets,
    halves,
    of_another_spot,
    reachable,
    words_of,
)
from rnasynth.evaluation.profiles.pairs import Pairs, check_disjoint, pair
from rnasynth.evaluation.profiles.study import InTransform
from rnasynth.evaluation.profiles.surroundings import KERNEL
from rnasynth.evaluation.stats import Interval, mean_and_t, mean_of_known
from rnasynth.runs import Run
from rnasynth.systems.training import train_preset

SYSTEMS = ("gemm-flow", "gemm-gan")
BESIDE = {"kernel": KERNEL, "ridge": RIDGE_FEATURES, "ceiling": CEILING}  # in the first system's records alone
COLUMNS = {  # of the records' table: name in a summary -> heading
    "mean_measured": "best measured genes",
    "mean_measured_together": "with the kernel",
    "mean_measured_kernel": "kernel",
    "mean_measured_ridge": "ridge",
    "mean_measured_another": "of another spot",
    "mean_best": "50 best",
    "mean_best_together": "50 best, with the kernel",
    "mean_best_kernel": "50 best, kernel",
    "mean_best_ridge": "50 best, ridge",
    "mean_best_another": "50 best, of another spot",
}

CAPTION = "Recorded turns, a row a generator and held-out section: mean correlation of genes"


def in_turn(
    cohort: Cohort,
    preset: str,
    *,
    systems: Sequence[str] = SYSTEMS,
    n_genes: int = N_GENES,
    n_best: int = N_BEST,
    seed: int = 0,
    progress: bool = False,
) -> Iterator[tuple[str, Run, pd.DataFrame]]:
    """Hold out each section in turn: train, and judge on it what was trained, the regressions and the controls.

    Parameters
    ----------
    cohort : spots with all their genes; each split group (section) is tested once, see `Cohort.folds`.
    preset, seed : of the trainings; the seed also of the folds and of the shuffles.
    systems : names as registered; the first one is the reference whose genes and z-scores count, and it is also averaged
        with the kernel regression.
    n_genes, n_best : sizes of the sets of genes.

    Yields
    ------
    Title, run, and one row for a record: section, preset, seed, spots, genes, best (the two sizes), and the mean correlation
    mean_KIND_WHAT, KIND one of `mark.gene_sets`, WHAT none for the system itself, "another" for its predictions for other
    spots, and in the first system's row "together", "kernel", "ridge", "ceiling".

    Raises
    ------
    InputError : fewer than three sections, or samples without place. SplitError : a section in two splits.
    """
    for fold in cohort.folds(cohort.profiles.obs["split_group"].nunique(), seed=seed):
        fold = best_measured(fold, n_genes)
        runs = {
            name: train_preset(name, fold, preset, overrides=[f"train.seed={seed}"], progress=progress) for name in systems
        }
        generators = {name: run.load() for name, run in runs.items()}
        first = generators[systems[0]]
        parts = {
            split: pair(first.inputs(fold, split), fold.only(split).profiles, first.transform)
            for split in ("train", "val", "test")
        }
        check_disjoint(*parts.values())
        models = {name: InTransform(made, first.transform, name) for name, made in generators.items()}
        section = " and ".join(sorted(set(parts["test"].groups)))
        facts = {"section": section, "preset": preset, "seed": seed, "spots": len(parts["test"])}
        facts |= {"genes": len(first.transform.genes), "best": n_best}
        judged = _judge(fold, models, parts, n_best=n_best, seed=seed)
        for name, run in runs.items():
            yield f"{preset}: {name}, {section} held out", run, pd.DataFrame([facts | judged[name]])


def _judge(
    fold: Cohort, models: Mapping[str, InTransform], parts: Mapping[str, Pairs], *, n_best: int, seed: int
) -> dict[str, dict[str, float]]:
    """Return system -> mean_KIND_WHAT -> mean correlation on the held-out section."""
    test, first = parts["test"], next(iter(models))
    expected = expected_profiles(models, parts, fold.profiles.obs, seed=seed)
    order = order_by_validation(parts["val"].z, expected["val"])
    real = test.z.astype(np.float64)
    judged: dict[str, dict[str, float]] = {name: {} for name in models}

    def keep(name: str, what: str, r: NDArray[np.float64]) -> None:
        for kind, genes in gene_sets(r, order, n_best).items():
            judged[name][_column(kind, what)] = mean_of_known(r[genes])

    for name in models:
        keep(name, "", gene_correlation(real, expected["test"][name]))
        chance = of_another_spot(real, expected["test"][name], order, n_best=n_best, seed=seed)
        judged[name] |= {f"mean_{kind}_another": float(np.mean(values)) for kind, values in chance.items()}
    named = {"together": f"{first} {TOGETHER}", "kernel": KERNEL, "ridge": RIDGE_FEATURES}
    for what, label in named.items():
        keep(first, what, gene_correlation(real, expected["test"][label]))
    sides = halves(fold.only("test").profiles, test, models[first].transform, seed=seed)
    keep(first, "ceiling", reachable(weighted_correlation(*sides, np.ones((1, len(test))))[0]))
    return judged


@dataclass(frozen=True, eq=False)
class SectionsReport:
    """What trained generators, regressions and controls reach on sections that were held out in turn.

    Attributes
    ----------
    numbers : "turns_MODEL_KIND": mean over sections with its interval by Student's t; "turns_gain_ONE__over__OTHER_KIND":
        the same of the difference on the same section. KIND as in `mark.gene_sets`.
    labels : the same keys -> words.
    each : a row a model, set of genes and section: label, group, section, value (mean over seeds where there are several).
    rows : a row a model and set of genes: label, group, value, low, high, n.
    first : the system that is averaged with the kernel regression.
    others : the other systems.
    sections : the sections.
    seeds : of the trainings.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    each: pd.DataFrame
    rows: pd.DataFrame
    first: str
    others: tuple[str, ...]
    sections: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def together(self) -> str:
        """The first system averaged with the kernel regression."""
        return f"{self.first} {TOGETHER}"

    def panels(self) -> dict[str, tuple[pd.DataFrame, float | None]]:
        """Return set of genes -> (rows, the mark or None), for `plots.profiles.beside_marks`."""
        points = self.each.assign(low=np.nan, high=np.nan, n=1, unit="each section")
        every = pd.concat([self.rows.assign(unit=f"mean of {len(self.sections)} sections, 95 % by Student's t"), points])
        marks = dict(zip(self.rows["group"].unique(), (MARKS["measured"], None, MARKS["best"]), strict=True))
        return {
            str(words): (rows.assign(group=rows["unit"])[["label", "group", "value", "low", "high", "n"]], marks[words])
            for words, rows in every.groupby("group", sort=False)
        }

    @property
    def caption(self) -> str:
        """What the figure of `panels` shows."""
        n = len(self.sections)
        return (
            f"Recorded: each of {n} sections held out in turn, everything trained anew for each. Circles: mean over "
            f"sections, 95 % interval by Student's t with {n - 1} degrees of freedom. Squares: each section. Dashed: the "
            "mark. Turns share sections to train on, so that the interval is somewhat too narrow."
        )

    @property
    def alt(self) -> str:
        """That figure in words."""
        return "Three panels of points with intervals and of sections, a row a model or control, a panel a set of genes."

    @property
    def of(self) -> str:
        """How many of what."""
        return f"{len(self.sections)} sections, {', '.join(self.sections)}"

    def table(self) -> pd.DataFrame:
        """Return a row a model: mean and interval over sections as text, a column a set of genes."""
        text = [f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in self.rows.itertuples()]
        wide = self.rows.assign(text=text).pivot(index="label", columns="group", values="text")
        return (
            wide.loc[self.rows["label"].unique(), self.rows["group"].unique()].rename_axis("model").rename_axis(columns=None)
        )

    def summary(self) -> str:
        """Say whether the intervals over sections are above the marks, above the regressions, and above chance."""
        said = {"measured": "over the best measured genes", "best": "over the 50 best on the held-out section"}
        parts = []
        for model in (self.first, self.together, *self.others):
            found = {kind: self.numbers[f"turns_{key_of(model)}_{kind}"] for kind in said}
            told = [f"{_brief(found[kind])} {words} ({beside_the_mark(found[kind], kind)})" for kind, words in said.items()]
            for other in (RIDGE_FEATURES, KERNEL, f"{self.first} {ANOTHER}"):
                if (gain := self.numbers.get(f"turns_{_gain(model, other)}_measured")) is not None:
                    word = "above" if gain.low > 0 else "below" if gain.high < 0 else "not shown to be above"
                    told.append(f"{word} {other} (difference {_brief(gain)})")
            parts.append(f"{model}: {', '.join(told)}")
        return f"Over {len(self.sections)} sections held out in turn. {'. '.join(parts)}."


def joined(
    records: Sequence[Any], cohort: Cohort, preset: str, *, systems: Sequence[str] = SYSTEMS
) -> SectionsReport | None:
    """Join the records of `in_turn` over sections; None where there are none of this cohort and preset.

    Parameters
    ----------
    records : `pages.recorded.Record`: `facts` (system, cohort) and `lines` of kind "test".
    systems : the first one is that of `in_turn`.

    Raises
    ------
    InputError : one section twice with the same seed, or a section of the cohort that one of the systems lacks.
    """
    groups = tuple(sorted(set(cohort.profiles.obs["split_group"].astype(str))))
    table = pd.DataFrame(
        [
            {"system": record.facts["system"], **line}
            for record in records
            if record.facts["cohort"] == cohort.name and record.facts["system"] in systems
            for line in record.lines
            if line["kind"] == "test" and line.get("preset") == preset and line.get("section") in groups
        ]
    )
    if table.empty:
        return None
    subject = f"recorded turns of {cohort.name}, {preset}"
    if (twice := table.duplicated(["system", "section", "seed"])).any():
        found = " ".join(map(str, table.loc[twice, ["system", "section", "seed"]].iloc[0]))
        raise InputError(subject, expected="each section once", found=f"{found} twice", fix="remove the older record")
    wide = table.groupby(["system", "section"]).mean(numeric_only=True).sort_index()
    trained = [name for name in systems if name in set(table["system"])]
    if len(wide) != len(groups) * len(trained) or trained[0] != systems[0]:
        found = ", ".join(f"{system} {section}" for system, section in wide.index)
        raise InputError(subject, expected=f"{', '.join(groups)} of each system", found=found, fix="record the others")
    first, others = trained[0], trained[1:]
    told = {first: (first, ""), f"{first} {TOGETHER}": (first, "together")}
    told |= {BESIDE[what]: (first, what) for what in ("kernel", "ridge")} | {name: (name, "") for name in others}
    told |= {CEILING: (first, "ceiling")} | {f"{name} {ANOTHER}": (name, "another") for name in (first, *others)}
    words = words_of(int(table["genes"].max()), int(table["best"].max()))
    of = f"{len(groups)} sections, each held out in turn"
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    rows, each = [], []
    for kind, group in words.items():
        values = {label: wide.xs(system)[_column(kind, what)].to_numpy(float) for label, (system, what) in told.items()}
        for label, mine in values.items():
            key = f"turns_{key_of(label)}_{kind}"
            numbers[key], labels[key] = mean_and_t(mine, of), f"mean correlation, {group}, mean of {of}: {label}"
            rows.append({"label": label, "group": group, **numbers[key].to_dict()})
            each += [
                {"label": label, "group": group, "section": section, "value": float(value)}
                for section, value in zip(groups, mine, strict=True)
            ]
        for one in (first, f"{first} {TOGETHER}"):
            for other in (RIDGE_FEATURES, KERNEL, f"{first} {ANOTHER}", *others):
                key = f"turns_{_gain(one, other)}_{kind}"
                numbers[key] = mean_and_t(values[one] - values[other], of)
                labels[key] = f"mean correlation, {group}, mean of {of}: {one} less {other}"
    seeds = tuple(sorted({int(seed) for seed in table["seed"]}))
    return SectionsReport(numbers, labels, pd.DataFrame(each), pd.DataFrame(rows), first, tuple(others), groups, seeds)


def _column(kind: str, what: str) -> str:
    return f"mean_{kind}_{what}" if what else f"mean_{kind}"


def _gain(one: str, other: str) -> str:
    return f"gain_{key_of(one)}__over__{key_of(other)}"


def _brief(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
