"""Tiles -> features, by the embedded descriptor or any network, streamed with bounded memory; reference statistics.

A distance between tiles is only as good as the features under it, so every result names its feature network. The
embedded one, `StainTexture`, needs no weights and no training: it measures what a pathologist's eye starts from (how
much haematoxylin and eosin, how many dark blobs of which size, how fibrous, how much lumen).
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnasynth.errors import InputError
from rnasynth.nets.stain import concentrations, restain, strength

WHITE_OD = 0.12  # mean optical density of the three channels below which a pixel is empty glass
SCALES_UM = (1.0, 2.0, 4.0, 8.0, 16.0)  # centres of the texture bands, in um: chromatin, nucleus, gland wall, gland, field
DARK_LEVELS = (0.4, 0.7, 1.0, 1.4)  # haematoxylin concentrations whose exceeding share is measured
COHERENCE_UM = (2.0, 6.0)  # windows of the orientation coherence, in um
LUMEN_UM = (4.0, 8.0, 16.0)  # sides of the all-white windows, in um
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@runtime_checkable
class FeatureNetwork(Protocol):
    """Anything that turns tiles into features."""

    @property
    def name(self) -> str:
        """What stands in captions and keys; another name for other weights."""
        ...

    @property
    def dim(self) -> int:
        """Number of features."""
        ...

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> NDArray[np.float32]:
        """Shape (B, H, W, 3), uint8 RGB, at `mpp_um` um a pixel -> (B, dim) float32."""
        ...


class StainTexture:
    """Training-free descriptor of H&E tiles, 60 numbers, from 32 px up; a tile's features depend on that tile only.

    Colour (24): mean, spread and five quantiles of the haematoxylin concentration, the eosin concentration and the mean
    optical density (7 each); mean optical density of red, green, blue. Darkness (4): share of pixels above four
    haematoxylin concentrations. Texture (20): haematoxylin and eosin are each split into five bands of about 1, 2, 4, 8
    and 16 um (difference of two Gaussian blurs); of every band the root mean square and the skewness-like ratio
    mean(max(b, 0)^2) / mean(b^2) (dark blobs on light ground > 0.5). Fibres (4): orientation coherence of the structure
    tensor in windows of two sizes, and its mean gradient energy there. Lumen (8): white share; share of windows of three
    sizes that are wholly white; and the same of wholly stained windows, with the correlation of the two stains.

    A band finer than a pixel or coarser than a quarter of the tile cannot be measured and gives 0: compare only tiles
    of the same um/px and size.
    """

    name = "stain-texture-1"
    dim = 60

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> NDArray[np.float32]:
        """Shape (B, H, W, 3) uint8 -> (B, 60) float32, all finite.

        Raises
        ------
        InputError : not uint8 RGB tiles, smaller than 32 px, or an absurd um/px.
        """
        _check_tiles(tiles)
        if min(tiles.shape[1:3]) < 32:
            raise InputError("tiles", expected="at least 32 px a side", found=f"{tiles.shape[1]} x {tiles.shape[2]}")
        if not (math.isfinite(mpp_um) and 0.05 <= mpp_um <= 20):
            raise InputError("mpp_um", expected="0.05 to 20 um a pixel", found=repr(mpp_um))
        with torch.no_grad():
            return self._measure(torch.from_numpy(np.ascontiguousarray(tiles)), mpp_um).numpy()

    def _measure(self, tiles: Tensor, mpp_um: float) -> Tensor:
        density = -torch.log((tiles.float() + 1.0) / 256.0)  # (B, H, W, 3), 0 for white
        stains = concentrations(tiles)
        h, e, grey = stains[..., 0], stains[..., 1], density.mean(dim=-1)
        features: list[Tensor] = []
        for channel in (h, e, grey):
            flat = channel.flatten(1)
            ordered = flat.sort(dim=1).values
            places = [round(quantile * (flat.shape[1] - 1)) for quantile in QUANTILES]
            features += [flat.mean(dim=1), flat.std(dim=1), *ordered[:, places].T]
        features += list(density.mean(dim=(1, 2)).T)
        features += [(h > level).float().mean(dim=(1, 2)) for level in DARK_LEVELS]
        both = torch.stack([h, e], dim=1)  # (B, 2, H, W)
        for sigma_um in SCALES_UM:
            sigma_px = sigma_um / mpp_um
            if sigma_px < 0.5 or sigma_px > min(tiles.shape[1:3]) / 8:
                features += [torch.zeros(len(tiles))] * 4
                continue
            maps, sigma = _coarser(both, sigma_px)
            band = _blur(maps, sigma / math.sqrt(2)) - _blur(maps, sigma * math.sqrt(2))
            energy = band.square().mean(dim=(2, 3))
            features += [*energy.sqrt().T, *(band.clamp(min=0).square().mean(dim=(2, 3)) / (energy + 1e-8)).T]
        for window_um in COHERENCE_UM:
            features += _coherence(grey, window_um / mpp_um)
        white = (grey < WHITE_OD).float()
        features.append(white.mean(dim=(1, 2)))
        for side_um in LUMEN_UM:
            side = min(max(1, round(side_um / mpp_um)), *tiles.shape[1:3])
            share = _box_matrix(tiles.shape[1], side) @ white @ _box_matrix(tiles.shape[2], side).T
            features += [
                (share > 1 - 0.5 / side**2).float().mean(dim=(1, 2)),
                (share < 0.5 / side**2).float().mean(dim=(1, 2)),
            ]
        centred = both.flatten(2) - both.flatten(2).mean(dim=2, keepdim=True)
        spread = centred.square().mean(dim=2).sqrt()
        features.append((centred[:, 0] * centred[:, 1]).mean(dim=1) / (spread[:, 0] * spread[:, 1] + 1e-4))
        return torch.stack(features, dim=1)


def same_stain(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring the tiles of one slide (or of one generated set) to the common stain; uint8 (N, H, W, 3) -> the same.

    How strongly a slide was stained says nothing of its cells, and no RNA knows it.
    """
    _check_tiles(tiles)
    given = torch.from_numpy(np.ascontiguousarray(tiles))
    return restain(given, strength(given)).round().to(torch.uint8).numpy()


