"""The external test: a generator that paints its profile's tissue passes, one that does not listen fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort, load_cohort
from rnasynth.data.external import OTHER_SEED
from rnasynth.data.simulate import stored_config
from rnasynth.errors import InputError
from rnasynth.evaluation.utility import cohorts, external, report
from rnasynth.plots import confusion_matrices
from tests.systems.gan_cohort import Components, small_cohort

PX = 32


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("utility"), patients=50, tiles=1)


@pytest.fixture(scope="module")
def elsewhere(cohort: Cohort) -> cohorts.ExternalCohort:
    return cohorts.external_cohort(cohort, max_samples=15, tiles_per_sample=1, seed=0)


class Painter:
    """Stands for a generator: the tile's brightness is the tissue whose training centroid is nearest in the latent."""

    px, mpp_um = PX, 2.0
    system = SimpleNamespace(settings=SimpleNamespace(same_stain=False))

    def __init__(self, cohort: Cohort, *, listens: bool = True) -> None:
        self.encoder: Any = Components(cohort, 8)
        self.encoder.encode = self._encode
        train = cohort.only("train").profiles
        self.tissues = sorted(set(train.obs["tissue"]))
        latents = self._encode(train)
        self.centres = np.stack([latents[(train.obs["tissue"] == name).to_numpy()].mean(axis=0) for name in self.tissues])
        self.listens = listens

    def _encode(self, profiles: AnnData) -> NDArray[np.float32]:
        z = profiles if "transform" in profiles.uns else self.encoder.transform.apply(profiles)
        return self.encoder.pca.transform(np.asarray(z.X, dtype=np.float64)).astype(np.float32)

    def conditions(self, profiles: AnnData) -> tuple[NDArray[np.float32], list[str]]:
        return self._encode(profiles), [str(name) for name in profiles.obs_names]

    def generate(self, profiles: AnnData, n_per_profile: int, seed: int = 0) -> NDArray[np.uint8]:
        distance = np.linalg.norm(self._encode(profiles)[:, None] - self.centres[None], axis=2)
        nearest = distance.argmin(axis=1)
        if not self.listens:
            nearest = np.random.default_rng(seed).integers(0, len(self.tissues), len(nearest))
        tiles = np.empty((len(nearest), n_per_profile, PX, PX, 3), np.uint8)
        tiles[:] = (20 + 50 * nearest)[:, None, None, None, None]
        return tiles


class Reader:
    """Stands for a trained classifier that reads the brightness."""

    px, restained, name, tile_um = PX, False, "reader", 64.0

    def __init__(self, cohort: Cohort) -> None:
        self.classes = tuple(sorted(set(cohort.profiles.obs["tissue"])))
        self.system = SimpleNamespace(dataset=lambda cohort, split: Split(cohort, self))

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> NDArray[np.float32]:
        level = (tiles.reshape(len(tiles), -1).mean(axis=1) - 20) / 50
        near = np.exp(-np.square(level[:, None] - np.arange(len(self.classes))) * 8) + 1e-6
        return np.asarray(near / near.sum(axis=1, keepdims=True), dtype=np.float32)

    def labels(self, obs: Any) -> NDArray[np.str_]:
        return obs["tissue"].astype(str).to_numpy(dtype=str)


class Split:
    """Stands for held-out real tiles, painted by their tissue."""

    def __init__(self, cohort: Cohort, reader: Reader) -> None:
        self.samples = np.flatnonzero((cohort.profiles.obs["split"] == "test").to_numpy())
        numbers = [reader.classes.index(name) for name in cohort.profiles.obs["tissue"].iloc[self.samples]]
        self.values = torch.tensor(numbers).float() * 50 + 20

    def __len__(self) -> int:
        return len(self.samples)

    def fetch(self, rows: NDArray[Any]) -> dict[str, torch.Tensor]:
        return {"tile": (self.values[torch.as_tensor(rows)] / 127.5 - 1.0).view(-1, 1, 1, 1).expand(-1, 3, PX, PX)}


