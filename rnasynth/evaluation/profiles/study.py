"""One comparison of several trained systems and the baselines: same samples, same genes, same z-scores.

Systems may have been trained on other genes or scales; what they make is brought to the reference run's z-scores, through
linear values, before anything is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.data.patients import PatientInputs
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError
from rnasynth.evaluation.conditioning.experiment import critic_curves
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles.baselines import RIDGE_BOTH, RIDGE_FEATURES, RIDGE_TEXT, fit_baselines
from rnasynth.evaluation.profiles.genes import GeneReport, gene_report, order_by_validation
from rnasynth.evaluation.profiles.pairs import Pairs, ProfileModel, check_disjoint, pair, take
from rnasynth.evaluation.profiles.structure import StructureReport, structure_report
from rnasynth.evaluation.stats import Interval

BOTH = "tiles and text"
OTHER_TEXT = "text of another of its tissue"
MIN_SHARE = 0.5  # of the reference's genes that another system must make
TOO_FEW = "too few test samples: sets of profiles, and classifiers trained on them, are not compared"
FEWEST = 20  # test samples: below, no comparison of this room says anything


@dataclass(frozen=True, eq=False)
class InTransform:
    """A trained generator whose profiles are brought to another transform's z-scores.

    Attributes
    ----------
    model : has `transform`, `sample` and `mean`.
    transform : of the z-scores that are wanted; a gene that the model does not make is at its training mean.
    name : what stands in tables.
    """

    model: Any
    transform: Transform
    name: str

    @property
    def genes(self) -> tuple[str, ...]:
        """Order of the columns."""
        return self.transform.genes

    def mean(self, inputs: Any, n: int = 16, seed: int = 0) -> NDArray[np.float32]:
        """Return expected profiles, shape (N, genes)."""
        return self._moved(self.model.mean(inputs, n, seed))

    def sample(self, inputs: Any, n: int, seed: int = 0) -> NDArray[np.float32]:
        """Return draws, shape (N, n, genes)."""
        draws = self.model.sample(inputs, n, seed)
        return self._moved(draws.reshape(-1, draws.shape[2])).reshape(len(draws), n, -1)

    def _moved(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        own: Transform = self.model.transform
        if own == self.transform:
            return z
        names = pd.Index([str(row) for row in range(len(z))], dtype=object)
        made = own.wrap(z, pd.DataFrame(index=names))
        linear = AnnData(X=own.inverse(z), obs=made.obs, var=made.var, uns={"unit": self.transform.unit})
        return np.asarray(self.transform.apply(linear, min_share=MIN_SHARE, allow_small=True).X, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Study:
    """What is compared.

    Attributes
    ----------
    models : name -> trained systems first, then the baselines; all make z-scores of `transform`.
    trained : names of the trained systems.
    train, val, test : samples of each split with their real profiles; where some test samples have tiles, only these.
    left_out : test samples without tiles that are not judged.
    transform : of the reference run.
    order : genes from the best predicted to the worst by validation samples, mean over the baselines that read a sample.
    """

    models: dict[str, ProfileModel]
    trained: tuple[str, ...]
    train: Pairs
    val: Pairs
    test: Pairs
    transform: Transform
    order: NDArray[np.intp]
    left_out: int = 0

    @property
    def by_variance(self) -> NDArray[np.intp]:
        """Return the genes from the most variable to the least, by training samples."""
        return np.argsort(-np.square(self.transform.sd.astype(np.float64)), kind="stable")

    def remarks(self) -> list[str]:
        """Say how many samples are judged where not all are, and whether they are too few for any conclusion."""
        said = []
        if self.left_out:
            said.append(f"{self.left_out} test samples without tiles are not judged, {len(self.test)} with tiles are.")
        if self.too_few:
            said.append(
                f"**{len(self.test)} samples are too few: nothing can be concluded from this page.** "
                "It shows that the way is open for such data. Tissues are taken together, as most have one sample or none; "
                "sets of profiles, and classifiers trained on them, are not compared."
            )
        return said

    @property
    def ridge(self) -> str:
        """Return the name of ridge regression on all that samples have: features and text, or features alone."""
        return RIDGE_BOTH if RIDGE_BOTH in self.models else RIDGE_FEATURES

    @property
    def strata(self) -> NDArray[np.str_]:
        """Return the tissue of each test sample, within which genes are correlated; one for all where there are too few."""
        return np.full(len(self.test), "all") if self.too_few else self.test.tissues

    @property
    def too_few(self) -> bool:
        """Whether fewer than 20 test samples are judged."""
        return len(self.test) < FEWEST

    def means(self, *, n: int = 16, seed: int = 0) -> dict[str, NDArray[np.float32]]:
        """Return what every model expects of the test samples, shape (N, genes) each."""
        return {name: model.mean(self.test.inputs, n, seed) for name, model in self.models.items()}

    def draws(self, names: Sequence[str], part: Pairs, n: int, *, seed: int = 0) -> dict[str, NDArray[np.float32]]:
        """Return draws of some models for a part's samples, shape (N, n, genes) each."""
        return {name: self.models[name].sample(part.inputs, n, seed) for name in names}


