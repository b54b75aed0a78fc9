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
#   question: Are the right cells there, in the right numbers?
#   cohorts: [simulated, her2st]
#   needs: [07_rna_gan, 09_rna_cdm]
#   demo_seconds: 60
# ---

# %% [markdown]
# # Cells
#
# **Question.** Are the right cells there, in the right numbers?
#
# **What you will see.** First whether nuclei can be counted at all: found nuclei against the simulator's masks and against
# outlines that experts drew on real tissue {cite}`monuseg2017,monusac2021`. Then the percentages of cell types in real tiles
# of held-out patients, in the same tiles at the generator's pixel size, and in generated tiles, with a test of *equivalence*
# {cite}`schuirmann1987` beside the usual one.
#
# **Cost.** About a minute on two cores in `demo`.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, of training, of the noise and of resampling
systems: str = "rna-gan,cdm-base"  # generators to judge, by name, with commas
tiles_per_profile: int = 4  # tiles a held-out sample, generated and (at most) real
max_profiles: int = 120  # held-out samples at most
margin: float = 10.0  # percentage points: a smaller difference of two means does not matter; stated before the run
empty: str = "count as zero share"  # tiles without nuclei: "count as zero share" or "left out"
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/12_cells

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.data.papers import read_papers
from rnasynth.evaluation.cells import report as nuclei_report
from rnasynth.evaluation.cells import study as cells
from rnasynth.evaluation.cells import tables as cell_tables
from rnasynth.evaluation.cells import truth as nuclei_truth
from rnasynth.evaluation.cells.models import WatershedNuclei, default_nuclei
from rnasynth.pages import Page
from rnasynth.plots.cells import nuclei_on_tiles
from rnasynth.systems.training import train_preset

page = Page.open(
    "12_cells",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    systems=systems,
    tiles_per_profile=tiles_per_profile,
    max_profiles=max_profiles,
    margin=margin,
    empty=empty,
)
data = page.load()
model = default_nuclei()

# %% [markdown]
# ## Can nuclei be counted at all?
#
# The embedded model (a small network that learnt from simulated masks only, at 0.5 µm a pixel) is judged where the truth is
# known. A found nucleus is right if its centre lies within 2 µm of a true one, each used once. The control shifts what was
# found by a nucleus: it must fail.

# %%
reports = []
if data.simulated:
    reports.append(nuclei_report.on_simulated(model, data, seed=seed))
    page.table(reports[-1].table, caption="Nuclei a simulated tile by class, test patients")
    page.figure(
        plots.scatter_against(
            reports[-1].points, x_label="true nuclei a tile", y_label="found nuclei a tile", identity=True
        ),
        "simulated_counts",
        caption="Simulated test patients: mean nuclei a tile of each class, found against there. Dashed: equal.",
        alt="Scatter plot of found against true counts, one marker a class, around a dashed diagonal.",
        n=f"{reports[-1].patients} simulated patients, {reports[-1].fields} tiles",
    )
folder, missing = nuclei_truth.truth_folder()
if folder is None:
    page.note(missing)
else:
    outlined = nuclei_report.on_monuseg({"network": model, "watershed": WatershedNuclei(model.kinds)}, folder, seed=seed)
    named = nuclei_report.on_monusac(model, folder, seed=seed)
    reports += [outlined, named]
    page.figure(
        plots.intervals(
            outlined.chart,
            x_label="agreement with experts' outlines (1 perfect), 95 % interval",
            reference=nuclei_report.WANTED_F1,
            reference_label="F1 wanted from 20x",
        ),
        "monuseg",
        caption="Real tissue (MoNuSeg), patients that served no choice: F1 of detection and aggregated Jaccard index, from "
        "tiles at 20x (0.5 µm a pixel), of the embedded network and of a classical watershed; of the network from 40x, too.",
        alt="Points with intervals for two models at two magnifications; a dashed line marks the wanted F1.",
        n=f"{outlined.patients} patients",
    )
    reached = outlined.numbers["monuseg_20x_f1"].value >= nuclei_report.WANTED_F1
    page.note(
        f"F1 from 20x on held-out patients: {outlined.numbers['monuseg_20x_f1']}, {'at least' if reached else 'below'} the "
        f"{nuclei_report.WANTED_F1:g} that was wanted of the embedded model."
    )
    page.table(
        named.table,
        caption=f"Real tissue (MoNuSAC, {named.patients} held-out patients): of the nuclei of each class (rows), the share "
        "given each name",
    )
for report in reports:
    page.report(report)

