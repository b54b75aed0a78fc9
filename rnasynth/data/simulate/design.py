"""The simulated world: tissues, cell types, their biology as tables, and the configuration of a cohort.

The numbers are chosen, not measured, unless a source stands beside them. They are the same for every cohort (given
`biology_seed`), so that a model trained on one simulated cohort can be judged on another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rnasynth.config import Config, check

TISSUES = ("lung-like", "cortex-like", "adenocarcinoma-like", "squamous-like", "glioma-like")
TUMOURS = ("adenocarcinoma-like", "squamous-like", "glioma-like")
CELL_TYPES = ("epithelial", "fibroblast", "endothelial", "lymphocyte", "macrophage", "neuron", "glia")
N_TYPES = len(CELL_TYPES)

EPITHELIAL, FIBROBLAST, ENDOTHELIAL, LYMPHOCYTE, MACROPHAGE, NEURON, GLIA = range(N_TYPES)

#: The parenchymal type of each tumour is malignant: in glioma-like the glia, else the epithelium.
MALIGNANT_TYPE = {"adenocarcinoma-like": EPITHELIAL, "squamous-like": EPITHELIAL, "glioma-like": GLIA}

#: Mean cell fractions of a tissue, order of CELL_TYPES; a zero stays zero in every patient and tile.
MEAN_FRACTIONS = {
    "lung-like": (0.38, 0.18, 0.20, 0.11, 0.13, 0.0, 0.0),
    "cortex-like": (0.0, 0.0, 0.14, 0.05, 0.09, 0.34, 0.38),
    "adenocarcinoma-like": (0.43, 0.26, 0.08, 0.14, 0.09, 0.0, 0.0),
    "squamous-like": (0.47, 0.19, 0.06, 0.18, 0.10, 0.0, 0.0),
    "glioma-like": (0.0, 0.0, 0.12, 0.11, 0.15, 0.11, 0.51),
}
#: Dirichlet concentration of patients around their tissue; so low that within-tissue variance equals the one between.
PATIENT_CONCENTRATION = 3.0
FRACTION_FLOOR = 0.01  # a type that a tissue has at all is never quite absent from a patient

#: Tissue area taken by one cell with its cytoplasm and matrix, um2. Malignant epithelium: MoNuSeg at 64 um x 64 um shows
#: 20 to 36 nuclei (median a tile and patient, 18 of 23 patients), lymphoid tissue 76 to 122; these give the same counts.
TERRITORY_UM2 = {
    "lung-like": (95.0, 120.0, 75.0, 42.0, 130.0, 1.0, 1.0),
    "cortex-like": (1.0, 1.0, 200.0, 110.0, 180.0, 620.0, 260.0),
    "adenocarcinoma-like": (95.0, 170.0, 100.0, 42.0, 120.0, 1.0, 1.0),
    "squamous-like": (165.0, 170.0, 100.0, 42.0, 120.0, 1.0, 1.0),
    "glioma-like": (1.0, 1.0, 110.0, 55.0, 120.0, 420.0, 120.0),
}
#: Share of a tile's area that is cells and matrix (the rest is airspace, lumen, cleft).
COVER = {
    "lung-like": 0.46,
    "cortex-like": 0.92,
    "adenocarcinoma-like": 0.80,
    "squamous-like": 0.92,
    "glioma-like": 0.92,
}

MARKERS: dict[str, tuple[str, ...]] = {
    "epithelial": ("EPCAM", "KRT8", "KRT18", "CDH1", "KRT19", "MUC1", "CLDN4", "ELF3"),
    "fibroblast": ("COL1A1", "DCN", "COL3A1", "LUM", "PDGFRB", "COL1A2", "FAP", "THY1"),
    "endothelial": ("PECAM1", "VWF", "CDH5", "CLDN5", "KDR", "TEK", "ESAM", "EGFL7"),
    "lymphocyte": ("CD3D", "CD8A", "PTPRC", "CD3E", "CD2", "MS4A1", "CD79A", "IL7R"),
    "macrophage": ("CD68", "CD163", "CSF1R", "C1QA", "C1QB", "MRC1", "AIF1", "CD14"),
    "neuron": ("SNAP25", "SYT1", "RBFOX3", "GAD1", "SLC17A7", "NEFL", "STMN2", "SYN1"),
    "glia": ("GFAP", "OLIG2", "AQP4", "MBP", "S100B", "PLP1", "MOG", "SLC1A3"),
}
#: Genes that the malignant or resident parenchymal cells of one tissue raise on top of their type's programme.
LINEAGE_MARKERS: dict[str, tuple[str, ...]] = {
    "lung-like": ("SFTPC", "SFTPB", "AGER", "SCGB1A1"),
    "cortex-like": ("SLC17A6", "CAMK2A", "GRIN1", "NRGN"),
    "adenocarcinoma-like": ("CEACAM5", "CDX2", "TFF3", "LGALS4"),
    "squamous-like": ("KRT5", "TP63", "DSG3", "KRT6A"),
    "glioma-like": ("EGFR", "SOX2", "CHI3L1", "PDGFRA"),
}
PROLIFERATION_MARKERS = ("MKI67", "TOP2A", "BIRC5", "CCNB1", "UBE2C", "CDC20")  # raised in every malignant type
HOUSEKEEPING = ("ACTB", "GAPDH", "B2M", "RPLP0", "HPRT1", "TBP", "GUSB", "PPIA")
#: RNA molecules of one cell relative to a lymphocyte; bulk profiles weigh types by it, images do not.
RNA_CONTENT = np.array([2.6, 1.6, 1.5, 1.0, 1.9, 3.2, 1.7])

#: Log hazard ratios: per unit of fraction, per ten years of age, per stage above I (healthy tissue counts as stage I).
SURVIVAL_COEFFICIENTS = {"lymphocyte": -4.0, "macrophage": 3.5, "age_decade": 0.25, "stage": 0.3}
SURVIVAL_SHAPE = 1.2  # Weibull
SURVIVAL_MEDIAN_MONTHS = 36.0  # at the cohort's mean of every covariate
CENSORED_SHARE = 0.40

BATCHES = ("batch-1", "batch-2", "batch-3", "batch-4")


@dataclass(frozen=True, kw_only=True)
class SimulationConfig(Config):
    """What to simulate; equal configurations give bit-identical cohorts on one machine."""

    patients: int = 200
    """Number of patients; patient i has tissue TISSUES[i % 5]."""
    tiles_per_patient: int = 24
    """Tiles of each patient's one slide."""
    tile_px: int = 128
    """Side of a tile in pixels."""
    mpp_um: float = 0.5
    """Micrometres per pixel; the field is tile_px * mpp_um wide, and must lie in 32 to 512 um."""
    genes: int = 1000
    """Number of genes simulated, at least all named markers (90); the others are called GENE0001 and so on."""
    seed: int = 0
    """Seed of the patients and their tiles."""
    biology_seed: int = 0
    """Seed of the gene programmes: keep it when another cohort shall obey the same biology."""
    renderer: Literal["a", "b"] = "a"
    """Renderer "b" draws the same scenes with other nuclei, textures and stains: for validation, never for training."""
    batches: int = 4
    """Number of sequencing batches, 1 to 4."""
    batch_sd: float = 0.15
    """Standard deviation over genes of a batch's effect, natural log; 0 for none."""
    batch_shift: float = 0.0
    """Standard deviation over genes of one shift of the whole cohort, natural log: an external laboratory."""
    missing_gene_share: float = 0.0
    """Share of the genes that the cohort's platform did not measure; chosen by the seed and absent from `var`."""
    biological_sd: float = 0.25
    """Standard deviation of a gene in a patient beyond what the cell fractions explain, natural log."""
    library_counts: float = 2e6
    """Median sequencing depth: counts a sample over all simulated genes."""
    tile_concentration: float = 30.0
    """Dirichlet concentration of a tile's fractions around its patient's; larger is more alike."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self, "patients", self.patients >= 1, "1 or more")
        check(self, "tiles_per_patient", self.tiles_per_patient >= 1, "1 or more")
        check(self, "tile_px", 16 <= self.tile_px <= 1024, "16 to 1024")
        check(self, "mpp_um", self.mpp_um > 0 and 32 <= self.field_um <= 512, "a field (tile_px * mpp_um) of 32 to 512 um")
        check(self, "genes", self.genes >= len(named_genes()), f"at least the {len(named_genes())} named genes")
        check(self, "seed", self.seed >= 0, "0 or more")
        check(self, "biology_seed", self.biology_seed >= 0, "0 or more")
        check(self, "batches", 1 <= self.batches <= len(BATCHES), f"1 to {len(BATCHES)}")
        for name in ("batch_sd", "batch_shift", "biological_sd"):
            check(self, name, 0 <= getattr(self, name) <= 3, "0 to 3")
        check(self, "missing_gene_share", 0 <= self.missing_gene_share < 1, "0 or more, below 1")
        check(self, "library_counts", self.library_counts >= 1e3, "1,000 or more")
        check(self, "tile_concentration", self.tile_concentration > 0, "above 0")

    @property
    def field_um(self) -> float:
        """Side of a tile in micrometres."""
        return self.tile_px * self.mpp_um


def named_genes() -> tuple[str, ...]:
    """Return the genes that carry real symbols, each once: type, lineage, proliferation, housekeeping."""
    groups = [*MARKERS.values(), *LINEAGE_MARKERS.values(), PROLIFERATION_MARKERS, HOUSEKEEPING]
    return tuple(dict.fromkeys(gene for group in groups for gene in group))


def patient_name(patient: int) -> str:
    """Return the patient's id, which is its slide's id and, with one profile each, its sample's id too."""
    return f"SIM-{patient:04d}"


# Purposes keep the random streams of one patient or tile apart.
STREAMS = {"patient": 1, "expression": 2, "stain": 3, "tile_fractions": 4, "scene": 5, "pixels": 6, "cohort": 7, "genes": 8}


def stream(purpose: str, *key: int) -> np.random.Generator:
    """Return the generator of one purpose and key, the same whatever was drawn before and in whichever process."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((STREAMS[purpose], *key))))
