"""Changed profiles: nothing at dose nought, the simulator's truth elsewhere, effects only where a generator listens."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.cohort import Cohort
from rnasynth.data.genes import dense
from rnasynth.data.simulate import (
    CELL_TYPES,
    MARKERS,
    SimulationConfig,
    gene_programmes,
    make_patient,
    render_tile,
    simulate_profiles,
    tiles_with_more,
    with_more,
)
from rnasynth.data.simulate.profiles import expression
from rnasynth.engine import seeded
from rnasynth.errors import InputError
from rnasynth.evaluation.deconvolution.mixtures import simulated_rna_content
from rnasynth.evaluation.stats import bootstrap
from rnasynth.perturb import (
    Change,
    HaematoxylinArea,
    NucleiDensity,
    controls,
    gene_change,
    matched_controls,
    measure,
    programme_change,
    pure,
    read_doses,
    study,
)
from rnasynth.perturb.report import mean_intervals, sign_flip_p
from rnasynth.systems.gan import RNAGAN
from rnasynth.systems.generation import TileGenerator
from tests.systems.gan_cohort import Components, small_cohort, small_config

HEARD = MARKERS["lymphocyte"]
AREA = "haematoxylin area"


class Painter:
    """A stand-in for a generator: a dark band as high as the log of the genes it hears, and noise keyed as it should be."""

    px, mpp_um = 32, 2.0

    def __init__(self, *, listens: bool = True, keyed: bool = True, genes: tuple[str, ...] = HEARD) -> None:
        self.listens, self.keyed, self.genes, self.calls = listens, keyed, genes, 0

    def generate(self, profiles: AnnData, n_per_profile: int, seed: int = 0) -> np.ndarray:
        out = np.full((profiles.n_obs, n_per_profile, 32, 32, 3), (225, 160, 200), np.uint8)
        heard = np.log2(dense(profiles)[:, [list(profiles.var_names).index(gene) for gene in self.genes]] + 1).mean(axis=1)
        self.calls += 1
        for row, name in enumerate(profiles.obs_names):
            for tile in range(n_per_profile):
                key = f"{seed} {name} {tile}" if self.keyed else f"{self.calls} {name} {tile}"
                rng = np.random.default_rng(zlib.crc32(key.encode()))
                dark = (2.0 * heard[row] if self.listens else 14.0) + 3.0 * rng.random()
                out[row, tile].reshape(-1, 3)[: int(32 * dark)] = (70, 40, 120)
        return out


@pytest.fixture(scope="module")
def profiles() -> AnnData:
    made, _ = simulate_profiles(SimulationConfig(patients=30, tiles_per_patient=1, genes=200))
    return made


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("perturb"))


@pytest.fixture(scope="module")
def generator(cohort: Cohort) -> TileGenerator:
    encoder = Components(cohort, size=4)
    with seeded("generator", 0):
        system = RNAGAN.from_cohort(small_config(), cohort, (encoder,))  # type: ignore[arg-type]
    return TileGenerator(system, encoder=encoder)


# ---- changes


def test_dose_nought_gives_the_same_tiles_to_the_last_bit(generator: TileGenerator, cohort: Cohort) -> None:
    profiles = cohort.only("test").profiles
    known = profiles.obs[[f"fraction_{kind}" for kind in CELL_TYPES]].set_axis(list(CELL_TYPES), axis=1)
    own = generator.generate(profiles, 3, seed=4)
    for change in (
        gene_change(profiles, HEARD),
        programme_change(profiles, pure.programmes(cohort), known, "lymphocyte", rna_content=simulated_rna_content()),
    ):
        for dose in (0.0, -0.0, 0):
            same = change.apply(profiles, dose)
            assert np.array_equal(dense(same), dense(profiles)) and list(same.obs_names) == list(profiles.obs_names)
            assert np.array_equal(generator.generate(same, 3, seed=4), own)
        assert not np.array_equal(generator.generate(change.apply(profiles, 2.0), 3, seed=4), own)  # it would be seen
        read = read_doses(generator, profiles, change, [HaematoxylinArea()], doses=[0.0], tiles_per_profile=3, seed=4)
        again = read_doses(generator, profiles, change, [HaematoxylinArea()], doses=[0.0], tiles_per_profile=3, seed=4)
        pd.testing.assert_frame_equal(read[0.0], again[0.0])


def test_a_gene_is_multiplied_and_nothing_else_is(profiles: AnnData) -> None:
    before = dense(profiles).copy()
    change = gene_change(profiles, ["CD3D", "NOSUCHGENE"], raises="lymphocyte")
    up = change.apply(profiles, 1.5)
    column = list(profiles.var_names).index("CD3D")
    np.testing.assert_allclose(dense(up)[:, column], before[:, column] * 2**1.5, rtol=1e-6)
    others = np.delete(np.arange(profiles.n_vars), column)
    assert np.array_equal(dense(up)[:, others], before[:, others]) and np.array_equal(dense(profiles), before)
    assert change.changed == ("CD3D",) and change.absent == ("NOSUCHGENE",) and up.obs.equals(profiles.obs)
    back = gene_change(up, ["CD3D"]).apply(up, -1.5)
    np.testing.assert_allclose(dense(back), before, rtol=1e-5)
    np.testing.assert_allclose(change.amount(up), np.log2(2**1.5 * (2 ** change.amount(profiles) - 1) / 1 + 1), rtol=0.05)


def counterfactual_error(log2_fold: float, *, as_if: float | None = None, content: bool = True) -> float:
    """Median relative error of a changed profile against the simulator's patient who has more lymphocytes."""
    config = SimulationConfig(patients=20, tiles_per_patient=1, genes=200, library_counts=1e10)
    profiles, truth = simulate_profiles(config)
    tissue = profiles.obs["tissue"].iloc[0]
    rows = np.flatnonzero((profiles.obs["tissue"] == tissue).to_numpy())
    patients = [make_patient(config, int(row)) for row in rows]
    moved = [replace(one, fractions=with_more(one.fractions, "lymphocyte", log2_fold)) for one in patients]
    wanted = expression(config, moved, gene_programmes(config))
    part = truth["programmes"][truth["programmes"]["tissue"] == tissue]
    reference = part.pivot(index="gene", columns="cell_type", values="share")[list(CELL_TYPES)]
    fractions = truth["fractions"].set_index("patient_id")[list(CELL_TYPES)]
    own = profiles[rows].copy()
    rna = simulated_rna_content() if content else None
    change = programme_change(own, reference, fractions, "lymphocyte", rna_content=rna)
    made = dense(change.apply(own, log2_fold if as_if is None else as_if))
    np.testing.assert_allclose(made.sum(axis=1), dense(own).sum(axis=1), rtol=1e-4)
    return float(np.median(np.abs(made / np.maximum(wanted, 1e-9) - 1)[wanted > 1]))


