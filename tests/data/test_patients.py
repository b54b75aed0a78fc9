"""What a network reads of a patient: bags and texts, the cache, and a user's own folders."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from rnasynth.data import patients
from rnasynth.data.clinical import clinical_text
from rnasynth.data.cohort import Cohort
from rnasynth.data.patient_folders import inputs_from_folder
from rnasynth.data.patients import PatientInputs, choose_tiles, others, patient_inputs, texts_of
from rnasynth.errors import InputError, StoreError
from tests.systems.gan_cohort import small_cohort


class MeanColour:
    """Mean of the three channels; counts what it is shown."""

    dim = 3

    def __init__(self, name: str = "mean-colour", fail_at: int | None = None) -> None:
        self.name, self.fail_at = name, fail_at
        self.calls: list[int] = []
        self.seen_mpp: set[float] = set()

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> NDArray[np.float32]:
        if self.fail_at is not None and len(self.calls) >= self.fail_at:
            raise KeyboardInterrupt
        self.calls.append(len(tiles))
        self.seen_mpp.add(mpp_um)
        return tiles.mean(axis=(1, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("patients"), patients=15, tiles=4)


@pytest.fixture
def cohort(built: Cohort, tmp_path: Path) -> Cohort:
    return dataclasses.replace(built, folder=tmp_path)  # an empty cache for each test


def made(n: int = 4, dim: int = 2) -> PatientInputs:
    rng = np.random.default_rng(0)
    bags = tuple(rng.normal(size=(k + 1, dim)).astype(np.float32) for k in range(n))
    names = tuple(f"P{k}" for k in range(n))
    return PatientInputs(names, bags, tuple(f"text {k}" for k in range(n)), ("a",) * n)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"texts": ("", "")}, "one length"),
        ({"sample_ids": ("P0", "P0", "P1", "P2")}, "P0"),
        ({"bags": (np.full((1, 2), np.nan, np.float32),) + (None,) * 3}, "finite"),
        ({"bags": (np.zeros((0, 2), np.float32),) + (None,) * 3}, "at least one tile"),
        ({"bags": (np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32), None, None)}, "P1"),
        ({"bags": (np.zeros((1, 2)), None, None, None)}, "float32"),
        ({"texts": (None, "", "", "")}, "text"),
    ],
)
def test_inputs_that_do_not_fit_are_errors(change: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        dataclasses.replace(made(), **change)


def test_controls_change_one_thing_alone() -> None:
    inputs = made()
    assert inputs.take([2, 0]).sample_ids == ("P2", "P0") and len(inputs.take(slice(1, 3))) == 2
    assert inputs.without_tiles().bags == (None,) * 4 and inputs.without_tiles().texts == inputs.texts
    assert inputs.without_text().texts == ("",) * 4 and inputs.without_text().bags == inputs.bags
    text, tiles = inputs.shuffled_text(1), inputs.shuffled_tiles(1)
    assert text.bags == inputs.bags and sorted(text.texts) == sorted(inputs.texts) and tiles.texts == inputs.texts
    assert inputs.without_tiles().dim == 0 and inputs.dim == 2


@pytest.mark.parametrize("n", [2, 3, 10])
def test_shuffling_leaves_nobody_the_own_row(n: int) -> None:
    for seed in range(20):
        order = others(n, seed)
        assert sorted(order) == list(range(n)) and not (order == np.arange(n)).any()
    with pytest.raises(InputError, match="two"):
        others(1, 0)


def test_features_are_computed_once_and_belong_to_their_sample(cohort: Cohort) -> None:
    network = MeanColour()
    whole = patient_inputs(cohort, network)
    assert sum(network.calls) == 60 and max(network.calls) <= patients.BATCH_TILES
    assert whole.sample_ids == tuple(cohort.profiles.obs["sample_id"])
    assert cohort.tiles is not None
    index = cohort.tiles.index
    for name, bag in zip(whole.sample_ids[:3], whole.bags[:3], strict=True):
        ids = index.loc[index["sample_id"] == name, "tile_id"].to_numpy()
        np.testing.assert_allclose(bag, cohort.tiles.read_batch(ids).mean(axis=(1, 2)), rtol=1e-5)
    again = MeanColour()
    test = patient_inputs(cohort.only("test"), again, split="test")
    assert again.calls == []  # a part of the cohort finds what the whole made
    for name, bag in zip(test.sample_ids, test.bags, strict=True):
        np.testing.assert_array_equal(bag, whole.bags[whole.sample_ids.index(name)])


def test_another_network_size_or_choice_is_another_cache(cohort: Cohort) -> None:
    first = patient_inputs(cohort, MeanColour())
    for network, change in ((MeanColour("other"), {}), (MeanColour(), {"px": 32}), (MeanColour(), {"per_sample": 2})):
        inputs = patient_inputs(cohort, network, **change)  # type: ignore[arg-type]
        assert sum(network.calls) == (30 if "per_sample" in change else 60)
        assert (inputs.features != first.features) == ("per_sample" not in change)
    assert network.seen_mpp == {1.0}
    smaller = MeanColour("third")
    patient_inputs(cohort, smaller, px=32)
    assert smaller.seen_mpp == {2.0}  # the network is told the um/px that it sees


def test_a_killed_extraction_goes_on_where_it_was(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patients, "BLOCK_TILES", 8)
    with pytest.raises(KeyboardInterrupt):
        patient_inputs(cohort, MeanColour(fail_at=3))
    network = MeanColour()
    inputs = patient_inputs(cohort, network)
    assert sum(network.calls) == 60 - 3 * 8 and all(bag is not None for bag in inputs.bags)
    assert not list(cohort.folder.rglob("*.tmp*"))


def test_a_damaged_block_is_named(cohort: Cohort) -> None:
    patient_inputs(cohort, MeanColour())
    (block,) = cohort.folder.rglob("block-*.npy")
    block.write_bytes(block.read_bytes()[:100])
    with pytest.raises(StoreError, match=block.name):
        patient_inputs(cohort, MeanColour())
    np.save(block, np.zeros((60, 2), np.float32))
    with pytest.raises(StoreError, match="remove"):
        patient_inputs(cohort, MeanColour())


def test_of_thousands_of_tiles_a_fixed_choice_is_read() -> None:
    chosen = choose_tiles("P1", 5000, 256, seed=0)
    assert len(set(chosen)) == 256 and (np.diff(chosen) > 0).all() and chosen.max() < 5000
    np.testing.assert_array_equal(chosen, choose_tiles("P1", 5000, 256, seed=0))
    assert set(chosen) != set(choose_tiles("P2", 5000, 256, seed=0)) != set(choose_tiles("P2", 5000, 256, seed=1))
    np.testing.assert_array_equal(choose_tiles("P1", 3, 256, 0), [0, 1, 2])


def test_features_that_are_not_numbers_are_an_error(cohort: Cohort) -> None:
    class Broken(MeanColour):
        def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> NDArray[np.float32]:
            return np.full((len(tiles), 3), np.nan, np.float32)

    with pytest.raises(InputError, match="finite"):
        patient_inputs(cohort, Broken())
    assert not list(cohort.folder.rglob("block-*.npy"))
    with pytest.raises(InputError, match="per_sample"):
        patient_inputs(cohort, MeanColour(), per_sample=0)


def test_a_cohort_without_tiles_gives_texts_alone(cohort: Cohort) -> None:
    inputs = patient_inputs(dataclasses.replace(cohort, tiles=None), MeanColour(), split="val")
    assert set(inputs.bags) == {None} and inputs.dim == 0 and all(inputs.texts)


def leaks(texts: tuple[str, ...], tissues: list[str]) -> bool:
    """Whether a text holds a word of its own label."""
    words = [[word for word in tissue.lower().split("-") if len(word) > 3] for tissue in tissues]
    return any(word in text.lower() for text, mine in zip(texts, words, strict=True) for word in mine)


def test_no_text_holds_the_label(cohort: Cohort) -> None:
    obs = cohort.profiles.obs
    tissues = list(obs["tissue"].astype(str))
    assert not leaks(texts_of(obs), tissues) and all(texts_of(obs))
    planted = obs.assign(clinical_text=[f"Known {tissue.split('-')[0]} disease, never smoked." for tissue in tissues])
    assert not leaks(texts_of(planted), tissues) and all("never smoked" in text for text in texts_of(planted))
    fields = pd.DataFrame({"tissue": tissues, "disease": tissues, "age": 60.0, "histology": tissues, "event": 1.0})
    assert not leaks(texts_of(fields), tissues) and set(texts_of(fields)) == {"Age 60. Histology [...]-[...]."}
    broken = tuple(clinical_text(row, drop=()) for row in fields.to_dict("records"))
    assert leaks(broken, tissues)  # the released code's way fails the check


# ---------------------------------------------------------------------- a user's own folder
def tile_folder(home: Path, samples: dict[str, int], px: int = 40) -> Path:
    rng = np.random.default_rng(0)
    for name, n in samples.items():
        (home / name).mkdir(parents=True)
        for number in range(n):
            pixels = rng.integers(0, 255, (px, px, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(home / name / f"{number}.png")
    return home


def test_a_folder_of_tiles_and_a_table_join_by_id(tmp_path: Path) -> None:
    home = tile_folder(tmp_path / "tiles", {"P1": 3, "P2": 1})
    table = tmp_path / "clinical.csv"
    pd.DataFrame({"sample_id": ["P2", "P3"], "clinical_text": ["Never smoked.", "Lung, stage I."], "tissue": ["x", "lung"]}
                 ).to_csv(table, index=False)  # fmt: skip
    network = MeanColour()
    inputs = inputs_from_folder(home, table, network, mpp_um=0.5, px=20)
    assert inputs.sample_ids == ("P1", "P2", "P3") and network.seen_mpp == {1.0}
    assert [None if bag is None else len(bag) for bag in inputs.bags] == [3, 1, None]
    assert inputs.texts == ("", "Never smoked.", "[...], stage I.") and inputs.tissues == ("", "x", "lung")
    assert inputs_from_folder(None, table, network).bags == (None, None)
    few = inputs_from_folder(home, None, network, mpp_um=0.5, per_sample=2)
    assert few.bags[0] is not None and len(few.bags[0]) == 2


def test_a_tile_store_reads_as_its_cohort_does(cohort: Cohort) -> None:
    assert cohort.tiles is not None
    mine = inputs_from_folder(cohort.tiles.folder, None, MeanColour())
    whole = patient_inputs(cohort, MeanColour())
    assert mine.features == whole.features
    for name, bag in zip(mine.sample_ids, mine.bags, strict=True):
        np.testing.assert_array_equal(bag, whole.bags[whole.sample_ids.index(name)])


def test_a_folder_that_does_not_fit_is_a_clear_error(tmp_path: Path) -> None:
    home = tile_folder(tmp_path / "tiles", {"P1": 2})
    network = MeanColour()

    def fails(word: str, tiles: Path | None = home, clinical: Path | None = None, **more: Any) -> None:
        with pytest.raises(InputError, match=word):
            inputs_from_folder(tiles, clinical, network, **{"mpp_um": 0.5, **more})

    fails("neither", None)
    fails("no such folder", tmp_path / "nowhere")
    fails("--mpp", mpp_um=None)
    fails("PNG or JPEG", tile_folder(tmp_path / "empty", {"P1": 0}))
    shutil.copy(home / "P1" / "0.png", home / "flat.png")
    fails("a folder for each sample")
    (home / "flat.png").unlink()
    (home / "P1" / "2.png").write_bytes(b"no image")
    fails("2.png")
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(home / "P1" / "2.png")
    fails("square tiles of 40.*cut all tiles to one size")
    (home / "P1" / "2.png").unlink()

    table = tmp_path / "clinical.csv"
    fails("no such file", clinical=table)
    for text, word in (
        ("sample_id,clinical_text\nP9,Never smoked.\n", "P9"),
        ("sample_id,clinical_text,remark\nP1,3,never smoked before\n", "remark"),
        ("sample_id,clinical_text\nP1,a b\nP1,c d\n", "twice"),
        ("sample_id,weight\nP1,3\n", "clinical table"),
        ("", "csv or tsv"),
    ):
        table.write_text(text, encoding="utf-8")
        fails(word, clinical=table)
