"""What all readers of profiles share: which genes and samples are wanted, where they go, and the finished AnnData."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.checks import UNITS, check_raw
from rnasynth.data.genes import ENSEMBL, MIN_SHARE, Duplicates, check_matched, few, gene_id, gene_ids, repeated
from rnasynth.errors import InputError

Scale = Literal["linear", "log2p1", "log2p0.001", "lnp1"]
_TCGA = re.compile(r"^TCGA[-.][A-Z0-9]{2}[-.][A-Z0-9]{4}", re.IGNORECASE)
_GTEX = re.compile(r"^GTEX[-.][A-Z0-9]+", re.IGNORECASE)
_BARCODE_TYPES = {"01": "tumour", "02": "recurrence", "03": "tumour", "06": "metastasis", "10": "normal", "11": "normal"}


def patient_of(sample: str) -> str:
    """Return the patient of a TCGA or GTEx sample id; any other id is its own patient.

    Examples
    --------
    >>> patient_of("TCGA-OR-A5J1-01A-11R-A29S-07"), patient_of("GTEX-1117F-0126-SM-5EGHI"), patient_of("S1")
    ('TCGA-OR-A5J1', 'GTEX-1117F', 'S1')
    """
    found = _TCGA.match(sample) or _GTEX.match(sample)
    return found.group(0).replace(".", "-").upper() if found else sample


def sample_type_of(sample: str) -> str:
    """Return "tumour", "recurrence", "metastasis" or "normal" of a TCGA sample barcode, "" where it does not say.

    Source: GDC code tables, sample type codes.
    """
    parts = sample.replace(".", "-").split("-")
    return _BARCODE_TYPES.get(parts[3][:2], "") if _TCGA.match(sample) and len(parts) > 3 else ""


class GenePlaces:
    """Which place in the result each gene of a file gets, as the file is read.

    Parameters
    ----------
    wanted : ids or symbols, in the order of the result; None: all genes, in the file's order.
    duplicates : "error", "sum" (several genes of the file share a place) or "first".
    subject : the file, for messages.
    """

    def __init__(self, wanted: Sequence[str] | None, duplicates: Duplicates, subject: str) -> None:
        self.wanted, self.duplicates, self.subject = wanted, duplicates, subject
        self.names: dict[int, str] = {}  # as the file spells them
        self.symbols: dict[int, str] = {}
        self.seen: list[str] = []  # first few thousand ids of the file, for messages
        self.places: dict[str, int] = {}
        self.by_symbol = wanted is not None and not all(ENSEMBL.match(name) for name in wanted)
        if wanted is not None:
            self.places = {gene_id(name): number for number, name in enumerate(wanted)}
            self.places.update({name: number for number, name in enumerate(wanted)})
            if twice := repeated([gene_id(name) for name in wanted]):
                raise InputError("genes wanted", expected="each once", found=f"{few(twice)} twice", fix="drop the repeats")

    def place(self, name: str, symbol: str | Callable[[], str] = "") -> int:
        """Return where a gene of the file goes, -1 if nowhere; `symbol` may be a call, made only where it matters."""
        if len(self.seen) < 5000:
            self.seen.append(name)
        key = name if "|" in name and self.wanted is None else gene_id(name)
        number = self.places.get(key, -1)
        if self.wanted is None:
            if number < 0:
                number = self.places[key] = len(self.names)
        elif number < 0:
            number = self.places.get(name, -1)
            if number < 0 and self.by_symbol and not key.endswith("_PAR_Y"):
                symbol = symbol if isinstance(symbol, str) else symbol()
                number = self.places.get(gene_id(symbol), -1) if symbol else -1
        if number < 0:
            return -1
        if number in self.names:
            if self.duplicates == "error":
                raise InputError(
                    f"{self.subject}, gene {name}",
                    expected="each gene once",
                    found=f"it again after {self.names[number]} ({gene_id(name)})",
                    fix='pass duplicates="sum" (right for counts and TPM) or duplicates="first"',
                )
            return number if self.duplicates == "sum" else -1
        symbol = symbol if isinstance(symbol, str) else symbol()
        self.names[number] = name
        self.symbols[number] = gene_id(symbol) if symbol else ("" if key.startswith(("ENS", "?|")) else gene_id(name))
        return number

    def finish(self, min_share: float = MIN_SHARE) -> tuple[NDArray[np.intp], pd.DataFrame]:
        """Return the places that were filled, in order, and the table of their genes (id as index, symbol).

        Raises
        ------
        InputError : too few of the wanted genes were there.
        """
        if self.wanted is not None:
            check_matched(self.wanted, len(self.names), self.seen, subject=self.subject, min_share=min_share)
        order = sorted(self.names)
        index = pd.Index(gene_ids(self.names[number] for number in order), dtype=object)
        var = pd.DataFrame({"symbol": [self.symbols[number] for number in order]}, index=index, dtype=object)
        return np.array(order, dtype=np.intp), var


def pick_samples(available: Sequence[str], wanted: Sequence[str] | None, subject: str) -> list[int]:
    """Return the numbers of the wanted samples in `available`, in the wanted order (all where None).

    Raises
    ------
    InputError : a sample stands several times, or a wanted one is not there (three of each side are shown).
    """
    if twice := repeated(available):
        fix = "keep one profile a sample, or name the ones wanted with samples="
        twice = twice if wanted is None else [name for name in twice if name in set(wanted)]
        if twice:
            raise InputError(f"{subject}, sample {few(twice)}", expected="each once", found="several", fix=fix)
    if wanted is None:
        return list(range(len(available)))
    if not wanted or repeated(wanted):
        raise InputError("samples wanted", expected="at least one, each once", found=few(wanted), fix="drop the repeats")
    number = {name: position for position, name in reversed(list(enumerate(available)))}
    if absent := [name for name in wanted if name not in number]:
        raise InputError(
            subject,
            expected=f"sample {few(absent)}",
            found=f"{len(wanted) - len(absent)} of {len(wanted)}; the file has {few(available)}",
            fix="compare how the ids are written, or ask for those that are there",
        )
    return [number[name] for name in wanted]


def to_linear(x: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """Undo a logarithm in place: 2^x - 1, 2^x - 0.001 or e^x - 1, cut at 0 (rounding puts true zeros just below)."""
    if scale == "log2p1":
        np.exp2(x, out=x)
        x -= np.float32(1)
    elif scale == "log2p0.001":
        np.exp2(x, out=x)
        x -= np.float32(0.001)
        x[x < 1e-6] = 0  # files print four decimals: log2(0.001) = -9.9658 comes back as -1e-8
    elif scale == "lnp1":
        np.expm1(x, out=x)
    elif scale != "linear":
        raise InputError(f"scale {scale!r}", expected="linear, log2p1, log2p0.001 or lnp1", found="another")
    return x if scale == "linear" else np.maximum(x, 0, out=x)


def assemble(
    x: NDArray[np.float32],
    samples: Sequence[str],
    var: pd.DataFrame,
    *,
    path: Path,
    unit: str | None,
    scale: Scale = "linear",
    obs: pd.DataFrame | None = None,
    wanted: Sequence[str] | None = None,
    check: bool = True,
    allow_small: bool = False,
) -> AnnData:
    """Return the finished, checked raw profiles.

    Parameters
    ----------
    x : shape (samples, genes), as read; changed in place where `scale` is not "linear".
    unit : None: guessed from the file's name and the values.
    obs : further columns, a row a sample, in the order of `samples`.
    wanted : the genes asked for; how many of them were missing is noted in `uns["read"]`.
    """
    x = to_linear(x, scale)
    unit = unit or _guess_unit(path, x, scale)
    if unit not in UNITS:
        raise InputError(str(path), expected=f"unit among {UNITS}", found=repr(unit), fix="pass unit=")
    table = pd.DataFrame({"sample_id": list(samples)}, index=pd.Index(list(samples), dtype=object))
    table["patient_id"] = [patient_of(name) for name in samples]
    types = [sample_type_of(name) for name in samples]
    if any(types):
        table["sample_type"] = types
    if obs is not None:
        for column in obs:
            table[str(column)] = obs[column].to_numpy()
    missing = 0 if wanted is None else len(wanted) - len(var)
    uns: dict[str, Any] = {"unit": unit, "read": {"file": path.name, "scale_in_file": scale, "genes_missing": missing}}
    adata = AnnData(X=x, obs=table, var=var, uns=uns)
    if check:
        check_raw(adata, allow_small=allow_small)
    return adata


def annotation_of(adata: AnnData) -> str:
    """Return which columns of the table that profiles were read from were taken as annotation; "" for none or unknown.

    Examples
    --------
    >>> annotation_of(AnnData(uns={"read": {"annotation": "2 (length, note)"}}))
    '2 (length, note)'
    """
    read = adata.uns.get("read")
    return str(read.get("annotation", "")) if isinstance(read, Mapping) else ""


def _guess_unit(path: Path, x: NDArray[np.float32], scale: str) -> str:
    name = path.name.lower()
    for word, unit in (("tpm", "tpm"), ("rsem", "rsem"), ("count", "counts"), ("reads", "counts")):
        if word in name:
            return unit
    if scale == "linear" and x.size and bool((x[:64] == np.floor(x[:64])).all()):
        return "counts"
    raise InputError(
        str(path), expected="a unit", found="none in the file's name", fix=f"pass unit=, one of {UNITS} (TPM where you can)"
    )
