"""How the embedded nuclei network was made: trained on drawn and simulated masks alone, then its classifier fitted.

`python -m rnasynth.evaluation.cells.training FOLDER` makes the weights in the package again, in some minutes on one core:
`NucleiTraining` holds all that they depend on beside the code, and its hash stands in their file and on their card. No real
image takes part: MoNuSeg and MoNuSAC forbid training released weights, and the point is to judge on them. Drawn and
simulated fields are not real ones, so each is changed at random: stains, paleness of nuclei, ground, blur, noise, and size.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from scipy import ndimage
from simplejpeg import decode_jpeg, encode_jpeg
from tqdm import tqdm

from rnasynth import files
from rnasynth.config import Config, canonical_json, check, config_hash
from rnasynth.data.simulate import CELL_TYPES, SimulationConfig, render_tile
from rnasynth.errors import InputError
from rnasynth.evaluation.cells.classes import OF_KIND, NucleusClasses
from rnasynth.evaluation.cells.crowds import crowd, edges, noise
from rnasynth.evaluation.cells.matching import RADIUS_UM, match_centroids
from rnasynth.evaluation.cells.stain import STAINS, unmixed
from rnasynth.nets.nuclei import NucleiNet

TILE_PX, DRAWN_PX = 96, 128
FINEST_UM, COARSEST_UM = 0.345, 0.62  # um/px of the training tiles, taken as if all were 0.5: nuclei of many sizes
DEPTH_WEIGHT = 2.0
_noise = partial(noise, mode="reflect")  # as when the weights in the package were trained
SEED = 1000  # of the simulated patients; the book's cohorts have small seeds

Batch = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class NucleiTraining(Config):
    """What the weights depend on, beside the code; the defaults are those of the weights in the package."""

    steps: int = 2000
    """Optimiser steps."""
    batch: int = 8
    """Tiles a step, 96 px each."""
    fields: int = 800
    """Drawn fields (`crowds`), of which pieces are cut."""
    tiles: int = 400
    """Simulated tiles of renderer "a"."""
    drawn_share: float = 0.7
    """Share of a batch cut out of drawn fields; the rest are simulated tiles."""
    learning_rate: float = 2e-3
    """At its highest."""
    warm_up: int = 50
    """Steps until then."""
    seed: int = SEED
    """Of everything random."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "fields", "tiles", "warm_up"):
            check(self, name, getattr(self, name) >= 1, "1 or more")
        check(self, "drawn_share", 0 <= self.drawn_share <= 1, "0 to 1")
        check(self, "learning_rate", self.learning_rate > 0, "above 0")


def depth_map(mask: NDArray[np.integer]) -> NDArray[np.float32]:
    """Depth of each pixel in its own object: 1 in its middle alone, near 0 at its border, 0 outside.

    The root of two things multiplied: the distance to the border over its largest, and 1 - q, where q is the relative radius
    in the ellipse of the object's moments (0 in the middle, 1 on the outline). The first alone is a ridge in a long nucleus,
    with many peaks; the second falls along it.

    Parameters
    ----------
    mask : shape (H, W), number of the object, 0 for none.
    """
    border = edges(mask)
    if not border.any():
        return (mask > 0).astype(np.float32)
    distance = np.where(mask > 0, ndimage.distance_transform_edt(~border) + 0.5, 0.0).astype(np.float32)
    at = np.flatnonzero(mask.ravel())
    which = mask.ravel()[at].astype(np.int64)
    deepest = np.zeros(int(mask.max()) + 1, np.float32)
    np.maximum.at(deepest, which, distance.ravel()[at])
    y, x = np.divmod(at, mask.shape[1])
    count = np.maximum(np.bincount(which), 1)

    def mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(which, weights=values) / count)

    dy, dx = y - mean(y.astype(np.float64))[which], x - mean(x.astype(np.float64))[which]
    yy, xx, xy = mean(dy * dy) + 1 / 12, mean(dx * dx) + 1 / 12, mean(dx * dy)
    over = np.maximum(yy * xx - xy**2, 1e-6)
    square = (xx[which] * dy**2 - 2 * xy[which] * dx * dy + yy[which] * dx**2) / over[which]
    depth = np.zeros(mask.size, np.float32)
    depth[at] = np.sqrt(distance.ravel()[at] / deepest[which] * np.clip(1 - np.sqrt(np.maximum(square, 0)) / 2, 0, 1))
    return depth.reshape(mask.shape)


