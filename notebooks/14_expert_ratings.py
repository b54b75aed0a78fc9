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
#   question: What do the published ratings show?
#   cohorts: all
#   needs: []
#   demo_seconds: 30
# ---

# %% [markdown]
# # Expert ratings
#
# **Question.** What do the published ratings show?
#
# **What you will see.** The scores that pathologists gave to real tiles and to tiles of a GAN and of RNA-GAN, as RNA-GAN's
# authors print them; which statistical test gives each of their p values; what standard tests give when all comparisons are
# counted; how far the raters agree; and how many raters and tiles a new study needs. No cohort is used here: the numbers are
# the same whatever cohort the book runs on.
#
# **Cost.** About a quarter of a minute on two cores in `demo`.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper; nothing here depends on it
cohort: str = "simulated"  # nothing here depends on it
seed: int = 0  # seed of the bootstrap and of the simulated studies
scores: str = "expert_ratings"  # table of data_manifests/papers, or a csv of the same columns
tile_share: float = 0.5  # share of the leftover variance that single tiles bring and more tiles reduce, an assumption
out: str = ""  # folder for results and figures; empty: build/COHORT-PRESET/14_expert_ratings

# %% tags=["resolve"]
from rnasynth import plots
from rnasynth.evaluation.ratings import model as ratings_model
from rnasynth.evaluation.ratings import published as rating_published
from rnasynth.evaluation.ratings import scores as ratings
from rnasynth.evaluation.ratings import study as rating_study
from rnasynth.evaluation.ratings import trials as rating_trials
from rnasynth.pages import Page

page = Page.open(
    "14_expert_ratings",
    preset=preset,
    cohort=cohort,
    seed=seed,
    out=out,
    data="published-scores",
    scores=scores,
    tile_share=tile_share,
)

# %% [markdown]
# ## The scores
#
# Each pathologist scored every tile; printed are the means over the tiles of a group. The scores are typed in from the
# paper's text, each with its sentence, in `data_manifests/papers/expert_ratings.csv`.

# %%
table = ratings.read_ratings(scores)
study = rating_study.study_of(ratings.scores_of(table), seed=seed)
checks = rating_published.check_arithmetic(table)
for name, value in rating_published.mean_numbers(study.means).items():
    page.number(name, value, unit="points of 5", metric="mean of six pathologists' means")
page.figure(
    plots.paired_scores(study.scores, groups=["real", "RNA-GAN", "GAN"]),
    "scores",
    caption="Mean score of each pathologist over the tiles of a group, joined across groups; black: their mean. Grey: "
    "below the lowest score that the form offered.",
    alt="Two panels, lung and brain: a line for each rater from real over RNA-GAN to GAN; some lung scores lie below one.",
    n=f"{study.model.n_raters} pathologists",
)
means, means_note = rating_published.means_table(table, study.means)
page.table(means, caption="Scores over pathologists, from the fractions of points behind them, beside the printed ones")
page.note(means_note)
page.note(checks.scale_note)

# %% [markdown]
# ## The tissue question and the artefact question
#
# Only percentages are printed. A percentage of so many answers can take only certain values, so it tells how many tiles can
# have stood behind it. The paper calls the share of artefacts in RNA-GAN tiles significantly smaller than in GAN tiles
# without giving a p; the last table has Fisher's exact test, with every answer taken as independent: a rough guide.

# %%
page.table(rating_published.answers_table(table), caption="Answers to the two other questions, as printed")
page.table(checks.counts, caption="How many tiles a group do the printed percentages fit?")
page.note(checks.counts_note)
artefacts = rating_published.artefacts_p(checks)
page.table(artefacts, caption="Artefacts in RNA-GAN tiles against GAN tiles, Fisher's exact test")
page.number("smallest_artefacts_p", artefacts["p"].min(), label="artefacts, RNA-GAN against GAN, Fisher's exact test")

# %% [markdown]
# ## Which test gives which published p?
#
# The paper does not name its test. So every common one was tried, two-sided and one-sided, on the scores as printed and on
# the fractions behind them (a third of a point is printed with one decimal), on all pathologists and without each of them.
# A p counts as found if it is printed like the published one, rounded or with the further digits cut off, as the paper's own
# means and SDs are.

# %%
trials = rating_trials.published_tests(table)
found = rating_trials.explain(trials)
page.table(rating_published.trials_table(found), caption="The published p values, and the tests that give them")
for name, p in rating_published.p_numbers(found).items():
    page.number(name, p, metric="p of a test that the paper does not name", label="one-sided paired t test on all raters")
page.number("tests_tried", len(trials), label="tests tried")
page.note(rating_published.trials_note(trials, found))

# %% [markdown]
# ## What standard tests give
#
# Two-sided, paired by rater, and corrected for the number of comparisons (Holm); beside them effect sizes with intervals.

