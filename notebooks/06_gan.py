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
#   question: What does a GAN make without RNA, and from narrow noise?
#   cohorts: [simulated, her2st]
#   needs: [03_tiles, 04_beta_vae]
#   demo_seconds: 130
# ---

# %% [markdown]
# # GANs without RNA
#
# **Question.** What does a GAN make without RNA, and from narrow noise?
#
# **What you will see.** Three generators in a race that changes nothing but what they are fed: Gaussian noise, the narrow
# noise that RNA-GAN adds to its latent, and that noise with the latent. Quality over the steps of training with several
# seeds; how many steps each needs; tiles of each; how varied they are, tissue by tissue; checkerboards; and what more tiles
# a patient bring.
#
# **Cost.** About two minutes on two cores in `demo`.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, and the first seed of training
seeds: int = 3  # trainings of each generator
steps: int = 0  # steps of each training; 0: the preset's own, in demo 200
snapshots: int = 5  # points of the curves
judged_tiles: int = 320  # tiles of every set that is compared, where there are as many held-out ones
network: str = "stain-texture"  # feature network; a .safetensors file is Inception's converted weights
tiles_a_patient: str = "2,8,24"  # tiles of a sample that the GAN is trained on, to compare
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/06_gan

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.data.held_tiles import hold_tiles
from rnasynth.evaluation import race
from rnasynth.evaluation.blinding import blind_tiles
from rnasynth.evaluation.fidelity.diversity import spread
from rnasynth.evaluation.fidelity.tissues import recall_by_tissue, tissue_shares
from rnasynth.evaluation.race import studies
from rnasynth.features.networks import feature_network
from rnasynth.pages import Page
from rnasynth.plots import race as race_plots

page = Page.open(
    "06_gan",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    seeds=seeds,
    steps=steps,
    snapshots=snapshots,
    judged_tiles=judged_tiles,
    network=network,
    tiles_a_patient=tiles_a_patient,
)

# %% [markdown]
# ## What the narrow noise is
#
# RNA-GAN's input is the latent of a profile plus uniform noise in [-0.3, 0.3]. To show that it is the latent that guides it,
# its authors train a GAN on that noise alone (Fig. 4C of the paper) and see no tissue come out. The noise is a sixth as wide
# as Gaussian noise, but not poorer: it has as many dimensions. Width matters only where the generator keeps it, and a
# normalisation after its first layer divides it out.

# %%
data = page.load()
effects = studies.narrowing(seed=seed)
page.report(effects)
page.note(effects.summary())

# %% [markdown]
# ## The race
#
# Seeds, steps, batch, augmentation, networks and critic are the same, and the library refuses runs that are not. No critic
# sees the profile here (page 07 has one that does). Each snapshot makes tiles for held-out patients, with the same noise;
# their features are compared with held-out real tiles, by Frechet distance {cite}`fid2017` and kernel distance
# {cite}`kid2018`. The floor is real tiles of training patients.

# %%
held = hold_tiles(data, 32) if preset == "demo" else data
runs = race.train_arms(held, preset, seeds=range(seed, seed + seeds), steps=steps, snapshots=snapshots)
config = runs[race.GAN][0].config
kind = {"px": config.tile_px, "restained": config.same_stain, "network": feature_network(network)}
judge = race.Judge.of(held, **kind, tiles=judged_tiles)
found = race.report(race.judge_runs(runs, judge), judge.floor())
n = f"{seeds} seeds, {judge.n} tiles a point, {len(judge.profiles)} held-out samples"
page.figure(
    race_plots.curves_with_range(found.panels(), x_label="step", floors=found.floors()),
    "race",
    caption="Distance of generated to held-out real tiles over the steps of training: mean of the seeds, band from smallest"
    " to largest; dashed: real tiles of training patients or sections (compare RNA-GAN, Fig. 5). Logarithmic.",
    alt="Two panels of lines with bands, one line a generator; a dashed line where real tiles of others lie.",
    n=n,
)
page.report(found)
page.number("epochs_gan_lung", found.numbers["steps_gan"], unit="steps", label="steps, plain GAN")
ratio = found.numbers["steps_ratio_any_length"]
page.number("epochs_rna_gan_lung", ratio, unit="of the GAN's steps", against=1.0, label="ratio, wherever the race stops")
page.number("gan_narrow_fails", found.numbers["gap_narrow_noise_gan"], label="Frechet distance, narrow noise minus plain")
page.note(found.summary())

# %% [markdown]
# ## What they make
#
# The first held-out samples in the order of the cohort, one tile each, the first seed, the same noise: no selection.

# %%
models = {name: several[0].load() for name, several in runs.items()}
sets = {name: judge.features(model, seed=seed, name=name) for name, model in models.items()}
recall = recall_by_tissue(judge.test, judge.train, sets, judge.scale, seed=seed)
if recall.nothing_reached:
    page.not_converged(
        f"in every tissue fewer real tiles are within reach of generated ones than {recall.threshold:.0%} of those within "
        "reach of other real ones (recall, below): this shows starts, not what GANs can"
    )
shown = blind_tiles(models, held, count=8, seed=seed)
page.figure(
    plots.tile_grid({"real": shown.real, **shown.made}, mpp_um=shown.mpp_um),
    "samples",
    caption=f"Real tiles of held-out samples above generated ones. {shown.handling} RNA-GAN alone is told whose to make.",
    alt="Rows of small tissue tiles: real ones, then those of the three generators.",
    n=f"{len(shown.real)} tiles a row",
)

