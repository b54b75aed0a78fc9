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
#   question: What survives from RNA to tiles and back?
#   cohorts: [simulated, her2st]
#   needs: [07_rna_gan, 09_rna_cdm, 17_gemm_gan]
#   demo_seconds: 60
# ---

# %% [markdown]
# # There and back
#
# **Question.** What survives from RNA to tiles and back?
#
# **What you will see.** Tiles made of held-out profiles, and the profiles read off these tiles again; and real tiles, the
# profile read off them, and tiles made of it. Which genes, which cell types and how much of the latent come back, against
# pairs shuffled within a tissue, and beside what the same reader finds in the real tiles of the same samples.
#
# **Cost.** About a minute on two cores in `demo`, once the generators of pages 07 and 09 are trained.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, of training, of the noise and of the shuffles
n_tiles: int = 4  # tiles made of a profile
max_samples: int = 60  # held-out samples, at most
n_boot: int = 300  # resamples of an interval
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/18_round_trip

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.evaluation.profiles import journeys, told
from rnasynth.evaluation.profiles.attention import attention_pooling
from rnasynth.evaluation.profiles.survivors import CEILING, MADE
from rnasynth.features import StainTexture
from rnasynth.pages import Page
from rnasynth.systems.training import train_preset

page = Page.open(
    "18_round_trip",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    n_tiles=n_tiles,
    max_samples=max_samples,
    n_boot=n_boot,
)

# %% [markdown]
# ## Generators there, readers back
#
# There: RNA-GAN (page 07) and the base stage of RNA-CDM (page 09). Back: attention pooling {cite}`ilse2018`, fitted on
# real tiles of training samples, averaged to the generators' pixels and brought to one stain as theirs are; the flow of
# page 17, trained at these pixels on tiles as they were stained; and, for RNA-GAN, a reader that was fitted on tiles made
# of the training samples' RNA. The last tells what is in made tiles at all, even if it does not look like tissue; the
# first two whether tissue carries it. None reads a text, and none has seen a test sample.

# %%
data = page.load()
runs = {name: train_preset(name, data, preset, overrides=[f"train.seed={seed}"]) for name in ("rna-gan", "cdm-base")}
there = {name: run.load().to("auto") for name, run in runs.items()}
gan = there["rna-gan"]
at_pixels = [f"train.seed={seed}", f"feature_mpp_um={gan.mpp_um:g}"]
runs["gemm-flow"] = train_preset("gemm-flow", data, preset, overrides=at_pixels)
flow = runs["gemm-flow"].load()
start = journeys.set_out(data, flow.transform, StainTexture(), px=gan.px, max_samples=max_samples, seed=seed)
reader = attention_pooling(start.train, start.val, seed=seed)
own = journeys.read_in_made_tiles(start, gan, data, n_tiles=n_tiles, seed=seed)
ways = {
    "RNA-GAN": (gan, reader),
    "RNA-CDM": (there["cdm-base"], reader),
    "RNA-GAN, back by the flow": (gan, flow),
    "RNA-GAN, reader of made tiles": (gan, own),
}
trips, reports = {}, {}
as_flow = flow.inputs(data, "test")
as_flow = as_flow.take([as_flow.sample_ids.index(name) for name in start.test.inputs.sample_ids])
for name, (tiles, back) in ways.items():
    trips[name], reports[name] = start.travel(
        tiles,
        back,
        inputs=as_flow if back is flow else None,
        encoder=tiles.encoder,
        n_tiles=n_tiles,
        n_boot=n_boot,
        seed=seed,
    )
    page.report(journeys.named(reports[name], name))
for name, key in (("RNA-GAN", "gan_round_trip"), ("RNA-CDM", "cdm_round_trip")):
    gain = journeys.gain_over_shuffled(reports[name])
    page.number(key, gain, label=f"{name}: correlation of genes within tissues that comes back, over shuffled pairs")
page.note(journeys.in_words(reports, reports["RNA-GAN"]))
for name in ("RNA-GAN", "RNA-CDM"):
    if not journeys.comes_back(reports[name]):
        page.not_converged(f"{name}: what is read off its tiles is not shown to be nearer to the own profile than to others")
