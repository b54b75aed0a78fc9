"""A run is found by what went in, whole or not there, and refused when it was tampered with."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from rnasynth import files
from rnasynth.config import Config
from rnasynth.data.cohort import Cohort
from rnasynth.engine import TrainConfig, load_tensors
from rnasynth.errors import InputError, RunError
from rnasynth.runs import Run, get_or_train, load_run, run_id
from rnasynth.systems.beta_vae import BetaVAEConfig, BetaVAESystem
from tests.systems.test_beta_vae import SMALL, cohort_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return cohort_of(tmp_path_factory.mktemp("cohort"), patients=40, genes=100)


@pytest.fixture(scope="module")
def trained(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return get_or_train("beta-vae", SMALL, cohort, folder=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    """A copy that a test may damage."""
    shutil.copytree(trained.path, tmp_path / trained.id)
    return load_run(tmp_path / trained.id)


def changed(config: BetaVAEConfig, **fields: Any) -> BetaVAEConfig:
    return replace(config, train=replace(config.train, **fields))


def test_id_depends_on_everything_that_decides_the_weights() -> None:
    original = run_id("beta-vae", SMALL, "abc", ["up-1"], 1)
    assert original == run_id("beta-vae", BetaVAEConfig.from_dict(SMALL.to_dict()), "abc", ["up-1"], 1)
    others = [
        run_id("gan", SMALL, "abc", ["up-1"], 1),
        run_id("beta-vae", replace(SMALL, beta=0.1), "abc", ["up-1"], 1),
        run_id("beta-vae", changed(SMALL, seed=9), "abc", ["up-1"], 1),
        run_id("beta-vae", SMALL, "abd", ["up-1"], 1),
        run_id("beta-vae", SMALL, "abc", ["up-2"], 1),
        run_id("beta-vae", SMALL, "abc", ["up-1"], 2),
    ]
    assert len({original, *others}) == 7
    assert original.startswith("beta-vae-") and len(original) == len("beta-vae-") + 12


def test_id_does_not_depend_on_how_it_is_executed() -> None:
    elsewhere = changed(SMALL, device="cpu", log_every=7, checkpoint_every=3, snapshot_every=2, channels_last=True)
    assert run_id("beta-vae", elsewhere, "abc") == run_id("beta-vae", SMALL, "abc")


def test_an_option_added_later_renames_no_run_while_it_is_off() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Before(Config):
        width: int = 3

    @dataclass(frozen=True, kw_only=True)
    class After(Before):
        added: ClassVar[dict[str, Any]] = {"twist": "none"}
        twist: str = "none"

    @dataclass(frozen=True, kw_only=True)
    class Careless(Before):  # the broken variant: the field is not named in `added`
        twist: str = "none"

    def name(config: Config) -> str:
        return run_id("gan", config, "f00")

    assert name(After()) == name(Before()) and name(After(width=4)) == name(Before(width=4)) != name(Before())
    assert name(After(twist="left")) not in (name(Before()), name(After(twist="right")))
    assert name(Careless()) != name(Before())


def test_folder_holds_what_was_promised(trained: Run, cohort: Cohort) -> None:
    names = {path.name for path in trained.path.iterdir()} - {".lock"}
    assert names == {"config.json", "model.safetensors", "fitted.json", "metrics.jsonl", "versions.json", "manifest.json"}
    assert trained.path.name == trained.id and trained.system_name == "beta-vae" and trained.config == SMALL
    assert set(trained.manifest["files"]) == names - {"manifest.json"}
    assert trained.description["cohort"]["fingerprint"] == cohort.fingerprint() and trained.description["upstream"] == []
    assert trained.transform == BetaVAESystem.from_cohort(SMALL, cohort).transform
    assert list(trained.metrics()["step"]) == list(range(1, 21)) and trained.metrics()["val_loss"].notna().any()
    assert {"torch", "python", "device", "precision", "seconds"} <= set(trained.versions)
    assert trained.upstream() == ()


def test_a_finished_run_is_found_not_trained_again(trained: Run, cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnasynth.runs.making.train", None)
    again = get_or_train("beta-vae", SMALL, cohort, folder=trained.path.parent, progress=False)
    assert again.id == trained.id and again.manifest == trained.manifest


def test_a_run_is_loaded_by_path_name_and_release(
    trained: Run, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = cohort.only("test").profiles
    expected = trained.load().encode(z)
    monkeypatch.setenv("RNASYNTH_RUNS", str(trained.path.parent))
    assert np.array_equal(load_run(trained.id).load().encode(z), expected)
    shutil.copytree(trained.path, tmp_path / "book/released/simulated-demo")
    monkeypatch.setattr("rnasynth.runs.run.sources_folder", lambda name: tmp_path / name)
    assert np.array_equal(load_run("simulated-demo").load().encode(z), expected)
    with pytest.raises(RunError, match="released: simulated-demo"):
        load_run("no-such-run")


def test_two_trainings_give_the_same_bits(trained: Run, cohort: Cohort, tmp_path: Path) -> None:
    torch.rand(5)  # whatever was drawn before
    other = get_or_train("beta-vae", SMALL, cohort, folder=tmp_path, progress=False)
    assert other.manifest["files"]["model.safetensors"] == trained.manifest["files"]["model.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "fitted.json", "metrics.jsonl", "versions.json"])
def test_a_changed_file_is_refused(run: Run, name: str) -> None:
    content = bytearray((run.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (run.path / name).write_bytes(bytes(content))
    with pytest.raises(RunError, match=name):
        load_run(run.path)
    (run.path / name).unlink()
    with pytest.raises(RunError, match=name):
        load_run(run.path)


@pytest.fixture(scope="module")
def watched(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = changed(SMALL, snapshot_every=8, patience=None)  # with patience the best weights are kept, not the last
    return get_or_train("beta-vae", config, cohort, folder=tmp_path_factory.mktemp("watched"), progress=False)


def test_a_run_is_loaded_as_it_was_at_a_snapshot(watched: Run, cohort: Cohort) -> None:
    assert watched.snapshots() == [8, 16, 20] and watched.samples() == {}
    assert watched.at(8).id == f"{watched.id}@8" and watched.at(8).config == watched.config
    z = cohort.only("test").profiles
    last, early = watched.load(step=20).encode(z), watched.load(step=8).encode(z)
    assert np.array_equal(last, watched.load().encode(z)) and not np.array_equal(early, last)
    assert load_run(watched.path).snapshots() == [8, 16, 20]


def test_a_snapshot_that_is_not_there_is_an_error_that_says_what_is(trained: Run, watched: Run) -> None:
    with pytest.raises(RunError, match="one of the steps kept in snapshots/: 8, 16, 20"):
        watched.load(step=9)
    assert trained.snapshots() == []
    with pytest.raises(RunError, match=r"train\.snapshot_every"):
        trained.load(step=8)


def test_a_changed_snapshot_is_refused(watched: Run, tmp_path: Path) -> None:
    shutil.copytree(watched.path, tmp_path / watched.id)
    damaged = load_run(tmp_path / watched.id)
    file = damaged.path / "snapshots" / "000000008.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(RunError, match="changed or damaged"):
        damaged.load(step=8)
    file.unlink()
    with pytest.raises(RunError, match="found none"):
        damaged.load(step=8)
    assert damaged.load(step=16) is not None


def test_without_its_manifest_a_run_does_not_count(run: Run) -> None:
    (run.path / "manifest.json").unlink()
    with pytest.raises(RunError, match="training has not ended"):
        load_run(run.path)


def test_a_pickle_is_refused(run: Run, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save({"x": torch.ones(1)}, weights)
    with pytest.raises(RunError, match="a pickle or an archive"):
        load_run(weights)
    (run.path / "model.safetensors").write_bytes(weights.read_bytes())
    manifest = files.read_json(run.path / "manifest.json")
    manifest["files"]["model.safetensors"] = files.sha256(run.path / "model.safetensors")
    files.write_json(run.path / "manifest.json", manifest)
    with pytest.raises(RunError, match="a pickle or an archive"):
        load_run(run.path)


def test_a_manifest_names_nothing_outside_its_folder(run: Run) -> None:
    manifest = files.read_json(run.path / "manifest.json")
    files.write_json(run.path.parent / "outside.json", {})
    manifest["files"]["../outside.json"] = files.sha256(run.path.parent / "outside.json")
    files.write_json(run.path / "manifest.json", manifest)
    with pytest.raises(RunError, match="outside"):
        load_run(run.path)


def test_a_killed_training_goes_on_and_ends_with_the_same_bits(trained: Run, cohort: Cohort, tmp_path: Path) -> None:
    from rnasynth.runs.making import train as original

    def stopped(*arguments: Any, **options: Any) -> Any:
        def stop(step: int, system: object) -> None:
            if step == 13:
                raise KeyboardInterrupt

        return original(*arguments, **options, on_step=stop)

    config = changed(SMALL, checkpoint_every=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnasynth.runs.making.train", stopped)
        with pytest.raises(KeyboardInterrupt):
            get_or_train("beta-vae", config, cohort, folder=tmp_path, progress=False)
    assert (tmp_path / trained.id / "checkpoints/step-000000010").is_dir()
    resumed = get_or_train("beta-vae", config, cohort, folder=tmp_path, progress=False)
    assert resumed.manifest["files"]["model.safetensors"] == trained.manifest["files"]["model.safetensors"]
    assert not (resumed.path / "checkpoints").exists()


def test_two_processes_at_one_run_take_turns(trained: Run, cohort: Cohort, tmp_path: Path) -> None:
    folder = tmp_path / trained.id
    folder.mkdir()
    with open(folder / ".lock", "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write("4711 on elsewhere")
        handle.flush()
        with pytest.raises(RunError, match="process 4711 on elsewhere training it"):
            get_or_train("beta-vae", SMALL, cohort, folder=tmp_path, progress=False, wait=False)
    assert get_or_train("beta-vae", SMALL, cohort, folder=tmp_path, progress=False, wait=False).id == trained.id


def test_a_config_of_another_system_is_an_error(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="config of beta-vae"):
        get_or_train("beta-vae", TrainConfig(steps=1), cohort, folder=tmp_path)
    with pytest.raises(InputError, match="beta-vae"):
        get_or_train("beta-vea", SMALL, cohort, folder=tmp_path)


def test_ema_weights_are_taken_where_there_are_any(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = BetaVAESystem.__init__

    def averaged(self: BetaVAESystem, *arguments: Any) -> None:
        original(self, *arguments)
        self.ema = {"vae": 0.9}

    monkeypatch.setattr(BetaVAESystem, "__init__", averaged)
    run = get_or_train("beta-vae", SMALL, cohort, folder=tmp_path, progress=False)
    last, mean = run.networks(ema=False)["vae"], run.networks()["vae"]
    assert last.keys() == mean.keys() and not torch.equal(last["to_latent.weight"], mean["to_latent.weight"])
    stored = load_tensors(run.path / "ema.safetensors")
    assert torch.equal(mean["to_latent.weight"], stored["vae/to_latent.weight"])


WORKER = """
import sys
from pathlib import Path
from rnasynth.runs import get_or_train
from tests.systems.test_beta_vae import SMALL, cohort_of
folder = Path(sys.argv[1])
run = get_or_train("beta-vae", SMALL, cohort_of(folder, patients=40, genes=100), folder=folder / "runs", progress=False)
(folder / f"done-{run.id}-{__import__('os').environ['RANK']}").touch()
"""


@pytest.mark.slow
def test_torchrun_makes_one_run_that_a_page_finds(trained: Run, cohort: Cohort, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run([*command, str(tmp_path)], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(tmp_path.glob(f"done-{trained.id}-*"))) == 2
    found = get_or_train("beta-vae", SMALL, cohort, folder=tmp_path / "runs", progress=False)
    assert json.loads((found.path / "versions.json").read_text(encoding="utf-8"))["processes"] == 2
