"""Norm, scale, shift and SiLU in one step: equal to torch's own, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rnasynth.nets.normalise import groups_of, norm_silu


def plain(image: Tensor, scale: Tensor, shift: Tensor, groups: int) -> Tensor:
    """The same by torch's GroupNorm."""
    normed = functional.group_norm(image, groups)
    return functional.silu(normed * scale[:, :, None, None] + shift[:, :, None, None])


def example(rows: int, dtype: torch.dtype = torch.float64, px: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(3, 12, 4, px, generator=generator, dtype=torch.float64) * 2 + 1
    scale, shift = (torch.randn(rows, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    return image.to(dtype).contiguous(memory_format=torch.channels_last), scale, shift


@pytest.mark.parametrize("px", [5, 256])  # 20 pixels; 1,024: another way forward
@pytest.mark.parametrize("rows", [1, 3])
def test_value_and_gradients_equal_torchs_steps(rows: int, px: int) -> None:
    inputs = [part.requires_grad_() for part in example(rows, px=px)]
    ours, theirs = norm_silu(*inputs, groups=3), plain(*inputs, groups=3)
    assert torch.allclose(ours, theirs, atol=1e-12)
    gradient = torch.randn_like(theirs)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, gradient), torch.autograd.grad(theirs, inputs, gradient), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("px", [64, 256])  # 256 pixels: bfloat16 is summed in runs
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_a_narrow_type_stays_near_and_keeps_its_type(dtype: torch.dtype, tolerance: float, px: int) -> None:
    image, scale, shift = example(3, dtype, px=px)
    image = (image * 40).requires_grad_()  # squares beyond the range of float16
    ours, theirs = norm_silu(image, scale, shift, groups=3), plain(image.double(), scale, shift, 3)
    assert ours.dtype == dtype and ours.is_contiguous(memory_format=torch.channels_last)
    assert (ours.double() - theirs).abs().max() < tolerance * theirs.abs().max()
    ours.float().sum().backward()
    assert image.grad is not None and image.grad.isfinite().all()


@pytest.mark.parametrize("px", [5, 256])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_the_way_without_gradients_gives_the_same(rows: int, px: int, off: type[torch.no_grad]) -> None:
    learning = [part.requires_grad_() for part in example(rows, torch.float32, px=px)]
    with off():
        alone = norm_silu(*learning, groups=3)
    both = norm_silu(*learning, groups=3)
    assert both.requires_grad and not alone.requires_grad
    assert alone.is_contiguous(memory_format=torch.channels_last) and torch.allclose(alone, both, atol=1e-5)


def test_a_constant_image_gives_no_nan() -> None:
    image = torch.full((2, 8, 4, 4), 3.0).requires_grad_()
    out = norm_silu(image, torch.ones(1, 8), torch.zeros(1, 8), groups=2)
    out.sum().backward()
    assert out.abs().max() < 1e-2 and image.grad is not None and image.grad.isfinite().all()


def test_groups_divide_the_channels() -> None:
    assert [groups_of(channels) for channels in (2, 16, 72, 100, 128, 1024)] == [1, 4, 18, 25, 32, 32]
