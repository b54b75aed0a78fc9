"""A blinded, balanced, randomised rating form: one HTML file that works offline, and a key kept elsewhere.

The form asks the three questions of RNA-GAN (Cell Reports Methods 2023, STAR Methods, "Expert pathologist evaluation
form"): which tissue, quality of the morphological structures from 1 to 5, artefacts. Tiles are drawn from the folders by
the seed, never chosen by eye; every rater gets an order of their own; nothing in the form tells where a tile comes from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rnasynth.data.pixels import data_uri
from rnasynth.errors import InputError
from rnasynth.files import locked_folder, write_json, write_text

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
FORM = "form.html"
QUALITY = (1, 5)  # the paper's scale: very bad, very good
ARTEFACTS = ("yes", "no")
KEY_FORMAT = "rnasynth rating key 1"


@dataclass(frozen=True)
class TileGroup:
    """One group of tiles of a study: what made them, of which tissue, and the folder they lie in."""

    name: str
    tissue: str
    folder: Path

    @classmethod
    def parse(cls, text: str) -> TileGroup:
        """Read `TISSUE/GROUP=FOLDER`, or `GROUP=FOLDER` where all tiles are of one tissue.

        Raises
        ------
        InputError : no `=`, an empty name, or no such folder.

        Examples
        --------
        >>> TileGroup.parse("lung/real=.").tissue
        'lung'
        """
        label, separator, folder = text.partition("=")
        tissue, _, name = label.rpartition("/")
        if not separator or not name.strip():
            raise InputError(f"group {text!r}", expected="TISSUE/GROUP=FOLDER or GROUP=FOLDER", found="another form")
        if not Path(folder).is_dir():
            raise InputError(f"group {label}", expected="a folder of tiles", found=f"no folder {folder}")
        return cls(name.strip(), tissue.strip(), Path(folder))


@dataclass(frozen=True)
class Form:
    """A form that was made: where it and its key lie, its study's id and how many tiles it shows."""

    path: Path
    key: Path
    study: str
    n_tiles: int


def make_form(
    groups: Sequence[TileGroup],
    out: str | Path,
    *,
    tiles_per_group: int,
    seed: int = 0,
    key: str | Path | None = None,
    tissues: Sequence[str] = (),
) -> Form:
    """Write the form and, outside its folder, the key that tells which tile is what.

    Parameters
    ----------
    groups : at least two; each with at least `tiles_per_group` square or rectangular images of one common size in pixels.
    out : folder for form.html, with all images in it (PNG without any metadata).
    tiles_per_group : the same for every group.
    seed : which tiles are drawn, their names and their order in the file. Keep it to yourself: it undoes the blinding.
    key : file of the key; by default `OUT-key.json` beside the folder.
    tissues : answers to the first question; by default the groups' tissues. At least two.

    Raises
    ------
    InputError : too few groups, tiles or tissues; a group twice; images of several sizes (they would give it away), one
        that cannot be read or that occurs twice; a form or key that exists; a key inside the form's folder.
    """
    out = Path(out)
    key = out.with_name(out.name + "-key.json") if key is None else Path(key)
    answers = list(dict.fromkeys(tissues or sorted({group.tissue for group in groups if group.tissue})))
    _check_groups(groups, answers, tiles_per_group)
    if key.resolve().is_relative_to(out.resolve()):
        raise InputError(
            str(key), expected="a key outside the form's folder", found="one inside", fix="choose another --key"
        )
    _check_new(out / FORM, key)

    generator = np.random.default_rng(seed)
    drawn = [(group, path) for group in groups for path in _draw(group, tiles_per_group, generator)]
    images = {path: _pixels(path) for _, path in drawn}
    _check_images(images)
    order = generator.permutation(len(drawn))
    names = _names(len(drawn), generator)
    shown, secret = [], {}
    for name, number in zip(names, order, strict=True):
        group, path = drawn[number]
        shown.append({"id": name, "src": data_uri(images[path])})
        secret[name] = {"group": group.name, "tissue": group.tissue, "file": path.name}
    study = hashlib.sha256(" ".join(names).encode("ascii")).hexdigest()[:12]
    data = json.dumps({"study": study, "tissues": answers, "tiles": shown}).replace("<", "\\u003c")
    template = Path(__file__).with_name("form.html").read_text(encoding="utf-8")
    with ExitStack() as held:
        for folder in sorted({out.resolve().parent, key.resolve().parent}):  # another process may make the same form
            held.enter_context(locked_folder(folder))
        _check_new(out / FORM, key)
        try:
            write_json(key, {"format": KEY_FORMAT, "study": study, "seed": seed, "tissues": answers, "tiles": secret})
            write_text(out / FORM, template.replace("@DATA@", data))
        except BaseException:  # one without the other would refuse the next call
            for path in (key, out / FORM):
                path.unlink(missing_ok=True)
            raise
    return Form(out / FORM, key, study, len(drawn))


def _check_groups(groups: Sequence[TileGroup], answers: Sequence[str], tiles_per_group: int) -> None:
    labels = [f"{group.tissue}/{group.name}" for group in groups]
    if len(groups) < 2 or len(set(labels)) < len(labels):
        raise InputError("groups", expected="at least two, each once", found=", ".join(labels) or "none")
    if tiles_per_group < 1:
        raise InputError("tiles per group", expected="1 or more", found=str(tiles_per_group))
    if len(answers) < 2 or len(answers) > 12:
        raise InputError(
            "tissues",
            expected="2 to 12 answers to the question which tissue",
            found=", ".join(answers) or "none",
            fix="name groups TISSUE/GROUP=FOLDER, or give --tissues A,B",
        )
    if unknown := sorted({group.tissue for group in groups if group.tissue} - set(answers)):
        raise InputError("tissues", expected="every group's tissue among the answers", found=f"not {', '.join(unknown)}")


def _check_new(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise InputError(str(path), expected="a file that does not exist yet", found="one", fix="choose another name")


def _draw(group: TileGroup, count: int, generator: np.random.Generator) -> list[Path]:
    found = sorted(path for path in group.folder.rglob("*") if path.suffix.lower() in IMAGES and path.is_file())
    if len(found) < count:
        raise InputError(f"group {group.name}, {group.folder}", expected=f"at least {count} images", found=str(len(found)))
    return [found[number] for number in sorted(generator.choice(len(found), size=count, replace=False))]


def _pixels(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(str(path), expected="an image", found=str(error), fix="leave it out") from None


def _check_images(images: Mapping[Path, np.ndarray]) -> None:
    sizes = {f"{image.shape[1]} x {image.shape[0]} px": path for path, image in images.items()}
    if len(sizes) > 1:
        found = "; ".join(f"{size} ({path})" for size, path in sorted(sizes.items()))
        raise InputError("tiles", expected="one size, else it tells the groups apart", found=found, fix="resize them first")
    seen: dict[str, Path] = {}
    for path, image in images.items():
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        if digest in seen:
            raise InputError(str(path), expected="each image once", found=f"the same pixels as {seen[digest]}")
        seen[digest] = path


def _names(count: int, generator: np.random.Generator) -> list[str]:
    """Return different names that say nothing: eight hexadecimal digits."""
    names: list[str] = []
    while len(names) < count:
        name = generator.bytes(4).hex()
        if name not in names:
            names.append(name)
    return names
