"""A gene, a gene set or a cell type's programme up or down -> tiles of the same noise -> effects with intervals."""

from rnasynth.perturb import pure, study
from rnasynth.perturb.changes import Change, gene_change, matched_controls, programme_change
from rnasynth.perturb.direction_report import DirectionReport
from rnasynth.perturb.directions import Direction, fit_direction, move_along_directions, moved_tiles
from rnasynth.perturb.effects import TileGenerator, measure, read_doses
from rnasynth.perturb.reading import HaematoxylinArea, NucleiDensity, nuclei_countable
from rnasynth.perturb.report import EffectReport, report_of

__all__ = [
    "Change",
    "Direction",
    "DirectionReport",
    "EffectReport",
    "HaematoxylinArea",
    "NucleiDensity",
    "TileGenerator",
    "fit_direction",
    "gene_change",
    "matched_controls",
    "measure",
    "move_along_directions",
    "moved_tiles",
    "nuclei_countable",
    "programme_change",
    "pure",
    "read_doses",
    "report_of",
    "study",
]
