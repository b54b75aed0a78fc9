"""The book's perturbations: which changes are tried on which cohort, what they should raise, and what proves the reading.

Where nothing happens in generated tiles, either the generator does not listen or the reading does not see. So the same
readers read tiles in which the truth is known to have changed: on the simulated cohort the simulator's own tiles of each
patient with more cells of the type; on real tissue, where no such tiles exist, real tiles of samples that differ by nature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from anndata import AnnData

from rnasynth.data.cohort import Cohort
from rnasynth.data.genes import locate
from rnasynth.data.simulate import MARKERS
from rnasynth.errors import InputError, PartialFailure
from rnasynth.evaluation.cells.models import default_nuclei
from rnasynth.evaluation.cells.nuclei import NucleiModel
from rnasynth.evaluation.deconvolution.checks import fractions_of, join_types
from rnasynth.evaluation.deconvolution.follow import CLASSES
from rnasynth.evaluation.deconvolution.group_mode import CellTypeProfiles
from rnasynth.evaluation.deconvolution.inputs import read_marker_lists, signature_folder
from rnasynth.evaluation.deconvolution.mixtures import simulated_rna_content
from rnasynth.evaluation.deconvolution.readers import FractionReader, TileReader, with_tiles
from rnasynth.evaluation.stats import Interval
from rnasynth.perturb.changes import Change, gene_change, programme_change
from rnasynth.perturb.controls import TRUTH, real_association, simulated_truth
from rnasynth.perturb.effects import DOSES, TileGenerator, measure
from rnasynth.perturb.pure import class_profiles, programmes, spaced, with_fractions
from rnasynth.perturb.reading import HaematoxylinArea, NucleiDensity, nuclei_countable
from rnasynth.perturb.report import EffectReport

SIMULATED_KINDS = ("lymphocyte", "fibroblast", "epithelial")  # whose programmes are changed on the simulated cohort
#: Genes that are changed on real tissue, and the class of cells that each should raise; set before anything was seen.
GENES = {"ERBB2": "epithelial", "COL1A1": "fibroblast"}
IMMUNE_LISTS = ("T cells", "B lineage", "Monocytic lineage")  # of MCP-counter
IMMUNE = "haematopoietic"
MIN_READ = 0.5  # of a set's genes: a generator that reads fewer can hardly react to the set
MAX_COUNTED = 20  # held-out samples whose nuclei are counted, which takes long


@dataclass(frozen=True, eq=False)
class Study:
    """Perturbations of a cohort's held-out profiles.

    Attributes
    ----------
    report : effects of the generator, joined with those of the simulator's own tiles where there are any.
    source : the generator's name in the report.
    real : on real tissue a row a change: change, quantity, value, low, high (Spearman's correlation over held-out samples
        of the RNA that the change multiplies and the quantity in the real tiles), n; empty on simulated data.
    countable : whether nuclei are counted at the generators' pixel size, and the control's ratio.
    read_genes : change -> how many of its genes the generator reads, of how many; empty where it does not say.
    programmes : the changes that are programmes, not genes.
    types : profiles of the classes of cells, estimated on the training samples.
    n : held-out samples.
    """

    report: EffectReport
    source: str
    real: pd.DataFrame
    countable: tuple[bool, Interval]
    read_genes: dict[str, tuple[int, int]]
    programmes: tuple[str, ...]
    types: CellTypeProfiles
    n: int

    def note(self) -> str:
        """Say in words what was and what was not seen, and what the controls allow to conclude."""
        named = self.report.named(self.source)
        risen = [change for change, rises in named.items() if rises]
        told = [
            f"{self.source}: {len(risen)} of {len(named)} changes raise what they should"
            + (f" ({', '.join(risen)})" if risen else "")
            + " (one-sided sign flips, Holm over the changes, and the whole interval above matched random genes). Other "
            "quantities in the table are uncorrected."
        ]
        truth = self.report.named(TRUTH)
        seen = [change for change, rises in truth.items() if rises]
        if truth:
            told.append(
                f"In the simulator's own tiles of the same patients {len(seen)} of {len(truth)} are read"
                + (f" ({', '.join(seen)})" if seen else "")
                + "."
            )
        elif len(self.real):
            seen = [str(row["change"]) for row in self.real.to_dict("records") if row["low"] > 0]
            told.append(
                f"In real tiles {len(seen)} of {len(self.real)} of these quantities go with the amount of the same RNA"
                + (f" ({', '.join(seen)})" if seen else "")
                + ": an association, not an effect, but it shows what the reading can see."
            )
        shares = {name: own / every for name, (own, every) in self.read_genes.items() if every}
        deaf = [change for change in seen if not named.get(change, True)]
        unread = [change for change in deaf if shares.get(change, 1.0) < MIN_READ and change not in self.programmes]
        deaf = [change for change in deaf if change not in unread]
        if deaf:
            told.append(f"For {', '.join(deaf)} the reading works: the weak part is the generator, or reading its tiles.")
        for change in unread:
            own, every = self.read_genes[change]
            told.append(f"Of {change} the generator reads {own:,} of {every:,} genes: it can hardly react to it.")
        blind = [change for change, rises in named.items() if change not in seen and not rises]
        if blind:
            told.append(f"For {', '.join(blind)} the control shows nothing either: nothing can be said of the generator.")
        unsure = [change for change in risen if change not in seen]
        if unsure:
            told.append(f"For {', '.join(unsure)} the control does not show that what rises is what it is called.")
        yes, ratio = self.countable
        told.append(
            f"Brought to the generator's pixel size, real tiles show {ratio} times as many nuclei: they are "
            + ("counted too." if yes else "not counted here.")
        )
        return " ".join(told)

    def real_shown(self) -> pd.DataFrame:
        """Return the association in real tiles as text for a page."""
        rows = self.real.to_dict("records")
        return pd.DataFrame(
            {
                "RNA": [row["change"] for row in rows],
                "read from real tiles": [row["quantity"] for row in rows],
                "correlation": [f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" for row in rows],
                "samples": [row["n"] for row in rows],
            }
        )


def readable(cohort: Cohort, training: pd.DataFrame) -> pd.DataFrame:
    """Add to a training table of classes the simulator's own types, so that a reader learns both."""
    if not cohort.simulated:
        return training
    own = fractions_of(cohort.only("train").profiles).loc[training.index]
    return training.join(own[[kind for kind in own if kind not in training]])


