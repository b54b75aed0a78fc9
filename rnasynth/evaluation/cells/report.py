"""Nuclei models on trial: against the simulator's masks, MoNuSeg's outlines and MoNuSAC's classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError
from rnasynth.evaluation.cells.classes import OF_KIND
from rnasynth.evaluation.cells.matching import mean_over_patients
from rnasynth.evaluation.cells.nuclei import NucleiModel, find_nuclei
from rnasynth.evaluation.cells.study import class_accuracy, confusion
from rnasynth.evaluation.cells.truth import MONUSAC, class_table, detection_table, monusac, monuseg, simulated
from rnasynth.evaluation.stats import Interval, bootstrap

SHIFT_UM = 5.0  # of the control: further than the radius of matching, about a nucleus
WANTED_F1 = 0.75  # on MoNuSeg, from 20x, patients held out


@dataclass(frozen=True, eq=False)
class TruthReport:
    """How well nuclei are found and named where the truth is known.

    Attributes
    ----------
    numbers, labels : name -> interval over patients, and what it is in words.
    chart : rows for a chart of intervals: label, group, value, low, high.
    table : a table of the same trial (counts a class, or a confusion), empty where there is none.
    points : rows for a scatter plot (x there, y found, group class), empty where there is none.
    patients, fields : how many.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    chart: pd.DataFrame
    table: pd.DataFrame
    points: pd.DataFrame
    patients: int
    fields: int


