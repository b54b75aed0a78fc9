"""Attention over the pixels of a feature map, and over the tokens of a condition, in one block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnasynth.errors import InputError

FEW_KEYS = {torch.float32: 64, torch.bfloat16: 256}  # keys up to which `attend` writes the weights out


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of queries to keys: softmax(query key^T / sqrt(D)) value.

    Torch's scaled_dot_product_attention, which holds no N x M matrix; but in training on a processor, where the keys
    are few, two matrix products: their way back is 1.3 to 40 times faster (measured: 256 and 4 keys, bfloat16).

    Parameters
    ----------
    query : shape (B, heads, N, D).
    key, value : shape (B, heads, M, D).

    Returns
    -------
    Shape (B, heads, N, D).
    """
    few = query.device.type == "cpu" and query.requires_grad and key.shape[2] <= FEW_KEYS.get(query.dtype, 0)
    if not few:
        return functional.scaled_dot_product_attention(query, key, value)
    return (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1) @ value


class Tokens(nn.Module):
    """Several different tokens made from one condition vector, with a learnt set for "no condition".

    Each token has weights of its own, so cross-attention has something to choose between: a vector repeated
    would give every query the same answer.

    Parameters
    ----------
    condition_dim : length of the condition, at least 1.
    tokens : number of tokens, at least 1.
    width : channels of a token.
    """

    def __init__(self, condition_dim: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        self.project = nn.Linear(condition_dim, tokens * width)
        self.null = nn.Parameter(torch.randn(tokens, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, condition: Tensor, keep: Tensor) -> Tensor:
        """Make tokens.

        Parameters
        ----------
        condition : shape (B, condition_dim), float.
        keep : shape (B,), bool; rows where it is False get the learnt null tokens.

        Returns
        -------
        Shape (B, tokens, width), each token of mean 0 and variance 1 before the learnt scale.
        """
        made = self.project(condition).view(-1, self.tokens, self.width)
        return self.norm(torch.where(keep[:, None, None], made, self.null.to(made.dtype)))


class Attention(nn.Module):
    """Self-attention, cross-attention and a feed-forward layer side by side, added to the feature map.

    The three read the same normalised pixels through one projection and write through one projection (the parallel
    form of Dehghani et al. 2023, "Scaling vision transformers to 22 billion parameters", section 2): two large
    matrix products a block instead of six small ones. The last projection begins at zero, so a new block changes
    nothing.

    Parameters
    ----------
    channels : channels of the feature map.
    self_attention : pixels look at each other.
    token_width : channels of the tokens to look at; 0 for no cross-attention.
    head_dim : channels of a head, where they divide `channels`; fewer channels are one head.
    feed_forward : hidden channels of the feed-forward layer as a multiple of `channels`; 0 for none.
    """

    def __init__(
        self, channels: int, *, self_attention: bool, token_width: int, head_dim: int = 64, feed_forward: float = 2.0
    ) -> None:
        super().__init__()
        self.heads = max(1, channels // head_dim)
        if channels % self.heads:
            raise InputError("head_dim", expected=f"a divisor of the {channels} channels of the level", found=str(head_dim))
        hidden = round(channels * feed_forward)
        self.self_attention, self.cross_attention = self_attention, token_width > 0
        self.parts = [3 * channels * self_attention, channels * self.cross_attention, hidden]
        self.norm = nn.LayerNorm(channels)
        self.read = nn.Linear(channels, sum(self.parts))
        self.look = nn.Linear(token_width, 2 * channels, bias=False) if self.cross_attention else None
        self.write = nn.Linear(channels * (self_attention + self.cross_attention) + hidden, channels)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def _heads(self, x: Tensor, parts: int) -> list[Tensor]:
        """Split (B, N, parts * C) into `parts` tensors (B, heads, N, C / heads); views, nothing is copied."""
        split = x.unflatten(-1, (parts, self.heads, -1)).unbind(2)
        return [part.transpose(1, 2) for part in split]

    def forward(self, image: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Add what the pixels see to the feature map.

        Parameters
        ----------
        image : feature map, shape (B, C, H, W); channels_last is the fast layout (its pixels are read in place).
        tokens : shape (B, T, token_width); needed where there is cross-attention.

        Returns
        -------
        Shape (B, C, H, W).
        """
        pixels = image.permute(0, 2, 3, 1).flatten(1, 2)
        self_part, cross_part, hidden = self.read(self.norm(pixels)).split(self.parts, dim=-1)
        seen = []
        if self.self_attention:
            query, key, value = self._heads(self_part, 3)
            seen.append(attend(query, key, value))
        if self.look is not None:
            if tokens is None:
                raise InputError("tokens", expected="tokens for the cross-attention", found="none")
            (query,), (key, value) = self._heads(cross_part, 1), self._heads(self.look(tokens), 2)
            seen.append(attend(query, key, value))
        merged = [part.transpose(1, 2).flatten(2) for part in seen]
        if self.parts[2]:
            merged.append(functional.silu(hidden))
        change: Tensor = self.write(merged[0] if len(merged) == 1 else torch.cat(merged, dim=-1))
        return change.add_(pixels).unflatten(1, image.shape[2:]).permute(0, 3, 1, 2)
