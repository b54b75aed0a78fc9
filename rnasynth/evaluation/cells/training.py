"""How the embedded nuclei network was made: trained on simulated masks alone, then its classifier fitted.

`python -m rnasynth.evaluation.cells.training FOLDER` trains a network of this kind in minutes on one core. It has not
reproduced the weights in the package, which came from an earlier form of the script (see their card). No real image takes
part: MoNuSeg and MoNuSAC forbid training released weights, and the point is to judge on them. Simulated tiles are not
real ones, so each is changed at random: size, stains, paleness of nuclei, ground, blur and noise.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from scipy import ndimage
from tqdm import tqdm

from rnasynth import files
from rnasynth.data.simulate import CELL_TYPES, SimulationConfig, render_tile
from rnasynth.errors import InputError
from rnasynth.evaluation.cells.classes import OF_KIND, NucleusClasses
from rnasynth.evaluation.cells.matching import RADIUS_UM, match_centroids
from rnasynth.evaluation.cells.stain import STAINS, unmixed
from rnasynth.nets.nuclei import NucleiNet

STEPS, BATCH, TILES, TILE_PX = 1560, 8, 2000, 96
FINEST_UM, COARSEST_UM = 0.345, 0.62  # um/px of the training tiles, taken as if all were 0.5: nuclei of many sizes
LEARNING_RATE, WARM_UP, DEPTH_WEIGHT = 4e-3, 50, 2.0
SEED = 1000  # of the simulated patients; the book's cohorts have small seeds

Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def depth_map(mask: NDArray[np.integer]) -> NDArray[np.float32]:
    """Depth of each pixel in its own object: 1 in the middle, 1 / (2 r) at the border, 0 outside.

    Parameters
    ----------
    mask : shape (H, W), number of the object, 0 for none; r is its largest distance to the border, px.
    """
    padded = np.pad(mask, 1)
    border = np.zeros(padded.shape, dtype=bool)
    for shift in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        border |= np.roll(padded, shift, (0, 1)) != padded
    border = border[1:-1, 1:-1] & (mask > 0)
    if not border.any():
        return (mask > 0).astype(np.float32)
    distance = np.where(mask > 0, ndimage.distance_transform_edt(~border) + 0.5, 0.0).astype(np.float32)
    deepest = np.zeros(int(mask.max()) + 1, np.float32)
    np.maximum.at(deepest, mask.ravel(), distance.ravel())
    return distance / np.maximum(deepest[mask], 1.0)


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


def _noise(generator: np.random.Generator, side: int, sigma: float) -> NDArray[np.float32]:
    field = ndimage.gaussian_filter(generator.standard_normal((side, side)).astype(np.float32), sigma)
    return field / (float(field.std()) + 1e-6)


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
    vectors = np.clip(STAINS + rng.normal(0, 0.06, STAINS.shape), 0.03, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    amounts = np.exp(rng.normal(0, 0.3, 2)) * np.exp(rng.normal(0, 0.15))
    density = np.clip(np.stack([h, e], axis=-1), 0, None) * amounts @ vectors + rng.uniform(-0.02, 0.18)
    blur = rng.uniform(0.2, 1.3)
    light = ndimage.gaussian_filter(np.exp(-np.clip(density, 0, None)), (blur, blur, 0))
    if rng.random() < 0.4:  # a scanner's sharpening
        light += rng.uniform(0, 1.5) * (light - ndimage.gaussian_filter(light, (1, 1, 0)))
    light = (light + rng.normal(0, rng.uniform(0.003, 0.03), light.shape)) * rng.uniform(0.92, 1.03, 3)
    return unmixed(-np.log((np.clip(light, 0, 1) * 255 + 1) / 256).astype(np.float32))


def train(*, steps: int = STEPS, tiles: int = TILES, seed: int = SEED, progress: bool = True) -> NucleiNet:
    """Train the network; the same arguments give the same weights on one machine and one thread.

    Loss: binary cross-entropy of "inside", plus twice that of the depth. AdamW, linear warm-up and decay; the weights are
    a moving average over steps.
    """
    stains, masks, depths = rendered(tiles, seed=seed)
    torch.manual_seed(seed)
    network, averaged = NucleiNet(), NucleiNet()
    averaged.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-4)
    loss_of = torch.nn.functional.binary_cross_entropy_with_logits
    for step in tqdm(range(steps), disable=None if progress else True, unit="step"):
        generator = np.random.default_rng([seed, step])
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / WARM_UP) * max(0.01, 1 - step / steps)
        inputs, inside, depth = _batch(generator, stains, masks, depths)
        logits = network.train()(torch.from_numpy(inputs))
        loss = loss_of(logits[:, 0], torch.from_numpy(inside))
        loss = loss + DEPTH_WEIGHT * loss_of(logits[:, 1], torch.from_numpy(depth))
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


def _batch(
    generator: np.random.Generator, stains: NDArray[np.float32], masks: NDArray[np.int32], depths: NDArray[np.float32]
) -> Batch:
    inputs, inside, depth = [], [], []
    for row in generator.integers(len(masks), size=BATCH):
        moved = warped(generator, stains[row], masks[row], depths[row])
        inputs.append(photographed(generator, *moved))
        inside.append((moved[1] > 0).astype(np.float32))
        depth.append(moved[2])
    return np.stack(inputs), np.stack(inside), np.stack(depth).astype(np.float32)


def save_weights(network: NucleiNet, path: Path, *, kinds: NucleusClasses | None = None) -> None:
    """Write the weights, a digest of them, and the classifier into one safetensors file."""
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest()[:8]
    facts = {"digest": digest, "classes": json.dumps(kinds.to_dict()) if kinds is not None else ""}
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


def main(folder: Path) -> None:
    """Train, fit, and write `nuclei_default.safetensors` into a folder."""
    torch.set_num_threads(1)
    path = folder / "nuclei_default.safetensors"
    network = train()
    save_weights(network, path)
    save_weights(network, path, kinds=fit_classes(path))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise InputError("cells.training", expected="one folder to write to", found=f"{len(sys.argv) - 1} arguments")
    main(Path(sys.argv[1]))
