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
#   question: One diffusion cascade for all tissues?
#   cohorts: [simulated, her2st]
#   needs: [03_tiles, 04_beta_vae]
#   demo_seconds: 240
# ---

# %% [markdown]
# # RNA-CDM
#
# **Question.** One diffusion cascade for all tissues?
#
# **What you will see.** A base stage and a super-resolution stage, trained on all tissues at once without being told which
# is which, making tiles from the RNA of held-out patients: beside their real tiles, by distance and by colour, tissue by
# tissue; whether the profile reaches the tile; and whether tiles hold as much haematoxylin as the real tile of the same
# sample, which ridge regression on the profile predicts without making any image.
#
# **Cost.** Between three and four minutes on two cores in `demo`, most of it training.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, of training and of the noise
tiles_per_profile: int = 4  # generated tiles a held-out profile; twice as many for the haematoxylin area
# examples: sampling "method=heun;steps=32;churn=80", as published; variants "injection=once;paths=attention", two ways
sampling: str = ""  # how tiles are drawn, by field and value; example in the parameters cell
variants: str = ""  # other ways to tell the base stage its profile, trained and recorded; example in the parameters cell
base_stage: str = "cdm-base"  # system to train, or the name of a finished run, such as the released cdm-base-her2st
super_resolution: str = "cdm-sr"  # the same, with the encoder of the base stage: cdm-sr-her2st for cdm-base-her2st
max_profiles: int = 120  # held-out profiles of which tiles are made, at most
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/09_rna_cdm

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.evaluation.blinding import blind_tiles
from rnasynth.evaluation.conditioning import area, denoising, experiment
from rnasynth.evaluation.conditioning.ceiling import ridge_retrieval
from rnasynth.evaluation.fidelity import colour
from rnasynth.evaluation.fidelity import sets as fidelity_sets
from rnasynth.evaluation.fidelity import study as fidelity_study
from rnasynth.features import StainTexture
from rnasynth.pages import Page
from rnasynth.plots.sampling import quality
from rnasynth.systems.cdm import BaseStage, SuperResolutionStage, parameters
from rnasynth.systems.diffusion import Cascade
from rnasynth.systems.training import train_preset

page = Page.open(
    "09_rna_cdm",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    tiles_per_profile=tiles_per_profile,
    sampling=sampling,
    variants=variants,
    base_stage=base_stage,
    super_resolution=super_resolution,
    max_profiles=max_profiles,
)

# %% [markdown]
# ## Two stages
#
# The base stage turns noise into a small tile, the super-resolution stage a small tile into a large one. Both are told the
# beta-VAE latent of the profile, and a tenth of the time nothing, so that the same network can also make tiles of no profile
# in particular (the null condition). How they are drawn is a choice of the sampler; page 10 compares samplers. The noise
# levels, the weighting and the network's scaling are EDM's {cite}`edm2022`; the U-Net is after Imagen's
# {cite}`imagen2022`.

# %%
data = page.load()
asked = {"base": (base_stage, "cdm-base"), "super-resolution": (super_resolution, "cdm-sr")}
runs = {
    name: train_preset(which, data, preset, kinds=kinds, overrides=[f"train.seed={seed}"])
    for name, (which, *kinds) in asked.items()
}
stages = [run.load() for run in runs.values()]
chosen = ["precision=auto", *filter(None, sampling.split(";"))]
base, upper = (stage.to("auto").with_sampling(stage.sampling.with_overrides(chosen)) for stage in stages)
cascade = Cascade(base, upper)
billions = sum(parameters(stage.preset("paper"), 200) for stage in (BaseStage, SuperResolutionStage)) / 1e9
page.number("parameters_published_sizes", billions, unit="billion", label="parameters of both stages at the sizes of a port")
page.figure(
    plots.curves(experiment.loss_curves({name: run.metrics() for name, run in runs.items()}), x_label="step"),
    "training",
    caption="Loss over training, every noise level weighted alike (EDM).",
    alt="Two falling lines over training steps, one a stage.",
    n=f"{len(data.only('train').profiles)} training profiles",
)

