"""Paired differences to effects: slopes with intervals, p values with their correction, matched random genes beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval, resampling_units

ALPHA = 0.05
Reads = dict[float, pd.DataFrame]  # dose -> (sample, tile) x quantities


@dataclass(frozen=True, eq=False)
class EffectReport:
    """Effects of changes on what is read from tiles.

    Attributes
    ----------
    doses : rows for a chart: source, change, quantity, primary, dose, value, low, high (mean paired difference to dose 0).
    slopes : a row a source, change and quantity: source, change, quantity, primary; value, low, high (mean change of the
        quantity a doubling: least squares through dose 0 over all doses); p and p_holm (primary ones: one-sided sign flips
        of `unit`, Holm over the primary ones of the source); matched, matched_low, matched_high (mean and range of the same
        over changes of matched random genes); beyond, beyond_low, beyond_high (slope less the mean of these, paired, with
        its interval); n samples that the change acts on; n_units.
    unit : what intervals resample and p values flip, in words.
    n_tiles, n_controls : tiles a profile and dose; matched sets a change.
    """

    doses: pd.DataFrame
    slopes: pd.DataFrame
    unit: str
    n_tiles: int
    n_controls: int

    @property
    def primary(self) -> pd.DataFrame:
        """The slopes of the quantities that were named before the run."""
        return self.slopes[self.slopes["primary"]]

    def holds(self, source: str, change: str) -> bool:
        """Whether the named quantity rises: significant after Holm's correction, and by more than matched genes do."""
        rows = self.primary[(self.primary["source"] == source) & (self.primary["change"] == change)]
        if rows.empty:
            return False
        row = rows.iloc[0]
        beyond = np.isnan(row["beyond"]) or row["beyond_low"] > 0
        return bool(row["p_holm"] <= ALPHA and beyond)

    def named(self, source: str) -> dict[str, bool]:
        """Change -> whether its named quantity rises, for one source."""
        changes = self.primary.loc[self.primary["source"] == source, "change"]
        return {change: self.holds(source, change) for change in changes}

    @property
    def numbers(self) -> dict[str, Interval]:
        """Slopes of the primary quantities by a name of a-z, 0-9 and _, and the slopes beyond matched genes."""
        found = {}
        for row in self.primary.to_dict("records"):
            key = _word(f"{row['source']} {row['change']}")
            for name, ends in ((key, ("value", "low", "high")), (f"{key}_beyond", ("beyond", "beyond_low", "beyond_high"))):
                if all(np.isfinite([row[end] for end in ends])):
                    method = f"percentile bootstrap over {self.unit}"
                    found[name] = Interval(row[ends[0]], row[ends[1]], row[ends[2]], row["n_units"], method)
        return found

    @property
    def labels(self) -> dict[str, str]:
        """The same keys -> words."""
        found = {}
        for row in self.primary.to_dict("records"):
            key = _word(f"{row['source']} {row['change']}")
            found[key] = f"{row['quantity']} a doubling, {row['change']}, {row['source']}"
            found[f"{key}_beyond"] = f"the same beyond matched random genes, {row['change']}"
        return {key: found[key] for key in self.numbers}

    def joined(self, other: EffectReport) -> EffectReport:
        """Both reports in one; each keeps its own corrections."""
        return EffectReport(
            pd.concat([self.doses, other.doses], ignore_index=True),
            pd.concat([self.slopes, other.slopes], ignore_index=True),
            self.unit,
            self.n_tiles,
            self.n_controls,
        )

    def chart(self) -> pd.DataFrame:
        """Rows for a chart of the primary slopes: label, group (source, or matched random genes), value, low, high."""
        rows = []
        for row in self.primary.to_dict("records"):
            label = f"{row['change']}: {row['quantity']}"
            rows.append({"label": label, "group": row["source"], **{end: row[end] for end in ("value", "low", "high")}})
            if np.isfinite(row["matched"]):
                ends = {"value": row["matched"], "low": row["matched_low"], "high": row["matched_high"]}
                rows.append({"label": label, "group": f"{row['source']}, matched genes (range)", **ends})
        return pd.DataFrame(rows)

    def shown(self) -> pd.DataFrame:
        """Return slopes as text for a page: the named quantities (*), then the haematoxylin area and nuclei."""
        rows = []
        kept = self.slopes[self.slopes["primary"] | self.slopes["quantity"].str.contains("haematoxylin|nuclei")]
        for row in kept.sort_values(["source", "primary"], ascending=[True, False], kind="stable").to_dict("records"):
            control = np.isfinite(row["matched"])
            rows.append(
                {
                    "tiles": row["source"],
                    "change": row["change"],
                    "read": row["quantity"] + (" *" if row["primary"] else ""),
                    "a doubling": _three(row, "value", "low", "high"),
                    "matched genes (range)": _three(row, "matched", "matched_low", "matched_high") if control else "",
                    "beyond them": _three(row, "beyond", "beyond_low", "beyond_high") if control else "",
                    "p, Holm": f"{row['p_holm']:.3f}" if row["primary"] else "",
                    "samples": row["n"],
                }
            )
        return pd.DataFrame(rows)


