"""From a user's tiles and table to a file of profiles: whole or not at all, and every mistake said in words."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from rnasynth import cli, files
from rnasynth.data.cohort import Cohort
from rnasynth.data.tiles import TileStore
from rnasynth.engine import TrainConfig
from rnasynth.errors import InputError
from rnasynth.runs import Run, get_or_train
from rnasynth.systems import profile_files
from rnasynth.systems.gemm_config import cvae_demo, gan_demo

TRAIN = TrainConfig(steps=4, batch_size=8, checkpoint_every=0, device="cpu")
SMALL = {
    "n_genes": 50, "train": TRAIN, "width": 16, "feed_forward": 16, "word_dim": 4, "text_buckets": 64, "per_sample": 3,
    "hidden": (16,), "noise_dim": 4, "critic_steps": 1, "drop_tiles": 0.3, "drop_text": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(gan_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = dataclasses.replace(gan_demo(), **SMALL)  # type: ignore[arg-type]
    return get_or_train("gemm-gan", config, gan_cohort, folder=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture(scope="module")
def theirs(gan_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has: PNG tiles of two samples (64 px of 1 um), a clinical table with a third."""
    folder, store = tmp_path_factory.mktemp("user"), gan_cohort.tiles
    assert store is not None
    obs = gan_cohort.only("test").profiles.obs
    names = list(obs["sample_id"].astype(str))[:3]
    for name in names[:2]:
        (folder / "tiles" / name).mkdir(parents=True)
        for number in store.index["tile_id"][store.index["sample_id"] == name].to_numpy()[:2]:
            tile = store.read_batch(np.array([number]))[0]
            Image.fromarray(tile).save(folder / "tiles" / name / f"{number}.png")
    table = pd.DataFrame({"sample_id": names, "clinical_text": [*obs["clinical_text"].astype(str)[:2], "A woman of 50."]})
    table.to_csv(folder / "clinical.csv", index=False)
    return folder


def call(*arguments: object) -> Sequence[str]:
    return ["generate", *map(str, arguments)]


def test_tiles_and_text_become_profiles_with_their_spread(run: Run, theirs: Path, tmp_path: Path) -> None:
    out = tmp_path / "profiles.h5ad"
    options = ("--run", run.path, "--tiles", theirs / "tiles", "--clinical", theirs / "clinical.csv", "--mpp", "1.0")
    done = CliRunner().invoke(cli.app, call(*options, "--out", out, "--draws", "4", "--seed", "3"))
    assert done.exit_code == 0, done.output
    assert "3 profiles of 50 genes" in done.output and "1 samples without tiles, 0 without text" in done.output
    made = anndata.read_h5ad(out)
    assert made.shape == (3, 50) and list(made.obs["n_tiles"]) == [2, 2, 0] and made.obs["has_text"].all()
    assert np.isfinite(made.X).all() and (made.layers["sd"] > 0).all()
    assert (made.layers["low"] <= made.layers["high"]).all() and (made.layers["linear"] >= 0).all()
    facts = json.loads(made.uns["provenance"])
    assert facts["run"] == run.id and facts["seed"] == 3 and facts["draws"] == 4 and facts["features"].endswith("@1um/px")
    assert list(tmp_path.iterdir()) == [out]  # nothing temporary is left


def test_a_store_and_a_folder_of_the_same_tiles_give_the_same(run: Run, gan_cohort: Cohort, tmp_path: Path) -> None:
    store = gan_cohort.tiles
    assert store is not None
    name = str(gan_cohort.only("test").profiles.obs["sample_id"].iloc[0])
    (tmp_path / "tiles" / name).mkdir(parents=True)
    for number in store.index["tile_id"][store.index["sample_id"] == name].to_numpy():
        tile = store.read_batch(np.array([number]))[0]
        Image.fromarray(tile).save(tmp_path / "tiles" / name / f"{number:05d}.png")
    generator = profile_files.open_profile_generator(run.path)
    by_folder = profile_files.read_inputs(generator, tmp_path / "tiles", None, mpp_um=1.0)
    by_store = profile_files.read_inputs(generator, store.folder, None)
    assert isinstance(store, TileStore) and by_folder.sample_ids == (name,)
    bag = by_store.bags[by_store.sample_ids.index(name)]
    assert bag is not None and by_folder.bags[0] is not None
    np.testing.assert_allclose(by_folder.bags[0], bag, atol=1e-5)
    assert by_folder.features == by_store.features


def test_finer_tiles_are_averaged_to_what_the_run_saw(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s1").mkdir()
    Image.fromarray(np.full((130, 130, 3), 180, np.uint8)).save(tmp_path / "s1" / "a.png")
    generator = profile_files.open_profile_generator(run.path)
    inputs = profile_files.read_inputs(generator, tmp_path, None, mpp_um=0.499)  # 64.9 px: rounding is no other um/px
    assert inputs.features == generator.system.reader.facts["features"]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="finer"):
        profile_files.read_inputs(generator, tmp_path, None, mpp_um=2.0)


