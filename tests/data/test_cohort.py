"""Cohorts: built once and whole, split by group, known by a fingerprint; tiles and profiles join."""

from __future__ import annotations

import gzip
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from anndata import AnnData
from PIL import Image

from rnasynth import files
from rnasynth.data import cohort_building as building
from rnasynth.data.cohort import ArrayDataset, Cohort, TileDataset, comparability, load_cohort
from rnasynth.data.cohorts import her2st
from rnasynth.data.cohorts.parts import Built, Sources, plain_obs
from rnasynth.data.cohorts.regions import corners, halved
from rnasynth.data.manifests import list_manifests
from rnasynth.data.splits import make_splits
from rnasynth.data.tiles import TileWriter, finish_store
from rnasynth.errors import InputError, SlideError, SplitError
from tests.data.small_gtex import write_gtex

PX = 64


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RNASYNTH_MIRROR", raising=False)


def small(folder: Path, patients: int = 10, tiles: int = 3) -> Cohort:
    """A cohort of `patients` with `tiles` each; tile t of patient p is uniformly 10 p + t, so that joins can be read off."""
    ids = [f"p{i:02d}" for i in range(patients)]
    obs = pd.DataFrame({"sample_id": ids, "patient_id": ids, "split_group": ids, "cohort": "own", "tissue": "t"}, index=ids)
    obs["split"] = obs["split_group"].map(make_splits(obs, seed=0)).to_numpy(dtype=object)
    x = np.random.default_rng(0).gamma(1, 50, (patients, 30)).astype(np.float32)
    adata = AnnData(X=x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(30)]), uns={"unit": "tpm"})
    for number, patient in enumerate(ids):
        with TileWriter(folder / "tiles", f"slide-{patient}", patient_id=patient, quality="lossless") as writer:
            for tile in range(tiles):
                value = np.full((PX, PX, 3), 10 * number + tile, np.uint8)
                writer.add(value, {"x_px": tile, "y_px": 0, "mpp_um": 0.5, "sample_id": patient})
            writer.finish()
    store = finish_store(folder / "tiles")
    stored = obs["split"].to_dict()
    return Cohort("own", adata, store, False, "", (), {}, folder, stored=stored)


# ---------------------------------------------------------------- datasets


