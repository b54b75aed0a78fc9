from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from rnasynth.errors import InputError
from rnasynth.nets.lowres import blur, corrupt_low, lower, raise_low


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_lower_is_the_mean_of_the_area() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert lower(image, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(lower(image, 1), image) and lower(image, 4).item() == 7.5
    for factor in (3, 0):
        with pytest.raises(InputError, match="4 x 4 px"):
            lower(image, factor)


def test_raising_keeps_means_ranges_and_positions() -> None:
    low = normal(2, 3, 8, 8).clamp(-1, 1)
    raised = raise_low(low, 32)
    assert raised.shape == (2, 3, 32, 32) and float(raised.abs().max()) <= 1
    assert torch.equal(raise_low(low, 8), low) and torch.allclose(
        raise_low(torch.full((1, 3, 4, 4), 0.3), 16), torch.tensor(0.3)
    )
    ramp = (
        torch.linspace(-1, 1, 8).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    )  # a ramp stays where it was: no shift of half a pixel
    inner = lower(raise_low(ramp, 32), 4)[..., 1:-1]
    assert torch.allclose(inner, ramp[..., 1:-1], atol=1e-6)
    with pytest.raises(InputError, match="4 px"):
        raise_low(low, 4)


def test_blur_is_that_of_scipy() -> None:
    image = normal(1, 2, 12, 10)
    for sigma in (0.4, 0.6, 1.5):
        found = blur(image, sigma)
        for channel in range(2):
            wanted = ndimage.gaussian_filter(
                image[0, channel].double().numpy(), sigma, mode="mirror", radius=int(-(-3 * sigma // 1))
            )
            assert torch.allclose(found[0, channel].double(), torch.from_numpy(wanted), atol=1e-5)
    assert torch.equal(blur(image, 0.0), image)


def test_blur_of_small_and_constant_images_is_harmless() -> None:
    assert torch.allclose(blur(torch.full((1, 3, 5, 5), -0.4), 3.0), torch.tensor(-0.4))
    assert torch.equal(blur(torch.ones(1, 3, 1, 1), 2.0), torch.ones(1, 3, 1, 1))
    for sigma in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="blur"):
            blur(torch.ones(1, 3, 4, 4), sigma)


LEVELS = torch.tensor([0.0, 0.1, 0.35, 0.9])


def with_an_integer_level(low: Tensor, level: Tensor, noise: Tensor, *, blur_sigma: float) -> Tensor:
    """The deliberately broken variant, seen in a port: the level is cast to an integer, so it is 0."""
    return corrupt_low(low, level.long().float(), noise, blur_sigma=blur_sigma)


def with_one_level(low: Tensor, level: Tensor, noise: Tensor, *, blur_sigma: float) -> Tensor:
    """The deliberately broken variant: the batch shares one level, while the network is told each its own."""
    return corrupt_low(low, level.mean().expand(len(low)), noise, blur_sigma=blur_sigma)


def level_given_is_level_used(corrupt: Callable[..., Tensor]) -> bool:
    """The noise measured against the level, sample by sample; at 0 nothing is added at all."""
    low, noise = normal(4, 3, 64, 64, seed=1).clamp(-1, 1), normal(4, 3, 64, 64, seed=2)
    added = corrupt(low, LEVELS, noise, blur_sigma=0.6) - blur(low, 0.6)
    return torch.allclose(added.flatten(1).std(dim=1), LEVELS, rtol=0.03, atol=1e-7)


def test_the_level_given_is_the_level_used() -> None:
    assert level_given_is_level_used(corrupt_low)
    assert not level_given_is_level_used(with_an_integer_level)
    assert not level_given_is_level_used(with_one_level)


def test_level_zero_without_blur_changes_nothing_and_noise_comes_after_the_blur() -> None:
    low, noise = normal(4, 3, 16, 16), normal(4, 3, 16, 16, seed=1)
    assert torch.equal(corrupt_low(low, torch.zeros(4), noise, blur_sigma=0.0), low)
    found = corrupt_low(torch.zeros(4, 3, 16, 16), LEVELS.double(), noise, blur_sigma=2.0)
    assert torch.allclose(found, LEVELS.view(-1, 1, 1, 1) * noise, atol=1e-6) and found.dtype == torch.float32


def test_mixed_precision_does_not_reach_the_condition() -> None:
    low, noise = normal(4, 3, 16, 16), normal(4, 3, 16, 16, seed=1)
    plain = corrupt_low(raise_low(lower(low, 2), 16), LEVELS, noise, blur_sigma=1.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(corrupt_low(raise_low(lower(low, 2), 16), LEVELS, noise, blur_sigma=1.2), plain)


@pytest.mark.parametrize(
    "level", [torch.tensor([0, 0]), torch.tensor([0.5]), torch.tensor([0.1, 1.0]), torch.tensor([-0.1, 0.0])]
)
def test_levels_that_cannot_be_meant_are_refused(level: Tensor) -> None:
    with pytest.raises(InputError, match="low-resolution noise level"):
        corrupt_low(normal(2, 3, 4, 4), level, normal(2, 3, 4, 4), blur_sigma=0.5)
