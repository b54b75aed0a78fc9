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
#   question: How near are the tiles to real ones, and are any copies?
#   cohorts: [simulated, her2st]
#   needs: [07_rna_gan, 08_external_cohort, 09_rna_cdm]
#   demo_seconds: 75
# ---

# %% [markdown]
# # Fidelity
#
# **Question.** How near are the tiles to real ones, and are any copies?
#
# **What you will see.** Distances of generated tiles to training tiles and to held-out ones, per tissue and in total, by two
# feature networks, always beside real tiles of other patients, which are the floor; how the distance depends on the number
# of tiles; precision, recall, density and coverage; what another training of the same generator would change; an Inception
# Score; and the training tile nearest to each generated one.
#
# **Cost.** A minute and a half on two cores in `demo`, where the generators are trained already.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, of training, of the noise and of the draws
systems: str = "rna-gan,cdm-base"  # generators to compare, by name, with commas
sampling_seeds: int = 3  # sets of tiles that each generator makes, each from other noise
training_seeds: int = 1  # above 1: so many trainings of each generator are made and recorded, from `seed` on
tiles_per_profile: int = 8  # generated tiles a held-out profile at most; 0: as many as a held-out sample has real ones
networks: str = "stain-texture,simclr-her2st"  # feature networks; a .safetensors file is Inception's converted weights
pairs: int = 6  # pairs of tile and nearest training tile to show
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/11_fidelity

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.evaluation.fidelity import map as fidelity_map
from rnasynth.evaluation.fidelity import score as fidelity_score
from rnasynth.evaluation.fidelity import sets as fidelity_sets
from rnasynth.evaluation.fidelity import study as fidelity_study
from rnasynth.evaluation.fidelity import trainings as fidelity_trainings
from rnasynth.evaluation.fidelity.reference import Reference
from rnasynth.evaluation.utility import cohorts as utility_cohorts
from rnasynth.features.networks import feature_network, preprocessing_of, reader_names
from rnasynth.pages import Page
from rnasynth.plots.fidelity import tile_pairs
from rnasynth.systems.training import train_preset

page = Page.open(
    "11_fidelity",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    systems=systems,
    sampling_seeds=sampling_seeds,
    training_seeds=training_seeds,
    tiles_per_profile=tiles_per_profile,
    networks=networks,
    pairs=pairs,
)

# %% [markdown]
# ## Tiles, real and generated
#
# Every generator makes tiles from the profiles of held-out patients, several times from other noise. Real tiles are averaged
# to the smallest pixel size among the generators. Where one of these was trained on tiles of one stain, all sets are brought
# to it, or the stain would be what is measured (how well another one draws the patients' stains is then not judged here).

# %%
data = page.load()
runs = {name: train_preset(name, data, preset, overrides=[f"train.seed={seed}"]) for name in systems.split(",")}
models = {name: run.load() for name, run in runs.items()}
px, restained = min(model.px for model in models.values()), any(run.config.same_stain for run in runs.values())
judges = [feature_network(name) for name in networks.split(",")]
said = reader_names([judge.name for judge in judges])
choice = [*utility_cohorts.classifier_choice(data), f"tile_px={px}", f"same_stain={str(restained).lower()}"]
classifier = train_preset("tile-classifier", data, preset, overrides=[f"train.seed={seed}", *choice])
answers = fidelity_score.Answers(classifier.load())
seen_by = [*judges, answers]
train, test = (fidelity_sets.real_tiles(data, split, seen_by, px=px, restained=restained) for split in ("train", "test"))
how = {"most": tiles_per_profile, "seeds": sampling_seeds, "restained": restained, "px": px, "seed": seed}
profiles, generated = fidelity_sets.generated_sets(models, data, test, seen_by, **how)
n = f"{len(train)} training and {len(test)} held-out real tiles, {len(next(iter(generated.values()))[0])} generated a seed"

# %% [markdown]
# ## How near?
#
# Frechet and kernel distance between features that are standardised by the training tiles (Inception's, where it is one of
# the networks, as they are). All sets of a row of the table have the same number of tiles. The floor is the distance of
# held-out real tiles to training tiles, which are of other patients. Distances by different networks cannot be compared.
# Frechet: mean and range over seeds (the floor: over draws). Kernel: 95 % of subsets, of patients where both sets have three
# or more, else of half of the tiles.

