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
#   question: What are synthetic tiles good for?
#   cohorts: [simulated, her2st, tcga-tiles]
#   needs: [07_rna_gan, 09_rna_cdm]
#   demo_seconds: 120
# ---

# %% [markdown]
# # Training on synthetic tiles
#
# **Question.** What are synthetic tiles good for?
#
# **What you will see.** Classifiers that learn from more and more synthetic tiles and are tested on real ones of patients
# whom neither they nor the generator saw: first in place of real tiles, the test of RNA-CDM {cite}`rnacdm2024`; then as
# pretraining where real tiles are few, with SimCLR {cite}`simclr2020` as in both papers {cite}`rnagan2023`, against four
# other explanations of a gain.
#
# **Cost.** About two minutes on two cores in `demo`, some sixty short trainings, once page 07's generator is
# trained.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, the folds, the generator's noise and all trainings
system: str = "rna-gan"  # what makes tiles from RNA: rna-gan, or cdm-base (thirty times as long a tile)
label: str = "auto"  # column of obs that is named, msi say; auto: tissue, on her2st the fraction of epithelium
classes: str = ""  # only these of its texts, two tissues say: "lung,liver"; empty: all
within: str = ""  # a number told apart within a tissue too; auto: lymphocytes where tissues are several; empty: none
start: str = "auto"  # run that the classifiers of the first part start from; auto: scratch, on her2st the released one
longer: str = ""  # a protocol, wide say, by which the first part is run too and recorded: most of an hour; empty: none
protocol: str = ""  # paper_two_tissues or paper_msi, the papers' other two protocols; empty: the preset's
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/15_synthetic_training

# %% tags=["resolve"]
from dataclasses import replace

from rnasynth import plots
from rnasynth.evaluation.utility import cohorts as utility_cohorts
from rnasynth.evaluation.utility.bench import prepare
from rnasynth.evaluation.utility.longer import COLUMNS, longer_report, longer_study
from rnasynth.evaluation.utility.piles import within_tissue
from rnasynth.evaluation.utility.pretraining import pretraining_study
from rnasynth.evaluation.utility.protocols import protocol as protocol_of
from rnasynth.evaluation.utility.protocols import starting_from
from rnasynth.evaluation.utility.replacement import replacement_study
from rnasynth.pages import Page
from rnasynth.systems.training import train_preset

page = Page.open(
    "15_synthetic_training",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    system=system,
    label=label,
    classes=classes,
    within=within,
    start=start,
    longer=longer,
    protocol=protocol,
)

# %% [markdown]
# ## Who may be tested
#
# The patients that are named are those of the test split: the generator did not learn from them, nor was it, or its
# encoder, stopped by them. They are divided into folds; a fold's classifiers learn from all other patients. A run of
# other data or splits is refused, because whom it saw cannot be told. Real tiles are brought to the generator's pixels
# and stain, else these would be what a classifier learns. On her2st one section is tested, so that there is one fold, and
# intervals speak for the spots of that section alone. On tcga-tiles seven patients are tested: the page shows how little
# that can tell.

# %%
data = page.load()
run = train_preset(system, data, preset, overrides=[f"train.seed={seed}"])
generator = run.load()
steps = protocol_of(protocol or preset, generator.px)
column = utility_cohorts.label_of(data, label)
named = tuple(name.strip() for name in classes.split(",") if name.strip())
from_run = utility_cohorts.start_of(data, start)
bench = prepare(run, data, steps, label=column, classes=named, maker=generator, seed=seed)
resumed = None if preset == "demo" else page.folder / "trainings"
page.note(
    f"Named: {column.replace('_', ' ')} ({', '.join(bench.classes)}), in {len(bench.folds)} folds; "
    f"{len(bench.real):,} real tiles of {generator.px} px, made by {system}: {run.id}."
)

# %% [markdown]
# ## In place of real tiles
#
# A share of the training tiles is replaced by tiles made from the profiles of the same patients. Patients, classes and
# their numbers stay, and so do first weights and the order of training. "Not significant" is what any small study finds:
# here the whole 90 % interval of the paired difference must lie within a margin for the word equivalent. Two controls
# tell what that is worth: the same real tiles with *nothing* in place of the others, and tiles of exchanged profiles.
# On her2st, whose tiles are few, the classifiers start from the released network, as on page 08; it never saw the tested
# section. `start=""` shows what random weights make of so few tiles.

