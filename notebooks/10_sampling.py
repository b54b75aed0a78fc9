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
#   question: What do steps, churn and guidance buy?
#   cohorts: [simulated, her2st]
#   needs: [09_rna_cdm]
#   demo_seconds: 90
# ---

# %% [markdown]
# # Sampling
#
# **Question.** What do steps, churn and guidance buy?
#
# **What you will see.** One trained base stage, drawn in many ways: three samplers over their number of steps, a student
# that was distilled to a few steps, added noise (churn) and guidance; each by distance to real tiles, by what is heard of
# the profile, and by its cost. And where the paper's choice, 32 stochastic steps of Heun with churn 80, lies on that map.
#
# **Cost.** About a minute on two cores in `demo`, where the base stage of page 09 is trained already.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name, or the path of a manifest
seed: int = 0  # seed of the split, of training and of the noise
profiles: int = 16  # held-out profiles, evenly spaced
sampling_seeds: int = 4  # tiles of each profile and setting, each from other noise
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/10_sampling

# %% tags=["resolve"]
import dataclasses

from rnasynth.evaluation import sampling
from rnasynth.evaluation.keys import key_of
from rnasynth.pages import Page
from rnasynth.plots.sampling import quality
from rnasynth.systems.cdm_config import PAPER_SAMPLING, Sampling
from rnasynth.systems.training import train_preset

page = Page.open(
    "10_sampling", preset=preset, cohort=cohort, seed=seed, out=out, profiles=profiles, sampling_seeds=sampling_seeds
)

# %% [markdown]
# ## The settings
#
# All settings draw from the same weights with the same noise, so they can be compared in pairs: Heun's method as in EDM
# {cite}`edm2022`, DPM-Solver++(2M) {cite}`dpmsolver2022` and Euler's. The student alone has weights of its own: it learns to
# land in one step where its teacher lands in two steps of Heun, at the eight noise levels that it will be drawn at
# (progressive distillation in one stage {cite}`progressivedistillation2022`).

# %%
data = page.load()
runs = {name: train_preset(name, data, preset, overrides=[f"train.seed={seed}"]) for name in ("cdm-base", "cdm-distilled")}
base, student = (run.load().to("auto") for run in runs.values())
settings = {"the paper's": dataclasses.replace(PAPER_SAMPLING, precision="auto")}
settings |= {f"Heun, {n} steps": Sampling(method="heun", steps=n, precision="auto") for n in (5, 9, 18, 32)}
settings |= {f"DPM-Solver++(2M), {n} steps": Sampling(method="dpm2m", steps=n, precision="auto") for n in (5, 10, 20)}
settings |= {f"Euler, {n} steps": Sampling(method="euler", steps=n, precision="auto") for n in (10, 20)}
churns = {f"churn {n:g}": Sampling(method="heun", steps=32, churn=n, precision="auto") for n in (5.0,)}
guided = {f"guidance {w:g}": Sampling(steps=10, guidance=w, precision="auto") for w in (0.0, 1.5, 2.0, 3.0)}
guided |= {"guidance 2, within 0.2 to 5": Sampling(steps=10, guidance=2.0, guided=(0.2, 5.0), precision="auto")}
points = sampling.entries(base, settings | churns | guided)
points += [sampling.Entry(f"student, {student.sampling.steps} steps", student.with_sampling(precision="auto"), "student")]
found = sampling.measure(points, data, n_profiles=profiles, seeds=[seed + number for number in range(sampling_seeds)])
n = f"{found.n_tiles} tiles a setting, {found.n_profiles} held-out profiles, {found.n_seeds} sampling seeds"
for row in found.table.to_dict("records"):
    key = key_of(row["name"])
    page.number(f"frechet_{key}", row["frechet"], label=f"Frechet distance, {row['name']}")
    page.number(f"evaluations_{key}", row["evaluations"], label=f"evaluations a tile, {row['name']}")
page.table(found.shown(), caption="Every setting; intervals over sampling seeds, seconds on this machine")

# %% [markdown]
# ## Evaluations

# %%
floor = found.floor["frechet"]
steps = found.only(*settings, points[-1].name)
page.figure(
    quality(
        {"Frechet distance": steps.rows("frechet"), "retrieval within the tissue": steps.rows("retrieval")},
        x_label="evaluations of the network for one tile",
        log_y=["Frechet distance"],
        bands={"Frechet distance": ("real tiles of other patients", floor.low, floor.high)},
        marked={"the paper's": "the paper's choice"},
    ),
    "evaluations",
    caption="Distance to held-out real tiles and retrieval of the right sample, over the evaluations that a tile costs.",
    alt="Two charts with a line a sampler over evaluations on a logarithmic axis; a grey band marks real tiles.",
    n=n,
)
page.note(found.where("the paper's"))
page.note(found.where(points[-1].name, called="The student"))
slow, fast = (found.row(name)["seconds"].value for name in ("Heun, 32 steps", points[-1].name))
page.number("student_times_faster", slow / fast, label="seconds a tile, 32 steps of Heun over the student")
page.number(
    "student_minus_heun_32",
    found.difference(points[-1].name, "Heun, 32 steps"),
    label="Frechet distance, the student minus 32 steps of Heun",
)
page.number(
    "paper_minus_ten_steps",
    found.difference("the paper's", "Euler, 10 steps"),
    paper="cdm_sampler",
    label="Frechet distance, the paper's 63 evaluations minus ten of Euler",
)

# %% [markdown]
# ## Churn and guidance
#
# Churn of 80 over 32 steps is 2.5 a step and is cut to the largest that the method allows, so that any churn above 13.3 is
# the same. Guidance {cite}`guidance2022` doubles the evaluations where it acts; 0 is the null condition, of no profile in
# particular. It can be confined to the noise levels where it pays {cite}`guidanceinterval2024`.

# %%
churned = found.only("Heun, 32 steps", *churns, "the paper's")
page.figure(
    quality(
        {
            name: churned.rows(key, against="churn").assign(group="Heun, 32 steps")
            for name, key in (("Frechet distance", "frechet"), ("mean haematoxylin area, minus real", "area_off"))
        },
        x_label="churn (S_churn)",
        log_x=False,
    ),
    "churn",
    caption="What added noise does at 32 steps of Heun; 80 is the paper's.",
    alt="Two charts over churn from 0 to 80.",
    n=n,
)
pulled = found.only("Euler, 10 steps", *(name for name in guided if "within" not in name))
page.figure(
    quality(
        {
            name: pulled.rows(key, against="guidance").assign(group="Euler, 10 steps")
            for name, key in (("Frechet distance", "frechet"), ("retrieval within the tissue", "retrieval"))
        },
        x_label="guidance weight",
        log_x=False,
    ),
    "guidance",
    caption="What guidance does at ten steps of Euler; 1 is none, 0 the null condition.",
    alt="Two charts over the guidance weight from 0 to 3.",
    n=n,
)
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - The remarks above say which settings are measurably nearer to real tiles than the paper's, and which cost less without
#   being measurably farther; a setting that is "not decided" needs more tiles, not more words.
# - Retrieval at guidance 0 is what the measure gives for tiles that heard nothing.
#
# ## Limits
#
# - One base stage, trained for minutes, at 32 px. How many steps a model needs depends on how good it is: a coarse one hides
#   what the last evaluations buy. Intervals are over sampling seeds alone.
# - Seconds are of this machine and this batch; evaluations are not.

# %%
page.close(runs=list(runs.values()))
