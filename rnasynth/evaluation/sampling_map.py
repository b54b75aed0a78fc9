"""The map of sampler settings: what was measured of each, which are on the front, and where one of them lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval

MEASURES = {
    "frechet": "Frechet distance to held-out real tiles",
    "kid": "kernel distance to held-out real tiles",
    "retrieval": "retrieval within the tissue (1 perfect, 0.5 chance)",
    "area": "Spearman's correlation of the haematoxylin area with the real tiles'",
    "area_off": "mean haematoxylin area, generated minus real",
}
NEARER_IS_LESS = ("frechet", "kid")
LARGER_IS_BETTER = ("retrieval", "area")
BOUNDS = {"frechet": (0.0, math.inf), "retrieval": (0.0, 1.0), "area": (-1.0, 1.0), "area_off": (-1.0, 1.0)}
FRONT, BEATEN, OPEN = "on the front", "beaten", "not decided"


def jackknife(
    value: float, without: NDArray[np.float64], *, bounds: tuple[float, float] = (-math.inf, math.inf), level: float = 0.95
) -> Interval:
    """Interval of a number by leaving out one seed at a time.

    Parameters
    ----------
    value : on all seeds.
    without : the number without each seed, shape (seeds,).
    bounds : of the number itself; the ends are cut to them.
    level : coverage wanted.

    Returns
    -------
    The value (not corrected for bias: it is compared with a floor of as many tiles), and `value` -+ t SE with SE^2 =
    (k - 1) / k sum (without - mean)^2 and Student's t of k - 1 degrees of freedom. Source: Efron and Stein, Ann Stat 1981.
    """
    count = len(without)
    if count < 2 or not np.isfinite(without).all():
        return Interval(value, math.nan, math.nan, count, "one seed, or not finite: no interval")
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    half = float(scipy.stats.t.ppf((1 + level) / 2, count - 1)) * error
    low, high = max(value - half, min(bounds[0], value)), min(value + half, max(bounds[1], value))
    return Interval(value, low, high, count, f"jackknife over {count} sampling seeds, {level:.0%}")


@dataclass(frozen=True, eq=False)
class SamplingMap:
    """What every setting costs and reaches.

    Attributes
    ----------
    table : one row a setting: name, line, sampling, evaluations (of the network, one tile), seconds (a tile, Interval), and
        an Interval for each of `MEASURES`.
    replicates : name -> measure -> (value, value without each seed), for paired differences.
    floor : "frechet" and "kid" of as many real tiles of training patients.
    ceiling : of held-out real tiles handed over as if generated; what cannot be had is missing.
    network : the feature network's name. n_tiles, n_profiles, n_seeds : behind every setting.
    """

    table: pd.DataFrame
    replicates: dict[str, dict[str, tuple[float, NDArray[np.float64]]]] = field(repr=False)
    floor: dict[str, Interval]
    ceiling: dict[str, Interval]
    network: str
    n_tiles: int
    n_profiles: int
    n_seeds: int

    def row(self, name: str) -> dict[str, Any]:
        """Return one setting's row.

        Raises
        ------
        InputError : there is none of that name.
        """
        found = self.table[self.table["name"] == name].to_dict("records")
        if not found:
            raise InputError(f"setting {name!r}", expected=f"one of {', '.join(self.table['name'])}", found="none")
        return {str(key): value for key, value in found[0].items()}

    def difference(self, one: str, other: str, measure: str = "frechet") -> Interval:
        """Return `one` minus `other`, paired: the same profiles and the same noise."""
        self.row(one), self.row(other)
        first, second = self.replicates[one][measure], self.replicates[other][measure]
        return jackknife(first[0] - second[0], first[1] - second[1])

    def is_better(self, one: str, other: str, measure: str = "frechet") -> bool:
        """Whether `one` is measurably better than `other`: the interval of the paired difference excludes 0."""
        found = self.difference(one, other, measure)
        return bool(found.high < 0 if measure in NEARER_IS_LESS else found.low > 0)

    def front(self, measure: str = "frechet") -> pd.DataFrame:
        """Say of each setting whether it is on the front of a measure against evaluations.

        Returns
        -------
        One row a setting, fewest evaluations first: name, evaluations, place, by. "on the front": measurably better than
        every setting with fewer evaluations, and not beaten; "beaten": a setting with no more evaluations is measurably
        better (the best of them stands in `by`); else "not decided". No correction is made for the number of settings.
        """
        if measure not in (*NEARER_IS_LESS, *LARGER_IS_BETTER):
            raise InputError(f"measure {measure!r}", expected="one of which a direction is better", found="another")
        rows = []
        sign = 1 if measure in NEARER_IS_LESS else -1
        ordered = self.table.sort_values("evaluations", kind="stable").to_dict("records")
        for mine in ordered:
            rivals = [each for each in ordered if each is not mine and each["evaluations"] <= mine["evaluations"]]
            beating = [each for each in rivals if self.is_better(each["name"], mine["name"], measure)]
            cheaper = [each for each in rivals if each["evaluations"] < mine["evaluations"]]
            leads = all(self.is_better(mine["name"], each["name"], measure) for each in cheaper)
            place = BEATEN if beating else FRONT if leads else OPEN
            by = min(beating, key=lambda each: sign * each[measure].value)["name"] if beating else ""
            rows.append({"name": mine["name"], "evaluations": mine["evaluations"], "place": place, "by": by})
        return pd.DataFrame(rows)

    def where(self, name: str, measure: str = "frechet", *, called: str = "The paper's choice") -> str:
        """Say in words where a setting lies: against the floor, and against those that need no more evaluations."""
        mine = self.row(name)
        cost, found = mine["evaluations"], mine[measure]
        told = f"{called} ({name}: {cost:.0f} evaluations, {mine['seconds'].value:.2g} s a tile) has a"
        told += f" {MEASURES[measure]} of {found}"
        if measure in self.floor and self.floor[measure].value > 0:
            times = found.value / self.floor[measure].value
            told += f", {times:.2g} times that of as many real tiles of other patients"
        others = [row for row in self.table.to_dict("records") if row["name"] != name]
        rivals = [row for row in others if row["evaluations"] <= cost]
        nearer = [row for row in rivals if self.is_better(row["name"], name, measure)]
        if not rivals:
            return told + "; no other setting was tried that needs no more evaluations."
        level = [r for r in rivals if r["evaluations"] < cost and not self.is_better(name, r["name"], measure)]
        if nearer:
            best = min(nearer, key=lambda row: row["evaluations"])
            told += (
                f"; {len(nearer)} of {len(rivals)} settings with no more evaluations are measurably better, the cheapest"
                f" of them {best['name']} ({best['evaluations']:.0f} evaluations, difference"
                f" {self.difference(best['name'], name, measure)})"
            )
            level = [row for row in level if row["evaluations"] < best["evaluations"]]
        else:
            told += f"; none of the {len(rivals)} settings with no more evaluations is measurably better"
        if level:
            least = min(level, key=lambda row: row["evaluations"])
            told += (
                f"; the cheapest that is not measurably worse is {least['name']} ({least['evaluations']:.0f} evaluations,"
                f" {least['seconds'].value:.2g} s a tile)"
            )
        elif not nearer:
            told += "; every setting with fewer evaluations is measurably worse"
        return told + f" ({self.n_tiles} tiles a setting, intervals over {self.n_seeds} sampling seeds)."

    def rows(self, measure: str, *, against: str = "evaluations") -> pd.DataFrame:
        """Return group (line), x, value, low, high, name for `plots.sampling.quality`.

        Parameters
        ----------
        against : "evaluations", "seconds", or a field of the sampling settings ("churn", "guidance", "steps").

        Raises
        ------
        InputError : no setting has that field.
        """
        found = []
        for row in self.table.to_dict("records"):
            if against in ("evaluations", "seconds"):
                x = row["seconds"].value if against == "seconds" else row["evaluations"]
            elif hasattr(row["sampling"], against):
                x = getattr(row["sampling"], against)
            else:
                continue
            value = row[measure]
            if math.isfinite(value.value):
                ends = {"value": value.value, "low": value.low, "high": value.high}
                found.append({"group": row["line"], "x": float(x), **ends, "name": row["name"]})
        if not found:
            raise InputError(f"chart against {against!r}", expected="a field of the settings", found="none has it")
        return pd.DataFrame(found)

    def only(self, *names: str) -> SamplingMap:
        """Return the map of these settings alone (a sweep, say)."""
        order = [self.row(name)["name"] for name in names]
        table = self.table.set_index("name", drop=False).loc[order].reset_index(drop=True)
        kept = {name: self.replicates[name] for name in order}
        return SamplingMap(table, kept, self.floor, self.ceiling, self.network, self.n_tiles, self.n_profiles, self.n_seeds)

    def shown(self) -> pd.DataFrame:
        """Return the table as text, floor and ceiling below it."""
        places = self.front().set_index("name")["place"]
        rows = [
            {
                "setting": row["name"],
                "evaluations": f"{row['evaluations']:.0f}",
                "seconds a tile": f"{row['seconds'].value:.3g}",
                **{MEASURES[name]: _text(row[name]) for name in MEASURES},
                "place": places[row["name"]],
            }
            for row in self.table.to_dict("records")
        ]
        for label, values in (("real, other patients", self.floor), ("real, held-out", self.ceiling)):
            rows.append({"setting": label, **{MEASURES[name]: _text(value) for name, value in values.items()}})
        return pd.DataFrame(rows).fillna("").set_index("setting")


def _text(value: Interval) -> str:
    return str(value) if math.isfinite(value.low) else f"{value.value:.3g}"
