"""Variants of a generator: trained as said, judged on validation samples, kept without names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rnasynth.evaluation.conditioning import variants as module
from rnasynth.evaluation.conditioning.variants import table_of, variants

ROWS = pd.DataFrame(
    {
        "sample_id": ["P1", "P2", "P3"],
        "tissue": ["a", "a", "b"],
        "own": [1.0, 2.0, 3.0],
        "shuffled": [1.5, 2.0, np.nan],
        "label": [4.0, 2.5, 3.0],
        "rank": [1.0, 0.0, np.nan],
    }
)


def test_a_record_keeps_differences_and_no_names() -> None:
    table = table_of(SimpleNamespace(per_sample=ROWS))  # type: ignore[arg-type]
    assert list(table) == ["tissue", "mean_rank", "mean_own", "mean_over_shuffled", "mean_over_label"]
    assert table["mean_over_shuffled"].tolist() == [0.5, 0.0] and table["mean_over_label"].tolist() == [3.0, 0.5]


def test_each_variant_is_trained_as_said_and_judged_on_validation_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def trained(system: str, cohort: Any, preset: str, *, overrides: Any, progress: bool) -> Any:
        asked.append((system, list(overrides)))
        return SimpleNamespace(load=lambda: system)

    def proof(generator: Any, label: Any, cohort: Any, **options: Any) -> Any:
        assert (generator, label, options["split"]) == ("rna-gan", "label-gan", "val")
        return SimpleNamespace(per_sample=ROWS)

    monkeypatch.setattr(module, "train_preset", trained)
    monkeypatch.setattr(module, "prove", proof)
    cohort: Any = object()
    words = [title for title, _, _ in variants(cohort, "demo", ["condition_critic=none,matching_weight=0"], seed=3)]
    assert words == ["as it is", "condition_critic=none,matching_weight=0"]
    assert asked == [
        ("label-gan", ["train.seed=3"]),
        ("rna-gan", ["train.seed=3"]),
        ("rna-gan", ["train.seed=3", "condition_critic=none", "matching_weight=0"]),
    ]
