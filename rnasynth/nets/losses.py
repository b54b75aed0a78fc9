"""Losses of the beta-VAE, with their reductions said.

Source: RNA-GAN eq. 2 and RNA-CDM eq. 2: -E[log p(x|z)] + beta KL(q(z|x) || N(0, I)), the first term a mean squared error
("MSE"). Neither paper says over what the terms are summed or averaged, which changes what beta = 0.005 means by the
number of genes or of latents. Here: the squared error is the mean over genes, the KL divergence the sum over the latent's
dimensions (or, by option, their mean), and both are means over the samples.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

KLReduction = Literal["sum", "mean"]


def squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Return the mean squared error over genes and samples, a scalar, from two tensors of shape (B, genes)."""
    return (reconstruction - x).square().mean()


def kl_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(mean, exp(logvar)) || N(0, 1)) in nats, by sample and dimension; the closed form.

    Parameters
    ----------
    mean, logvar : shape (B, latent).

    Returns
    -------
    Shape (B, latent), not negative.

    Examples
    --------
    >>> import torch
    >>> kl_standard_normal(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2))
    tensor([[0.0000, 0.5000]])
    """
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar)


def beta_vae_loss(
    x: Tensor, reconstruction: Tensor, mean: Tensor, logvar: Tensor, *, beta: float, kl_reduction: KLReduction = "sum"
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return squared error + beta * KL, a scalar, and both parts (detached): "mse", and "kl" in nats summed over latents.

    Parameters
    ----------
    x, reconstruction : shape (B, genes).
    mean, logvar : shape (B, latent).
    beta : weight of the divergence; both papers: 0.005.
    kl_reduction : over the latent's dimensions: "sum", or "mean" (then beta weighs 1 / latent as much).
    """
    mse = squared_error(x, reconstruction)
    kl = kl_standard_normal(mean, logvar).sum(dim=1).mean()
    weight = beta if kl_reduction == "sum" else beta / mean.shape[1]
    return mse + weight * kl, {"mse": mse.detach(), "kl": kl.detach()}
