"""Configurations: frozen dataclasses, canonical JSON, a short hash, presets; where things lie on the disk.

An unknown key is an error, a value out of range is an error, and two configurations are equal exactly if their
canonical JSON is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import types
import typing
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from rnasynth.errors import InputError

PRESETS = ("demo", "gpu", "paper")
HASH_CHARACTERS = 12


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every configuration: subclasses add documented, range-checked fields.

    Attributes
    ----------
    added : of fields that came after runs had been trained, the values at which the same is computed as before: a run's
        name leaves them out there, so that earlier runs are still found.
    """

    added: ClassVar[dict[str, Any]] = {}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types only (tuples become lists, nested configurations become dicts)."""
        return typing.cast(dict[str, Any], _plain(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from plain JSON types.

        Raises
        ------
        InputError : unknown key, missing key, or a value of the wrong type.
        """
        hints = typing.get_type_hints(cls)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(
                f"{cls.__name__}",
                expected=f"fields among {sorted(known)}",
                found=f"unknown {unknown}",
                fix="check the spelling",
            )
        try:
            return cls(**{name: _coerce(f"{cls.__name__}.{name}", value, hints[name]) for name, value in values.items()})
        except TypeError as error:
            raise InputError(cls.__name__, expected="every field without a default", found=str(error)) from None

    def with_overrides(self, assignments: list[str]) -> Self:
        """Return a copy changed by `field=value` texts (values as JSON, else as plain text).

        Raises
        ------
        InputError : not of the form `field=value`, unknown field, or a value of the wrong type.
        """
        values = self.to_dict()
        for assignment in assignments:
            name, separator, text = assignment.partition("=")
            if not separator:
                raise InputError(f"--set {assignment}", expected="field=value", found="no '='")
            try:
                value = json.loads(text)
            except json.JSONDecodeError:
                value = text
            owner = values
            *path, last = name.split(".")
            for part in path:
                owner = owner.get(part) if isinstance(owner, dict) else None  # type: ignore[assignment]
            if not isinstance(owner, dict) or last not in owner:
                raise InputError(
                    f"--set {name}",
                    expected=f"a field among {sorted(values)}",
                    found="unknown",
                    fix="check the spelling",
                )
            owner[last] = value
        return self.from_dict(values)


def check(owner: Config, field: str, ok: bool, expected: str) -> None:
    """Raise if a field of a configuration is out of range; for use in `__post_init__`."""
    if not ok:
        raise InputError(f"{type(owner).__name__}.{field}", expected=expected, found=repr(getattr(owner, field)))


def canonical_json(value: Config | dict[str, Any] | list[Any]) -> str:
    """Return key-sorted JSON without spaces: the same text for equal values (1 and 1.0 too), on any machine."""
    plain = value.to_dict() if isinstance(value, Config) else _plain(value)
    return json.dumps(_one_spelling(plain), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def config_hash(value: Config | dict[str, Any] | list[Any]) -> str:
    """Return the first 12 hexadecimal characters of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()[:HASH_CHARACTERS]


def check_preset(preset: str) -> str:
    """Return `preset`, or raise if there is none of that name."""
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r}", expected=f"one of {', '.join(PRESETS)}", found="unknown")
    return preset


def checkout_folder() -> Path | None:
    """Return the checkout that the library is run from (by its pyproject.toml); None for an installed package."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").exists() else None


def project_folder() -> Path:
    """Where `data/`, `runs/` and `build/` are made: `$RNASYNTH_HOME`, else the checkout, else the current folder."""
    home = os.environ.get("RNASYNTH_HOME")
    return Path(home) if home else checkout_folder() or Path.cwd()


def sources_folder(name: str) -> Path:
    """Return one of the project's own folders, "book", "notebooks" or "data_manifests": only read, never written to.

    It is the checkout's, or the copy inside an installed package.
    """
    package = Path(__file__).resolve().parent
    checkout = package.parent / name
    return checkout if checkout_folder() is not None and checkout.is_dir() else package / "_packaged" / name


def places() -> dict[str, str]:
    """Return the variables by which a process that is started in another folder finds the same data, runs and mirror."""
    found = {"RNASYNTH_HOME": str(project_folder().resolve())}
    for name in ("RNASYNTH_DATA", "RNASYNTH_RUNS", "RNASYNTH_MIRROR"):
        if value := os.environ.get(name):
            found[name] = str(Path(value).resolve())
    return found


def data_folder() -> Path:
    """Where fetched and built data lie: `$RNASYNTH_DATA`, else `data/` in the project's folder."""
    return Path(os.environ.get("RNASYNTH_DATA") or project_folder() / "data")


def runs_folder() -> Path:
    """Where trained models lie: `$RNASYNTH_RUNS`, else `runs/` in the project's folder."""
    return Path(os.environ.get("RNASYNTH_RUNS") or project_folder() / "runs")


def mirror_folder() -> Path | None:
    """Local mirror of the public files, from `$RNASYNTH_MIRROR`; None where files come by https."""
    mirror = os.environ.get("RNASYNTH_MIRROR")
    return Path(mirror) if mirror else None


def manifests_folder() -> Path:
    """Return the folder of `data_manifests`: the checkout's, or the copy inside an installed package."""
    return sources_folder("data_manifests")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def _one_spelling(value: Any) -> Any:
    """Write whole floats as integers, so that equal numbers are equal texts."""
    if isinstance(value, dict):
        return {key: _one_spelling(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_one_spelling(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _coerce(name: str, value: Any, hint: Any) -> Any:
    """Turn a JSON value into the field's type, or raise."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        for argument in arguments:
            if argument is not type(None):
                with suppress(InputError):
                    return _coerce(name, value, argument)
        raise InputError(name, expected=str(hint), found=repr(value))
    if origin is typing.Literal:
        if any(value == argument and type(value) is type(argument) for argument in arguments):
            return value
    elif origin is tuple and isinstance(value, (list, tuple)):
        inner = arguments[:1] * len(value) if arguments[-1:] == (...,) else arguments
        if len(inner) == len(value):
            return tuple(_coerce(name, item, each) for item, each in zip(value, inner, strict=True))
    elif origin is dict and isinstance(value, dict):
        return {str(key): _coerce(f"{name}[{key}]", item, arguments[1]) for key, item in value.items()}
    elif isinstance(hint, type) and issubclass(hint, Config) and isinstance(value, (dict, hint)):
        return hint.from_dict(value) if isinstance(value, dict) else value
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:  # JSON has neither NaN nor infinity
            return float(value)
    elif hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    elif (
        hint is Any
        or (hint is int and isinstance(value, int) and not isinstance(value, bool))
        or (hint in (bool, str) and isinstance(value, hint))
    ):
        return value
    raise InputError(name, expected=str(getattr(hint, "__name__", hint)), found=repr(value))
