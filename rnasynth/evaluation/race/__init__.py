"""GANs with and without RNA, in a race that changes nothing but what the generator is fed."""

from rnasynth.evaluation.race.arms import ARMS, GAN, NARROW, RNA, Arm, check_fair, settings, train_arms
from rnasynth.evaluation.race.judge import Judge, judge_runs
from rnasynth.evaluation.race.milestones import RaceReport, kept_from, report

__all__ = [
    "ARMS",
    "GAN",
    "NARROW",
    "RNA",
    "Arm",
    "Judge",
    "RaceReport",
    "check_fair",
    "judge_runs",
    "kept_from",
    "report",
    "settings",
    "train_arms",
]