def rendered(n: int, *, seed: int = SEED) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Render training tiles: concentrations (n, 2, H, W), masks (n, H, W), depths (n, H, W)."""
    generator = np.random.default_rng(seed)
    stains, masks, depths = [], [], []
    for number in range(n):
        mpp_um = float(np.exp(generator.uniform(np.log(FINEST_UM), np.log(COARSEST_UM))))
        config = SimulationConfig(patients=1000, tile_px=TILE_PX, mpp_um=mpp_um, seed=seed)
        tile = render_tile(config, number % 1000, number // 1000)
        mask = tile.mask.astype(np.int32)
        stains.append(tile.concentrations.astype(np.float32))
        masks.append(mask)
        depths.append(depth_map(mask))
    return np.stack(stains), np.stack(masks), np.stack(depths)


def warped(
    generator: np.random.Generator, stains: NDArray[np.float32], mask: NDArray[np.int32], depth: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Turn, flip, scale and stretch one tile about its middle, mirrored beyond its borders."""
    side = mask.shape[0]
    zoom, stretch = np.exp(generator.uniform(-0.15, 0.55)), np.exp(generator.normal(0, 0.12))
    turn, along = generator.uniform(0, 2 * np.pi), generator.uniform(0, np.pi)

    def rotation(angle: float) -> NDArray[np.float64]:
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    flip = np.diag([1.0, generator.choice([-1.0, 1.0])])
    matrix = rotation(turn) @ flip @ rotation(along) @ np.diag([stretch, 1 / stretch]) @ rotation(-along) / zoom
    middle = (side - 1) / 2
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij")).reshape(2, -1) - middle
    places = (matrix @ grid + middle).reshape(2, side, side)
    smooth = [ndimage.map_coordinates(plane, places, order=1, mode="reflect") for plane in (*stains, depth)]
    return np.stack(smooth[:2]), ndimage.map_coordinates(mask, places, order=0, mode="reflect"), np.clip(smooth[2], 0, 1)


