"""Calibration: right draws cover exactly, narrow ones as much less as the normal distribution says; closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.profiles import coverage
from rnasynth.evaluation.profiles.baselines import mean_profile, ridge_features
from rnasynth.evaluation.profiles.noise import with_noise
from tests.evaluation.profiles.made import FOLLOWING, MadeInputs, world


def gaussian(n: int, genes: int, draws: int, sd: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Real values N(centre, 1) and draws N(centre, sd), with another centre for each value."""
    generator = np.random.default_rng(seed)
    centre = generator.normal(size=(n, genes))
    real = centre + generator.normal(size=(n, genes))
    return real, centre[:, None] + sd * generator.normal(size=(n, draws, genes))


@pytest.mark.parametrize("level", coverage.LEVELS)
def test_right_draws_cover_exactly_and_narrow_ones_less(level: float) -> None:
    real, draws = gaussian(200, 200, coverage.DRAWS, 1.0)
    assert abs(coverage.inside(real, draws, level).mean() - level) < 0.01
    real, draws = gaussian(100, 100, 999, 0.5)
    expected = 1 - 2 * norm.sf(norm.ppf((1 + level) / 2) * 0.5)
    assert abs(coverage.inside(real, draws, level).mean() - expected) < 0.01


def test_coverage_needs_no_normal_distribution() -> None:
    generator = np.random.default_rng(0)
    real, draws = generator.exponential(size=(200, 100)), generator.exponential(size=(200, coverage.DRAWS, 100))
    assert abs(coverage.inside(real, draws, 0.8).mean() - 0.8) < 0.01


def test_interval_ends_are_those_of_numpy() -> None:
    real, draws = gaussian(20, 7, 45, 1.0)
    for level in (0.1, 0.5, 0.77, 0.95):
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=1, method="weibull")
        np.testing.assert_array_equal(coverage.inside(real, draws, level), (low <= real) & (real <= high))


def test_an_interval_needs_enough_draws() -> None:
    assert [coverage.needed_draws(level) for level in coverage.LEVELS] == [3, 9, 39]
    real, draws = gaussian(10, 5, 38, 1.0)
    with pytest.raises(InputError, match="39 draws"):
        coverage.inside(real, draws, 0.95)
    with pytest.raises(InputError, match="level"):
        coverage.inside(real, draws, 1.0)


@pytest.mark.parametrize("sd", [0.5, 1.0, 2.0])
def test_crps_of_a_normal_has_its_closed_form_for_few_draws_too(sd: float) -> None:
    generator = np.random.default_rng(0)
    real = np.array([[0.7]]).repeat(4000, axis=0)
    z = 0.7 / sd
    expected = sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    for n in (3, 39):
        found = coverage.crps(real, sd * generator.normal(size=(4000, n, 1))).mean()
        assert abs(found - expected) < 0.06 * sd
    assert coverage.crps(np.array([[2.0]]), np.array([[[0.5]]]))[0, 0] == 1.5


def test_the_energy_score_of_one_gene_is_its_crps() -> None:
    real, draws = gaussian(50, 1, 20, 1.3)
    np.testing.assert_allclose(coverage.energy_score(real, draws), coverage.crps(real, draws)[:, 0], atol=1e-9)


def test_the_report_prefers_the_truth_to_the_sure_and_to_the_ignorant() -> None:
    real, right = gaussian(80, 30, coverage.DRAWS, 1.0)
    sure = np.repeat(right.mean(axis=1, keepdims=True), coverage.DRAWS, axis=1)
    ignorant = np.sqrt(2) * np.random.default_rng(5).normal(size=right.shape)
    found = coverage.coverage_report(
        real,
        {"right": right, "sure": sure, "ignorant": ignorant},
        genes=[f"G{g}" for g in range(30)],
        groups=np.arange(80),
        reference="ignorant",
        n_boot=200,
    )
    numbers = found.numbers
    assert found.calibrated("right") and found.calibrated("ignorant") and not found.calibrated("sure")
    assert numbers["coverage80_sure"].high < 0.05
    assert numbers["skill_right"].low > 0.2 and numbers["skill_ignorant"].value == 0
    assert numbers["skill_right"].low > numbers["skill_sure"].high
    assert numbers["energy_skill_right"].low > numbers["energy_skill_sure"].high
    expected = 2 * norm.ppf(0.9)
    assert abs(numbers["width_right"].value - expected) < 0.15 and numbers["width_sure"].value == pytest.approx(0)
    wanted, shares = found.curves["right"]
    assert np.abs(wanted - shares).max() < 4
    assert list(found.by_gene["right, 80%"].index) == [f"G{g}" for g in range(30)]
    assert set(numbers) == set(found.labels)
    with pytest.raises(InputError, match="'mean profile'"):
        coverage.coverage_report(real, {"right": right}, genes=["G"] * 30, groups=np.arange(80), reference="mean profile")


class Smooth:
    """Knows each sample's signal, but not the genes' own noise, as what comes out of a decoder."""

    name = "smooth"

    def __init__(self, genes: tuple[str, ...], signal: dict[str, np.ndarray], sd: float) -> None:
        self.genes, self.signal, self.sd = genes, signal, sd

    def mean(self, inputs: MadeInputs, n: int = 16, seed: int = 0) -> np.ndarray:
        return np.array([self.signal[name] for name in inputs.sample_ids], dtype=np.float32)

    def sample(self, inputs: MadeInputs, n: int, seed: int = 0) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(size=(len(inputs), n, len(self.genes)))
        return (self.mean(inputs)[:, None] + self.sd * noise).astype(np.float32)


def test_noise_from_validation_repairs_the_coverage_of_a_smooth_model() -> None:
    parts = [world(300, split, noise=0.6) for split in ("val", "test")]
    loads = np.linalg.lstsq(parts[0][1], parts[0][0].z, rcond=None)[0]
    signal = {}
    for pairs, latent in parts:
        centre = np.array([pairs.z[pairs.tissues == tissue].mean(axis=0) for tissue in pairs.tissues])
        signal |= dict(zip(pairs.inputs.sample_ids, latent @ loads + centre, strict=True))
    val, test = parts[0][0], parts[1][0]
    model = Smooth(test.genes, signal, 0.2)
    widened = with_noise(model, val)
    assert abs(widened.sd[:FOLLOWING].mean() - np.sqrt(0.6**2 - 0.2**2)) < 0.05
    shares = [coverage.inside(test.z, each.sample(test.inputs, coverage.DRAWS), 0.8).mean() for each in (model, widened)]
    assert shares[0] < 0.5 and abs(shares[1] - 0.8) < 0.03
    np.testing.assert_array_equal(widened.mean(test.inputs), model.mean(test.inputs))
    with pytest.raises(SplitError, match="test"):
        with_noise(model, test)


def test_a_fitted_baseline_is_calibrated_and_beats_draws_of_training_profiles() -> None:
    (train, _), (val, _), (test, _) = (world(n, s) for n, s in ((150, "train"), (80, "val"), (80, "test")))
    samples = {
        model.name: model.sample(test.inputs, coverage.DRAWS) for model in (mean_profile(train), ridge_features(train, val))
    }
    found = coverage.coverage_report(
        test.z, samples, genes=test.genes, groups=test.groups, reference="mean profile", n_boot=200
    )
    assert all(found.calibrated(name) for name in samples)
    assert found.numbers["skill_ridge__mean_features"].low > 0.1