def prepare(runs: Mapping[str, Any], cohort: Cohort, *, seed: int = 0) -> Study:
    """Load trained systems, fit the baselines, and bring all to the first run's genes and z-scores.

    Parameters
    ----------
    runs : name -> finished run; the first one is the reference, its feature network that of the baselines.
    cohort : that all were trained on.
    seed : of attention pooling.

    Raises
    ------
    InputError : no run, or a system that reads other features than the reference (found when it is first asked).
    SplitError : a split group in two splits.
    """
    if not runs:
        raise InputError("runs to compare", expected="at least one", found="none")
    generators = {name: run.load() for name, run in runs.items()}
    first = next(iter(generators.values()))
    parts = {
        split: pair(first.inputs(cohort, split), cohort.only(split).profiles, first.transform)
        for split in ("train", "val", "test")
    }
    check_disjoint(*parts.values())
    with_tiles = np.array([bag is not None for bag in parts["test"].inputs.bags])
    left_out = int((~with_tiles).sum()) if with_tiles.any() else 0
    if left_out:
        parts["test"] = take(parts["test"], np.flatnonzero(with_tiles))
    models: dict[str, ProfileModel] = {
        name: InTransform(generator, first.transform, name) for name, generator in generators.items()
    }
    fitted = fit_baselines(parts["train"], parts["val"], seed=seed)
    readers = {name: model for name, model in fitted.items() if name.startswith(("ridge", "attention"))}
    val = parts["val"]
    order = order_by_validation(val.z, {name: model.mean(val.inputs) for name, model in (readers or fitted).items()})
    return Study({**models, **fitted}, tuple(models), parts["train"], val, parts["test"], first.transform, order, left_out)


def told_less(inputs: PatientInputs, *, seed: int = 0) -> dict[str, PatientInputs]:
    """Return the same samples with less, or with another sample's, tiles or text; only what the inputs allow.

    Keys: "tiles and text" (or "tiles", "text" where there is no other), "tiles alone", "text alone", "tiles of another",
    "text of another", "text of another of its tissue". "Another" alone is any other sample of the split, of whatever tissue.
    """
    tiles, text = any(bag is not None for bag in inputs.bags), any(inputs.texts)
    if tiles and text:
        return {
            BOTH: inputs,
            "tiles alone": inputs.without_text(),
            "text alone": inputs.without_tiles(),
            "tiles of another": inputs.shuffled_tiles(seed),
            "text of another": inputs.shuffled_text(seed),
            OTHER_TEXT: inputs.shuffled_text_within_tissues(seed),
        }
    if tiles:
        return {"tiles": inputs, "tiles of another": inputs.shuffled_tiles(seed)}
    return {"text": inputs, "text of another": inputs.shuffled_text(seed)}


