"""Bulk profiles whose fractions are known: planted by the simulator, published with a program's test, and measured."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module, util
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.genes import gene_ids
from rnasynth.data.simulate import CELL_TYPES, RNA_CONTENT, SimulationConfig, simulate_profiles
from rnasynth.errors import InputError
from rnasynth.evaluation.deconvolution.inputs import read_signature, read_table
from rnasynth.evaluation.deconvolution.signatures import PER_MILLION, signature_genes

#: Left out of TIL10 for RNA-Seq by quanTIseq's default, with which its test output was made (TIL10_rmgenes.txt).
TIL10_LEFT_OUT = (
    "CD36",
    "CSTA",
    "NRGN",
    "C5AR2",
    "CEP19",
    "CYP4F3",
    "DOCK5",
    "HAL",
    "LRRK2",
    "LY96",
    "NINJ2",
    "PPP1R3B",
    "TECPR2",
    "TLR1",
    "TLR4",
    "TMEM154",
    "CD248",
)
#: Earlier symbols of four TIL10 genes, as older annotations have them (HGNC).
EARLIER_SYMBOLS = {"SQOR": "SQRDL", "TOGARAM2": "FAM179A", "TSPOAP1": "BZRAP1", "GRK3": "ADRBK2"}
#: TIL10's types that make up each type that was counted by flow cytometry.
RACLE_TYPES = {
    "B cell": ("B.cells",),
    "T cell CD4+": ("T.cells.CD4", "Tregs"),
    "T cell CD8+": ("T.cells.CD8",),
    "NK cell": ("NK.cells",),
}


@dataclass(frozen=True, eq=False)
class KnownMixture:
    """Bulk profiles whose fractions are known, and a signature to find them with.

    Attributes
    ----------
    name, truth : what it is, and where its fractions come from, in words.
    simulated : made by the simulator.
    profiles : raw AnnData, linear.
    fractions : samples x types, of cells; rows add up to at most 1.
    signature : genes x types of the signature.
    rna_content : signature type -> RNA of one of its cells, relative.
    joined : type of `fractions` -> the signature types that it is made of.
    symbols : earlier symbols of signature genes.
    other : cells of no type of the signature are part of the fractions.
    """

    name: str
    truth: str
    profiles: AnnData
    fractions: pd.DataFrame
    signature: pd.DataFrame
    rna_content: dict[str, float]
    joined: dict[str, tuple[str, ...]]
    symbols: dict[str, str] = field(default_factory=dict)
    simulated: bool = False
    other: bool = False

    @property
    def key(self) -> str:
        """The name as part of a number's name."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower())

    def as_known(self, fractions: pd.DataFrame) -> pd.DataFrame:
        """Add up the signature's types to the known ones."""
        return pd.DataFrame({kind: fractions[list(parts)].sum(axis=1) for kind, parts in self.joined.items()})


def simulated_mixture(*, seed: int = 0, patients: int = 40) -> KnownMixture:
    """Make simulated bulk profiles of planted fractions, and the signature that the simulator's own programmes give.

    The programmes are the means over the tissues that have the type; a tumour's own changes of them stay in the profiles.
    """
    profiles, truth = simulate_profiles(SimulationConfig(seed=seed, patients=patients, tiles_per_patient=1))
    fractions = truth["fractions"].set_index("patient_id")[list(CELL_TYPES)]
    return KnownMixture(
        name="simulated patients",
        truth="planted",
        profiles=profiles,
        fractions=fractions,
        signature=simulated_signature(truth["programmes"], [str(gene) for gene in profiles.var_names]),
        rna_content=simulated_rna_content(),
        joined={kind: (kind,) for kind in CELL_TYPES},
        simulated=True,
    )


def simulated_signature(programmes: pd.DataFrame, genes: Sequence[str], *, per_type: int = 30) -> pd.DataFrame:
    """Make a signature, in parts of a million, of the simulator's programmes (table "programmes" of a cohort's truth)."""
    means = programmes.groupby(["gene", "cell_type"], observed=True)["share"].mean().unstack()
    reference = means.loc[list(genes), list(CELL_TYPES)].astype(float) * PER_MILLION
    return signature_genes(reference, per_type=per_type, min_value=float(reference.to_numpy().mean()) / 10)