# %%
replaced = replacement_study(replace(bench, protocol=starting_from(steps, from_run)), folder=resumed)
page.report(replaced)
for name, given in replaced.answers().items():
    page.number(name, **given)
if not replaced.sees():
    page.not_converged("tiles of exchanged profiles train as well as real ones: a loss cannot be seen in this comparison")
page.figure(
    plots.share_curves(
        replaced.curve,
        x_label="share of the real training tiles that gave way (%)",
        reference=replaced.chance,
        reference_label="commonest class",
    ),
    "replacement",
    caption=f"Accuracy on real tiles of held-out patients, 95 % intervals over {replaced.unit}; {replaced.n_tiles:,} "
    "training tiles a fold, fewer where tiles were left out.",
    alt="Accuracy against the share of real tiles that were replaced; two controls as single points.",
    n=f"{replaced.n_units} {replaced.unit}",
)
page.note(replaced.note())

# %%
page.table(replaced.table, caption="Training on more and more synthetic tiles: 95 % intervals; differences paired, 90 %")
page.figure(
    plots.confusion_matrices(replaced.confusions),
    "confusion",
    caption="Which class the held-out patients' real tiles were named, in percent of the tiles of each true class.",
    alt="One matrix a training set: true classes as rows, named classes as columns, the diagonal is right.",
    n=f"{replaced.n_units} {replaced.unit}",
)

# %% [markdown]
# ## With the network at its full width, recorded
#
# In `demo` the trainings above are short and their network is narrow. The same question was put to the published network, a
# ResNet-18 of width 64, in five folds by patient, but on a CPU, at the generator's own pixels and on far fewer tiles: no
# paper's protocol either, and it answers no published row. The number of steps is what half an hour allowed, so that the
# losses are shown: a loss that still falls is a training that could have gone on. No tested patient was looked at for it.
# It starts from random weights on every cohort, on her2st too.

# %%
if longer:
    wide = prepare(run, data, protocol_of(longer, generator.px), label=column, classes=named, maker=generator, seed=seed)
    title, trainings, rows = longer_study(wide, run, page.folder / longer)
    page.record(f"{cohort}_{longer}_{run.id}", title=title, run=trainings, test=rows)
records = page.recorded(
    COLUMNS,
    fields=("folds", "tiles", "margin"),
    caption="Recorded on a CPU: share of a held-out patient's real tiles that was named rightly, and its change",
)
comparable = [each for each in records if each.facts["cohort"] == data.name and (label, classes) == ("auto", "")]
for number, record in enumerate(comparable):
    told_longer = longer_report(record.facts, record.lines, replaced)
    page.figure(
        plots.intervals(told_longer.rows(), x_label="accuracy less that of all real tiles (points)", reference=0.0),
        f"longer_{number}",
        caption=f"What is lost by this page's own trainings and by the recorded ones ({record.facts['title']}, "
        f"{record.facts['device']}); paired over {replaced.unit}, 90 % intervals.",
        alt="Differences of accuracy with intervals, a row an arm: this page's trainings and the recorded ones.",
        n=f"{replaced.n_units} {replaced.unit}",
    )
    page.figure(
        plots.curves({"training loss": told_longer.curves()}, x_label="step"),
        f"longer_loss_{number}",
        caption="Training loss of the recorded trainings, mean over the folds; without that of exchanged profiles.",
        alt="Training loss against the step, one line an arm.",
        n=f"{record.facts['config']['folds']} folds",
    )
    page.note(told_longer.note())

# %% [markdown]
# ## Within a tissue
#
# A tile that is typical of its tissue does for telling tissues apart, whatever patient it is of. So the same is asked of
# a number that differs between patients of one tissue: does a sample lie above or below the median of its own tissue?
# Where the cohort has one tissue, the question above is of that kind already. It is asked where `within` names a column,
# for half a minute more in `demo`.

