"""Released weights stand alone, make nearly the same tiles, and are never judged on what they learned from."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

from rnasynth.data.cohort import Cohort
from rnasynth.engine import load_tensors
from rnasynth.errors import InputError, RunError, SplitError
from rnasynth.evaluation.utility.folds import check_unseen, seen_groups
from rnasynth.evaluation.utility.folds import test_folds as make_folds
from rnasynth.runs import Run, get_or_train, load_run, release, released_folder
from rnasynth.systems.diffusion import open_generator
from rnasynth.systems.training import train_preset
from tests.systems.cdm_stages import SMALL as SMALL_BASE
from tests.systems.cdm_stages import SMALL_SR
from tests.systems.gan_cohort import small_config
from tests.systems.test_beta_vae import SMALL

CARD = "# small-gan\n\nFor tests.\n"


@pytest.fixture(scope="module")
def real(gan_cohort: Cohort) -> Cohort:
    """Patients that are taken for real ones."""
    return dataclasses.replace(gan_cohort, simulated=False)


def changed(cohort: Cohort, *, unit: str = "", **columns: Any) -> Cohort:
    """The same samples with another unit or other columns."""
    profiles = cohort.profiles.copy()
    profiles.uns["unit"] = unit or profiles.uns["unit"]
    for name, values in columns.items():
        profiles.obs[name] = values
    return dataclasses.replace(cohort, profiles=profiles)


@pytest.fixture(scope="module")
def run(real: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Run:
    runs = tmp_path_factory.mktemp("runs")
    below = get_or_train("beta-vae", SMALL, real, folder=runs, progress=False)
    return get_or_train("rna-gan", small_config(), real, upstream=(below,), folder=runs, progress=False)


@pytest.fixture
def released(run: Run, real: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Released weights where no other run can be found."""
    monkeypatch.setattr("rnasynth.runs.run.sources_folder", lambda name: tmp_path / name)
    monkeypatch.setenv("RNASYNTH_RUNS", str(tmp_path / "none"))
    return release(run, tmp_path / "book" / "released", "small-gan", CARD, cohort=real)


def test_released_weights_stand_alone_in_half_the_bytes_and_make_the_same_tiles(
    run: Run, released: Path, real: Cohort
) -> None:
    found = load_run("small-gan")
    assert found.id == run.id and (released / "MODEL_CARD.md").read_text() == CARD
    assert [each.path.parent for each in found.upstream()] == [released / "upstream"]
    profiles = real.only("test").profiles
    ours, theirs = (each.load().generate(profiles, 2, seed=1).astype(int) for each in (found, run))
    assert 0 < np.abs(ours - theirs).mean() < 2  # grey levels of 255; weights are rounded to three digits
    tensors = load_tensors(released / "model.safetensors")
    averaged = {name: tensor for name, tensor in load_tensors(run.path / "ema.safetensors").items()}
    assert averaged and all(torch.equal(tensors[name], tensor.to(tensors[name].dtype)) for name, tensor in averaged.items())
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.bfloat16}


