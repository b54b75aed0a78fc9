"""How much would another training change? The same generator trained with several seeds, beside real tiles of others.

A range over sampling seeds is of one generator: its weights are the same each time. Here the weights differ too. Trainings
differ in `train.seed` alone (order of tiles, first weights, noise); cohort, split, encoder and all settings are the same, so
that what another split or another encoder would change is left out. They take long, so a page keeps what was measured as
records and shows it beside the run that it found, if that is one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from rnasynth.data.cohort import Cohort
from rnasynth.evaluation.fidelity.sets import TileSet, generated_sets
from rnasynth.evaluation.fidelity.study import ALL, FLOOR, compare, cover
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import Interval, mean_and_range
from rnasynth.features import FeatureNetwork
from rnasynth.features.networks import reader_names
from rnasynth.runs import Run
from rnasynth.systems.training import train_preset

MEASURES = {"frechet": "Frechet distance", "kernel": "kernel distance", "precision": "precision", "recall": "recall"}
ENOUGH = 3  # trainings; with fewer a range says next to nothing


class Recorded(Protocol):
    """What is read of a page's record (`rnasynth.pages.recorded.Record`)."""

    @property
    def facts(self) -> dict[str, Any]:
        """Title, cohort_fingerprint, system, config, run and more."""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Lines of kind "train" and "test"; the latter as of `table_of`."""


def trained(
    systems: Sequence[str],
    cohort: Cohort,
    preset: str,
    train: TileSet,
    test: TileSet,
    networks: Sequence[FeatureNetwork],
    *,
    trainings: int,
    most: int,
    seeds: int,
    restained: bool,
    px: int,
    seed: int = 0,
) -> Iterator[tuple[str, Run, pd.DataFrame]]:
    """Find or train generators with several seeds, and measure each; all make their tiles from the same noise.

    Parameters
    ----------
    systems : registered names of generators.
    cohort, preset : as for `train_preset`.
    train, test : real tiles, as of `sets.real_tiles`.
    trainings : of each system, with the seeds `seed`, `seed + 1`, ...; 1: there is nothing to compare, and nothing is made.
    most, seeds, restained, px : as of `sets.generated_sets`; `seeds` are of the noise.

    Yields
    ------
    Generator and training seed in words, its run, and `table_of` its tiles.
    """
    how: dict[str, Any] = {"most": most, "seeds": seeds, "restained": restained, "px": px, "seed": seed}
    for system, number in itertools.product(systems if trainings > 1 else (), range(seed, seed + trainings)):
        run = train_preset(system, cohort, preset, overrides=[f"train.seed={number}"])
        _, made = generated_sets({system: run.load()}, cohort, test, networks, **how)
        rows = table_of(train, test, made[system], [network.name for network in networks], seed=seed)
        yield f"{system}, training seed {number}", run, rows.assign(tile_px=px, restained=restained)


def table_of(
    train: TileSet, test: TileSet, several: Sequence[TileSet], networks: Sequence[str], *, seed: int = 0
) -> pd.DataFrame:
    """Return what a record keeps of one training, a row a sampling seed.

    Parameters
    ----------
    train, test : real tiles of disjoint patients.
    several : tiles of one generator, one set a sampling seed.
    networks : names in `TileSet.features`.
    seed : of the draws of equal size, which are those of `study.compare`.

    Returns
    -------
    Columns sampling_seed, tiles (of every set), and for each of `MEASURES` and each network (by its key)
    "mean_MEASURE_NETWORK" of the generated tiles and "mean_floor_MEASURE_NETWORK" of as many training tiles, both against
    held-out tiles.

    Raises
    ------
    InputError : a patient in both real sets, or too few tiles.
    """
    rows = []
    for number, tiles in enumerate(several):
        draw = seed + 1000 * number
        row: dict[str, Any] = {"sampling_seed": seed + number}
        for network in networks:
            one = {tiles.name: [tiles]}
            found = compare(train, test, one, network, draws=1, seed=draw)
            row["tiles"] = int(found.table.loc[found.table["tissue"] == ALL, "n"].iloc[0])
            covered = cover(train, test, one, network, seed=draw).set_index(["label", "group"])["value"]
            for prefix, name, key in (("", tiles.name, key_of(tiles.name)), ("floor_", FLOOR, "floor")):
                values = {
                    "frechet": found.numbers[f"frechet_test_{key}"].value,
                    "kernel": found.numbers[f"kid_test_{key}"].value,
                    **{measure: float(covered.loc[(measure, name)]) for measure in ("precision", "recall")},
                }
                row |= {_column(measure, network, prefix): value for measure, value in values.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def headings(networks: Sequence[str]) -> dict[str, str]:
    """Return the columns of a record's summary that a page shows -> their headings."""
    return {_column(measure, network): f"{words} ({network})" for network in networks for measure, words in MEASURES.items()}


