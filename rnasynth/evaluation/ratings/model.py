"""A mixed model of scores (group and tissue fixed, rater random), and how many raters and tiles a new study needs."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.stats
import statsmodels.api as sm
from statsmodels.stats.power import TTestPower

from rnasynth.errors import InputError

REFERENCE = "real"
MAX_RATERS = 1000


@dataclass(frozen=True, kw_only=True)
class RatingModel:
    """A fitted mixed model of scores."""

    effects: pd.DataFrame
    """Columns effect, value, low, high (points, 95 %), p: groups, each against each; tissues against the first."""
    reference: str
    """Group that the others are compared with."""
    sd_rater: float
    """SD of the raters' own levels, points."""
    sd_residual: float
    """SD of what is left: a rater's taste in groups, and the tiles behind a mean; points."""
    n_scores: int
    n_raters: int
    note: str
    """What the optimiser complained of; empty if nothing."""


def mixed_model(scores: pd.DataFrame) -> RatingModel:
    """Fit score = group + tissue + rater (random) + rest, by restricted maximum likelihood.

    Parameters
    ----------
    scores : columns tissue, group, rater, score (points; one mean a rater, tissue and group).

    Raises
    ------
    InputError : fewer than two raters or groups, or no spread at all.

    Source: Laird and Ware, Biometrics 1982, through `statsmodels.MixedLM`. Intervals are Wald's with the normal, which are
    too narrow for few raters; tests over raters are in `scores.corrected_tests`.
    """
    groups, tissues = list(dict.fromkeys(scores["group"])), list(dict.fromkeys(scores["tissue"]))
    raters = list(dict.fromkeys(scores["rater"]))
    if len(groups) < 2 or len(raters) < 2 or float(np.ptp(scores["score"])) == 0:
        found = f"{len(raters)} raters, {len(groups)} groups"
        raise InputError("mixed model", expected="two raters, two groups, and scores that differ", found=found)
    reference = REFERENCE if REFERENCE in groups else groups[0]
    others = [group for group in groups if group != reference]
    names = [f"{group} - {reference}" for group in others] + [f"{tissue} - {tissues[0]}" for tissue in tissues[1:]]
    columns = [scores["group"] == group for group in others] + [scores["tissue"] == tissue for tissue in tissues[1:]]
    design = np.column_stack([np.ones(len(scores)), *(column.to_numpy(float) for column in columns)])
    model = sm.MixedLM(scores["score"].to_numpy(float), design, groups=scores["rater"].to_numpy())
    with warnings.catch_warnings(record=True) as caught:  # a variance at its boundary is a finding, and is said in `note`
        warnings.simplefilter("always")
        fit = model.fit(reml=True)
        values = np.asarray(fit.fe_params, float)
        covariance = np.asarray(fit.cov_params(), float)[: len(values), : len(values)]
    contrasts = {name: np.eye(len(values))[place] for place, name in enumerate(names, start=1)}
    for (place, one), (other_place, other) in itertools.combinations(enumerate(others, start=1), 2):
        contrasts[f"{one} - {other}"] = np.eye(len(values))[place] - np.eye(len(values))[other_place]
    rows = []
    for name, weights in contrasts.items():
        value, error = float(weights @ values), math.sqrt(float(weights @ covariance @ weights))
        half = float(scipy.stats.norm.ppf(0.975)) * error
        rows.append((name, value, value - half, value + half, float(2 * scipy.stats.norm.sf(abs(value) / error))))
    effects = pd.DataFrame(rows, columns=["effect", "value", "low", "high", "p"])
    return RatingModel(
        effects=effects,
        reference=reference,
        sd_rater=math.sqrt(max(0.0, float(np.asarray(fit.cov_re)[0, 0]))),
        sd_residual=math.sqrt(max(0.0, float(fit.scale))),
        n_scores=len(scores),
        n_raters=len(raters),
        note="; ".join(dict.fromkeys(str(warning.message).splitlines()[0] for warning in caught)),
    )


