from __future__ import annotations

import pytest
import torch
from torch import nn

from rnasynth.nets.dcgan import TILE_SIZES, Critic, Generator


@pytest.mark.parametrize("image_px", TILE_SIZES)
@pytest.mark.parametrize("upsample", ["resize", "transposed"])
def test_generator_and_critic_give_the_stated_shapes_and_range(image_px: int, upsample: str) -> None:
    generator = Generator(input_dim=5, image_px=image_px, width=4, max_width=16, upsample=upsample)
    tiles = generator(torch.randn(2, 5))
    assert tiles.shape == (2, 3, image_px, image_px)
    assert tiles.abs().max() <= 1
    assert Critic(image_px=image_px, width=4, max_width=16)(tiles).shape == (2,)


@pytest.mark.parametrize("norm", ["batch", "group", "pixel", "none"])
@pytest.mark.parametrize("upsample", ["resize", "transposed"])
def test_every_generator_parameter_receives_a_gradient(norm: str, upsample: str) -> None:
    torch.manual_seed(0)
    generator = Generator(input_dim=6, image_px=32, width=8, upsample=upsample, norm=norm)
    weights = torch.randn(4, 3, 32, 32)
    (generator(torch.randn(4, 6)) * weights).sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-6, name


@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize("conditioned", [False, True])
def test_every_critic_parameter_receives_a_gradient(norm: str, conditioned: bool) -> None:
    torch.manual_seed(0)
    critic = Critic(
        image_px=32, width=8, norm=norm, condition_dim=3 if conditioned else 0, projection=conditioned, regress=conditioned
    )
    scores, read = critic.judge(torch.randn(4, 3, 32, 32), torch.randn(4, 3) if conditioned else None)
    loss = (scores * torch.tensor([1.0, -2.0, 3.0, 0.5])).sum()
    if read is not None:
        loss = loss + read.square().sum()
    loss.backward()
    for name, parameter in critic.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-6, name


def test_critic_has_no_batch_statistics_and_a_linear_output() -> None:
    torch.manual_seed(0)
    critic = Critic(image_px=32, width=8, norm="group", condition_dim=3, projection=True)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in critic.modules())
    tiles, condition = torch.randn(5, 3, 32, 32), torch.randn(5, 3)
    torch.testing.assert_close(critic(tiles, condition)[:2], critic(tiles[:2], condition[:2]))
    # Nothing bends the output: scaling the last layer scales the score, for negative scores too.
    before = critic(tiles, condition)
    assert before.min() < 0 < before.max()
    with torch.no_grad():
        critic.score.weight.mul_(3)
        assert critic.project is not None
        critic.project.weight.mul_(3)
    torch.testing.assert_close(critic(tiles, condition), 3 * before)


def test_batch_norm_is_refused_in_the_critic() -> None:
    with pytest.raises(ValueError, match="group"):
        Critic(image_px=32, norm="batch")


def test_projection_ties_the_score_to_the_condition_and_plain_critic_ignores_it() -> None:
    torch.manual_seed(0)
    tiles, condition = torch.randn(4, 3, 32, 32), torch.randn(4, 3)
    tied = Critic(image_px=32, width=8, condition_dim=3, projection=True)
    assert not torch.allclose(tied(tiles, condition), tied(tiles, condition.flip(0)))
    plain = Critic(image_px=32, width=8)
    assert torch.equal(plain(tiles, condition), plain(tiles, condition.flip(0)))
    with pytest.raises(ValueError, match="condition"):
        tied(tiles)


def test_a_tile_does_not_depend_on_its_batch_mates() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(6, 5)
    for norm in ("group", "pixel", "none"):
        generator = Generator(input_dim=5, image_px=32, width=8, norm=norm)
        torch.testing.assert_close(generator(inputs)[:2], generator(inputs[:2]), atol=1e-5, rtol=1e-4)


def test_published_width_gives_the_published_generator() -> None:
    generator = Generator(input_dim=2048, image_px=256, width=64, upsample="transposed", norm="batch")
    channels = [m.weight.shape[1] for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert channels == [2048, 1024, 512, 256, 128, 64, 3]


def test_signal_neither_fades_nor_explodes_at_the_start() -> None:
    torch.manual_seed(0)
    for upsample in ("resize", "transposed"):
        generator = Generator(input_dim=64, image_px=64, width=16, upsample=upsample, norm="none")
        assert 0.05 < generator(torch.randn(16, 64)).std() < 0.99
    scores = Critic(image_px=64, width=16)(torch.randn(32, 3, 64, 64).clamp(-1, 1))
    assert 0.01 < scores.std() < 10


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="image_px"):
        Generator(input_dim=3, image_px=48)