def simulated_rna_content() -> dict[str, float]:
    """Return the simulator's RNA of a cell, by type, relative to a lymphocyte."""
    return {kind: float(value) for kind, value in zip(CELL_TYPES, RNA_CONTENT, strict=True)}


def read_til10(folder: Path) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return quanTIseq's signature TIL10, without the genes that it leaves out for RNA-Seq, and its mRNA content a cell."""
    signature = read_signature(folder / "TIL10_signature.txt").drop(index=list(TIL10_LEFT_OUT))
    scaling = pd.read_csv(folder / "TIL10_mRNA_scaling.txt", sep="\t", header=None, index_col=0)[1]
    return signature, {str(kind): float(value) for kind, value in scaling.items()}


def til10_mixture(folder: Path) -> KnownMixture:
    """Read quanTIseq's test mixture with the fractions that its authors' program gives for it.

    Raises
    ------
    InputError : a file that is not there or not what it should be.

    Source: Finotello et al., Genome Medicine 2019, test/Output_testfiles of its repository.
    """
    signature, content = read_til10(folder)
    values = read_table(folder / "quantiseq_test_gene_tpm.txt.gz").set_index("GENE").T
    expected = read_table(folder / "quantiseq_test_cell_fractions.txt").set_index("Sample")
    return KnownMixture(
        name="TIL10 test mixture",
        truth="expected output of quanTIseq",
        profiles=_linear(values),
        fractions=expected[list(signature.columns)],
        signature=signature,
        rna_content=content,
        joined={str(kind): (str(kind),) for kind in signature.columns},
        symbols=EARLIER_SYMBOLS,
        other=True,
    )


def racle_mixture(folder: Path) -> KnownMixture:
    """Read four melanoma lymph nodes with bulk RNA-Seq and fractions that were measured by flow cytometry.

    Raises
    ------
    InputError : the package `rdata` is not installed, or the file is not what it should be.

    Source: Racle et al., eLife 2017 (GSE93722), as the R package immunedeconv carries it.
    """
    path = folder / "dataset_racle.rda"
    signature, content = read_til10(folder)
    values, measured = read_racle(path)
    return KnownMixture(
        name="melanoma lymph nodes",
        truth="measured by flow cytometry",
        profiles=_linear(values),
        fractions=measured[list(RACLE_TYPES)],
        signature=signature,
        rna_content=content,
        joined=dict(RACLE_TYPES),
        symbols=EARLIER_SYMBOLS,
        other=True,
    )


def read_racle(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return profiles (samples x genes, TPM) and measured fractions (samples x types) of `dataset_racle.rda`.

    It holds an R environment, which pyreadr cannot read; the package `rdata` can.
    """
    if not path.is_file():
        raise InputError(str(path), expected="a file", found="none there", fix="run `rnasynth fetch signatures`")
    if util.find_spec("rdata") is None:
        fix = "install the package rdata"
        raise InputError(str(path), expected="a reader of R environments", found="none installed", fix=fix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tibbles are read as plain data frames, which is what is wanted
        objects = import_module("rdata").read_rda(path)
    try:
        content = objects["dataset_racle"]
        reference, matrix = content["ref"], content["expr_mat"]
        genes, samples = (matrix.coords[name].to_numpy().astype(str) for name in ("dim_0", "dim_1"))
        values = pd.DataFrame(np.asarray(matrix, dtype=np.float64).T, index=samples, columns=genes)
        measured = reference.pivot(index="sample", columns="cell_type", values="true_fraction").astype(float)
        measured.index, measured.columns = measured.index.astype(str), measured.columns.astype(str)
        return values, measured.loc[list(samples)]
    except (KeyError, AttributeError, TypeError) as error:
        raise InputError(str(path), expected="dataset_racle with ref and expr_mat", found=repr(error)[:200]) from error


def _linear(values: pd.DataFrame) -> AnnData:
    x: NDArray[np.float32] = values.to_numpy(dtype=np.float32)
    genes = gene_ids(values.columns.astype(str))
    var = pd.DataFrame({"symbol": genes}, index=pd.Index(genes, dtype=object))
    return AnnData(
        X=x, obs=pd.DataFrame(index=pd.Index(values.index.astype(str), dtype=object)), var=var, uns={"unit": "tpm"}
    )
