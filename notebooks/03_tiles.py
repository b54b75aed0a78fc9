# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# rnasynth:
#   question: From slide to tiles, what is kept?
#   cohorts: [simulated, her2st]
#   needs: [01_cohorts]
#   demo_seconds: 30
# ---

# %% [markdown]
# # Tiles
#
# **Question.** From slide to tiles: what is kept?
#
# **What you will see.** A section with its tissue mask and the tiles that survive each rule, what changes when the mask is
# made from the full resolution as the papers say, real tiles of every tissue at one scale, and how their staining differs.
#
# **Cost.** Under a minute on two cores, below 2 GB.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, of the simulated patients and of the tiles shown
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/03_tiles

# %% tags=["resolve"]
import pandas as pd

from rnasynth import plots
from rnasynth.data.simulate.section import read_truth
from rnasynth.data.slides import open_slide
from rnasynth.data.tissue import TileConfig
from rnasynth.evaluation import describe
from rnasynth.pages import Page

page = Page.open("03_tiles", preset=preset, cohort=cohort, seed=seed, out=out)

# %% [markdown]
# ## One section, rule by rule
#
# Otsu's threshold on a thumbnail tells tissue from glass; a tile of 256 px at 0.5 µm/px (20x) is kept if at most 60 % of
# it is glass, its contrast is not low, and no pen has been there.

# %%
data = page.load()
path, slide_mpp_um = data.example_section()
with open_slide(path, slide_mpp=slide_mpp_um) as slide:
    surveys = {source: describe.survey(slide, TileConfig(mask_source=source, seed=seed)) for source in ("thumbnail", "full")}
    thumbnail = slide.thumbnail(1200)
    thumbnail_mpp_um = slide.mpp_um * slide.width_px / thumbnail.shape[1]
first = surveys["thumbnail"]
page.figure(
    plots.slide_overview(
        thumbnail,
        first.mask.share > 0.5,
        first.kept[["x_px", "y_px"]].to_numpy() * slide.mpp_um / thumbnail_mpp_um,
        mpp_um=thumbnail_mpp_um,
        box_um=256 * 0.5,
    ),
    "section",
    caption=f"Section {path.stem}: as scanned, its tissue mask, and the tiles kept.",
    alt="One section three times: the scan, the black tissue mask, and the scan with a box around each tile kept.",
    n=f"{len(first.kept)} tiles of 1 section",
)
reasons = pd.DataFrame({source: result.counts for source, result in surveys.items()}).fillna(0).astype(int)
page.table(
    reasons.rename_axis("grid position"), caption="Grid positions by what happened to them, for two sources of the mask"
)
kept = {source: int(result.counts["kept"]) for source, result in surveys.items()}
page.number("tiles_kept_thumbnail_mask", kept["thumbnail"])
page.number("tiles_kept_full_mask", kept["full"])
page.number("kept_difference_share", abs(kept["full"] - kept["thumbnail"]) / max(kept["full"], 1))
if data.simulated:  # the simulated section knows its tissue (without ink)
    tissue, pen = read_truth(path)
    page.number("mask_agreement_with_truth", describe.agreement(first.mask, tissue & ~pen), label="intersection over union")

# %% [markdown]
# ## The tiles in the store
#
# The first tiles of the store for each tissue: a fixed rule, no selection.

# %%
index = describe.tiles_of(data)
rows = {
    tissue: data.tiles.read_batch(rows["tile_id"].to_numpy()[:8])
    for tissue, rows in index.groupby("tissue", sort=True)
    if len(rows) >= 8
}
page.figure(
    plots.tile_grid(rows, mpp_um=float(index["mpp_um"].iloc[0])),
    "tiles",
    caption="The first eight tiles of each tissue in the order of the store, not selected.",
    alt="Rows of tissue tiles, one row a tissue, all at the same scale with a scale bar.",
    n=f"{len(index):,} tiles in the store",
)
page.figure(
    plots.box_by_group(
        {tissue: rows["mean_od"].to_numpy() for tissue, rows in index.groupby("tissue", sort=True)},
        x_label="mean optical density of a tile (natural log)",
    ),
    "optical_density",
    caption="Mean optical density of the tiles of each tissue: median, quartiles, 5 and 95 %.",
    alt="Horizontal box plots of mean optical density, one a tissue.",
    n=f"{len(index):,} tiles",
)
page.number("mean_od_median", float(index["mean_od"].median()), label="median of mean optical density")
between = describe.variance_by_group(index[["mean_od"]].to_numpy(), index["patient_id"])
page.number("od_share_between_patients", between, label="share of its variance between patients")
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - The mask from a thumbnail decides almost every tile as the full resolution does; the table says how many it does not.
# - Staining differs between patients: generated tiles must be compared with real ones patient by patient.
#
# ## Limits
#
# - Pen marks are found by colour; a brown or grey pen would pass.

# %%
page.close()
