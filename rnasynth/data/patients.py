"""What a network reads of a patient: a bag of tile features, a clinical text, or one of them; from a cohort or a folder.

Features are computed once and kept under the cohort's folder::

    COHORT/features/KEY/block-0003.npy     features of the chosen tiles of some samples, float32
    COHORT/features/KEY/.lock              held while blocks are made

KEY is a hash of the store's fingerprint, the feature network's name, the tile size it saw, the number of tiles a sample and
the seed that chose them. Which samples stand in which block follows from these alone, so a killed call goes on where it was,
and `cohort.only("test")` finds what the whole cohort made. Blocks are mapped into memory, not read.

The text never holds the label that a downstream task predicts (fields and words, see `clinical.clinical_text`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth import files
from rnasynth.config import config_hash
from rnasynth.data.clinical import LABEL_FIELDS, clinical_text
from rnasynth.data.cohort import Cohort
from rnasynth.data.tiles import TileStore
from rnasynth.errors import InputError, StoreError

CACHE_VERSION = 1
BLOCK_TILES = 1024  # of a block, at least: samples are added until it has so many
BATCH_TILES = 256  # decoded at a time
MPP_TOLERANCE = 0.02  # of a store's tiles: a network reads um/px as one number


class Network(Protocol):
    """What turns tiles into features: any `rnasynth.features.FeatureNetwork`."""

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class PatientInputs:
    """What is known of samples, and all that a conditional profile generator may read.

    Parameters
    ----------
    sample_ids : each once; they key a sample's noise.
    bags : features of a sample's tiles, shape (n_i, dim), float32, finite, n_i >= 1; None: it has no tiles.
    texts : clinical text without the label; "": it has none.
    tissues : the label; only label-conditioned baselines read it.
    features : which network made the bags and at which um/px, see `features_key`; "" where that is not known.

    Raises
    ------
    InputError : other lengths, an id twice, a bag of another shape, width or type, or with numbers that are not finite.
    """

    sample_ids: tuple[str, ...]
    bags: tuple[NDArray[np.float32] | None, ...]
    texts: tuple[str, ...]
    tissues: tuple[str, ...]
    features: str = ""

    def __post_init__(self) -> None:
        sizes = [len(self.sample_ids), len(self.bags), len(self.texts), len(self.tissues)]
        if len(set(sizes)) > 1:
            raise InputError("patient inputs", expected="ids, bags, texts and tissues of one length", found=str(sizes))
        seen: set[str] = set()
        for name, bag, text in zip(self.sample_ids, self.bags, self.texts, strict=True):
            if name in seen:
                raise InputError(f"sample {name}", expected="each sample id once", found="it more than once")
            seen.add(name)
            if not isinstance(text, str):
                raise InputError(f"sample {name}", expected='a text ("" for none)', found=type(text).__name__)
            if bag is None:
                continue
            if bag.ndim != 2 or not len(bag) or bag.shape[1] != self.dim or bag.dtype != np.float32:
                raise InputError(
                    f"sample {name}",
                    expected=f"features float32 of shape (tiles, {self.dim}), at least one tile",
                    found=f"{bag.dtype} of shape {bag.shape}",
                    fix="give None for a sample without tiles",
                )
            if not np.isfinite(bag).all():
                raise InputError(f"sample {name}", expected="finite features", found="NaN or infinity")

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def dim(self) -> int:
        """Number of features of a tile; 0 where no sample has tiles."""
        return next((int(bag.shape[-1]) for bag in self.bags if bag is not None), 0)

    def take(self, rows: Sequence[int] | NDArray[np.integer] | slice) -> Self:
        """Return some of the samples, in this order."""
        numbers = np.arange(len(self))[rows]
        return replace(
            self,
            sample_ids=tuple(self.sample_ids[n] for n in numbers),
            bags=tuple(self.bags[n] for n in numbers),
            texts=tuple(self.texts[n] for n in numbers),
            tissues=tuple(self.tissues[n] for n in numbers),
        )

    def without_tiles(self) -> Self:
        """Return the same samples with their text alone."""
        return replace(self, bags=(None,) * len(self))

    def without_text(self) -> Self:
        """Return the same samples with their tiles alone."""
        return replace(self, texts=("",) * len(self))

    def shuffled_tiles(self, seed: int = 0) -> Self:
        """Return the samples with another sample's tiles each (a control: what the tiles say must be lost).

        Raises
        ------
        InputError : fewer than two samples.
        """
        return replace(self, bags=tuple(self.bags[n] for n in others(len(self), seed)))

    def shuffled_text(self, seed: int = 0) -> Self:
        """Return the samples with another sample's text each; see `shuffled_tiles`."""
        return replace(self, texts=tuple(self.texts[n] for n in others(len(self), seed)))

    def shuffled_text_within_tissues(self, seed: int = 0) -> Self:
        """Return the samples with the text of another sample of their tissue; one that is alone there keeps its own."""
        order, tissues = np.arange(len(self)), np.array(self.tissues)
        for tissue in np.unique(tissues):
            mine = np.flatnonzero(tissues == tissue)
            if len(mine) > 1:
                order[mine] = mine[others(len(mine), seed)]
        return replace(self, texts=tuple(self.texts[n] for n in order))


