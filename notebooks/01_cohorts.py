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
#   question: Who is in, what is paired, and who may be compared with whom?
#   cohorts: all
#   needs: []
#   demo_seconds: 30
# ---

# %% [markdown]
# # Cohorts
#
# **Question.** Who is in, what is paired, and who may be compared with whom?
#
# **What you will see.** How many patients, profiles and tiles there are, how they are split for everything that follows
# in this book, a proof that no patient stands in two splits, and which cohorts speak the same language of expression.
#
# **Cost.** The first run builds the cohort (simulated: about a minute on two cores, below 1 GB); later runs take seconds.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split and, for the simulated cohort, of the patients
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/01_cohorts

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.data.cohort import comparability
from rnasynth.evaluation import describe
from rnasynth.pages import Page

page = Page.open("01_cohorts", preset=preset, cohort=cohort, seed=seed, out=out)

# %% [markdown]
# ## Who is in
#
# The split is made once, by *split group* (the patient; where all images come from one tumour, the section), stratified by
# tissue, stored beside the cohort, and asserted by every training and every evaluation.

# %%
data = page.load()
counts = describe.composition(data.profiles.obs)
groups = data.profiles.obs["split_group"].nunique()
page.number("split_groups", groups, label="split groups")
page.number("profiles", data.profiles.n_obs, label="profiles")
page.number("genes", data.profiles.n_vars, label="genes")
page.number("tiles", len(data.tiles) if data.tiles is not None else 0, label="tiles")
page.figure(
    plots.composition(counts, unit="split groups"),
    "composition",
    caption="Split groups of each tissue in the training, validation and test sets.",
    alt="Stacked horizontal bars, one a tissue, each divided into training, validation and test groups.",
    n=f"{groups} split groups",
)

# %% [markdown]
# ## What is paired

# %%
pairs = describe.pairing(data)
page.number("paired_profiles", int(pairs.loc["all", "with_tiles"]), label="profiles with tiles")
page.table(pairs, caption="Patients, profiles and tiles of each tissue")

# %% [markdown]
# ## No patient in two splits
#
# Off the diagonal every entry must be zero; training refuses to start otherwise.

# %%
overlap = describe.split_overlap(data.profiles.obs)
data.check_splits()
page.number("groups_in_two_splits", int(overlap.to_numpy().sum() - overlap.to_numpy().diagonal().sum()))
page.table(overlap.rename_axis("split groups shared by"), caption="Split groups shared by each two splits")

# %% [markdown]
# ## Who may be compared with whom
#
# Two cohorts may be compared gene by gene only where their units can be brought to one. A matrix that was z-scored within
# its cohort has lost the difference between cohorts and can never be used to tell them apart.

# %%
page.table(comparability(), caption="Cohorts that this book knows, their units and what they may be compared with")
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - Everything that is fitted later (scaler, gene choice, UMAP, latent, generator) sees the training groups above, and no
#   others.
# - The number of split groups, not of tiles, is the sample size of every interval in this book.
#
# ## Limits
#
# - Where one tumour gives all sections, a split by section says nothing about a new patient; the banner says so.
# - The simulated cohort is a cartoon with known truth: it proves measurements, not biology.

# %%
page.close()
