"""The replacement study by a longer protocol than a page has time for: run once, recorded, and shown beside the page's own.

Nothing is added to the question: arms, folds, controls and tests are those of `replacement`. A record must let a reader
judge whether the trainings were long enough, so that it holds their losses, and how many tiles of each held-out patient
were named rightly, without the patient's name.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import rnasynth
from rnasynth.engine import Processes, resolve_precision
from rnasynth.evaluation.cells.composition import Equivalence, equivalence
from rnasynth.evaluation.utility.bench import Bench
from rnasynth.evaluation.utility.protocols import Protocol
from rnasynth.evaluation.utility.replacement import ReplacementReport, arm_in_words, in_points, replacement_study

WHOLE = "replaced_0"  # the arm that all others are compared with
CHANGE = "change_"  # before an arm: what it differs from that one
#: Number of a record's summary -> heading.
COLUMNS = {
    "mean_replaced_0": "all real",
    "mean_change_replaced_75": "75 % replaced, less all real",
    "se_change_replaced_75": "its error",
    "mean_change_left_out_75": "75 % left out, less all real",
    "se_change_left_out_75": "its error ",
    "mean_change_exchanged_100": "profiles exchanged, less all real",
    "se_change_exchanged_100": "its error  ",
}
PART = 0.2  # of a training's steps: its end, and what came before
STILL = 0.1  # of the loss: it stands still where the end lies no further below what came before


@dataclass(frozen=True, eq=False)
class Trainings:
    """A study's trainings, as a record asks a run for them.

    Attributes
    ----------
    id, system_name : of the generator's run, whose tiles they learned from.
    config : the study's protocol.
    versions : libraries, device and precision of the trainings.
    folder : of the trainings, a folder each, named "ARM-PERCENT-fold-NUMBER".
    """

    id: str
    system_name: str
    config: Protocol
    versions: dict[str, Any]
    folder: Path

    def metrics(self) -> pd.DataFrame:
        """Return the logged steps: step, train_loss, train_accuracy, seconds (of all trainings so far), arm, fold."""
        parts, before = [], 0.0
        for path in sorted(self.folder.glob("*-fold-*/metrics.jsonl")):
            arm, fold = path.parent.name.split("-fold-")
            lines = pd.read_json(path, lines=True)[["step", "train_loss", "train_accuracy", "seconds"]]
            lines["seconds"] += before
            before = float(lines["seconds"].max())
            parts.append(lines.assign(arm=arm.replace("-", "_"), fold=int(fold)))
        return pd.concat(parts, ignore_index=True)


def longer_study(bench: Bench, run: Any, folder: Path) -> tuple[str, Trainings, pd.DataFrame]:
    """Run the replacement study so that it can be recorded; interrupted, it goes on where it was.

    Parameters
    ----------
    bench : of the longer protocol, see `bench.prepare`.
    run : the generator's.
    folder : where the trainings are kept.

    Returns
    -------
    What was trained, in words; the trainings; and a row a unit (patient, or sample where one group is tested):
    "mean_ARM_PERCENT", the share of its tiles that was named rightly, and "mean_change_ARM_PERCENT", that less the share
    after training on real tiles alone.

    Raises
    ------
    As `replacement.replacement_study`.
    """
    found = replacement_study(bench, folder=folder)
    rows = found.units.add_prefix("mean_")
    for arm in found.tests:
        rows[f"mean_{CHANGE}{arm}"] = found.units[arm] - found.units[WHOLE]
    config = bench.protocol.replacing
    device = Processes.join(config.train.device).device
    versions = {
        "rnasynth": rnasynth.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": device.type,
        "precision": resolve_precision(config.train.precision, device),
    }
    steps = bench.protocol.replacing.train.steps_for(found.n_tiles)
    title = (
        f"ResNet-{config.depth} of width {config.width}, {config.tile_px} px, {found.n_tiles:,} tiles, "
        f"{steps} steps of {min(config.train.batch_size, found.n_tiles)}, {len(bench.folds)} folds, seed {bench.seed}"
    )
    return title, Trainings(run.id, run.system_name, bench.protocol, versions, folder), rows


@dataclass(frozen=True, eq=False)
class LongerReport:
    """What a record says, beside what a page found.

    Attributes
    ----------
    title : what was trained.
    tests : "ARM_PERCENT" -> the test against no replacement, from the record's lines.
    kept : "replaced_PERCENT" -> the test of it against only leaving the tiles out: what the synthetic ones bring.
    whole : share of a unit's tiles that was named rightly after training on real tiles alone, mean over units.
    losses : "ARM_PERCENT" -> (steps, training loss), means over folds.
    found : what the page found by its own protocol.
    """

    title: str
    tests: dict[str, Equivalence]
    kept: dict[str, Equivalence]
    whole: float
    losses: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    found: ReplacementReport

    def sees(self) -> bool:
        """Whether tiles of exchanged profiles are seen to do worse: then the measurement can see a loss."""
        return self.tests["exchanged_100"].difference.high < 0

    def fall(self, arm: str) -> float:
        """Return by how much of itself the training loss still fell from the last fifth but one to the last fifth."""
        steps, losses = self.losses[arm]
        end, before = (steps > (1 - k * PART) * steps[-1] for k in (1, 2))
        return 1.0 - float(losses[end].mean() / losses[before & ~end].mean())

    def still(self) -> bool:
        """Whether the training loss hardly fell at the end; tiles of exchanged profiles, learnt by heart alone, aside."""
        return all(self.fall(arm) <= STILL for arm in self.losses if not arm.startswith("exchanged"))

    def changed(self) -> list[str]:
        """Return the arms of which the page says something else."""
        return [arm for arm, test in self.tests.items() if arm in self.found.tests and not self._agrees(arm, test)]

    def _agrees(self, arm: str, test: Equivalence) -> bool:
        other = self.found.tests[arm]
        ways = [np.sign(each.difference.value) if each.differs else 0 for each in (test, other)]
        return ways[0] == ways[1] and test.verdict == other.verdict

    def rows(self) -> pd.DataFrame:
        """Return rows for a chart: label (arm), group, value, low, high (points of accuracy, 90 %)."""
        rows = []
        for group, tests in (("this page", self.found.tests), ("recorded", self.tests)):
            for arm in self.tests:
                if arm in tests:
                    ends = {name: 100 * getattr(tests[arm].difference, name) for name in ("value", "low", "high")}
                    rows.append({"label": arm_in_words(arm), "group": group, **ends})
        return pd.DataFrame(rows)

    def curves(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return lines for a chart: arm in words -> (steps, training loss); not of exchanged profiles, as for `still`."""
        fits = {arm: line for arm, line in self.losses.items() if not arm.startswith("exchanged")}
        return {"all real" if arm == WHOLE else arm_in_words(arm): line for arm, line in fits.items()}

    def note(self) -> str:
        """Say in one paragraph whether the longer trainings bear out the page's, and what the synthetic tiles brought."""
        text = [
            f"Recorded: {self.title}. With real tiles alone {self.whole:.0%} of the tiles are named rightly, "
            f"{self.found.units[WHOLE].mean():.0%} by this page's own trainings (means over {self.found.unit})."
        ]
        fits = [arm for arm in self.losses if not arm.startswith("exchanged")]
        falls = ", ".join(f"{self.fall(arm):.0%} ({'all real' if arm == WHOLE else arm_in_words(arm)})" for arm in fits)
        text.append(f"In the last fifth of the steps the training loss fell by {falls} of itself.")
        if not self.still():
            text.append("Longer trainings may end otherwise.")
        text += [f"{arm_in_words(arm)}: {in_points(test.difference)}, {test.verdict}." for arm, test in self.tests.items()]
        if not self.sees():
            return " ".join([*text, "Not even tiles of exchanged profiles are seen to do worse: a loss cannot be seen."])
        for arm, test in self.kept.items():
            ends, alone = test.difference, self.tests[arm.replace("replaced", "left_out")]
            what = (
                "add to these"
                if ends.low > 0
                else "take from these"
                if ends.high < 0
                else "are not seen to change what these do"
            )
            text.append(
                f"Of synthetic tiles beside the real ones that stayed, less those alone: {in_points(ends)}: they {what}."
            )
            if alone.difference.high < 0:
                little = ", though by less than the margin" if alone.equivalent else ""
                text.append(f"The real tiles that were left out are missed{little}: there were not plenty.")
            elif alone.equivalent:
                text.append("The real tiles that were left out are not missed: there were plenty.")
        above = [f"{arm_in_words(arm)} ({self.found.tests[arm].verdict} there)" for arm in self.changed()]
        if above:
            text.append(f"The verdict of this page's own trainings does not stand for: {'; '.join(above)}.")
        else:
            text.append("The verdicts of this page's own trainings on these arms stand.")
        return " ".join(text)


