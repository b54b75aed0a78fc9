"""Hashed words, and encoder folders of the transformers library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rnasynth.errors import InputError
from rnasynth.nets.text import EncoderFolder, HashedText, hashed_words


def test_words_keep_their_numbers_in_another_session() -> None:
    code = "from rnasynth.nets.text import hashed_words; print(hashed_words('Stage II, 61.5 years', buckets=999).tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(hashed_words("Stage II, 61.5 years", buckets=999).tolist())


def test_words_are_in_range_and_single_words_go_last() -> None:
    text = " ".join(f"word{n}" for n in range(50))
    every = hashed_words(text, buckets=64)
    assert len(every) == 99 and every.min() >= 1 and every.max() <= 64 and every.dtype == np.int64
    np.testing.assert_array_equal(hashed_words(text, buckets=64, max_tokens=50), every[:50])
    assert len(hashed_words("", buckets=64)) == len(hashed_words("...", buckets=64)) == 0
    assert not np.array_equal(hashed_words("never smoked", buckets=9999), hashed_words("smoked never", buckets=9999))


def test_padding_has_no_vector() -> None:
    made = HashedText(10, 4)(torch.tensor([[0, 3], [3, 0]]))
    assert made.shape == (2, 2, 4) and torch.equal(made[0, 1], made[1, 0]) and not made[0, 0].any()


def test_a_folder_without_safe_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        EncoderFolder(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        EncoderFolder(tmp_path)


def test_any_encoder_folder_gives_tokens(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "never", "smoked", "brisk"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    transformers.BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    encoder = EncoderFolder(tmp_path, max_tokens=4)
    made = encoder(["never smoked", "", "brisk never smoked never smoked"])
    assert encoder.dim == 8 and [part.shape for part in made] == [(4, 8), (0, 8), (4, 8)]
    np.testing.assert_allclose(encoder(["never smoked"])[0], made[0], atol=1e-5)  # whatever it is padded with
    assert all(np.isfinite(part).all() for part in made)