# %%
for number, network in enumerate(said):
    report = fidelity_study.compare(train, test, generated, network, seed=seed)
    for name, interval in report.numbers.items():
        page.number(f"{name}_{number + 1}", interval, label=f"{report.labels[name]} ({network})")
    page.figure(
        plots.intervals(report.rows("frechet_test"), x_label=f"Frechet distance to held-out real tiles ({said[network]})"),
        f"frechet_{number + 1}",
        caption="Frechet distance, sets of equal size: mean and range over sampling seeds (of the floor: over draws).",
        alt="Points with ranges, one row a tissue, one marker a generator and one for real tiles of other patients.",
        n=n,
    )
    page.table(report.shown(), caption=f"Distances by {network}; preprocessing: {preprocessing_of(judges[number])}")
    page.note(report.summary())

# %% [markdown]
# ## How many tiles?
#
# A Frechet distance falls as the tiles get more, also between real ones: two studies can be compared only at one number. The
# limit at infinitely many is a straight line's in 1 / n {cite}`fidinfinity2020`, and a rough one.

# %%
curves = {network: fidelity_study.size_curve(train, test, generated, network, seed=seed) for network in said}
page.figure(
    plots.curves({f"Frechet distance\n({said[key]})": one.lines for key, one in curves.items()}, x_label="number of tiles"),
    "sizes",
    caption="Frechet distance to held-out real tiles over the number of tiles in both sets, mean over seeds and draws.",
    alt="Falling lines over the number of tiles, one a generator and one for real tiles of other patients.",
    n=n,
)
for name, label, limit in fidelity_study.limits(curves):
    page.number(name, limit, label=label)

# %% [markdown]
# ## Like real ones, and as varied?
#
# Precision and density fall where tiles look unlike any real one; recall and coverage where kinds of real tiles are missing
# {cite}`precisionrecall2019,density2020`.

# %%
for number, network in enumerate(said):
    covered = fidelity_study.cover(train, test, generated, network, seed=seed)
    for name, label, row in fidelity_study.keyed(covered):
        page.number(f"{name}_{number + 1}", **row, label=f"{label} ({network})")
    page.figure(
        plots.intervals(covered, x_label=f"share, density: ratio ({said[network]})"),
        f"cover_{number + 1}",
        caption=f"Precision, recall, density and coverage of held-out real tiles, k = {fidelity_study.NEIGHBOURS}; 95 % "
        "intervals over patients, over tiles where there are fewer than three.",
        alt="Points with intervals, one row a measure, one marker a generator and one for real tiles of other patients.",
        n=n,
    )

# %% [markdown]
# ## Another training?
#
# The ranges above are over sampling seeds: the weights stay. Recorded trainings differ in their seed alone (first weights,
# order of tiles, noise); cohort, split, encoder and settings are the same, and so is the noise that tiles are made from.

# %%
new = fidelity_trainings.trained(systems.split(","), data, preset, train, test, judges, trainings=training_seeds, **how)
for title, run, rows in new:
    page.record(f"{cohort}_{preset}_{title}", title=f"{preset}: {title}", run=run, test=rows)
records = page.recorded(fidelity_trainings.headings(list(said)), caption="Recorded trainings: means over sampling seeds")
others = fidelity_trainings.over_trainings(records, runs, list(said), px=px, restained=restained)
page.report(others)
if others.numbers:
    page.table(others.shown(), caption="Over trainings, and of as many real tiles of other patients: mean and range")
    page.figure(
        plots.intervals(others.rows(), x_label="Frechet distance to held-out real tiles, over the floor's", reference=1.0),
        "trainings",
        caption="Frechet distance of recorded trainings, mean and range over sampling seeds (of real tiles: over draws).",
        alt="Points with ranges, one row a training and one for real tiles, one marker a network; a dashed line at 1.",
        n=n,
    )
page.note(others.summary())

# %% [markdown]
# ## Inception Score
#
# Sure answers and all classes hit: the score of {cite}`salimans2016`, which looks at no real tile. The judge is a classifier
# as page 08 has it, trained on real tiles of training patients at this pixel size and stain, so that the number compares
# with no published one; Inception's own is beside it where its weights are among the `networks`.

# %%
scored = fidelity_score.scores(test, generated, fidelity_score.judges_of(judges, answers), seed=seed)
for name, label, row in fidelity_score.keyed(scored):
    page.number(name, row.pop("value"), label=label, **row)
