"""Does a diffusion stage use the profile, and at which noise levels? Real held-out tiles with noise, told this or that.

No tile is generated: a held-out real tile gets noise, and the stage estimates the clean tile, once told the sample's own
profile, once another of the same tissue, once the tissue's mean, once nothing; the same tile and the same noise each time.
What the own profile takes off the squared error is what the stage heard. It costs one evaluation where a generated tile
costs ten or more, and the pairing takes most of the chance out.

A super-resolution stage is given the real small tile, as in training: what it still takes from the profile is what the
small tile does not say.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.data.cohort import Cohort
from rnasynth.engine import mixed_seed
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.conditioning.experiment import evenly, tissue_mean_profiles, with_tiles
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units
from rnasynth.nets.lowres import lower
from rnasynth.nets.samplers import Draws
from rnasynth.runs import Run
from rnasynth.systems.cdm_config import CDMConfig
from rnasynth.systems.diffusion import DiffusionGenerator, denoiser
from rnasynth.systems.training import train_preset

SIGMAS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # where what is made has a spread of 0.5, as tiles in [-1, 1] have
STAGES = {"cdm-base": "base stage", "cdm-sr": "super-resolution stage"}
BATCH = 64
RIVALS = {"shuffled": "another profile of the tissue", "mean": "the tissue's mean profile", "null": "no profile"}


@dataclass(frozen=True, eq=False)
class DenoisingReport:
    """What was found.

    Attributes
    ----------
    gains : rows label (rival), x (sigma), value, low, high: by how much the error is larger than with the own profile, in
        percent of it.
    numbers, labels : "denoising_gain_RIVAL" ("denoising_gain_sr_RIVAL" of a super-resolution stage), the mean over the
        noise levels, and its words.
    n_samples, n_tiles, unit : what stands behind it, and what intervals resample.
    stage : "base stage" or "super-resolution stage".
    """

    gains: pd.DataFrame
    numbers: dict[str, Interval]
    labels: dict[str, str]
    n_samples: int
    n_tiles: int
    unit: str
    stage: str
    errors: pd.DataFrame
    """One row a sample: mse_own and mse_RIVAL, means over its tiles and the noise levels."""

    @property
    def hears(self) -> bool:
        """Whether the own profile beats another of the tissue, and none, over all noise levels: both intervals exclude 0."""
        return all(self.gain(rival).low > 0 for rival in ("shuffled", "null"))

    def gain(self, rival: str) -> Interval:
        """Return by how much the error is larger than with the own profile, percent, over all noise levels.

        Parameters
        ----------
        rival : "shuffled", "mean" or "null".
        """
        (name,) = (name for name in self.numbers if name.endswith(f"_{rival}"))
        return self.numbers[name]

    def lines(self) -> pd.DataFrame:
        """Return group, x, value, low, high, name for `plots.sampling.quality`."""
        return self.gains.rename(columns={"label": "group"}).assign(name="")

    def verdict(self) -> str:
        """Say what the intervals allow."""
        own = self.gain("shuffled")
        best = self.gains[self.gains["label"] == RIVALS["shuffled"]].sort_values("value").iloc[-1]
        null = self.gain("null")
        start = f"The {self.stage} uses" if self.hears else f"It is not shown that the {self.stage} uses"
        return (
            f"{start} more of a profile than its tissue: told another profile of the tissue, its error on held-out real"
            f" tiles is larger by {own} %, most at a noise level of {best['x']:g} ({best['value']:.2g} %); told none, by"
            f" {null} %."
            " A wrong profile that hurts is not yet a right one that helps: the second number is the stricter one."
        )


def denoising_gain(
    generator: DiffusionGenerator,
    cohort: Cohort,
    *,
    sigmas: Sequence[float] | None = None,
    split: str = "test",
    tiles_per_sample: int = 8,
    max_samples: int = 120,
    seed: int = 0,
    n_boot: int = 1000,
) -> DenoisingReport:
    """Measure what the own profile takes off the error of a stage, by noise level.

    Parameters
    ----------
    generator : a stage that is told latents; a super-resolution stage gets the real small tile, corrupted as in sampling.
    cohort : with tiles, brought to the stage's side; their stain stays as scanned.
    sigmas : noise levels, on the scale of tiles in [-1, 1]; None: `SIGMAS`, brought to the spread of what the stage makes.
    split : the held-out split.
    tiles_per_sample, max_samples : at most so many real tiles of so many samples, evenly spaced.
    seed : of the noise, the shuffle and the bootstrap.
    n_boot : resamples.

    Raises
    ------
    InputError : a stage that was never without a profile, or no tissue with two held-out samples. SplitError : asked for
        the training split.
    """
    if split == "train":
        raise SplitError(f"cohort {cohort.name}", expected="a held-out split", found="train", fix="use val or test")
    if not generator.system.settings.condition_dropout:
        raise InputError("denoising gain", expected="a stage with condition_dropout", found="0", fix="train it with some")
    spread = generator.system.settings.sigma_data / CDMConfig.sigma_data
    levels = tuple(round(sigma * spread, 6) for sigma in SIGMAS) if sigmas is None else tuple(sigmas)
    stage, prefix = STAGES["cdm-sr" if generator.low_px else "cdm-base"], "sr_" if generator.low_px else ""
    profiles, tile_ids = evenly(cohort, split, max_samples), with_tiles(cohort, split)[1]
    tissues = profiles.obs["tissue"].astype(str).to_numpy()
    others = _others(tissues, seed)
    if not (others >= 0).any():
        raise InputError(f"cohort {cohort.name}, split {split}", expected="two samples of a tissue", found="one of each")
    own = generator.conditions(profiles)[0]
    means = tissue_mean_profiles(cohort.profiles[(cohort.profiles.obs["split"] == "train").to_numpy()])
    known = dict(zip(means.obs_names, generator.conditions(means)[0], strict=True))
    told = {"own": own, "shuffled": own[others], "mean": np.stack([known[name] for name in tissues]), "null": own}
    ids = [tile_ids[str(name)][:tiles_per_sample] for name in profiles.obs_names]
    rows = np.repeat(np.arange(len(ids)), [len(each) for each in ids])
    tiles = cohort.tile_store().read_float(np.concatenate(ids), generator.px)
    keys = np.concatenate(ids).tolist()
    errors = {name: np.zeros((len(profiles), len(levels))) for name in told}
    for name, conditions in told.items():
        for column, sigma in enumerate(levels):
            found = _errors(
                generator, tiles, keys, torch.from_numpy(conditions[rows]), sigma, told=name != "null", seed=seed
            )
            errors[name][:, column] = np.bincount(rows, found) / np.bincount(rows)
    kept = others >= 0
    units, unit = resampling_units(profiles.obs["split_group"].astype(str).to_numpy()[kept])

    def gain(own_error: NDArray[Any], rival: NDArray[Any]) -> float:
        return 100 * float(np.mean(rival.mean(axis=0) / own_error.mean(axis=0)) - 1)

    def interval(name: str, columns: slice) -> Interval:
        pair = (errors["own"][kept][:, columns], errors[name][kept][:, columns])
        return bootstrap(gain, *pair, groups=units, n_boot=n_boot, seed=seed)

    table = [
        {"label": words, "x": sigma, **{k: getattr(found, k) for k in ("value", "low", "high")}}
        for name, words in RIVALS.items()
        for column, sigma in enumerate(levels)
        for found in [interval(name, slice(column, column + 1))]
    ]
    return DenoisingReport(
        gains=pd.DataFrame(table),
        numbers={f"denoising_gain_{prefix}{name}": interval(name, slice(None)) for name in RIVALS},
        labels={
            f"denoising_gain_{prefix}{key}": f"error of the {stage} when told {words}, above the own's"
            for key, words in RIVALS.items()
        },
        n_samples=int(kept.sum()),
        n_tiles=len(rows),
        unit=unit,
        stage=stage,
        errors=pd.DataFrame({f"mse_{name}": found[kept].mean(axis=1) for name, found in errors.items()}),
    )


def variants(
    cohort: Cohort,
    preset: str,
    settings: Sequence[str],
    *,
    systems: Sequence[str] = tuple(STAGES),
    seed: int = 0,
    progress: bool = False,
) -> Iterator[tuple[str, Run, DenoisingReport]]:
    """Train the stages as their presets say and in other ways, and measure what each hears on validation samples.

    Parameters
    ----------
    cohort, preset : as for `train_preset`.
    settings : one text a variant, "field=value" with commas between several, e.g. "injection=once,paths=scale-shift".
    systems : names of the stages.
    seed : of the training, the same for all, and of the measurement.

    Yields
    ------
    Stage and variant in words, its run, and its report; first the preset as it is.
    """
    for system, setting in itertools.product(systems, ("", *settings)):
        changes = [f"train.seed={seed}", *filter(None, setting.split(","))]
        run = train_preset(system, cohort, preset, overrides=changes, progress=progress)
        words = f"{STAGES[system]}, {setting or 'as it is'}"
        yield words, run, denoising_gain(run.load().to("auto"), cohort, split="val", seed=seed)


def _others(tissues: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """Row of another sample of the same tissue for each row, or -1: a cycle through a random order, so never its own."""
    others = np.full(len(tissues), -1, dtype=np.int64)
    generator = np.random.default_rng(seed)
    for tissue in np.unique(tissues):
        mine = generator.permutation(np.flatnonzero(tissues == tissue))
        if len(mine) > 1:
            others[mine] = np.roll(mine, 1)
    return others


def _errors(
    generator: DiffusionGenerator,
    tiles: Tensor,
    keys: Sequence[int],
    condition: Tensor,
    sigma: float,
    *,
    told: bool,
    seed: int,
) -> NDArray[np.float64]:
    """Mean squared error of the clean estimate of each tile, (N,); the noise is keyed by seed, noise level and tile."""
    system, config = generator.system, generator.system.settings
    network = system.best("unet")
    device = next(network.parameters()).device
    found = []
    for start in range(0, len(tiles), BATCH):
        clean = tiles[start : start + BATCH].to(device)
        seeds = [mixed_seed("denoising", seed, repr(sigma), int(key)) for key in keys[start : start + BATCH]]
        draws = Draws(seeds, device=device)
        more: dict[str, Tensor] = {}
        if generator.low_px:
            small = lower(clean, config.tile_px // config.low_px)
            level = torch.full((len(clean),), generator.sampling.low_level, device=device)
            more = {"low": system.prepared(small, level, draws.normal(*clean.shape[1:])), "low_level": level}
            clean = clean - system.ground(small)
        told_of = condition[start : start + BATCH].to(device)
        weight = 1.0 if told else 0.0
        estimate = denoiser(network, system.parametrisation, told_of, weight=weight, interval=None, **more)
        with torch.inference_mode():
            noisy = clean + sigma * draws.normal(*clean.shape[1:])
            levels = torch.full((len(clean),), sigma, dtype=torch.float64, device=device)
            found.append((estimate(noisy, levels) - clean).square().mean(dim=(1, 2, 3)).cpu().numpy())
    return np.concatenate(found).astype(np.float64)
