"""A gene, a gene set or a cell type's programme up or down -> tiles of the same noise -> effects with intervals."""

from rnasynth.perturb import pure, study
from rnasynth.perturb.changes import Change, gene_change, matched_controls, programme_change
from rnasynth.perturb.effects import TileGenerator, measure, read_doses
from rnasynth.perturb.reading import HaematoxylinArea, NucleiDensity, nuclei_countable
from rnasynth.perturb.report import EffectReport, report_of

__all__ = [
    "Change",
    "EffectReport",
    "HaematoxylinArea",
    "NucleiDensity",
    "TileGenerator",
    "gene_change",
    "matched_controls",
    "measure",
    "nuclei_countable",
    "programme_change",
    "pure",
    "read_doses",
    "report_of",
    "study",
]
