"""One analysis for every rating study: the published scores, and the csv files that a rating form exports."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rnasynth.errors import InputError
from rnasynth.evaluation.ratings import agreement
from rnasynth.evaluation.ratings import model as ratings_model
from rnasynth.evaluation.ratings import scores as ratings
from rnasynth.evaluation.ratings.form import ARTEFACTS, KEY_FORMAT, QUALITY
from rnasynth.evaluation.ratings.model import RatingModel
from rnasynth.evaluation.stats import Interval, bootstrap
from rnasynth.files import read_json, write_json, write_text

KEY_FIX = "give the file that was written beside the form"
COLUMNS = ("study", "rater", "tile", "position", "tissue", "quality", "artefacts")


@dataclass(frozen=True, kw_only=True)
class RatingStudy:
    """What a set of scores says."""

    scores: pd.DataFrame
    """Columns tissue, group, rater, score: one mean a rater, tissue and group (points)."""
    means: pd.DataFrame
    """As `scores.describe` returns it."""
    tests: pd.DataFrame
    """As `scores.corrected_tests` returns it."""
    effects: pd.DataFrame
    """As `scores.effect_sizes` returns it."""
    agreement: dict[str, Interval]
    """As `agreement.agreement` returns it."""
    model: RatingModel
    """As `model.mixed_model` returns it."""

    def summary(self) -> pd.DataFrame:
        """Return one row a comparison, for readers: difference, g and delta with intervals, p with and without Holm."""
        shown = self.tests.drop(columns=["difference"]).copy()
        for place, (column, name) in enumerate(
            (("difference", "difference"), ("g", "Hedges' g"), ("delta", "Cliff's delta"))
        ):
            shown.insert(4 + place, name, [str(interval) for interval in self.effects[column]])
        return shown


def study_of(scores: pd.DataFrame, *, n_boot: int = 1000, seed: int = 0) -> RatingStudy:
    """Analyse scores: means, tests with Holm's correction, effect sizes, agreement, mixed model.

    Parameters
    ----------
    scores : columns tissue, group, rater, score (points); each rater scored each group of each tissue.
    n_boot, seed : of the bootstrap intervals.

    Raises
    ------
    InputError : fewer than two raters or groups, or a rater who did not score a group.
    """
    complete = scores.pivot_table(index="rater", columns=["tissue", "group"], values="score")
    if complete.isna().any(axis=None) or len(complete) < 2 or scores["group"].nunique() < 2:
        found = f"{len(complete)} raters, {scores['group'].nunique()} groups"
        raise InputError("scores", expected="two raters or more, two groups or more, none left out by a rater", found=found)
    if not ratings.comparisons(scores):
        raise InputError(
            "scores",
            expected="two groups of one tissue, to compare",
            found="each tissue with one group",
            fix="give groups as TISSUE/GROUP with tissues that several groups share",
        )
    return RatingStudy(
        scores=scores,
        means=ratings.describe(scores),
        tests=ratings.corrected_tests(scores),
        effects=ratings.effect_sizes(scores, n_boot=n_boot, seed=seed),
        agreement=agreement.agreement(scores, n_boot=n_boot, seed=seed),
        model=ratings_model.mixed_model(scores),
    )


def figure_6(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the differences behind RNA-GAN's figure 6: real - synthetic, and RNA-GAN - GAN, for each rater and tissue.

    Returns
    -------
    Panel -> columns label (the difference), tissue, rater, value (points).
    """
    pairs = {"A": (("real", "GAN"), ("real", "RNA-GAN")), "B": (("RNA-GAN", "GAN"),)}
    panels = {}
    for panel, wanted in pairs.items():
        rows = []
        for group, against in wanted:
            for tissue in dict.fromkeys(scores["tissue"]):
                table = ratings.wide(scores, tissue)
                for rater, value in (table[group] - table[against]).items():
                    rows.append((f"{group} - {against}", tissue, str(rater), float(value)))
        panels[panel] = pd.DataFrame(rows, columns=["label", "tissue", "rater", "value"])
    return panels