# %%
inside = utility_cohorts.within_of(data, within)
if inside and not named:
    deeper, column_within = within_tissue(data, inside)
    fewer = replace(starting_from(steps, from_run), shares=(0.0, 0.75), left_out=())
    told = replacement_study(prepare(run, deeper, fewer, label=column_within, maker=generator, seed=seed))
    for name, arm in (("within_real_auc", "replaced_0_auc"), ("within_75_auc", "replaced_75_auc")):
        page.number(name, told.numbers[arm], label=f"{column_within}: {told.labels[arm]}", against=0.5)
    page.table(told.table, caption=f"{column_within.replace('_', ' ')}, above or below the median of the tissue")
    page.note(
        told.note()
        if told.numbers["replaced_0_auc"].low > 0.5
        else f"Not even real tiles tell {column_within.replace('_', ' ')} above from below the median: area under the curve "
        f"{told.numbers['replaced_0_auc']}. Nothing can be said of synthetic ones here."
    )

# %% [markdown]
# ## As pretraining, where real tiles are few
#
# One network learns from synthetic tiles of the generator's own training patients, without their classes (SimCLR) or with
# them, and then from a few real tiles. It is compared with random weights; with random weights for as many pictures as
# pretraining and training together; with SimCLR on as many *real* tiles of the same patients, which the papers leave out;
# and all of it at one learning rate, the published pair, a hundredfold apart, beside it. The arms of one rate answer the
# published numbers where trainings are as short as in `demo`.

# %%
pretrained = pretraining_study(bench, folder=resumed)
page.report(pretrained)
if not pretrained.gains():
    page.not_converged("not even real tiles of these patients help as pretraining: no gain can be judged")
for name, given in pretrained.answers().items():
    page.number(name, **given)
page.figure(
    plots.share_curves(
        pretrained.curve,
        x_label="real training tiles",
        log=True,
        reference=pretrained.chance,
        reference_label="commonest class",
    ),
    "pretraining",
    caption=f"Accuracy on real tiles of held-out patients, 95 % intervals over {pretrained.unit}, after pretraining on "
    f"{pretrained.pretrained_on:,} tiles. Equal compute: as many pictures as SimCLR and the training after it.",
    alt="Accuracy against the number of real training tiles, one line a way of pretraining.",
    n=f"{replaced.n_units} {pretrained.unit}",
)
page.note(pretrained.note())

# %%
page.table(pretrained.table, caption="What a network starts from, by the number of real tiles: 95 % intervals, gains paired")
page.table(pretrained.shares, caption="Pretraining with classes, on more and more synthetic tiles")
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - Replacing real tiles is judged twice: against all of them, and against the ones that stayed. Where the few that stayed
#   do as well alone, "no loss" says that real tiles were plenty, and nothing of the synthetic ones.
# - A gain by pretraining is one of *synthetic* tiles only by what it exceeds: the same compute without pretraining, and
#   pretraining on real tiles, which whoever trained the generator had. The lines of the figure answer in that order.
# - A hundredfold difference between learning rates is an experiment on learning rates. Compare the two lines of SimCLR on
#   synthetic tiles before reading a gain or a loss out of it.
#
# ## Limits
#
# - In `demo` the network is narrow, tiles have 32 px and trainings some dozen steps: a rate as low as the published one
#   hardly moves the weights in so few. Presets `gpu` and `paper` have the published lengths; no run of them is recorded
#   here. What is recorded is replacement on a CPU, and no pretraining.
# - The generator was made from real tiles of the training patients. Whether tiles help somebody who has profiles alone is
#   another question: that is page 08.
# - The MSI tiles of the paper are not fetched here: they come by a manifest of one's own with a column such as `msi`,
#   named by `label`; the protocol is `paper_msi`.
# - A later system, GeneVAR (CVPR 2026), prints an accuracy of 0.592 with three quarters replaced by its tiles, 0.492 with
#   RNA-CDM's, and 0.579 with real tiles alone, without an interval: by the test above a difference of 0.013 is no finding
#   either way.

# %%
page.close(runs=[run])