# %% [markdown]
# ## Real and generated tiles
#
# Sets of tiles of the same held-out samples: real ones (on the simulated cohort: the simulator's), the same tiles at the
# generator's pixel size, and tiles that each generator makes from the samples' RNA. Each is brought to the model's
# magnification.

# %%
runs = {name: train_preset(name, data, preset, overrides=[f"train.seed={seed}"]) for name in systems.split(",")}
known: dict = {}  # the real tiles are searched once
studies = {
    name: cells.study(
        data,
        run.load(),
        model,
        tiles_per_profile=tiles_per_profile,
        seed=seed,
        empty=empty,
        margin=margin,
        max_profiles=max_profiles,
        known=known,
    )
    for name, run in runs.items()
}
first = next(iter(studies.values()))
for name, found in studies.items():
    for key, label, number in cell_tables.numbers_of(found, name):
        if name == next(iter(studies)) or "coarse" not in key:
            page.number(key, number, label=label)
named_real = first.counts["real"].sum() / max(1, first.counts["real"].to_numpy().sum())
page.number("real_commonest_class", named_real.max(), label=f"share of real tiles' nuclei named {named_real.idxmax()}")
if named_real.max() > 0.85:
    page.not_converged(
        f"{named_real.max():.0%} of the nuclei in real tiles are named {named_real.idxmax()}: the classifier, fitted on "
        "simulated nuclei, does not carry over to this stain, and percentages of classes mean nothing here"
    )
for name, found in studies.items():
    page.note(found.verdict(name))
    if not found.visible:
        page.not_converged(f"at the pixel size of {name} nuclei cannot be counted in real tiles, so not in generated ones")
    elif not found.follows:
        page.not_converged(f"within tissues the cells of tiles of {name} do not measurably follow those of their patients")

# %%
shown, scales = cell_tables.examples(studies)
page.figure(
    nuclei_on_tiles(shown, mpp_um=scales, classes=model.classes),
    "examples",
    caption="Tiles and the nuclei found in them, outlined by class: real tiles of held-out samples, the same at the "
    "generator's pixel size, and tiles generated from the same samples' RNA. First tile of the first samples of every "
    "tissue in turn, not selected.",
    alt="Rows of tissue tiles, each shown as it is and below with coloured outlines of nuclei.",
    n=f"{len(first.examples['real'])} tiles a row",
)
page.figure(
    plots.intervals(cell_tables.composition_rows(studies), x_label="mean percentage of nuclei in a tile, 95 % interval"),
    "percentages",
    caption="Percentages of nuclei by class and tissue, in real tiles, in these at the generator's pixel size (coarse) and "
    f"in generated ones. Tiles without nuclei: {empty}. Intervals resample {first.unit}.",
    alt="Points with intervals, one row a tissue and class, one marker a set of tiles.",
    n=f"{first.n} {first.unit}, {first.n_tiles} real tiles",
)
for words, compared in cell_tables.comparisons(studies).items():
    page.table(
        cell_tables.equivalence_table(compared),
        caption=f"{words} against real, percentages. Equivalent: the 90 % interval of the difference lies within "
        f"{margin:g} points. Several rows are tested, uncorrected",
    )
other = "left out" if empty == "count as zero share" else "count as zero share"
page.table(
    cell_tables.empty_table(studies, other),
    caption="Tiles without nuclei, and what the percentages become when these are counted the other way",
)

# %% [markdown]
# ## Beside the paper's Table 1
#
# The paper counts five types with HoVer-Net {cite}`hovernet2019` in tiles of five cancers. Where the real percentages of a
# cancer add up to less than 100, tiles without cells must have counted as zero of everything.

# %%
table = cell_tables.published_table(read_papers("12_cells"))
page.table(table, caption="The paper's mean percentages (RNA-CDM, Table 1)")
page.note(cell_tables.published_note(table, margin))
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - Whether the nuclei model can be trusted is a number, with a control that fails as it must. The held-out patients of
#   MoNuSeg and MoNuSAC served no choice; the simulated counts by class did, when the classifier's weights were chosen (see
#   its card).
# - What a generator's pixel size cannot show must not be counted: the control (real tiles at that pixel size) says so before
#   any generated tile is judged.
# - "No significant difference" and "equivalent" are two questions; the tables answer both, and "undecided" is an answer.
#
# ## Limits
#
# - Three classes, by size, shape and darkness, learnt on simulated nuclei: MoNuSAC's table shows how far that carries.
#   Macrophages, neutrophils, glia and neurons have no class of their own.
# - Real truth is here of carcinomas mostly; MoNuSAC's masks are approximate.
# - HoVer-Net's own classes come in by its JSON files (`rnasynth.evaluation.cells.hovernet`), tile by tile.

# %%
page.close(runs=list(runs.values()))
