"""GeMM-GAN's networks: what a bag of tiles and a text say together, and profiles made from it.

Source: GeMM-GAN (arXiv 2601.15392) and what its released code does: tile features -> 256 numbers, a learnt CLS token, a
transformer of two layers over the tiles, cross-attention between tiles and text, the two CLS vectors summed (or the
text's scaling the image's: FiLM). Its padding was never masked; here nothing of it is read. `attention="residual"` is
ours: normalised before each layer, with residual paths, and a linear path from the bag's mean and spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from rnasynth.nets.text import HashedText

TIME_WAVES = 16  # frequencies by which the flow is told its time


class Patients(NamedTuple):
    """A batch of patients; what stands where a mask is False is padding and is never read.

    Attributes
    ----------
    patches : tile features, shape (B, N, dim), float.
    patch_there : shape (B, N), bool; a row without any is a patient without tiles.
    words : word numbers (B, T), int64, or an encoder's tokens (B, T, word_dim), float.
    word_there : shape (B, T), bool; a row without any is a patient without text.
    """

    patches: Tensor
    patch_there: Tensor
    words: Tensor
    word_there: Tensor


class Conditioner(nn.Module):
    """Tiles and text of a patient -> one vector.

    Parameters
    ----------
    patch_dim : features of a tile.
    word_dim : numbers of a word's vector, or of an encoder's token.
    buckets : of the hashed words; 0: tokens of an encoder are given.
    width, heads, layers, feed_forward, dropout : of the transformer; published 256, 4, 2, 512, 0.1.
    fusion : "sum" of the two CLS vectors, or "film": the text's CLS scales and shifts the image's.
    attention : "published", or "residual" (see the module).
    """

    def __init__(
        self,
        patch_dim: int,
        *,
        word_dim: int = 768,
        buckets: int = 0,
        width: int = 256,
        heads: int = 4,
        layers: int = 2,
        feed_forward: int = 512,
        dropout: float = 0.1,
        fusion: Literal["sum", "film"] = "sum",
        attention: Literal["published", "residual"] = "published",
    ) -> None:
        super().__init__()
        self.width, self.residual = width, attention == "residual"
        self.embed = HashedText(buckets, word_dim) if buckets else None
        self.read_patch, self.read_word = nn.Linear(patch_dim, width), nn.Linear(word_dim, width)
        self.cls_image, self.cls_text, self.no_tiles, self.no_text = (
            nn.Parameter(0.02 * torch.randn(width)) for _ in range(4)
        )
        layer = nn.TransformerEncoderLayer(
            width, heads, feed_forward, dropout, batch_first=True, norm_first=self.residual, activation="relu"
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.look_at_text = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.look_at_image = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.film = nn.Linear(width, 2 * width) if fusion == "film" else None
        if self.residual:
            self.norm_image, self.norm_text, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
            self.straight = nn.Linear(2 * patch_dim + width, width)

    def forward(self, patients: Patients) -> Tensor:
        """Return what is known of each patient, shape (B, width)."""
        patches, words = patients.patches, patients.words
        vectors = words if self.embed is None else self.embed(words)
        patches = torch.where(patients.patch_there[..., None], patches, 0.0)  # padding may hold anything, NaN too
        vectors = torch.where(patients.word_there[..., None], vectors, 0.0)
        image, image_there = _sequence(self.cls_image, self.no_tiles, self.read_patch(patches), patients.patch_there)
        text, text_there = _sequence(self.cls_text, self.no_text, self.read_word(vectors), patients.word_there)
        image = self.encoder(image, src_key_padding_mask=~image_there)
        from_text, from_image = image[:, :1], text[:, :1]  # of what looks, only the CLS token is read afterwards
        keys_image, keys_text = image, text
        if self.residual:
            keys_image, keys_text = self.norm_image(image), self.norm_text(text)
            from_text, from_image = keys_image[:, :1], keys_text[:, :1]
        seen_text = self.look_at_text(from_text, keys_text, keys_text, key_padding_mask=~text_there, need_weights=False)[0]
        seen_image = self.look_at_image(
            from_image, keys_image, keys_image, key_padding_mask=~image_there, need_weights=False
        )[0]
        if self.residual:
            seen_text, seen_image = image[:, :1] + seen_text, text[:, :1] + seen_image
        one, other = seen_text[:, 0], seen_image[:, 0]
        if self.film is None:
            joined = one + other
        else:
            scale, shift = self.film(other).chunk(2, dim=1)
            joined = one * (1.0 + scale) + shift
        if not self.residual:
            return joined
        told = torch.cat([bag_moments(patches, patients.patch_there), _mean(text[:, 1:], text_there[:, 1:])], dim=1)
        result: Tensor = self.norm_out(joined) + self.straight(told)
        return result


def _sequence(cls: Tensor, nothing: Tensor, tokens: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Put the CLS token first, and the learnt token for "nothing" where a row has no token; (B, 1 + N, width) and mask."""
    if tokens.shape[1] == 0:
        tokens, there = tokens.new_zeros(len(tokens), 1, tokens.shape[2]), there.new_zeros(len(tokens), 1)
    first = torch.zeros_like(there)
    first[:, 0] = True
    empty = first & ~there.any(dim=1, keepdim=True)
    tokens = torch.where(empty[..., None], nothing.to(tokens.dtype), tokens)
    ahead = cls.to(tokens.dtype).expand(len(tokens), 1, -1)
    return torch.cat([ahead, tokens], dim=1), torch.cat([torch.ones_like(there[:, :1]), there | empty], dim=1)