def sd_of_difference(sd_residual: float, *, tiles: int, tiles_behind: float, tile_share: float) -> float:
    """SD over raters of the difference between two groups' means (points) when each group has `tiles` tiles.

    Parameters
    ----------
    sd_residual : of the mixed model of means over `tiles_behind` tiles.
    tile_share : share of the residual variance that comes from single tiles and so shrinks with their number, 0 to 1; the
        rest is a rater's taste in groups, which more tiles do not change. Published means alone cannot tell the two apart.
    """
    if not 0 <= tile_share <= 1 or tiles < 1 or tiles_behind <= 0:
        raise InputError("power", expected="a share of 0 to 1 and at least one tile", found=f"{tile_share}, {tiles}")
    return math.sqrt(2 * sd_residual**2 * (1 - tile_share + tile_share * tiles_behind / tiles))


def raters_needed(difference: float, sd_difference: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return the fewest raters with whom a two-sided paired t test finds `difference` (points) with this power.

    Raises
    ------
    InputError : a difference of 0, or more than 1,000 raters.
    """
    if difference == 0 or sd_difference <= 0:
        raise InputError("power", expected="a difference and a spread above 0", found=f"{difference}, {sd_difference}")
    for raters in range(2, MAX_RATERS + 1):
        if TTestPower().power(abs(difference) / sd_difference, raters, alpha, df=raters - 1) >= power:
            return raters
    raise InputError("power", expected=f"a difference that {MAX_RATERS} raters can find", found=f"{difference:g} points")


def simulated_power(
    difference: float,
    *,
    raters: int,
    tiles: int,
    model: RatingModel,
    tile_share: float,
    tiles_behind: float,
    alpha: float = 0.05,
    simulations: int = 2000,
    seed: int = 0,
) -> float:
    """Share of studies drawn from the mixed model in which a two-sided paired t test over raters gives p < `alpha`.

    Scores are drawn tile by tile (rater's level, rater's taste in a group, tile), without the limits of the scale.
    """
    generator = np.random.default_rng(seed)
    taste = model.sd_residual * math.sqrt(1 - tile_share)
    of_tile = model.sd_residual * math.sqrt(tile_share * tiles_behind)
    shape = (simulations, raters)
    level = model.sd_rater * generator.standard_normal(shape)
    means = [
        level
        + taste * generator.standard_normal(shape)
        + (of_tile * generator.standard_normal((*shape, tiles))).mean(axis=2)
        for _ in range(2)
    ]
    gap = means[0] + difference - means[1]
    t = gap.mean(axis=1) / (gap.std(axis=1, ddof=1) / math.sqrt(raters))
    return float(np.mean(2 * scipy.stats.t.sf(np.abs(t), raters - 1) < alpha))


def power_table(
    model: RatingModel,
    *,
    differences: Sequence[float] = (0.25, 0.5, 1.0),
    tiles: Sequence[int] = (3, 5, 10, 20),
    tiles_behind: float = 4.0,
    tile_share: float = 0.5,
    power: float = 0.8,
    seed: int = 0,
) -> pd.DataFrame:
    """How many raters a new study needs for a difference, by the number of tiles a group that each of them rates.

    Returns
    -------
    Columns difference (points), tiles, raters (fewest for `power`), raters_no_tile_noise, raters_all_tile_noise (the same
    if none or all of the residual comes from single tiles), simulated_power (of `raters`, drawn from the mixed model).
    """
    rows = []
    for difference in differences:
        for count in tiles:
            needed = [
                raters_needed(
                    difference,
                    sd_of_difference(model.sd_residual, tiles=count, tiles_behind=tiles_behind, tile_share=share),
                    power=power,
                )
                for share in (tile_share, 0.0, 1.0)
            ]
            found = simulated_power(
                difference,
                raters=needed[0],
                tiles=count,
                model=model,
                tile_share=tile_share,
                tiles_behind=tiles_behind,
                seed=seed,
            )
            rows.append((difference, count, *needed, found))
    names = ["difference", "tiles", "raters", "raters_no_tile_noise", "raters_all_tile_noise", "simulated_power"]
    return pd.DataFrame(rows, columns=names)