def run(cohort: Cohort, elsewhere: cohorts.ExternalCohort, maker: Any, **changes: Any) -> report.ExternalReport:
    given: dict[str, Any] = {"tiles": 2, "n_boot": 50, "n_shuffles": 100, "n_shown": 5, **changes}
    return report.external_test({"painter": maker}, {"painter": Reader(cohort)}, cohort, elsewhere, **given)  # type: ignore[dict-item]


def test_a_generator_that_listens_is_named_rightly_and_one_that_does_not_is_at_chance(
    cohort: Cohort, elsewhere: cohorts.ExternalCohort
) -> None:
    listens = run(cohort, elsewhere, Painter(cohort), way="complete")
    assert listens.reads("painter") and listens.holds("painter") and listens.chance == pytest.approx(0.2)
    assert listens.of("painter").value > 0.6 and abs(listens.of("painter", "exchanged").value - 0.2) < 0.1
    assert listens.of("painter", "mean_profile").value == pytest.approx(0.2)
    assert listens.of("painter", "latent_complete").value > 0.6 and listens.numbers["real_accuracy"].value == 1
    assert listens.of("painter", percent=True).value == pytest.approx(100 * listens.of("painter").value)
    assert set(listens.numbers) == set(listens.labels) and "exchanged" in listens.note()
    deaf = run(cohort, elsewhere, Painter(cohort, listens=False), way="complete")
    assert not deaf.holds("painter") and deaf.of("painter").value < 0.5 < deaf.of("painter", "latent_complete").value


def test_report_draws_what_it_counted(cohort: Cohort, elsewhere: cohorts.ExternalCohort) -> None:
    found = run(cohort, elsewhere, Painter(cohort))
    assert found.way == external.PUBLISHED and {row.shape for row in found.shown.values()} == {(5, PX, PX, 3)}
    assert found.accuracy["label"].iloc[0] == report.OWN and found.accuracy["label"].iloc[-1] == report.MEAN
    title = f"painter, {external.WAYS[external.PUBLISHED].words}"
    assert found.confusions[title].to_numpy().sum() == 2 * found.n_samples
    figure = confusion_matrices(found.confusions)
    shares = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert texts == [f"{100 * share:.0f}" for share in shares.ravel()]


def test_the_ways_differ_in_the_missing_genes_alone(cohort: Cohort, elsewhere: cohorts.ExternalCohort) -> None:
    maker, train = Painter(cohort), cohort.only("train").profiles
    z = {name: external.told(maker, way, elsewhere, train) for name, way in external.WAYS.items()}
    present = z["mean"].var["present"].to_numpy(dtype=bool)
    assert 0.6 < present.mean() < 0.8 and z["complete"].var["present"].all()
    np.testing.assert_array_equal(z["mean"].X[:, ~present], 0)
    np.testing.assert_array_equal(z["mean"].X[:, present], z["zero"].X[:, present])
    np.testing.assert_allclose(z["complete"].X[:, present], z["mean"].X[:, present], atol=1e-5)
    assert (z["zero"].X[:, ~present] < 0).mean() > 0.9  # an expression of zero lies below the training mean


def test_the_other_laboratory_has_new_patients_genes_missing_and_other_dyes(
    cohort: Cohort, elsewhere: cohorts.ExternalCohort, tmp_path: Path
) -> None:
    assert not set(elsewhere.profiles.obs["split_group"]) & set(cohort.profiles.obs["split_group"])
    assert elsewhere.complete is not None and elsewhere.tiles and elsewhere.dyed
    assert elsewhere.profiles.n_vars < elsewhere.complete.n_vars == cohort.profiles.n_vars
    shared = list(elsewhere.profiles.var_names)
    np.testing.assert_array_equal(elsewhere.complete[:, shared].X, elsewhere.profiles.X)
    same = [not np.allclose(elsewhere.complete.X[row], cohort.profiles.X[row]) for row in range(5)]
    assert all(same)  # SIM-0000 of the other laboratory is somebody else
    again = load_cohort(
        "simulated",
        folder=cohort.folder.parent,
        **replace(stored_config(cohort.folder), patients=15, tiles_per_patient=1, seed=1000).to_dict()
        | {"batch_shift": 0.5, "missing_gene_share": 0.3},
    )
    plain = again.tile_store().read_batch([0])[0].astype(float)
    np.testing.assert_array_equal(elsewhere.tiles["SIM-0000"][0], plain)
    dyed = elsewhere.dyed["SIM-0000"][0].astype(float)
    assert (
        3 < np.abs(plain - dyed).mean() < 90
        and np.corrcoef(plain.mean(axis=2).ravel(), dyed.mean(axis=2).ravel())[0, 1] > 0.8
    )


