"""What page 14 says about RNA-GAN's printed ratings, in numbers and sentences made from the analysis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import scipy.stats

from rnasynth.evaluation.ratings import trials as rating_trials
from rnasynth.evaluation.ratings.study import RatingStudy
from rnasynth.evaluation.stats import Interval

MEASURES = {
    "icc_single": "ICC(2,1), one rater",
    "icc_mean": "ICC(2,k), mean of all raters",
    "alpha": "Krippendorff's alpha, interval metric",
    "kendall_w": "Kendall's W",
}
IDS = {  # comparison -> id of the published row
    ("lung", "RNA-GAN", "GAN"): "p_lung_rna_gan_over_gan",
    ("lung", "real", "RNA-GAN"): "p_lung_real_vs_rna_gan",
    ("brain", "real", "GAN"): "p_brain_real_vs_gan",
    ("brain", "real", "RNA-GAN"): "p_brain_real_vs_rna_gan",
    ("brain", "RNA-GAN", "GAN"): "p_brain_rna_gan_vs_gan",
}
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What the printed numbers say about how they came about."""

    counts: pd.DataFrame
    """Columns printed number, tiles a group, answers, nearest count, percent, fits."""
    scale_note: str
    """On the scale, and the scores below it."""
    counts_note: str
    """On the numbers of tiles."""
    tissue_pattern: tuple[int, ...]
    """Right answers of each rater to the tissue question for GAN tiles, where exactly one set fits; else empty."""
    tissue_tiles: int
    """Tiles a group behind `tissue_pattern`."""


def slug(*words: str) -> str:
    """Return words as a page's number is named.

    Examples
    --------
    >>> slug("RNA-GAN", "brain")
    'rna_gan_brain'
    """
    return "_".join(word.lower().replace("-", "_") for word in words)


def mean_numbers(means: pd.DataFrame) -> dict[str, float]:
    """Return the mean score of each group and tissue by the id of its published row."""
    return {f"rating_{slug(row['group'], row['tissue'])}": row["mean"] for row in means.to_dict("records")}