def test_a_programme_gives_the_profile_of_the_simulators_counterfactual_patient() -> None:
    for dose in (2.0, -2.0):
        assert counterfactual_error(dose) < 1e-3
        assert counterfactual_error(dose, as_if=0.0) > 0.02  # the profile itself is not it
    assert counterfactual_error(2.0, as_if=-2.0) > 0.05 and counterfactual_error(2.0, content=False) > 0.01


def test_a_type_that_a_sample_lacks_cannot_be_raised(cohort: Cohort) -> None:
    profiles = cohort.profiles
    known = profiles.obs[[f"fraction_{kind}" for kind in CELL_TYPES]].set_axis(list(CELL_TYPES), axis=1)
    change = programme_change(profiles, pure.programmes(cohort), known, "neuron", rna_content=simulated_rna_content())
    lacks = (known["neuron"] == 0).to_numpy()
    assert np.array_equal(change.acts(profiles), ~lacks) and lacks.any()
    np.testing.assert_allclose(dense(change.apply(profiles, 2.0))[lacks], dense(profiles)[lacks], rtol=1e-5)


def test_matched_genes_are_as_many_as_expressed_and_others(profiles: AnnData) -> None:
    change = gene_change(profiles, HEARD, raises=AREA)
    level = np.log2(dense(profiles) + 1).mean(axis=0)
    drawn = matched_controls(change, profiles, sets=4, seed=1)
    for control in drawn:
        assert len(control.changed) == len(HEARD) and not set(control.changed) & set(HEARD) and control.raises == ""
        means = [level[[change.genes.index(gene) for gene in one.changed]].mean() for one in (change, control)]
        assert abs(means[0] - means[1]) < 0.5
    assert len({control.changed for control in drawn}) == 4
    again = matched_controls(change, profiles, sets=4, seed=1)
    assert [one.changed for one in again] == [one.changed for one in drawn]
    among = [str(gene) for gene in profiles.var_names[:60]]
    for control in matched_controls(change, profiles, sets=2, among=among):
        assert set(control.changed) <= set(among) | set(HEARD)
    with pytest.raises(InputError, match="unchanged genes"):
        matched_controls(change, profiles, among=HEARD)


