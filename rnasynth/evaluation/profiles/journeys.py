"""Round trips of a cohort's held-out samples, and which way back reads the tiles.

The way back must see made and real tiles alike. A tile generator paints in one ordinary stain, so real tiles are brought to
it sample by sample (`features.same_stain`), averaged to the generator's pixels, and a way back is fitted on such tiles of
training samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.data.patients import PatientInputs, choose_tiles, features_key, store_mpp, texts_of
from rnasynth.data.splits import evenly_spaced
from rnasynth.data.transform import Transform
from rnasynth.errors import InputError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles.attention import attention_pooling
from rnasynth.evaluation.profiles.pairs import Pairs, pair, take
from rnasynth.evaluation.profiles.round_trip import (
    RoundTripReport,
    RoundTrips,
    round_trip_report,
    round_trips,
    tiles_of,
    tiles_only,
)
from rnasynth.evaluation.profiles.survivors import CEILING, MADE, CellReader, cell_reader, followed
from rnasynth.evaluation.stats import Interval
from rnasynth.features import FeatureNetwork, extract, same_stain

FRACTION = "fraction_"
AGAIN = "made of the RNA read off them"  # routes of `round_trip.round_trips`
OF_RNA = "made of the real RNA (ceiling)"


def one_stain_inputs(
    cohort: Cohort,
    split: str,
    network: FeatureNetwork,
    *,
    px: int,
    per_sample: int = 24,
    limit: int | None = None,
    seed: int = 0,
) -> PatientInputs:
    """Return a split's samples that have tiles, each sample's tiles brought to one stain before the network sees them.

    Parameters
    ----------
    px : side to which tiles are averaged.
    per_sample : at most so many tiles of a sample, chosen by `seed`.
    limit : at most so many samples, evenly spaced in the order of the cohort; None: all.

    Raises
    ------
    InputError : no tiles at all. SplitError : no sample in that split.
    """
    store, of_sample = cohort.tile_store(), cohort.tile_ids()
    obs = cohort.only(split).profiles.obs
    obs = obs[obs["sample_id"].astype(str).isin(of_sample).to_numpy()]
    obs = obs if limit is None else obs.iloc[evenly_spaced(len(obs), limit)]
    mpp_um = store_mpp(store, px)
    bags: list[NDArray[np.float32] | None] = []
    names = tuple(obs["sample_id"].astype(str))
    for name in names:
        ids = of_sample[name][choose_tiles(name, len(of_sample[name]), per_sample, seed)]
        bags.append(np.asarray(extract(same_stain(store.read_batch(ids, px=px)), network, mpp_um=mpp_um), np.float32))
    key = features_key(network.name, mpp_um)
    return PatientInputs(names, tuple(bags), texts_of(obs), tuple(obs["tissue"].astype(str)), key)


@dataclass(frozen=True, eq=False)
class Journey:
    """What all tile generators of a cohort with one pixel size are sent through.

    Attributes
    ----------
    train, val, test : real samples with features of their real tiles, brought to one stain.
    profiles : raw profiles of the test samples, in the order of `test`.
    transform : of the z-scores.
    network : tiles -> features.
    reader, fractions : profile -> cell types, and the test samples' known fractions; None where none are known.
    """

    train: Pairs
    val: Pairs
    test: Pairs
    profiles: AnnData
    transform: Transform
    network: FeatureNetwork
    reader: CellReader | None
    fractions: pd.DataFrame | None

    def travel(
        self,
        tiles: Any,
        way_back: Any,
        *,
        encoder: Any = None,
        inputs: PatientInputs | None = None,
        n_tiles: int = 8,
        n_boot: int = 300,
        n_permutations: int = 199,
        seed: int = 0,
    ) -> tuple[RoundTrips, RoundTripReport]:
        """Send the test samples both ways through a tile generator.

        Parameters
        ----------
        tiles : a trained tile generator.
        way_back : fitted on `train` and `val`.
        inputs : the test samples as the way back reads real tiles, where it was not trained on tiles of one stain; then made
            tiles are not brought to one stain either.
        encoder : `encode(raw profiles)` -> the latent that both directions share, such as the generator's own.
        n_tiles, n_boot, n_permutations, seed : see `round_trips` and `round_trip_report`.
        """
        restain = same_stain if inputs is None else None
        real = self.test.inputs if inputs is None else inputs
        trips = round_trips(
            tiles, way_back, self.profiles, real, self.transform, self.network, restain=restain, n_tiles=n_tiles, seed=seed
        )
        encode: Callable[[NDArray[np.float32]], NDArray[Any]] | None = None
        centre = None
        if encoder is not None:
            encode = latent_of(encoder, self.transform)
            centre = encode(self.train.z).mean(axis=0)
        report = round_trip_report(
            trips,
            genes=self.test.genes,
            tissues=self.test.tissues,
            groups=self.test.groups,
            reader=self.reader,
            fractions=self.fractions,
            encode=encode,
            latent_centre=centre,
            n_boot=n_boot,
            n_permutations=n_permutations,
            seed=seed,
        )
        return trips, report


def set_out(
    cohort: Cohort,
    transform: Transform,
    network: FeatureNetwork,
    *,
    px: int,
    max_samples: int,
    per_sample: int = 24,
    seed: int = 0,
) -> Journey:
    """Read what round trips of a cohort need.

    Parameters
    ----------
    transform : of the z-scores, such as the way's beta-VAE's.
    px : of the tile generators.
    max_samples : test samples at most, evenly spaced.

    Raises
    ------
    InputError : no tiles. SplitError : an empty split.
    """
    parts: dict[str, Pairs] = {}
    raw: dict[str, AnnData] = {}
    for split, limit in (("train", None), ("val", None), ("test", max_samples)):
        inputs = one_stain_inputs(cohort, split, network, px=px, per_sample=per_sample, limit=limit, seed=seed)
        profiles = cohort.only(split).profiles
        place = {str(name): row for row, name in enumerate(profiles.obs["sample_id"])}
        raw[split] = profiles[[place[name] for name in inputs.sample_ids]].copy()
        parts[split] = pair(inputs, raw[split], transform)
    columns = [name for name in raw["train"].obs if str(name).startswith(FRACTION)]
    columns = [name for name in columns if float(raw["train"].obs[name].std()) > 0]
    reader = fractions = None
    if columns:
        tables = {
            split: part.obs[columns].astype(float).rename(columns=lambda name: str(name).removeprefix(FRACTION))
            for split, part in raw.items()
        }
        reader = cell_reader(parts["train"].z, tables["train"], parts["val"].z, tables["val"])
        fractions = tables["test"]
    return Journey(parts["train"], parts["val"], parts["test"], raw["test"], transform, network, reader, fractions)


def latent_of(encoder: Any, transform: Transform) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """Return z-scores -> latents, by an encoder of the same transform.

    Raises
    ------
    InputError : the encoder reads other genes or another scale.
    """
    if getattr(encoder, "transform", transform) != transform:
        raise InputError("shared latent", expected="an encoder of the same genes and transform", found="another")
    return lambda z: np.asarray(encoder.encode(np.asarray(z, dtype=np.float32)))


@dataclass(frozen=True, eq=False)
class Named:
    """Numbers of one of several journeys under names of their own.

    Attributes
    ----------
    numbers : "JOURNEY_NAME" -> number or interval.
    labels : the same keys -> words.
    """

    numbers: dict[str, Any]
    labels: dict[str, str]


def named(report: Any, journey: str) -> Named:
    """Return a report's numbers under the name of a journey, with the journey in their labels."""
    key = key_of(journey)
    return Named(
        {f"{key}_{name}": value for name, value in report.numbers.items()},
        {f"{key}_{name}": f"{journey}: {label}" for name, label in report.labels.items()},
    )


