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
#   demo_seconds: 120
# ---

# %% [markdown]
# # Beta-VAE
#
# **Question.** How much of a profile survives the latent?
#
# **What you will see.** The loss over training, the error on test patients in total, per tissue and per gene beside two
# baselines on the same split (principal components of the same number, and the mean training profile), how many latent
# dimensions carry anything, the published models, what single published choices do, and what becomes of a cohort from
# outside.
#
# **Cost.** About a minute on two cores in `demo` on the simulated cohort, more on larger ones, below 2 GB.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split and of training
# examples: options "profiles=all" (every spot of her2st), settings "n_genes=null; latent=64"
options: str = ""  # of the cohort's builder, by name and value; example in the parameters cell
settings: str = ""  # of the beta-VAE, by field and value; example in the parameters cell
choice_seeds: int = 3  # trainings of each published choice; 0 leaves them out
choice_epochs: int = 0  # of each of those trainings; 0: the preset's own number
record: str = ""  # keep these runs in book/recorded under this name
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/04_beta_vae

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.data.external import externals_of
from rnasynth.evaluation.expression import choices
from rnasynth.evaluation.expression import reconstruction as expression
from rnasynth.evaluation.expression.shift import shift_report
from rnasynth.pages import Page
from rnasynth.systems.training import train_preset

page = Page.open(
    "04_beta_vae",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    options=options,
    settings=settings,
    choice_seeds=choice_seeds,
    choice_epochs=choice_epochs,
    record=record,
)

# %% [markdown]
# ## Training
#
# The loss is the mean squared error of the z-scores plus beta times the divergence of the latent from a standard normal.
# The run is found if it exists (made here, by hand, by torchrun or by SLURM), else trained.

