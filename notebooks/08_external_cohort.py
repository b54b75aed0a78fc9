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
#   question: Does it hold on a cohort never seen?
#   cohorts: [simulated, her2st]
#   needs: [07_rna_gan, 09_rna_cdm]
#   demo_seconds: 75
# ---

# %% [markdown]
# # An external cohort
#
# **Question.** Does it hold on a cohort never seen?
#
# **What you will see.** Tiles generated from profiles of a cohort on which nothing was trained, and which lacks genes, named
# by a classifier that was trained on real tiles: the test of RNA-GAN {cite}`rnagan2023` and, by its protocol, of RNA-CDM
# {cite}`rnacdm2024`. Beside it what the same classifier makes of real tiles (the ceiling), of tiles whose profiles were
# exchanged and of tiles of the mean profile (chance), and the same question put to the latent, without any image.
#
# **Cost.** About a minute on two cores in `demo`, once the generators of pages 07 and 09 are trained.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, of training, of the external patients and of the noise
systems: str = "rna-gan,cdm-base"  # systems that make tiles from RNA, the first answers the published numbers
label: str = "auto"  # column of obs that is named; auto: tissue, on her2st the fraction of epithelium
start: str = "auto"  # run whose network the classifier starts from; auto: scratch, on her2st the released one
samples: int = 60  # external samples, at most
way: str = "mean"  # missing genes of the headline: mean (0 after standardising) or zero (0 before the logarithm)
tiles_per_profile: int = 3  # generated tiles of each, by each system and way; 100 a tissue as published
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/08_external_cohort

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.utility import cohorts as utility_cohorts
from rnasynth.evaluation.utility import report as utility_report
from rnasynth.evaluation.utility.scores import LABELS
from rnasynth.pages import Page
from rnasynth.systems.training import train_preset

page = Page.open(
    "08_external_cohort",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    systems=systems,
    label=label,
    start=start,
    samples=samples,
    way=way,
    tiles_per_profile=tiles_per_profile,
)

# %% [markdown]
# ## Who is outside, and what is named
#
# The classifier, a ResNet-18 {cite}`resnet2016`, sees real tiles of training patients at the generator's pixel size and
# stained as that generator learned them, else size or stain would be named: a generator of tiles of one stain and one of
# tiles as scanned have a classifier each. Early stopping looks at a fifth of the training *patients*. On her2st there is one
# tumour: named is whether a spot holds more epithelium, by the published proportions, than the median training spot; and as
# its tiles are few, the classifier starts there from the network that page 11 uses, which learned without labels and never
# saw the test section (see the decisions).

# %%
data = page.load()
runs = {name: train_preset(name, data, preset, overrides=[f"train.seed={seed}"]) for name in systems.split(",")}
generators = {name: run.load() for name, run in runs.items()}
choice = utility_cohorts.classifier_choice(data, label=label, start=start)
named_by = {
    name: train_preset(
        "tile-classifier", data, preset, overrides=[f"train.seed={seed}", *choice, *utility_cohorts.fitting(generator)]
    )
    for name, generator in generators.items()
}
classifiers = {name: run.load() for name, run in named_by.items()}
external = utility_cohorts.external_cohort(data, max_samples=samples, seed=seed)
page.note(external.note)

# %% [markdown]
# ## Are the tiles named rightly?
#
# A gene that is missing can be set to zero before the logarithm, as RNA-CDM prints it, or after standardising, which is the
# training mean; RNA-GAN's text ("initialized as zero") can be read either way. Both are shown, and what the same samples
# give where no gene is missing. The simulated laboratory's real tiles are named twice, in the dyes that the classifier knows
# and in dyes of their own: the first is the ceiling of the generators, the second what a stain can cost any classifier.

# %%
report = utility_report.external_test(generators, classifiers, data, external, tiles=tiles_per_profile, way=way, seed=seed)
page.report(report)
first = next(iter(generators))
chance = {"accuracy": 50.0, "f1": 100 * report.of(first, "exchanged", "f1").value, "auc": 0.5}
page.number(
    "external_accuracy",
    report.of(first, statistic="pairwise", percent=True),
    against=chance["accuracy"],
    unit="%",
    label=f"{first}, external tiles told from another class: the mean over pairs of classes, as the paper had one pair",
)
page.number(
    "external_f1", report.of(first, statistic="f1", percent=True), against=chance["f1"], unit="%", label=f"{first}, macro F1"
)
page.number("external_auc", report.of(first, statistic="auc"), against=chance["auc"], label=f"{first}, {LABELS['auc']}")
for name, p in report.p.items():
    page.number(f"{key_of(name)}_exchanged_p", p, label=f"{name}: p of its accuracy, samples exchanged")
for name in generators:
    if not report.reads(name):
        page.not_converged(f"the classifier for {name} does not tell held-out real tiles apart: nothing can be judged")
    elif not report.holds(name):
        page.not_converged(f"tiles of {name} are not named better than those of exchanged profiles")
page.figure(
    plots.intervals(
        report.accuracy, x_label="share named rightly", reference=report.chance, reference_label="commonest class"
    ),
    "accuracy",
    caption="Share of tiles (or, without an image, of latents) whose likeliest class is their sample's. Intervals resample "
    f"{report.unit}; that of exchanged profiles is the range over exchanges.",
    alt="Points with intervals, one row a way of handling missing genes or a control, one marker a source.",
    n=f"{report.n_samples} external samples, {tiles_per_profile} tiles each",
)
page.note(report.note())

# %%
page.table(report.table, caption="All sources by all scores, with 95 % intervals")
page.figure(
    plots.confusion_matrices(report.confusions),
    "confusion",
    caption="Which class was named, in percent of the tiles of each true class.",
    alt="One matrix a source of tiles: true classes as rows, named classes as columns, the diagonal is right.",
    n=f"{report.n_samples} external samples",
)

# %% [markdown]
# ## What it looks like
#
# The first external samples in turn from the classes, the first tile of each, the same samples in each row: no selection.

# %%
page.figure(
    plots.tile_grid(report.shown, mpp_um=generators[first].mpp_um),
    "samples",
    caption="Tiles generated from external profiles and, where the external cohort has images, its real tiles above, as the "
    "classifier is shown them.",
    alt="Rows of small tissue tiles, one row a source.",
    n=f"{len(report.shown[first])} tiles a row",
)
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - A share of tiles named rightly means little by itself: it is to be read between what exchanged profiles give and what the
#   same classifier makes of real tiles.
# - The latent, asked without an image, tells what the missing genes and the other laboratory took away before any tile was
#   made. What is lost beyond it is lost in the image, by the generator or by the classifier that reads it.
# - The published test has two tissues and no patient's interval. A tile of the right tissue may still be of no patient: for
#   that see page 07's comparison within a tissue.
#
# ## Limits
#
# - A classifier rewards whatever makes a tissue typical. A generator that makes one perfect tile a tissue would win.
# - The simulated laboratory differs by a random shift of each gene and by its stains; real series differ in more, and in
#   what tissue was taken. On her2st the external section is of the same tumour, and its missing genes are hidden by us.
# - The published numbers are of GSE120795, brain cortex and lung, at 256 px; here only their direction can be judged.

# %%
page.close(runs=list({run.id: run for run in (*runs.values(), *named_by.values())}.values()))
