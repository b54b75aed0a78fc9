"""Tiny pages in a temporary folder: they go through the real runner and kernels, and need no cohort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TEMPLATE = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# rnasynth:
#   question: {question}
#   cohorts: {cohorts}
#   needs: [{needs}]
#   demo_seconds: 5
# ---

# %% [markdown]
# # Page {name}
#
# **Question.** {question}
#
# **What you will see.** A line.

# %% tags=["parameters"]
preset: str = "demo"  # demo, gpu or paper
cohort: str = "simulated"  # a cohort's name
seed: int = 0  # seed
slope: float = 2.0  # slope of the line
out: str = ""  # folder for results

# %% tags=["resolve"]
import matplotlib.pyplot as plt
import pandas as pd

from rnasynth.pages import Page

page = Page.open("{name}", preset=preset, cohort=cohort, seed=seed, out=out, slope=slope)

# %%
figure, axes = plt.subplots(figsize=(3, 2))
axes.plot([0, 1], [0, slope])
page.number("slope", slope, low=slope - 1, high=slope + 1, n=40, label="slope of the line")
page.figure(figure, "line", caption="A line, $y = a x$.", alt="A rising line.", n="2 points")
page.table(pd.DataFrame({{"gene_id": ["A|1", "B*2"], "value": [0.123456, 12345.0]}}), caption="Two genes")
{body}
page.verdicts()

# %% [markdown]
# ## Take-aways
#
# - A line is straight: $y = a x$.
#
# ## Limits
#
# - It is only a line.

# %%
page.close(runs=["run-of-{name}"])
"""


@pytest.fixture
def write_page(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes one tiny page into `tmp_path/notebooks`."""

    def write(
        name: str, *, needs: str = "", cohorts: str = "all", body: str = "", question: str = "Is it straight?"
    ) -> Path:
        folder = tmp_path / "notebooks"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.py"
        text = TEMPLATE.format(name=name, needs=needs, cohorts=cohorts, body=body, question=question)
        path.write_text(text, encoding="utf-8")
        return path

    return write
