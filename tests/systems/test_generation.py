"""Profiles in, tiles out: the same tile in any batch, and a folder that is whole, resumable and never mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from rnasynth.data.cohort import Cohort
from rnasynth.engine import TrainConfig, seeded
from rnasynth.errors import InputError
from rnasynth.runs import get_or_train, load_run
from rnasynth.systems import generation
from rnasynth.systems.beta_vae import BetaVAEConfig
from rnasynth.systems.gan import RNAGAN, GANSystem, LabelGAN, PlainGAN
from rnasynth.systems.generation import TileGenerator, generate_to_folder, read_profiles
from tests.systems.gan_cohort import Components, small_config


@pytest.fixture(scope="module")
def cohort(gan_cohort: Cohort) -> Cohort:
    return gan_cohort


def generator_of(kind: type[GANSystem], cohort: Cohort) -> TileGenerator:
    encoder = Components(cohort, size=4)
    with seeded("generator", 0):
        system = kind.from_cohort(small_config(), cohort, (encoder,) if kind is RNAGAN else ())
    return TileGenerator(system, encoder=encoder if kind is RNAGAN else None, run_id="run-0")


@pytest.fixture(scope="module")
def rna(cohort: Cohort) -> TileGenerator:
    return generator_of(RNAGAN, cohort)


def nearly_equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for single grey levels by rounding (other batch sizes add numbers up in another order)."""
    difference = np.abs(a.astype(int) - b.astype(int))
    return a.shape == b.shape and difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_a_tile_is_the_same_in_any_batch_order_and_company(rna: TileGenerator, cohort: Cohort) -> None:
    profiles = cohort.profiles[:4].copy()
    whole = rna.generate(profiles, 3, seed=5)
    assert whole.shape == (4, 3, 32, 32, 3) and whole.dtype == np.uint8
    assert nearly_equal(rna.generate(profiles, 3, seed=5, batch=1), whole)
    assert nearly_equal(rna.generate(profiles[::-1].copy(), 3, seed=5)[::-1], whole)
    assert nearly_equal(rna.generate(profiles[[2]].copy(), 2, seed=5)[0], whole[2, :2])
    assert np.array_equal(rna.generate(profiles, 3, seed=5), whole)


def test_another_seed_or_number_is_another_tile(rna: TileGenerator, cohort: Cohort) -> None:
    profiles = cohort.profiles[:1].copy()
    tiles = rna.generate(profiles, 3, seed=0)[0]
    assert not np.array_equal(tiles[0], tiles[1])
    assert not np.array_equal(rna.generate(profiles, 3, seed=1)[0, 0], tiles[0])


def test_shuffling_the_rna_changes_what_is_generated(rna: TileGenerator, cohort: Cohort) -> None:
    profiles = cohort.profiles[:2].copy()
    swapped = profiles.copy()
    swapped.X = profiles.X[::-1].copy()
    change = np.abs(rna.generate(profiles, 4).astype(int) - rna.generate(swapped, 4).astype(int)).mean()
    assert change > 1.0
    plain = generator_of(PlainGAN, cohort)  # a generator without RNA: the deliberately deaf one
    assert np.array_equal(plain.generate(profiles, 4), plain.generate(swapped, 4))


def test_gene_order_and_extra_genes_do_not_matter(rna: TileGenerator, cohort: Cohort) -> None:
    profiles = cohort.profiles[:3].copy()
    order = np.random.default_rng(0).permutation(profiles.n_vars)
    extra = anndata.AnnData(
        X=np.ones((3, 2), dtype=np.float32),
        obs=profiles.obs,
        var=pd.DataFrame({"symbol": ["EXTRA1", "EXTRA2"]}, index=["EXTRA1", "EXTRA2"]),
    )
    other = anndata.concat([profiles[:, order].copy(), extra], axis=1, merge="first")
    other.uns = dict(profiles.uns)
    assert nearly_equal(rna.generate(other, 2), rna.generate(profiles, 2))


def test_folder_holds_every_tile_and_a_table(rna: TileGenerator, cohort: Cohort, tmp_path: Path) -> None:
    profiles = cohort.profiles[:3].copy()
    table = generate_to_folder(rna, profiles, tmp_path / "out", 2, seed=3)
    stored = pd.read_csv(tmp_path / "out" / "table.csv", dtype={"sample_id": str})
    assert list(stored.columns) == ["sample_id", "tile", "file", "seed", "run_id", "mpp_um"]
    pd.testing.assert_frame_equal(stored, table, check_dtype=False)
    assert stored["mpp_um"].eq(2.0).all() and stored["run_id"].eq("run-0").all() and stored["seed"].eq(3).all()
    made = rna.generate(profiles, 2, seed=3).reshape(-1, 32, 32, 3)
    for file, tile in zip(stored["file"], made, strict=True):
        assert nearly_equal(np.asarray(Image.open(tmp_path / "out" / file)), tile)