def reader_for(
    generator: TileGenerator, cohort: Cohort, training: pd.DataFrame, *, known: FractionReader | None = None
) -> FractionReader:
    """Learn a reader of the fractions of a training table, and of the simulator's own types, at a generator's pixel size.

    `known`, a reader of the same cohort and table, is given back where it was learnt at that size.

    Raises
    ------
    InputError : the generator's tiles show another field than the cohort's, so that no real tile is like them.
    """
    if abs(generator.mpp_um / cohort.tile_mpp(generator.px) - 1) > 0.01:
        raise InputError(
            "generator",
            expected=f"tiles of the cohort's field, {cohort.tile_mpp(generator.px):g} um a pixel at {generator.px} px",
            found=f"{generator.mpp_um:g} um a pixel",
            fix="generate whole fields",
        )
    if known is not None and known.px == generator.px:
        return known
    return FractionReader.fit(cohort, readable(cohort, training), px=generator.px)


def planned(cohort: Cohort, profiles: AnnData, types: CellTypeProfiles | None = None) -> list[Change]:
    """Return the changes that are tried on a cohort's held-out profiles, each with what it should raise.

    Simulated: the planted programmes of three cell types. Otherwise ERBB2, COL1A1, MCP-counter's T cells, B lineage and
    monocytic lineage as one set (the embedded markers of lymphocytes and macrophages where its lists are not at hand), and
    the haematopoietic programme as the training samples' published fractions give it; those that the cohort can have.

    Parameters
    ----------
    types : profiles of the classes of cells; None: `pure.class_profiles`.

    Raises
    ------
    InputError : none of them can be made.
    """
    if cohort.simulated:
        fractions, content, reference = fractions_of(profiles), simulated_rna_content(), programmes(cohort)
        return [
            programme_change(profiles, reference, fractions, kind, rna_content=content, raises=kind)
            for kind in SIMULATED_KINDS
        ]
    changes = []
    sets: dict[str, tuple[tuple[str, ...], str]] = {gene: ((gene,), raises) for gene, raises in GENES.items()}
    name, genes = immune_genes()
    sets[name] = (genes, IMMUNE)
    for words, (members, raises) in sets.items():
        if any(locate(list(members), profiles, duplicates="first")):
            changes.append(gene_change(profiles, members, name=words, raises=raises))
    if any(column.startswith("fraction_") for column in profiles.obs):
        types = class_profiles(cohort) if types is None else types
        known = join_types(fractions_of(profiles), CLASSES)
        changes.append(programme_change(profiles, types.means, known, IMMUNE, raises=IMMUNE))
    if not changes:
        raise InputError(f"cohort {cohort.name}", expected=f"genes such as {', '.join(GENES)}", found="none of them")
    return changes


