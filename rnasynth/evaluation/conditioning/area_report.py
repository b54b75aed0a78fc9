"""What was found of the haematoxylin area of generated tiles, and what may be said of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.evaluation.stats import Interval, bootstrap, permutation_p, resampling_units, spearman

ENCODER_MARGIN = 0.05  # a latent whose ridge regression lies further than this below that of the genes is the bottleneck
AREA_MARGIN = 0.05  # a mean area further than this from the real one is called too dark or too light


@dataclass(frozen=True, eq=False)
class AreaReport:
    """What was found. All correlations are Spearman's, with the area of the same samples' real tiles.

    Attributes
    ----------
    numbers : `follow` (generated tiles), `follow_within` (the same after each stratum's mean rank is taken off),
        `follow_shuffled` (profiles shuffled within the strata: mean, and 2.5 and 97.5 percentiles over the shuffles),
        `ridge_genes`, `ridge_latent` (no image is made), `latent_minus_genes`, `follow_minus_genes`, `real_halves` (one half
        of a sample's real tissue against the other), `area_real`, `area_generated`, `area_difference` (generated - real).
        Without an encoder those of the latent are missing.
    labels : the same keys -> words for a chart.
    p : one-sided, of `follow` against profiles shuffled within the strata.
    strata : within what profiles were shuffled: "tissue" or "section".
    unit : what the intervals resample, see `stats.resampling_units`.
    mpp_um : um/px at which areas were measured. tiles_per_profile : generated tiles of each profile.
    table : one row a sample: sample_id, tissue, group, real, generated (NaN where no tile was made), ridge_genes,
        ridge_latent. Correlations of ridge regression are over all of them, those of generated tiles over the others.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    p: float
    strata: str
    unit: str
    mpp_um: float
    tiles_per_profile: int
    table: pd.DataFrame = field(repr=False)

    @property
    def follows(self) -> bool:
        """Whether the area follows the profile: above all but 2.5 % of the shuffles, and its interval above their mean."""
        own, shuffled = self.numbers["follow"], self.numbers["follow_shuffled"]
        return bool(own.value > shuffled.high and own.low > shuffled.value and self.p <= 0.05)

    @property
    def encoder_is_bottleneck(self) -> bool | None:
        """Whether ridge from the latent lies more than 0.05 below ridge from the genes; None without an encoder."""
        found = self.numbers.get("latent_minus_genes")
        return None if found is None else bool(found.value < -ENCODER_MARGIN)

    @property
    def area_is_right(self) -> bool:
        """Whether the mean areas of generated and real tiles lie within 0.05 of each other."""
        return bool(abs(self.numbers["area_difference"].value) <= AREA_MARGIN)

    @property
    def correlations(self) -> pd.DataFrame:
        """One row a correlation for `plots.intervals`: label, value, low, high."""
        names = ("follow", "follow_shuffled", "ridge_latent", "ridge_genes", "real_halves")
        return self._rows([name for name in names if name in self.numbers])

    @property
    def areas(self) -> pd.DataFrame:
        """The two mean areas for `plots.intervals`: label, value, low, high."""
        return self._rows(["area_real", "area_generated"])

    @property
    def points(self) -> pd.DataFrame:
        """One row a sample for `plots.scatter_against`: x (real area), y (generated area), group (tissue)."""
        return self.table.dropna(subset=["generated"])[["real", "generated", "tissue"]].set_axis(["x", "y", "group"], axis=1)

    def _rows(self, names: list[str]) -> pd.DataFrame:
        found = [(self.labels[name], self.numbers[name]) for name in names]
        return pd.DataFrame([{"label": label, "value": i.value, "low": i.low, "high": i.high} for label, i in found])

    def verdict(self) -> str:
        """Say whether the area follows the profile, and how the mean area lies, from the intervals alone."""
        n = self.numbers
        told = [
            f"the haematoxylin area of the tiles {'follows' if self.follows else 'is not shown to follow'} the profile:"
            f" Spearman's correlation with the real tiles is {n['follow']}, with profiles shuffled in the {self.strata}"
            f" {n['follow_shuffled']} (p = {self.p:.3g}), and ridge regression from the genes, without an image, reaches"
            f" {n['ridge_genes']}"
        ]
        off = n["area_difference"]
        if not self.area_is_right:
            shade = f"too {'dark' if off.value > 0 else 'light'} by more than {AREA_MARGIN:g}"
        else:
            shade = f"within {AREA_MARGIN:g}"
        if off.low > 0 or off.high < 0:
            shade += f", measurably {'darker' if off.value > 0 else 'lighter'}"
        else:
            shade += ", not measurably different"
        told.append(f"mean area {n['area_generated']} generated, {n['area_real']} real: {shade} (difference {off})")
        words = ("" if self.unit == "split groups" else "within one split group alone, ") + "; ".join(told) + "."
        return words[0].upper() + words[1:]

    def encoder_verdict(self) -> str:
        """Say whether the encoder is the bottleneck, by the difference of the two ridge regressions."""
        if "latent_minus_genes" not in self.numbers:
            return "This generator is given no latent: there is no encoder to judge."
        off = self.numbers["latent_minus_genes"]
        sure = off.high < -ENCODER_MARGIN or off.low >= -ENCODER_MARGIN
        told = (
            f"it is more than {ENCODER_MARGIN:g} worse: the encoder is the bottleneck"
            if self.encoder_is_bottleneck
            else f"it is within {ENCODER_MARGIN:g}: the encoder is not the bottleneck"
        )
        return (
            f"Ridge regression of the area from the latent reaches {self.numbers['ridge_latent']}, from the genes"
            f" {self.numbers['ridge_genes']} (difference {off}); {told}"
            + (
                "."
                if sure
                else f", though the interval does not exclude {'less' if self.encoder_is_bottleneck else 'more'}."
            )
        )


def area_report(
    table: pd.DataFrame,
    halves: NDArray[np.float64],
    *,
    strata: str,
    mpp_um: float,
    tiles_per_profile: int,
    seed: int,
    n_boot: int,
    n_permutations: int,
) -> AreaReport:
    """Make the report from areas that are already there.

    Parameters
    ----------
    table : columns sample_id, tissue, group, real, generated (NaN where no tile was made), ridge_genes and, where there is
        an encoder, ridge_latent.
    halves : area of two halves of each sample's real tissue, shape (N, 2).
    strata : "section" shuffles profiles within `group`, "tissue" within `tissue`.
    mpp_um, tiles_per_profile : for the report. seed, n_boot, n_permutations : of intervals and shuffles.
    """
    shown = table[table["generated"].notna()]
    _, unit = resampling_units(table["group"].to_numpy(dtype=str))

    def interval(statistic: Any, rows: pd.DataFrame, *columns: NDArray[Any]) -> Interval:
        units, _ = resampling_units(rows["group"].to_numpy(dtype=str))
        return bootstrap(statistic, *columns, groups=units, n_boot=n_boot, seed=seed)

    def less(reference: NDArray[Any], one: NDArray[Any], other: NDArray[Any]) -> float:
        return spearman(one, reference) - spearman(other, reference)

    real, made, genes = (shown[name].to_numpy() for name in ("real", "generated", "ridge_genes"))
    within = shown["group" if strata == "section" else "tissue"].to_numpy(dtype=str)
    numbers = {
        "follow": interval(spearman, shown, made, real),
        "follow_within": interval(_spearman_within, shown, made, real, within),
        "follow_shuffled": _shuffled(made, real, within, n_permutations, seed),
        "follow_minus_genes": interval(less, shown, real, made, genes),
        "real_halves": interval(spearman, table, halves[:, 0], halves[:, 1]),
        "area_real": interval(np.mean, shown, real),
        "area_generated": interval(np.mean, shown, made),
        "area_difference": interval(np.mean, shown, made - real),
    }
    every, genes = table["real"].to_numpy(), table["ridge_genes"].to_numpy()
    numbers["ridge_genes"] = interval(spearman, table, genes, every)
    if "ridge_latent" in table:
        latent = table["ridge_latent"].to_numpy()
        numbers["ridge_latent"] = interval(spearman, table, latent, every)
        numbers["latent_minus_genes"] = interval(less, table, every, latent, genes)
    p = permutation_p(spearman, real, made, within=within, n_permutations=n_permutations, seed=seed)
    labels = {
        "follow": "generated from the own profile",
        "follow_within": f"generated, within the {strata}",
        "follow_shuffled": f"profiles shuffled in the {strata}",
        "ridge_genes": "ridge regression from the genes",
        "ridge_latent": "ridge regression from the latent",
        "latent_minus_genes": "latent minus genes, by ridge regression",
        "follow_minus_genes": "generated minus ridge regression from the genes",
        "real_halves": "one half of the real tissue, by the other",
        "area_real": "real",
        "area_generated": "generated",
        "area_difference": "generated minus real",
    }
    return AreaReport(numbers, labels, p, strata, unit, mpp_um, tiles_per_profile, table)


def _spearman_within(x: NDArray[Any], y: NDArray[Any], strata: NDArray[Any]) -> float:
    """Correlation of the ranks inside each stratum, each stratum's mean rank taken off."""
    ranks = pd.DataFrame({"x": x, "y": y}).groupby(np.asarray(strata)).rank()
    centred = ranks - ranks.groupby(np.asarray(strata)).transform("mean")
    spread = float(np.sqrt((centred["x"] ** 2).sum() * (centred["y"] ** 2).sum()))
    return float((centred["x"] * centred["y"]).sum() / spread) if spread > 0 else math.nan


def _shuffled(made: NDArray[Any], real: NDArray[Any], within: NDArray[Any], n_permutations: int, seed: int) -> Interval:
    """Mean and 2.5 and 97.5 percentiles of the correlation over shuffles of the profiles within the strata."""
    generator = np.random.default_rng(seed + 1)
    members = [np.flatnonzero(within == name) for name in np.unique(within)]
    found = []
    for _ in range(n_permutations):
        order = np.arange(len(made))
        for rows in members:
            order[rows] = generator.permutation(rows)
        found.append(spearman(made[order], real))
    if not np.isfinite(found).any():
        return Interval(math.nan, math.nan, math.nan, len(made), "no correlation of a constant")
    low, high = np.nanquantile(found, [0.025, 0.975])
    words = f"mean and 95% of {n_permutations} shuffles of the profiles"
    return Interval(float(np.nanmean(found)), float(low), float(high), len(made), words)
