"""Text for a network: hashed words with a small learnt embedding (no download), or any encoder folder that a user has.

Source: feature hashing, Weinberger et al. 2009; word n-grams, Joulin et al. 2017. GeMM-GAN used the tokens of Clinical
ModernBERT, 300 of 768 numbers each (facts of the released code).
"""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnasynth.errors import InputError

PADDING = 0  # id that no word has
_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)?")


def hashed_words(text: str, *, buckets: int, ngrams: int = 2, max_tokens: int = 300) -> NDArray[np.int64]:
    """Return a number for every word and run of up to `ngrams` words, the same on every machine and in every session.

    Parameters
    ----------
    text : any language; case does not matter.
    buckets : numbers are 1 to this; two words may share one.
    ngrams : longest run of words.
    max_tokens : the rest is dropped: single words come first, so the longest runs go first.

    Returns
    -------
    Shape (T,), int64, T <= max_tokens; empty for a text without words.

    Examples
    --------
    >>> hashed_words("Never smoked.", buckets=1000).tolist() == hashed_words("never SMOKED", buckets=1000).tolist()
    True
    >>> len(hashed_words("Never smoked.", buckets=1000))
    3
    """
    words = _WORD.findall(text.lower())
    runs = [" ".join(words[n : n + size]) for size in range(1, ngrams + 1) for n in range(len(words) - size + 1)]
    numbers = [zlib.crc32(run.encode("utf-8")) % buckets + 1 for run in runs[:max_tokens]]
    return np.array(numbers, dtype=np.int64)


class HashedText(nn.Module):
    """Hashed word numbers -> a learnt vector each.

    Parameters
    ----------
    buckets : numbers are 1 to this; 0 is padding.
    dim : length of a vector.
    """

    def __init__(self, buckets: int, dim: int) -> None:
        super().__init__()
        self.buckets, self.dim = buckets, dim
        self.embedding = nn.Embedding(buckets + 1, dim, padding_idx=PADDING)

    def forward(self, numbers: Tensor) -> Tensor:
        """Turn numbers (B, T), int64, into vectors (B, T, dim)."""
        made: Tensor = self.embedding(numbers)
        return made


class EncoderFolder:
    """A text encoder that lies in a folder, as the `transformers` library writes it; frozen, nothing is fetched.

    Parameters
    ----------
    folder : config.json, tokenizer files and weights as .safetensors.
    max_tokens : the rest of a text is cut off; GeMM-GAN: 300.
    batch : texts at a time.
    device : where the encoder runs.

    Attributes
    ----------
    dim : numbers of a token.

    Raises
    ------
    InputError : no such folder, weights that are not safetensors, or `transformers` is not installed.
    """

    def __init__(
        self, folder: str | Path, *, max_tokens: int = 300, batch: int = 16, device: Literal["cpu", "cuda"] = "cpu"
    ) -> None:
        path = Path(folder)
        if not (path / "config.json").is_file():
            raise InputError(str(path), expected="the folder of a text encoder (config.json, ...)", found="none")
        if not list(path.glob("*.safetensors")):
            others = ", ".join(sorted(file.name for file in path.glob("*.bin"))) or "none"
            raise InputError(
                str(path),
                expected="weights as .safetensors",
                found=others,
                fix="convert them: model.save_pretrained(FOLDER, safe_serialization=True)",
            )
        try:
            library: Any = importlib.import_module("transformers")
        except ImportError as error:
            raise InputError(
                "text encoder", expected="the library transformers", found="none", fix="pip install transformers"
            ) from error
        safe = {"local_files_only": True, "trust_remote_code": False}
        self.tokenizer: Any = library.AutoTokenizer.from_pretrained(str(path), **safe)
        self.model: Any = library.AutoModel.from_pretrained(str(path), use_safetensors=True, **safe)
        self.model.requires_grad_(False).eval().to(device)
        self.dim = int(self.model.config.hidden_size)
        self.max_tokens, self.batch, self.device = max_tokens, batch, device

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the last layer's tokens of every text, shape (T, dim), float32; T = 0 for an empty text."""
        made: list[NDArray[np.float32]] = [np.zeros((0, self.dim), np.float32)] * len(texts)
        rows = [row for row, text in enumerate(texts) if text.strip()]
        for start in range(0, len(rows), self.batch):
            mine = rows[start : start + self.batch]
            read = self.tokenizer(
                [texts[row] for row in mine],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(self.device)
            tokens = self.model(**read).last_hidden_state.float().cpu().numpy()
            there = read["attention_mask"].bool().cpu().numpy()
            for row, vectors, mask in zip(mine, tokens, there, strict=True):
                made[row] = np.ascontiguousarray(vectors[mask])
        return made
