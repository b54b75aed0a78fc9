from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rnasynth.nets.adversarial import (
    between,
    critic_loss,
    generator_loss,
    gradient_penalty,
    minmax_critic_loss,
    minmax_generator_loss,
)
from rnasynth.nets.dcgan import Critic

Penalty = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]


def over_the_batch(critic: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """The deliberately broken variant: one norm for the whole batch."""
    points = points.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return (gradient.norm() - 1.0).square().expand(len(points))


def is_closed_form_on_a_linear_critic(penalty: Penalty) -> bool:
    weights = torch.arange(1.0, 13.0).view(3, 2, 2) / 10
    points = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    values = penalty(lambda x: (x * weights).flatten(1).sum(dim=1) + 7.0, points)
    expected = (weights.norm() - 1.0).square().expand(5)
    return values.shape == (5,) and torch.allclose(values, expected, atol=1e-5)


def ignores_batch_mates(penalty: Penalty) -> bool:
    torch.manual_seed(1)
    critic = Critic(image_px=32, width=8)
    points = torch.randn(6, 3, 32, 32)
    return torch.allclose(penalty(critic, points)[:2], penalty(critic, points[:2]), rtol=1e-4, atol=1e-6)


def test_penalty_has_its_closed_form_on_a_linear_critic_and_ignores_batch_mates() -> None:
    assert is_closed_form_on_a_linear_critic(gradient_penalty)
    assert ignores_batch_mates(gradient_penalty)


def test_penalty_over_the_batch_fails_both_checks() -> None:
    assert not is_closed_form_on_a_linear_critic(over_the_batch)
    assert not ignores_batch_mates(over_the_batch)


def test_penalty_closed_form_on_a_quadratic_critic() -> None:
    # D(x) = |x|^2 / 2 has gradient x, so the penalty is (|x| - 1)^2.
    points = torch.randn(7, 9, generator=torch.Generator().manual_seed(0))
    values = gradient_penalty(lambda x: x.square().sum(dim=1) / 2, points)
    torch.testing.assert_close(values, (points.norm(dim=1) - 1).square())


def test_penalty_trains_the_critic_and_survives_a_flat_one() -> None:
    critic = nn.Linear(4, 1)
    gradient_penalty(lambda x: critic(x).flatten(), torch.randn(3, 4)).mean().backward()
    assert critic.weight.grad is not None and critic.weight.grad.abs().max() > 0
    nn.init.zeros_(critic.weight)
    critic.zero_grad()
    values = gradient_penalty(lambda x: critic(x).flatten(), torch.randn(3, 4))
    values.mean().backward()
    torch.testing.assert_close(values, torch.ones(3), atol=1e-5, rtol=0)
    assert torch.isfinite(critic.weight.grad).all()


def test_losses_are_opposed_and_between_is_between() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])
    assert critic_loss(real, fake).item() == pytest.approx(-1.5)
    assert generator_loss(fake).item() == pytest.approx(-0.5)
    mixed = between(torch.ones(3, 2, 2), torch.zeros(3, 2, 2), torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(mixed[:, 0, 0], torch.tensor([0.0, 0.25, 1.0]))


def test_minmax_losses_have_their_closed_forms() -> None:
    nothing = torch.zeros(5)  # D = 1/2 everywhere: Goodfellow et al. 2014, theorem 1, value -ln 4
    assert minmax_critic_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2))
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0])
    by_hand = -torch.sigmoid(real).log().mean() - (1 - torch.sigmoid(fake)).log().mean()
    torch.testing.assert_close(minmax_critic_loss(real, fake), by_hand)
    torch.testing.assert_close(minmax_generator_loss(fake), -torch.sigmoid(fake).log().mean())


def test_the_minmax_generator_still_learns_where_the_critic_is_sure() -> None:
    def pull(loss: Callable[[Tensor], Tensor]) -> float:
        scores = torch.full((3,), -12.0, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(scores), scores)
        return float(gradient.abs().sum())

    assert pull(minmax_generator_loss) == pytest.approx(1.0, abs=1e-4)
    assert pull(lambda s: (1 - torch.sigmoid(s)).log().mean()) < 1e-4  # the broken variant: the saturating loss
