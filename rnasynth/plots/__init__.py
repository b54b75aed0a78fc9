"""Every figure of the book: results in, a matplotlib Figure out.

One colour and one marker a tissue, the same on every page, from the Okabe-Ito palette that colour-blind readers can
tell apart. A function here computes nothing that a page reports: what it draws is what it was given.
"""

from rnasynth.plots.charts import box_by_group, composition, curves, embedding, histograms, intervals, spectrum
from rnasynth.plots.latent import map_of_sets, scatter_against
from rnasynth.plots.perturb import dose_response
from rnasynth.plots.ratings import paired_scores, rater_differences
from rnasynth.plots.style import colour_of, marker_of
from rnasynth.plots.survival import kaplan_meier
from rnasynth.plots.tissue import round_length, slide_overview, tile_grid
from rnasynth.plots.utility import confusion_matrices, share_curves

__all__ = [
    "box_by_group",
    "colour_of",
    "composition",
    "confusion_matrices",
    "curves",
    "dose_response",
    "embedding",
    "histograms",
    "intervals",
    "kaplan_meier",
    "map_of_sets",
    "marker_of",
    "paired_scores",
    "rater_differences",
    "round_length",
    "scatter_against",
    "share_curves",
    "slide_overview",
    "spectrum",
    "tile_grid",
]
