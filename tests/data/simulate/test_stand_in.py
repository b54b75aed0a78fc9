from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rnasynth.data.expression import read_expression
from rnasynth.data.simulate.stand_in import BORDER_PX, GLASS, write_series, write_study
from rnasynth.errors import InputError


def test_a_study_is_read_as_it_was_simulated(tmp_path: Path) -> None:
    write_study(tmp_path / "study", patients=2, genes=100)
    samples = pd.read_csv(tmp_path / "study" / "samples.csv")
    assert list(samples["slide"]) == ["SIM-0000.tif", "SIM-0001.tif"] and samples["tissue"].nunique() == 2
    read = read_expression(tmp_path / "study" / "expression.tsv", kind="table", unit="tpm")
    assert list(read.obs_names) == list(samples["sample_id"]) and read.n_vars == 100
    np.testing.assert_allclose(np.asarray(read.X).sum(axis=1), 1e6, rtol=1e-3)
    first, second = (np.asarray(Image.open(tmp_path / "study" / "slides" / name)) for name in samples["slide"])
    assert first.shape == (768, 768, 3) and (first[:BORDER_PX] == GLASS).all() and not np.array_equal(first, second)
    assert (first[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].std(axis=(0, 1)) > 5).all()


def test_a_series_holds_other_patients_and_lacks_genes(tmp_path: Path) -> None:
    write_study(tmp_path / "study", patients=1, genes=100)
    study = pd.read_csv(tmp_path / "study" / "expression.tsv", sep="\t", index_col=0)
    series = pd.read_csv(write_series(tmp_path / "series.tsv", patients=3, genes=100), sep="\t", index_col=0)
    assert series.shape == (80, 3) and set(series.index) < set(study.index)
    assert not set(series.columns) & set(study.columns)
    assert not np.isclose(series.iloc[:, 0], study.loc[series.index].iloc[:, 0], rtol=0.01).any()


def test_a_study_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "samples.csv").write_text("sample_id\n", encoding="utf-8")
    with pytest.raises(InputError, match="new or empty"):
        write_study(tmp_path, patients=1)
    assert (tmp_path / "samples.csv").read_text(encoding="utf-8") == "sample_id\n"