def side_by_side(reports: Mapping[str, RoundTripReport], what: str, *, ceilings: Sequence[str]) -> pd.DataFrame:
    """Return rows of all journeys for `plots.intervals`, the journey and its route in the label.

    Parameters
    ----------
    what : "genes", "cells", "latents" or "tiles"; a journey without it is left out.
    ceilings : journeys whose ceiling is shown: one for every reader of real tiles.
    """
    frames: list[pd.DataFrame] = []
    for journey, report in reports.items():
        part = getattr(report, what)
        if part is None:
            continue
        bound = part.rows["label"].str.endswith("ceiling)") & (part.rows["label"] != CEILING)  # the same for all journeys
        shown = ~bound if frames else bound | ~bound
        rows = part.rows[shown & ((part.rows["label"] != CEILING) | (journey in ceilings))]
        frames.append(rows.assign(label=[f"{journey}, {label}" for label in rows["label"]]))
    return pd.concat(frames, ignore_index=True)


def gain_over_shuffled(report: RoundTripReport) -> Interval:
    """Return the mean correlation of genes through made tiles over that of shuffled pairs, interval of the former."""
    key = f"genes_{key_of(MADE)}"
    own, chance = report.numbers[f"correlation_{key}"], report.numbers[f"shuffled_{key}"].value
    return replace(own, value=own.value - chance, low=own.low - chance, high=own.high - chance)


