"""One small world of good and bad inputs, and one call of the command line in it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml

from rnasynth import cli
from rnasynth.data.manifests import list_manifests
from rnasynth.engine import TrainConfig
from rnasynth.errors import RnasynthError
from rnasynth.evaluation.ratings.form import TileGroup, make_form
from rnasynth.files import read_json, write_json
from rnasynth.runs import get_or_train
from rnasynth.systems.beta_vae import BetaVAEConfig
from rnasynth.systems.gemm_config import gan_demo
from tests.data.sections import draw_section
from tests.faults.bad_files import HTML, own_manifest, pickled, small_png, write_bad_files
from tests.systems.gan_cohort import small_cohort, small_config

TRAIN = TrainConfig(steps=4, batch_size=8, checkpoint_every=0, device="cpu")
GEMM = {
    "n_genes": 50, "train": TRAIN, "width": 16, "feed_forward": 16, "word_dim": 4, "text_buckets": 64, "per_sample": 3,
    "hidden": (16,), "noise_dim": 4, "critic_steps": 1, "drop_tiles": 0.3, "drop_text": 0.3,
}  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a call ended."""

    code: int
    said: str
    error: RnasynthError | None


def build(folder: Path) -> None:
    """Make `good/`, `bad/` and `runs/`: everything that the calls of the table name."""
    good, bad, runs = folder / "good", folder / "bad", folder / "runs"
    good.mkdir(parents=True)
    write_bad_files(bad)
    cohort = small_cohort(folder / "cohort")
    vae = BetaVAEConfig(hidden=(16, 8), latent=4, lr=1e-3, n_genes=60, train=TRAIN)
    encoder = get_or_train("beta-vae", vae, cohort, folder=runs, progress=False)
    gan = get_or_train("rna-gan", small_config(), cohort, upstream=[encoder], folder=runs, progress=False)
    gemm = get_or_train("gemm-gan", dataclasses.replace(gan_demo(), **GEMM), cohort, folder=runs, progress=False)  # type: ignore[arg-type]
    for name, run in (("vae", encoder), ("gan", gan), ("gemm", gemm)):
        (runs / name).symlink_to(run.path.name)
    _profiles(cohort.profiles[:2].copy(), good, bad)
    shutil.copytree(cohort.tile_store().folder, good / "store")
    (bad / "store").mkdir()
    (bad / "store" / "INDEX").write_bytes(HTML)
    _runs(gan.path, bad)
    for number in (1, 2):
        draw_section(good / f"section{number}.png", seed=number)
        small_png(good / "tiles" / "s1" / f"{number}.png", seed=number)
    text = (good / "section1.png").read_bytes()
    (bad / "cut.png").write_bytes(text[: len(text) // 2])
    (good / "clinical.csv").write_text("sample_id,clinical_text\ns1,A woman of 50 with a mass.\n")
    (good / "patients.csv").write_text("slide_id,patient_id\nsection1,p1\nsection2,p2\n")
    (bad / "half_patients.csv").write_text("slide_id,patient_id\nsection2,p2\n")
    (bad / "two_patients.csv").write_text("slide_id,patient_id\nsection1,p1\nsection1,p2\n")
    (bad / "no_patient.csv").write_text("slide_id,patient_id\nsection1,\n")
    for name in ("html", "bomb", "cut"):
        (bad / f"tiles_{name}" / "s1").mkdir(parents=True)
        shutil.copy(bad / f"{name}.png", bad / f"tiles_{name}" / "s1" / "1.png")
    (bad / "tiles_none").mkdir()
    _ratings(good, bad)
    _manifests(good, bad)


def _profiles(profiles: anndata.AnnData, good: Path, bad: Path) -> None:
    profiles.write_h5ad(good / "profiles.h5ad")
    content = (good / "profiles.h5ad").read_bytes()
    (bad / "cut.h5ad").write_bytes(content[: len(content) // 2])
    other = profiles.copy()
    other.X = np.asarray(other.X).copy()
    other.X[0, 0] = np.nan
    other.write_h5ad(bad / "nan.h5ad")
    other = profiles.copy()
    other.var_names = [f"{number}-unknown" for number in range(other.n_vars)]
    other.var["symbol"] = list(other.var_names)
    other.write_h5ad(bad / "other_genes.h5ad")


def _runs(run: Path, bad: Path) -> None:
    for name, file, content in (
        ("run_unfinished", "manifest.json", None),
        ("run_html", "manifest.json", HTML),
        ("run_cut", "model.safetensors", (run / "model.safetensors").read_bytes()[:1000]),
        ("run_pickle", "model.safetensors", pickled()),
        ("run_empty", "model.safetensors", b""),
    ):
        shutil.copytree(run, bad / name)
        (bad / name / file).unlink()
        if content is not None:
            (bad / name / file).write_bytes(content)


def _ratings(good: Path, bad: Path) -> None:
    groups = {}
    for letter in "ab":
        for number in range(2):
            small_png(good / "rate" / letter / f"{number}.png", seed=10 * ord(letter) + number)
        groups[letter] = TileGroup(letter, "lung", good / "rate" / letter)
        shutil.copytree(good / "rate" / letter, bad / f"rate_{letter}")
    shutil.copy(bad / "bomb.png", bad / "rate_a" / "0.png")
    (bad / "rate_b" / "0.png").write_bytes(b"")
    form = make_form(
        list(groups.values()), good / "form", tiles_per_group=2, seed=1, key=good / "key.json", tissues=("lung", "brain")
    )
    key = read_json(form.key)
    for place, rater in enumerate(("ann", "bob")):
        rows = [
            {"study": key["study"], "rater": rater, "tile": tile, "position": number, "tissue": key["tissues"][0],
             "quality": 1 + (number + place + (facts["group"] == "a")) % 5, "artefacts": "no"}
            for number, (tile, facts) in enumerate(key["tiles"].items())
        ]  # fmt: skip
        pd.DataFrame(rows).to_csv(good / f"{rater}.csv", index=False)
    content = (good / "ann.csv").read_text()
    (bad / "cut_answers.csv").write_text(content[: len(content) // 2])
    write_json(bad / "hollow_key.json", {"format": key["format"]})


def _manifests(good: Path, bad: Path) -> None:
    (good / "mirror").mkdir()
    entries = []
    for name in ("one", "two"):
        content = name.encode() * 100
        (good / "mirror" / name).write_bytes(content)
        facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "required": True}
        entries.append({"path": name, "url": f"https://example.invalid/{name}", **facts})
    values = {"title": "t", "description": "d", "simulated": False, "licence": "l", "citation": "c", "files": entries}
    (good / "files.yaml").write_text(yaml.safe_dump({"name": "own", **values}))
    for name in ("lacks", "damaged", "huge"):
        shutil.copytree(good / "mirror", bad / f"mirror_{name}")
    (bad / "mirror_lacks" / "two").unlink()
    (bad / "mirror_damaged" / "two").write_bytes(b"x" * 300)
    with open(bad / "mirror_huge" / "two", "r+b") as handle:
        handle.truncate(200 << 30)  # a sparse file: it takes no room here
    for name, file, content in (("locks", "locks.json", '{"one": {"sh'), ("record", "fetched.json", "[1, 2]")):
        (bad / f"data_{name}").mkdir()
        (bad / f"data_{name}" / file).write_text(content)
    names = [f"s{number}" for number in range(1, 13)]
    samples = ("sample_id,patient_id,tissue\n" + "".join(f"{name},p{name},lung\n" for name in names)).encode()
    values = np.random.default_rng(0).integers(0, 900, (4, len(names))).astype(str)
    rows = [",".join([gene, *row]) for gene, row in zip(("TP53", "EGFR", "KRAS", "MYC"), values, strict=True)]
    genes = "\n".join(["gene," + ",".join(names), *rows, ""]).encode()
    for name, table, expression in (
        ("samples_empty", b"", genes),
        ("samples_html", HTML, genes),
        ("samples_wide", (bad / "wide.csv").read_bytes(), genes),
        ("samples_png", (bad / "png.csv").read_bytes(), genes),
        ("expression_empty", samples, b""),
        ("expression_html", samples, HTML),
        ("expression_cut", samples, genes[:-8]),
        ("expression_png", samples, (bad / "png.csv").read_bytes()),
    ):
        own_manifest(bad / name, table, expression)
    own_manifest(good / "own", samples, genes)


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ended:
    """Call the command line in this process, as its script does."""
    monkeypatch.setattr(sys, "argv", ["rnasynth", *arguments])
    capsys.readouterr()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    error: BaseException | None = None
    try:
        cli.main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        error = ended.__cause__
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    out, err = capsys.readouterr()
    return Ended(code, out + err, error if isinstance(error, RnasynthError) else None)


@contextmanager
def little_memory(gib: float) -> Iterator[None]:
    """Let this process take at most `gib` more than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as handle:
        now = int(handle.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + int(gib * (1 << 30)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def files_in(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder, locks left out."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in found
        if ".lock" not in path.name and path.parent.name != ".locks" and path.stat().st_size < 1 << 30
    }


def known_cohorts() -> list[str]:
    """Names that a message about an unknown cohort lists."""
    return list(list_manifests())