def ablations(
    models: Sequence[ProfileModel], inputs: PatientInputs, *, n: int = 16, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Return "MODEL: WHAT IT IS TOLD" -> expected profiles, shape (N, genes), for `gene_report`; see `told_less`."""
    given = told_less(inputs, seed=seed)
    return {f"{model.name}: {told}": model.mean(less, n, seed) for model in models for told, less in given.items()}


def ablation_report(
    compared: Study, models: Sequence[str], *, n_boot: int = 300, n_permutations: int = 99, seed: int = 0
) -> GeneReport:
    """Correlate what models make of less, or of something wrong, with the real genes; see `told_less`.

    The numbers "gain_MODEL__TOLD_all" are over what the same model makes of all that there is, on the same resamples.
    """
    test = compared.test
    inputs: Any = test.inputs
    reports = []
    for name in models:
        made = ablations([compared.models[name]], inputs, seed=seed)
        reports.append(
            gene_report(
                test.z,
                made,
                genes=test.genes,
                order=compared.order,
                groups=test.groups,
                tissues=compared.strata,
                reference=next(iter(made)),
                tops=(),
                n_boot=n_boot,
                n_permutations=n_permutations,
                seed=seed,
            )
        )
    frames = {
        rows: pd.concat([getattr(report, rows) for report in reports]) for rows in ("rows", "within_rows", "gain_rows")
    }
    return GeneReport(
        numbers={key: value for report in reports for key, value in report.numbers.items()},
        labels={key: label for report in reports for key, label in report.labels.items()},
        table=pd.concat([report.table for report in reports], axis=1),
        reference="all that there is",
        unit=reports[0].unit,
        **frames,
    )


def text_in_words(told: GeneReport, found: GeneReport, models: Sequence[str]) -> str:
    """Say what the own text adds to the tiles for each model, and for ridge regression; "" where there is no text."""
    parts = []
    for model in models:
        if (lost := told.numbers.get(f"gain_{key_of(f'{model}: {OTHER_TEXT}')}_all")) is None:
            return ""
        word = "uses" if lost.high < 0 else "is not shown to use"
        parts.append(
            f"{model} {word} the text beside the tiles: with that of another sample of the tissue its correlation "
            f"changes by {lost.value:.3f} [{lost.low:.3f}, {lost.high:.3f}]"
        )
    alone, tiles, both = (
        found.numbers[f"within_{key_of(name)}_all"].value for name in (RIDGE_TEXT, RIDGE_FEATURES, RIDGE_BOTH)
    )
    known = (
        "the tiles already show what the text tells" if both < tiles + 0.01 else "the text tells more than the tiles show"
    )
    parts.append(f"ridge regression reaches {alone:.3f} by the text, {tiles:.3f} by the tiles, {both:.3f} by both: {known}")
    return "; ".join(parts) + "."


def as_sets(compared: Study, made: Mapping[str, NDArray[Any]], *, n_boot: int = 100, seed: int = 0) -> StructureReport:
    """Compare made profiles of the test samples as sets; see `structure.structure_report`."""
    train, test = compared.train, compared.test
    return structure_report(
        train.z,
        test.z,
        made,
        groups_train=train.groups,
        groups=test.groups,
        tissues_train=train.tissues,
        tissues=test.tissues,
        columns=compared.by_variance,
        n_boot=n_boot,
        seed=seed,
    )


def most_variable(compared: Study, made: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return the real test profiles and some made ones, genes from the most variable in training to the least."""
    shown = {"real (test)": compared.test.z, **{name: made[name] for name in names}}
    return {name: values[:, compared.by_variance] for name, values in shown.items()}


def set_charts(report: StructureReport) -> dict[str, tuple[pd.DataFrame, str, float]]:
    """Return figure name -> (rows for `plots.intervals`, what the axis says, the value of real profiles at best)."""
    return {
        "structure": (report.structure_rows, "agreement of gene-gene correlations with the real ones", 1.0),
        "manifold": (report.manifold_rows, "precision, recall, coverage (shares) and density (ratio)", 1.0),
        "detected": (report.detected_rows, "area under the curve of telling made from real", 0.5),
    }


def beats_the_label(report: GeneReport, model: str, *, of: str = "all") -> bool:
    """Whether a model follows the genes within tissues, where the label alone reaches 0: its interval is above 0."""
    found: Interval = report.numbers[f"within_{key_of(model)}_{of}"]
    return bool(found.low > 0)


def deaf(report: GeneReport, models: Sequence[str]) -> list[str]:
    """Say of which models it is not shown; see `beats_the_label`."""
    said = "is not shown to say more of a gene than the tissue's name does"
    return [f"{name} {said}" for name in models if not beats_the_label(report, name)]


def genes_in_words(report: GeneReport, models: Sequence[str], *, control: str, of: str = "all") -> str:
    """Say which models follow the genes within tissues, and what the control that makes no draws reaches there."""
    parts = []
    for model in models:
        found: Interval = report.numbers[f"within_{key_of(model)}_{of}"]
        word = "follows the genes within tissues" if found.low > 0 else "is not shown to follow the genes within tissues"
        parts.append(f"{model} {word} (mean correlation {found.value:.3f} [{found.low:.3f}, {found.high:.3f}])")
    known: Interval = report.numbers[f"within_{key_of(control)}_{of}"]
    proof = "so the measurement works" if known.low > 0 else "so these inputs may not tell the genes at all"
    parts.append(f"the control {control} reaches {known.value:.3f} [{known.low:.3f}, {known.high:.3f}], {proof}")
    return "; ".join(parts) + "."


def in_percent(found: Interval) -> Interval:
    """Return an interval of shares as one of percentage points."""
    return Interval(100 * found.value, 100 * found.low, 100 * found.high, found.n, found.method)


def training_curves(runs: Mapping[str, Any]) -> dict[str, dict[str, tuple[NDArray[Any], NDArray[Any]]]]:
    """Return panels for `plots.curves`: critic distance of the adversarial runs, error of the flows' mean latent."""
    distance = critic_curves({name: run.metrics() for name, run in runs.items()})["critic distance"]
    wrong: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for name, run in runs.items():
        metrics = run.metrics()
        for part, word in (("train", "training"), ("val", "validation")):
            if (column := f"{part}_mean_error") in metrics:
                rows = metrics.dropna(subset=[column])
                wrong[f"{name}, {word}"] = (rows["step"].to_numpy(), rows[column].to_numpy())
    panels = {"critic distance": distance, "squared error of the mean latent": wrong}
    return {title: lines for title, lines in panels.items() if lines}