def report_of(
    source: str,
    reads: Mapping[str, Reads],
    raises: Mapping[str, str],
    *,
    groups: NDArray[np.str_],
    controls: Mapping[str, Sequence[Reads]] | None = None,
    acts: Mapping[str, NDArray[np.bool_]] | None = None,
    n_boot: int = 1000,
    n_permutations: int = 999,
    seed: int = 0,
) -> EffectReport:
    """Report effects of readings that are there already (of a generator, or of a simulator's counterfactual tiles).

    Parameters
    ----------
    reads : change -> dose -> (sample, tile) x quantities; dose 0 is each tile's own.
    raises : change -> its named quantity, or "".
    groups : split group of each sample, in the order of the readings.
    controls : change -> readings of its matched random changes.
    acts : change -> which samples it does anything to; the others are left out.

    Raises
    ------
    InputError : a named quantity that was not read, or a change that acts on no sample.
    """
    _, unit = resampling_units(groups)
    dose_rows, slope_rows = [], []
    tiles = 1
    for change, by_dose in reads.items():
        own = by_dose[0.0]
        tiles = max(tiles, len(own) // max(1, len(groups)))
        kept = np.ones(len(groups), bool) if acts is None else acts[change]
        if raises[change] and raises[change] not in own:
            raise InputError(f"change {change}", expected="a quantity that is read", found=raises[change])
        if not kept.any():
            raise InputError(f"change {change}", expected="a sample that it does something to", found="none")
        units, _ = resampling_units(groups[kept])
        difference = {dose: by_sample(table - own)[kept] for dose, table in by_dose.items() if dose}
        quantities = [str(name) for name in own]
        for dose in sorted(by_dose):
            values = difference[dose] if dose else np.zeros((int(kept.sum()), len(quantities)))
            for quantity, interval in zip(quantities, mean_intervals(values, units, n_boot, seed), strict=True):
                facts = {"source": source, "change": change, "quantity": quantity, "primary": quantity == raises[change]}
                dose_rows.append({**facts, "dose": dose, **_ends(interval)})
        slope = _slope(difference)
        random = [
            _slope({dose: by_sample(table - own)[kept] for dose, table in drawn.items() if dose})
            for drawn in (controls or {}).get(change, ())
        ]
        middle = np.mean(random, axis=0) if random else np.full_like(slope, np.nan)
        means = np.array([part.mean(axis=0) for part in random]) if random else np.full((1, slope.shape[1]), np.nan)
        found = mean_intervals(slope, units, n_boot, seed)
        beyond = mean_intervals(slope - middle, units, n_boot, seed)
        for column, quantity in enumerate(quantities):
            primary = quantity == raises[change]
            slope_rows.append(
                {
                    **{"source": source, "change": change, "quantity": quantity, "primary": primary},
                    **_ends(found[column]),
                    "p": sign_flip_p(slope[:, column], units, n_permutations, seed) if primary else np.nan,
                    **{"p_holm": np.nan, "matched": means[:, column].mean()},
                    **{"matched_low": means[:, column].min(), "matched_high": means[:, column].max()},
                    **{
                        f"beyond{end}": value
                        for end, value in zip(("", "_low", "_high"), _ends(beyond[column]).values(), strict=True)
                    },
                    **{"n": int(kept.sum()), "n_units": len(set(units.tolist()))},
                }
            )
    slopes = pd.DataFrame(slope_rows)
    if slopes["primary"].any():
        slopes.loc[slopes["primary"], "p_holm"] = multipletests(slopes.loc[slopes["primary"], "p"], method="holm")[1]
    n_controls = max((len(drawn) for drawn in (controls or {}).values()), default=0)
    return EffectReport(pd.DataFrame(dose_rows), slopes, unit, tiles, n_controls)


def mean_intervals(values: NDArray[np.float64], units: NDArray[np.str_], n_boot: int, seed: int) -> list[Interval]:
    """Mean of each column with its interval; `stats.bootstrap(np.mean, column, groups=units)` for all columns at once."""
    _, first, code = np.unique(units, return_index=True, return_inverse=True)
    code = np.argsort(np.argsort(first))[code]  # groups in order of first appearance
    n = int(code.max()) + 1
    sums = np.zeros((n, values.shape[1]))
    np.add.at(sums, code, values)
    counts = np.bincount(code, minlength=n).astype(np.float64)
    method = f"percentile bootstrap over groups, {n_boot} resamples, 95%"
    means = values.mean(axis=0)
    if n < 2:
        return [Interval(float(mean), np.nan, np.nan, n, method) for mean in means]
    generator = np.random.default_rng(seed)
    weight = np.array([np.bincount(generator.integers(n, size=n), minlength=n) for _ in range(n_boot)], float)
    low, high = np.quantile(weight @ sums / (weight @ counts)[:, None], [0.025, 0.975], axis=0)
    return [Interval(float(m), float(a), float(b), n, method) for m, a, b in zip(means, low, high, strict=True)]


def sign_flip_p(values: NDArray[np.float64], units: NDArray[np.str_], n_permutations: int, seed: int) -> float:
    """One-sided p of a mean above zero, if each unit's sign were a coin's: (1 + as large) / (1 + n), never 0."""
    _, code = np.unique(units, return_inverse=True)
    sums = np.bincount(code, values)
    signs = np.random.default_rng([seed, 3]).choice([-1.0, 1.0], size=(n_permutations, len(sums)))
    tolerance = 1e-12 * max(1.0, abs(float(sums.sum())))
    return float((1 + (signs @ sums >= sums.sum() - tolerance).sum()) / (1 + n_permutations))


def by_sample(table: pd.DataFrame) -> NDArray[np.float64]:
    """Mean over each sample's tiles, shape (samples, quantities), in order of appearance."""
    return table.groupby(level="sample", sort=False).mean().to_numpy(np.float64)


def _slope(difference: Mapping[float, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Least-squares slope through dose 0 of each sample and quantity."""
    return np.asarray(
        sum(dose * values for dose, values in difference.items()) / sum(dose**2 for dose in difference), dtype=np.float64
    )


def _ends(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _three(row: Mapping[Any, Any], *ends: str) -> str:
    value, low, high = (row[end] for end in ends)
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