def photographed(
    generator: np.random.Generator, stains: NDArray[np.float32], mask: NDArray[np.int32], depth: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Change what a tile looks like, never where its nuclei are; returns the network's input (3, H, W)."""
    side, n, rng = mask.shape[0], int(mask.max()), generator
    inside = mask > 0
    strength = np.exp(rng.normal(rng.normal(0, 0.3), 0.2, n + 1)).astype(np.float32)
    strength[0] = 1.0
    h, e = stains[0] * strength[mask], stains[1].copy()
    if rng.random() < 0.45:  # vesicular: pale inside, dark at the rim, with nucleoli
        pale = rng.uniform(0, 0.65, n + 1).astype(np.float32) * (rng.random(n + 1) < 0.7)
        pale[0] = 0.0
        h *= 1 - pale[mask] * np.clip(1.6 * depth - 0.2, 0, 1)
        if rng.random() < 0.6:
            h += inside * np.clip(_noise(rng, side, rng.uniform(0.7, 1.3)) - 1.2, 0, None) * rng.uniform(0, 0.7)
    h *= np.clip(1 + rng.uniform(0, 0.3) * _noise(rng, side, rng.uniform(0.6, 2.5)), 0.1, 3)
    e *= np.clip(1 + rng.uniform(0, 0.4) * _noise(rng, side, rng.uniform(4, 12)), 0.2, 2)
    ground = ndimage.gaussian_filter((~inside).astype(np.float32), 0.6)
    if rng.random() < 0.7:  # bluish cytoplasm
        h += ground * rng.uniform(0, 0.6) * e
    if rng.random() < 0.3:  # dark patches that are no nuclei
        h += ground * rng.uniform(0, 0.35) * np.clip(_noise(rng, side, rng.uniform(1.2, 5)) - 0.5, 0, 2) * (e > 0.1)
    if rng.random() < 0.3:  # foam and clefts
        holes = np.clip(_noise(rng, side, rng.uniform(1.5, 4)) - rng.uniform(0, 0.8), 0, 1)
        keep = 1 - ground * np.clip(rng.uniform(0.3, 1.0) * holes, 0, 1)
        h, e = h * keep, e * keep
    return seen(rng, h, e)


def seen(generator: np.random.Generator, h: NDArray[np.floating], e: NDArray[np.floating]) -> NDArray[np.float32]:
    """Stain, light up and scan amounts of haematoxylin and eosin (H, W); returns the network's input (3, H, W)."""
    rng = generator
    vectors = np.clip(STAINS + rng.normal(0, 0.06, STAINS.shape), 0.03, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    amounts = np.exp(rng.normal(0, 0.3, 2)) * np.exp(rng.normal(0, 0.15))
    density = np.clip(np.stack([h, e], axis=-1), 0, None) * amounts @ vectors + rng.uniform(-0.02, 0.18)
    blur = rng.uniform(0.2, 1.3)
    light = ndimage.gaussian_filter(np.exp(-np.clip(density, 0, None)), (blur, blur, 0))
    if rng.random() < 0.4:  # a scanner's sharpening
        light += rng.uniform(0, 1.5) * (light - ndimage.gaussian_filter(light, (1, 1, 0)))
    light = (light + rng.normal(0, rng.uniform(0.003, 0.03), light.shape)) * rng.uniform(0.92, 1.03, 3)
    pixels = (np.clip(light, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.4:
        pixels = decode_jpeg(encode_jpeg(np.ascontiguousarray(pixels), quality=int(rng.integers(40, 96))))
    planes = unmixed(-np.log((pixels.astype(np.float32) + 1) / 256))
    return planes * np.exp(rng.normal(0, 0.1, (3, 1, 1))).astype(np.float32)


def drawn(n: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Draw training fields (`crowds.crowd`): amounts of stain (n, 2, H, W), masks (n, H, W), depths (n, H, W)."""
    stains, masks, depths = [], [], []
    for number in range(n):
        h, e, mask = crowd(np.random.default_rng([seed, 1, number]), DRAWN_PX)
        stains.append(np.stack([h, e]).astype(np.float32))
        masks.append(mask)
        depths.append(depth_map(mask))
    return np.stack(stains), np.stack(masks), np.stack(depths)


def train(config: NucleiTraining, *, progress: bool = True) -> NucleiNet:
    """Train the network; the same configuration gives the same weights on one machine, one thread, one release of torch.

    Loss: binary cross-entropy of "inside", plus twice that of the depth. AdamW, linear warm-up and decay; convolutions in
    bfloat16; the weights are a moving average over steps.
    """
    sources = (drawn(config.fields, seed=config.seed), rendered(config.tiles, seed=config.seed))
    torch.manual_seed(config.seed)
    network, averaged = (NucleiNet().to(memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
    averaged.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=1e-4)
    loss_of = torch.nn.functional.binary_cross_entropy_with_logits
    for step in tqdm(range(config.steps), disable=None if progress else True, unit="step"):
        generator = np.random.default_rng([config.seed, step])
        decay = max(0.01, 1 - step / config.steps)
        optimizer.param_groups[0]["lr"] = config.learning_rate * min(1, (step + 1) / config.warm_up) * decay
        inputs, inside, depth = _batch(generator, config, *sources)
        images = torch.from_numpy(inputs).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network.train()(images)
        loss = loss_of(logits[:, 0].float(), torch.from_numpy(inside))
        loss = loss + DEPTH_WEIGHT * loss_of(logits[:, 1].float(), torch.from_numpy(depth))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        share = 1 - min(0.99, (step + 1) / (step + 11))
        with torch.no_grad():
            for mean, value in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
                if mean.dtype.is_floating_point:
                    mean.lerp_(value, share)
                else:
                    mean.copy_(value)
    return averaged.eval()


def _batch(generator: np.random.Generator, config: NucleiTraining, fields: Batch, tiles: Batch) -> Batch:
    inputs, inside, depth = [], [], []
    for _ in range(config.batch):
        if generator.random() < config.drawn_share:
            stains, mask, deep = _cut(generator, fields)
            inputs.append(seen(generator, *stains))
        else:
            row = int(generator.integers(len(tiles[1])))
            stains, mask, deep = warped(generator, *(part[row] for part in tiles))
            inputs.append(photographed(generator, stains, mask, deep))
        inside.append((mask > 0).astype(np.float32))
        depth.append(deep)
    return np.stack(inputs).astype(np.float32), np.stack(inside), np.stack(depth).astype(np.float32)


def _cut(
    generator: np.random.Generator, fields: Batch
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Cut a piece out of a drawn field, turned and flipped."""
    row, turn, flip = int(generator.integers(len(fields[1]))), int(generator.integers(4)), generator.random() < 0.5
    y, x = generator.integers(0, DRAWN_PX - TILE_PX + 1, 2)
    parts = []
    for part in fields:
        piece = np.rot90(part[row][..., y : y + TILE_PX, x : x + TILE_PX], turn, (-2, -1))
        parts.append(np.ascontiguousarray(piece[..., ::-1] if flip else piece))
    return parts[0], parts[1], parts[2]


def save_weights(
    network: NucleiNet, path: Path, *, config: NucleiTraining | None = None, kinds: NucleusClasses | None = None
) -> None:
    """Write the weights, a digest of them, what they were trained with and the classifier into one safetensors file."""
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest()[:8]
    facts = {"digest": digest, "classes": json.dumps(kinds.to_dict()) if kinds is not None else ""}
    if config is not None:
        facts |= {"config": canonical_json(config), "config_hash": config_hash(config), "torch": torch.__version__}
    files.write_bytes(path, save(state, metadata=facts))


def fit_classes(weights: Path, *, patients: int = 250, tiles: int = 2, seed: int = SEED) -> NucleusClasses:
    """Fit the classifier on nuclei that the network finds in simulated tiles and that match one of known kind."""
    import pandas as pd

    from rnasynth.evaluation.cells.models import DefaultNuclei

    model = DefaultNuclei(weights)
    config = SimulationConfig(patients=patients, tiles_per_patient=tiles, tile_px=160, mpp_um=model.mpp_um, seed=seed + 1)
    tables, names = [], []
    for patient in range(patients):
        for number in range(tiles):
            tile = render_tile(config, patient, number)
            found = model(tile.image)
            truth = np.column_stack([tile.nuclei["x_um"], tile.nuclei["y_um"]]) - model.mpp_um / 2
            pairs = match_centroids(truth, found.centroids_um, RADIUS_UM)
            tables.append(found.table.iloc[pairs[:, 1]])
            names += [OF_KIND[CELL_TYPES[kind]] for kind in tile.nuclei["kind"][pairs[:, 0]]]
    return NucleusClasses.fit(pd.concat(tables), np.array(names))


def main(folder: Path, assignments: list[str]) -> None:
    """Train, fit, and write `nuclei_default.safetensors` into a folder."""
    torch.set_num_threads(1)
    config = NucleiTraining().with_overrides(assignments)
    path = folder / "nuclei_default.safetensors"
    network = train(config)
    save_weights(network, path, config=config)
    save_weights(network, path, config=config, kinds=fit_classes(path))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise InputError("cells.training", expected="a folder to write to, then field=value", found="no arguments")
    main(Path(sys.argv[1]), sys.argv[2:])