@dataclass(frozen=True, eq=False)
class TrainingsReport:
    """Several trainings of each generator.

    Attributes
    ----------
    table : rows generator, training (its seed), network, measure, value, low, high (mean and range over sampling seeds),
        floor, floor_low, floor_high (the same of real tiles); empty where nothing fits.
    numbers : "MEASURE_trainings_GENERATOR_NUMBER" (number of the network, from 1): mean and range of the trainings.
    labels : the same keys -> words.
    missing : generators without records of the run that was found.
    rebuilt : generators whose records are of the same settings on another build of the cohort.
    """

    table: pd.DataFrame
    numbers: dict[str, Interval]
    labels: dict[str, str]
    missing: list[str]
    rebuilt: list[str]

    def rows(self, measure: str = "frechet") -> pd.DataFrame:
        """Return label, group (network, in words), value, low, high over the floor's mean, for `plots.intervals`.

        Real tiles come first.
        """
        rows = []
        words = reader_names(list(self.table["network"].unique()))
        for network, part in self.table[self.table["measure"] == measure].groupby("network", sort=False):
            floor = _floor(part)
            ends = {name: getattr(floor, name) / floor.value for name in ("value", "low", "high")}
            rows.append({"label": FLOOR, "group": words[str(network)], **ends})
            for row in part.to_dict("records"):
                ends = {name: row[name] / floor.value for name in ends}
                rows.append(
                    {"label": f"{row['generator']}, training {row['training']}", "group": words[str(network)], **ends}
                )
        return pd.DataFrame(rows)

    def shown(self) -> pd.DataFrame:
        """Return mean and range over trainings as text: rows network and generator or real tiles, a column a measure."""
        found: dict[str, dict[str, str]] = {}
        for (network, measure, name), part in self.table.groupby(["network", "measure", "generator"], sort=False):
            words = MEASURES[str(measure)]
            found.setdefault(f"{network}, {FLOOR}", {})[words] = str(_floor(part))
            found.setdefault(f"{network}, {name}, {len(part)} trainings", {})[words] = str(_over(part))
        return pd.DataFrame.from_dict(found, orient="index").rename_axis("network, set")

    def summary(self) -> str:
        """Say how far trainings lie apart, and whether all lie above the floor and in one order."""
        words = []
        distances = self.table[self.table["measure"] == "frechet"]
        for network, of_network in distances.groupby("network", sort=False):
            floor, over = _floor(of_network), {}
            for name, part in of_network.groupby("generator", sort=False):
                over[str(name)] = found = _over(part)
                beyond = int((part["low"] > floor.high).sum())
                sampled = float((part["high"] - part["low"]).mean())
                words.append(
                    f"By {network!s}, {found.n} trainings of {name!s} lie at {found.low / floor.value:.1f} to"
                    f" {found.high / floor.value:.1f} times the floor, {beyond} of them above its range; they differ by"
                    f" {found.high - found.low:.3g}, the sampling seeds of one by {sampled:.3g} on average."
                    + ("" if found.n >= ENOUGH else f" Fewer than {ENOUGH}: hardly a range.")
                )
            for left, right in itertools.combinations(over, 2):
                apart = over[left].high < over[right].low or over[right].high < over[left].low
                nearer, other = sorted((left, right), key=lambda name: over[name].value)
                words.append(
                    f"Every training of {nearer} is nearer than every one of {other}."
                    if apart
                    else f"Which of {left} and {right} is nearer depends on the training."
                )
        if self.rebuilt:
            words.append(
                f"The recorded trainings of {' and '.join(self.rebuilt)} were made with the same settings on another build"
                " of the cohort, and the run of this page is not among them."
            )
        if self.missing:
            words.append(
                f"Of {' and '.join(self.missing)}, as trained here, no other training is recorded: what it would change is"
                " not known."
            )
        return " ".join(words)


