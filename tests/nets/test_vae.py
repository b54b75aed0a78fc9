"""The beta-VAE's network and its losses against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rnasynth.nets.losses import beta_vae_loss, kl_standard_normal, squared_error
from rnasynth.nets.vae import LOGVAR_LIMIT, BetaVAE


def small(**options: object) -> BetaVAE:
    torch.manual_seed(0)
    return BetaVAE(12, (8, 6), 4, **options)  # type: ignore[arg-type]


def test_shapes_and_layers() -> None:
    network = small()
    reconstruction, mean, logvar = network(torch.randn(5, 12), lambda latent: torch.randn(5, latent))
    assert reconstruction.shape == (5, 12) and mean.shape == logvar.shape == (5, 4)
    widths = [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]
    assert widths == [(12, 8), (8, 6), (6, 8), (4, 6), (6, 8), (8, 12)]  # to_latent holds mean and log variance
    assert sum(isinstance(m, nn.BatchNorm1d) for m in network.modules()) == 4
    assert isinstance(network.decoder[-1], nn.Linear)


def test_linear_output_reaches_any_score_and_tanh_does_not() -> None:
    for output, reaches in (("linear", True), ("tanh", False)):
        network = small(output=output).eval()
        nn.init.constant_(network.decoder[-1].bias, 5.0)
        assert bool((network.decode(torch.zeros(1, 4)) > 1.0).all()) is reaches


def test_without_noise_the_mean_is_decoded() -> None:
    network = small().eval()
    x = torch.randn(3, 12)
    reconstruction, mean, _ = network(x)
    assert torch.equal(reconstruction, network.decode(mean))
    zero, *_ = network(x, lambda latent: torch.zeros(3, latent))
    assert torch.equal(zero, reconstruction)


def test_input_dropout_works_in_training_only() -> None:
    network = small(input_dropout=0.5)
    x = torch.ones(4, 12)
    assert not torch.equal(network.train().encode(x)[0], network.encode(x)[0])
    assert torch.equal(network.eval().encode(x)[0], network.encode(x)[0])


def test_an_absurd_log_variance_stays_finite() -> None:
    network = small().eval()
    nn.init.constant_(network.to_latent.bias, 1e6)
    reconstruction, mean, logvar = network(torch.randn(2, 12), lambda latent: torch.zeros(2, latent))
    assert float(logvar.detach().max()) == LOGVAR_LIMIT and torch.isfinite(reconstruction).all()
    assert torch.isfinite(kl_standard_normal(mean, logvar)).all()


def test_every_parameter_gets_a_gradient() -> None:
    network = small()
    x = torch.randn(6, 12)
    loss, _ = beta_vae_loss(x, *network(x, lambda latent: torch.randn(6, latent)), beta=0.1)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_kl_equals_torch_distributions() -> None:
    mean, logvar = torch.randn(7, 3), torch.randn(7, 3)
    posterior = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_standard_normal(mean, logvar), expected)


def test_kl_equals_an_average_over_draws() -> None:
    mean, logvar = torch.tensor([[0.7]]), torch.tensor([[-1.0]])
    posterior, prior = torch.distributions.Normal(mean, (0.5 * logvar).exp()), torch.distributions.Normal(0.0, 1.0)
    torch.manual_seed(0)
    draws = posterior.sample((200_000,))
    average = (posterior.log_prob(draws) - prior.log_prob(draws)).mean()
    assert float(kl_standard_normal(mean, logvar)) == pytest.approx(float(average), abs=0.01)


def test_reductions_are_as_documented() -> None:
    x, reconstruction = torch.zeros(2, 4), torch.tensor([[1.0, 1, 1, 1], [3.0, 3, 3, 3]])
    mean, logvar = torch.tensor([[1.0, 1, 1], [0.0, 0, 0]]), torch.zeros(2, 3)
    assert float(squared_error(x, reconstruction)) == 5.0  # mean over genes and samples
    loss, parts = beta_vae_loss(x, reconstruction, mean, logvar, beta=2.0)
    assert float(parts["kl"]) == 0.75 and float(loss) == 6.5  # sum over latents, mean over samples
    loss, parts = beta_vae_loss(x, reconstruction, mean, logvar, beta=2.0, kl_reduction="mean")
    assert float(loss) == 5.5 and float(parts["kl"]) == 0.75