def others(n: int, seed: int) -> NDArray[np.int64]:
    """Return a random cyclic order of `n` rows: nobody keeps the own one (Sattolo 1986).

    Raises
    ------
    InputError : fewer than two rows.
    """
    if n < 2:
        raise InputError("samples to shuffle", expected="at least two", found=str(n))
    order, rng = np.arange(n), np.random.default_rng(seed)
    for last in range(n - 1, 0, -1):
        chosen = int(rng.integers(last))
        order[[last, chosen]] = order[[chosen, last]]
    return order


def features_key(network_name: str, mpp_um: float) -> str:
    """Return what says that two bags may be compared: the network and the um/px that it saw."""
    return f"{network_name}@{mpp_um:.4g}um/px"


def patient_inputs(
    cohort: Cohort,
    network: Network,
    *,
    split: str | None = None,
    per_sample: int = 256,
    px: int | None = None,
    seed: int = 0,
) -> PatientInputs:
    """Return what is known of a cohort's samples, in the order of its profiles; features come from the cache where there.

    Parameters
    ----------
    cohort : without a tile store every sample counts as one without tiles.
    network : tiles -> features.
    split : "train", "val" or "test"; None: all samples.
    per_sample : at most so many tiles of a sample, chosen by `seed` and the sample's id alone.
    px : side to which tiles are averaged down before the network sees them; None: as stored.
    seed : of the choice.

    Raises
    ------
    InputError : tiles of several um/px, or features that are not finite.
    SplitError : no sample in that split.
    StoreError : a damaged tile, or a cached block that is not what was written.
    """
    if per_sample < 1:
        raise InputError("per_sample", expected="at least 1", found=str(per_sample))
    obs = (cohort if split is None else cohort.only(split)).profiles.obs
    names = tuple(obs["sample_id"].astype(str))
    found: dict[str, NDArray[np.float32]] = {}
    key = ""
    if cohort.tiles is not None:
        mpp_um = store_mpp(cohort.tiles, px)
        found = _cached(cohort.tiles, network, cohort.folder, set(names), mpp_um, per_sample, px, seed)
        key = features_key(network.name, mpp_um)
    return PatientInputs(
        names, tuple(found.get(name) for name in names), texts_of(obs), tuple(obs["tissue"].astype(str)), key
    )


def texts_of(obs: pd.DataFrame) -> tuple[str, ...]:
    """Return a text for every row, without label fields and the words of their values; "" where nothing is known.

    A free text (`clinical_text`) is used where there is one, else the sentences made of the known fields.
    """
    texts = []
    for row in obs.to_dict("records"):
        free = str(row.get("clinical_text") or "")
        if free.strip() and free != "nan":
            labels = {name: row[name] for name in LABEL_FIELDS if name in row}
            texts.append(clinical_text({**labels, "notes": free}).removeprefix("Notes: "))
        else:
            texts.append(clinical_text({str(name): value for name, value in row.items()}))
    return tuple(texts)


def store_mpp(store: TileStore, px: int | None = None) -> float:
    """Return the um/px of a store's tiles once they have `px` pixels a side.

    Raises
    ------
    InputError : several um/px in one store, or none.
    """
    values = store.index["mpp_um"].to_numpy(dtype=float)
    middle = float(np.median(values)) if len(values) else float("nan")
    if not middle > 0 or np.abs(values / middle - 1).max() > MPP_TOLERANCE:
        shown = f"{np.nanmin(values):g} to {np.nanmax(values):g}" if len(values) else "no tiles"
        raise InputError(
            f"tiles of {store.folder.name}", expected="one um/px", found=shown, fix="tile all slides at the same --mpp"
        )
    return middle * store.tile_px / (px or store.tile_px)


