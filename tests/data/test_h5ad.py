"""Files of profiles: what anndata writes, and a full disk that is said once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rnasynth.data.h5ad import read_h5ad, write_h5ad

FILL = """
import resource, signal, sys
from pathlib import Path
import anndata
from rnasynth.data.h5ad import write_h5ad
from rnasynth.files import atomic_path

profiles, out = anndata.read_h5ad(sys.argv[1]), Path(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    if sys.argv[3] == "ours":
        write_h5ad(profiles, out)
    else:
        with atomic_path(out) as temporary:
            profiles.write_h5ad(temporary)
except OSError as error:
    sys.exit(error.errno)
"""


@pytest.fixture
def profiles() -> AnnData:
    x = np.random.default_rng(0).normal(size=(30, 200)).astype(np.float32)
    obs = pd.DataFrame({"text": [f"t{k % 3}" for k in range(30)], "n": range(30)}, index=[f"S{k}" for k in range(30)])
    return AnnData(X=x, obs=obs, layers={"spread": np.abs(x)}, uns={"unit": "tpm", "read": {"file": "a.tsv"}})


def test_what_is_written_is_what_anndata_writes(profiles: AnnData, tmp_path: Path) -> None:
    write_h5ad(profiles, tmp_path / "ours.h5ad")
    profiles.write_h5ad(tmp_path / "theirs.h5ad")
    ours, theirs = (read_h5ad(tmp_path / name) for name in ("ours.h5ad", "theirs.h5ad"))
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    np.testing.assert_array_equal(ours.layers["spread"], theirs.layers["spread"])
    np.testing.assert_array_equal(ours.X, profiles.X)
    assert ours.uns == theirs.uns and list(ours.var_names) == list(theirs.var_names)
    with h5py.File(tmp_path / "ours.h5ad") as one, h5py.File(tmp_path / "theirs.h5ad") as other:
        assert dict(one.attrs) == dict(other.attrs) and set(one) == set(other)


@pytest.mark.parametrize("way", ["ours", "theirs"])
def test_a_full_disk_is_one_error_and_no_traceback_of_hdf5(profiles: AnnData, tmp_path: Path, way: str) -> None:
    profiles.write_h5ad(tmp_path / "profiles.h5ad")
    call = [sys.executable, "-c", FILL, str(tmp_path / "profiles.h5ad"), str(tmp_path / "out.h5ad"), way]
    done = subprocess.run(call, capture_output=True, text=True)
    if way == "ours":
        assert (done.returncode, done.stdout, done.stderr) == (28, "", "")  # no space left on device
        assert [path.name for path in tmp_path.iterdir()] == ["profiles.h5ad"]
    else:  # the broken variant: what HDF5 says of it
        assert "Traceback" in done.stderr