# %% [markdown]
# ## What it looks like
#
# The first held-out samples in the order of the cohort, the same seeds: no selection. The large tiles are made from the
# small ones above them.

# %%
rows, mpp_um = experiment.side_by_side(cascade, None, data, seed=seed)
small, _ = experiment.side_by_side(base, None, data, seed=seed)
page.figure(
    plots.tile_grid(
        {"real": rows["real"], "base stage": small["from its RNA"], "cascade": rows["from its RNA"]}, mpp_um=mpp_um
    ),
    "samples",
    caption="Real tiles of held-out samples, tiles of the base stage from their RNA, and the cascade's; first samples and "
    "first tiles, not selected.",
    alt="Rows of small tissue tiles: real ones, the base stage's, the cascade's.",
    n="8 tiles a row",
)

# %% [markdown]
# ## How near, tissue by tissue?
#
# Distances to held-out real tiles, beside real tiles of other patients (the floor) and tiles of the null condition.

# %%
network = StainTexture()
train, test = (
    fidelity_sets.real_tiles(data, split, [network], px=cascade.px, restained=False, per_sample=24)
    for split in ("train", "test")
)
profiles = experiment.evenly(data, "test", max_profiles)
deaf = Cascade(*(stage.with_sampling(guidance=0.0) for stage in (base, upper)))
sources = {"from RNA": cascade, "no profile": deaf}
generated = {
    name: [
        fidelity_sets.generated_tiles(
            source, profiles, [network], tiles_per_profile=tiles_per_profile, restained=False, seed=seed, name=name
        )
    ]
    for name, source in sources.items()
}
report = fidelity_study.compare(train, test, generated, network.name, seed=seed)
page.report(report)
page.figure(
    plots.intervals(report.rows("frechet_test"), x_label=f"Frechet distance to held-out real tiles ({network.name})"),
    "frechet",
    caption=f"Frechet distance of features of {network.name} to held-out real tiles, sets of equal size.",
    alt="Points, one row a tissue, one marker a source of tiles and one for real tiles of other patients.",
    n=f"{len(test)} held-out real tiles",
)
page.table(report.shown(), caption=f"Distances by {network.name}")
page.note(report.summary())

# %% [markdown]
# ## Does the colour drift?

# %%
colours = colour.colour_drift(base, data, seed=seed, max_samples=max_profiles)
page.report(colours)
page.figure(
    plots.intervals(colours.rows("density"), x_label="distance of mean optical density", reference=0.0),
    "colour",
    caption="How far the mean optical density (three channels) of the base stage's tiles lies from that of the samples' own "
    "real tiles, and how far real tiles of other patients or sections do.",
    alt="Points with intervals, one row a tissue, one marker for generated tiles and one for real tiles of others.",
    n=f"{profiles.n_obs} held-out samples",
)
page.note(colours.verdict())

# %% [markdown]
# ## Does the RNA reach the tile?
#
# As on page 07, for the base stage, where the layout is decided. The control that knows the tissue alone is the same stage,
# given the tissue's mean training profile; of sparse counts that mean may be unlike any profile, and easy to beat.

# %%
proof = experiment.prove(base, None, data, tiles_per_profile=tiles_per_profile, restained=False, seed=seed)
for name, interval in proof.numbers.items():
    page.number(name, interval)
if (tissues := data.profiles.obs["tissue"].nunique()) > 1:
    page.number("tissue_right", proof.tissue_accuracy, paper="cdm_without_label", against=1 / tissues)
ridge = ridge_retrieval(base, data, seed=seed)
page.number("ridge_retrieval_rank", ridge, label="the same by ridge regression from the latent, without any image")
page.note(proof.verdict())
if not (proof.beats_shuffled and proof.retrieves):
    page.not_converged("a tile from its own RNA is not measurably nearer to its sample than one of another profile")

# %% [markdown]
# The same question without generating: a held-out real tile gets noise, and a stage estimates the clean tile, told the own
# profile, another of the tissue, the tissue's mean, or nothing. Much noise leaves the layout open, little noise only the
# grain; above zero the own profile helps. The super-resolution stage has the real small tile as well: the profile can
# tell it only what that does not show.