def test_matched_changes_of_a_programme_exchange_its_shares(cohort: Cohort) -> None:
    profiles = cohort.profiles
    known = profiles.obs[[f"fraction_{kind}" for kind in CELL_TYPES]].set_axis(list(CELL_TYPES), axis=1)
    change = programme_change(profiles, pure.programmes(cohort), known, "lymphocyte")
    control = matched_controls(change, profiles, sets=1)[0]
    np.testing.assert_allclose(np.sort(control.share, axis=1), np.sort(change.share, axis=1))
    assert not np.allclose(control.share, change.share)
    assert np.corrcoef(control.share[0], change.share[0])[0, 1] < 0.6


def test_changes_that_cannot_be_made_are_refused(profiles: AnnData) -> None:
    zscores = profiles.copy()
    zscores.uns["unit"] = "zscore"
    with pytest.raises(InputError, match="z-scores"):
        gene_change(zscores, HEARD)
    with pytest.raises(InputError, match="none of them"):
        gene_change(profiles, ["NOSUCHGENE"])
    silent = profiles.copy()
    silent.X = dense(profiles) * (np.array(profiles.var_names) != "CD3D")
    with pytest.raises(InputError, match="no factor changes"):
        gene_change(silent, ["CD3D"])
    change = gene_change(profiles, HEARD)
    with pytest.raises(InputError, match="made for"):
        change.apply(profiles[:, :50].copy(), 1.0)
    with pytest.raises(InputError, match="finite"):
        change.apply(profiles, float("nan"))
    known = profiles.obs[[f"fraction_{kind}" for kind in CELL_TYPES]].set_axis(list(CELL_TYPES), axis=1)
    basis = pd.DataFrame(1.0, index=list(profiles.var_names), columns=list(CELL_TYPES))
    with pytest.raises(InputError, match="type 'mast cell'"):
        programme_change(profiles, basis, known, "mast cell")
    with pytest.raises(InputError, match="fractions"):
        programme_change(profiles, basis, known.iloc[:-1], "neuron")


# ---- effects


def effects(painter: Painter, profiles: AnnData, *changes: Change, **options: Any) -> Any:
    given = {"tiles_per_profile": 2, "n_boot": 200, "n_permutations": 199} | options
    return measure("painter", painter, profiles, changes, [HaematoxylinArea()], **given)


def test_a_listening_generator_has_an_effect_and_matched_genes_have_none(profiles: AnnData) -> None:
    change = gene_change(profiles, HEARD, name="heard", raises=AREA)
    report = effects(Painter(), profiles, change)
    row = report.primary.iloc[0]
    assert report.holds("painter", "heard") and row["low"] > 0.03 and row["p_holm"] == pytest.approx(1 / 200)
    assert row["matched"] == row["matched_low"] == row["matched_high"] == 0  # to the last bit: it does not hear them
    assert row["beyond"] == pytest.approx(row["value"]) and row["n"] == 30 and row["n_units"] == 30
    doses = report.doses.set_index("dose")
    assert list(doses.index) == [-2, -1, 0, 1, 2] and doses["value"].is_monotonic_increasing and doses.loc[0, "high"] == 0
    assert set(report.numbers) == set(report.labels) == {"painter_heard", "painter_heard_beyond"}
    assert list(report.chart()["group"]) == ["painter", "painter, matched genes (range)"]
    assert report.shown()["read"].iloc[0] == f"{AREA} *" and report.unit == "split groups"


def test_a_deaf_generator_has_none_and_unkeyed_noise_is_seen(profiles: AnnData) -> None:
    change = gene_change(profiles, HEARD, name="heard", raises=AREA)
    deaf = effects(Painter(listens=False), profiles, change)
    assert not deaf.holds("painter", "heard") and (deaf.slopes[["value", "low", "high"]] == 0).all(axis=None)
    assert deaf.slopes["p_holm"].iloc[0] == 1
    loose = effects(Painter(listens=False, keyed=False), profiles, change)  # the deliberately broken variant
    assert loose.slopes["value"].abs().iloc[0] > 0 and loose.slopes["matched_high"].iloc[0] > 0


