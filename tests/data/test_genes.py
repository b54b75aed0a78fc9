"""Gene ids in one form; alignment is by id, then symbol; what does not match says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.checks import check_raw
from rnasynth.data.genes import align, choose_genes, gene_id, gene_ids, locate
from rnasynth.errors import InputError, SplitError


def profiles(genes: list[str], n: int = 4, symbols: list[str] | None = None, seed: int = 0) -> AnnData:
    x = np.random.default_rng(seed).gamma(0.5, 200.0, size=(n, len(genes))).astype(np.float32)
    var = pd.DataFrame({"symbol": symbols or genes}, index=pd.Index(genes, dtype=object))
    return AnnData(X=x, obs=pd.DataFrame(index=[f"S{row}" for row in range(n)]), var=var, uns={"unit": "tpm"})


@pytest.mark.parametrize(
    "text, expected",
    [
        ("ENSG00000141510.18", "ENSG00000141510"),
        ("ENSG00000141510", "ENSG00000141510"),
        ("ENSG00000182378.13_PAR_Y", "ENSG00000182378_PAR_Y"),
        ("ENSGR0000182378.10", "ENSG00000182378_PAR_Y"),
        ("ENSMUSG00000059552.8", "ENSMUSG00000059552"),
        ("TP53|7157", "TP53"),
        ("?|100130426", "?|100130426"),
        ("FO538757.1", "FO538757.1"),  # a clone, whose number is no version
        ("HLA-DRB1", "HLA-DRB1"),
    ],
)
def test_gene_id_has_one_form(text: str, expected: str) -> None:
    assert gene_id(text) == expected and gene_id(gene_id(text)) == expected


def test_symbols_shared_by_two_entrez_numbers_stay_apart() -> None:
    assert gene_ids(["A1BG|1", "SLC35E2|728661", "SLC35E2|9906", "?|5", "?|6"]) == [
        "A1BG",
        "SLC35E2|728661",
        "SLC35E2|9906",
        "?|5",
        "?|6",
    ]


def test_versions_of_another_release_align() -> None:
    adata = profiles(["ENSG00000000003.15", "ENSG00000000005.6", "ENSG00000182378.13_PAR_Y"])
    result = align(adata, ["ENSG00000000005", "ENSG00000000003.9"])
    np.testing.assert_array_equal(result.X, adata.X[:, [1, 0]])


def test_par_y_copy_is_not_its_x_gene() -> None:
    ids = ["ENSG00000182378.13", "ENSG00000182378.13_PAR_Y"]
    adata = profiles(ids, symbols=["PLCXD1", "PLCXD1"])
    assert locate(["ENSG00000182378", "PLCXD1"], adata) == [[0], [0]]


def test_alignment_by_symbol_when_ids_differ() -> None:
    adata = profiles(["ENSG00000141510", "ENSG00000146648"], symbols=["TP53", "EGFR"])
    np.testing.assert_array_equal(align(adata, ["EGFR", "TP53"]).X, adata.X[:, [1, 0]])
    by_symbol = profiles(["TP53", "EGFR"])
    result = align(by_symbol, ["ENSG00000146648", "ENSG00000141510"], symbols=["EGFR", "TP53"])
    np.testing.assert_array_equal(result.X, by_symbol.X[:, [1, 0]])


def test_order_and_extra_genes_change_nothing() -> None:
    adata = profiles([f"G{number}" for number in range(30)])
    wanted = [f"G{number}" for number in range(0, 30, 3)]
    shuffled = adata[:, np.random.default_rng(1).permutation(30)].copy()
    np.testing.assert_array_equal(align(adata, wanted).X, align(shuffled, wanted).X)


def test_missing_genes_are_filled_counted_or_refused() -> None:
    adata = profiles(["A", "B"])
    result = align(adata, ["A", "C", "B", "D"], missing="zero")
    assert result.uns["alignment"] == {"present": 2, "missing": 2, "missing_share": 0.5}
    assert (result.X[:, [1, 3]] == 0).all() and list(result.var["present"]) == [True, False, True, False]
    filled = align(adata, ["A", "C", "B"], missing="train_mean", fill=np.array([9, 5, 9], dtype=np.float32))
    assert (filled.X[:, 1] == 5).all() and (filled.X[:, 0] == adata.X[:, 0]).all()
    with pytest.raises(InputError, match="no C"):
        align(adata, ["A", "C"])


def test_duplicate_genes_are_an_error_that_offers_sum_and_first() -> None:
    adata = profiles(["ENSG00000141510.1", "ENSG00000141510.2", "ENSG00000146648"])
    with pytest.raises(InputError, match='duplicates="sum"'):
        align(adata, ["ENSG00000141510"])
    x = adata.X
    np.testing.assert_allclose(align(adata, ["ENSG00000141510"], duplicates="sum").X[:, 0], x[:, 0] + x[:, 1])
    np.testing.assert_array_equal(align(adata, ["ENSG00000141510"], duplicates="first").X[:, 0], x[:, 0])


def test_ids_that_match_nothing_show_three_of_each() -> None:
    adata = profiles([f"ENSG{number:011d}" for number in range(50)])
    with pytest.raises(InputError) as raised:
        align(adata, [f"GENE{number}" for number in range(40)], missing="zero")
    for text in ("GENE0, GENE1, GENE2", "ENSG00000000000, ENSG00000000001, ENSG00000000002", "0 of 40"):
        assert text in str(raised.value)


@pytest.mark.parametrize(
    "available, hint",
    [([f"ENSMUSG{number:011d}" for number in range(60)], "mouse"), ([f"Abc{number}" for number in range(60)], "case only")],
)
def test_another_species_is_named(available: list[str], hint: str) -> None:
    wanted = [f"ENSG{n:011d}" for n in range(60)] if hint == "mouse" else [f"ABC{n}" for n in range(60)]
    with pytest.raises(InputError, match=hint):
        align(profiles(available), wanted, missing="zero")


def test_few_shared_genes_need_a_word() -> None:
    wanted, adata = [f"G{number}" for number in range(100)], profiles(["G1", "G2", "X"])
    with pytest.raises(InputError, match=r"min_share=0\.020"):
        align(adata, wanted, missing="zero")
    assert align(adata, wanted, missing="zero", min_share=0.01).uns["alignment"]["present"] == 2


def test_chosen_genes_vary_most_in_training_and_do_not_depend_on_order() -> None:
    adata = profiles([f"G{number:03d}" for number in range(200)], n=30)
    adata.X[:, 7] = 5.0  # constant
    adata.X[1:, 8] = 0.0  # in one sample only
    chosen = choose_genes(adata, 50)
    variance = np.log2(adata.X + 1).var(axis=0)
    rest = [name for name in adata.var_names if name not in chosen and name != "G008"]
    assert len(chosen) == 50 and "G007" not in chosen and "G008" not in chosen
    assert variance[adata.var_names.get_indexer(chosen)].min() >= variance[adata.var_names.get_indexer(rest)].max()
    assert set(choose_genes(adata[:, ::-1].copy(), 50)) == set(chosen)


def test_choosing_on_other_than_training_samples_is_refused() -> None:
    adata = profiles(["A", "B"])
    adata.obs["split"] = ["train", "train", "test", "val"]
    with pytest.raises(SplitError, match="S2, S3"):
        choose_genes(adata, 1)
    assert choose_genes(adata[:2].copy(), 1)


def broken(kind: str) -> AnnData:
    adata = profiles([f"ENSG{number:011d}" for number in range(80)], n=6)
    adata.X[0, 0] = 3e4
    if kind == "nan":
        adata.X[2, 3] = np.nan
    elif kind == "negative":
        adata.X[2, 3] = -1
    elif kind == "log":
        adata.X = np.log2(adata.X + 1)
    elif kind == "xena":
        adata.X = np.log2(adata.X + 0.001)
    elif kind == "transposed":
        return adata.T.copy()
    elif kind == "gene twice":
        adata.var_names = ["ENSG00000000001", *adata.var_names[1:]]
    elif kind == "sample twice":
        adata.obs_names = ["S1", *adata.obs_names[1:]]
    elif kind == "transformed":
        adata.uns["transform"] = {"name": "log2p1_zscore"}
    elif kind == "unit":
        adata.uns["unit"] = "furlongs"
    elif kind == "empty":
        return adata[:0].copy()
    return adata


@pytest.mark.filterwarnings("ignore:(Observation|Variable) names are not unique")
@pytest.mark.parametrize(
    "kind, words",
    [
        ("nan", "sample S2, gene ENSG00000000003.*finite"),
        ("negative", "sample S2, gene ENSG00000000003.*negative.*log2p0.001"),
        ("log", "log scale.*log2p1"),
        ("xena", "log scale"),
        ("transposed", "samples in rows.*adata.T"),
        ("gene twice", 'gene ENSG00000000001.*duplicates="sum"'),
        ("sample twice", "sample S1.*each once"),
        ("transformed", "log2p1_zscore.*raw file"),
        ("unit", "furlongs"),
        ("empty", "0 x 80"),
    ],
)
def test_what_is_not_a_raw_matrix_is_refused(kind: str, words: str) -> None:
    check_raw(broken("nothing"))
    with pytest.raises(InputError, match=words):
        check_raw(broken(kind))


def test_shallow_counts_are_not_taken_for_log_values() -> None:
    adata = profiles([f"G{number}" for number in range(300)])
    adata.X = np.random.default_rng(0).poisson(0.5, size=adata.shape).astype(np.float32)
    check_raw(adata)
    adata.X = adata.X * 0.9
    with pytest.raises(InputError, match="allow_small"):
        check_raw(adata)
    check_raw(adata, allow_small=True)


def test_z_scores_may_be_negative_and_small() -> None:
    adata = broken("log")
    adata.X, adata.uns["unit"] = adata.X - 5, "zscore"
    check_raw(adata)