# %%
heard = [denoising.denoising_gain(stage, data, seed=seed, max_samples=max_profiles, tiles_per_sample=4) for stage in stages]
panels = {f"{each.stage}: error above\nthat with the own profile (%)": each.lines() for each in heard}
page.figure(
    quality(panels, x_label="noise level (standard deviation)"),
    "heard",
    caption=f"Squared error of the clean estimate, told something else; intervals over {heard[0].unit}.",
    alt="A chart a stage: lines with intervals over the noise level, one a replacement of the own profile.",
    n=f"{heard[0].n_tiles} and {heard[1].n_tiles} real tiles of {heard[0].n_samples} held-out samples",
)
for each in heard:
    page.report(each, unit="%")
    page.note(each.verdict())

# %% [markdown]
# ## As much haematoxylin as the real tile?
#
# One number a tile that ridge regression reads well from spots' RNA. Two ceilings without an image: from the genes, and from
# the latent that the generator is given; where the second is lower, the encoder loses what the generator would need.

# %%
follow = area.follow_area(base, data, tiles_per_profile=2 * tiles_per_profile, seed=seed, max_samples=max_profiles)
page.report(follow)
page.figure(
    plots.intervals(follow.correlations, x_label="Spearman's correlation with the real tile", reference=0.0),
    "area",
    caption=f"Haematoxylin area of the base stage's tiles (mean of {2 * tiles_per_profile}) and of the sample's real tile; "
    "beside it shuffled profiles, ridge regression, and one half of the real tissue against the other.",
    alt="Points with intervals, one row a source; a dashed line marks none.",
    n=f"tiles of {profiles.n_obs} held-out samples; ridge regression on all {len(follow.table)}",
)
page.note(f"{follow.verdict()} {follow.encoder_verdict()}")
page.verdicts()

# %% [markdown]
# ## Is it worth telling the profile at every block, by two ways?
#
# A profile that enters once may fade on its way through the network. Recorded trainings that differ in how it is told
# ("once" also leaves out the later blocks' attention to it): root mean squared error on validation samples' real tiles.

# %%
for title, run, told in denoising.variants(data, preset, variants.split(";"), seed=seed) if variants else ():
    page.record(f"{cohort}_{preset}_{run.id}", title=f"{preset}: {title}", run=run, test=told.errors)
page.recorded(
    {"rmse_own": "own", "rmse_shuffled": "another of the tissue", "rmse_mean": "tissue's mean", "rmse_null": "none"},
    fields=("injection", "paths", "condition_noise", "ema_decay"),
    caption="Recorded variants of the stages: error told the own profile, and told something else",
)

# %% [markdown]
# ## Try it yourself
#
# The cascade's tiles are in the [quiz](../quiz.md): real or synthetic?

# %%
blind = blind_tiles({"RNA-CDM": cascade}, data, seed=seed + 1)
page.quiz("RNA-CDM", real=blind.real, made=blind.made["RNA-CDM"], mpp_um=blind.mpp_um, handling=blind.handling)

# %% [markdown]
# ## Take-aways
#
# - One model makes all tissues without a label where the distance of its tiles to each tissue's real tiles is near the
#   floor; the figure says for which it is.
# - Beating other profiles of the same tissue, and no profile, shows that more than the tissue is heard; the haematoxylin
#   area shows one thing that is.
#
# ## Limits
#
# - Minutes of training on two cores, one seed, tiles of 32 and 64 px: what this model does, not how good the method can get.
#   The paper trained 79,000 steps of 256 tiles on four GPUs.
# - What the stages become on her2st in more steps, and at 64 and 256 px, stands on the cards of the released ones
#   ([model cards](../model_cards.md)); this page looks at them with `base_stage="cdm-base-64-her2st"` and
#   `super_resolution="cdm-sr-256-her2st"`.
# - Distances are by the embedded descriptor, not by Inception; they compare with nothing published.
# - Where one tumour has all the images (her2st), "other patients" are other sections of it.

# %%
page.close(runs=list(runs.values()))