# %%
data = page.load(options)
changes = [f"train.seed={seed}", *(text.strip() for text in settings.split(";") if text.strip())]
run = train_preset("beta-vae", data, preset, overrides=changes)
vae = run.load()
page.figure(
    plots.curves(expression.training_curves(run.metrics()), x_label="step"),
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
page.table(report.table.rename_axis("model"), caption=f"Error on test samples, with 95 % intervals over {report.unit}")
page.table(report.tissue_table, caption="The same per tissue (z-score)")
page.figure(
    plots.histograms({"": dict([*report.gene_r2.items()][:2])}, x_label={"": "R² of a gene over the test samples"}),
    "gene_r2",
    caption="Share of each gene's variance over the test samples that comes back. Below 0 the mean of the test samples is "
    "nearer; the mean training profile is at or below 0 by definition.",
    alt="Step histograms of the per-gene R squared for the beta-VAE and as many principal components.",
    n=f"{data.profiles.n_vars} genes of the cohort",
)
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

# %% [markdown]
# ## The published models
#
# RNA-GAN trained one on two healthy tissues and one on five, RNA-CDM one on all its cancers. In `demo` they have the
# published choices at a smaller width, named in the table; in `gpu` and `paper` the published widths. Each is measured in
# the z-scores of its own published transform.

# %%
published = choices.published_models(data, preset, seed=seed)
page.table(published.table, caption="The published models on this cohort's test samples")
page.figure(
    plots.intervals(published.errors, x_label="RMSE on test samples (z-score), 95 % interval"),
    "published_models",
    caption="The published models beside principal components of the same number and the mean training profile.",
    alt="Points with intervals of the reconstruction error, one row a published model, three markers a row.",
    n=f"{data.only('test').profiles.n_obs} test samples",
)
answers = {"rmse_rna_gan": "beta_vae_rmse_gtex", "rmse_rna_cdm": "beta_vae_rmse_tcga", "mae_rna_cdm": "beta_vae_mae_tcga"}
for name, interval in published.numbers.items():
    reference = published.numbers.get(f"mean_{name}", interval).value  # a direction is judged against the mean profile
    metric = f"{name.split('_')[0].upper()} of z-scores, test set" if preset != "demo" else ""
    page.number(name, interval, unit="z-score", paper=answers.get(name, ""), metric=metric, against=reference)
if published.below_mean:
    page.note(f"Not better than the mean training profile here, see their steps: {'; '.join(published.below_mean)}.")

# %% [markdown]
# ## What single published choices do
#
# Each is set in this library's configuration, everything else as it is, over several seeds of training; errors are measured
# on one scale, the z-scores of the default transform. Above zero the choice hurts here.

# %%
if choice_seeds:
    base = "demo" if preset == "demo" else "gpu"
    effect = choices.measure_choices(data, base, seeds=range(seed, seed + choice_seeds), epochs=choice_epochs)
    page.report(effect, unit="z-score")
    page.table(effect.table, caption="RMSE on test samples, mean over seeds of training")
    page.figure(
        plots.intervals(
            effect.changes, x_label="change of the test RMSE (z-score)", reference=0.0, reference_label="no change"
        ),
        "choices",
        caption="Change of the test error by one published choice at a time; intervals over seeds of training.",
        alt="Points with intervals, one row a published choice, and a line at no change.",
        n=f"{choice_seeds} seeds",
    )

# %% [markdown]
# ## A cohort from outside
#
# Before anything is generated from external profiles: how many genes they have, how far their values and their latents lie
# from the training patients, and whether the latent still names their tissue. Both papers set missing genes to zero before
# the transform; the other rows are what can be done instead. Matching the moments takes away true differences too.

# %%
externals, absent = externals_of(data, seed=seed)
for reason in absent:
    page.note(reason)
if externals:
    shift = shift_report(vae, data, externals, seed=seed)
    page.report(shift)
    page.table(shift.table, caption="External cohorts in this model")
    page.figure(
        plots.intervals(
            shift.distances,
            x_label="distance to the nearest training patient",
            reference=1.0,
            reference_label="test patients",
        ),
        "external_distance",
        caption="Median distance in the latent to the nearest training patient; this cohort's test patients are at 1.",
        alt="Points with intervals, one row a cohort, one marker a way of bringing it in, and a line at one.",
        n=", ".join(f"{external.profiles.n_obs} of {external.label}" for external in externals),
    )
    page.note(" ".join(shift.notes))

# %% [markdown]
# ## Longer runs, recorded
#
# Runs that take longer than a page may: recorded with configuration, device and time; each summary is recomputed from its
# lines by a test.

# %%
if record:
    kept = {run.id: (f"{preset} preset {settings}".strip(), run, report.samples)}
    kept |= {made.id: (name, made, errors) for name, made, errors in published.kept()}
    for title, trained, errors in kept.values():
        page.record(f"{record}_{trained.id}", title=title, run=trained, test=errors)
headings = {
    "rmse_model": "RMSE",
    "mae_model": "MAE",
    "rmse_pca": "RMSE, PCA",
    "rmse_mean": "RMSE, mean profile",
    "steps": "steps",
}
page.recorded(
    headings,
    fields=("hidden", "latent"),
    caption="Recorded runs, errors on test samples (z-score); minutes by the clock, other work on the machine included",
)
page.verdicts({"beta_vae_mae_percent_gtex": "the paper does not say of what the error is a percentage"})

# %% [markdown]
# ## Take-aways
#
# - The error has a floor that no latent can pass: noise that is independent between genes. Principal components of the same
#   number show how near the beta-VAE is to what a linear code reaches on this cohort.
# - A dimension without divergence from the prior carries nothing, however large the published latent is.
# - Zero for a gene that was not measured is a claim about it. The distances above say where such profiles land, beside the
#   training mean, which claims nothing.
#
# ## Limits
#
# - RMSE on z-scores weighs a gene that hardly varies as much as one that drives the tissue, and it depends on the transform:
#   numbers of two transforms are comparable only where a table says that they were brought to one scale.

# %%
page.close(runs=[run, *published.runs])