class TorchFeatures:
    """Any torch module as a feature network (Inception, UNI, a network trained here).

    Parameters
    ----------
    module : (B, 3, h, w) float32 -> (B, dim) (more dimensions are averaged away).
    preprocess : uint8 (B, H, W, 3) numpy and um/px -> what the module takes; scaling and normalisation go here.
    name : what stands in captions and keys.
    dim : number of features.
    device : where the module runs.
    """

    def __init__(
        self,
        module: nn.Module,
        preprocess: Callable[[NDArray[np.uint8], float], Tensor],
        *,
        name: str,
        dim: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.module, self.preprocess = module.eval().to(device), preprocess
        self.name, self.dim, self.device = name, dim, torch.device(device)

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> NDArray[np.float32]:
        """Shape (B, H, W, 3) uint8 -> (B, dim) float32."""
        _check_tiles(tiles)
        with torch.inference_mode():
            features = self.module(self.preprocess(tiles, mpp_um).to(self.device))
            if features.dim() > 2:
                features = features.flatten(2).mean(dim=2)
        if features.shape != (len(tiles), self.dim):
            raise InputError(f"features {self.name}", expected=f"{self.dim} a tile", found=f"shape {tuple(features.shape)}")
        return np.asarray(features.float().cpu().numpy(), dtype=np.float32)


class TileSource(Protocol):
    """What `extract` reads from: a `TileStore` is one."""

    def __len__(self) -> int: ...

    def read_batch(self, tile_ids: Sequence[int], px: int | None = None) -> NDArray[np.uint8]: ...


def extract(
    tiles: NDArray[np.uint8] | TileSource | Iterable[NDArray[np.uint8]],
    network: FeatureNetwork,
    *,
    mpp_um: float,
    tile_ids: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    px: int | None = None,
    batch: int = 256,
) -> NDArray[np.float32]:
    """Features of many tiles, `batch` at a time: memory holds one batch of tiles, and the features.

    Parameters
    ----------
    tiles : uint8 (N, H, W, 3); or a tile store; or an iterable of single uint8 tiles (a generator of tiles, say).
    network : the feature network.
    mpp_um : um/px of the tiles as the network sees them (after resizing to `px`).
    tile_ids : which tiles of an array or store, in this order; all where None.
    px : side to which a store's tiles are area-averaged.
    batch : tiles at a time.

    Returns
    -------
    Shape (N, network.dim), float32.

    Raises
    ------
    InputError : no tiles, or features that are not finite.
    """
    parts = [network(part, mpp_um) for part in _batches(tiles, tile_ids, px, batch)]
    if not parts:
        raise InputError("tiles", expected="at least one", found="none")
    features = np.concatenate(parts)
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise InputError(f"features {network.name}", expected="finite numbers", found=f"NaN or infinity at tile {row}")
    return features


@dataclass(frozen=True)
class FeatureStats:
    """Mean and covariance of a reference set's features, and a hash that says which set and network it was.

    Parameters
    ----------
    network : name of the feature network.
    mean, cov : shape (dim,) and (dim, dim), float64; the covariance divides by n - 1.
    n : number of tiles.
    digest : the first 12 hexadecimal characters of a SHA-256 over name and features.
    """

    network: str
    mean: NDArray[np.float64]
    cov: NDArray[np.float64]
    n: int
    digest: str

    @classmethod
    def of(cls, features: NDArray[Any], network: str) -> FeatureStats:
        """Compute from features of shape (N, dim), N >= 2.

        Raises
        ------
        InputError : fewer than two rows.
        """
        if features.ndim != 2 or len(features) < 2:
            raise InputError(f"features {network}", expected="at least two rows", found=f"shape {features.shape}")
        values = np.asarray(features, dtype=np.float64)
        digest = hashlib.sha256(network.encode() + np.ascontiguousarray(features, dtype=np.float32).tobytes()).hexdigest()
        return cls(
            network, values.mean(axis=0), np.cov(values, rowvar=False).reshape(values.shape[1], -1), len(values), digest[:12]
        )

    def scaled(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Standardise features by this set's mean and spread; a feature that was constant here stays 0."""
        spread = np.sqrt(np.diag(self.cov))
        usable = spread > 1e-8
        return np.where(usable, (features - self.mean) / np.where(usable, spread, 1.0), 0.0)


def _check_tiles(tiles: NDArray[np.uint8]) -> None:
    if tiles.ndim != 4 or tiles.shape[-1] != 3 or tiles.dtype != np.uint8:
        raise InputError("tiles", expected="uint8 of shape (B, H, W, 3)", found=f"{tiles.dtype} of shape {tiles.shape}")


def _batches(
    tiles: NDArray[np.uint8] | TileSource | Iterable[NDArray[np.uint8]],
    tile_ids: Sequence[int] | NDArray[np.integer[Any]] | None,
    px: int | None,
    batch: int,
) -> Iterator[NDArray[np.uint8]]:
    if isinstance(tiles, np.ndarray):
        chosen = np.arange(len(tiles)) if tile_ids is None else np.asarray(tile_ids)
        for start in range(0, len(chosen), batch):
            yield tiles[chosen[start : start + batch]]
    elif hasattr(tiles, "read_batch"):
        numbers = [int(number) for number in (range(len(tiles)) if tile_ids is None else tile_ids)]  # type: ignore[arg-type]
        for start in range(0, len(numbers), batch):
            yield tiles.read_batch(numbers[start : start + batch], px=px)
    else:
        waiting: list[NDArray[np.uint8]] = []
        for tile in tiles:
            waiting.append(tile)
            if len(waiting) == batch:
                yield np.stack(waiting)
                waiting = []
        if waiting:
            yield np.stack(waiting)


@functools.lru_cache(maxsize=256)
def _blur_matrix(size: int, sigma_px: float) -> Tensor:
    """Gaussian blur of `size` points as a matrix, mirrored at the borders; shape (size, size), rows add up to 1."""
    radius = min(max(1, math.ceil(2.5 * sigma_px)), size - 1)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-offsets.float().square() / (2 * sigma_px**2))
    places = (torch.arange(size)[:, None] + offsets).abs()
    places = torch.where(places > size - 1, 2 * (size - 1) - places, places)
    return torch.zeros(size, size).scatter_add_(1, places, (weights / weights.sum()).expand(size, -1))


@functools.lru_cache(maxsize=256)
def _box_matrix(size: int, side: int) -> Tensor:
    """Mean over every window of `side` points, as a matrix of shape (size - side + 1, size)."""
    start, place = torch.arange(size - side + 1)[:, None], torch.arange(size)
    return ((place >= start) & (place < start + side)).float() / side


def _blur(maps: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of (B, C, H, W): two matrix products, several times as fast as convolutions of one channel."""
    height, width = maps.shape[2:]
    return _blur_matrix(height, sigma_px) @ maps @ _blur_matrix(width, sigma_px).T


def _coarser(maps: Tensor, sigma_px: float) -> tuple[Tensor, float]:
    """Average maps down while a blur of `sigma_px` stays above 4 px, and return them with the blur in their pixels."""
    while sigma_px >= 8.0 and min(maps.shape[2:]) % 2 == 0:
        maps, sigma_px = maps.unflatten(3, (-1, 2)).mean(4).unflatten(2, (-1, 2)).mean(3), sigma_px / 2
    return maps, sigma_px


def _coherence(grey: Tensor, window_px: float) -> list[Tensor]:
    """Mean coherence (0 isotropic, 1 one direction) weighted by energy, and the mean gradient, of the structure tensor."""
    maps, window_px = _coarser(grey[:, None], window_px)
    smooth = _blur(maps, max(0.5, window_px / 4))
    dx = (smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]) / 2
    dy = (smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]) / 2
    products = _blur(torch.cat([dx * dx, dy * dy, dx * dy], dim=1), max(0.5, window_px))
    xx, yy, xy = products.unbind(dim=1)
    energy = xx + yy
    anisotropy = torch.sqrt((xx - yy).square() + 4 * xy.square())
    total = energy.mean(dim=(1, 2))
    return [anisotropy.mean(dim=(1, 2)) / (total + 1e-6), total.clamp(min=0).sqrt()]