def test_tiles_come_with_their_own_sample(tmp_path: Path) -> None:
    cohort = small(tmp_path)
    seen = 0
    for split in ("train", "val", "test"):
        data = TileDataset(cohort, split, 32)
        batch = data.fetch(np.arange(len(data))[::-1].copy())
        assert batch["tile"].shape == (len(data), 3, 32, 32) and batch["tile"].dtype == torch.float32
        assert set(cohort.profiles.obs["split"].iloc[batch["sample"].numpy()]) == {split}
        value = ((batch["tile"].mean((1, 2, 3)) + 1) * 127.5).round().long()
        assert torch.equal(value // 10, batch["sample"])
        seen += len(data)
    assert seen == len(cohort.tiles or [])


def test_tiles_of_strangers_are_left_out(tmp_path: Path) -> None:
    cohort = small(tmp_path)
    fewer = replace(cohort, profiles=cohort.profiles[1:].copy())
    gone = {cohort.profiles.obs_names[0]}
    for split in ("train", "val", "test"):
        data = TileDataset(fewer, split)
        names = fewer.profiles.obs["sample_id"].iloc[data.samples]
        assert not gone & set(names) and data.px == PX


def test_training_on_overlapping_splits_is_refused(tmp_path: Path) -> None:
    cohort = small(tmp_path)
    obs = cohort.profiles.obs
    victim = obs.index[(obs["split"] == "test").to_numpy()][0]
    leaked = cohort.profiles.copy()
    leaked.obs.loc[victim, "split"] = "train"
    with pytest.raises(SplitError, match=str(victim)):
        TileDataset(replace(cohort, profiles=leaked), "train")
    doubled = cohort.profiles.copy()
    doubled.obs.loc[victim, "patient_id"] = str(obs.index[(obs["split"] == "train").to_numpy()][0])
    with pytest.raises(SplitError, match="patient"):
        replace(cohort, profiles=doubled).check_splits()


def test_dataset_says_what_is_missing(tmp_path: Path) -> None:
    cohort = small(tmp_path)
    with pytest.raises(InputError, match="tiles"):
        TileDataset(replace(cohort, tiles=None), "train")
    with pytest.raises(SplitError, match="holdout"):
        TileDataset(cohort, "holdout")
    with pytest.raises(InputError, match="length"):
        ArrayDataset(a=torch.zeros(3), b=torch.zeros(4))


def test_array_rows_stay_together() -> None:
    data = ArrayDataset(x=np.arange(10, dtype=np.float32), y=torch.arange(10) * 2)
    batch = data.fetch(torch.tensor([3, 9]))
    assert len(data) == 10 and batch["x"].tolist() == [3, 9] and batch["y"].tolist() == [6, 18]


# ---------------------------------------------------------------- fingerprint, views


def test_tiles_are_asked_of_the_cohort(tmp_path: Path) -> None:
    cohort = small(tmp_path)
    store = cohort.tile_store()
    assert cohort.tile_um() == pytest.approx(float(store.index["mpp_um"].iloc[0]) * store.tile_px)
    assert cohort.tile_mpp() == pytest.approx(float(store.index["mpp_um"].iloc[0]))
    assert cohort.tile_mpp(store.tile_px // 2) == pytest.approx(2 * cohort.tile_mpp())
    ids = cohort.tile_ids()
    assert sorted(np.concatenate(list(ids.values())).tolist()) == list(range(len(store)))
    for name, mine in ids.items():
        assert set(store.index["sample_id"].astype(str).iloc[mine]) == {name}
    alone = replace(cohort, tiles=None)
    for asked in (alone.tile_store, alone.tile_um, alone.tile_mpp, alone.tile_ids):
        with pytest.raises(InputError, match="profiles only"):
            asked()


def test_fingerprint_changes_with_sample_split_value_gene_unit_and_store(tmp_path: Path) -> None:
    cohort = small(tmp_path / "a")
    first = cohort.fingerprint()
    assert small(tmp_path / "b").fingerprint() == first  # not with the place
    changes: list[AnnData] = [cohort.profiles.copy() for _ in range(5)]
    changes[0].obs.loc["p00", "sample_id"] = "other"
    changes[1].obs.loc["p00", "split"] = "val" if changes[1].obs.loc["p00", "split"] != "val" else "test"
    changes[2].X[0, 0] += 1
    changes[3].var_names = [f"h{i}" for i in range(30)]
    changes[4].uns["unit"] = "rsem"
    others = {replace(cohort, profiles=changed).fingerprint() for changed in changes}
    others |= {small(tmp_path / "c", tiles=4).fingerprint(), replace(cohort, tiles=None).fingerprint()}
    assert len(others) == 7 and first not in others


def test_only_gives_one_split_and_names_unknown_ones(tmp_path: Path) -> None:
    cohort = small(tmp_path)
    assert set(cohort.only("val").profiles.obs["split"]) == {"val"}
    assert cohort.split_of("p03") == cohort.profiles.obs.loc["p03", "split"]
    with pytest.raises(SplitError):
        cohort.only("holdout")
    with pytest.raises(InputError, match="p99"):
        cohort.split_of("p99")
    with pytest.raises(InputError, match="slide"):
        cohort.example_section()


def test_plain_obs_writes_and_reads_back() -> None:
    obs = pd.DataFrame(
        {
            "a": ["x", None, np.nan],
            "b": [1, 2, 3],
            "c": [True, False, True],
            "d": pd.Categorical(["u", "v", "u"]),
            "e": [1, "1", 2.5],
        }
    )
    plain = plain_obs(obs)
    assert plain["a"].tolist() == ["x", "", ""] and plain["e"].tolist() == ["1", "1", "2.5"]
    assert [plain[c].dtype.kind for c in "bcd"] == ["i", "b", "O"]


def test_every_cohort_is_in_the_table_of_comparability() -> None:
    known = {"simulated", *building.BUILDERS}
    assert set(comparability().index) == known
    assert set(building.BUILDERS) <= set(list_manifests())


# ---------------------------------------------------------------- building


def test_cohort_is_built_once_and_whole(tmp_path: Path) -> None:
    home = tmp_path / "x-1"
    calls: list[int] = []

    def build(building: Path) -> None:
        calls.append(1)
        assert building != home and not home.exists()
        if len(calls) == 1:
            (building / "half").write_text("x", encoding="utf-8")
            raise KeyboardInterrupt
        assert (building / "half").exists()  # what a killed build had done is there to go on from
        files.write_json(building / "cohort.json", {})

    with pytest.raises(KeyboardInterrupt):
        building.build_once(home, build)
    assert not home.exists()
    building.build_once(home, build)
    building.build_once(home, build)
    assert len(calls) == 2 and (home / "cohort.json").exists()


def test_unknown_cohort_option_or_a_manifest_without_profiles_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"simulated, her2st.*found unknown"):
        load_cohort("nowhere", folder=tmp_path)
    with pytest.raises(InputError, match="found neither"):
        load_cohort(tmp_path / "nowhere.yaml", folder=tmp_path)
    with pytest.raises(InputError, match="rnasynth fetch tcga --gdc-manifest"):
        load_cohort("tcga", folder=tmp_path)
    with pytest.raises(InputError, match="slides"):
        load_cohort("slides", folder=tmp_path)
    with pytest.raises(InputError, match="cancer"):
        load_cohort("tcga-xena", folder=tmp_path, cancer="BLCA")


def own_cohort(tmp_path: Path, **block: Any) -> Path:
    """A user's own cohort: csv of samples, tsv of profiles, one PNG a patient with dark tissue in it."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "mine"
    (folder / "slides").mkdir(parents=True)
    rows = []
    for number in range(6):
        image = np.full((700, 700, 3), 240, np.uint8)
        image[60:640, 60:640] = np.clip(np.array([190, 110, 170]) + rng.normal(0, 25, (580, 580, 1)), 0, 255)
        Image.fromarray(image).save(folder / "slides" / f"section{number}.png", compress_level=0)
        rows.append((f"s{number}", f"p{number}", "lung" if number % 2 else "brain", f"section{number}.png", 40 + number))
    table = pd.DataFrame(rows, columns=["sample_id", "patient_id", "tissue", "slide", "age"])
    table.to_csv(folder / "samples.csv", index=False)
    genes = ["TP53", "EGFR", "GAPDH", "ACTB", *[f"GENE{i}" for i in range(60)]]
    values = pd.DataFrame(rng.gamma(0.5, 200, (64, 6)).round(3), index=genes, columns=table["sample_id"])
    values.rename_axis("gene").to_csv(folder / "tpm.tsv", sep="\t")
    manifest: dict[str, Any] = {"name": "mine", "title": "t", "description": "d", "simulated": False, "licence": "l"}
    tables = {"samples": "samples.csv", "expression": "tpm.tsv", "unit": "tpm", "slides": "slides", "slide_mpp": 0.5}
    manifest |= {"citation": "c", "files": [], "cohort": tables | block}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return path


def test_own_cohort_of_one_manifest_joins_slides_and_profiles(tmp_path: Path) -> None:
    path = own_cohort(tmp_path, banner="pilot data")
    cohort = load_cohort(path, folder=tmp_path / "data")
    assert cohort.name == "mine" and cohort.banner == "pilot data" and cohort.profiles.shape == (6, 64)
    assert cohort.tiles is not None and set(cohort.tiles.index["sample_id"]) == set(cohort.profiles.obs["sample_id"])
    assert len(TileDataset(cohort, "train", 32)) > 0 and cohort.example_section()[1] == 0.5
    again = load_cohort(path, folder=tmp_path / "data")
    assert again.folder == cohort.folder and again.fingerprint() == cohort.fingerprint()
    values = pd.read_csv(path.with_name("tpm.tsv"), sep="\t")
    values.iloc[0, 1] += 1
    values.to_csv(path.with_name("tpm.tsv"), sep="\t", index=False)
    assert load_cohort(path, folder=tmp_path / "data").folder != cohort.folder


def test_splits_are_stored_a_seed_and_tampering_is_found(tmp_path: Path) -> None:
    path = own_cohort(tmp_path)
    first, other = (load_cohort(path, folder=tmp_path / "data", seed=seed) for seed in (0, 1))
    assert first.folder == other.folder and {p.name for p in first.folder.glob("splits*")} == {
        "splits-seed0.csv",
        "splits-seed1.csv",
    }
    file = first.folder / "splits-seed0.csv"
    file.write_text(file.read_text(encoding="utf-8") + "p0,test\n", encoding="utf-8")
    with pytest.raises(SplitError, match="splits-seed0"):
        load_cohort(path, folder=tmp_path / "data")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.drop(columns="tissue"), "tissue"),
        (lambda t: t.assign(sample_id="s0"), "s0"),
        (lambda t: t.assign(slide="../../secret.png"), "secret"),
        (lambda t: t.assign(slide="none.png"), "none.png"),
        (lambda t: t.assign(patient_id=[None, *t["patient_id"][1:]]), "patient_id"),
        (lambda t: t.assign(sample_id=["zz", *t["sample_id"][1:]]), "zz"),
    ],
)
def test_own_cohort_names_what_is_wrong_with_its_table(tmp_path: Path, change: Any, word: str) -> None:
    path = own_cohort(tmp_path)
    table = path.with_name("samples.csv")
    change(pd.read_csv(table, dtype=str)).to_csv(table, index=False)
    with pytest.raises(InputError, match=word):
        load_cohort(path, folder=tmp_path / "data")


def test_simulated_cohort_is_labelled_split_and_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def section(folder: Path, config: Any) -> Path:  # rendering a whole section takes seconds, and has its own test
        files.write_bytes(folder / "section.jpg", b"x")
        return folder / "section.jpg"

    monkeypatch.setattr(building, "write_section", section)
    options = {"patients": 15, "tiles_per_patient": 2, "tile_px": 64, "genes": 120}
    cohort = load_cohort("simulated", folder=tmp_path, **options)
    assert cohort.simulated and "SIMULATED" in cohort.banner and cohort.truth["fractions"].shape[0] == 15
    assert len(TileDataset(cohort, "train", 32)) == 2 * (cohort.profiles.obs["split"] == "train").sum() == 18
    path, mpp_um = cohort.example_section()
    assert path.is_file() and mpp_um == 0.5
    assert load_cohort("simulated", folder=tmp_path, **options).fingerprint() == cohort.fingerprint()
    assert load_cohort("simulated", folder=tmp_path, seed=1, **options).fingerprint() != cohort.fingerprint()
    with pytest.raises(InputError, match="colour"):
        load_cohort("simulated", folder=tmp_path, colour="blue")


# ---------------------------------------------------------------- her2st's grid


def spots(mpp_um: float = 0.7, angle: float = 0.02, noise_px: float = 0.0) -> pd.DataFrame:
    x, y = (axis.ravel().astype(float) for axis in np.meshgrid(np.arange(5, 20), np.arange(8, 22)))
    pitch = her2st.PITCH_UM / mpp_um
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pixels = np.c_[x, y] @ (pitch * turn) + [300, 500]
    pixels += np.random.default_rng(0).normal(0, noise_px, pixels.shape)
    return pd.DataFrame({"new_x": x, "new_y": y, "pixel_x": pixels[:, 0], "pixel_y": pixels[:, 1]})


@pytest.mark.parametrize("mpp_um", [0.4, 0.69, 1.1])
def test_resolution_is_derived_from_the_pitch_of_the_spots(mpp_um: float) -> None:
    assert her2st.grid_mpp_um(spots(mpp_um), "X1") == pytest.approx(mpp_um, rel=1e-9)
    assert her2st.grid_mpp_um(spots(mpp_um, noise_px=0.5), "X1") == pytest.approx(mpp_um, rel=1e-3)


def test_spots_that_lie_off_their_grid_are_an_error() -> None:
    table = spots()
    table.loc[3, "pixel_x"] += 50
    with pytest.raises(SlideError, match="X1"):
        her2st.grid_mpp_um(table, "X1")
    line = spots()[lambda t: t["new_y"] == 8]
    with pytest.raises(SlideError, match="line"):
        her2st.grid_mpp_um(line, "X1")


def test_her2st_splits_by_patient_as_soon_as_three_have_images() -> None:
    def obs(sections: list[str]) -> pd.DataFrame:
        return pd.DataFrame({"patient_id": [s[0] for s in sections], "split_group": sections}, index=sections)

    table = obs(["A1", "A2", "B1", "C2"])
    assert her2st._splits(table, ["A1", "A2", "B1", "C2"])[:2] == (None, "patient")
    assert table["split_group"].tolist() == ["patient A", "patient A", "patient B", "patient C"]
    splits, by, banner = her2st._splits(obs(["C2", "C3", "C5"]), ["C2", "C3", "C5"])
    assert splits == {"C2": "train", "C3": "val", "C5": "test"} and by == "section" and "three sections" in banner
    others = obs(["A1", "C1", "D1", "E1", "F1"])
    others["split_group"] = "patient " + others["patient_id"]
    table = pd.concat([obs(["C2", "C3", "C4", "C5"]), others])
    splits = her2st._splits(table, ["C2", "C3", "C4", "C5"])[0]
    assert splits is not None and splits["patient C"] == "train", "its other sections are the same tumour"
    assert sorted(splits[f"patient {p}"] for p in "ADEF") == ["test", "train", "train", "val"]
    with pytest.raises(InputError, match="three"):
        her2st._splits(obs(["C2", "C3"]), ["C2", "C3"])


def test_gene_that_a_section_lacks_has_no_counts_there() -> None:
    def part(names: list[str], genes: list[str]) -> AnnData:
        return AnnData(
            np.ones((len(names), len(genes)), np.float32), obs=pd.DataFrame(index=names), var=pd.DataFrame(index=genes)
        )

    both = her2st.stack([part(["a"], ["G1", "G2"]), part(["b"], ["G2", "G3"])])
    assert both.var_names.tolist() == ["G1", "G2", "G3"] and both.X.tolist() == [[1, 1, 0], [0, 1, 1]]


def test_regions_are_halved_by_area_and_covered_evenly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (11, 8, 3), dtype=np.uint8)
    mean = pixels[:10].astype(float).reshape(5, 2, 4, 2, 3).mean((1, 3))
    assert np.abs(halved(pixels) - mean).max() <= 0.5
    for side in range(256, 2000, 37):
        places = corners(side)
        assert places[0] == 0 and (places[-1] == side - 256 or len(places) == 1)
        assert all(b - a >= 225 for a, b in itertools.pairwise(places))


# ---------------------------------------------------------------- forms that the network brings


def zipped(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))


def test_gtex_takes_the_wanted_tissues_and_keeps_donors_whole(tmp_path: Path) -> None:
    write_gtex(tmp_path, ("Lung", "Liver", "Skin"))
    built = building.bulk.build_gtex(Sources(folder=tmp_path), tmp_path, tissues=["Lung", "Liver"])
    obs = built.profiles.obs
    assert set(obs["tissue"]) == {"Lung", "Liver"} and built.profiles.n_obs == 16 and set(obs["sex"]) == {"female"}
    assert obs["split_group"].nunique() == 8
    with pytest.raises(InputError, match="Brain"):
        building.bulk.build_gtex(Sources(folder=tmp_path), tmp_path)


def test_gtex_keeps_protein_coding_genes_or_says_that_it_cannot_tell_them(tmp_path: Path) -> None:
    write_gtex(tmp_path, building.bulk.GTEX_TISSUES)
    built = building.bulk.build_gtex(Sources(folder=tmp_path), tmp_path)
    assert list(built.profiles.var_names) == [f"ENSG{i:011d}" for i in range(40)] and built.profiles.n_obs == 40
    (tmp_path / "genes.gtf.gz").unlink()
    whole = building.bulk.build_gtex(Sources(folder=tmp_path), tmp_path)
    assert whole.profiles.n_vars == 80 and any("genes.gtf.gz" in note for note in whole.notes)


def test_gtex_from_fetch_to_cohort_through_its_own_manifest(tmp_path: Path) -> None:
    write_gtex(tmp_path / "mirror", building.bulk.GTEX_TISSUES, donors=10)
    cohort = load_cohort("gtex", mirror=tmp_path / "mirror", folder=tmp_path / "data")
    assert cohort.profiles.shape == (50, 40) and set(cohort.profiles.obs["tissue"]) == set(building.bulk.GTEX_TISSUES)
    again = load_cohort("gtex", folder=tmp_path / "data")  # no mirror: what was fetched is verified and used
    assert again.fingerprint() == cohort.fingerprint()


def test_geo_turns_entrez_ids_into_ensembl_ids_and_reads_tissues(tmp_path: Path) -> None:
    x = np.random.default_rng(0).gamma(0.5, 300, (70, 3)).round(3)
    lines = ["GeneID\tGSM1\tGSM2\tGSM3"] + ["\t".join([str(1000 + i), *map(str, x[i])]) for i in range(70)]
    zipped(tmp_path / "GSE50760_tpm.tsv.gz", "\n".join(lines) + "\n")
    notes = ["GeneID\tSymbol\tEnsemblGeneID"] + [f"{1000 + i}\tS{i}\t" + (f"ENSG{i:011d}" if i else "") for i in range(69)]
    zipped(tmp_path / "genes.tsv.gz", "\n".join(notes) + "\n")
    matrix = '!Sample_geo_accession\t"GSM1"\t"GSM2"\t"GSM3"\n'
    matrix += '!Sample_characteristics_ch1\t"tissue: Colon"\t"tissue: Colon"\t"tissue: "\n'
    zipped(tmp_path / "GSE50760_series_matrix.txt.gz", matrix + "!series_matrix_table_begin\n")
    built = building.bulk.build_geo(Sources(folder=tmp_path, missing={"GSE120795_tpm.tsv.gz": "not there"}), tmp_path)
    adata = built.profiles
    assert adata.shape == (3, 69) and adata.var_names[0] == "S0" and adata.var_names[1] == "ENSG00000000001"
    assert adata.obs["tissue"].tolist() == ["colon", "colon", "unknown"] and "GSE120795" in built.notes[0]


def test_tcga_keeps_one_profile_a_patient_and_takes_the_project_from_the_sheet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"TCGA-AA-{i:04d}", kind) for i in range(4) for kind in (("01A", "11A") if i == 0 else ("01A",))]
    sheet = ["File ID\tFile Name\tProject ID\tCase ID\tSample ID"]
    for number, (case, kind) in enumerate(rows):
        file = f"f{number}.rna_seq.augmented_star_gene_counts.tsv"
        head = "gene_id\tgene_name\tgene_type\tunstranded\tstranded_first\tstranded_second\ttpm_unstranded"
        lines = ["# gene-model: GENCODE v36", head + "\tfpkm_unstranded\tfpkm_uq_unstranded"]
        lines += ["N_unmapped\t\t\t1\t1\t1\t\t\t"]
        lines += [f"ENSG{i:011d}.1\tS{i}\tprotein_coding\t5\t2\t3\t{rng.gamma(0.5, 300):.4f}\t1\t1" for i in range(80)]
        (tmp_path / "gdc" / f"id{number}").mkdir(parents=True)
        (tmp_path / "gdc" / f"id{number}" / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
        sheet.append(f"id{number}\t{file}\tTCGA-COAD\t{case}\t{case}-{kind}")
    (tmp_path / "gdc_sample_sheet.tsv").write_text("\n".join(sheet) + "\n", encoding="utf-8")
    built = building.slides.build_tcga(Sources(folder=tmp_path), tmp_path)
    obs = built.profiles.obs
    assert obs["sample_id"].tolist() == [f"TCGA-AA-{i:04d}" for i in range(4)] and set(obs["tissue"]) == {"TCGA-COAD"}
    assert obs["barcode"].str.endswith("-01A").all() and "1 further" in built.notes[0]


# ---------------------------------------------------------------- real files


@pytest.mark.real
@pytest.mark.slow
def test_her2st_of_the_mirror(mirror: Path, tmp_path: Path) -> None:
    """Four sections of one tumour: split by section, banner, um/px from the grid, tiles that see what the RNA says."""
    from scipy.stats import spearmanr

    cohort = load_cohort("her2st", mirror=mirror, folder=tmp_path)
    obs = cohort.profiles.obs
    assert obs.groupby("split")["section"].unique().map(sorted).to_dict() == {
        "train": ["C2", "C3"],
        "val": ["C4"],
        "test": ["C5"],
    }
    assert cohort.split_by == "section" and cohort.banner.startswith("One tumour: four sections of patient C")
    assert any("images are missing" in note for note in cohort.notes) and any("B1" in note for note in cohort.notes)
    assert cohort.tiles is not None and len(cohort.tiles) == cohort.profiles.n_obs == 727 and cohort.tiles.tile_px == 256
    assert "C2_10x21" in obs.index and set(obs["tissue"]) == {"epithelial", "stroma", "immune"}
    assert cohort.example_section()[1] == pytest.approx(0.688, abs=0.002)
    assert np.allclose(obs[[c for c in obs if c.startswith("fraction_")]].sum(axis=1), 1, atol=1e-4)
    erbb2 = cohort.profiles[:, "ERBB2"].X[:, 0] / obs["n_counts"].to_numpy()
    density = cohort.tiles.index.set_index("sample_id").loc[obs["sample_id"], "mean_od"].to_numpy()
    shuffled = np.random.default_rng(0).permutation(density)
    for section in ("C2", "C3", "C4", "C5"):
        mine = (obs["section"] == section).to_numpy()
        assert spearmanr(erbb2[mine], density[mine])[0] > 0.25
        assert abs(spearmanr(erbb2[mine], shuffled[mine])[0]) < 0.25
    without_network = load_cohort("her2st", folder=tmp_path)
    assert without_network.fingerprint() == cohort.fingerprint() and without_network.folder == cohort.folder


@pytest.mark.real
def test_xena_keeps_patients_and_turns_censorship_round(mirror: Path, tmp_path: Path) -> None:
    cohort = load_cohort("tcga-xena", mirror=mirror, folder=tmp_path)
    obs = cohort.profiles.obs
    assert obs["tissue"].value_counts().to_dict() == {"BLCA": 360, "STAD": 336, "COADREAD": 317}
    assert obs["patient_id"].is_unique and (obs["survival_months"].dropna() >= 0).all()
    table = pd.read_csv(mirror / "expression/xena/blca_metadata.csv.gz", index_col=0).drop_duplicates("case_id")
    known = table.set_index("case_id")["censorship"].reindex(obs.index[obs["tissue"] == "BLCA"]).dropna()
    assert (obs.loc[known.index, "event"] == 1 - known).all()
    part = load_cohort("tcga-xena", mirror=mirror, folder=tmp_path, cancers=["stad"])
    assert set(part.profiles.obs["tissue"]) == {"STAD"} and part.fingerprint() != cohort.fingerprint()


@pytest.mark.real
def test_profiles_scaled_within_a_cancer_say_so(mirror: Path, tmp_path: Path) -> None:
    cohort = load_cohort("porpoise", mirror=mirror, folder=tmp_path, cancers=["lusc"])
    assert "telling cancers apart" in cohort.banner and cohort.profiles.uns["unit"] == "zscore"
    assert set(cohort.profiles.obs["event"]) == {0, 1} and "22" in set(cohort.profiles.obs["site"])


@pytest.mark.real
def test_stored_facts_are_json_and_name_no_place_of_this_machine(mirror: Path, tmp_path: Path) -> None:
    cohort = load_cohort("tcga-xena", mirror=mirror, folder=tmp_path)
    facts = json.loads((cohort.folder / "cohort.json").read_text(encoding="utf-8"))
    assert facts["name"] == "tcga-xena" and str(tmp_path) not in json.dumps(facts)


def test_built_defaults_are_by_patient() -> None:
    built = Built(profiles=AnnData(np.zeros((1, 1), np.float32)))
    assert built.split_by == "patient" and built.splits is None


# ---------------------------------------------------------------- parts of a cohort


def test_each_patient_is_tested_in_exactly_one_fold_and_tissues_are_spread(tmp_path: Path) -> None:
    cohort = load_cohort("simulated", folder=tmp_path, patients=30, tiles_per_patient=1, tile_px=64)
    parts = cohort.folds(5, seed=1)
    tested = [set(part.only("test").profiles.obs["patient_id"]) for part in parts]
    assert len(set.union(*tested)) == sum(map(len, tested)) == 30
    for part in parts:
        part.check_splits()
        assert part.only("test").profiles.obs["tissue"].nunique() == 5
        train, val, test = (set(part.only(split).profiles.obs["patient_id"]) for split in ("train", "val", "test"))
        assert not train & test and not val & test and len(train) == 18
    assert len({part.fingerprint() for part in parts}) == 5  # so that a run of one fold is never taken for another's
    assert [p.fingerprint() for p in cohort.folds(5, seed=1)] == [p.fingerprint() for p in parts]


def test_folds_keep_all_samples_of_a_group_together(tmp_path: Path) -> None:
    cohort = small(tmp_path, patients=12)
    obs = cohort.profiles.obs
    obs["patient_id"] = obs["split_group"] = [f"donor{i // 2}" for i in range(12)]
    for part in replace(cohort, stored=None).folds(3):
        assert (part.profiles.obs.groupby("split_group")["split"].nunique() == 1).all()


def test_too_many_or_too_few_folds_say_so(tmp_path: Path) -> None:
    cohort = small(tmp_path)
    with pytest.raises(InputError, match="3 or more"):
        cohort.folds(2)
    with pytest.raises(SplitError, match="at least as many as folds, 11"):
        cohort.folds(11)


def test_tissues_are_chosen_without_a_new_split(tmp_path: Path) -> None:
    cohort = load_cohort("simulated", folder=tmp_path, patients=30, tiles_per_patient=1, tile_px=64)
    two = cohort.of_tissues("lung-like", "cortex-like")
    two.check_splits()
    assert set(two.profiles.obs["tissue"]) == {"lung-like", "cortex-like"} and two.profiles.n_obs == 12
    assert (two.profiles.obs["split"] == cohort.profiles.obs["split"][two.profiles.obs_names]).all()
    with pytest.raises(InputError, match="unknown: spleen"):
        cohort.of_tissues("spleen")