def comes_back(report: RoundTripReport) -> bool:
    """Whether genes are more alike before and after than pairs shuffled within tissues: intervals apart."""
    key = f"genes_{key_of(MADE)}"
    return bool(report.numbers[f"correlation_{key}"].low > report.numbers[f"shuffled_{key}"].high)


def in_words(reports: Mapping[str, RoundTripReport], ceiling: RoundTripReport) -> str:
    """Say what comes back through each journey's made tiles, and what the same way back reads off real ones."""
    parts = []
    for journey, report in reports.items():
        found, word = (
            report.numbers[f"correlation_genes_{key_of(MADE)}"],
            "comes" if comes_back(report) else "is not shown to come",
        )
        share = 100 * report.numbers[f"share_genes_{key_of(MADE)}"]
        parts.append(
            f"{journey}: the profile {word} back (mean correlation within tissues {found.value:.3f} "
            f"[{found.low:.3f}, {found.high:.3f}], {share:.0f} % of the genes follow)"
        )
    known = ceiling.numbers[f"correlation_genes_{key_of(CEILING)}"]
    parts.append(
        f"off the real tiles of the same samples it is read with {known.value:.3f} [{known.low:.3f}, {known.high:.3f}]"
    )
    return "; ".join(parts) + "."


def gene_points(ceiling: RoundTripReport, report: RoundTripReport) -> pd.DataFrame:
    """Return each gene's r off real tiles and through made ones, for `plots.scatter_against`: x, y, group."""
    return followed(report.genes.table, ceiling.genes.table[CEILING])


def read_in_made_tiles(
    journey: Journey, tiles: Any, cohort: Cohort, *, n_tiles: int = 8, max_samples: int = 200, seed: int = 0
) -> Any:
    """Return attention pooling that was fitted on tiles made of the training samples' own RNA.

    A reader of real tiles may fail on made ones because they look unlike real ones, not because the RNA is not in them; this
    one has never seen a real tile. It may read what no pathologist would: a floor for what is lost, no proof of tissue.

    Parameters
    ----------
    n_tiles : made of a sample.
    max_samples : training samples at most, evenly spaced, and a third as many validation samples.
    """
    parts = []
    for split, whole, limit in (("train", journey.train, max_samples), ("val", journey.val, max_samples // 3)):
        rows = evenly_spaced(len(whole), limit)
        part = take(whole, rows)
        profiles = cohort.only(split).profiles
        place = {str(name): row for row, name in enumerate(profiles.obs["sample_id"])}
        mine = profiles[[place[name] for name in part.inputs.sample_ids]].copy()
        bags = [
            extract(same_stain(made), journey.network, mpp_um=tiles.mpp_um)
            for made in tiles_of(tiles, mine, n_tiles, seed=seed)
        ]
        parts.append(replace(part, inputs=tiles_only(part.inputs, bags)))
    return attention_pooling(parts[0], parts[1], seed=seed)


def retrieval_rows(reports: Mapping[str, RoundTripReport]) -> pd.DataFrame:
    """Return rows for `plots.intervals`: rank of the right sample in its tissue, by genes and by tiles, a row a journey."""
    kinds = {
        f"genes_{key_of(MADE)}": "RNA to tiles to RNA",
        f"tile_features_{key_of(AGAIN)}": "tiles to RNA to tiles",
        f"tile_features_{key_of(OF_RNA)}": "real RNA to tiles (ceiling)",
    }
    rows = []
    for journey, report in reports.items():
        for key, word in kinds.items():
            if (found := report.numbers.get(f"retrieval_{key}")) is not None:
                rows.append({"label": journey, "group": word, **found.to_dict()})
    return pd.DataFrame(rows)
