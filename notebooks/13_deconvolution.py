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
#   question: Do the tiles' cells follow the RNA's fractions, and a changed RNA?
#   cohorts: [simulated, her2st]
#   needs: [07_rna_gan, 09_rna_cdm]
#   demo_seconds: 150
# ---

# %% [markdown]
# # Deconvolution
#
# **Question.** Do the tiles' cells follow the RNA's fractions, and a changed RNA?
#
# **What you will see.** First the measurement by itself: fractions estimated from bulk RNA beside fractions that are
# planted, published or measured, and markers beside nuclei that people labelled. Then RNA-CDM's test: do tiles that were
# generated from a held-out profile show the cells which that profile holds? Beside it the same test on the real tiles of
# the same samples, on tiles made from other profiles of the tissue, and on tiles made from the tissue's name alone. Last,
# the RNA is changed: genes or a cell type's programme up and down with the same noise, and one cell type's RNA in the place
# of the sample's own.
#
# **Cost.** About two minutes on two cores in `demo`, once the generators of pages 07 and 09 are trained.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, of training, of the noise and of the shuffles
tiles_per_profile: int = 10  # generated tiles a held-out profile, and real ones at most; ten as published
system: str = "cdm-base"  # which system makes the tiles of changed RNA
changed_profiles: int = 40  # held-out profiles that are changed, at most
changed_tiles: int = 3  # tiles of each at each dose
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/13_deconvolution

# %% tags=["resolve"]
from rnasynth import perturb, plots
from rnasynth.evaluation.deconvolution import checks as deconvolution_checks
from rnasynth.evaluation.deconvolution import cohort as follow_cohort
from rnasynth.evaluation.deconvolution import follow, nucls
from rnasynth.pages import Page
from rnasynth.systems.training import train_preset

page = Page.open(
    "13_deconvolution",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    tiles_per_profile=tiles_per_profile,
    system=system,
    changed_profiles=changed_profiles,
    changed_tiles=changed_tiles,
)

# %% [markdown]
# ## Does deconvolution find fractions that are known?
#
# Three truths: simulated patients of planted fractions, with the simulator's own programmes as the signature; the test
# mixture of quanTIseq {cite}`quantiseq2019` with the fractions that its authors' program gives; and melanoma lymph nodes
# whose cells were counted by flow cytometry {cite}`racle2017`. Two methods: nu-support vector regression as CIBERSORT
# {cite}`cibersort2015` describes it, and non-negative least squares (NNLS). A mixture holds shares of *RNA*; they are
# divided by the RNA content of a cell, and the table shows what happens where that is left out.

# %%
data = page.load()
mixtures, missing = deconvolution_checks.known_mixtures(seed=seed)
for sentence in missing:
    page.note(sentence)
known = deconvolution_checks.validate(mixtures, seed=seed)
page.report(known)
for mixture in mixtures:
    page.figure(
        plots.scatter_against(
            known.of(mixture.name, "NNLS" if mixture.other else "nu-SVR"),
            x_label=f"fraction of cells, {mixture.truth}",
            y_label="fraction of cells, estimated",
        ),
        f"known_{mixture.key}",
        caption=f"{mixture.name}: fractions by {'NNLS' if mixture.other else 'nu-SVR'} beside those {mixture.truth}"
        f"{' (simulated, not patients)' if mixture.simulated else ''}.",
        alt="Scatter plot of estimated against known fractions around the line of equality, one marker a cell type.",
        n=f"{len(mixture.fractions)} samples, {len(mixture.joined)} types",
    )
page.table(known.table, caption="Estimated beside known fractions; intervals resample the samples (none below four)")

# %% [markdown]
# ## Markers beside nuclei that people labelled
#
# NuCLS {cite}`nucls2022` has labelled nuclei of tumours whose RNA is in TCGA-BRCA. That RNA is at hand as z-scores, which
# are no mixture, so it is scored by marker lists: MCP-counter's {cite}`mcpcounter2016`, and for the epithelium PanglaoDB's
# {cite}`panglaodb2019`. No model takes part: this is what real RNA and real cells of the same patient have in common,
# though they come from different pieces of the tumour, and fields were not chosen at random.

# %%
markers, reason = nucls.nuclei_if_there(seed=seed)
if markers is None:
    page.note(reason)
