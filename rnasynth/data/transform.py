"""From raw profiles to network input and back: one transform, fitted on training samples, applied once.

`log2p1_zscore` is ours: monotone, with a defined value at zero, and a missing gene sits at its training mean (z = 0).
The `paper_*` transforms do what the papers say, so that the size of each difference can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.checks import check_raw
from rnasynth.data.genes import MIN_SHARE, Duplicates, align, dense, few, only_training, symbols_of
from rnasynth.errors import InputError

TransformName = Literal["log2p1_zscore", "paper_rna_gan", "paper_rna_cdm", "none"]
ScaleName = Literal["none", "cp10k", "cpm"]
LIBRARY_SIZE: dict[str, float] = {"cp10k": 1e4, "cpm": 1e6}
SD_FLOOR = 1e-6  # below it a gene is constant but for rounding
PART = 1024  # genes worked on at a time, so that float64 copies stay small


@dataclass(frozen=True, eq=False)
class Transform:
    """How profiles become network input; it travels with every run.

    Parameters
    ----------
    name : "log2p1_zscore": log2(x + 1), then z-score.
        "paper_rna_gan": natural log with log(0) := 0, then z-score, as RNA-GAN's released code does. Not monotone: 0 maps
        to 0 but 0.5 to -0.69, and 0 and 1 become one value.
        "paper_rna_cdm": natural log, then z-score (RNA-CDM, Methods, which does not say what becomes of zero: ln(x + 1)).
        "none": values as they are; the only one allowed for profiles that are z-scores already.
    scale : "cp10k" or "cpm": before the log each sample is scaled to this sum over `genes` (only those, so that extra
        genes of a file change nothing); "none".
    genes : ids, in the order of the network's input.
    symbols : their symbols ("" where unknown), by which a cohort without these ids is aligned. May be empty.
    mean, sd : shape (genes,), float32, of the training samples after the log; sd 0 marks a constant gene, whose z is 0.
    unit : unit of the training profiles, and of what `inverse` returns (where `scale` is "none").
    clip : z-scores are cut to [-clip, clip]; None: not cut.

    Source: RNA-GAN, Cell Reports Methods 2023, STAR Methods; RNA-CDM, preprint of Nature Biomedical Engineering 2024.
    """

    name: TransformName
    genes: tuple[str, ...]
    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    scale: ScaleName = "none"
    symbols: tuple[str, ...] = field(default=())
    unit: str = ""
    clip: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", np.asarray(self.mean, dtype=np.float32))
        object.__setattr__(self, "sd", np.asarray(self.sd, dtype=np.float32))
        if self.name not in get_args(TransformName) or self.scale not in get_args(ScaleName):
            raise InputError(
                f"transform {self.name!r}, scale {self.scale!r}",
                expected=f"{get_args(TransformName)}, {get_args(ScaleName)}",
                found="another",
                fix="check the spelling",
            )
        size = len(self.genes)
        if self.mean.shape != (size,) or self.sd.shape != (size,) or len(self.symbols) not in (0, size):
            raise InputError("transform", expected=f"mean, sd and symbols of {size} genes", found="other lengths")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.sd).all() and (self.sd >= 0).all()):
            raise InputError("transform", expected="finite mean, sd >= 0", found="NaN, infinite or negative")
        if self.clip is not None and not self.clip > 0:
            raise InputError("transform clip", expected="a positive number or None", found=repr(self.clip))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transform) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.name, self.scale, self.genes, self.mean.tobytes(), self.sd.tobytes()))

    @classmethod
    def fit(
        cls,
        train: AnnData,
        *,
        name: TransformName = "log2p1_zscore",
        scale: ScaleName = "none",
        genes: list[str] | tuple[str, ...] | None = None,
        clip: float | None = None,
        allow_small: bool = False,
    ) -> Self:
        """Learn mean and sd from raw training profiles.

        Parameters
        ----------
        train : raw profiles, linear; where `obs["split"]` exists all of it must be "train".
        genes : which genes, in which order; None: all of `train`.
        allow_small : as in `check_raw`.

        Raises
        ------
        InputError : `train` is not raw, has fewer than two samples, or is in z-scores and `name` is not "none".
        SplitError : a sample is not for training.
        """
        only_training(train)
        check_raw(train, allow_small=allow_small)
        unit = str(train.uns.get("unit", ""))
        _check_unit_allows(name, scale, unit)
        if train.n_obs < 2:
            raise InputError("training profiles", expected="at least 2 samples", found=str(train.n_obs))
        if genes is not None:
            train = align(train, genes)
        size = train.n_vars
        blank = cls(
            name=name,
            genes=tuple(map(str, train.var_names)),
            mean=np.zeros(size, np.float32),
            sd=np.ones(size, np.float32),
            scale=scale,
            symbols=tuple(symbols_of(train)),
            unit=unit,
            clip=clip,
        )
        mean, sd = np.empty(size), np.empty(size)
        x = dense(train)
        factor = blank._library_factor(x)
        for start in range(0, size, PART):
            part = blank._log(x[:, start : start + PART].astype(np.float64) * factor)
            mean[start : start + PART], sd[start : start + PART] = part.mean(axis=0), part.std(axis=0)
        sd[sd < SD_FLOOR] = 0
        return replace(blank, mean=mean.astype(np.float32), sd=sd.astype(np.float32))

    def apply(
        self,
        adata: AnnData,
        *,
        duplicates: Duplicates = "error",
        min_share: float = MIN_SHARE,
        allow_small: bool = False,
    ) -> AnnData:
        """Align raw profiles to this transform's genes and transform them.

        Missing genes are set to zero before the transform under `paper_*` ("set to 0", RNA-CDM, external cohorts), else
        to the training mean; `uns["alignment"]` counts them. `duplicates` as in `locate`, `min_share` as in `align`,
        `allow_small` as in `check_raw`.

        Returns
        -------
        AnnData, `X` float32 samples x genes; `uns["transform"]`, `uns["alignment"]`, `var["present"]`.

        Raises
        ------
        InputError : transformed already, not raw, of another unit than the training profiles, or too few genes match.
        """
        check_raw(adata, allow_small=allow_small)
        unit = str(adata.uns.get("unit", ""))
        _check_unit_allows(self.name, self.scale, unit)
        if unit and self.unit and unit != self.unit:
            raise InputError(
                "profiles",
                expected=f"unit {self.unit!r}, as the transform was fitted on",
                found=repr(unit),
                fix="convert them, or set uns['unit'] if the label is wrong",
            )
        result = align(adata, self.genes, missing="zero", symbols=self.symbols, duplicates=duplicates, min_share=min_share)
        x = dense(result)
        factor = self._library_factor(x)
        absent = ~result.var["present"].to_numpy(dtype=bool)
        for start in range(0, len(self.genes), PART):
            here = slice(start, start + PART)
            part = self._log(x[:, here].astype(np.float64) * factor)
            if not self.name.startswith("paper_"):
                part[:, absent[here]] = self.mean[here][absent[here]]
            x[:, here] = self._standardise(part, here)
        result.X = x
        result.uns["transform"] = self._as_uns()
        return result

    def inverse(self, z: NDArray[Any]) -> NDArray[np.float32]:
        """Return linear values of transformed ones.

        Parameters
        ----------
        z : shape (n, genes), as `apply` gives them or a network reconstructs them.

        Returns
        -------
        Shape (n, genes), float32, non-negative (but for "none"), in `unit`, or in counts per 10,000 or per million where
        `scale` says so (the library size is gone). Of "paper_rna_gan" exactly 0 and 1 cannot be told apart: 1 is given.
        """
        z = np.asarray(z)
        if z.ndim != 2 or z.shape[1] != len(self.genes):
            raise InputError("inverse transform", expected=f"(n, {len(self.genes)}) values", found=str(z.shape))
        out = np.empty(z.shape, dtype=np.float32)
        for start in range(0, len(self.genes), PART):
            here = slice(start, start + PART)
            part = z[:, here].astype(np.float64)
            if self.name == "none":
                out[:, here] = part
                continue
            part = part * self.sd[here] + self.mean[here]
            part = np.minimum(part, 120.0 if self.name == "log2p1_zscore" else 85.0)  # stays inside float32
            if self.name == "log2p1_zscore":
                out[:, here] = np.maximum(np.exp2(part) - 1, 0)
            elif self.name == "paper_rna_cdm":
                out[:, here] = np.maximum(np.expm1(part), 0)
            else:
                out[:, here] = np.exp(part)
        return out

    def wrap(self, z: NDArray[Any], obs: pd.DataFrame) -> AnnData:
        """Return made z-scores as transformed profiles, which no transform can be applied to again.

        Parameters
        ----------
        z : shape (n, genes), in this transform's gene order.
        obs : one row a sample, its index the sample ids.

        Returns
        -------
        AnnData like that of `apply`: `X` float32, `uns["transform"]`, `uns["unit"]`, `var["symbol"]`.

        Raises
        ------
        InputError : another shape, or values that are not finite.
        """
        z = np.ascontiguousarray(z, dtype=np.float32)
        if z.shape != (len(obs), len(self.genes)) or not np.isfinite(z).all():
            found = str(z.shape) if z.shape != (len(obs), len(self.genes)) else "NaN or infinite values"
            raise InputError("z-scores", expected=f"finite, shape ({len(obs)}, {len(self.genes)})", found=found)
        symbols = list(self.symbols) or [""] * len(self.genes)
        var = pd.DataFrame({"symbol": symbols}, index=pd.Index(list(self.genes), dtype=object))
        return AnnData(X=z, obs=obs, var=var, uns={"unit": self.unit, "transform": self._as_uns()})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `from_dict` gives back an equal transform, to the bit."""
        return {
            "name": self.name,
            "scale": self.scale,
            "unit": self.unit,
            "clip": self.clip,
            "genes": list(self.genes),
            "symbols": list(self.symbols),
            "mean": [float(value) for value in self.mean],
            "sd": [float(value) for value in self.sd],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from `to_dict`, or from `uns["transform"]` of a file that was written and read.

        Raises
        ------
        InputError : a key is missing, unknown, or of another type.
        """
        known = {"name", "scale", "unit", "clip", "genes", "symbols", "mean", "sd"}
        if set(values) - known or {"name", "genes", "mean", "sd"} - set(values):
            raise InputError("transform", expected=f"keys {sorted(known)}", found=f"{sorted(values)}")
        clip = values.get("clip")
        return cls(
            name=str(values["name"]),  # type: ignore[arg-type]
            scale=str(values.get("scale", "none")),  # type: ignore[arg-type]
            unit=str(values.get("unit", "")),
            clip=None if clip is None else float(clip),
            genes=tuple(map(str, values["genes"])),
            symbols=tuple(map(str, values.get("symbols", ()))),
            mean=np.asarray(values["mean"], dtype=np.float32),
            sd=np.asarray(values["sd"], dtype=np.float32),
        )

    def describe(self) -> str:
        """One line for a caption."""
        constant = int((self.sd == 0).sum())
        return f"{self.name} of {len(self.genes):,} genes ({constant} constant), scale {self.scale}, unit {self.unit or '?'}"

    def _as_uns(self) -> dict[str, Any]:
        """The same as arrays, which h5ad files hold well; no None, which they do not."""
        values = {**self.to_dict(), "mean": self.mean, "sd": self.sd}
        values["genes"], values["symbols"] = np.array(self.genes, dtype=object), np.array(self.symbols, dtype=object)
        return {key: value for key, value in values.items() if value is not None}

    def _library_factor(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Shape (n, 1): what each sample is multiplied by; 1 for an empty sample."""
        if self.scale == "none":
            return np.ones((len(x), 1))
        total = x.sum(axis=1, keepdims=True, dtype=np.float64)
        return np.divide(LIBRARY_SIZE[self.scale], total, out=np.ones_like(total), where=total > 0)

    def _log(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.name == "log2p1_zscore":
            return np.log2(x + 1)
        if self.name == "paper_rna_cdm":
            return np.log1p(x)
        if self.name == "paper_rna_gan":
            return np.log(x, out=np.zeros_like(x), where=x > 0)
        return x

    def _standardise(self, x: NDArray[np.float64], here: slice) -> NDArray[np.float64]:
        if self.name != "none":
            sd = self.sd[here].astype(np.float64)
            x = np.divide(x - self.mean[here], sd, out=np.zeros_like(x), where=sd > 0)
        return x if self.clip is None else np.clip(x, -self.clip, self.clip)


def _check_unit_allows(name: str, scale: str, unit: str) -> None:
    if unit == "zscore" and (name != "none" or scale != "none"):
        raise InputError(
            "profiles in z-scores",
            expected='transform "none", scale "none"',
            found=f"{name!r}, {scale!r}",
            fix='they were standardised within their cohort; use name="none" and never compare cohorts',
        )


def transforms_for(adata: AnnData) -> list[TransformName]:
    """Return the transforms that raw profiles may go through, the default one first."""
    if adata.uns.get("unit") == "zscore":
        return ["none"]
    return ["log2p1_zscore", "paper_rna_gan", "paper_rna_cdm"]


def default_scale(adata: AnnData) -> ScaleName:
    """Return the library-size scaling that raw profiles need: "cp10k" for counts, "none" else."""
    return "cp10k" if adata.uns.get("unit") == "counts" else "none"


def concatenate(parts: list[AnnData]) -> AnnData:
    """Stack raw profiles of several files on the genes that all have, in the first one's order.

    Raises
    ------
    InputError : units differ, one is transformed, a sample stands twice, or no gene is in all.
    """
    units = sorted({str(part.uns.get("unit", "")) for part in parts})
    if len(units) != 1 or any("transform" in part.uns for part in parts):
        raise InputError("profiles", expected="raw matrices of one unit", found=f"{units} or transformed")
    shared = set.intersection(*(set(part.var_names) for part in parts))
    genes = [name for name in parts[0].var_names if name in shared]
    if not genes:
        raise InputError("profiles", expected="genes in all of them", found=few(parts[0].var_names), fix="check the ids")
    obs = pd.concat([part.obs for part in parts])
    if obs.index.has_duplicates:
        raise InputError(f"sample {few(obs.index[obs.index.duplicated()])}", expected="each once", found="several")
    x = np.empty((len(obs), len(genes)), dtype=np.float32)
    start = 0
    for part in parts:
        x[start : start + part.n_obs] = dense(part)[:, part.var_names.get_indexer(genes)]
        start += part.n_obs
    return AnnData(X=x, obs=obs, var=parts[0].var.loc[genes].copy(), uns={"unit": units[0]})
