"""Small tiles for the tests of the quiz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnasynth.files import write_json
from rnasynth.pages.quiz_sheets import Sheet, write_sheet

BANNER = "SIMULATED DATA: nothing on this page was measured on a patient."


def tiles(count: int, *, seed: int, px: int = 16) -> NDArray[np.uint8]:
    """Return noise that looks like nothing, shape (count, px, px, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, px, px, 3), dtype=np.uint8)


def sheet(model: str, *, seed: int, count: int = 24, px: int = 16, real_seed: int = 0, mpp_um: float = 2.0) -> Sheet:
    """Return a sheet of noise; sheets of one `real_seed` have the same real tiles."""
    return Sheet(
        page="07_rna_gan",
        model=model,
        real=tiles(count, seed=real_seed, px=px),
        made=tiles(count, seed=seed, px=px),
        mpp_um=mpp_um,
        handling="Averaged.",
        banner=BANNER,
        simulated=True,
    )


def leave(folder: Path, page: str, sheets: list[Sheet], *, not_converged: tuple[str, ...] = ()) -> None:
    """Leave in `folder` what a page with these sheets leaves, as far as the quiz looks at it."""
    left = [
        write_sheet(
            folder / page,
            one.model,
            real=one.real,
            made=one.made,
            mpp_um=one.mpp_um,
            handling=one.handling,
            banner=one.banner,
            simulated=one.simulated,
        )
        for one in sheets
    ]
    names = [str(path.relative_to(folder / page)) for path in left]
    write_json(folder / page / "results.json", {"quiz": names, "not_converged": list(not_converged)})
    (folder / page / "page.ipynb").write_text("{}", encoding="utf-8")