def test_what_any_change_does_is_not_a_changes_own_effect(profiles: AnnData) -> None:
    change = gene_change(profiles, HEARD, name="heard", raises=AREA)
    every = Painter(genes=tuple(map(str, profiles.var_names)))  # hears all genes alike
    report = effects(every, profiles, change)
    assert report.primary["p_holm"].iloc[0] <= 0.05 and not report.holds("painter", "heard")


def test_holm_counts_the_changes_that_named_a_quantity(profiles: AnnData) -> None:
    heard = gene_change(profiles, HEARD, name="heard", raises=AREA)
    other = gene_change(profiles, MARKERS["glia"], name="glia", raises=AREA)
    free = gene_change(profiles, MARKERS["neuron"], name="neuron")
    report = effects(Painter(), profiles, heard, other, free, controls=0)
    assert report.named("painter") == {"heard": True, "glia": False}
    rows = report.slopes.set_index("change")
    assert rows.loc["heard", "p_holm"] == pytest.approx(2 * rows.loc["heard", "p"]) and np.isnan(rows.loc["neuron", "p"])
    assert report.n_controls == 0 and np.isnan(rows["matched"]).all() and list(report.chart()["group"]) == ["painter"] * 2


def test_intervals_are_those_of_the_plain_bootstrap_over_groups() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=(40, 3)), np.array([f"g{number % 7}" for number in rng.permutation(40)])
    for column, found in enumerate(mean_intervals(values, groups, 300, 5)):
        plain = bootstrap(np.mean, values[:, column], groups=groups, n_boot=300, seed=5)
        np.testing.assert_allclose([found.value, found.low, found.high], [plain.value, plain.low, plain.high])
        assert found.n == plain.n == 7
    assert np.isnan(mean_intervals(values, np.array(["one"] * 40), 10, 0)[0].low)


def test_sign_flips_are_right_under_the_null_and_count_groups_not_samples() -> None:
    rng = np.random.default_rng(0)
    units = np.array([str(number) for number in range(20)])
    p = np.array([sign_flip_p(rng.normal(size=20), units, 199, seed) for seed in range(200)])
    assert 0.01 < (p <= 0.05).mean() < 0.10 and 0.4 < p.mean() < 0.6
    assert sign_flip_p(rng.normal(2, 1, 20), units, 199, 0) == pytest.approx(1 / 200)
    assert sign_flip_p(np.ones(20), np.array(["a", "b"] * 10), 199, 0) > 0.15  # two groups: four sign patterns


def test_effects_that_cannot_be_measured_are_refused(profiles: AnnData) -> None:
    change = gene_change(profiles, HEARD, name="heard", raises="no such quantity")
    with pytest.raises(InputError, match="no such quantity"):
        effects(Painter(), profiles, change, controls=0)
    with pytest.raises(InputError, match="dose other than 0"):
        effects(Painter(), profiles, change, doses=[0.0])
    with pytest.raises(InputError, match="twice"):
        readers = [HaematoxylinArea(), HaematoxylinArea()]
        read_doses(Painter(), profiles, change, readers, doses=[1.0], tiles_per_profile=1)


# ---- the simulator's truth, and the book's study


def test_more_cells_of_a_type_are_in_the_simulators_tiles() -> None:
    config = SimulationConfig(patients=5, tiles_per_patient=2, tile_px=64, mpp_um=1.0, genes=100)
    same = tiles_with_more(config, "SIM-0002", "lymphocyte", 0.0, 2)
    assert np.array_equal(same[1], render_tile(config, 2, 1).image)
    whole = with_more(np.array([0.2, 0.3, 0.1, 0.1, 0.3, 0.0, 0.0]), "lymphocyte", 1.0)
    assert whole.sum() == pytest.approx(1) and whole[3] / whole[0] == pytest.approx(1.0) and whole[5] == 0
    areas = [
        HaematoxylinArea()(tiles_with_more(config, "SIM-0002", "lymphocyte", dose, 2), 1.0)[AREA].mean()
        for dose in (-4.0, 4.0)
    ]
    assert areas[1] > areas[0]
    with pytest.raises(InputError, match="mast cell"):
        tiles_with_more(config, "SIM-0002", "mast cell", 1.0, 1)
    with pytest.raises(InputError, match="nobody"):
        tiles_with_more(config, "nobody", "lymphocyte", 1.0, 1)