# %%
page.table(rating_published.effects_table(study), caption="Effect sizes with 95 % intervals")
page.table(rating_published.corrected_table(study), caption="Two-sided p values, alone and with Holm's correction over all")
page.number("smallest_t_p_holm", study.tests["t_p_holm"].min(), label="smallest p of the paired t tests after Holm")
page.number("smallest_wilcoxon_p_holm", study.tests["wilcoxon_p_holm"].min(), label="the same, Wilcoxon")
for name, interval in rating_published.effect_numbers(study.effects).items():
    page.number(name, interval, label="Hedges' g of the paired differences")
page.figure(
    plots.intervals(
        ratings.interval_rows(study.effects, "g"),
        x_label="Hedges' g of the paired differences, 95 % interval",
        reference=0.0,
        reference_label="no difference",
    ),
    "effects",
    caption="Standardised differences between groups, with intervals from the noncentral t distribution, uncorrected.",
    alt="Points with wide intervals for three comparisons in lung and in brain; a dashed line marks no difference.",
    n=f"{study.model.n_raters} pathologists",
)
page.note(rating_published.standard_note(study))

# %% [markdown]
# ## Figure 6: differences of scores
#
# (Real - GAN) - (real - RNA-GAN) is RNA-GAN - GAN: the two panels of the figure make one claim, not two.

# %%
page.figure(
    plots.rater_differences(
        {
            "A: real - synthetic": rating_study.figure_6(study.scores)["A"],
            "B: RNA-GAN - GAN": rating_study.figure_6(study.scores)["B"],
        },
        ratings.interval_rows(study.effects, "difference"),
    ),
    "differences",
    caption="Differences of each pathologist's scores, after Figure 6 of the paper. Intervals: Student's t over them.",
    alt="Dots of the raters' differences and their mean with interval, for real minus GAN, real minus RNA-GAN, and RNA-GAN "
    "minus GAN, in lung and brain.",
    n=f"{study.model.n_raters} pathologists",
)
claims = rating_study.figure_6_numbers(study.scores)
page.number("gap_larger_for_gan", claims["gap_larger_for_gan"], unit="points", paper="fig6a_gap_larger_for_gan")
page.number("rna_gan_over_gan", claims["rna_gan_over_gan"], unit="points", paper="fig6b_rna_gan_over_gan")

# %% [markdown]
# ## Agreement, a mixed model, and the size of a new study
#
# The model takes all scores at once: group and tissue are fixed, the rater is random. What is left over (a rater's taste in
# groups, and the tiles behind a mean) sets how many raters a new study needs. How much of it comes from single tiles cannot
# be known from means; the parameter `tile_share` assumes a share, and the table gives both extremes.

# %%
for name, interval in study.agreement.items():
    page.number(name, interval, label="agreement of the raters on the groups")
page.table(rating_published.agreement_table(study.agreement), caption="Agreement of the raters on the six groups")
page.table(study.model.effects, caption="Mixed model, points; intervals by Wald, narrow for so few raters")
page.number("sd_rater", study.model.sd_rater, unit="points", label="SD of the raters' levels")
page.number("sd_residual", study.model.sd_residual, unit="points", label="SD of what is left")
power = ratings_model.power_table(
    study.model, tiles_behind=rating_published.tiles_behind(table), tile_share=tile_share, seed=seed
)
page.table(
    rating_published.power_shown(power),
    caption="Raters needed for 80 % power at p < 0.05 (two-sided paired t test, one comparison)",
)
for row in power.itertuples():
    page.number(f"raters_for_{row.difference * 100:.0f}_hundredths_{row.tiles}_tiles", row.raters)
page.note(rating_published.power_note(power, tile_share))

# %%
page.verdicts(because=rating_published.reasons(found, checks))

# %% [markdown]
# ## Your own study
#
# `rnasynth ratings form lung/real=A lung/mine=B brain/real=C brain/mine=D --out form --tiles-per-group 10`, where A to D are
# folders of tiles, makes one HTML file with the paper's three questions, blinded and in an order of its own for each rater.
# It works without a network and exports a csv; the key stays with you. `rnasynth ratings analyse *.csv --key form-key.json
# --out analysis` reads the answers back through the analysis of this page. Tiles are drawn by the seed, not chosen by eye.
#
# ## Take-aways
#
# - One-sided tests without correction and a paired design carry the published claims; the notes above say which of them
#   remain when every comparison is tested both ways and counted.
# - RNA-GAN over GAN is a matter of lung; in brain the scores hardly differ.
#
# ## Limits
#
# - The tiles shown were the best three of ten, chosen by eye, in each group, and one set of tiles was shown to all: nothing
#   here speaks for the average tile of a model.
# - Only means over tiles are printed. Answers to single tiles, and so the spread between tiles, cannot be had.

# %%
page.close()
