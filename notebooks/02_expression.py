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
#   question: What does preprocessing do to the profiles?
#   cohorts: all
#   needs: [01_cohorts]
#   demo_seconds: 30
# ---

# %% [markdown]
# # Expression
#
# **Question.** What does preprocessing do to the profiles?
#
# **What you will see.** The same test patients under this library's default transform and under the two published ones:
# how values are distributed, whether the order of values survives, what a decoder that ends in tanh could never reach,
# and how much of the variance between patients is the tissue.
#
# **Cost.** Seconds, below 1 GB.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split and, for the simulated cohort, of the patients
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/02_expression

# %% tags=["resolve"]
import pandas as pd

from rnasynth import plots
from rnasynth.data.transform import Transform, default_scale, transforms_for
from rnasynth.evaluation import describe
from rnasynth.pages import Page

page = Page.open("02_expression", preset=preset, cohort=cohort, seed=seed, out=out)

# %% [markdown]
# ## Three transforms, fitted on training patients only
#
# `log2p1_zscore` is the default: $z = (\log_2(x + 1) - \mu) / \sigma$ with mean and standard deviation of the training
# patients. `paper_rna_gan` is the published natural logarithm with $\log 0 := 0$, `paper_rna_cdm` the plain published
# logarithm; both then z-score. A matrix that arrives z-scored within its cohort is taken as it is.

# %%
data = page.load()
train, test = data.only("train").profiles, data.only("test").profiles
names = transforms_for(train)
fitted = {name: Transform.fit(train, name=name, scale=default_scale(train)) for name in names}
z = {name: transform.apply(test) for name, transform in fitted.items()}

# %%
page.figure(
    plots.histograms(
        {name: {"test": adata.X} for name, adata in z.items()},
        x_label={name: "z-score (training mean and SD)" for name in z},
    ),
    "distributions",
    caption="All values of the test samples under each transform, clipped for display at 0.2 and 99.8 %.",
    alt="One histogram a transform of the z-scores of all genes in the test samples.",
    n=f"{test.n_obs} test samples x {test.n_vars} genes",
)

# %% [markdown]
# ## Is the order of values kept?
#
# With $\log 0 := 0$ a gene measured at 0.5 lands *below* a gene that was not seen at all, since $\ln 0.5 < 0$.

# %%
raw = test[:, list(fitted[names[0]].genes)].X
shares = describe.zero_shares(raw)
page.number("share_zero", shares["zero"], label="share of exact zeros")
page.number("share_below_one", shares["below_one"], label="share strictly between 0 and 1, before any library scaling")
rows = []
for name, adata in z.items():
    broken = describe.order_broken(raw, adata.X)
    reach = describe.out_of_tanh_reach(adata.X)
    page.number(f"order_broken_{name}", broken, label="share of (zero, positive) pairs turned round")
    page.number(f"out_of_tanh_reach_{name}", reach, label="share of z-scores outside [-1, 1]")
    rows.append({"transform": name, "zero-positive pairs turned round": broken, "z-scores outside [-1, 1]": reach})
page.table(pd.DataFrame(rows).set_index("transform"), caption="What each transform does to order and range")

# %% [markdown]
# ## Genes that another platform did not measure
#
# Both papers set them to zero *before* the transform, which puts a gene that was not measured at the far end of its scale;
# the default here is the training mean. A third of the genes is taken out of the test samples and compared with what had
# been measured.

# %%
rows = []
for name, transform in fitted.items():
    error = describe.missing_gene_error(transform, test, share=1 / 3, seed=seed)
    page.number(f"missing_gene_error_{name}", error, unit="z-score", label="error of the z-scores that are filled in")
    rows.append({"transform": name, "error of filled-in genes (RMSE, z-score)": error})
page.table(pd.DataFrame(rows).set_index("transform"), caption="What each rule for missing genes costs")

# %% [markdown]
# ## What is left between patients: tissue, and the rest
#
# The principal components are those of the training samples; the test samples are projected on them.

# %%
pictures, axes, rows = {}, {}, []
for name, transform in fitted.items():
    points, explained = describe.principal_components(transform.apply(train), z[name], 10, seed=seed)
    tissue = list(test.obs["tissue"].astype(str))
    between = describe.variance_by_group(points, tissue)
    page.number(f"tissue_share_{name}", between, label="variance between tissues, ten components")
    pictures[name] = (points[:, :2], tissue)
    axes[name] = (f"PC 1 ({100 * explained[0]:.0f} %)", f"PC 2 ({100 * explained[1]:.0f} %)")
    rows.append({"transform": name, "variance between tissues": between, "within": 1 - between})
page.figure(
    plots.embedding(pictures, axis_names=axes),
    "components",
    caption="Test samples on the first two principal components of the training samples, by tissue. The table below "
    "holds the share of variance that the colours suggest.",
    alt="Scatter plots of test samples on two principal components, one a transform, coloured and marked by tissue.",
    n=f"{test.n_obs} test samples",
)
page.table(pd.DataFrame(rows).set_index("transform"), caption="Variance of the test samples on ten training components")
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - The default transform keeps the order of all values; the published $\log 0 := 0$ does not wherever values lie between
#   0 and 1, and the table above says how often that happens here.
# - A decoder that ends in tanh cannot reach the share of z-scores in the table's last column, whatever it learns.
#
# ## Limits
#
# - The variance between tissues holds every difference between them, batch included.

# %%
page.close()
