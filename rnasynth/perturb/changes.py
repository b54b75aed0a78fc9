"""What is done to profiles: each gene, or the share of it that one cell type makes, is multiplied by a power of two.

A change acts on raw linear profiles, before any transform. Sample ids stay, so that a generator whose noise is keyed by
them draws the same noise for the changed profile as for the profile itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.checks import check_raw
from rnasynth.data.genes import dense, few, locate
from rnasynth.errors import InputError

NEIGHBOURS = 10  # a matched gene is one of this many of nearest mean expression
BLOCK = 10  # where most genes change, shares are exchanged among this many genes of like expression
MOST = 0.25  # share of the genes beyond which there are no unchanged genes left to match with


@dataclass(frozen=True, eq=False)
class Change:
    """A change of profiles, to be applied at any dose.

    Attributes
    ----------
    name : in words, such as "lymphocyte programme".
    share : shape (1, genes), or (samples, genes): share of each gene's expression, 0 to 1, that a dose multiplies. 1 for a
        gene of a set; for a programme the share that the type makes of the gene in that sample.
    genes : the profiles' genes.
    raises : the quantity that is expected to rise with the dose, named before the run; "" for none.
    keep_total : restore each sample's sum: more of one cell type is less of the others, while a gene that rises displaces
        nothing.
    absent : genes of the set that the profiles lack.
    """

    name: str
    share: NDArray[np.float64]
    genes: tuple[str, ...]
    raises: str = ""
    keep_total: bool = False
    absent: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        """Genes of which anything changes in any sample."""
        return tuple(gene for gene, any_share in zip(self.genes, self.share.max(axis=0) > 0, strict=True) if any_share)

    def apply(self, profiles: AnnData, log2_fold: float) -> AnnData:
        """Return the profiles with the change at one dose; at dose 0 they are the same to the last bit.

        Parameters
        ----------
        profiles : raw AnnData in linear units, the genes (and, for a programme, the samples) that the change was made for.
        log2_fold : the dose: 1 doubles, -1 halves.

        Raises
        ------
        InputError : other genes or samples, or a dose that is not finite.
        """
        if tuple(map(str, profiles.var_names)) != self.genes or len(self.share) not in (1, profiles.n_obs):
            found = f"{profiles.n_obs} samples, {profiles.n_vars} genes"
            raise InputError(f"change {self.name}", expected="the profiles that it was made for", found=found)
        if not np.isfinite(log2_fold):
            raise InputError(f"change {self.name}, log2 fold", expected="a finite number", found=repr(log2_fold))
        changed = profiles.copy()
        if log2_fold == 0:
            return changed
        x = dense(profiles).astype(np.float64)
        made = x * (1.0 + self.share * (2.0**log2_fold - 1.0))
        if self.keep_total:
            total = made.sum(axis=1, keepdims=True)
            made *= np.divide(x.sum(axis=1, keepdims=True), total, out=np.ones_like(total), where=total > 0)
        changed.X = made.astype(np.float32)
        return changed

    def acts(self, profiles: AnnData) -> NDArray[np.bool_]:
        """Which samples the change does anything to: a type that a sample lacks cannot be raised, nor can zeros."""
        return np.asarray((dense(profiles) * self.share > 0).any(axis=1))

    def amount(self, profiles: AnnData) -> NDArray[np.float64]:
        """Return log2(parts of a million + 1) of each sample's expression that a dose would multiply, shape (samples,)."""
        x = dense(profiles).astype(np.float64)
        return np.asarray(np.log2(1e6 * (x * self.share).sum(axis=1) / x.sum(axis=1) + 1))


def gene_change(profiles: AnnData, genes: Sequence[str], *, name: str = "", raises: str = "") -> Change:
    """Make the change of a gene or a gene set: all of its expression is multiplied.

    Parameters
    ----------
    profiles : raw AnnData in linear units.
    genes : ids or symbols; those that the profiles lack are named in `absent`.
    name : in words; by default the genes.
    raises : see `Change`.

    Raises
    ------
    InputError : no gene given, none of them in the profiles, none expressed in any sample, or profiles that are not linear.
    """
    _check(profiles)
    place = locate(list(genes), profiles, duplicates="first")
    columns = [found[0] for found in place if found]
    if not columns:
        raise InputError(f"genes {few(genes)}", expected="genes of the profiles", found="none of them")
    share = np.zeros((1, profiles.n_vars))
    share[0, columns] = 1.0
    if not (dense(profiles)[:, columns] > 0).any():
        raise InputError(f"genes {few(genes)}", expected="expressed in a sample", found="zeros, which no factor changes")
    absent = tuple(str(gene) for gene, found in zip(genes, place, strict=True) if not found)
    every = tuple(map(str, profiles.var_names))
    return Change(name or few(genes), share, every, raises=raises, absent=absent)