def over_trainings(
    records: Sequence[Recorded], runs: Mapping[str, Run], networks: Sequence[str], *, px: int, restained: bool
) -> TrainingsReport:
    """Gather the recorded trainings of the generators that were found.

    Parameters
    ----------
    records : of the page.
    runs : generator -> its run. Records count that are of its system, cohort and configuration but for the seed, and only
        if the run itself is among them: else they are of other code, data or encoders. Where there are none of this build
        of the cohort, those of another build with the same first seed count, and the report says so.
    networks : names of feature networks; one that a record does not have is left out.
    px, restained : how tiles were handled; records of others are left out.
    """
    rows: list[dict[str, Any]] = []
    missing, rebuilt = [], []
    for name, run in runs.items():
        alike = [record for record in records if _same_but_seed(record, run, px=px, restained=restained)]
        mine = [record for record in alike if _build(record) == run.description["cohort"]["fingerprint"]]
        if not mine and (mine := _of_another_build(alike, run.config.train.seed)):
            rebuilt.append(name)
        elif not any(record.facts["run"] == run.id for record in mine):
            missing.append(name)
            continue
        for network, measure, record in itertools.product(networks, MEASURES, sorted(mine, key=_seed)):
            lines = pd.DataFrame([line for line in record.lines if line["kind"] == "test"])
            if (column := _column(measure, network)) not in lines:
                continue
            real = lines[_column(measure, network, "floor_")]
            rows.append(
                {
                    "generator": name,
                    "training": _seed(record),
                    "network": network,
                    "measure": measure,
                    "value": lines[column].mean(),
                    "low": lines[column].min(),
                    "high": lines[column].max(),
                    "floor": real.mean(),
                    "floor_low": real.min(),
                    "floor_high": real.max(),
                }
            )
    columns = ["generator", "training", "network", "measure", *("value", "low", "high"), "floor", "floor_low", "floor_high"]
    table = pd.DataFrame(rows, columns=columns)
    numbers, labels = {}, {}
    for found, part in table.groupby(["generator", "network", "measure"], sort=False):
        of, network, measure = map(str, found)
        key = f"{measure}_trainings_{key_of(of)}_{networks.index(network) + 1}"
        numbers[key] = _over(part)
        labels[key] = f"{MEASURES[measure]} against held-out tiles, over recorded trainings, {of} ({network})"
    return TrainingsReport(table, numbers, labels, missing, rebuilt)


def _over(part: pd.DataFrame) -> Interval:
    """Mean and range of the trainings' means over sampling seeds."""
    return mean_and_range(part["value"], f"{len(part)} trainings")


def _floor(part: pd.DataFrame) -> Interval:
    """Mean and range of real tiles of other patients, over draws."""
    return Interval(part["floor"].mean(), part["floor_low"].min(), part["floor_high"].max(), len(part), "range of draws")


def _same_but_seed(record: Recorded, run: Run, *, px: int, restained: bool) -> bool:
    """Whether a record is of the run's system, cohort and configuration but for the seed, its tiles handled so."""
    facts = record.facts
    if facts["system"] != run.system_name or facts["cohort"] != run.description["cohort"]["name"]:
        return False
    if any((line["tile_px"], line["restained"]) != (px, restained) for line in record.lines if line["kind"] == "test"):
        return False
    config = run.config
    training = {**config.train.added, **facts["config"]["train"], "seed": config.train.seed}
    return bool({**config.added, **facts["config"], "train": training} == config.to_dict())


def _build(record: Recorded) -> str:
    return str(record.facts["cohort_fingerprint"])


def _of_another_build(records: Sequence[Recorded], seed: int) -> list[Recorded]:
    """Return the records of one build of the cohort whose first training has this seed, which is that of the split."""
    for build in sorted({_build(record) for record in records}):
        of_build = [record for record in records if _build(record) == build]
        if min(map(_seed, of_build)) == seed:
            return of_build
    return []


def _seed(record: Recorded) -> int:
    return int(record.facts["config"]["train"]["seed"])


def _column(measure: str, network: str, prefix: str = "") -> str:
    return f"mean_{prefix}{measure}_{key_of(network)}"