def test_the_study_reads_the_simulators_truth_beside_the_generator(generator: TileGenerator, cohort: Cohort) -> None:
    known = cohort.only("train").profiles.obs[[f"fraction_{kind}" for kind in CELL_TYPES]].set_axis(list(CELL_TYPES), axis=1)
    training = pd.DataFrame({"haematopoietic": known["lymphocyte"] + known["macrophage"]})
    reader = study.reader_for(generator, cohort, training)
    assert {"haematopoietic", *CELL_TYPES} <= set(reader.quantities)
    assert study.reader_for(generator, cohort, training, known=reader) is reader
    crop = Painter()
    crop.mpp_um = 1.0  # type: ignore[misc]
    with pytest.raises(InputError, match="whole fields"):
        study.reader_for(crop, cohort, training)
    found = study.study("untrained", generator, cohort, reader, tiles_per_profile=1, controls=1, doses=(-3.0, 3.0))
    report = found.report
    assert set(report.slopes["source"]) == {"untrained", controls.TRUTH} and len(report.named(controls.TRUTH)) == 3
    truth = report.primary[report.primary["source"] == controls.TRUTH].set_index("change")
    assert truth.loc["lymphocyte programme", "value"] > 0
    assert "the simulator's own tiles" in found.note() and "nuclei" in found.note()
    assert not any(report.named("untrained").values()) and found.real.empty
    assert (report.slopes["quantity"] == "nuclei").any() == found.countable[0]
    real = controls.real_association(
        cohort,
        cohort.only("test").profiles,
        [gene_change(cohort.only("test").profiles, HEARD, name="x", raises=AREA)],
        [HaematoxylinArea()],
        px=32,
        n_boot=50,
    )
    assert list(real["change"]) == ["x"] and list(real["quantity"]) == [AREA] and -1 <= real["value"].iloc[0] <= 1


def test_nuclei_are_given_a_mm2() -> None:
    tile = np.full((1, 64, 64, 3), (225, 160, 200), np.uint8)

    class Model:
        name, mpp_um, classes = "one", 0.5, ("a", "b")

        def __call__(self, tile: np.ndarray) -> Any:
            from rnasynth.evaluation.cells.nuclei import Nuclei

            table = pd.DataFrame({"x_px": [1.0, 2.0], "y_px": [1.0, 2.0], "class": ["a", "a"]})
            return Nuclei(np.zeros(tile.shape[:2], np.int32), table, 0.5)

    row = NucleiDensity(Model())(tile, 0.5).iloc[0]
    assert row["nuclei"] == row["a nuclei"] == pytest.approx(2 / 0.032**2) and row["b nuclei"] == 0


class ReaderOfArea:
    """Calls the dark area each class that is asked for."""

    def __call__(self, tiles: np.ndarray, mpp_um: float) -> pd.DataFrame:
        area = HaematoxylinArea()(tiles, mpp_um)[AREA]
        return pd.DataFrame({"fibroblast": area, "haematopoietic": area})


def test_rna_of_one_class_raises_it_where_the_generator_hears_its_genes(cohort: Cohort) -> None:
    hears = {kind: Painter(genes=MARKERS[kind]) for kind in ("fibroblast", "lymphocyte")}
    reports = {
        kind: pure.deconvolved(painter, cohort, ReaderOfArea(), tiles_per_profile=1, n_boot=100)
        for kind, painter in hears.items()
    }
    assert reports["fibroblast"].holds == {"fibroblast": True, "haematopoietic": False}
    assert reports["lymphocyte"].holds == {"fibroblast": False, "haematopoietic": True}
    found = reports["fibroblast"]
    assert set(pure.CLAIMS) <= set(found.numbers) and set(found.numbers) == set(found.labels)
    assert "1 of 2 cases (fibroblast)" in found.note() and "simulator's own tiles" in found.note()
    assert set(found.truth["type"]) == set(CELL_TYPES) and pure.MEAN in set(found.chart["group"])
    deaf = pure.deconvolved(Painter(listens=False), cohort, ReaderOfArea(), tiles_per_profile=1, n_boot=100)
    assert not any(deaf.holds.values()) and all(number.value == 0 for number in deaf.numbers.values())


@pytest.mark.real
def test_the_immune_set_is_mcp_counters(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNASYNTH_MIRROR", str(mirror))
    name, genes = study.immune_genes()
    assert name == "immune (MCP-counter)" and {"CD3D", "MS4A1", "CSF1R"} & set(genes) and len(genes) == len(set(genes)) > 20
