"""Configurations: strict, hashed, overridden."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnasynth import config
from rnasynth.config import Config, canonical_json, check, config_hash
from rnasynth.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Inner(Config):
    rate: float = 0.5
    """A rate."""

    def __post_init__(self) -> None:
        check(self, "rate", 0 <= self.rate <= 1, "0..1")


@dataclass(frozen=True, kw_only=True)
class Outer(Config):
    steps: int
    """Steps."""
    name: str = "a"
    kind: Literal["x", "y", 1] = "x"
    sizes: tuple[int, ...] = (1, 2)
    betas: tuple[float, float] = (0.5, 0.9)
    most: float | None = None
    quality: int | Literal["lossless"] = 90
    inner: Inner = field(default_factory=Inner)
    extra: dict[str, float] = field(default_factory=dict)
    folder: Path | None = None
    flag: bool = False


outers = st.builds(
    Outer,
    steps=st.integers(),
    name=st.text(st.characters(codec="utf-8")),
    kind=st.sampled_from(["x", "y", 1]),
    sizes=st.lists(st.integers()).map(tuple),
    betas=st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2),
    most=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    quality=st.just("lossless") | st.integers(1, 100),
    inner=st.builds(Inner, rate=st.floats(0, 1)),
    extra=st.dictionaries(st.text(st.characters(codec="utf-8")), st.floats(allow_nan=False, allow_infinity=False)),
    folder=st.none() | st.just(Path("a/b")),
    flag=st.booleans(),
)


@given(outers)
def test_json_round_trip_is_identity_and_keeps_the_hash(value: Outer) -> None:
    again = Outer.from_dict(json.loads(canonical_json(value)))
    assert again == value and config_hash(again) == config_hash(value)
    assert type(again.sizes) is tuple and isinstance(again.inner, Inner)


@given(outers, outers)
def test_equal_exactly_if_the_canonical_json_is(one: Outer, other: Outer) -> None:
    assert (one == other) == (canonical_json(one) == canonical_json(other))


def test_hash_does_not_change_between_versions() -> None:
    assert config_hash({"b": [1, 2.5], "a": None}) == "e57f5d378654"  # by sha256sum of {"a":null,"b":[1,2.5]}
    assert config_hash({"a": None, "b": (1, 2.5)}) == config_hash({"b": [1, 2.5], "a": None})


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 1, "stps": 2},
        {},
        {"steps": "1"},
        {"steps": 1.0},
        {"steps": True},
        {"steps": None},
        {"steps": 1, "flag": 1},
        {"steps": 1, "kind": "z"},
        {"steps": 1, "kind": True},
        {"steps": 1, "sizes": ["1"]},
        {"steps": 1, "sizes": 3},
        {"steps": 1, "betas": [0.5]},
        {"steps": 1, "betas": [0.5, 0.5, 0.5]},
        {"steps": 1, "most": float("nan")},
        {"steps": 1, "most": float("inf")},
        {"steps": 1, "quality": "best"},
        {"steps": 1, "extra": {"a": "b"}},
        {"steps": 1, "inner": {"rate": 2}},
        {"steps": 1, "inner": {"ratio": 0.1}},
        {"steps": 1, "inner": 3},
    ],
    ids=str,
)
def test_unknown_missing_mistyped_or_out_of_range_is_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Outer.from_dict(values)


def test_whole_number_serves_as_float_and_hashes_alike() -> None:
    assert config_hash(Inner.from_dict({"rate": 1})) == config_hash(Inner(rate=1.0)) == config_hash(Inner(rate=1))
    assert config_hash(Inner(rate=-0.0)) == config_hash(Inner(rate=0))


def test_overrides_reach_nested_fields() -> None:
    changed = Outer(steps=1).with_overrides(
        ["steps=5", "inner.rate=0.25", "name=b", "most=null", "sizes=[3]", "quality=lossless", "flag=true"]
    )
    assert changed == Outer(steps=5, inner=Inner(rate=0.25), name="b", sizes=(3,), quality="lossless", flag=True)


@pytest.mark.parametrize(
    "text", ["steps", "stps=1", "inner.x=1", "inner.rate=3", "steps.x=1", "steps=many", "=1", "most=NaN"]
)
def test_bad_override_is_an_error(text: str) -> None:
    with pytest.raises(InputError):
        Outer(steps=1).with_overrides([text])


def test_error_names_class_field_rule_and_value() -> None:
    with pytest.raises(InputError, match=r"Inner\.rate.*0\.\.1.*1\.5"):
        Inner(rate=1.5)


def test_folders_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RNASYNTH_DATA", str(tmp_path / "d"))
    monkeypatch.setenv("RNASYNTH_RUNS", str(tmp_path / "r"))
    monkeypatch.setenv("RNASYNTH_MIRROR", str(tmp_path / "m"))
    assert (config.data_folder(), config.runs_folder(), config.mirror_folder()) == (
        tmp_path / "d", tmp_path / "r", tmp_path / "m",
    )  # fmt: skip
    for name in ("DATA", "RUNS", "MIRROR"):
        monkeypatch.setenv(f"RNASYNTH_{name}", "")
    assert config.data_folder() == config.project_folder() / "data"
    assert config.runs_folder() == config.project_folder() / "runs"
    assert config.mirror_folder() is None
    assert config.manifests_folder().name == "data_manifests"


def test_only_known_presets() -> None:
    assert [config.check_preset(name) for name in config.PRESETS] == ["demo", "gpu", "paper"]
    with pytest.raises(InputError, match="demo"):
        config.check_preset("fast")


def test_a_process_started_elsewhere_finds_the_same_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RNASYNTH_DATA", "data-here")
    monkeypatch.setenv("RNASYNTH_MIRROR", "../mirror")
    monkeypatch.setenv("RNASYNTH_HOME", "")
    monkeypatch.delenv("RNASYNTH_RUNS", raising=False)
    told = config.places()
    assert told["RNASYNTH_DATA"] == str(tmp_path / "data-here")
    assert told["RNASYNTH_MIRROR"] == str(tmp_path.parent / "mirror") and "RNASYNTH_RUNS" not in told
    assert told["RNASYNTH_HOME"] == str(config.checkout_folder())
    monkeypatch.setenv("RNASYNTH_HOME", str(tmp_path / "mine"))
    assert config.runs_folder() == tmp_path / "mine" / "runs"
