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
#   question: Does moving in the latent mean something?
#   cohorts: [simulated, tcga-xena, rtcga, gtex, tcga, porpoise]
#   needs: [04_beta_vae]
#   demo_seconds: 60
# ---

# %% [markdown]
# # Latent arithmetic
#
# **Question.** Does moving in the latent mean something?
#
# **What you will see.** Profiles of a tissue made from its centroid and draws around it, test patients moved from one
# tissue to another by the difference of centroids, and the way between two patients. A map shows them; a classifier that
# was trained on real profiles, marker genes and distances to the training patients judge them.
#
# **Cost.** Under a minute on two cores in `demo`, below 2 GB.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, of training and of the draws
n_generated: int = 100  # generated profiles a tissue
n_markers: int = 20  # marker genes a tissue, chosen on the training patients
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/05_latent_arithmetic

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.evaluation import latent, latent_checks, projection
from rnasynth.pages import Page
from rnasynth.systems.training import train_preset

page = Page.open(
    "05_latent_arithmetic", preset=preset, cohort=cohort, seed=seed, out=out, n_generated=n_generated, n_markers=n_markers
)

# %% [markdown]
# ## Centroids, draws, shifts
#
# A centroid is the mean latent of a tissue's training patients. The paper generates a tissue by its centroid plus draws
# from the latent's prior; here draws with the covariance that the tissue's own training patients have stand beside them.
# A test patient is moved by adding the difference of two centroids.

# %%
data = page.load()
run = train_preset("beta-vae", data, preset, overrides=[f"train.seed={seed}"])
vae = run.load()
train, test = data.only("train").profiles, data.only("test").profiles
centres = latent.centroids(vae, train)
sets = {
    "real (test)": test,
    "reconstructed": latent.reconstructed(vae, test),
    "generated, draws of the tissue": latent.generate(vae, centres, n=n_generated, seed=seed, draws="tissue"),
    "generated, draws of the prior (published)": latent.generate(vae, centres, n=n_generated, seed=seed, draws="prior"),
    "shifted": latent.shift_to_others(vae, test, centres),
}

# %%
umap = projection.fit_umap(vae.transform.apply(train), seed=seed)
page.figure(
    plots.map_of_sets(
        {name: umap.place(vae.transform.apply(p) if name == "real (test)" else p) for name, p in sets.items()}
    ),
    "map",
    caption="UMAP fitted on the training patients' z-scores; every set is projected on it, none took part in the fit. "
    "Shifted profiles carry the colour of the tissue they were moved to. A picture, not the evidence.",
    alt="Five scatter plots on one map: real, reconstructed, twice generated and shifted profiles, coloured by tissue.",
    n=f"{train.n_obs} training and {test.n_obs} test profiles, {n_generated} generated a tissue",
)

# %% [markdown]
# ## Which tissue does a classifier see?
#
# Logistic regression on the z-scores of the training patients. Its accuracy on real test patients is the control: what it
# cannot tell there it cannot tell of a made profile.

# %%
named = latent_checks.tissue_accuracy(vae, train, sets, seed=seed)
for name, interval in named.numbers.items():
    page.number(name, interval, label=f"share named as the wanted tissue: {named.labels[name]}")
page.figure(
    plots.intervals(
        named.by_tissue,
        x_label="share named as the wanted tissue, 95 % interval",
        reference=named.chance,
        reference_label="most frequent tissue",
    ),
    "tissue_named",
    caption="Share of profiles that a classifier of real training patients names as the wanted tissue.",
    alt="Points with intervals, one row a tissue, one marker a set of profiles.",
    n=named.n,
)

# %% [markdown]
# ## Do marker genes move as they should?

# %%
markers = latent_checks.marker_change(vae, train, test, sets["shifted"], n_markers=n_markers)
for name, interval in markers.numbers.items():
    page.number(name, interval, label=markers.labels[name])
page.figure(
    plots.scatter_against(
        markers.points,
        x_label="real difference of the tissues' test means (z-score)",
        y_label="change of the shifted patients (z-score)",
        identity=True,
    ),
    "markers",
    caption="Marker genes of each pair of tissues: what separates real test patients, and what the shift did.",
    alt="A scatter plot of marker genes around the identity line.",
    n=f"{len(markers.points)} gene and pair combinations",
)

# %% [markdown]
# ## Are generated profiles copies?
#
# Distance of each to its nearest training patient, in the first principal components of the training patients; beside it
# that of real test patients. Far below it would be memorised, far above it unlike any patient.

# %%
copies = latent_checks.nearest_training(vae, train, sets, seed=seed)
for name, interval in copies.numbers.items():
    page.number(name, interval, label=copies.labels[name])
page.figure(
    plots.histograms({"": copies.distances}, x_label={"": "distance to the nearest training patient"}, bins=40),
    "nearest",
    caption="Distance to the nearest training patient, real test patients beside generated ones.",
    alt="Overlaid step histograms of nearest-neighbour distances.",
    n=f"{test.n_obs} test patients",
)
page.table(copies.table, caption="Nearest training patients")

# %% [markdown]
# ## The way between two patients, and the truth where it is known
#
# Between the first test patients of two tissues the classifier's probability should pass from one to the other. On the
# simulated cohort the simulator says what the same patient, with the same noise, looks like in the other tissue.

# %%
way = latent_checks.interpolation(vae, train, test, steps=11, seed=seed)
page.figure(
    plots.curves({"probability (classifier)": way.lines}, x_label="step on the way (percent)"),
    "way",
    caption=f"From a test patient of {way.start} to one of {way.end}, in eleven equal steps of the latent.",
    alt="Two lines that cross: the probability of the first tissue falls, that of the second rises.",
    n="two test patients",
)
if data.simulated:
    truth = latent_checks.shift_against_truth(vae, data, centres)
    for name, interval in truth.numbers.items():
        page.number(name, interval, label=truth.labels[name])
    page.table(truth.table, caption="Shifted patients beside what the simulator makes of them in the other tissue")
if not named.holds:
    page.not_converged("the classifier does not name the shifted or generated profiles as the wanted tissue")
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - A map can show clusters that agree while the profiles do not; the classifier, the genes and the distances decide.
#
# ## Limits
#
# - The classifier reads z-scores of the same cohort: batch differences between tissues help it, on real profiles and on
#   made ones alike.

# %%
page.close(runs=[run])