def test_no_seed_gives_the_cohorts_own_patients_again(cohort: Cohort, tmp_path: Path) -> None:
    own = stored_config(cohort.folder).to_dict()
    later = load_cohort("simulated", folder=tmp_path, **own | {"seed": OTHER_SEED, "patients": 25})
    found = cohorts.external_cohort(later, max_samples=15, tiles_per_sample=1, seed=0)
    assert found.complete is not None and stored_config(later.folder).seed == OTHER_SEED
    assert set(found.complete.obs_names) <= set(later.profiles.obs_names)  # named alike, and nobody the same
    for name in found.complete.obs_names:
        assert not np.allclose(_fractions(found.complete, name), _fractions(later.profiles, name))


def _fractions(profiles: AnnData, name: str) -> NDArray[np.float64]:
    obs = profiles.obs.loc[name]
    return obs[[column for column in obs.index if column.startswith("fraction_")]].to_numpy(float)


def test_a_classifier_of_other_pixels_or_stain_is_refused(cohort: Cohort, elsewhere: cohorts.ExternalCohort) -> None:
    maker, reader = Painter(cohort), Reader(cohort)
    report.check_fit("painter", maker, reader)  # type: ignore[arg-type]
    reader.restained = True
    with pytest.raises(InputError, match="one stain"):
        report.check_fit("painter", maker, reader)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="none"):
        report.check_fit("painter", maker, None)
    with pytest.raises(InputError, match="way"):
        run(cohort, elsewhere, maker, way="guess")
    with pytest.raises(InputError, match="external cohort"):
        cohorts.external_cohort(replace(cohort, name="rtcga"))
    maker.encoder = None
    with pytest.raises(InputError, match="told RNA"):
        external.told(maker, external.WAYS["mean"], elsewhere, cohort.only("train").profiles)


def test_without_all_genes_the_way_that_needs_them_is_left_out(cohort: Cohort, elsewhere: cohorts.ExternalCohort) -> None:
    bare = replace(elsewhere, complete=None, tiles=None, dyed=None)
    assert set(external.ways_of(bare, external.WAYS)) == {"mean", "zero"}
    assert external.named_real(Reader(cohort), bare.profiles, bare.tiles) is None  # type: ignore[arg-type]


def test_what_is_named_and_from_where_training_starts_depends_on_the_cohort(cohort: Cohort) -> None:
    assert cohorts.classifier_choice(cohort) == ["label=tissue"]
    on_tissue = cohorts.classifier_choice(replace(cohort, name="her2st"))
    assert on_tissue == ["label=fraction_epithelial", "start=simclr-her2st"]
    assert cohorts.classifier_choice(cohort, label="sex", start="a-run") == ["label=sex", "start=a-run"]
    assert cohorts.fitting(Painter(cohort)) == ["tile_px=32", "same_stain=false"]


@pytest.mark.real
def test_section_c1_has_proportions_hidden_genes_and_no_image(mirror: Path, tmp_path: Path) -> None:
    her2st = load_cohort("her2st", mirror=mirror, folder=tmp_path)
    found = cohorts.external_cohort(her2st, max_samples=20)
    assert found.profiles.n_obs == 20 and found.tiles is None and found.complete is not None
    assert set(found.profiles.obs["section"]) == {"C1"} and np.isfinite(found.profiles.obs["fraction_epithelial"]).all()
    assert found.profiles.n_vars == pytest.approx(0.7 * her2st.profiles.n_vars, abs=1)
    assert list(found.complete.var_names) == list(her2st.profiles.var_names)