def figure_6_numbers(scores: pd.DataFrame) -> dict[str, Interval]:
    """Return what figure 6 claims, each rater's differences averaged over tissues first: the rater is the unit.

    Returns
    -------
    gap_larger_for_gan ((real - GAN) - (real - RNA-GAN), points) and rna_gan_over_gan: one and the same difference by
    arithmetic, so the figure's two panels make one claim.
    """
    mean = scores.groupby(["rater", "group"])["score"].mean().unstack()
    gan, rna_gan, real = (mean[name].to_numpy(float) for name in ("GAN", "RNA-GAN", "real"))
    return {
        "gap_larger_for_gan": ratings.difference_interval(real - gan, real - rna_gan),
        "rna_gan_over_gan": ratings.difference_interval(rna_gan, gan),
    }


def read_forms(paths: Sequence[str | Path], key: str | Path) -> pd.DataFrame:
    """Read the csv files that raters exported and look every tile up in the key.

    Returns
    -------
    One row a rater and tile: rater, tile, position, group, tissue (the tile's), tissue_answer, quality (1 to 5), artefacts
    (bool), file.

    Raises
    ------
    InputError : no file, a key of another kind, missing columns, another study, an unknown tile, a tile missing or twice, a
        score out of range, an unknown answer, or a rater in two files.
    """
    secret = read_json(key)
    if not isinstance(secret, dict) or secret.get("format") != KEY_FORMAT:
        raise InputError(str(key), expected="the key that `rnasynth ratings form` wrote", found="another file", fix=KEY_FIX)
    facts = secret.get("tiles"), secret.get("study"), secret.get("tissues")
    if not (isinstance(facts[0], dict) and isinstance(facts[1], str) and isinstance(facts[2], list)):
        raise InputError(str(key), expected="tiles, study and tissues in the key", found="a part of them", fix=KEY_FIX)
    if not paths:
        raise InputError("ratings", expected="at least one csv of a rater", found="none")
    rows: list[dict[str, Any]] = []
    owner: dict[str, Path] = {}
    for path in map(Path, paths):
        table = _read_form(path, secret)
        rater = str(table[0]["rater"])
        if rater in owner:
            raise InputError(f"{path}, rater {rater}", expected="each rater in one file", found=f"{owner[rater]} as well")
        owner[rater] = path
        rows += table
    return pd.DataFrame(rows)


def _read_form(path: Path, secret: dict[str, Any]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise InputError(str(path), expected="a csv exported by the form", found="no such file")
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            records, columns = list(reader), list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(str(path), expected="a csv exported by the form", found=str(error)) from None
    if missing := [name for name in COLUMNS if name not in columns]:
        raise InputError(str(path), expected=f"columns {', '.join(COLUMNS)}", found=f"no {', '.join(missing)}")
    tiles, low, high = secret["tiles"], *QUALITY
    rows: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=2):
        cell = {name: (record[name] or "").strip() for name in COLUMNS}
        subject = f"{path}, line {number}"
        if cell["study"] != secret["study"]:
            raise InputError(subject, expected=f"study {secret['study']}", found=cell["study"] or "none", fix="use its key")
        if cell["tile"] not in tiles:
            raise InputError(subject, expected="a tile of the key", found=f"unknown tile {cell['tile']!r}")
        if cell["quality"] not in [str(score) for score in range(low, high + 1)]:
            raise InputError(
                f"{subject}, tile {cell['tile']}", expected=f"quality {low} to {high}", found=repr(cell["quality"])
            )
        for name, allowed in (("tissue", secret["tissues"]), ("artefacts", ARTEFACTS)):
            if cell[name] not in allowed:
                found = repr(cell[name])
                raise InputError(f"{subject}, {name}", expected=f"one of {', '.join(allowed)}", found=found)
        tile = tiles[cell["tile"]]
        rows.append(
            {
                "rater": cell["rater"],
                "tile": cell["tile"],
                "position": cell["position"],
                "group": tile["group"],
                "tissue": tile["tissue"],
                "tissue_answer": cell["tissue"],
                "quality": int(cell["quality"]),
                "artefacts": cell["artefacts"] == "yes",
                "file": tile["file"],
            }
        )
    named = [row["tile"] for row in rows]
    if len(named) != len(set(named)) or set(named) != set(tiles):
        found = f"{len(named)} lines, {len(set(named))} different tiles"
        raise InputError(
            str(path), expected=f"each of the {len(tiles)} tiles once", found=found, fix="finish the form first"
        )
    if len(raters := {row["rater"] for row in rows}) != 1 or not rows[0]["rater"]:
        raise InputError(str(path), expected="one rater a file", found=", ".join(sorted(raters)) or "none")
    return rows