# %% [markdown]
# ## As varied as patients are?
#
# Do two tiles of a patient resemble each other more than tiles of two patients of the same tissue? In real tissue they
# should. A generator that is told nothing has no patients: its two distances differ by chance alone. Recall asks which real
# tiles lie within reach of a generated one {cite}`precisionrecall2019`, tissue by tissue: the paper's one model of two
# tissues made one of them only.

# %%
distances = spread({"real": judge.test, **sets}, judge.scale, seed=seed)
page.report(distances)
page.figure(
    plots.intervals(distances.rows(), x_label=f"mean distance of features ({judge.network.name})"),
    "spread",
    caption=f"Mean distance of two tiles within and between {distances.unit}, 95 % intervals over {distances.unit}. Where a "
    "sample has one real tile, there is no distance within.",
    alt="Points with intervals: distances within and between patients, one marker a set of tiles.",
    n=n,
)
page.report(recall)
page.figure(
    plots.intervals(recall.rows(), x_label="recall: share of held-out real tiles within reach"),
    "recall",
    caption="Recall of held-out real tiles by tissue, 95 % intervals over patients, over tiles where there are fewer than "
    "three; first the floor, real tiles of training patients or sections. Sets of equal size.",
    alt="Points with intervals, one row a tissue, one marker a generator and one for real tiles.",
    n=n,
)
page.note(recall.summary())
like = tissue_shares(judge.train, {"real": judge.test, **sets}, judge.scale, seed=seed)
page.report(like)
if not recall.nothing_reached:
    least, threshold = like.numbers["least_share_gan"], recall.threshold * like.even
    page.number("one_model_collapses", least, against=threshold, label="least share of a tissue, GAN")
page.figure(
    plots.intervals(
        like.rows(), x_label="share of the five nearest training tiles", reference=like.even, reference_label="even shares"
    ),
    "tissues",
    caption="Tissue of the training tiles that a tile is most like, 95 % intervals as above; each tissue that tiles"
    " were made for counts the same. It can be asked of tiles that are like no real one, too.",
    alt="Points with intervals, one row a tissue, one marker a set of tiles; a dashed line at even shares.",
    n=n,
)

# %% [markdown]
# ## Checkerboards
#
# Doubling a map by transposed convolution, as published, can leave a grid {cite}`checkerboard2016`: power at half and a
# quarter of the sampling frequency that the frequencies beside them lack. Untrained networks show what the form alone gives.

# %%
grids = studies.checkerboards(held, preset, judge, runs[race.GAN][0], seed=seed, steps=steps, snapshots=snapshots)
page.figure(
    race_plots.spectra(grids.maps),
    "spectra",
    caption="Mean power spectra of optical density, frequency 0 in the middle. A grid is bright points at the edges (period"
    " of 2 px) and half-way (4 px).",
    alt="Five square maps: real tiles, untrained and trained generators; single bright points are the grid's frequencies.",
    n=n,
)
page.figure(
    plots.intervals(grids.rows(), x_label="log10 of power over neighbours'", reference=0.0, reference_label="no grid"),
    "checkerboard",
    caption="Power at a grid's frequencies over that of the eight neighbouring ones; 95 % intervals over patients, tiles"
    " or untrained networks.",
    alt="Points with intervals, one row a set of tiles, one marker a period.",
    n=n,
)
page.report(grids)
excess = {name: grids.excess(name) for name in studies.SETS}
page.number(
    "checkerboard_seen", excess["transposed, trained"], against=excess["real, held out"].high, label="period of 2 px"
)
page.note(grids.summary())

# %% [markdown]
# ## More tiles a patient?
#
# The paper takes 600 tiles a slide, after trying other numbers. Here the plain GAN, with more and fewer tiles of each sample
# and as many steps.

# %%
counts = [int(count) for count in tiles_a_patient.split(",")]
more = studies.quality_by_tiles(held, preset, judge, counts, seeds=[seed, seed + 1], steps=steps, snapshots=snapshots)
if more.runs:
    page.table(more.shown(), caption="The plain GAN by tiles a sample: mean and range of two training seeds")
    page.number("more_tiles_are_better", more.gain, label="Frechet distance, most minus fewest tiles")
page.note(more.summary())
because = dict.fromkeys(
    ("epochs_gan_brain", "epochs_rna_gan_brain"), "the rows for lung ask the same; here one model has all tissues"
)
because["fid60k_gan"] = "the weights of ImageNet's Inception are not part of the book (see the parameter network)"
if recall.nothing_reached:
    because["one_model_collapses"] = "too few tiles are like real ones yet; which tissue they are most like is shown"
if not more.runs:
    because["more_tiles_are_better"] = "no sample here has tiles enough to tell"
page.verdicts(because)

# %% [markdown]
# ## Take-aways
#
# - A count of epochs "by eye" cannot be compared between two trainings that differ in more than the input. Where they do
#   not, the remark under the race says what is left of the difference, and whether seeds agree.
# - That a GAN fails on narrow noise would say little about RNA: the first thing to ask is what the generator's normalisation
#   does with the width.
# - A recall over all tissues, or a Frechet distance, is one number and can hide a tissue that is never made; so recall and
#   likeness are asked tissue by tissue.
#
# ## Limits
#
# - Hundreds of steps of a narrow network at 32 px in `demo`, with settings chosen by the plain GAN's distance to test tiles
#   of the simulated cohort of seed 0 (another seed is the cleaner judge): who is ahead later is not seen. The kept quality
#   counts, for distances swing from step to step.
# - A few seeds give a range, not an interval of confidence.
# - The published GANs are one model a tissue, at 256 px, with 600 tiles a slide, judged by eye.

# %%
page.close(runs=[*(run for several in runs.values() for run in several), grids.run, *more.runs])
