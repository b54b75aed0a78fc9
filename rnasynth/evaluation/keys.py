"""Names of a page's numbers, made of what is shown to readers."""

from __future__ import annotations


def key_of(name: str) -> str:
    """Return a name fit for a number: letters, digits and underscores.

    Examples
    --------
    >>> key_of("RNA-GAN, narrow")
    'rna_gan__narrow'
    """
    return "".join(character if character.isalnum() else "_" for character in name.lower()).strip("_")