def choose_tiles(sample: str, n: int, per_sample: int, seed: int) -> NDArray[np.int64]:
    """Return which of a sample's `n` tiles are used, in rising order: a choice that no other sample moves."""
    if n <= per_sample:
        return np.arange(n, dtype=np.int64)
    key = hashlib.blake2b(f"tiles:{seed}:{sample}".encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(key, "little"))
    return np.sort(rng.choice(n, per_sample, replace=False)).astype(np.int64)


def _cached(
    store: TileStore,
    network: Network,
    home: Path,
    wanted: set[str],
    mpp_um: float,
    per_sample: int,
    px: int | None,
    seed: int,
) -> dict[str, NDArray[np.float32]]:
    """Return the bags of the wanted samples; blocks that are not there yet are made."""
    facts = {
        "version": CACHE_VERSION,
        "store": store.fingerprint(),
        "network": network.name,
        "px": px or store.tile_px,
        "per_sample": per_sample,
        "seed": seed,
    }
    folder = home / "features" / config_hash(facts)
    found: dict[str, NDArray[np.float32]] = {}
    for number, block in enumerate(_blocks(store, per_sample, seed)):
        mine = [name for name in block if name in wanted]
        if not mine:
            continue
        path = folder / f"block-{number:04d}.npy"
        if not path.exists():
            with files.exclusive(folder / ".lock"):
                if not path.exists():
                    made = _extract(store, network, np.concatenate(list(block.values())), mpp_um, px)
                    with files.atomic_path(path) as temporary:
                        np.save(temporary, made, allow_pickle=False)
        features = _read_block(path, sum(map(len, block.values())), network.dim)
        ends = np.cumsum([len(tiles) for tiles in block.values()])
        places = dict(zip(block, zip(ends - [len(tiles) for tiles in block.values()], ends, strict=True), strict=True))
        found |= {name: features[slice(*places[name])] for name in mine}
    return found


def _read_block(path: Path, tiles: int, dim: int) -> NDArray[np.float32]:
    try:
        features: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise StoreError(str(path), expected="cached features", found=str(error), fix="remove the file") from error
    if features.shape != (tiles, dim) or features.dtype != np.float32:
        raise StoreError(
            str(path),
            expected=f"float32 of shape ({tiles}, {dim})",
            found=f"{features.dtype} of shape {features.shape}",
            fix="remove the file: it is made again",
        )
    return features


def _blocks(store: TileStore, per_sample: int, seed: int) -> Iterator[dict[str, NDArray[np.int64]]]:
    """Chosen tiles of each sample, some samples at a time; the same for all who read the store."""
    samples = store.index["sample_id"].astype(str).to_numpy()
    order = np.argsort(samples, kind="stable")
    parts = np.split(order, np.flatnonzero(samples[order][1:] != samples[order][:-1]) + 1) if len(order) else []
    block: dict[str, NDArray[np.int64]] = {}
    size = 0
    for rows in parts:
        name = str(samples[rows[0]])
        block[name] = rows[choose_tiles(name, len(rows), per_sample, seed)]
        size += len(block[name])
        if size >= BLOCK_TILES:
            yield block
            block, size = {}, 0
    if block:
        yield block


def _extract(
    store: TileStore, network: Network, tile_ids: NDArray[np.int64], mpp_um: float, px: int | None
) -> NDArray[np.float32]:
    made = np.empty((len(tile_ids), network.dim), np.float32)
    for start in range(0, len(tile_ids), BATCH_TILES):
        chosen = tile_ids[start : start + BATCH_TILES]
        made[start : start + len(chosen)] = checked(network, store.read_batch(chosen, px), mpp_um, str(store.folder.name))
    return made


def checked(network: Network, tiles: NDArray[np.uint8], mpp_um: float, subject: str) -> NDArray[np.float32]:
    """Return a network's features of tiles, shape (B, dim), float32.

    Raises
    ------
    InputError : another shape, or numbers that are not finite.
    """
    values = np.asarray(network(tiles, mpp_um), dtype=np.float32)
    if values.shape != (len(tiles), network.dim) or not np.isfinite(values).all():
        raise InputError(
            f"{subject}, features {network.name}", expected=f"{network.dim} finite numbers a tile", found=f"{values.shape}"
        )
    return values