def test_profiles_of_a_sample_do_not_depend_on_the_others(run: Run, theirs: Path, tmp_path: Path) -> None:
    whole = profile_files.generate_profiles(
        run.path, tmp_path / "a.h5ad", tiles=theirs / "tiles", clinical=theirs / "clinical.csv", mpp_um=1.0, draws=3
    )
    pd.read_csv(theirs / "clinical.csv").iloc[2:].to_csv(tmp_path / "one.csv", index=False)
    alone = profile_files.generate_profiles(run.path, tmp_path / "b.h5ad", clinical=tmp_path / "one.csv", draws=3)
    np.testing.assert_allclose(alone.X[0], whole.X[2], atol=1e-5)
    told = profile_files.generate_profiles(run.path, tmp_path / "c.h5ad", tiles=theirs / "tiles", mpp_um=1.0, draws=3)
    assert not np.allclose(told.X[0], whole.X[0], atol=1e-5)  # without its text it is another profile


def test_samples_without_text_or_tiles_and_with_thousands_of_tiles_are_handled(
    run: Run, theirs: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(theirs / "clinical.csv")
    many, plain, told = table["sample_id"].astype(str)
    tile = next((theirs / "tiles" / many).glob("*.png"))
    (tmp_path / "tiles" / many).mkdir(parents=True)
    (tmp_path / "tiles" / plain).mkdir()
    for number in range(2500):
        os.link(tile, tmp_path / "tiles" / many / f"{number:04d}.png")
    shutil.copy(tile, tmp_path / "tiles" / plain / "one.png")
    table.loc[1, "clinical_text"] = ""  # in the table, but nothing is said
    table.to_csv(tmp_path / "clinical.csv", index=False)
    out = tmp_path / "profiles.h5ad"
    options = ("--run", run.path, "--tiles", tmp_path / "tiles", "--clinical", tmp_path / "clinical.csv", "--mpp", "1.0")
    done = CliRunner().invoke(cli.app, call(*options, "--out", out, "--draws", "2"))
    assert done.exit_code == 0 and "1 samples without tiles, 1 without text" in done.output, done.output
    made = anndata.read_h5ad(out)
    assert dict(zip(made.obs["sample_id"], made.obs["n_tiles"], strict=True)) == {many: 3, plain: 1, told: 0}
    assert dict(zip(made.obs["sample_id"], made.obs["has_text"], strict=True)) == {many: True, plain: False, told: True}
    assert np.isfinite(made.X).all()


def test_what_a_run_cannot_do_without_is_named(
    gan_cohort: Cohort, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(gan_demo(), **{**SMALL, "drop_tiles": 0.0, "drop_text": 0.0})  # type: ignore[arg-type]
    strict = get_or_train("gemm-gan", config, gan_cohort, folder=tmp_path / "runs", progress=False)
    out = tmp_path / "profiles.h5ad"
    for options, said in (
        (("--tiles", theirs / "tiles", "--mpp", "1.0"), "drop_text"),
        (("--clinical", theirs / "clinical.csv"), "drop_tiles"),
    ):
        monkeypatch.setattr("sys.argv", ["rnasynth", *call("--run", strict.path, *options, "--out", out)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        text = capsys.readouterr().err
        assert ended.value.code == 2 and said in text and "Traceback" not in text and not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tiles", "TILES", "--mpp", "1.0", "--expression", "x.h5ad"), "both"),
        ((), "neither"),
        (("--tiles", "TILES"), "um/px"),
        (("--tiles", "TILES", "--mpp", "1.0", "--base", "a-run"), "--base"),
        (("--tiles", "nowhere", "--mpp", "1.0"), "no such folder"),
        (("--clinical", "nowhere.csv"), "no such file"),
        (("--clinical", "TABLE", "--draws", "1"), "draws"),
        (("--clinical", "WRONG"), "clinical_text"),
    ],
)
def test_mistakes_end_with_two_and_write_nothing(
    options: tuple[str, ...],
    said: str,
    run: Run,
    theirs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (theirs / "wrong.csv").write_text("sample_id,clinical_text,remark\na,71,A man of seventy\n", encoding="utf-8")
    places = {"TILES": theirs / "tiles", "TABLE": theirs / "clinical.csv", "WRONG": theirs / "wrong.csv"}
    given = [str(places.get(option, option)) for option in options]
    out = tmp_path / "profiles.h5ad"
    monkeypatch.setattr("sys.argv", ["rnasynth", *call("--run", run.path, *given, "--out", out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    text = capsys.readouterr().err
    assert ended.value.code == 2 and said in text and "Traceback" not in text
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept(run: Run, theirs: Path, tmp_path: Path) -> None:
    out = tmp_path / "profiles.h5ad"
    out.write_text("mine", encoding="utf-8")
    for wrong in (out, tmp_path / "profiles.csv"):
        with pytest.raises(InputError, match="h5ad"):
            profile_files.generate_profiles(run.path, wrong, clinical=theirs / "clinical.csv")
    assert out.read_text(encoding="utf-8") == "mine"


def test_a_failure_while_writing_leaves_nothing(
    run: Run, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(temporary: Path, path: Path) -> None:
        assert temporary.stat().st_size > 1000 and temporary != path
        raise OSError("disk full")

    monkeypatch.setattr(files, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        profile_files.generate_profiles(run.path, tmp_path / "p.h5ad", clinical=theirs / "clinical.csv", draws=2)
    assert list(tmp_path.iterdir()) == []


def test_other_runs_are_refused(gan_cohort: Cohort, run: Run, tmp_path: Path) -> None:
    config = dataclasses.replace(cvae_demo(), n_genes=50, hidden=(16,), latent=3, train=TRAIN)
    deaf = get_or_train("profile-cvae", config, gan_cohort, folder=tmp_path, progress=False)
    with pytest.raises(InputError, match="reads tiles and text"):
        profile_files.open_profile_generator(deaf.path)
