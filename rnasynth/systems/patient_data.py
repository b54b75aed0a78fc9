"""Patients as tensors: features standardised by the training samples, text as numbers, padding with its mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.data.cohort import Cohort
from rnasynth.data.patients import PatientInputs, patient_inputs, store_mpp
from rnasynth.engine import Noise
from rnasynth.errors import InputError
from rnasynth.features.networks import feature_network
from rnasynth.nets.gemm import Patients
from rnasynth.nets.text import EncoderFolder, hashed_words
from rnasynth.systems.gemm_config import PatientConfig

SD_FLOOR = 1e-3  # of a feature among the training tiles: one that never varied says nothing
LARGEST = 10.0  # standardised features are cut there: another scanner's tiles must not drown the rest
TOLD = ("patches", "patch_there", "words", "word_there")  # of a batch, in the order of `Patients`
FIRST_STATS = 20_000  # training tiles that mean and spread are taken from, at most


class PatientReader:
    """Reads `PatientInputs` for a network, as in training.

    Parameters
    ----------
    config : how tiles and text are read.
    facts : features (key), patch_dim, feature_mean, feature_sd, word_dim, and which kinds of input were seen; see `fit`.
    """

    def __init__(self, config: PatientConfig, facts: dict[str, Any]) -> None:
        self.config, self.facts = config, facts
        self.mean = np.array(facts["feature_mean"], dtype=np.float32)
        self.sd = np.array(facts["feature_sd"], dtype=np.float32)
        self._encoder: EncoderFolder | None = None

    @classmethod
    def fit(cls, config: PatientConfig, train: PatientInputs) -> PatientReader:
        """Measure the training samples' features, and which of tiles and text there are.

        Raises
        ------
        InputError : neither tiles nor texts.
        """
        bags = [bag for bag in train.bags if bag is not None]
        texts = [text for text in train.texts if text.strip()]
        if not bags and not texts:
            raise InputError("training samples", expected="tiles, texts or both", found="neither")
        dim = train.dim or 1
        mean, sd = np.zeros(dim), np.ones(dim)
        if bags:
            stride = max(1, sum(map(len, bags)) // FIRST_STATS)
            tiles = np.concatenate([bag[::stride] for bag in bags]).astype(np.float64)
            mean, sd = tiles.mean(axis=0), np.maximum(tiles.std(axis=0), SD_FLOOR)
        both = bool(bags and texts)
        facts: dict[str, Any] = {
            "features": train.features,
            "patch_dim": dim,
            "feature_mean": [float(value) for value in mean],
            "feature_sd": [float(value) for value in sd],
            "word_dim": config.word_dim,
            "knows_tiles": bool(bags),
            "knows_text": bool(texts),
            "knows_no_tiles": len(bags) < len(train) or (both and config.drop_tiles > 0),
            "knows_no_text": len(texts) < len(train) or (both and config.drop_text > 0),
        }
        reader = cls(config, facts)
        if config.text_encoder != "hashed":
            facts["word_dim"] = reader.encoder.dim
        return reader

    @property
    def encoder(self) -> EncoderFolder:
        """The text encoder of `config.text_encoder`, read when first asked for."""
        if self._encoder is None:
            self._encoder = EncoderFolder(self.config.text_encoder, max_tokens=self.config.max_words)
        return self._encoder

    def inputs(self, cohort: Cohort, split: str | None = None) -> PatientInputs:
        """Return a cohort's samples with the features that this reader knows."""
        return cohort_inputs(self.config, cohort, split)

    def check(self, inputs: PatientInputs) -> None:
        """Raise InputError where the inputs are of another kind than those of the training."""
        known = self.facts["features"]
        if inputs.dim and known and inputs.features and inputs.features != known:
            raise InputError("features", expected=known, found=inputs.features, fix="make them as the run did: `.inputs`")
        if inputs.dim and self.facts["knows_tiles"] and inputs.dim != self.facts["patch_dim"]:
            raise InputError("features", expected=f"{self.facts['patch_dim']} numbers a tile", found=str(inputs.dim))
        for what, given in (
            ("tiles", [bag is not None for bag in inputs.bags]),
            ("text", [bool(text.strip()) for text in inputs.texts]),
        ):
            for name, there in zip(inputs.sample_ids, given, strict=True):
                if there and not self.facts[f"knows_{what}"]:
                    raise InputError(
                        f"sample {name}",
                        expected=f"no {what}: the run was trained without any",
                        found=f"{what}",
                        fix=f"leave it out: inputs.without_{what}()",
                    )
                if not there and not self.facts[f"knows_no_{what}"]:
                    raise InputError(
                        f"sample {name}",
                        expected=f"{what}: in training no sample was without",
                        found="none",
                        fix=f"train with drop_{what} above 0",
                    )

    def bag(self, bag: NDArray[np.float32] | None) -> Tensor:
        """Return standardised features, shape (n, dim); (0, dim) for None."""
        if bag is None:
            return torch.zeros((0, len(self.mean)))
        return torch.from_numpy(np.clip((bag - self.mean) / self.sd, -LARGEST, LARGEST).astype(np.float32))

    def texts(self, texts: tuple[str, ...]) -> list[Tensor]:
        """Return each text's word numbers (T,), int64, or its encoder's tokens (T, word_dim), float32."""
        config = self.config
        if config.text_encoder != "hashed":
            return [torch.from_numpy(tokens) for tokens in self.encoder(texts)]
        made = [hashed_words(text, buckets=config.text_buckets, max_tokens=config.max_words) for text in texts]
        return [torch.from_numpy(numbers) for numbers in made]

    def batch(self, bags: list[Tensor], words: list[Tensor]) -> dict[str, Tensor]:
        """Return the tensors of `Patients` by name, padded to the largest bag and longest text of the batch."""
        patches, patch_there = padded(bags)
        tokens, word_there = padded(words)
        return dict(zip(TOLD, (patches, patch_there, tokens, word_there), strict=True))

    def patients(self, inputs: PatientInputs, device: torch.device) -> Patients:
        """Return inputs, checked, as tensors on a device."""
        self.check(inputs)
        tensors = self.batch([self.bag(bag) for bag in inputs.bags], self.texts(inputs.texts))
        return Patients(*(tensors[name].to(device) for name in TOLD))


