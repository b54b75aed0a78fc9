"""The Inception Score of sets of tiles, by any classifier, always beside real tiles and beside a set without variety.

The score praises answers that are sure and classes that are evenly hit. It never looks at a real tile, so real tiles of
held-out patients are scored by the same classifier, and so is one tissue alone: what a generator would get that makes one
kind of good tile only. By a classifier of one's own it is another number than the published ones, which are by ImageNet's
Inception; both can be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.manifold import inception_score
from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import groups_if_enough
from rnasynth.features import FeatureNetwork

OWN = "our own classifier"
HELD_OUT, ONE_TISSUE = "real (test)", "real, one tissue"
Judge = Callable[[TileSet], NDArray[Any]]


class Answers:
    """A classifier's probabilities in the place of features, so that they are kept with a set of tiles.

    Parameters
    ----------
    classifier : tiles (B, H, W, 3) uint8 and um/px -> probabilities (B, classes), with `name` and `classes`; a
        `systems.classifier.TileClassifier` is one.
    """

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier
        self.name, self.dim = f"answers of {classifier.name}", len(classifier.classes)

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> NDArray[np.float32]:
        """Shape (B, H, W, 3), uint8 RGB, at `mpp_um` um a pixel -> (B, classes) float32."""
        return np.asarray(self.classifier(tiles, mpp_um), dtype=np.float32)


def judges_of(networks: Sequence[FeatureNetwork], answers: Answers) -> dict[str, Judge]:
    """Return who gives a score, in words -> how: the classifier, and every feature network that can name classes.

    Of the feature networks only Inception can, by the class layer of its published weights.
    """
    judges: dict[str, Judge] = {OWN: lambda tiles: tiles.features[answers.name]}
    for network in networks:
        if hasattr(network, "probabilities"):
            judges[network.name] = lambda tiles, own=network: own.probabilities(tiles.features[own.name])  # type: ignore[misc]
    return judges


def scores(
    test: TileSet,
    generated: Mapping[str, Sequence[TileSet]],
    judges: Mapping[str, Judge],
    *,
    n_boot: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Score held-out real tiles, those of one tissue, and each generator's first set; the same number of tiles of each.

    Parameters
    ----------
    test : held-out real tiles; the tissue that stands alone is the one with the most of them, where there are two or more.
    generated : generator -> its sets of tiles, one a seed.
    judges : who, in words -> tiles to probabilities (n, classes), see `judges_of`.
    n_boot, seed : of the intervals, over patients; over tiles where there are fewer than three.

    Returns
    -------
    One row a judge and set: label (judge), group (set), value, low, high, n, method. The score of one tissue is of all its
    tiles, which are fewer.

    Raises
    ------
    InputError : a set without tiles, or answers that are no probabilities.
    """
    sets = {HELD_OUT: test, **{name: several[0] for name, several in generated.items()}}
    if empty := [name for name, tiles in sets.items() if not len(tiles)]:
        raise InputError(f"tiles, {empty[0]}", expected="at least one", found="none")
    n = min(len(tiles) for tiles in sets.values())
    chosen = {name: (tiles, tiles.rows(n=n, seed=seed)) for name, tiles in sets.items()}
    if len(tissues := pd.Series(test.tissues).value_counts()) > 1:
        chosen[ONE_TISSUE] = (test, test.rows(str(tissues.index[0])))
    rows = []
    for words, judge in judges.items():
        for name, (tiles, mine) in chosen.items():
            groups = groups_if_enough(tiles.patients[mine])
            score = inception_score(judge(tiles)[mine], groups=groups, n_boot=n_boot, seed=seed)
            rows.append({"label": words, "group": name, **score.to_dict()})
    return pd.DataFrame(rows)


def keyed(table: pd.DataFrame) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield for each row of `scores` a name fit for a number, what it is in words, and its value, low, high and n.

    Names end in 0 for the own classifier, and in 1 and up for the feature networks that name classes.
    """
    judges = list(dict.fromkeys(table["label"]))
    for row in table.to_dict("records"):
        name = f"score_{key_of(str(row['group']))}_{judges.index(row['label'])}"
        yield name, f"Inception Score by {row['label']}, {row['group']}", {k: row[k] for k in ("value", "low", "high", "n")}


def score_note(table: pd.DataFrame, classes: int) -> str:
    """Say of each generator where its score by the own classifier lies between one tissue alone and held-out real tiles."""
    own = {str(row["group"]): row for row in table[table["label"] == OWN].to_dict("records")}
    real, one = own.pop(HELD_OUT), own.pop(ONE_TISSUE, None)
    words = [
        f"By {OWN}, real tiles of held-out patients score {real['value']:.2f} of at most {classes}"
        + (f", and one tissue alone {one['value']:.2f}." if one else ".")
    ]
    for name, row in own.items():
        place = "above" if row["low"] > real["high"] else "below" if row["high"] < real["low"] else "not told apart from"
        words.append(f"{name} scores {row['value']:.2f} ({place} the real tiles).")
    if any(row["low"] > real["high"] for row in own.values()):
        words.append("More than real tiles is no praise: tiles of each class more typical than any real one score highest.")
    return " ".join(words)
