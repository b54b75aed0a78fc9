"""What the generator computes another way than it is defined equals the definition; half precision spares the penalty."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rnasynth.nets.adversarial import gradient_penalty
from rnasynth.nets.dcgan import Critic, Generator, ResizeConvolution


def of_both(module: nn.Module, defined: nn.Module, inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Output and gradients (input, then weights) of two ways to call one set of weights."""
    results = []
    for way in (module, defined):
        x = inputs.clone().requires_grad_(True)
        y = way(x)
        weights = list(module.parameters())
        results.append(
            [y, *torch.autograd.grad((y * torch.linspace(-1, 1, y[0].numel()).view_as(y[0])).sum(), [x, *weights])]
        )
    return results[0], results[1]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_resize_convolution_is_doubling_then_convolution(layout: torch.memory_format, bias: bool) -> None:
    torch.manual_seed(0)
    folded = ResizeConvolution(5, 4, bias=bias).to(memory_format=layout)  # type: ignore[call-overload]
    maps = torch.randn(2, 5, 6, 7).contiguous(memory_format=layout)
    for one, other in zip(*of_both(folded, nn.Sequential(folded[0], folded[1]), maps), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    ResizeConvolution.FOLD, right = ResizeConvolution.FOLD[::-1], ResizeConvolution.FOLD  # the broken variant
    try:
        assert (folded(maps) - folded[1](folded[0](maps))).abs().max() > 0.1
    finally:
        ResizeConvolution.FOLD = right


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("upsample", ["resize", "transposed"])
@pytest.mark.parametrize("norm", ["pixel", "batch"])
def test_a_generator_makes_what_its_layers_define(layout: torch.memory_format, upsample: str, norm: str) -> None:
    torch.manual_seed(0)
    generator = Generator(input_dim=7, image_px=32, width=8, upsample=upsample, norm=norm)  # type: ignore[arg-type]
    generator = generator.to(memory_format=layout)  # type: ignore[call-overload]
    inputs = torch.randn(4, 7)
    maps = generator.first_norm(generator.first(inputs[:, :, None, None]))
    for layer in generator.blocks:
        maps = nn.Sequential.forward(layer, maps) if isinstance(layer, nn.Sequential) else layer(maps)
    torch.testing.assert_close(generator(inputs), torch.tanh(maps), rtol=1e-4, atol=1e-5)


def test_in_double_precision_the_generators_gradients_are_the_same() -> None:
    torch.manual_seed(0)
    generator = Generator(input_dim=5, image_px=32, width=8, norm="pixel").double()

    def defined(inputs: Tensor) -> Tensor:
        maps = generator.first_norm(generator.first(inputs[:, :, None, None]))
        for layer in generator.blocks:
            maps = nn.Sequential.forward(layer, maps) if isinstance(layer, nn.Sequential) else layer(maps)
        return torch.tanh(maps)

    inputs = torch.randn(8, 5, dtype=torch.float64)
    weights = list(generator.parameters())
    gradients = [torch.autograd.grad(make(inputs).square().sum(), weights) for make in (generator, defined)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_penalty_is_fp32_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    critic, tiles = Critic(image_px=32, width=8), torch.rand(4, 3, 32, 32) * 2 - 1
    kinds: set[torch.dtype] = set()
    for layer in critic.trunk:
        layer.register_forward_hook(lambda module, given, made: kinds.add(made.dtype))
    exact = gradient_penalty(critic, tiles)
    with torch.autocast("cpu", dtype=dtype):
        kinds.clear()
        spared = gradient_penalty(critic, tiles.to(dtype))
        assert kinds == {torch.float32} and spared.dtype == torch.float32
        scores = critic(tiles)
        assert kinds == {torch.float32, dtype} and scores.dtype == torch.float32
    assert torch.equal(gradient_penalty(critic, tiles.to(dtype)), spared)
    with torch.autocast("cpu", dtype=dtype):  # the broken variant: the norm of half precision's gradient
        points = tiles.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(points).sum(), points)
    rough = (gradient.flatten(1).norm(dim=1) - 1).square()
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(gradient_penalty(critic, tiles), exact) and not torch.allclose(rough, exact, rtol=1e-5)