def longer_report(facts: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], found: ReplacementReport) -> LongerReport:
    """Return what a record says, beside what a page found.

    Parameters
    ----------
    facts, lines : of a `pages.recorded.Record` of `longer_study`.
    found : by the page's protocol, of the same cohort.
    """
    margin = float(facts["config"]["margin"])
    tested = pd.DataFrame([line for line in lines if line["kind"] == "test"]).filter(regex="^mean_")
    units = tested.rename(columns=lambda name: str(name).removeprefix("mean_"))
    arms = [str(name) for name in units if not str(name).startswith(CHANGE) and name != WHOLE]
    trained = pd.DataFrame([line for line in lines if line["kind"] == "train"])
    means = trained.groupby(["arm", "step"], sort=False)["train_loss"].mean().sort_index()
    shares = [arm.removeprefix("left_out_") for arm in arms if arm.startswith("left_out")]
    both = [(f"left_out_{share}", f"replaced_{share}") for share in shares if f"replaced_{share}" in arms]
    return LongerReport(
        title=str(facts["title"]),
        tests={arm: equivalence(units[WHOLE], units[arm], margin=margin) for arm in arms},
        kept={made: equivalence(units[alone], units[made], margin=margin) for alone, made in both},
        whole=float(units[WHOLE].mean()),
        losses={arm: (means[arm].index.to_numpy(float), means[arm].to_numpy(float)) for arm in (WHOLE, *arms)},
        found=found,
    )
