"""Every published form of profiles reads to the same raw matrix; what is damaged or meant otherwise says so."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadr
import pytest
from anndata import AnnData

from rnasynth.data.expression import Transform, read_expression
from rnasynth.data.h5ad import read_h5ad
from rnasynth.data.streams import BLOCK_BYTES, FLAT_COLUMNS
from rnasynth.errors import InputError

IDS = [f"ENSG{number:011d}.{number % 9 + 1}" for number in range(60)]
BARE = [name.split(".")[0] for name in IDS]
SYMBOLS = [f"SYM{number}" for number in range(60)]
SAMPLES = [f"GTEX-{number:04d}-0126" for number in range(8)]


def values(genes: int = 60, samples: int = 8, seed: int = 0) -> np.ndarray:
    """Linear values, genes x samples, as a file with four decimals has them."""
    x = np.round(np.random.default_rng(seed).gamma(0.4, 300.0, size=(genes, samples)), 4)
    x[0, 0] = 4321.0
    return x


def write_gct(path: Path, x: np.ndarray, ids: list[str] = IDS, symbols: list[str] = SYMBOLS, end: str = "\n") -> Path:
    rows = ["#1.2", f"{len(ids)}\t{x.shape[1]}", "\t".join(["Name", "Description", *SAMPLES[: x.shape[1]]])]
    rows += [
        "\t".join([name, symbol, *map(repr, map(float, row))]) for name, symbol, row in zip(ids, symbols, x, strict=True)
    ]
    text = (end.join(rows) + end).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def write_table(path: Path, frame: pd.DataFrame, **options: object) -> Path:
    frame.to_csv(path, **options)
    return path


def expect(adata: AnnData, x: np.ndarray, genes: list[str], samples: list[str], unit: str) -> None:
    assert list(adata.var_names) == genes and list(adata.obs_names) == samples
    assert adata.X.dtype == np.float32 and adata.uns["unit"] == unit
    np.testing.assert_allclose(adata.X, x.T, rtol=1e-6)
    assert list(adata.obs["sample_id"]) == samples


@pytest.mark.parametrize("name", ["gene_tpm.gct", "gene_tpm.gct.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_gct(tmp_path: Path, name: str, end: str) -> None:
    x = values()
    path = write_gct(tmp_path / name, x, end=end)
    adata = read_expression(path)
    expect(adata, x, BARE, SAMPLES, "tpm")
    assert list(adata.var["symbol"]) == SYMBOLS and adata.obs["patient_id"].iloc[0] == "GTEX-0000"


def test_gct_gives_wanted_genes_and_samples_in_the_wanted_order(tmp_path: Path) -> None:
    x = values()
    path = write_gct(tmp_path / "tpm.gct.gz", x)
    genes, samples = [BARE[40], BARE[3], "SYM7", "ENSG99999999999"], [SAMPLES[5], SAMPLES[1]]
    adata = read_expression(path, genes=genes, samples=samples)
    expect(adata, x[[40, 3, 7]][:, [5, 1]], [BARE[40], BARE[3], BARE[7]], samples, "tpm")
    assert adata.uns["read"]["genes_missing"] == 1


@pytest.mark.parametrize("rows", [700, 3])
@pytest.mark.parametrize("columns", [40, FLAT_COLUMNS + 200])
def test_streaming_in_blocks_equals_pandas(tmp_path: Path, rows: int, columns: int) -> None:
    generator = np.random.default_rng(rows)
    x = np.round(generator.gamma(0.3, 100.0, size=(rows, columns)), 3)
    x[generator.random(x.shape) < 0.01] = 1e-5
    frame = pd.DataFrame(x, index=[f"ENSG{row:011d}.1" for row in range(rows)], columns=[f"GSM{n}" for n in range(columns)])
    path = write_table(tmp_path / "tpm.tsv", frame, sep="\t", index_label="gene_id")
    if rows > 3 and columns > FLAT_COLUMNS:
        assert path.stat().st_size > BLOCK_BYTES  # several blocks
    again = pd.read_csv(path, sep="\t", index_col=0, dtype=dict.fromkeys(frame.columns, np.float32))
    for wanted in (None, list(frame.columns[::-3])):
        adata = read_expression(path, samples=wanted, allow_small=True)
        np.testing.assert_array_equal(adata.X.T, again[wanted].to_numpy() if wanted else again.to_numpy())
    np.testing.assert_array_equal(
        read_expression(write_table(tmp_path / "tpm_t.csv", frame.T), unit="tpm", allow_small=True).X, again.to_numpy().T
    )


@pytest.mark.parametrize("sep", ["\t", ",", ";"])
@pytest.mark.parametrize("genes_in", ["rows", "columns"])
@pytest.mark.parametrize("quoting", [0, 2])
def test_plain_tables_of_either_orientation(tmp_path: Path, sep: str, genes_in: str, quoting: int) -> None:
    x = values()
    frame = pd.DataFrame(x, index=IDS, columns=SAMPLES)
    frame = frame if genes_in == "rows" else frame.T
    path = write_table(tmp_path / "study.txt", frame, sep=sep, quoting=quoting)
    expect(read_expression(path, unit="tpm"), x, BARE, SAMPLES, "tpm")
    adata = read_expression(path, unit="tpm", genes=[BARE[9], BARE[2]], samples=[SAMPLES[3]])
    expect(adata, x[[9, 2]][:, [3]], [BARE[9], BARE[2]], [SAMPLES[3]], "tpm")


def test_geo_supplementary_table_with_annotation_columns_and_no_corner(tmp_path: Path) -> None:
    x = np.round(values())
    frame = pd.DataFrame(x, index=IDS, columns=SAMPLES)
    frame.insert(0, "gene_name", SYMBOLS)
    frame.insert(1, "length", 1000)
    path = tmp_path / "GSE1_counts.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as handle:
        handle.write("# made by a pipeline\n" + "\t".join(frame.columns) + "\n")
        frame.to_csv(handle, sep="\t", header=False)
    adata = read_expression(path, genes_in="rows")
    expect(adata, x, BARE, SAMPLES, "counts")
    assert list(adata.var["symbol"]) == SYMBOLS
    assert adata.uns["read"]["annotation"] == "2 (gene_name, length)"


def test_geo_series_matrix(tmp_path: Path) -> None:
    x = values(samples=3)
    lines = [
        '!Series_title\t"A study"',
        '!Sample_title\t"one"\t"two"\t"three"',
        '!Sample_geo_accession\t"GSM1"\t"GSM2"\t"GSM3"',
        '!Sample_characteristics_ch1\t"tissue: lung"\t"tissue: colon"\t"tissue: lung"',
        '!Sample_characteristics_ch1\t"age: 61"\t"sex: female"\t"age: 48"',
        "!series_matrix_table_begin",
        '"ID_REF"\t"GSM1"\t"GSM2"\t"GSM3"',
        *[f'"{name}"\t' + "\t".join(map(str, row)) for name, row in zip(IDS, x, strict=True)],
        "!series_matrix_table_end",
    ]
    path = tmp_path / "GSE1_series_matrix.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    adata = read_expression(path, unit="tpm")
    expect(adata, x, BARE, ["GSM1", "GSM2", "GSM3"], "tpm")
    assert list(adata.obs["tissue"]) == ["lung", "colon", "lung"] and list(adata.obs["age"]) == ["61", "", "48"]
    picked = read_expression(path, unit="tpm", samples=["GSM3", "GSM2"])
    assert list(picked.obs["tissue"]) == ["lung", "colon"]
    path.write_bytes(gzip.compress("\n".join(lines[:7] + lines[-1:]).encode()))
    with pytest.raises(InputError, match="supplementary"):
        read_expression(path, unit="tpm")


def write_star(path: Path, x: np.ndarray, ids: list[str] = IDS) -> Path:
    head = "gene_id\tgene_name\tgene_type\tunstranded\tstranded_first\tstranded_second\ttpm_unstranded\tfpkm_unstranded"
    rows = ["# gene-model: GENCODE v36", head]
    rows += [
        f"{name}\t\t\t{count}\t{count}\t{count}\t\t"
        for name, count in zip(("N_unmapped", "N_noFeature"), (9, 8), strict=True)
    ]
    rows += [
        f"{name}\tSYM{number}\tprotein_coding\t{int(v)}\t1\t2\t{v}\t{v / 2}"
        for number, (name, v) in enumerate(zip(ids, x, strict=True))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_gdc_star_counts_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    x = values()
    name = "{}.rna_seq.augmented_star_gene_counts.tsv"
    for number in range(8):
        write_star(tmp_path / f"uuid{number}" / name.format(f"file{number}"), x[:, number])
    names = [f"file{number}" for number in range(8)]
    one = read_expression(tmp_path / "uuid2" / name.format("file2"))
    expect(one, x[:, [2]], BARE, ["file2"], "tpm")
    expect(read_expression(tmp_path), x, BARE, names, "tpm")
    expect(read_expression(tmp_path, unit="counts"), np.floor(x), BARE, names, "counts")
    some = read_expression(tmp_path, genes=["SYM5", BARE[1]], samples=["file7", "file0"])
    expect(some, x[[5, 1]][:, [7, 0]], [BARE[5], BARE[1]], ["file7", "file0"], "tpm")
    sheet = pd.DataFrame(
        {"File Name": [name.format(f"file{n}") for n in range(8)], "Sample ID": [f"TCGA-AA-000{n}-01A" for n in range(8)]}
    )
    sheet.to_csv(tmp_path / "gdc_sample_sheet.tsv", sep="\t", index=False)
    named = read_expression(tmp_path)
    assert list(named.obs["patient_id"][:2]) == ["TCGA-AA-0000", "TCGA-AA-0001"] and set(named.obs["sample_type"]) == {
        "tumour"
    }
    write_star(tmp_path / "uuid9" / name.format("file9"), x[:30, 0], IDS[:30])
    with pytest.raises(InputError, match=r"file9.*same genes"):
        read_expression(tmp_path)


def test_spot_counts(tmp_path: Path) -> None:
    x = np.random.default_rng(0).poisson(1.0, size=(5, 30))
    frame = pd.DataFrame(x, index=[f"{row}x{row + 3}" for row in range(5)], columns=SYMBOLS[:30])
    path = write_table(tmp_path / "C2.tsv.gz", frame, sep="\t")
    adata = read_expression(path)
    expect(adata, x.T, SYMBOLS[:30], [f"C2_{name}" for name in frame.index], "counts")
    assert list(adata.obs["array_y"]) == [3, 4, 5, 6, 7] and set(adata.obs["section"]) == {"C2"}
    for wanted in (["C2_3x6", "0x3"], ["3x6", "C2_0x3"]):
        np.testing.assert_array_equal(read_expression(path, samples=wanted).X, x[[3, 0]])


def test_r_data_with_symbol_and_entrez(tmp_path: Path) -> None:
    x = values()[:30]
    names = ["?|100130426", "SLC35E2|728661", "SLC35E2|9906", *[f"{symbol}|{n}" for n, symbol in enumerate(SYMBOLS[:27])]]
    frame = pd.DataFrame(x.T, columns=names)
    frame.insert(0, "bcr_patient_barcode", [f"TCGA-OR-A5J{n}-{'01' if n else '11'}A-11R" for n in range(8)])
    path = tmp_path / "ACC.rnaseq.rda"
    pyreadr.write_rdata(str(path), frame, df_name="ACC.rnaseq")
    adata = read_expression(path)
    assert list(adata.var_names[:4]) == [*names[:3], "SYM0"] and list(adata.var["symbol"][:3]) == ["", "SLC35E2", "SLC35E2"]
    np.testing.assert_allclose(adata.X, x.T, rtol=1e-6)
    assert adata.uns["unit"] == "rsem" and adata.obs["sample_type"].value_counts().to_dict() == {"tumour": 7, "normal": 1}
    with pytest.raises(InputError, match=r"SLC35E2.*sum"):
        read_expression(path, genes=["SYM3", "SLC35E2"])
    both = read_expression(path, genes=["SYM3", "SLC35E2"], duplicates="sum")
    np.testing.assert_allclose(both.X[:, 1], x[1] + x[2], rtol=1e-6)
    path.write_bytes(b"no R data")
    with pytest.raises(InputError, match="R data"):
        read_expression(path)


def test_h5ad_and_its_wanted_part(tmp_path: Path) -> None:
    x = values()
    adata = read_expression(write_gct(tmp_path / "tpm.gct", x))
    adata.write_h5ad(tmp_path / "p.h5ad")
    again = read_expression(tmp_path / "p.h5ad", genes=[BARE[5], "SYM4", "absent"], samples=[SAMPLES[2]])
    np.testing.assert_allclose(again.X, x[[5, 4]][:, [2]].T, rtol=1e-6)
    Transform.fit(adata).apply(adata).write_h5ad(tmp_path / "z.h5ad")
    with pytest.raises(InputError, match="applied already"):
        read_expression(tmp_path / "z.h5ad")


def test_log_scale_table_says_so_and_is_made_linear_on_request(tmp_path: Path) -> None:
    x = values()
    for scale, log in (("log2p1", np.log2(x + 1)), ("log2p0.001", np.log2(x + 0.001)), ("lnp1", np.log(x + 1))):
        path = write_table(tmp_path / f"{scale}.csv", pd.DataFrame(log, index=IDS, columns=SAMPLES))
        with pytest.raises(InputError, match="log scale"):
            read_expression(path, unit="tpm")
        np.testing.assert_allclose(read_expression(path, unit="tpm", scale=scale).X, x.T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("duplicates", ["sum", "first"])
def test_duplicate_genes_are_an_error_summed_or_taken_once(tmp_path: Path, duplicates: str) -> None:
    x = values()
    ids = [*IDS[:59], BARE[4] + ".77"]
    summed = x[:59].copy()
    summed[4] += x[59] if duplicates == "sum" else 0
    frame = pd.DataFrame(x, index=ids, columns=SAMPLES)
    for path in (
        write_gct(tmp_path / "tpm.gct", x, ids),
        write_table(tmp_path / "tpm.csv", frame),
        write_table(tmp_path / "tpm_t.csv", frame.T),
    ):
        with pytest.raises(InputError, match=r"ENSG00000000004.*sum"):
            read_expression(path)
        np.testing.assert_allclose(read_expression(path, duplicates=duplicates).X, summed.T, rtol=1e-6)


def damaged(kind: str, tmp_path: Path) -> Path:
    x = values()
    path = write_gct(tmp_path / "tpm.gct", x)
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if kind == "missing value":
        lines[7] = lines[7].rsplit("\t", 1)[0] + "\t"
    elif kind == "NA":
        lines[7] = lines[7].rsplit("\t", 1)[0] + "\tNA"
    elif kind == "word":
        lines[7] = lines[7].rsplit("\t", 1)[0] + "\tmuch"
    elif kind == "negative":
        lines[7] = lines[7].rsplit("\t", 1)[0] + "\t-3.5"
    elif kind == "short line":
        lines[7] = lines[7].rsplit("\t", 1)[0]
    elif kind == "fewer genes":
        lines = lines[:-4]
    elif kind == "more genes":
        lines.append(lines[-1].replace("ENSG00000000059", "ENSG00000000099"))
    elif kind == "header":
        lines[1] = "60\t9"
    elif kind == "sample twice":
        lines[2] = lines[2].replace(SAMPLES[1], SAMPLES[0])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if kind == "cut gzip":
        path = tmp_path / "tpm.gct.gz"
        path.write_bytes(gzip.compress(text.encode())[:900])
    elif kind == "noise in gzip":
        path = tmp_path / "tpm.gct.gz"
        packed = bytearray(gzip.compress(text.encode()))
        packed[200:260] = bytes(60)
        path.write_bytes(packed)
    elif kind == "two in a zip":
        path = tmp_path / "tpm.zip"
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("a.csv", "x")
            bundle.writestr("b.csv", "x")
    elif kind == "absent":
        path = tmp_path / "nowhere.gct"
    elif kind == "empty":
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    "kind, words",
    [
        ("missing value", r"GTEX-0007.*ENSG00000000004.*finite"),
        ("NA", r"GTEX-0007.*ENSG00000000004.*finite"),
        ("word", "much"),
        ("negative", r"ENSG00000000004.*negative"),
        ("short line", "fields a line"),
        ("fewer genes", "expected 60 genes; found 56"),
        ("more genes", "found more"),
        ("header", "GCT 1.2"),
        ("sample twice", r"GTEX-0000-0126.*each once"),
        ("cut gzip", "cut short"),
        ("noise in gzip", "tpm.gct.gz"),
        ("two in a zip", "2 files"),
        ("absent", "nowhere.gct.*none there"),
        ("empty", "none"),
    ],
)
def test_damage_is_named_with_its_place(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_expression(damaged(kind, tmp_path))


def test_wanted_things_that_are_not_there_show_three_of_each(tmp_path: Path) -> None:
    path = write_gct(tmp_path / "tpm.gct", values())
    with pytest.raises(InputError, match=r"A, B, C.*ENSG00000000000\.1, ENSG00000000001\.2, ENSG00000000002\.3"):
        read_expression(path, genes=["A", "B", "C", "D"])
    with pytest.raises(InputError, match=r"expected sample X.*GTEX-0000-0126, GTEX-0001-0126, GTEX-0002-0126"):
        read_expression(path, samples=[SAMPLES[0], "X"])
    with pytest.raises(InputError, match="mouse"):
        read_expression(path, genes=[f"ENSMUSG{number:011d}" for number in range(50)])
    with pytest.raises(InputError, match="a list"):
        read_expression(path, genes="TP53")
    with pytest.raises(InputError, match="spelling"):
        read_expression(path, kind="excel")


def test_orientation_given_wrongly_or_unknowable_is_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame(values(), index=IDS, columns=SAMPLES)
    with pytest.raises(InputError, match='genes_in="rows"'):
        read_expression(write_table(tmp_path / "tpm.csv", frame), genes_in="columns")
    frame.index, frame.columns = [f"a{n}" for n in range(60)], [f"b{n}" for n in range(8)]
    with pytest.raises(InputError, match="told apart"):
        read_expression(write_table(tmp_path / "tpm2.csv", frame))


def test_a_table_without_a_unit_asks_for_it(tmp_path: Path) -> None:
    path = write_table(tmp_path / "study.csv", pd.DataFrame(values(), index=IDS, columns=SAMPLES))
    with pytest.raises(InputError, match="pass unit="):
        read_expression(path)


@pytest.mark.real
def test_xena_is_made_linear_and_would_be_refused_as_it_is(mirror: Path) -> None:
    path = mirror / "expression" / "xena" / "blca_rna_clean.csv.gz"
    adata = read_expression(path)
    frame = pd.read_csv(path, index_col=0)
    assert adata.shape == (360, 1577) and adata.uns["unit"] == "tpm" and adata.X.min() == 0 and adata.X.max() > 9e4
    np.testing.assert_allclose(np.log2(adata.X + 0.001), frame.to_numpy(), atol=2e-3)
    assert ((adata.X == 0) == (frame.to_numpy() == -9.9658)).all()
    with pytest.raises(InputError, match="log scale"):
        read_expression(path, kind="table", unit="tpm")


def test_workbooks_and_tables_are_told_what_to_do_instead(tmp_path: Path) -> None:
    for name, member in (("book.xlsx", "[Content_Types].xml"), ("two.zip", "first.tsv")):
        with zipfile.ZipFile(tmp_path / name, "w") as bundle:
            bundle.writestr(member, "x")
            bundle.writestr("xl/workbook.xml", "y")
    with pytest.raises(InputError, match="Excel workbook; save it as tab-separated text"):
        read_expression(tmp_path / "book.xlsx", kind="table", unit="tpm")
    with pytest.raises(InputError, match="2 files; unpack it"):
        read_expression(tmp_path / "two.zip", kind="table", unit="tpm")

    table = tmp_path / "profiles.tsv"
    values = np.random.default_rng(0).uniform(0, 500, (30, 4)).round(2)
    pd.DataFrame(values, [f"ENSG{n:011d}" for n in range(30)], ["P1", "P2", "P3", "P4"]).to_csv(table, sep="\t")
    with pytest.raises(InputError, match="another kind of file; read a table"):
        read_h5ad(table)
    read_expression(table, kind="table", unit="tpm").write_h5ad(tmp_path / "profiles.h5ad")  # as the message says
    assert read_h5ad(tmp_path / "profiles.h5ad").shape == (4, 30)


@pytest.mark.real
def test_her2st_sections(mirror: Path) -> None:
    path = mirror / "her2st" / "counts" / "C2.tsv.gz"
    adata = read_expression(path)
    frame = pd.read_csv(path, sep="\t", index_col=0)
    assert adata.shape == (187, 15706) and adata.uns["unit"] == "counts" and set(adata.obs["patient_id"]) == {"C"}
    np.testing.assert_array_equal(adata.X, frame.to_numpy())
    some = read_expression(path, genes=["ERBB2", "COL1A1"], samples=["C2_10x22"])
    np.testing.assert_array_equal(some.X[0], frame.loc["10x22", ["ERBB2", "COL1A1"]])


@pytest.mark.real
def test_rtcga_cognoma_and_porpoise(mirror: Path) -> None:
    folder = mirror / "expression"
    genes = ["TP53", "ERBB2", "COL1A1"]
    chol = read_expression(folder / "rtcga" / "CHOL.rnaseq.rda")
    assert chol.shape == (45, 20531) and chol.uns["unit"] == "rsem"
    assert chol.obs["sample_type"].value_counts().to_dict() == {"tumour": 36, "normal": 9}
    cognoma = read_expression(folder / "cognoma" / "all-genes_319ba6cb.tsv.gz", genes=genes)
    assert cognoma.shape == (50, 3) and cognoma.X.min() >= 0 and list(cognoma.var_names) == genes
    kirp = read_expression(folder / "porpoise" / "tcga_kirp_all_clean.csv.zip")
    assert kirp.uns["unit"] == "zscore" and kirp.obs_names.is_unique and kirp.n_vars == 1557
    with pytest.raises(InputError, match='"none"'):
        Transform.fit(kirp)
    assert np.abs(Transform.fit(kirp, name="none", clip=10).apply(kirp).X).max() == 10