def answers_by_group(answers: pd.DataFrame, *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Share of tiles whose tissue was named rightly, and in which artefacts were seen, per tissue and group.

    Parameters
    ----------
    answers : as `read_forms` returns it.

    Returns
    -------
    Columns tissue, group, tissue_right and artefacts (`Interval`, shares in [0, 1], over raters; tissue_right is None where
    the tile's tissue is not in the key).
    """
    rows = []
    for (tissue, group), part in answers.groupby(["tissue", "group"]):
        seen = bootstrap(np.mean, part["artefacts"].astype(float), groups=part["rater"], n_boot=n_boot, seed=seed)
        right = None
        if tissue:
            hits = (part["tissue_answer"] == part["tissue"]).astype(float)
            right = bootstrap(np.mean, hits, groups=part["rater"], n_boot=n_boot, seed=seed)
        rows.append({"tissue": tissue, "group": group, "tissue_right": right, "artefacts": seen})
    return pd.DataFrame(rows)


def scores_from_answers(answers: pd.DataFrame) -> pd.DataFrame:
    """Return each rater's mean quality per tissue and group: columns tissue, group, rater, score.

    Rows are sorted, a group called "real" first, so that differences are real - other whatever the order of the tiles.
    """
    means = answers.groupby(["tissue", "group", "rater"])["quality"].mean().rename("score").reset_index()
    return means.sort_values("group", key=lambda names: names != ratings_model.REFERENCE, kind="stable", ignore_index=True)


def analyse_forms(paths: Sequence[str | Path], key: str | Path, out: str | Path, *, seed: int = 0) -> RatingStudy:
    """Analyse exported forms and write ratings.csv, means.csv, tests.csv and results.json to the folder `out`.

    Raises
    ------
    InputError : as `read_forms` and `study_of`; nothing is written.
    """
    if Path(out).exists() and not Path(out).is_dir():
        raise InputError(str(out), expected="a folder", found="a file", fix="give another path")
    answers = read_forms(paths, key)
    found = study_of(scores_from_answers(answers), seed=seed)
    shares = answers_by_group(answers, seed=seed)
    out = Path(out)
    write_text(out / "ratings.csv", answers.to_csv(index=False))
    write_text(out / "means.csv", found.means.to_csv(index=False))
    write_text(out / "tests.csv", found.summary().to_csv(index=False))
    write_json(out / "results.json", results(found, shares))
    return found


def results(found: RatingStudy, shares: pd.DataFrame | None = None) -> dict[str, Any]:
    """Return a study as JSON types; numbers that do not exist are null."""
    model = found.model
    return {
        "raters": int(found.scores["rater"].nunique()),
        "means": _records(found.means),
        "tests": _records(found.tests),
        "effects": _records(found.effects),
        "agreement": {name: interval.to_dict() for name, interval in found.agreement.items()},
        "mixed_model": {
            "effects": _records(model.effects),
            "reference": model.reference,
            "sd_rater": model.sd_rater,
            "sd_residual": model.sd_residual,
            "note": model.note,
        },
        "answers": [] if shares is None else _records(shares),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return value.to_dict()
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
