"""Frechet and kernel distances against closed forms and independent implementations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from rnasynth.data.patient_folders import inputs_from_folder
from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.distances import frechet, frechet_distance, kid
from rnasynth.features import FeatureStats, StainTexture, extract


def gaussian(d: int, seed: int, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(seed).normal(size=(n or 4 * d, d)) @ np.random.default_rng(seed + 100).normal(size=(d, d))
    return values.mean(axis=0), np.cov(values, rowvar=False)


def test_closed_form_of_commuting_gaussians() -> None:
    # For diagonal covariances the distance is |mu|^2 + sum (s1 - s2)^2.
    s1, s2, mu = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 0.5]), np.array([1.0, -2.0, 0.0])
    rotation = scipy.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    c1, c2 = (rotation @ np.diag(s**2) @ rotation.T for s in (s1, s2))
    assert frechet_distance(np.zeros(3), c1, mu, c2) == pytest.approx(5.0 + ((s1 - s2) ** 2).sum())


def test_a_gaussian_is_at_distance_zero_from_itself_and_the_distance_is_symmetric() -> None:
    (m1, c1), (m2, c2) = gaussian(40, 0), gaussian(40, 1)
    assert frechet_distance(m1, c1, m1, c1) == pytest.approx(0, abs=1e-6 * np.trace(c1))
    assert frechet_distance(m1, c1, m2, c2) == pytest.approx(frechet_distance(m2, c2, m1, c1))


@pytest.mark.parametrize("n", [400, 30])  # 30 rows of 60 features: singular covariances
def test_agrees_with_the_matrix_root_of_scipy_and_with_torchmetrics(n: int) -> None:
    (m1, c1), (m2, c2) = gaussian(60, 2, n), gaussian(60, 3, n)
    ours = frechet_distance(m1, c1, m2, c2)
    # A hair of noise on the diagonal, because the matrix root of a singular product does not exist.
    e = 1e-9 * np.trace(c1) * np.eye(60)
    root = scipy.linalg.sqrtm((c1 + e) @ (c2 + e))
    root = root[0] if isinstance(root, tuple) else root
    assert ours == pytest.approx(((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root.real), rel=1e-3)
    theirs = _compute_fid(*(torch.from_numpy(part) for part in (m1, c1, m2, c2)))
    assert ours == pytest.approx(float(theirs), rel=1e-3)


def test_wrong_statistics_are_errors() -> None:
    mean, cov = gaussian(5, 0)
    for bad in (
        (mean[:4], cov, mean, cov),
        (mean, cov + np.triu(np.ones((5, 5)), 1), mean, cov),
        (mean, np.full((5, 5), np.nan), mean, cov),
        (mean, -cov, mean, cov),
        (mean, cov, mean, -cov),
    ):
        with pytest.raises(InputError):
            frechet_distance(*bad)
    a = FeatureStats.of(np.random.default_rng(0).normal(size=(20, 3)), "one")
    with pytest.raises(InputError, match="one"):
        frechet(a, FeatureStats.of(np.random.default_rng(0).normal(size=(20, 3)), "two"))
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_plain_features_are_told_how_to_be_given() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(30, 3))
    with pytest.raises(InputError, match=r"ndarray of shape \(20, 3\).*FeatureStats\.of"):
        frechet(x, y)  # type: ignore[arg-type]
    told = frechet(FeatureStats.of(x, "mine"), FeatureStats.of(y, "mine"))
    assert told == pytest.approx(frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)))


def test_folders_of_tiles_are_as_far_apart_as_their_tiles(tmp_path: Path) -> None:
    rng, network = np.random.default_rng(0), StainTexture()
    tiles = {name: rng.integers(low, 255, (6, 32, 32, 3), dtype=np.uint8) for name, low in (("real", 0), ("made", 90))}
    for name, pixels in tiles.items():
        for number, tile in enumerate(pixels):
            path = tmp_path / name / f"S{number % 2}" / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(tile).save(path)
    read = (inputs_from_folder(tmp_path / name, None, network, mpp_um=0.5) for name in tiles)
    a, b = (FeatureStats.of(np.concatenate([bag for bag in each.bags if bag is not None]), network.name) for each in read)
    c, d = (FeatureStats.of(extract(pixels, network, mpp_um=0.5), network.name) for pixels in tiles.values())
    assert a.n == 6 and frechet(a, b) == pytest.approx(frechet(c, d), rel=1e-6) and frechet(a, b) > 1


def test_kernel_distance_agrees_with_torchmetrics_on_one_subset() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(80, 7)), rng.normal(0.5, 1, size=(80, 7))
    ours = kid(real, fake, subset_size=80, n_subsets=1).value
    assert ours == pytest.approx(float(poly_mmd(torch.from_numpy(real), torch.from_numpy(fake))), rel=1e-6)


def test_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    rng = np.random.default_rng(1)
    same = [kid(rng.normal(size=(60, 5)), rng.normal(size=(60, 5)), subset_size=60, n_subsets=1).value for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200)
    assert min(same) < 0
    moved = kid(rng.normal(size=(300, 5)), rng.normal(0.6, 1, size=(300, 5)), subset_size=100, n_subsets=50)
    assert moved.low > 0 and moved.low <= moved.value <= moved.high


def test_kernel_distance_over_patients_is_wider_than_over_tiles_and_stays_unbiased() -> None:
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(12), 20)
    real, fake = (rng.normal(size=(12, 1, 4)) + 0.3 * rng.normal(size=(12, 20, 4)) for _ in range(2))
    tiles = kid(real.reshape(-1, 4), fake.reshape(-1, 4), subset_size=120, n_subsets=100)
    by_patient = kid(real.reshape(-1, 4), fake.reshape(-1, 4), n_subsets=100, groups_real=patients, groups_fake=patients)
    assert by_patient.high - by_patient.low > 1.5 * (tiles.high - tiles.low)
    assert by_patient.n == 12


def test_kernel_distance_needs_two_sets_of_one_width() -> None:
    with pytest.raises(InputError):
        kid(np.zeros((5, 3)), np.zeros((5, 2)))
    with pytest.raises(InputError):
        kid(np.zeros((1, 3)), np.zeros((5, 3)))
