"""The beta-VAE of expression profiles: an encoder to a Gaussian latent and a mirrored decoder.

Source: RNA-GAN (Cell Reports Methods 2023, STAR Methods, Fig. 1A: hidden 6,000 and 4,096, latent 2,048) and RNA-CDM
(preprint, Fig. 1A: 6,000 and 4,000, latent 200): BatchNorm between the layers, LeakyReLU. The decoder ends linear, so
that every z-score can be reached; RNA-GAN's released code ends in tanh and drops half of its input, both options here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

LOGVAR_LIMIT = 20.0  # |log variance| above it is a latent that means nothing; its exponential must stay finite


class BetaVAE(nn.Module):
    """Profiles -> latent mean and log variance -> profiles.

    Parameters
    ----------
    n_genes : length of a profile.
    hidden : widths of the encoder's layers, at least one; the decoder's are the same, reversed.
    latent : length of the latent vector.
    input_dropout : share of the genes set to zero in training, [0, 1).
    output : "linear", or "tanh" as in RNA-GAN's released code (values stay in (-1, 1)).
    """

    def __init__(
        self,
        n_genes: int,
        hidden: Sequence[int] = (6000, 4096),
        latent: int = 2048,
        *,
        input_dropout: float = 0.0,
        output: Literal["linear", "tanh"] = "linear",
    ) -> None:
        super().__init__()
        self.n_genes, self.latent = n_genes, latent
        widths = [n_genes, *hidden]
        first: list[nn.Module] = [nn.Dropout(input_dropout)] if input_dropout else []
        self.encoder = nn.Sequential(*first, *_layers(widths))
        self.to_latent = nn.Linear(widths[-1], 2 * latent)
        self.decoder = nn.Sequential(*_layers([latent, *reversed(hidden)]), nn.Linear(widths[1], n_genes))
        self.output = output

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latent, shape (B, latent) each, float32, from profiles (B, n_genes)."""
        mean, logvar = self.to_latent(self.encoder(x)).float().chunk(2, dim=1)
        return mean, logvar.clamp(-LOGVAR_LIMIT, LOGVAR_LIMIT)

    def decode(self, z: Tensor) -> Tensor:
        """Return profiles, shape (B, n_genes), float32, from latents (B, latent)."""
        x = self.decoder(z).float()
        return torch.tanh(x) if self.output == "tanh" else x

    def forward(self, x: Tensor, noise: Callable[..., Tensor] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return reconstruction, mean and log variance.

        Parameters
        ----------
        x : shape (B, n_genes), z-scores.
        noise : given the latent's length, returns N(0, 1) of shape (B, latent) for a draw; None: the mean is decoded.
        """
        mean, logvar = self.encode(x)
        z = mean if noise is None else mean + torch.exp(0.5 * logvar) * noise(self.latent)
        return self.decode(z), mean, logvar


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU()]
    return layers
