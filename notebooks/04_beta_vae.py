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
#   question: How much of a profile survives the latent?
#   cohorts: all
#   needs: [02_expression]
#   demo_seconds: 60
# ---

# %% [markdown]
# # Beta-VAE
#
# **Question.** How much of a profile survives the latent?
#
# **What you will see.** The loss over training, the error on test patients in total and per tissue beside two baselines on
# the same split (principal components of the same number, and the mean training profile), and how many latent dimensions
# carry anything.
#
# **Cost.** Under a minute on two cores in `demo`.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split and of training
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/04_beta_vae

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.evaluation import expression
from rnasynth.pages import Page
from rnasynth.systems.training import train_preset

page = Page.open("04_beta_vae", preset=preset, cohort=cohort, seed=seed, out=out)

# %% [markdown]
# ## Training
#
# The loss is the mean squared error of the z-scores plus beta times the divergence of the latent from a standard normal.
# The run is found if it exists (made here, by hand, by torchrun or by SLURM), else trained.

# %%
data = page.load()
run = train_preset("beta-vae", data, preset, overrides=[f"train.seed={seed}"])
vae = run.load()
history = run.metrics()
page.figure(
    plots.curves(
        {
            name: {split: line for split, line in lines.items() if len(line[0])}
            for name, lines in expression.training_curves(history).items()
        },
        x_label="step",
    ),
    "loss",
    caption="Reconstruction error and divergence from the prior over training.",
    alt="Two line charts over training steps: mean squared error, and divergence from the prior.",
    n=f"{data.only('train').profiles.n_obs} training profiles",
)

# %% [markdown]
# ## Error on patients never seen, beside two baselines

# %%
report = expression.reconstruction_report(vae, data, seed=seed)
for name, interval in report.numbers.items():
    page.number(name, interval, unit="z-score" if name.startswith(("rmse", "mae")) else "")
page.figure(
    plots.intervals(report.by_tissue, x_label="RMSE on test samples (z-score), 95 % interval"),
    "rmse_by_tissue",
    caption="Root mean squared error on test samples per tissue: beta-VAE, as many principal components, and the "
    f"mean training profile. Intervals resample {report.unit}.",
    alt="Points with intervals of the reconstruction error per tissue for the beta-VAE and two baselines.",
    n=f"{data.only('test').profiles.n_obs} test samples",
)
page.table(report.table, caption=f"Error on test samples, with 95 % intervals over {report.unit}")
if not report.beats_mean:
    page.not_converged("the beta-VAE does not beat the mean training profile on the test patients")

# %% [markdown]
# ## What the latent uses

# %%
page.number("active_dimensions", report.active_dimensions, label="dimensions with more than 0.01 nats")
page.number("latent_dimensions", len(report.kl_per_dimension))
page.figure(
    plots.spectrum(
        report.kl_per_dimension, y_label="divergence from prior (nats)", threshold=0.01, threshold_label="active above 0.01"
    ),
    "latent_use",
    caption="Divergence of each latent dimension from the prior on the test patients, sorted.",
    alt="A falling curve of the divergence per latent dimension on a logarithmic axis, with the threshold for active ones.",
    n=f"{data.only('test').profiles.n_obs} test profiles",
)
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - The error has a floor that no latent can pass: noise that is independent between genes. Principal components of the same
#   number show how near the beta-VAE is to what a linear code reaches on this cohort.
# - A dimension without divergence from the prior carries nothing, however large the published latent is.
#
# ## Limits
#
# - RMSE on z-scores weighs a gene that hardly varies as much as one that drives the tissue.

# %%
page.close(runs=[run])