page.figure(
    plots.intervals(scored, x_label=f"Inception Score (1 to {answers.dim} by {fidelity_score.OWN})"),
    "score",
    caption="Inception Score, 95 % intervals as above. One tissue alone: as a generator that makes one kind of tile.",
    alt="Points with intervals, one marker a generator, one for held-out real tiles and one for those of one tissue.",
    n=n,
)
page.note(fidelity_score.score_note(scored, answers.dim))

# %% [markdown]
# ## Copies?
#
# A copy is nearer to one training tile than 99 % of held-out real tiles are to theirs, and that training tile stands out as
# much against the nearest of any other patient. Pixels are compared at 16 px, in all ways to flip and turn a tile.

# %%
found = fidelity_study.copies(train, test, generated, seed=seed)
reports = {"pixels": found, **{name: fidelity_study.copies(train, test, generated, name, seed=seed) for name in said}}
for space, report in reports.items():
    for name, interval in report.numbers.items():
        page.number(f"{name}_{space.split('-')[0]}", interval, label=f"{report.labels[name]} ({space})")
    page.table(report.table, caption=f"Nearest training tiles, distances of {space}; 95 % intervals over patients or tiles")
page.figure(
    plots.box_by_group(found.distances, x_label="distance to the nearest training tile (pixels)"),
    "nearest",
    caption="Distance of each tile to its nearest training tile in pixels: median, quartiles, 5 and 95 %.",
    alt="Box plots of distances, one a generator, held-out real tiles first.",
    n=n,
)
shown = fidelity_sets.closest_pairs(
    data, profiles, train, test, models, generated, found, count=pairs, px=px, restained=restained, seed=seed
)
page.figure(
    tile_pairs(shown, mpp_um=data.tile_mpp(px)),
    "pairs",
    caption="The tiles of each set most like a copy, above the training tile nearest in pixels (maybe flipped or turned). "
    f"Above each: its distance over that of the next patient's nearest; of a copy, below {found.ratio_threshold:.2f}.",
    alt="Pairs of small tissue tiles: held-out real or generated ones, and below each its nearest training tile.",
    n=f"{pairs} pairs a set",
)

# %% [markdown]
# ## On a map
#
# Features of real and generated tiles on one UMAP, fitted on training tiles alone (compare RNA-GAN, Fig. 3B, 3C and 4B). A
# picture; what it suggests is measured above.

# %%
sets = {"real (test)": test, **{name: several[0] for name, several in generated.items()}}
for by, placed, background in fidelity_map.maps(train, sets, judges[0].name, seed=seed):
    page.figure(
        plots.map_of_sets(placed, background=background),
        f"map_{by}",
        caption=f"UMAP of the first network's features, training tiles grey; colour: {by} (patients: first, not selected).",
        alt="Scatter plots on one map: held-out real tiles, then the tiles of each generator.",
        n=n,
    )
facts = {"tile_px": px, "mpp_um": data.tile_mpp(px), "restained": restained, "cohort": data.name, "split": "test"}
for reference in Reference.save_all(test.features, judges, page.folder, store=data.tiles.fingerprint(), **facts):
    page.note(f"Statistics of the held-out tiles, to compare with: id {reference.id} ({reference.facts.network}).")
page.verdicts(fidelity_study.not_attempted())

# %% [markdown]
# ## Take-aways
#
# - A distance says something only beside the floor at the same number of tiles, with the same network: the remarks above say
#   for each generator whether it reaches it.
# - A range over sampling seeds is of one training. How much further trainings lie apart stands in the remark on another
#   training; an order of two generators holds as far as it holds for their trainings.
# - "Not a copy" is a statement about the nearest training tile against what real tiles of other patients have. It cannot
#   show that nothing was learned by heart that is larger or smaller than a tile.
#
# ## Limits
#
# - The Inception Score here is by our own classifier, which was trained on the same patients' tiles as the generators.
# - All but the section on another training is about one training of each generator. A few trainings give a range, not an
#   interval of confidence, and leave out what another split or another encoder would change.
# - At 32 px there is little that a copy could be known by, and the embedded network was written for these cohorts' kind of
#   tissue. The published distances are by Inception with ImageNet's weights, which a user has to bring (`networks`).
# - The released network was trained on her2st's training sections, so that on her2st it knows these better than the held-out
#   one: its floor is high there.
# - Where all held-out tiles are of one section, the floor is that section against others of the same tumour, not another
#   patient.

# %%
page.close(runs=[*runs.values(), classifier])