else:
    for name, interval in markers.intervals("NuCLS").items():
        page.number(f"nucls_{name}", interval, label=f"Pearson's r, markers and labelled nuclei: {name.replace('_', ' ')}")
    page.figure(
        plots.intervals(
            markers.with_shuffled("NuCLS", "patients shuffled"),
            x_label="Pearson's r of marker score and share of nuclei",
            reference=0.0,
            reference_label="none",
        ),
        "nucls",
        caption="Marker scores of the RNA beside the shares of labelled nuclei of the same TCGA-BRCA patients: real "
        "patients, whatever the page's cohort.",
        alt="Points with intervals, one row a pair of marker list and class of nuclei; beside each the shuffled control.",
        n=f"{int(markers.table['n'].iloc[0])} patients",
    )
    page.table(markers.shown(), caption="Markers and nuclei of the same patients; Holm's correction over the pairs")

# %% [markdown]
# ## Fractions of the held-out RNA of this cohort
#
# On simulated data the fractions come from the RNA by nu-SVR, and the planted ones judge them. Spots are too shallow for
# that: her2st's authors estimated theirs with a single-cell reference {cite}`her2st2021`, and those published fractions of
# the same RNA are taken; NNLS with a signature that was learnt on the training sections stands beside them.

# %%
rna = follow_cohort.rna_fractions(data, seed=seed)
page.figure(
    plots.intervals(rna.agreement, x_label="Pearson's r over held-out samples", reference=0.0, reference_label="none"),
    "fractions",
    caption=f"Fractions of held-out samples, type by type: {rna.compared}.",
    alt="Points with intervals, one row a cell type, one marker a method.",
    n=f"{len(rna.fractions)} held-out samples",
)
page.note(rna.source)

# %% [markdown]
# ## Do tiles follow the fractions?
#
# The paper counts cells with HoVer-Net. Whether nuclei can be counted at the generators' pixel size differs by cohort, and
# the control of page 12 measures it; no nuclei are counted here. Fractions are read from the tile as a whole, at any pixel
# size: by ridge regression on the embedded features, learnt on *real* tiles of *training* samples. What that can see is
# shown by the real tiles of the held-out samples, the ceiling. Correlations over all samples are the published test; but
# tissues differ in their fractions, so that a generator that hears the tissue alone can pass it. Hence the shuffled
# profiles, and the correlation within tissues, whose p value (permutation inside a tissue, one-sided, Holm's correction
# over the classes) decides.

# %%
runs = {
    name: train_preset(system, data, preset, overrides=[f"train.seed={seed}"])
    for name, system in (("own RNA", "rna-gan"), ("label only", "label-gan"))
}
generators = {name: run.load() for name, run in runs.items()}
reader = perturb.study.reader_for(generators["own RNA"], data, rna.training)
pairs = [(kind, kind) for kind in rna.fractions]
report = follow.follow(
    data, rna.fractions, generators, reader, pairs, tiles_per_profile=tiles_per_profile, seed=seed, real="real tiles"
)
for source, short in (("own RNA", "generated"), ("real tiles", "real"), ("label only", "label")):
    for name, interval in report.intervals(source).items():
        page.number(f"{short}_{name}", interval, label=f"Pearson's r, {source}, {name.replace('_', ' ')}, all samples")
    for name, interval in report.intervals(source, within=True).items():
        page.number(f"{short}_within_{name}", interval, label=f"the same within tissues: {source}, {name.replace('_', ' ')}")
page.number("deconvolution_p", report.largest_p("own RNA"), against=follow.ALPHA, label="largest p within tissues (Holm)")
page.number("real_tiles_p", report.largest_p("real tiles"), label="the same, real tiles")
if not report.holds("own RNA"):
    page.not_converged("tiles generated from their own RNA do not follow all its fractions within the tissue")
page.figure(
    plots.intervals(report.within(), x_label="Pearson's r within tissues", reference=0.0, reference_label="none"),
    "within",
    caption="Fraction of the RNA and fraction read from tiles, after the tissue's mean was taken off both. Real tiles are "
    f"what the reading can reach. Intervals resample {report.unit}.",
    alt="Points with intervals, one row a class of cells, one marker a source of tiles.",
    n=f"{len(rna.fractions)} held-out samples",
)
page.figure(
    plots.intervals(
        report.with_shuffled("own RNA"), x_label="Pearson's r, all samples", reference=0.0, reference_label="none"
    ),
    "all_samples",
    caption="The published test, over all held-out samples: what shuffled profiles of the same tissue reach is owed to the "
    "tissue alone (mean and 2.5 to 97.5 % over shuffles).",
    alt="Points with intervals, one row a class of cells, one marker a source of tiles, and the shuffled control.",
    n=f"{len(rna.fractions)} held-out samples",
)
page.table(report.shown(), caption="Fractions of the RNA and fractions read from tiles")
page.note(report.verdict("own RNA", ceiling="real tiles", label="label only"))

