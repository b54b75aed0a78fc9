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
#   demo_seconds: 60
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
# **Cost.** Under a minute on two cores in `demo`, below 2 GB.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the folds and of training
folds: int = 5  # cross-validation, by patient
n_permutations: int = 20  # outcomes shuffled within the tissue, for the control
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/16_survival

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.evaluation import survival
from rnasynth.pages import Page
from rnasynth.systems.training import train_preset

page = Page.open("16_survival", preset=preset, cohort=cohort, seed=seed, out=out, folds=folds, n_permutations=n_permutations)

# %% [markdown]
# ## Folds in which nothing sees the held-out patients
#
# In each fold the beta-VAE, the principal components, the scaling, the choice of factors, the penalty and the cut between
# risk groups are made without the held-out patients. Choosing factors on all patients first is the classic mistake.
# Baseline hazards are those of each tissue (stratified Cox), so a model gains nothing by telling tissues apart.

# %%
data = page.load()
parts = data.folds(folds, seed=seed)
runs = [train_preset("beta-vae", part, preset, overrides=[f"train.seed={seed}"]) for part in parts]
study = survival.cross_validated(parts, [run.load() for run in runs], seed=seed)
for name, interval in study.numbers.items():
    page.number(name, interval, label=study.labels[name], against=0.5 if name.startswith("concordance") else 0.0)
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

# %% [markdown]
# ## Risk groups of held-out patients

# %%
groups = survival.risk_groups(study, model="latent + clinical")
page.number("logrank_p", groups.logrank_p, label="log-rank test of held-out risk groups, stratified by tissue")
page.figure(
    plots.kaplan_meier(groups.curves, x_label="months", at_risk=groups.at_risk),
    "risk_groups",
    caption="Held-out patients above and below the median risk of their fold's training patients; bands: 95 %, log-log. "
    "Ticks are patients alive at last contact.",
    alt="Two Kaplan-Meier curves with bands and the numbers at risk below.",
    n=study.n,
)
hazards = survival.proportional_hazards(study)
page.table(
    hazards, caption="Check of proportional hazards (Schoenfeld residuals), on the training patients of the first fold"
)

# %% [markdown]
# ## The control: outcomes shuffled within the tissue
#
# The whole pipeline after the latent runs again on shuffled outcomes. It must come back at 0.5.

# %%
control = survival.permuted_control(parts, [run.load() for run in runs], n_permutations=n_permutations, seed=seed)
page.number("concordance_permuted", control.interval, label="latent, shuffled outcomes", against=0.5)
page.number("concordance_permuted_leaky", control.leaky, label="the same, factors chosen on all patients", against=0.5)
page.table(control.table, caption="Shuffled outcomes: factors chosen inside the folds, and (wrongly) on all patients")
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - A latent that predicts survival better than chance need not add anything to age, stage and sex: read the difference and
#   its interval, not the two concordances.
#
# ## Limits
#
# - Concordance measures order, not calibration. TCGA's follow-up is short, and its deaths are of all causes.

# %%
page.close(runs=runs)
