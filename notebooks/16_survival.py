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
#   question: Is the latent prognostic?
#   cohorts: [simulated, tcga-xena, porpoise]
#   needs: [04_beta_vae]
#   demo_seconds: 45
# ---

# %% [markdown]
# # Survival
#
# **Question.** Is the latent prognostic?
#
# **What you will see.** Cox models on the beta-VAE's latent, on as many principal components, and on age, stage and sex,
# compared by concordance on patients that took part in nothing; risk groups of such patients with their log-rank test; the
# check of proportional hazards; and what the same pipeline gives for outcomes that were shuffled between patients.
#
# **Cost.** Under a minute on two cores in `demo` (a minute and a half for the thousands
# of patients of porpoise), below 2 GB.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the folds and of training
folds: int = 5  # cross-validation, by patient
demo_steps: int = 450  # training steps of each fold's beta-VAE in demo; 0: as long as the preset says
n_permutations: int = 20  # outcomes shuffled within the tissue, for the control
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/16_survival

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.evaluation.survival import controls as survival_controls
from rnasynth.evaluation.survival import study as survival
from rnasynth.pages import Page
from rnasynth.systems.training import train_preset

page = Page.open(
    "16_survival",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    folds=folds,
    demo_steps=demo_steps,
    n_permutations=n_permutations,
)

# %% [markdown]
# ## Folds in which nothing sees the held-out patients
#
# In each fold the beta-VAE, the principal components, the scaling, the choice of factors, their number, the penalty and the
# cut between risk groups are made without the held-out patients. Baseline hazards are those of each tissue (a stratified
# Cox model), and concordance counts only pairs of one fold and tissue: telling tissues apart gains nothing.
# Number of factors and penalty maximise the partial likelihood of inner folds {cite}`verweij1993`.
# Patients whose survival is unknown are left out and counted. The intervals resample patients within their fold, with
# the fitted models as they are: what another training would change is not in them, and as folds share most of their fitting
# patients, they can be a little too narrow.

# %%
data = page.load()
parts = data.folds(folds, seed=seed)
training = [f"train.seed={seed}"]
if preset == "demo" and demo_steps:
    training += ["train.epochs=null", f"train.steps={demo_steps}"]
runs = [train_preset("beta-vae", part, preset, overrides=training) for part in parts]
study = survival.cross_validated(parts, [run.load() for run in runs], seed=seed)
for note in study.notes:
    page.note(note)
page.report(study)
page.table(study.table, caption="Concordance within tissue on held-out patients, 95 % intervals over patients")
page.figure(
    plots.intervals(
        study.models, x_label="concordance on held-out patients, 95 % interval", reference=0.5, reference_label="chance"
    ),
    "concordance",
    caption="Concordance of the models, pooled over the held-out patients of all folds, compared within tissue and fold.",
    alt="Points with intervals, one row a model, with a line at chance.",
    n=study.n,
)
page.table(
    study.differences,
    caption="The same resamples, subtracted: what the latent adds to the covariates, and what it has over a linear code",
)

# %% [markdown]
# ## Risk groups of held-out patients
#
# A held-out patient is at high risk above the median risk of the fitting patients of the same fold and tissue, so both
# groups have a like mix of tissues. The log-rank test adds up deaths observed less expected over tissues.

# %%
groups = survival.risk_groups(study)
page.number("logrank_p", groups.logrank_p, label="log-rank test of held-out risk groups, stratified by tissue")
page.figure(
    plots.kaplan_meier(groups.curves, x_label="months", at_risk=groups.at_risk),
    "risk_groups",
    caption=f"Risk groups of held-out patients by the model {study.headline}: {groups.n}. Bands: 95 %, log-log. Ticks (none "
    "on a curve with more than 200): patients alive at last contact. Log-rank test stratified by tissue: "
    f"p = {groups.logrank_p:.2g}.",
    alt="Two Kaplan-Meier curves with bands and the numbers at risk below.",
    n=study.n,
)
hazards = survival.proportional_hazards(study)
page.number(
    "smallest_p_proportional", hazards["p (Holm)"].min(), label="smallest p of the check of proportional hazards, Holm"
)
page.table(
    hazards,
    caption=f"Check of proportional hazards (scaled Schoenfeld residuals) of the model {study.headline}, on the patients "
    "that it was fitted on in the first fold; a small p speaks against a constant hazard ratio",
)

# %% [markdown]
# ## The control: outcomes shuffled within the tissue
#
# The whole pipeline after the latent runs again on shuffled outcomes. There is nothing to find, so the mean must come back
# at 0.5 (its 95 % interval misses 0.5 in one of twenty such controls). Beside it the classic mistake: factors chosen on all
# patients, the held-out ones included, before the folds are made.

# %%
control = survival_controls.permuted_control(study, n_permutations=n_permutations, seed=seed)
page.number("concordance_permuted", control.interval, label="latent, shuffled outcomes", against=0.5)
page.number("concordance_permuted_leaky", control.leaky, label="the same, factors chosen on all patients", against=0.5)
page.table(control.table, caption="Shuffled outcomes: factors chosen inside the folds, and (wrongly) on all patients")
if not control.interval.low <= 0.5 <= control.interval.high:
    page.note(f"The control is off: {control.interval} does not include 0.5. Run it with more shuffles before reading on.")
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - A latent that predicts survival better than chance need not add anything to age, stage and sex: read the difference and
#   its interval, not the two concordances.
# - Whatever looks at an outcome belongs inside the fold. Shuffled outcomes show at once where something did not.
#
# ## Limits
#
# - Concordance measures order, not calibration. TCGA's follow-up is short, and its deaths are of all causes.
# - The simulated hazard is log-linear by construction. Its planted value, where the table has it, is a ceiling on average,
#   not in each sample of patients.

# %%
page.close(runs=runs)