# %% [markdown]
# ## And a changed RNA?
#
# Genes are multiplied in the raw profile, by a quarter to four, and tiles are generated with the same noise: each is
# compared with itself. A gene or a set is multiplied whole; of a cell type's programme only the share of each gene that the
# type makes in the sample, and the sum is restored, as if the sample held more of that type. What each change should
# raise was named before the run (on her2st ERBB2 the epithelium, COL1A1 the fibroblasts, MCP-counter's
# {cite}`mcpcounter2016` immune genes the haematopoietic cells). Beside each stand random genes of like expression, among
# those that the generator reads. On the simulated cohort the simulator draws the same patients with more of the cells; on
# real tissue the real tiles show whether the reading sees what goes with this RNA.

# %%
run = train_preset(system, data, preset, overrides=[f"train.seed={seed}"])
generator = run.load()
reader = perturb.study.reader_for(generator, data, rna.training, known=reader)
given = {"tiles_per_profile": changed_tiles, "max_profiles": changed_profiles, "seed": seed}
changed = perturb.study.study(system, generator, data, reader, **given)
page.report(changed.report)
page.note(changed.note())
if not any(changed.report.named(system).values()):
    page.not_converged("no change of the RNA raises in generated tiles what it should")
page.figure(
    plots.dose_response(changed.report.doses, of="fraction"),
    "doses",
    caption=f"What the change should raise, paired by tile: 95 % intervals over {changed.report.unit}.",
    alt="One panel a change: points with intervals over five doses, a line a source of tiles.",
    n=f"{changed.n} held-out samples, {changed_tiles} tiles each",
)
page.table(changed.report.shown(), caption="Change a doubling of the RNA: fractions, nuclei a mm2 (* named before the run)")
if len(changed.real):
    page.table(changed.real_shown(), caption="The control: held-out real tiles, Spearman's correlation with the same RNA")

# %% [markdown]
# ## One cell type's RNA
#
# RNA-CDM's authors gave the generator de-convolved RNA: the mean profile of one cell type, as CIBERSORTx
# {cite}`cibersortx2019` finds it in group mode. Here the cohort's training profiles are regressed on their fractions, gene
# by gene; a table of CIBERSORTx can be read instead. All samples are given the same profile, so the mean RNA of the training
# samples stands beside it: that takes a sample's own profile away, too. On the simulated cohort the planted programmes judge
# the profiles of the types, and fractions shuffled among the samples are the control.

# %%
pure = perturb.pure.deconvolved(generator, data, reader, types=changed.types, **given)
page.report(pure)
page.figure(
    plots.intervals(
        pure.chart, x_label="fraction read, less that of own RNA", reference=0.0, reference_label="no difference"
    ),
    "one_type",
    caption="Fractions read from tiles of one class's RNA, less those from tiles of the sample's own RNA with the same "
    f"noise. Intervals resample {pure.unit}.",
    alt="Points with intervals, one row a fraction that is read, one marker a profile that was given.",
    n=f"{pure.n} held-out samples",
)
page.note(pure.note())
if len(pure.truth):
    page.table(pure.truth, caption="Profiles of types by group mode and the planted programmes: correlation over genes")
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - Deconvolution gives shares of RNA. Images show cells; between the two stands the RNA content of a cell, and the table of
#   known fractions shows what leaving it out costs on planted ones.
# - A correlation over all samples rewards hearing the tissue. The same number for shuffled profiles says how much of it that
#   is, and the correlation within tissues says what is left for the sample.
# - That tiles change with the RNA proves little, for random genes of like expression may change them, too. What counts is
#   what the named quantity does beyond these, and whether the control shows that it can be read at all.
#
# ## Limits
#
# - A changed profile is one that no patient has. A network may answer it by what it saw nearest, and one gene of many is
#   little of a latent; a gene that the generator does not read cannot do anything.
# - The simulated signature fits the simulated profiles better than a published one fits a tumour: the measured lymph nodes
#   are the sterner judge, but they are few.
# - On her2st the fractions were estimated from the same RNA that the generator reads, and its tissues are groups of these
#   fractions, so that little is left within them; one tumour gave all sections.
# - The reader of tiles is linear, and reads classes that go together in training samples from each other. It learnt on real
#   tiles: where generated ones look unlike any real tile, it may miss what they show.

# %%
page.close(runs=list({one.id: one for one in (*runs.values(), run)}.values()))