def test_released_stages_of_one_encoder_are_a_cascade_and_others_are_not(
    real: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "runs"
    below, other = (
        get_or_train("beta-vae", vae, real, folder=made, progress=False)
        for vae in (SMALL, dataclasses.replace(SMALL, train=dataclasses.replace(SMALL.train, seed=7)))
    )
    stages = {
        "base": get_or_train("cdm-base", SMALL_BASE, real, upstream=(below,), folder=made, progress=False),
        "upper": get_or_train("cdm-sr", SMALL_SR, real, upstream=(below,), folder=made, progress=False),
        "stranger": get_or_train("cdm-sr", SMALL_SR, real, upstream=(other,), folder=made, progress=False),
    }
    monkeypatch.setattr("rnasynth.runs.run.sources_folder", lambda name: tmp_path / name)
    for name, stage in stages.items():
        release(stage, tmp_path / "book" / "released", name, CARD, cohort=real)
    shutil.rmtree(made)
    tiles = open_generator("upper", base="base").generate(real.only("test").profiles, 1)
    assert tiles.shape[2:] == (SMALL_SR.tile_px, SMALL_SR.tile_px, 3)
    with pytest.raises(InputError, match="encoder"):
        open_generator("stranger", base="base")


def test_a_run_of_another_kind_is_refused_by_its_name(released: Path, real: Cohort) -> None:
    assert train_preset("small-gan", real, "demo", kinds=("rna-gan",)).system_name == "rna-gan"
    with pytest.raises(InputError, match=r"run small-gan; expected cdm-base, or a finished run of it; found rna-gan"):
        train_preset("small-gan", real, "demo", kinds=("cdm-base",))
    with pytest.raises(InputError, match=r"^beta-vae; expected cdm-base or cdm-distilled"):
        train_preset("beta-vae", real, "demo", kinds=("cdm-base", "cdm-distilled"))


def test_a_changed_file_of_released_weights_or_of_what_lies_inside_is_refused(released: Path) -> None:
    for file in (released / "MODEL_CARD.md", next(released.glob("upstream/*/fitted.json"))):
        kept = file.read_bytes()
        file.write_bytes(kept + b" ")
        with pytest.raises(RunError, match=file.name):
            load_run("small-gan").load()
        file.write_bytes(kept)
    load_run("small-gan").load()
    shutil.rmtree(released / "upstream")
    with pytest.raises(RunError, match="beta-vae"):
        load_run("small-gan").load()


def test_nothing_is_released_twice_too_large_of_simulated_patients_or_of_another_cohort(
    run: Run, real: Cohort, gan_cohort: Cohort, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"at most 0\.001 MB"):
        release(run, tmp_path, "small-gan", CARD, cohort=real, largest_mb=0.001)
    simulated = get_or_train("label-gan", small_config(), gan_cohort, folder=tmp_path / "runs", progress=False)
    with pytest.raises(RunError, match="simulated"):
        release(simulated, tmp_path, "small-gan", CARD, cohort=gan_cohort)
    with pytest.raises(RunError, match="trained on cohort"):
        release(run, tmp_path, "small-gan", CARD, cohort=changed(real, unit="tpm "))
    assert not (tmp_path / "small-gan").exists()
    release(run, tmp_path, "small-gan", CARD, cohort=real)
    with pytest.raises(RunError, match="another name"):
        release(run, tmp_path, "small-gan", CARD, cohort=real)


def test_a_page_takes_a_finished_run_only_where_it_saw_none_that_is_tested(released: Path, run: Run, real: Cohort) -> None:
    assert train_preset("small-gan", real, "demo", overrides=["train.seed=0"]).path == released
    with pytest.raises(RunError, match=r"train\.seed=1"):
        train_preset("small-gan", real, "demo", overrides=["train.seed=1"])
    split = real.profiles.obs["split"]
    told = changed(real, stage="another")  # a cohort built anew may differ in what no run looks at
    again = changed(real, unit="tpm ")
    assert again.fingerprint() != real.fingerprint() == told.fingerprint()
    assert train_preset("small-gan", again, "demo").path == released
    assert seen_groups(load_run("small-gan"), again) == set(real.profiles.obs["split_group"][split != "test"])
    with pytest.raises(RunError, match="its splits"):
        train_preset(str(run.path), again, "demo")  # what is not released is known by the whole cohort alone
    swapped = changed(real, split=split.map({"train": "test", "test": "train", "val": "val"}))
    with pytest.raises(RunError, match="its splits"):
        train_preset("small-gan", swapped, "demo")
    with pytest.raises(RunError, match="its splits"):
        train_preset("small-gan", dataclasses.replace(again, name="another study"), "demo")
    with pytest.raises(SplitError, match="nothing was trained on"):
        check_unseen(make_folds(swapped, 2), seen_groups(load_run("small-gan"), swapped))
    with pytest.raises(InputError, match="rna-gun"):
        train_preset("rna-gun", real, "demo")
    with pytest.raises(InputError, match="load_cohort"):
        train_preset("rna-gan", "study.yaml", "demo")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["rna-gan-her2st", "cdm-base-her2st", "cdm-base-64-her2st"])
def test_released_generators_of_the_book_make_tiles_that_follow_the_profile(name: str) -> None:
    generator = load_run(name).load()
    assert generator.encoder is not None and not load_run(name).description["cohort"]["simulated"]
    genes = load_run(name).upstream()[0].transform.genes
    counts = np.random.default_rng(0).poisson(2.0, (2, len(genes))).astype(np.float32)
    profiles = AnnData(counts, obs=pd.DataFrame({"sample_id": ["a", "b"]}, index=["a", "b"]), var=pd.DataFrame(index=genes))
    profiles.uns["unit"] = "counts"
    tiles = generator.generate(profiles, 2, seed=0)
    assert tiles.shape == (2, 2, generator.px, generator.px, 3) and tiles.std() > 5
    swapped = generator.generate(profiles[::-1].copy(), 2, seed=0)
    assert np.abs(tiles.astype(int) - swapped.astype(int)).mean() > 1
    deaf = profiles.copy()
    deaf.X = np.tile(counts[:1], (2, 1))  # the same profile twice: only the noise of the two samples differs
    assert np.array_equal(generator.generate(deaf, 2, seed=0)[0], tiles[0])


@pytest.mark.parametrize(
    ("base", "upper", "px"), [("cdm-base-her2st", "cdm-sr-her2st", 64), ("cdm-base-64-her2st", "cdm-sr-256-her2st", 256)]
)
def test_released_cascades_of_the_book_are_whole(base: str, upper: str, px: int) -> None:
    cascade = open_generator(upper, base=base)
    genes = load_run(base).upstream()[0].transform.genes
    counts = np.random.default_rng(0).poisson(2.0, (1, len(genes))).astype(np.float32)
    profiles = AnnData(counts, obs=pd.DataFrame({"sample_id": ["a"]}, index=["a"]), var=pd.DataFrame(index=genes))
    profiles.uns["unit"] = "counts"
    large, small = (each.generate(profiles, 1, seed=0)[0, 0].astype(float) for each in (cascade, cascade.base))
    assert large.shape == (px, px, 3)
    factor = px // len(small)
    lowered = large.reshape(len(small), factor, len(small), factor, 3).mean((1, 3))
    assert np.corrcoef(lowered.ravel(), small.ravel())[0, 1] > 0.8


def test_released_weights_name_sections_that_no_test_holds_and_are_small() -> None:
    for path in sorted(released_folder().glob("*-her2st")):
        if path.name == "simclr-her2st":  # its card says what it saw
            continue
        assert load_run(path.name).seen == {"C2", "C3", "C4"}
        assert all(below.seen == {"C2", "C3", "C4"} for below in load_run(path.name).upstream())
        assert sum(file.stat().st_size for file in path.rglob("*.safetensors")) < 16e6
