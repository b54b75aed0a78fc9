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
#   cohorts: [simulated, tcga-xena, gtex]
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
n_shifted: int = 5000  # shifted profiles at most: a patient is moved to each other tissue
n_markers: int = 20  # marker genes a pair of tissues, chosen on the training patients
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/05_latent_arithmetic

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.evaluation import latent
from rnasynth.evaluation.latent import checks as latent_checks
from rnasynth.evaluation.latent import projection
from rnasynth.evaluation.latent import truth as latent_truth
from rnasynth.pages import Page
from rnasynth.systems.training import train_preset

page = Page.open(
    "05_latent_arithmetic",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    n_generated=n_generated,
    n_shifted=n_shifted,
    n_markers=n_markers,
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
    "real": vae.transform.apply(test),
    "reconstructed": latent.reconstructed(vae, test),
    "generated": latent.generate(vae, centres, n=n_generated, seed=seed, draws="tissue"),
    "prior": latent.generate(vae, centres, n=n_generated, seed=seed, draws="prior"),
    "shifted": latent.shift_to_others(vae, test, centres, limit=n_shifted, seed=seed),
}
page.table(latent_checks.overview(sets, train=train), caption="Profiles that are compared, per wanted tissue")

# %%
umap = projection.fit_umap(vae.transform.apply(train), seed=seed)
page.figure(
    plots.map_of_sets(
        {latent_checks.NAMES[name]: (umap.place(made), made.obs["tissue"]) for name, made in sets.items()},
        background=umap.fitted,
    ),
    "map",
    caption="UMAP fitted on the training patients' z-scores (grey); every set is placed on it, none took part in the fit. "
    'Shifted profiles carry the colour of the tissue they were moved to; "generated" has draws of the tissue\'s own '
    'spread, "generated, prior" those of the paper. A picture, not the evidence.',
    alt="Five scatter plots on one map: real, reconstructed, twice generated and shifted profiles, coloured by tissue.",
    n=f"{train.n_obs} training and {test.n_obs} test profiles, {n_generated} generated a tissue, "
    f"{sets['shifted'].n_obs} shifted",
)

# %% [markdown]
# ## Which tissue does a classifier see?
#
# Logistic regression on 50 principal components of the training patients' z-scores. Its accuracy on real test patients is
# the control: what it cannot tell there it cannot tell of a made profile.

# %%
named = latent_checks.tissue_accuracy(vae, train, sets, seed=seed)
page.report(named)
page.number("chance", named.chance, label="share that always the same answer would reach, largest of the sets")
page.number(
    "latent_shift_lands",
    named.numbers["tissue_named_shifted"],
    against=named.chance,
    label="share of shifted profiles named as the wanted tissue, against chance",
)
page.figure(
    plots.intervals(
        named.by_tissue,
        x_label="share named as the wanted tissue, 95 % interval",
        reference=named.chance,
        reference_label="always the same answer",
    ),
    "tissue_named",
    caption="Share of profiles that a classifier of real training patients names as the wanted tissue.",
    alt="Points with intervals, one row a tissue, one marker a set of profiles.",
    n=f"{test.n_obs} test patients, {n_generated} generated profiles a tissue",
)
page.table(latent_checks.number_table(named.numbers, named.labels), caption="Tissue seen, all tissues, 95 % intervals")
if not named.holds:
    page.not_converged("the classifier does not name the shifted or generated profiles as the wanted tissue")

# %% [markdown]
# ## Do marker genes move as they should?
#
# Markers of a pair of tissues are its genes of largest standardised difference among the training patients. The real
# difference is that of test patients, the change that from a patient's reconstruction to its shifted profile. Random
# directions of the latent, as long as the shift, are the control.

# %%
markers = latent_truth.marker_change(vae, centres, train, test, sets["shifted"], n_markers=n_markers, seed=seed)
page.report(markers)
page.figure(
    plots.scatter_against(
        markers.points,
        x_label="real difference of the tissues' test means (z-score)",
        y_label="mean change of the shifted patients (z-score)",
    ),
    "markers",
    caption="Marker genes of each ordered pair of tissues: what separates real test patients, and what the shift did to "
    "them. Colour and marker: the tissue moved to.",
    alt="A scatter plot of marker genes around the line of equal change.",
    n=f"{len(markers.points)} combinations of gene and pair",
)
page.table(
    latent_checks.number_table(markers.numbers, markers.labels),
    caption="Marker genes: 95 % intervals over test patients, in the last row over random directions",
)

# %% [markdown]
# ## Are generated profiles copies?
#
# Distance of each to its nearest training patient, in the first principal components of the training patients; beside it
# that of real test patients. Near nought would be memorised, far above the real ones unlike any patient. A decoder leaves
# out noise, and so all that it makes, also of test patients, lies nearer than real profiles do; a copy is therefore asked
# to be much nearer to one training patient than to the next one, too.

# %%
copies = latent_checks.nearest_training(vae, train, sets, seed=seed)
page.report(copies)
page.figure(
    plots.box_by_group(copies.distances, x_label="distance to the nearest training patient (z-score)"),
    "nearest",
    caption="Distance to the nearest training patient in their principal components: median, quartiles, 5 and 95 %.",
    alt="Box plots of distances, one a set of profiles, the training patients' distances to each other first.",
    n=f"{train.n_obs} training and {test.n_obs} test patients, {n_generated} generated a tissue",
)
page.table(copies.table, caption="Nearest training patients")

# %% [markdown]
# ## The way between two patients, and the truth where it is known
#
# Between test patients of two tissues the classifier's probability should pass from one to the other, and touch no third.
# On the simulated cohort the simulator says what the same patient, with the same noise, looks like in the other tissue.

# %%
way = latent_checks.interpolation(vae, train, test, steps=11, seed=seed)
page.report(way)
page.figure(
    plots.curves({"probability (classifier)": way.lines}, x_label="share of the way (percent)"),
    "way",
    caption=f"From the first test patient of {way.start} to that of {way.end}, in eleven equal steps of the latent.",
    alt="Two lines over the way: the probability of the first tissue and that of the second.",
    n=f"two test patients; the number beside it is over {way.n} ways",
)
page.table(latent_checks.number_table(way.numbers, way.labels), caption="Ways between random pairs of test patients")
if data.simulated:
    truth = latent_truth.shift_against_truth(vae, data, centres, seed=seed)
    page.report(truth)
    page.table(truth.table, caption="Shifted test patients beside what the simulator makes of them in the other tissue")
    page.note(truth.summary)
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - A map can show clusters that agree while the profiles do not; the classifier, the genes and the distances decide.
# - That a shifted profile is of the wanted tissue says nothing of the patient in it: the mean profile of that tissue would
#   pass too. What is left of the patient can only be told where the truth is known.
#
# ## Limits
#
# - The classifier reads z-scores of the same cohort: batch differences between tissues help it, on real profiles and on
#   made ones alike.
# - The simulator's truth holds each gene's own noise, which no short latent carries: adding the difference of the mean
#   profiles to a patient's own profile keeps it, and is the way of shifting to beat.
# - Profiles from a decoder have less noise than patients, so that a classifier may find them easier than real ones.

# %%
page.close(runs=[run])