def _mean(tokens: Tensor, there: Tensor) -> Tensor:
    weight = there[..., None].to(tokens.dtype)
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def bag_moments(patches: Tensor, there: Tensor) -> Tensor:
    """Return mean and spread of a bag's features, shape (B, 2 * dim); 0 for a bag without tiles, spread 0 for one tile."""
    middle = _mean(patches, there)
    spread = _mean((patches - middle[:, None]).square(), there)
    return torch.cat([middle, (spread + 1e-8).sqrt() - 1e-4], dim=1)


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them, linear at the end."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class ProfileGenerator(nn.Module):
    """Noise and a condition -> a profile; published: 256 + 256 numbers, hidden 256 and 256.

    Parameters
    ----------
    conditioner : what makes the condition of patients; None: a vector is given (a label), or none.
    condition_dim : its length, 0 for none.
    """

    def __init__(
        self, n_genes: int, noise_dim: int, condition_dim: int, hidden: Sequence[int], conditioner: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.layers = mlp([noise_dim + condition_dim, *hidden, n_genes])

    def condition(self, told: Patients | Tensor) -> Tensor:
        """Return the condition vector, shape (B, condition_dim)."""
        return condition_of(self.conditioner, told)

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return z-scores, shape (B, n_genes)."""
        made: Tensor = self.layers(torch.cat([noise, condition], dim=1))
        return made


class ProfileCritic(nn.Module):
    """A profile and a condition -> a score; published: an encoder of its own, hidden 256 and 256."""

    def __init__(
        self, n_genes: int, condition_dim: int, hidden: Sequence[int], conditioner: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.layers = mlp([n_genes + condition_dim, *hidden, 1])

    def condition(self, told: Patients | Tensor) -> Tensor:
        """Return the condition vector, shape (B, condition_dim)."""
        return condition_of(self.conditioner, told)

    def forward(self, profiles: Tensor, condition: Tensor) -> Tensor:
        """Return scores, shape (B,)."""
        made: Tensor = self.layers(torch.cat([profiles, condition], dim=1))
        return made[:, 0]


def condition_of(conditioner: nn.Module | None, told: Patients | Tensor) -> Tensor:
    """Return the conditioner's vector of patients, or the vector that was given."""
    if isinstance(told, Tensor):
        return told
    assert conditioner is not None, "patients need a conditioner"
    made: Tensor = conditioner(told)
    return made


class FlowNet(nn.Module):
    """Conditional flow matching on a latent: a velocity for every point, time and patient; and the latent's mean.

    Source: Lipman et al. 2023, "Flow matching for generative modeling"; straight paths, Liu et al. 2023.

    Parameters
    ----------
    latent : length of the latent.
    conditioner : patients -> (B, condition_dim).
    width, blocks : of the velocity's residual network.
    dropout : of what the velocity is told of a patient: else it trusts training patients, whom it knows by heart, too much.
    """

    def __init__(
        self,
        latent: int,
        conditioner: nn.Module,
        condition_dim: int,
        *,
        width: int,
        blocks: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.mean = nn.Linear(condition_dim, latent)
        self.drop = nn.Dropout(dropout)
        self.told = nn.Sequential(nn.Linear(condition_dim + latent + 2 * TIME_WAVES, width), nn.SiLU())
        self.start = nn.Linear(latent, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.end = nn.Linear(width, latent)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)
        self.register_buffer("waves", 2.0 ** torch.linspace(0, 6, TIME_WAVES), persistent=False)
        self.waves: Tensor

    def condition(self, told: Patients) -> Tensor:
        """Return the condition vector, shape (B, condition_dim)."""
        return condition_of(self.conditioner, told)

    def velocity(self, x: Tensor, time: Tensor, condition: Tensor, mean: Tensor) -> Tensor:
        """Return dx/dt, shape (B, latent), at points x (B, latent) and times (B,) in [0, 1] (0 noise, 1 data).

        `mean` is what the mean's layer says of the patient: the flow may lean on it.
        """
        angles = time[:, None] * self.waves * math.pi
        known = self.drop(torch.cat([condition, mean], dim=1))
        told = self.told(torch.cat([known, angles.sin(), angles.cos()], dim=1))
        hidden = self.start(x)
        for block in self.blocks:
            hidden = block(hidden, told)
        made: Tensor = self.end(hidden)
        return made


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.film = nn.Linear(width, 2 * width)
        self.inner = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, hidden: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.film(told).chunk(2, dim=1)
        made: Tensor = hidden + self.inner(self.norm(hidden) * (1.0 + scale) + shift)
        return made


def straight_path(data: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Return the point at `time` (B,) on the line from noise to data, and the line's direction; (B, latent) each."""
    share = time[:, None]
    return (1.0 - share) * noise + share * data, data - noise


def follow(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int, *, heun: bool = True) -> Tensor:
    """Follow a velocity from time 0 to 1, by Euler's or Heun's method with equal steps.

    Parameters
    ----------
    velocity : (x (B, latent), time (B,)) -> (B, latent).
    noise : where it starts, shape (B, latent).
    steps : Heun evaluates the velocity twice a step.

    Returns
    -------
    Shape (B, latent).
    """
    x, size = noise, 1.0 / steps
    for step in range(steps):
        now = torch.full((len(x),), step * size, device=x.device, dtype=x.dtype)
        first = velocity(x, now)
        if heun:
            second = velocity(x + size * first, now + size)
            x = x + size * (first + second) / 2
        else:
            x = x + size * first
    return x


class ConditionalVAE(nn.Module):
    """A VAE of profiles whose encoder and decoder both know the label (Sohn, Lee and Yan 2015)."""

    def __init__(self, n_genes: int, label_dim: int, latent: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = mlp([n_genes + label_dim, *hidden, 2 * latent])
        self.decoder = mlp([latent + label_dim, *reversed(list(hidden)), n_genes])

    def encode(self, profiles: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latent, shape (B, latent) each."""
        mean, logvar = self.encoder(torch.cat([profiles, label], dim=1)).chunk(2, dim=1)
        return mean, logvar.clamp(-20.0, 20.0)

    def decode(self, latent: Tensor, label: Tensor) -> Tensor:
        """Return z-scores, shape (B, n_genes)."""
        made: Tensor = self.decoder(torch.cat([latent, label], dim=1))
        return made