def test_killed_generation_goes_on_where_it_stopped(
    rna: TileGenerator, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles, out, real = cohort.profiles[:3].copy(), tmp_path / "out", generation.write_bytes
    written: list[Path] = []

    def dies(path: Path, content: bytes) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        real(path, content)

    monkeypatch.setattr(generation, "write_bytes", dies)
    with pytest.raises(KeyboardInterrupt):
        generate_to_folder(rna, profiles, out, 2)
    assert not (out / "table.csv").exists()
    kept = {path: path.stat().st_mtime_ns for path in written}
    monkeypatch.setattr(generation, "write_bytes", real)
    generate_to_folder(rna, profiles, out, 2)
    assert {path: path.stat().st_mtime_ns for path in written} == kept
    undisturbed = tmp_path / "undisturbed"
    generate_to_folder(rna, profiles, undisturbed, 2)
    for path in sorted(undisturbed.rglob("*.png")):
        assert nearly_equal(np.asarray(Image.open(path)), np.asarray(Image.open(out / path.relative_to(undisturbed))))
    assert (undisturbed / "table.csv").read_bytes() == (out / "table.csv").read_bytes()


def test_folder_of_another_call_is_never_mixed(rna: TileGenerator, cohort: Cohort, tmp_path: Path) -> None:
    profiles = cohort.profiles[:2].copy()
    generate_to_folder(rna, profiles, tmp_path / "out", 1)
    before = sorted(tmp_path.rglob("*"))
    for changed in ({"seed": 9}, {"profiles": cohort.profiles[1:3].copy()}):
        with pytest.raises(InputError, match="another"):
            generate_to_folder(rna, changed.get("profiles", profiles), tmp_path / "out", 1, seed=changed.get("seed", 0))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="other files"):
        generate_to_folder(rna, profiles, tmp_path / "mine", 1)
    assert sorted(p for p in tmp_path.rglob("*") if "mine" not in str(p)) == before
    assert len(generate_to_folder(rna, profiles, tmp_path / "out", 2)) == 4  # more tiles of the same call are added


def test_sample_ids_become_safe_distinct_folders(rna: TileGenerator, cohort: Cohort, tmp_path: Path) -> None:
    profiles = cohort.profiles[:3].copy()
    profiles.obs_names = ["../escape", "a/b", "a_b"]
    profiles.obs["sample_id"] = list(profiles.obs_names)
    table = generate_to_folder(rna, profiles, tmp_path / "out", 1)
    assert len(set(table["file"])) == 3 and list(table["sample_id"]) == ["../escape", "a/b", "a_b"]
    root = (tmp_path / "out").resolve()
    assert all((root / file).resolve().is_relative_to(root) for file in table["file"])


@pytest.mark.parametrize("kind", ["empty", "no genes in common", "twice", "log scale"])
def test_profiles_that_do_not_fit_are_refused_before_anything_is_written(
    kind: str, rna: TileGenerator, cohort: Cohort, tmp_path: Path
) -> None:
    profiles = cohort.profiles[:2].copy()
    if kind == "empty":
        profiles = profiles[:0].copy()
    elif kind == "no genes in common":
        profiles.var_names = [f"X{number}" for number in range(profiles.n_vars)]
        profiles.var["symbol"] = list(profiles.var_names)
    elif kind == "twice":
        profiles.obs_names = ["a", "a"]
    else:
        profiles.X = np.log2(np.asarray(profiles.X) + 1)
    with pytest.raises(InputError):
        generate_to_folder(rna, profiles, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


def test_label_generator_needs_a_known_tissue(cohort: Cohort) -> None:
    label = generator_of(LabelGAN, cohort)
    profiles = cohort.profiles[:2].copy()
    assert label.generate(profiles, 1).shape == (2, 1, 32, 32, 3)
    with pytest.raises(InputError, match="tissue"):
        label.generate(anndata.AnnData(X=profiles.X, obs=profiles.obs.drop(columns="tissue"), var=profiles.var), 1)


def test_latents_are_taken_in_place_of_profiles(rna: TileGenerator, cohort: Cohort) -> None:
    assert rna.generate(np.zeros((2, 4), dtype=np.float32), 2).shape == (2, 2, 32, 32, 3)
    for bad in (np.zeros((2, 3)), np.full((2, 4), np.nan), np.zeros((0, 4))):
        with pytest.raises(InputError):
            rna.generate(bad, 1)


def test_files_of_profiles_are_read_or_refused(cohort: Cohort, tmp_path: Path) -> None:
    cohort.profiles[:2].copy().write_h5ad(tmp_path / "good.h5ad")
    assert read_profiles(tmp_path / "good.h5ad").n_obs == 2
    (tmp_path / "text.h5ad").write_text("not HDF5", encoding="utf-8")
    unitless = cohort.profiles[:2].copy()
    del unitless.uns["unit"]
    unitless.write_h5ad(tmp_path / "unitless.h5ad")
    cases: dict[str, Any] = {"absent.h5ad": "no such file", "text.h5ad": "h5ad", "unitless.h5ad": "unit"}
    for name, said in cases.items():
        with pytest.raises(InputError, match=said):
            read_profiles(tmp_path / name)


@pytest.mark.slow
def test_a_finished_run_makes_tiles_from_profiles_by_itself(cohort: Cohort, tmp_path: Path) -> None:
    vae = BetaVAEConfig(hidden=(16, 8), latent=4, lr=1e-3, n_genes=60, train=TrainConfig(steps=10, batch_size=8))
    first = get_or_train("beta-vae", vae, cohort, folder=tmp_path, progress=False)
    run = get_or_train("rna-gan", small_config(), cohort, upstream=[first], folder=tmp_path, progress=False)
    table = generate_to_folder(run, cohort.profiles[:2].copy(), tmp_path / "out", 2, seed=1)
    assert set(table["run_id"]) == {run.id} and len(list((tmp_path / "out").rglob("*.png"))) == 4
    loaded = load_run(run.path).load()
    assert loaded.mpp_um == 2.0 and loaded.px == 32
    made = loaded.generate(cohort.profiles[:2].copy(), 2, seed=1)
    assert nearly_equal(np.asarray(Image.open(tmp_path / "out" / table["file"].iloc[0])), made[0, 0])
    averaged = run.networks()["generator"]
    assert any(not torch.equal(averaged[name], tensor) for name, tensor in run.networks(ema=False)["generator"].items())
    state = loaded.system.best("generator").state_dict()
    assert all(torch.equal(averaged[name], state[name]) for name in averaged)  # tiles come from the moving average