def means_table(table: pd.DataFrame, means: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the means beside the printed ones, and in words whether those were rounded or cut.

    Parameters
    ----------
    table, means : as `scores.read_ratings` and `scores.describe` return them.
    """
    printed = table.loc[table["question"] == "mean quality", ["tissue", "group", "printed", "spread"]]
    shown = means.merge(printed.rename(columns={"printed": "printed mean", "spread": "printed SD"}), how="left")
    pairs = [(row["mean"], row["printed mean"]) for row in shown.to_dict("records")]
    pairs += [(row["sd"], row["printed SD"]) for row in shown.to_dict("records")]
    cut = sum(math.floor(value * 100 + 1e-6) == round(given * 100) for value, given in pairs if math.isfinite(given))
    rounded = sum(rating_trials.printed_as(value, given, 2) == "rounded" for value, given in pairs if math.isfinite(given))
    note = (
        f"Of the {len(pairs)} printed means and SDs {cut} are these with the further digits cut off, and {rounded} are "
        "these rounded: the paper's numbers are cut."
        if cut > rounded
        else f"Of the {len(pairs)} printed means and SDs {rounded} are these rounded, and {cut} these cut."
    )
    return shown.rename(columns={"below_1": "scores below 1"}), note


def effect_numbers(effects: pd.DataFrame) -> dict[str, Interval]:
    """Return Hedges' g of each comparison by a name."""
    return {f"g_{slug(row['tissue'], row['group'], row['against'])}": row["g"] for row in effects.to_dict("records")}


def tiles_behind(table: pd.DataFrame) -> float:
    """Harmonic mean of the tiles behind the scores, as the leftover variance of a mean over tiles averages them."""
    tiles = table.loc[table["question"] == "quality", "tiles"]
    return float(1 / (1 / tiles).mean())


def check_arithmetic(table: pd.DataFrame) -> Arithmetic:
    """Compare the printed scores with the scale and the number of tiles that the paper states.

    Parameters
    ----------
    table : as `scores.read_ratings` returns it.
    """
    scores = table[table["question"] == "quality"]
    raters = scores["rater"].nunique()
    lowest = float(table.loc[table["question"] == "scale", "printed"].iloc[0])
    shown = int(table.loc[table["question"] == "tiles", "printed"].iloc[0])
    cells = scores.groupby(["tissue", "group"]).ngroups
    tissues = scores["tissue"].nunique()
    stated = shown // cells
    implied = scores.groupby("tissue", sort=False)["tiles"].max().astype(int)
    below = scores[scores["printed"] < lowest]
    listed = ", ".join(f"{row.printed:g} ({row.tissue}, {row.group})" for row in below.itertuples())
    scale_note = (
        f"Two scales that conflict. The form offered {lowest:g} (very bad) to 5 (very good), so no mean can lie below "
        f"{lowest:g}; yet {len(below)} of the {len(scores)} printed means do: {listed}. A scale from 0 would allow them. "
        "They are used as printed; tests of differences do not change if all scores are shifted."
        if len(below)
        else f"All scores lie on the scale that the form offered, from {lowest:g} to 5."
    )
    sizes = sorted({tissues * stated, int(implied.sum()), *(tissues * int(n) for n in implied)})
    parts = []
    for row in table[table["question"] == "artefacts seen"].to_dict("records"):
        fits = rating_trials.fitting_counts(row["printed"], [raters * size for size in sizes])
        fits.insert(0, "tiles a group, both tissues", sizes)
        fits.insert(0, "printed", f"artefacts, {row['group']}: {row['printed']:g} %")
        parts.append(fits)
    counts = pd.concat(parts, ignore_index=True).assign(fits=lambda rows: rows["fits"].replace("", "no"))
    gan = table[(table["question"] == "tissue named") & (table["group"] == "GAN")].iloc[0]
    search = rating_trials.fitting_accuracies
    patterns = {size: search(gan["printed"], gan["spread"], raters=raters, tiles=size) for size in sizes}
    fitting = [(counts, size) for size, found in patterns.items() for counts in found]
    pattern, tissue_tiles = fitting[0] if len(fitting) == 1 else ((), 0)
    return Arithmetic(
        counts=counts,
        scale_note=scale_note,
        counts_note=_counts_note(shown, stated, implied, gan, patterns),
        tissue_pattern=pattern,
        tissue_tiles=tissue_tiles,
    )


def artefacts_p(checks: Arithmetic) -> pd.DataFrame:
    """Return Fisher's exact two-sided p of RNA-GAN against GAN tiles with artefacts, for each possible number of tiles.

    Every answer is taken as independent, which answers of one rater, or to one tile, are not: a rough guide.
    """
    rows = []
    for size, part in checks.counts.groupby("tiles a group, both tissues"):
        yes = {name: part.loc[part["printed"].str.contains(f", {name}:"), "yes"].iloc[0] for name in ("RNA-GAN", "GAN")}
        n = int(part["answers"].iloc[0])
        table = [[count, n - count] for count in yes.values()]
        rows.append((size, n, *yes.values(), float(scipy.stats.fisher_exact(table).pvalue)))
    return pd.DataFrame(rows, columns=["tiles a group, both tissues", "answers", "RNA-GAN yes", "GAN yes", "p"])


def answers_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return what is printed of the tissue question and the artefact question, per cent over raters."""
    rows = table[table["question"].isin(["tissue named", "artefacts seen"])]
    return pd.DataFrame(
        {"question": rows["question"], "tiles": rows["group"], "printed (%)": rows["printed"], "printed SD": rows["spread"]}
    )


def _counts_note(
    shown: int, stated: int, implied: pd.Series, gan: pd.Series, patterns: Mapping[int, list[tuple[int, ...]]]
) -> str:
    steps = ", ".join(f"{tissue}: 1/{tiles} of a point" for tissue, tiles in implied.items())
    text = f"{shown} tiles were shown, {stated} a group and tissue; the printed scores move in these steps: {steps}"
    text += f", which takes {int(implied.sum())} tiles a group over both tissues instead of {len(implied) * stated}."
    text += f" Tissue question, GAN tiles: {gan['printed']:g} ± {gan['spread']:g} % right. "
    for size, found in patterns.items():
        if not found:
            text += f"No set of answers to {size} tiles a rater gives this. "
        for counts in found:
            text += f"With {size} tiles a rater (both tissues) this is {', '.join(map(str, counts))} right of {size}. "
    return text.strip()


def trials_table(found: pd.DataFrame) -> pd.DataFrame:
    """Return `trials.explain`'s table for readers."""
    return pd.DataFrame(
        {
            "comparison": [f"{row.tissue}: {row.group}, {row.against}" for row in found.itertuples()],
            "published p": found["published"],
            "one-sided paired t, all raters": found["one_sided"],
            "two-sided paired t, all raters": found["two_sided"],
            "tests on all raters that give it": found["giving_it"],
            "what gives it": found["way"].replace("", "none of the tests tried"),
            "its p": found["way_p"],
        }
    )


def p_numbers(found: pd.DataFrame) -> dict[str, float]:
    """Return p of the one-sided paired t test on all raters, by the id of the published row."""
    return {IDS[row["tissue"], row["group"], row["against"]]: row["one_sided"] for row in found.to_dict("records")}


def trials_note(trials: pd.DataFrame, found: pd.DataFrame) -> str:
    """Say in words which published p values come out, how, and how many trials stand behind that."""
    plain = found[found["giving_it"] > 0]
    part = found[(found["giving_it"] == 0) & (found["way"] != "")]
    none = found[found["way"] == ""]
    text = f"{len(trials):,} tests were tried. With all raters {len(plain)} of the {len(found)} published p values come out"
    text += f" ({_values(plain)}): {plain['way'].iloc[0]}." if len(plain) else "."
    if len(part):
        text += f" For {_values(part)} no test on all raters gives the printed number, one-sided or two-sided."
        for way, rows in part.groupby("way", sort=False):
            text += f" {'It comes' if len(rows) == 1 else f'All of {_values(rows)} come'} out as: {way}."
        shared = part.groupby("way").size().max()
        if shared > 1:
            text += (
                f" Among so many trials a single p is easily hit by chance; that {shared} are hit by one and the same test "
                "is hard to lay to chance, but why a rater would be missing there the paper does not say."
            )
    if len(none):
        text += f" None of the tests gives {_values(none)}."
    return text


def _values(rows: pd.DataFrame) -> str:
    return ", ".join(f"{value:g}" for value in rows["published"])


def standard_note(study: RatingStudy) -> str:
    """Say in words what two-sided tests find before and after Holm's correction."""
    tests = study.tests
    raw, holm = int((tests["t_p"] < ALPHA).sum()), int((tests["t_p_holm"] < ALPHA).sum())
    ranked, ranked_holm = int((tests["wilcoxon_p"] < ALPHA).sum()), int((tests["wilcoxon_p_holm"] < ALPHA).sum())
    floor = 2.0 ** (1 - study.model.n_raters)
    return (
        f"Of {len(tests)} two-sided paired t tests {raw} have p < {ALPHA}, after Holm's correction {holm}; of Wilcoxon's "
        f"tests {ranked} and {ranked_holm}. With {study.model.n_raters} raters Wilcoxon's smallest possible p is "
        f"{floor:.3g}, so {len(tests)} corrected comparisons could not have fallen below {min(1.0, floor * len(tests)):.3g}."
    )


def effects_table(study: RatingStudy) -> pd.DataFrame:
    """Return the effect sizes of all comparisons for readers, each with its interval."""
    rows = study.effects
    return pd.DataFrame(
        {
            "comparison": [_comparison(row) for row in rows.to_dict("records")],
            "difference (points)": rows["difference"].map(str),
            "Hedges' g": rows["g"].map(str),
            "Cliff's delta": rows["delta"].map(str),
        }
    )


def corrected_table(study: RatingStudy) -> pd.DataFrame:
    """Return p of all comparisons for readers, alone and with Holm's correction."""
    rows = study.tests
    return pd.DataFrame(
        {
            "comparison": [_comparison(row) for row in rows.to_dict("records")],
            "paired t, p": rows["t_p"],
            "with Holm": rows["t_p_holm"],
            "Wilcoxon, p": rows["wilcoxon_p"],
            "with Holm ": rows["wilcoxon_p_holm"],
        }
    )


def _comparison(row: Mapping[Any, Any]) -> str:
    return f"{row['tissue']}: {row['group']} - {row['against']}"


def power_shown(power: pd.DataFrame) -> pd.DataFrame:
    """Return `model.power_table`'s table for readers."""
    names = {
        "difference": "difference (points)",
        "tiles": "tiles a group",
        "raters_no_tile_noise": "raters, no share from tiles",
        "raters_all_tile_noise": "raters, all from tiles",
        "simulated_power": "power, simulated",
    }
    return power.rename(columns=names)


def agreement_table(found: Mapping[str, Interval]) -> pd.DataFrame:
    """Return the coefficients of agreement for readers."""
    rows = []
    for name, interval in found.items():
        known = math.isfinite(interval.low) and interval.low < interval.high
        rows.append((MEASURES[name], interval.value, *((interval.low, interval.high) if known else (math.nan, math.nan))))
    table = pd.DataFrame(rows, columns=["coefficient", "value", "low", "high"])
    return table.assign(how=[interval.method for interval in found.values()])


def power_note(power: pd.DataFrame, tile_share: float) -> str:
    """Say in words what a new study needs, from `model.power_table`."""
    half = power.iloc[(power["difference"] - 0.5).abs().argsort(kind="stable")]
    half = half[half["difference"] == half["difference"].iloc[0]].sort_values("tiles")
    few, many = half.iloc[0], half.iloc[-1]
    text = (
        f"To find a difference of {few['difference']:g} points, {few['raters']:.0f} raters must score {few['tiles']:.0f} "
        f"tiles a group, or {many['raters']:.0f} raters {many['tiles']:.0f} tiles, if {tile_share:.0%} of the leftover "
        f"variance comes from single tiles."
    )
    return text + (
        f" The extremes for {many['tiles']:.0f} tiles are {many['raters_all_tile_noise']:.0f} (all of it) and "
        f"{many['raters_no_tile_noise']:.0f} (none). Several comparisons, or tiles that should stand for a model, need more."
    )


def reasons(found: pd.DataFrame, checks: Arithmetic) -> dict[str, str]:
    """Return for published rows the reason why a number differs, or why it was not attempted."""
    because = {}
    for row in found.to_dict("records"):
        if not rating_trials.printed_as(row["one_sided"], row["published"]):
            because[IDS[row["tissue"], row["group"], row["against"]]] = (
                f"the printed p is that of: {row['way']} ({row['way_p']:.4f})"
                if row["way"]
                else "no test that was tried gives it"
            )
    single = "answers to single tiles are not published"
    for name in ("real", "rna_gan", "gan"):
        because[f"artefacts_{name}"] = f"{single}; the table of counts shows which numbers of tiles it fits"
        because[f"tissue_named_{name}"] = single
    if checks.tissue_pattern:
        pattern = ", ".join(map(str, checks.tissue_pattern))
        because["tissue_named_gan"] = (
            f"{single}; it fits {pattern} right of {checks.tissue_tiles} tiles a rater, and nothing else"
        )
    return because