def on_simulated(model: NucleiModel, cohort: Cohort, *, n_tiles: int = 120, n_boot: int = 500, seed: int = 0) -> TruthReport:
    """Judge a model on tiles of simulated test patients, the same number of each patient.

    Numbers: F1 and aggregated Jaccard index; F1 when what was found is shifted; and for each class the correlation of
    patients' counts a tile (found against there), and the ratio of found to there.

    Raises
    ------
    InputError : the cohort is not simulated.
    """
    if not cohort.simulated or cohort.tiles is None:
        raise InputError(f"cohort {cohort.name}", expected="a simulated one, with tiles", found="another")
    index = cohort.tiles.index
    names = cohort.only("test").profiles.obs["sample_id"].astype(str).to_numpy()
    each = max(1, n_tiles // len(names))
    rows = [int(row) for name in names for row in np.flatnonzero((index["sample_id"].astype(str) == name).to_numpy())[:each]]
    fields = simulated(cohort, rows)
    numbers, labels, chart = _detected("sim", {"simulated tiles": detection_table(model, fields)}, n_boot, seed)
    shifted = detection_table(model, fields, shift_um=SHIFT_UM)
    numbers["sim_f1_shifted"] = mean_over_patients(shifted["f1"].tolist(), shifted["patient"].tolist(), seed=seed)
    labels["sim_f1_shifted"] = f"F1, simulated tiles, found nuclei shifted by {SHIFT_UM:g} um (control)"
    there, found = _counts(model, cohort, rows)
    patients = index["patient_id"].astype(str).to_numpy()[rows]
    lines = []
    for name in model.classes:
        a, b = (values.groupby(patients)[name].mean().to_numpy(np.float64) for values in (there, found))
        together = bootstrap(_pearson, a, b, n_boot=n_boot, seed=seed)
        ratio = bootstrap(_ratio, a, b, n_boot=n_boot, seed=seed)
        for what, value in (("r", together), ("ratio", ratio)):
            numbers[f"sim_{name}_{what}"] = value
        labels[f"sim_{name}_r"] = f"correlation of counts over patients, {name}, simulated"
        labels[f"sim_{name}_ratio"] = f"nuclei found / there, {name}, simulated"
        lines.append(
            {"class": name, "there, a tile": a.mean(), "found, a tile": b.mean(), "ratio": str(ratio), "r": str(together)}
        )
    whole = [table.groupby(patients).mean() for table in (there, found)]
    points = [pd.DataFrame({"x": whole[0][name], "y": whole[1][name], "group": name}) for name in model.classes]
    return TruthReport(
        numbers, labels, chart, pd.DataFrame(lines), pd.concat(points, ignore_index=True), len(names), len(fields)
    )


def on_monuseg(models: Mapping[str, NucleiModel], folder: Path, *, n_boot: int = 500, seed: int = 0) -> TruthReport:
    """Judge models on the held-out half of MoNuSeg's patients, from 20x; the first also from 40x, and shifted.

    Parameters
    ----------
    models : words -> model; the first is the one that numbers are kept of under plain names.
    folder : see `truth.truth_folder`.
    """
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    charts, patients, count = [], 0, 0
    for scale, mpp_um in (("20x", 0.5), ("40x", 0.25)):
        fields = monuseg(folder, "held out", mpp_um=mpp_um)
        patients, count = len({field.patient for field in fields}), len(fields)
        for place, (words, model) in enumerate(models.items()):
            if place and scale == "40x":
                continue
            tables = {f"MoNuSeg from {scale}": detection_table(model, fields)}
            prefix = f"monuseg_{scale}" + (f"_{place}" if place else "")
            own, named, chart = _detected(prefix, tables, n_boot, seed, group=words)
            numbers |= own
            labels |= {name: f"{text}, {words}" for name, text in named.items()}
            charts.append(chart)
        if scale == "20x":
            shifted = detection_table(next(iter(models.values())), fields, shift_um=SHIFT_UM)
            numbers["monuseg_20x_f1_shifted"] = mean_over_patients(
                shifted["f1"].tolist(), shifted["patient"].tolist(), n_boot=n_boot, seed=seed
            )
            labels["monuseg_20x_f1_shifted"] = f"F1, MoNuSeg from 20x, found nuclei shifted by {SHIFT_UM:g} um (control)"
    empty = pd.DataFrame()
    return TruthReport(numbers, labels, pd.concat(charts, ignore_index=True), empty, empty, patients, count)


def on_monusac(model: NucleiModel, folder: Path, *, n_boot: int = 500, seed: int = 0) -> TruthReport:
    """Judge the names that a model gives nuclei of MoNuSAC's held-out patients, from 20x.

    Numbers: share named right of the classes that both know (epithelial, lymphocyte), and the mean of these.
    """
    fields = monusac(folder, "held out")
    table = class_table(model, fields)
    shared = [name for name in MONUSAC.values() if name in model.classes]
    found = class_accuracy(table, shared, n_boot=n_boot, seed=seed)
    numbers = {f"monusac_{name}": value for name, value in found.items()}
    labels = {f"monusac_{name}": f"share named right, {name}, MoNuSAC" for name in shared}
    labels["monusac_balanced"] = f"mean of the shares named right ({', '.join(shared)}), MoNuSAC"
    chart = [{"label": labels[name], "value": v.value, "low": v.low, "high": v.high} for name, v in numbers.items()]
    matrix = confusion(table, there=list(MONUSAC.values()), named=model.classes)
    return TruthReport(
        numbers, labels, pd.DataFrame(chart), matrix, pd.DataFrame(), len({field.patient for field in fields}), len(fields)
    )


def _detected(
    prefix: str, tables: Mapping[str, pd.DataFrame], n_boot: int, seed: int, group: str = ""
) -> tuple[dict[str, Interval], dict[str, str], pd.DataFrame]:
    numbers, labels, rows = {}, {}, []
    for words, table in tables.items():
        for key, name in (("f1", "F1"), ("aji", "aggregated Jaccard index")):
            value = mean_over_patients(table[key].tolist(), table["patient"].tolist(), n_boot=n_boot, seed=seed)
            numbers[f"{prefix}_{key}"] = value
            labels[f"{prefix}_{key}"] = f"{name}, {words}"
            rows.append(
                {"label": f"{name}, {words}", "group": group, "value": value.value, "low": value.low, "high": value.high}
            )
    return numbers, labels, pd.DataFrame(rows)


def _counts(model: NucleiModel, cohort: Cohort, rows: list[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return counts there and found: a row a tile, a column a class. There: nuclei whose centre lies in the tile."""
    assert cohort.tiles is not None
    index = cohort.tiles.index
    nuclei = cohort.truth["nuclei"]
    nuclei = nuclei[nuclei["centre_inside"]]
    classes = nuclei["kind"].astype(str).map(OF_KIND)
    table = pd.crosstab([nuclei["slide_id"].astype(str), nuclei["tile"]], classes)
    keys = [(str(index["slide_id"].iloc[row]), int(index["tile"].iloc[row])) for row in rows]
    there = table.reindex(index=pd.MultiIndex.from_tuples(keys), columns=list(model.classes), fill_value=0)
    found = [
        find_nuclei(cohort.tiles.read(row), model, mpp_um=float(index["mpp_um"].iloc[row])).counts(model.classes)
        for row in rows
    ]
    return there.reset_index(drop=True), pd.DataFrame(found, columns=list(model.classes))


def _pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _ratio(there: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    return float(found.sum() / there.sum()) if there.sum() else math.nan
