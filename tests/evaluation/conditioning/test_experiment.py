"""The proof that RNA reaches the tile, on generators of which the answer is known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.conditioning.experiment import critic_curves, prove, side_by_side, tissue_mean_profiles
from rnasynth.evaluation.conditioning.proof import ConditioningProof
from rnasynth.evaluation.conditioning.retrieval import energy_distance, rank_matrix
from tests.evaluation.made_tiles import Store

TISSUES, PATIENTS, TILES, PX = 4, 16, 10, 32  # sixteen patients a tissue: eight to train, eight held out
Generate = Callable[..., NDArray[np.uint8]]


def paint(tissue: int, dots: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A tile: the tissue sets the ground, a patient's trait sets how many dark dots lie on it."""
    tile = np.full((PX, PX, 3), [235 - 20 * tissue, 150 + 15 * tissue, 200 - 10 * tissue], dtype=np.float64)
    for y, x in rng.integers(1, PX - 1, (rng.poisson(dots), 2)):
        tile[y - 1 : y + 2, x - 1 : x + 2] = [70, 40, 120]
    return np.clip(tile + rng.normal(0, 4, tile.shape), 0, 255).astype(np.uint8)


def trait_of(profiles: anndata.AnnData) -> NDArray[np.float64]:
    """Gene 0 says how many dots there are."""
    return np.asarray(profiles.X, dtype=np.float64)[:, 0]


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    rng = np.random.default_rng(0)
    n = TISSUES * PATIENTS
    tissue = np.arange(n) % TISSUES
    trait = rng.uniform(2, 40, n)
    names = [f"P{row:02d}" for row in range(n)]
    obs = pd.DataFrame(
        {
            "sample_id": names,
            "patient_id": names,
            "split_group": names,
            "split": np.where(np.arange(n) < n // 2, "train", "test"),
            "tissue": [f"tissue-{number}" for number in tissue],
        },
        index=pd.Index(names),
    )
    values = np.column_stack([trait, rng.uniform(0, 9, (n, 3))]).astype(np.float32)
    profiles = anndata.AnnData(X=values, obs=obs, var=pd.DataFrame(index=["g0", "g1", "g2", "g3"]), uns={"unit": "tpm"})
    tiles = np.stack([np.stack([paint(tissue[row], trait[row], rng) for _ in range(TILES)]) for row in range(n)])
    return Cohort("painted", profiles, Store(tiles, names), True, "", (), {}, Path("."))  # type: ignore[arg-type]


def listening(profiles: anndata.AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
    """Paint from the profile: a perfect generator that never saw the patient's tiles."""
    out = []
    for trait, tissue, name in zip(trait_of(profiles), profiles.obs["tissue"], profiles.obs_names, strict=True):
        rng = np.random.default_rng([seed, *map(ord, str(name))])
        out.append(np.stack([paint(int(str(tissue)[-1]), trait, rng) for _ in range(n_per_profile)]))
    return np.stack(out)


def label_only(profiles: anndata.AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
    """Paint a random patient of the right tissue."""
    out = []
    for tissue, name in zip(profiles.obs["tissue"], profiles.obs_names, strict=True):
        rng = np.random.default_rng([seed, 1, *map(ord, str(name))])
        out.append(np.stack([paint(int(str(tissue)[-1]), rng.uniform(2, 40), rng) for _ in range(n_per_profile)]))
    return np.stack(out)


def blind(profiles: anndata.AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
    """Paint anything."""
    out = []
    for name in profiles.obs_names:
        rng = np.random.default_rng([seed, 2, *map(ord, str(name))])
        tiles = [paint(int(rng.integers(TISSUES)), rng.uniform(2, 40), rng) for _ in range(n_per_profile)]
        out.append(np.stack(tiles))
    return np.stack(out)


def shuffled_within_tissue(generate: Generate, cohort: Cohort) -> Generate:
    """The deliberately broken variant: every held-out profile is swapped for another one of its tissue."""
    obs = cohort.profiles.obs
    donor: dict[str, str] = {}
    for _, rows in obs[obs["split"] == "test"].groupby("tissue"):
        names = list(np.random.default_rng(4).permutation(rows.index.to_numpy()))
        donor |= dict(zip(names, names[1:] + names[:1], strict=True))

    def swapped(profiles: anndata.AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
        other = profiles.copy()
        known = [name for name in profiles.obs_names if name in donor]
        if known:
            other.X = np.asarray(cohort.profiles[[donor[name] for name in known]].X).copy()
        return generate(other, n_per_profile, seed=seed)

    return swapped


def found(cohort: Cohort, generate: Generate) -> ConditioningProof:
    # the painted tissues differ in their ground colour, so the stain is left as it is
    return prove(generate, label_only, cohort, tiles_per_profile=10, restained=False, n_boot=300, n_permutations=199)


@pytest.fixture(scope="module")
def heard(cohort: Cohort) -> ConditioningProof:
    return found(cohort, listening)


def test_an_oracle_that_returns_the_patients_own_tiles_retrieves_all(cohort: Cohort) -> None:
    store = cohort.tiles
    assert store is not None

    def oracle(profiles: anndata.AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
        rows = [np.flatnonzero(store.index["sample_id"] == name)[:n_per_profile] for name in profiles.obs_names]
        return np.stack([store.read_batch(list(part)) for part in rows])

    proof = prove(
        oracle, None, cohort, tiles_per_profile=TILES, restained=False, with_mean_profile=False, n_permutations=199
    )
    assert proof.retrieval_rank.value == proof.retrieval_top1.value == 1.0 and proof.tissue_accuracy.value > 0.9
    assert proof.retrieval_p == pytest.approx(1 / 200)
    assert proof.own.value < 0.05 * proof.shuffled.value
    assert proof.beats_shuffled and proof.retrieves and proof.beats_label is None and proof.beats_mean is None


def test_a_generator_that_listens_wins_every_claim(heard: ConditioningProof) -> None:
    proof = heard
    assert proof.beats_shuffled and proof.beats_mean and proof.beats_label and proof.retrieves
    assert proof.retrieval_rank.value > 0.85 and proof.retrieval_p <= 0.01 and proof.tissue_accuracy.value > 0.9
    assert "The profile reaches the tile" in proof.verdict()


def test_rna_shuffled_within_tissue_loses_every_claim(cohort: Cohort) -> None:
    proof = found(cohort, shuffled_within_tissue(listening, cohort))
    assert not proof.retrieves and not proof.beats_shuffled and not proof.beats_label
    assert proof.tissue_accuracy.value > 0.9  # and yet it looks right
    assert "not shown" in proof.verdict() and "does not beat the tissue label" in proof.verdict()


def test_a_generator_that_hears_the_label_alone_is_at_chance_within_the_tissue(cohort: Cohort) -> None:
    proof = found(cohort, label_only)
    assert proof.retrieval_rank.low < 0.5 < proof.retrieval_rank.high or proof.retrieval_rank.value < 0.5
    assert not proof.retrieves and not proof.beats_shuffled and not proof.beats_label
    assert proof.gain_over_label is not None and proof.gain_over_label.value == pytest.approx(0, abs=1e-9)
    assert proof.tissue_accuracy.value > 0.9 and proof.retrieval_p > 0.05


def test_a_blind_generator_is_at_chance_everywhere(cohort: Cohort) -> None:
    proof = found(cohort, blind)
    assert not (proof.retrieves or proof.beats_shuffled or proof.beats_label)
    assert proof.tissue_accuracy.value < 0.7


def test_deaf_retrieval_is_one_half_on_average() -> None:
    rng = np.random.default_rng(0)
    tissues = np.repeat(["a", "b"], 6)
    mean = [
        np.diag(rank_matrix(rng.normal(size=(12, 3)), rng.normal(size=(12, 3)) + rng.normal(size=(1, 3)), tissues)).mean()
        for _ in range(400)
    ]
    assert np.mean(mean) == pytest.approx(0.5, abs=3 * np.std(mean) / 20)
    constant = rank_matrix(np.zeros((12, 3)), rng.normal(size=(12, 3)), tissues)
    assert np.nanmean(constant) == pytest.approx(0.5)


def test_ranks_by_hand() -> None:
    made = np.array([[0.0], [3.0], [0.0]])
    real = np.array([[0.0], [1.0], [2.0]])  # centred: made -1, 2, -1; real -1, 0, 1
    ranks = rank_matrix(made, real, np.array(["t", "t", "t"]))
    np.testing.assert_allclose(ranks, [[1.0, 0.5, 0.0], [0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])
    alone = rank_matrix(made, real, np.array(["t", "u", "t"]))
    assert np.isnan(alone[1]).all() and np.isnan(alone[0, 1])


def test_energy_distance_does_not_reward_an_average_tile() -> None:
    rng = np.random.default_rng(0)
    real, honest = rng.normal(size=(400, 5)), rng.normal(size=(400, 5))
    collapsed = np.zeros((400, 5))
    assert energy_distance(real, honest) == pytest.approx(0, abs=0.05)
    assert energy_distance(real, collapsed) > 0.5
    # Closed form in one dimension: points 0 and 2 against 1 and 1.
    assert energy_distance(np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]])) == pytest.approx(2 * 1 - 2 - 0)


def test_intervals_count_patients_and_the_samples_of_a_single_one(cohort: Cohort, heard: ConditioningProof) -> None:
    proof = heard
    assert proof.n_patients == proof.n_groups == proof.own.n == TISSUES * PATIENTS // 2
    obs = cohort.profiles.obs.copy()
    obs["split_group"] = np.where(obs["split"] == "train", obs["patient_id"], "one tumour")
    profiles = cohort.profiles.copy()
    profiles.obs = obs
    one = found(dataclasses.replace(cohort, profiles=profiles), listening)
    assert one.n_patients == 1 and one.unit == "samples of one split group" and one.own.n == one.n_samples
    assert one.verdict().startswith("Within one split group")


def test_numbers_are_json_and_tables_are_what_plots_take(heard: ConditioningProof) -> None:
    proof = heard
    values = json.loads(json.dumps(proof.to_dict(), allow_nan=False))
    assert values["beats_label"] is True and values["retrieval_rank"]["n"] == 32 and "per_sample" not in values
    assert list(proof.differences.columns) == ["label", "value", "low", "high"] and len(proof.differences) == 3
    assert len(proof.retrieval) == 2 and set(proof.numbers) >= {"own", "gain_over_label", "retrieval_rank"}
    assert len(proof.per_sample) == 32


def test_mean_profile_is_of_the_training_patients_by_tissue(cohort: Cohort) -> None:
    train = cohort.profiles[cohort.profiles.obs["split"] == "train"]
    means = tissue_mean_profiles(train)
    mine = np.asarray(train[train.obs["tissue"] == "tissue-1"].X)
    np.testing.assert_allclose(means["tissue-1"].X[0], np.expm1(np.log1p(mine).mean(axis=0)), rtol=1e-5)
    assert means.uns["unit"] == "tpm" and "transform" not in means.uns


def test_training_patients_and_missing_tiles_are_refused(cohort: Cohort) -> None:
    with pytest.raises(SplitError):
        prove(listening, None, cohort, split="train")
    with pytest.raises(InputError, match="tiles"):
        prove(listening, None, dataclasses.replace(cohort, tiles=None))
    with pytest.raises(InputError, match="val"):
        prove(listening, None, cohort, split="val")


def test_side_by_side_takes_the_first_samples_of_each_tissue(cohort: Cohort) -> None:
    class Painter:
        px, mpp_um = PX, 2.0
        generate = staticmethod(listening)

    rows, mpp_um = side_by_side(Painter(), Painter(), cohort, count=4)
    assert mpp_um == 2.0 and {name: part.shape for name, part in rows.items()} == dict.fromkeys(rows, (4, PX, PX, 3))
    assert cohort.tiles is not None
    np.testing.assert_array_equal(rows["real"][0], cohort.tiles.read_batch([32 * TILES])[0])


def test_critic_curves_find_the_metrics_as_the_engine_names_them() -> None:
    table = pd.DataFrame({"step": [1, 2], "critic_wasserstein": [3.0, np.nan], "critic_penalty": [0.1, 0.2]})
    panels = critic_curves({"one": table})
    assert list(panels) == ["critic distance", "gradient penalty"]
    np.testing.assert_array_equal(panels["critic distance"]["one"][1], [3.0])


def test_beating_a_control_that_broke_down_is_no_claim(heard: ConditioningProof) -> None:
    assert heard.label is not None and not heard.control_broke_down and heard.beats_label
    far = 3 * max(heard.own.value, heard.mean_profile.value if heard.mean_profile else 0.0, 1.0)
    broken = dataclasses.replace(heard, label=dataclasses.replace(heard.label, value=far))
    assert broken.control_broke_down and not broken.beats_label