n = f"{len(start.test)} held-out samples, {n_tiles} made tiles each"

# %% [markdown]
# ## Which genes, which cell types, how much of the latent?

# %%
ceilings = ("RNA-GAN", "RNA-GAN, back by the flow")  # one for each reader of real tiles
for what, words in (
    ("genes", "genes"),
    ("cells", "cell types, read off the profile by ridge regression"),
    ("latents", "dimensions of the beta-VAE's latent that both directions share"),
):
    page.figure(
        plots.intervals(
            journeys.side_by_side(reports, what, ceilings=ceilings),
            x_label="mean correlation within tissues",
            reference=0.0,
            reference_label="none",
        ),
        what,
        caption=f"Before and after, {words}: own pairs, and pairs shuffled within tissues; the ceiling is read off "
        f"real tiles. Of own pairs intervals resample "
        f"{reports['RNA-GAN'].genes.unit}, of shuffled ones they hold 95 % of the shuffles.",
        alt="Points with intervals, one row a journey and a route, one marker for own and one for shuffled pairs.",
        n=n,
    )
kinds = (
    reports["RNA-GAN"]
    .cells.table[[CEILING]]
    .join([report.cells.table[MADE].rename(name) for name, report in reports.items()])
)
page.table(kinds, caption="Correlation within tissues of each cell type: off real tiles, and through the tiles of each way")
page.figure(
    plots.scatter_against(
        journeys.gene_points(reports["RNA-GAN"], reports["RNA-GAN, reader of made tiles"]),
        x_label="r within tissues, read off real tiles",
        y_label="r within tissues, through RNA-GAN's tiles",
    ),
    "by_gene",
    caption="Each gene: how well it is read off real tiles, and off RNA-GAN's tiles by a reader that was fitted on such.",
    alt="Scatter plot of genes around the line of equality, marked by whether they follow.",
    n=n,
)

# %% [markdown]
# ## Tiles to RNA to tiles
#
# A profile is read off a sample's real tiles, and tiles are made of it. Are they nearer to the own real tiles than to those
# of other samples of the tissue? The ceiling: tiles made of the real RNA.

# %%
page.figure(
    plots.intervals(
        journeys.retrieval_rows(reports),
        x_label="rank of the right sample (1 perfect)",
        reference=0.5,
        reference_label="chance",
    ),
    "retrieval",
    caption="Rank of the right sample within its tissue, by all genes of what came back, and by all features of the tiles.",
    alt="Points with intervals, one row a journey, one marker for genes, tiles and the ceiling of tiles.",
    n=n,
)

# %% [markdown]
# ## Are the survivors those that they should be?
#
# The simulator knows which genes follow from the cells that tiles show, and which have their own noise, batch or a patient's
# own level. A gene that no cell tells should not survive; where one does, it was written into the tiles by other means.
# Real tissue has no such truth: there the table is missing.

# %%
if data.simulated:
    genes = start.test.genes
    expected = told.expected_by_fractions(data, start.test.inputs.sample_ids, genes)
    for name in ("RNA-GAN", "RNA-GAN, reader of made tiles"):
        truth = told.survivors_against_truth(
            trips[name].z, trips[name].back, expected, owners=told.gene_owners(data, genes),
            tissues=start.test.tissues, groups=start.test.groups, n_boot=n_boot, seed=seed,
        )  # fmt: skip
        page.report(journeys.named(truth, name))
        page.table(
            truth.table, caption=f"Genes by the programme that they mark, {name}: correlations within tissues (simulated)"
        )
        page.note(f"{name}. {truth.summary(MADE)} {truth.summary(CEILING)}")
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - Where real tiles are read well and made tiles are not, the generator lost the profile, not the reader.
# - A reader that was fitted on made tiles may find more in them: that much is in the pixels, though not as tissue shows it.
# - What real tiles do not tell cannot survive; the ceiling, not 1, is what a round trip is to be measured by.
#
# ## Limits
#
# - Generators after minutes of training at a few dozen pixels; features are 60 numbers of stain and texture.
# - The reader of made tiles may use signals that no pathologist sees.
# - On her2st all samples are spots of one section of one tumour, and a real sample is one tile.

# %%
page.close(runs=list(runs.values()))