def programme_change(
    profiles: AnnData,
    reference: pd.DataFrame,
    fractions: pd.DataFrame,
    kind: str,
    *,
    rna_content: Mapping[str, float] | pd.Series | None = None,
    name: str = "",
    raises: str = "",
) -> Change:
    """Make the change of a cell type's programme: as if a sample held 2**dose times as much of that type's RNA.

    Of each gene only the share that the type makes in the sample is multiplied, and the sample's sum is restored, because
    more of one type is less of the others. With the true programmes and fractions this is the profile that the
    mixture would have, whatever the genes' own noise.

    Parameters
    ----------
    profiles : raw AnnData in linear units.
    reference : genes x types, linear: each type's mean profile (see `deconvolution.group_mode`), any unit; columns are
        scaled to one sum. Genes of the profiles that it lacks are left as they are, but for the sum.
    fractions : samples x types, every sample and every type of `reference`.
    kind : whose programme.
    rna_content : type -> RNA of one of its cells, where `fractions` count cells; None: they are shares of RNA.
    name, raises : see `Change`.

    Raises
    ------
    InputError : an unknown type, a sample without fractions, no gene of the reference, or profiles that are not linear.
    """
    _check(profiles)
    kinds = [str(column) for column in reference]
    names = [str(sample) for sample in profiles.obs_names]
    table = fractions.rename(index=str, columns=str)
    if kind not in kinds or not set(kinds) <= set(table):
        raise InputError(f"type {kind!r}", expected="a type of the profiles of types, with fractions", found="none")
    if lost := [sample for sample in names if sample not in set(table.index)]:
        raise InputError(f"sample {few(lost)}", expected="fractions", found="none")
    place = locate([str(gene) for gene in reference.index], profiles, duplicates="first")
    rows = [row for row, found in enumerate(place) if found]
    if not rows:
        raise InputError(f"programme of {kind}", expected="genes of the profiles", found="none of them")
    weights = table.loc[names, kinds].to_numpy(np.float64)
    if rna_content is not None:
        weights = weights * np.array([float(rna_content[column]) for column in kinds])
    basis = np.nan_to_num(reference.to_numpy(np.float64))
    basis = basis / basis.sum(axis=0)
    which = kinds.index(kind)
    own, whole = weights[:, [which]] * basis[rows, which], weights @ basis[rows].T
    share = np.zeros((len(names), profiles.n_vars))
    share[:, [place[row][0] for row in rows]] = np.divide(own, whole, out=np.zeros_like(own), where=whole > 0)
    genes = tuple(map(str, profiles.var_names))
    return Change(name or f"{kind} programme", share, genes, raises=raises, keep_total=True)


def matched_controls(
    change: Change, profiles: AnnData, *, sets: int = 5, among: Sequence[str] | None = None, seed: int = 0
) -> list[Change]:
    """Draw random changes of as many genes of like expression, to tell a change's own effect from any change's.

    Each changed gene's shares go to another gene, drawn among the ten unchanged ones of nearest mean log expression. Where
    more than a quarter of the genes change (a programme), shares are exchanged at random among ten genes of
    like expression instead.

    Parameters
    ----------
    profiles : the profiles that the change was made for.
    sets : how many to draw.
    among : genes that may change, such as those that the generator reads: a gene it does not read does nothing by itself.
        Changed genes outside of them stay as they are in the control. None: all.
    seed : of the draws.

    Raises
    ------
    InputError : too few unchanged genes to draw from.
    """
    allowed = np.ones(profiles.n_vars, bool)
    if among is not None:
        allowed[:] = False
        allowed[[found[0] for found in locate(list(among), profiles, duplicates="first") if found]] = True
    x = dense(profiles).astype(np.float64)
    level = np.log2(1e6 * x / np.maximum(x.sum(axis=1, keepdims=True), 1e-12) + 1).mean(axis=0)
    touched = (change.share > 0).any(axis=0) & allowed
    free = ~(change.share > 0).any(axis=0) & allowed & (level > 0)
    rng = np.random.default_rng([seed, 7])
    graded = bool(((change.share > 0) & (change.share < 1)).any())  # exchanging ones for ones would change nothing
    dense_change = graded and touched.sum() > MOST * allowed.sum()
    if not dense_change and free.sum() < touched.sum():
        raise InputError(
            f"change {change.name}", expected=f"{int(touched.sum())} unchanged genes or more", found=str(int(free.sum()))
        )
    controls = []
    for number in range(sets):
        source = np.arange(profiles.n_vars)
        if dense_change:
            order = np.flatnonzero(allowed)[np.argsort(level[allowed], kind="stable")]
            for start in range(0, len(order), BLOCK):
                block = order[start : start + BLOCK]
                source[block] = rng.permutation(block)
            share = change.share[:, source]
        else:
            share = change.share.copy()
            share[:, touched] = 0.0
            left = set(np.flatnonzero(free).tolist())
            for gene in rng.permutation(np.flatnonzero(touched)):
                near = sorted(left, key=lambda other: (abs(level[other] - level[gene]), other))[:NEIGHBOURS]
                chosen = int(rng.choice(near))
                left.remove(chosen)
                share[:, chosen] = change.share[:, gene]
        controls.append(replace(change, name=f"{change.name}, matched genes {number + 1}", share=share, raises=""))
    return controls


def _check(profiles: AnnData) -> None:
    if profiles.uns.get("unit") == "zscore":
        raise InputError("profiles", expected="linear values (TPM, RSEM or counts)", found="z-scores")
    check_raw(profiles, allow_small=True)
