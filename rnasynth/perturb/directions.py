"""What tiles do when a profile is moved along a direction of the latent: more of a cell type, the same noise.

The direction is learnt on training samples alone, within tissues: ridge regression reads the fraction of a cell type from
what the generator is told, and the direction is how that input moves, on average, when the reading rises (a regression's
weights are not that direction where inputs go together: Haufe et al., NeuroImage 2014, eq. 6). Held-out samples are moved
along it and tiles are made with unchanged noise, so that each tile is compared with itself. Controls: movements of the same
length along which the regression expects nothing; and tiles in which the truth is known to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from rnasynth.data.cohort import Cohort
from rnasynth.data.simulate import CELL_TYPES, stored_config, tiles_with_more
from rnasynth.data.splits import evenly_spaced
from rnasynth.engine import mixed_seed
from rnasynth.errors import InputError
from rnasynth.evaluation.cells.nuclei import resampled
from rnasynth.evaluation.conditioning.experiment import first_in_turn
from rnasynth.evaluation.deconvolution.checks import fractions_of, join_types
from rnasynth.evaluation.deconvolution.follow import CLASSES
from rnasynth.evaluation.deconvolution.readers import FractionReader, TileReader, real_tiles, with_tiles
from rnasynth.perturb.direction_report import Controls, Differences, DirectionReport, Moved, report_of
from rnasynth.perturb.pure import spaced, with_fractions
from rnasynth.systems.generation import TileGenerator

STEPS = (-2.0, -1.0, 1.0, 2.0)  # standard deviations of the reading; 0, the profile itself, is always there
ALPHAS = np.logspace(-2, 4, 25)  # ridge penalties, chosen by leave-one-out on the training samples
SIMULATED_KINDS, REAL_KINDS = ("lymphocyte", "epithelial"), ("epithelial", "haematopoietic")  # set before any result
LEAST, MOST = 0.01, 0.95  # a fraction that the simulator is asked for is kept between
REAL_TILES = 8  # of each held-out sample, at most, that the control reads


@dataclass(frozen=True, eq=False)
class Direction:
    """How the generator's input moves, on average, when a fraction that is read from it rises by one standard deviation.

    Attributes
    ----------
    quantity : the cell type or class.
    step : shape (c,), the movement of one standard deviation.
    rise : by how much the fraction is expected to rise in one step.
    weights : shape (c,), of the ridge regression: the reading rises by weights @ movement.
    deviations : shape (n, c), the training inputs less their tissue's mean.
    """

    quantity: str
    step: NDArray[np.float64]
    rise: float
    weights: NDArray[np.float64]
    deviations: NDArray[np.float64]

    def others(self, count: int, seed: int) -> NDArray[np.float64]:
        """Draw movements as training samples differ, as long as `step`, that leave the reading as it is; (count, c)."""
        generator = np.random.default_rng(mixed_seed("directions", self.quantity, seed))
        drawn = generator.standard_normal((count, len(self.deviations))) @ self.deviations
        drawn -= np.outer(drawn @ self.weights / (self.step @ self.weights), self.step)
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True) * np.linalg.norm(self.step))


def fit_direction(
    inputs: NDArray[np.floating], fractions: NDArray[np.floating], tissues: NDArray[np.str_], quantity: str
) -> Direction:
    """Learn a direction on training samples, within tissues.

    Parameters
    ----------
    inputs : what the generator is told of each, shape (n, c).
    fractions : shape (n,). Tissues in which it does not vary say nothing and are left out.
    tissues : shape (n,).

    Raises
    ------
    InputError : fewer than three samples are left, or nothing of the fraction can be read.
    """
    x, y = np.array(inputs, dtype=np.float64), np.array(fractions, dtype=np.float64)
    kept = np.zeros(len(y), dtype=bool)
    for tissue in np.unique(tissues):
        rows = tissues == tissue
        x[rows] -= x[rows].mean(axis=0)
        y[rows] -= y[rows].mean()
        kept[rows] = bool(np.abs(y[rows]).max() > 1e-9)
    if kept.sum() < 3:
        raise InputError(f"training samples with {quantity}", expected="three or more", found=str(int(kept.sum())))
    x, y = x[kept], y[kept]
    weights = RidgeCV(ALPHAS, fit_intercept=False).fit(x, y).coef_
    covariance = x.T @ x / len(x)
    rise = float(np.sqrt(weights @ covariance @ weights))
    if not rise > 1e-9:
        raise InputError(f"direction of {quantity}", expected="inputs that go with the fraction", found="none that do")
    return Direction(quantity, covariance @ weights / rise, rise, weights, x)


def move_along_directions(
    generator: TileGenerator,
    cohort: Cohort,
    *,
    kinds: Sequence[str] | None = None,
    reader: TileReader | None = None,
    steps: Sequence[float] = STEPS,
    tiles_per_profile: int = 4,
    max_profiles: int = 40,
    others: int = 6,
    truth_samples: int = 12,
    n_boot: int = 500,
    seed: int = 0,
) -> DirectionReport:
    """Fit a direction of each cell type on training samples, move held-out samples along it, and read the tiles.

    Parameters
    ----------
    generator : told latents; its `conditions` are moved, its noise is keyed by seed, sample id and tile number.
    cohort : with tiles and `obs["fraction_..."]`: the truth on simulated data, published proportions on her2st.
    kinds : cell types or classes (`follow.CLASSES`); None: lymphocyte and epithelial on simulated data, else epithelial and
        haematopoietic.
    reader : gives a column for each kind; None: `FractionReader`, learnt on real tiles of training samples.
    steps : standard deviations of the reading, without 0.
    max_profiles, truth_samples : held-out samples, and those drawn anew by the simulator, at most; evenly spaced.
    others : movements along which the regression expects nothing.

    Raises
    ------
    InputError : a generator that is told nothing but a label, no such fraction, no tiles, or no step other than 0.
    """
    steps = [float(step) for step in steps if step]
    if generator.system.uses != "latent" or not steps or others < 1 or tiles_per_profile < 1:
        raise InputError(
            "directions",
            expected="a generator that is told latents, a step other than 0, a tile and another direction",
            found=f"{generator.system.uses}, steps {steps}, {others} directions, {tiles_per_profile} tiles",
        )
    kinds = (SIMULATED_KINDS if cohort.simulated else REAL_KINDS) if kinds is None else tuple(kinds)
    train, held_out = (with_fractions(with_tiles(cohort, split)) for split in ("train", "test"))
    known = amounts(train, kinds)
    reader = FractionReader.fit(cohort, known, px=generator.px) if reader is None else reader
    inputs, tissues = generator.conditions(train)[0], train.obs["tissue"].astype(str).to_numpy()
    parts: list[Moved] = []
    for kind in kinds:
        direction = fit_direction(inputs, known[kind].to_numpy(), tissues, kind)
        there = held_out[(amounts(held_out, kinds)[kind] > 0).to_numpy()].copy()
        profiles = spaced(there, max_profiles)

        drawn, ends = direction.others(others, seed), sorted({min(steps), max(steps)})
        movements = [step * direction.step for step in (0.0, *steps)] + [end * each for each in drawn for end in ends]
        seen = _read(generator, profiles, movements, reader, kind, tiles_per_profile, seed)
        apart = seen[:, 1:] - seen[:, :1]
        rows = evenly_spaced(profiles.n_obs, truth_samples)
        parts.append(
            Moved(
                quantity=kind,
                expected=direction.rise,
                groups=profiles.obs["split_group"].astype(str).to_numpy(),
                along={step: apart[:, number] for number, step in enumerate(steps)},
                others=[
                    {end: apart[:, len(steps) + number * len(ends) + place] for place, end in enumerate(ends)}
                    for number in range(others)
                ],
                truth=_truth(cohort, profiles, rows, direction, reader, generator.px, ends),
                controls=_controls(generator, cohort, there, direction, reader),
            )
        )
    return report_of(parts, n_tiles=tiles_per_profile, n_boot=n_boot, seed=seed)


def amounts(profiles: AnnData, kinds: Sequence[str]) -> pd.DataFrame:
    """Return fractions of cell types or of classes of them (`follow.CLASSES`), samples x kinds.

    Raises
    ------
    InputError : no such fraction.
    """
    own = fractions_of(profiles)
    joined = join_types(own, CLASSES)
    if missing := [kind for kind in kinds if kind not in own and kind not in joined]:
        raise InputError(f"cell type {missing[0]!r}", expected=f"one of {', '.join([*own, *joined])}", found="unknown")
    return pd.DataFrame({kind: own[kind] if kind in own else joined[kind] for kind in kinds})


def moved_tiles(
    generator: TileGenerator,
    cohort: Cohort,
    kind: str,
    *,
    steps: Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0),
    count: int = 8,
    seed: int = 0,
) -> dict[str, NDArray[np.uint8]]:
    """Return rows of tiles to look at: first held-out samples in turn of the tissues, one tile each, a row a step."""
    train, held_out = (with_fractions(with_tiles(cohort, split)) for split in ("train", "test"))
    direction = fit_direction(
        generator.conditions(train)[0],
        amounts(train, [kind])[kind].to_numpy(),
        train.obs["tissue"].astype(str).to_numpy(),
        kind,
    )
    chosen = first_in_turn(held_out[(amounts(held_out, [kind])[kind] > 0).to_numpy()].copy(), count)
    told, names = generator.conditions(chosen)
    rows = {}
    for step in steps:
        given = (told + step * direction.step).astype(np.float32)
        rows[f"{step:+g} sd" if step else "own profile"] = generator.make(given, names, [0] * len(names), seed=seed)
    return rows


def _read(
    generator: TileGenerator,
    profiles: AnnData,
    movements: Sequence[NDArray[np.float64]],
    reader: TileReader,
    kind: str,
    tiles: int,
    seed: int,
) -> NDArray[np.float64]:
    """Mean reading of each sample's tiles under each movement of its input, its noise unchanged; (samples, movements).

    All tiles of a sample are read together, so that whatever brings them to one stain does the same to all of them.
    """
    told, names = generator.conditions(profiles)
    steps = np.repeat(np.stack(movements), tiles, axis=0)
    numbers = list(range(tiles)) * len(movements)
    rows = []
    for name, own in zip(names, told, strict=True):
        made = generator.make((own + steps).astype(np.float32), [name] * len(steps), numbers, seed=seed)
        rows.append(reader(made, generator.mpp_um)[kind].to_numpy(float).reshape(len(movements), tiles).mean(axis=1))
    return np.stack(rows)


def _truth(
    cohort: Cohort,
    profiles: AnnData,
    rows: NDArray[np.int64],
    direction: Direction,
    reader: TileReader,
    px: int,
    steps: Sequence[float],
) -> tuple[NDArray[np.int64], Differences]:
    """Differences read from the simulator's tiles of some of the samples, their fraction moved as the regression expects."""
    kind = direction.quantity
    if not cohort.simulated or kind not in CELL_TYPES:
        return rows[:0], {}
    config, mpp_um = stored_config(cohort.folder), cohort.tile_mpp(px)
    fraction = amounts(profiles, [kind])[kind].to_numpy()[rows]
    patients = profiles.obs["patient_id"].astype(str).to_numpy()[rows]

    wanted = [fraction, *(np.clip(fraction + step * direction.rise, LEAST, MOST) for step in steps)]
    folds = np.log2([each * (1 - fraction) / (fraction * (1 - each)) for each in wanted])  # of the odds: `with_more`
    seen = []
    for number, patient in enumerate(patients):
        drawn = (tiles_with_more(config, patient, kind, float(fold), 1)[0] for fold in folds[:, number])
        seen.append(reader(np.stack([resampled(tile, (px, px)) for tile in drawn]), mpp_um)[kind].to_numpy(float))
    read = np.array(seen)
    return rows, {step: read[:, 1 + place] - read[:, 0] for place, step in enumerate(steps)}


def _controls(
    generator: TileGenerator, cohort: Cohort, profiles: AnnData, direction: Direction, reader: TileReader
) -> Controls:
    """What the fraction is, and what is read of it from held-out inputs and real tiles; each less its tissue's mean."""
    kind = direction.quantity
    told = np.asarray(generator.conditions(profiles)[0], dtype=np.float64) @ direction.weights
    mpp_um = cohort.tile_mpp(generator.px)
    tiles = real_tiles(cohort, profiles, px=generator.px, limit=REAL_TILES)
    shown = np.array([float(reader(part, mpp_um)[kind].mean()) for part in tiles])
    tissues = profiles.obs["tissue"].astype(str).to_numpy()
    truth = amounts(profiles, [kind])[kind].to_numpy()
    own, inputs, seen = (
        values - pd.Series(values).groupby(tissues).transform("mean").to_numpy() for values in (truth, told, shown)
    )
    return Controls(own, inputs, seen, profiles.obs["split_group"].astype(str).to_numpy())
