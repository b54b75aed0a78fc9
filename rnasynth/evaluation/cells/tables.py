"""What a study of cells is shown as: numbers, chart rows and tables, of some generators beside the same real tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.evaluation.cells.composition import Comparison, Empty, composition
from rnasynth.evaluation.cells.nuclei import Nuclei
from rnasynth.evaluation.cells.study import SETS, CellStudy
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import Interval

Example = tuple[NDArray[np.uint8], Nuclei]
IN_CHARTS = {"real": "real", "coarse": "real, coarse"}  # short, as a legend has little room; a generator has its own name


def set_words(name: str, generator: str = "") -> str:
    """Return a set of tiles (see `SETS`) in words, with the generator's name."""
    return f"{SETS[name]} by {generator}" if name == "generated" and generator else SETS[name]


def numbers_of(results: CellStudy, generator: str) -> list[tuple[str, str, float | Interval]]:
    """Return key, label and number of what a study found, where it is defined; keys of generated tiles end in the generator.

    Nuclei a tile as a share of the real tiles'; the share of percentages that are equivalent (not with fewer than three
    patients of every tissue); the correlation with the real percentages, of means and within tissues (not of one patient,
    or without nuclei).
    """
    numbers: list[tuple[str, str, float | Interval]] = []
    for name, compared in results.comparisons.items():
        key = f"generated_{key_of(generator)}" if name == "generated" else name
        words = set_words(name, generator)
        numbers.append(
            (f"nuclei_{key}", f"nuclei a tile, {words}, as a share of the real tiles'", results.nuclei_ratio[name])
        )
        if not math.isnan(compared.equivalent):
            numbers.append((f"equivalent_{key}", f"share of percentages equivalent, {words}", compared.equivalent))
        for kind, interval in (("means", compared.correlation), ("within", compared.within)):
            if not math.isnan(interval.high):
                numbers.append((f"r_{kind}_{key}", f"correlation with the real percentages ({kind}), {words}", interval))
    return numbers


def composition_rows(studies: Mapping[str, CellStudy]) -> pd.DataFrame:
    """Return rows for a chart of intervals: label (tissue: class), group (see `IN_CHARTS`), value, low, high (percent).

    Parameters
    ----------
    studies : generator -> its study; the real tiles, and these at the generator's pixel size, are the first one's.
    """
    rows = []
    for number, (generator, results) in enumerate(studies.items()):
        for name, found in results.comparisons.items():
            if number and name == "coarse":
                continue
            for row in found.table.to_dict("records"):
                label = f"{row['tissue']}: {row['class']}"
                for which, side in [("real", "real"), (name, "other")] if name == "coarse" else [(name, "other")]:
                    ends = {key: row[f"{side}{end}"] for key, end in (("value", ""), ("low", "_low"), ("high", "_high"))}
                    group = generator if which == "generated" else IN_CHARTS[which]
                    rows.append({"label": label, "group": group, **ends})
    return pd.DataFrame(rows).sort_values("label", kind="stable")


def examples(studies: Mapping[str, CellStudy]) -> tuple[dict[str, list[Example]], dict[str, float]]:
    """Return set in words -> its example tiles with their nuclei, and -> their um/px; argument as for `composition_rows`."""
    first = next(iter(studies.values()))
    sets = {set_words(name): (name, first) for name in ("real", "coarse")}
    sets |= {set_words("generated", name): ("generated", found) for name, found in studies.items()}
    shown = {words: found.examples[name] for words, (name, found) in sets.items()}
    return shown, {words: found.mpp_um[name] for words, (name, found) in sets.items()}


def comparisons(studies: Mapping[str, CellStudy]) -> dict[str, Comparison]:
    """Return set in words -> its comparison with the real tiles; arguments as for `composition_rows`."""
    first = next(iter(studies.values()))
    made = {set_words("generated", name): found.comparisons["generated"] for name, found in studies.items()}
    return {set_words("coarse"): first.comparisons["coarse"], **made}


def equivalence_table(found: Comparison) -> pd.DataFrame:
    """Show a comparison for readers: a row a tissue and class."""
    table = found.table
    return pd.DataFrame(
        {
            "tissue": table["tissue"],
            "class": table["class"],
            "real (%)": table["real"],
            "other (%)": table["other"],
            "difference, 90 %": [
                f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]" for row in table.itertuples(index=False)
            ],
            "p, equivalence": table["p"],
            "p, difference": table["p_difference"],
            "verdict": table["verdict"],
            "n": table["n"],
        }
    )


def empty_table(studies: Mapping[str, CellStudy], other: Empty) -> pd.DataFrame:
    """Return for each set of tiles the share without nuclei, and the mean percentages both ways of counting these.

    Parameters
    ----------
    studies, other : as for `composition_rows`; the other way of counting.
    """
    rows = []
    sets = [
        (generator, results, name)
        for number, (generator, results) in enumerate(studies.items())
        for name in results.compositions
        if not number or name == "generated"
    ]
    for generator, results, name in sets:
        own = results.compositions[name]
        again = composition(
            results.counts[name],
            classes=own.classes,
            patients=own.tiles["patient"],
            tissues=own.tiles["tissue"],
            empty=other,
        )
        row: dict[str, object] = {
            "tiles": set_words(name, generator),
            "number": len(own.tiles),
            "without nuclei": own.empty_share,
        }
        for kind in own.classes:
            row[f"{kind}, {own.empty}"] = float(own.patients[kind].mean())
            row[f"{kind}, {other}"] = float(again.patients[kind].mean())
        rows.append(row)
    return pd.DataFrame(rows)


def published_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Arrange the paper's Table 1 by tissue and class: real, synthetic, difference, and the sum of the real percentages.

    Parameters
    ----------
    rows : of `data_manifests/papers`, with ids such as "cells_coad_real_tumour"; others are left out.
    """
    parts = rows["id"].astype(str).str.extract(r"^cells_([a-z]+)_(real|synthetic)_([a-z]+)$")
    known = parts.notna().all(axis=1)
    table = parts[known].set_axis(["tissue", "set", "class"], axis=1).assign(value=rows.loc[known, "value"].astype(float))
    wide = table.pivot(index=["tissue", "class"], columns="set", values="value").reset_index()
    wide["tissue"] = wide["tissue"].str.upper()
    wide["difference"] = wide["synthetic"] - wide["real"]
    wide["sum of real"] = wide.groupby("tissue")["real"].transform("sum")
    return wide.rename_axis(None, axis=1)


def published_note(table: pd.DataFrame, margin: float) -> str:
    """Say what the paper's printed means (`published_table`) show by themselves."""
    sums = table.groupby("tissue")["sum of real"].first()
    r = float(np.corrcoef(table["real"], table["synthetic"])[0, 1])
    near = int((table["difference"].abs() <= margin).sum())
    return (
        f"Of the paper's {len(table)} pairs of means {near} differ by at most {margin:g} points, and real and synthetic "
        f"means correlate with r = {r:.2f}. The real percentages of a cancer add up to {sums.min():.0f} to "
        f"{sums.max():.0f}. "
        "Which tiles were whose patient's is not printed, so its means allow no test of equivalence."
    )
