"""Profiles in, tiles out: the trained generator as an object, and as a folder of PNG files with a table.

Every tile has a random generator of its own, keyed by (seed, sample id, tile number): it is the same tile whatever
batch, file or order it is made in (on one machine; other batch sizes may move single grey levels by rounding).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import anndata
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from rnasynth.data.h5ad import read_h5ad
from rnasynth.errors import InputError
from rnasynth.files import locked_folder, read_json, write_bytes, write_json, write_text
from rnasynth.systems.tile_system import TileSystem, tile_generator

HEADER = "generation.json"
TABLE = "table.csv"


class Encoder(Protocol):
    """What turns profiles into latents: a trained beta-VAE is one."""

    def encode(self, profiles: anndata.AnnData) -> NDArray[np.float32]: ...


class TileGenerator:
    """A trained system that makes tiles.

    Parameters
    ----------
    system : the system with trained weights; tiles come from the moving average of its weights where there is one.
    encoder : profiles -> latents, for a system that is told latents.
    run_id : the run that it comes from, for tables.
    encoder_id : the encoder's run, so that stages of a cascade can be told apart that were trained on other latents.
    """

    def __init__(
        self, system: TileSystem, *, encoder: Encoder | None = None, run_id: str = "", encoder_id: str = ""
    ) -> None:
        self.system, self.encoder, self.run_id, self.encoder_id = system, encoder, run_id, encoder_id
        self.px = system.settings.tile_px
        self.mpp_um = float(system.facts["tile_um"]) / self.px

    @property
    def drawing(self) -> str:
        """How tiles are drawn, where that is a choice: tiles of another way are others, though the run is the same."""
        return ""

    def to(self, device: str = "auto") -> Self:
        """Move the networks to "cpu", "cuda" or ("auto") the GPU if there is one; noise is drawn on the CPU in any case."""
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.system.to(chosen)
        for network in self.system.averaged.values():
            network.to(chosen)
        return self

    def conditions(self, profiles: anndata.AnnData | NDArray[Any]) -> tuple[NDArray[np.float32], list[str]]:
        """Return what the generator is told about each sample, shape (N, c), and the sample ids.

        Parameters
        ----------
        profiles : raw AnnData (its genes are aligned and transformed as in training; a system that is told the tissue
            reads `obs["tissue"]`), or latents of shape (N, latent) as the encoder gives them.

        Raises
        ------
        InputError : no sample, two samples of one id, genes or unit that do not fit, a tissue unknown to the run.
        """
        if not isinstance(profiles, anndata.AnnData):
            latents = np.asarray(profiles, dtype=np.float32)
            names = [str(row) for row in range(len(latents))]
            tissues: NDArray[Any] = np.array([""] * len(latents))
        else:
            latents, names = None, [str(name) for name in profiles.obs_names]
            if not names:
                raise InputError("profiles", expected="at least one sample", found="none")
            if twice := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
                raise InputError(f"sample {twice[0]}", expected="each sample id once", found="it more than once")
            if self.system.uses == "tissue" and "tissue" not in profiles.obs:
                raise InputError(
                    "profiles", expected='a column obs["tissue"]', found="none", fix="add it: this run needs it"
                )
            tissues = (
                profiles.obs["tissue"].astype(str).to_numpy() if "tissue" in profiles.obs else np.array([""] * len(names))
            )
            if self.system.uses == "latent":
                if self.encoder is None:
                    raise InputError(f"run {self.run_id}", expected="its upstream encoder", found="none", fix="pass latents")
                latents = np.asarray(self.encoder.encode(profiles), dtype=np.float32)
        if not names:
            raise InputError("profiles", expected="at least one sample", found="none")
        if latents is not None and not np.isfinite(latents).all():
            row = int(np.flatnonzero(~np.isfinite(latents).all(axis=1))[0])
            raise InputError(f"sample {names[row]}", expected="a latent of finite numbers", found="NaN or infinity")
        return self.system.condition_of(latents, tissues), names

    def make(
        self, conditions: NDArray[np.float32], names: Sequence[str], numbers: Sequence[int], *, seed: int = 0
    ) -> NDArray[np.uint8]:
        """Make one tile for each row.

        Parameters
        ----------
        conditions : shape (B, c), from `conditions`.
        names, numbers : sample id and tile number of each row; with the seed they key its noise.

        Returns
        -------
        Shape (B, px, px, 3), uint8 RGB.
        """
        generators = [tile_generator(seed, name, number) for name, number in zip(names, numbers, strict=True)]
        with torch.inference_mode():
            made = self.tiles(torch.from_numpy(np.ascontiguousarray(conditions)), generators)
            tiles = ((made + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return tiles.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def tiles(self, condition: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Make one tile for each row: condition (B, c), a generator of its own each -> (B, 3, px, px) in [-1, 1]."""
        return self.system.tiles(condition, generators)

    def stream(
        self, profiles: anndata.AnnData | NDArray[Any], n_per_profile: int, *, seed: int = 0, batch: int = 64
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield single tiles (px, px, 3), sample after sample; memory holds one batch."""
        if n_per_profile < 1 or batch < 1:
            raise InputError("generate", expected="at least one tile and a batch of one", found=f"{n_per_profile}, {batch}")
        conditions, names = self.conditions(profiles)
        rows = np.repeat(np.arange(len(names)), n_per_profile)
        numbers = np.tile(np.arange(n_per_profile), len(names))
        for start in range(0, len(rows), batch):
            part = slice(start, start + batch)
            yield from self.make(conditions[rows[part]], [names[row] for row in rows[part]], list(numbers[part]), seed=seed)

    def generate(
        self, profiles: anndata.AnnData | NDArray[Any], n_per_profile: int, seed: int = 0, *, batch: int = 64
    ) -> NDArray[np.uint8]:
        """Make tiles of every profile.

        Parameters
        ----------
        profiles : AnnData or latents, see `conditions`. Latents are named "0", "1", ... for their noise.
        n_per_profile : tiles of each.
        seed : of the noise.
        batch : tiles at a time.

        Returns
        -------
        Shape (N, n_per_profile, px, px, 3), uint8 RGB.
        """
        tiles = np.stack(list(self.stream(profiles, n_per_profile, seed=seed, batch=batch)))
        return tiles.reshape(-1, n_per_profile, *tiles.shape[1:])


def generate_to_folder(
    run: Any,
    profiles: anndata.AnnData,
    out: str | Path,
    tiles_per_profile: int,
    seed: int = 0,
    *,
    batch: int = 64,
    progress: bool = False,
) -> pd.DataFrame:
    """Make tiles of every profile as PNG files, and `table.csv`.

    Parameters
    ----------
    run : a finished run of a system that makes tiles (its `load()` gives a `TileGenerator`), or a `TileGenerator`.
    profiles : raw AnnData; another gene order or extra genes give the same tiles.
    out : folder; `SAMPLE/00000.png` and so on. Files are written whole or not at all, so a second call with the same
        arguments makes only what is missing.
    tiles_per_profile, seed : as in `TileGenerator.generate`.
    batch, progress : tiles at a time; whether to show a bar.

    Returns
    -------
    The table: sample_id, tile, file (relative to `out`), seed, run_id, mpp_um.

    Raises
    ------
    InputError : profiles that do not fit the run, or a folder that holds tiles of another call. Nothing is then written.
    """
    out = Path(out)
    generator: TileGenerator = run if isinstance(run, TileGenerator) else run.load()
    if tiles_per_profile < 1:
        raise InputError("tiles_per_profile", expected="at least 1", found=str(tiles_per_profile))
    conditions, names = generator.conditions(profiles)
    header = {"run_id": generator.run_id, "seed": seed, "profiles": _fingerprint(conditions, names)}
    header |= {"drawing": generator.drawing} if generator.drawing else {}
    _claim(out, header)
    folders = _folder_names(names)
    table = pd.DataFrame(
        {
            "sample_id": np.repeat(names, tiles_per_profile),
            "tile": np.tile(np.arange(tiles_per_profile), len(names)),
            "file": [f"{folder}/{tile:05d}.png" for folder in folders for tile in range(tiles_per_profile)],
            "seed": seed,
            "run_id": generator.run_id,
            "mpp_um": generator.mpp_um,
        }
    )
    missing = np.flatnonzero([not (out / file).exists() for file in table["file"]])
    with tqdm(total=len(missing), unit="tile", disable=None if progress else True) as bar:
        for start in range(0, len(missing), batch):
            rows = missing[start : start + batch]
            samples = [str(name) for name in table["sample_id"].iloc[rows]]
            numbers = [int(number) for number in table["tile"].iloc[rows]]
            tiles = generator.make(conditions[rows // tiles_per_profile], samples, numbers, seed=seed)
            for row, tile in zip(rows, tiles, strict=True):
                write_bytes(out / table["file"].iloc[row], png_bytes(tile))
            bar.update(len(rows))
    write_text(out / TABLE, table.to_csv(index=False))
    return table


def png_bytes(tile: NDArray[np.uint8]) -> bytes:
    """Encode a tile (H, W, 3) uint8 losslessly."""
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, format="PNG")
    return buffer.getvalue()


def _claim(out: Path, header: dict[str, Any]) -> None:
    """Write the folder's header, or make sure that it is ours; of two processes that begin at once one writes it."""
    if out.exists() and not out.is_dir():
        raise InputError(str(out), expected="a new or empty folder", found="a file", fix="choose another folder")
    with locked_folder(out):
        _claim_alone(out, header)


def _claim_alone(out: Path, header: dict[str, Any]) -> None:
    if (out / HEADER).exists():
        found = read_json(out / HEADER)
        if found != header:
            there = found if isinstance(found, dict) else {}
            other = sorted(key for key in {*header, *there} if header.get(key) != there.get(key))
            raise InputError(
                str(out),
                expected="a new folder, or one of the same call",
                found=f"tiles of another {', '.join(other)}",
                fix="choose another folder",
            )
    elif any(out.iterdir()):
        raise InputError(str(out), expected="a new or empty folder", found="other files", fix="choose another folder")
    else:
        write_json(out / HEADER, header)


def _fingerprint(conditions: NDArray[np.float32], names: Sequence[str]) -> str:
    # Rounded: another gene order may move the last digits of a latent.
    rounded = np.round(conditions.astype(np.float64), 3) + 0.0
    return hashlib.sha256("\n".join(names).encode() + rounded.tobytes()).hexdigest()[:12]


def _folder_names(names: Sequence[str]) -> list[str]:
    """File-system-safe, distinct names; an id with other characters keeps its readable part and gets a hash."""
    safe = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:80]
        changed = plain != name or plain != plain.strip(".")
        safe.append(f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}" if changed else plain)
    return safe


def read_profiles(path: str | Path) -> anndata.AnnData:
    """Read profiles from an `.h5ad` file.

    Raises
    ------
    InputError : no such file, not an h5ad file, no samples, or it does not say its unit.
    """
    profiles = read_h5ad(path)
    if profiles.n_obs == 0 or profiles.n_vars == 0:
        raise InputError(str(path), expected="samples and genes", found=f"{profiles.n_obs} samples, {profiles.n_vars} genes")
    if "unit" not in profiles.uns:
        raise InputError(
            str(path), expected='uns["unit"]: tpm, counts or rsem', found="none", fix="say which unit the values have"
        )
    return profiles
