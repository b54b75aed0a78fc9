"""Released weights stand alone, make nearly the same tiles, and are never judged on what they learned from."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from rnasynth.data.cohort import Cohort
from rnasynth.engine import load_tensors
from rnasynth.errors import InputError, RunError
from rnasynth.runs import Run, get_or_train, load_run, release
from rnasynth.systems.training import train_preset
from tests.systems.gan_cohort import small_config
from tests.systems.test_beta_vae import SMALL

CARD = "# small-gan\n\nFor tests.\n"


@pytest.fixture(scope="module")
def real(gan_cohort: Cohort) -> Cohort:
    """Patients that are taken for real ones."""
    return dataclasses.replace(gan_cohort, simulated=False)


@pytest.fixture(scope="module")
def run(real: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Run:
    runs = tmp_path_factory.mktemp("runs")
    below = get_or_train("beta-vae", SMALL, real, folder=runs, progress=False)
    return get_or_train("rna-gan", small_config(), real, upstream=(below,), folder=runs, progress=False)


@pytest.fixture
def released(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Released weights where no other run can be found."""
    monkeypatch.setattr("rnasynth.runs.run.sources_folder", lambda name: tmp_path / name)
    monkeypatch.setenv("RNASYNTH_RUNS", str(tmp_path / "none"))
    return release(run, tmp_path / "book" / "released", "small-gan", CARD)


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


def test_nothing_is_released_twice_too_large_or_of_simulated_patients(run: Run, gan_cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"at most 0\.001 MB"):
        release(run, tmp_path, "small-gan", CARD, largest_mb=0.001)
    simulated = get_or_train("label-gan", small_config(), gan_cohort, folder=tmp_path / "runs", progress=False)
    with pytest.raises(RunError, match="simulated"):
        release(simulated, tmp_path, "small-gan", CARD)
    assert not (tmp_path / "small-gan").exists()
    release(run, tmp_path, "small-gan", CARD)
    with pytest.raises(RunError, match="another name"):
        release(run, tmp_path, "small-gan", CARD)


def test_a_page_takes_a_finished_run_only_for_the_cohort_and_splits_it_learned_from(released: Path, real: Cohort) -> None:
    assert train_preset("small-gan", real, "demo", overrides=["train.seed=0"]).path == released
    with pytest.raises(RunError, match=r"train\.seed=1"):
        train_preset("small-gan", real, "demo", overrides=["train.seed=1"])
    obs = real.profiles.obs
    profiles = real.profiles.copy()
    profiles.obs["split"] = obs["split"].map({"train": "test", "test": "train", "val": "val"})
    with pytest.raises(RunError, match="its splits"):
        train_preset("small-gan", dataclasses.replace(real, profiles=profiles), "demo")
    with pytest.raises(InputError, match="rna-gun"):
        train_preset("rna-gun", real, "demo")