def cohort_inputs(config: PatientConfig, cohort: Cohort, split: str | None) -> PatientInputs:
    """Return a cohort's samples as a configuration wants them read."""
    px = None
    if cohort.tiles is not None:
        px = max(1, min(cohort.tiles.tile_px, round(cohort.tiles.tile_px * store_mpp(cohort.tiles) / config.feature_mpp_um)))
    network = feature_network(config.features)
    return patient_inputs(cohort, network, split=split, per_sample=config.per_sample, px=px)


def padded(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack tensors (n_i, ...) into (B, max n_i, ...), zeros behind, with the mask of what is there."""
    longest = max(1, *(len(part) for part in parts))
    whole = parts[0].new_zeros((len(parts), longest, *parts[0].shape[1:]))
    there = torch.zeros((len(parts), longest), dtype=torch.bool)
    for row, part in enumerate(parts):
        whole[row, : len(part)] = part
        there[row, : len(part)] = True
    return whole, there


class PatientDataset:
    """Samples of one split with what is to be made for them.

    Parameters
    ----------
    reader : of tiles and text.
    inputs : of the split; bags stay where they are (mapped from the disk) until they are fetched.
    targets : what is to be made, shape (N, d), float32.
    """

    def __init__(self, reader: PatientReader, inputs: PatientInputs, targets: NDArray[np.float32]) -> None:
        reader.check(inputs)
        self.reader, self.inputs = reader, inputs
        self.targets = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))
        self.words = reader.texts(inputs.texts)

    def __len__(self) -> int:
        return len(self.inputs)

    def fetch(self, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the tensors of `Patients` and "target" (B, d)."""
        rows = [int(row) for row in np.asarray(indices)]
        told = self.reader.batch([self.reader.bag(self.inputs.bags[row]) for row in rows], [self.words[row] for row in rows])
        return {**told, "target": self.targets[rows]}


def thinned(batch: dict[str, Tensor], noise: Noise, config: PatientConfig) -> Patients:
    """Return a training batch with some tiles, all tiles or all text of some patients hidden, and noise on the features.

    Every draw is a patient's own and of a fixed size, so it depends neither on the padding nor on the processes.
    """
    patches, patch_there, words, word_there = (batch[name] for name in TOLD)
    size = patches.shape[1]
    has_tiles, has_text = patch_there.any(dim=1), word_there.any(dim=1)
    if config.keep_tiles < 1:
        drawn = noise.uniform(0.0, 1.0, config.per_sample)[:, :size].masked_fill(~patch_there, 2.0)
        one = torch.zeros_like(patch_there).scatter_(1, drawn.argmin(dim=1, keepdim=True), True)
        patch_there = patch_there & ((drawn < config.keep_tiles) | one)
    hide_tiles = (noise.uniform(0.0, 1.0) < config.drop_tiles) & has_tiles & has_text
    hide_text = (noise.uniform(0.0, 1.0) < config.drop_text) & has_tiles & has_text & ~hide_tiles
    if config.feature_noise > 0:
        patches = patches + config.feature_noise * noise.normal(config.per_sample, patches.shape[2])[:, :size]
    return Patients(patches, patch_there & ~hide_tiles[:, None], words, word_there & ~hide_text[:, None])