def immune_genes() -> tuple[str, tuple[str, ...]]:
    """Return the name and the genes of the immune set: MCP-counter's lists where they are at hand, else embedded markers."""
    try:
        lists = read_marker_lists(signature_folder() / "MCPcounter_genes.txt")
    except (InputError, PartialFailure):
        return "immune markers", (*MARKERS["lymphocyte"], *MARKERS["macrophage"])
    return "immune (MCP-counter)", tuple(dict.fromkeys(gene for name in IMMUNE_LISTS for gene in lists[name]))


def study(
    source: str,
    generator: TileGenerator,
    cohort: Cohort,
    reader: TileReader,
    *,
    doses: Sequence[float] = DOSES,
    tiles_per_profile: int = 3,
    max_profiles: int = 40,
    controls: int = 4,
    seed: int = 0,
) -> Study:
    """Change held-out profiles as planned, generate with the same noise, read, and put the control beside it.

    Parameters
    ----------
    source : the generator in words.
    generator : see `effects.measure`. Genes of its encoder's transform, where it has one, are those of the matched sets.
    cohort : with tiles.
    reader : of fractions, learnt on real tiles of training samples (see `readable`); the haematoxylin area, and nuclei
        where page 12's control allows, are read beside it.
    max_profiles : held-out samples at most, evenly spaced in the cohort's order.
    tiles_per_profile, controls, doses, seed : see `effects.measure`.
    """
    profiles = spaced(with_fractions(with_tiles(cohort, "test")), max_profiles)
    types = class_profiles(cohort)
    changes = planned(cohort, profiles, types)
    model = default_nuclei()
    countable = nuclei_countable(cohort, profiles, model, px=generator.px, seed=seed)
    among = _genes_of(generator)
    readers: list[TileReader] = [reader, HaematoxylinArea()]
    report = measure(
        source,
        generator,
        profiles,
        changes,
        readers,
        doses=doses,
        tiles_per_profile=tiles_per_profile,
        controls=controls,
        among=among,
        seed=seed,
    )
    real = pd.DataFrame()
    if cohort.simulated:
        report = report.joined(simulated_truth(cohort, profiles, changes, readers, px=generator.px, doses=doses, seed=seed))
    else:
        every = with_fractions(with_tiles(cohort, "test"))
        real = real_association(cohort, every, planned(cohort, every, types), readers, px=generator.px, seed=seed)
    if countable[0]:
        report = report.joined(
            counted(source, generator, cohort, spaced(profiles, MAX_COUNTED), model, types, doses=doses, seed=seed)
        )
    read = {} if among is None else {c.name: (len(set(c.changed) & set(among)), len(c.changed)) for c in changes}
    wide = tuple(change.name for change in changes if change.keep_total)
    return Study(report, source, real, countable, read, wide, types, profiles.n_obs)


def counted(
    source: str,
    generator: TileGenerator,
    cohort: Cohort,
    profiles: AnnData,
    model: NucleiModel,
    types: CellTypeProfiles,
    *,
    doses: Sequence[float] = DOSES,
    seed: int = 0,
) -> EffectReport:
    """Count nuclei in one tile a profile at the smallest and largest dose; on simulated data also in the simulator's tiles.

    Slopes are of nuclei a mm2; none of them is named before the run, so that none has a p value.
    """
    named, reader, ends = planned(cohort, profiles, types), NucleiDensity(model), (min(doses), max(doses))
    changes = [replace(change, raises="") for change in named]
    report = measure(source, generator, profiles, changes, [reader], doses=ends, tiles_per_profile=1, controls=0, seed=seed)
    if cohort.simulated:
        truth = simulated_truth(cohort, profiles, named, [reader], px=generator.px, doses=ends, seed=seed)
        report = report.joined(truth)
    return report


def _genes_of(generator: TileGenerator) -> tuple[str, ...] | None:
    """Genes that a generator reads, where it says so."""
    transform = getattr(getattr(generator, "encoder", None), "transform", None)
    return None if transform is None else tuple(map(str, transform.genes))
