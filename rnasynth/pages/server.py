"""The server guide's tables: what cohorts take on the disk, what each page trains in `paper`, and what a step took.

Nothing in them is typed: sizes come from the manifests, lengths from the presets, weights from the networks themselves (not
made, only counted), times from the recorded runs, papermill's examples from the pages. When the book is assembled, each
takes the place of its word in `book/server.md`, such as `%DISK%`.
"""

from __future__ import annotations

import ast
import shlex
import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from rnasynth.data import manifests
from rnasynth.data.cohort_building import BUILDERS
from rnasynth.engine import SYSTEMS, System, system_class
from rnasynth.nets.vae import BetaVAE
from rnasynth.pages.notebooks import PageSource
from rnasynth.pages.parameters import REQUIRED_PARAMETERS
from rnasynth.pages.recorded import read_records
from rnasynth.pages.tables import Code, markdown_table, short
from rnasynth.systems.cdm import parameters as stage_weights
from rnasynth.systems.cdm_config import CDMConfig
from rnasynth.systems.gan_config import GANConfig

PRESET = "paper"
GUIDE_COHORT = "her2st"  # in the guide's settings
GENES = 20_000  # of a profile, for the count of weights that depend on it
TISSUES = 5
MANY = ("seeds", "folds", "choice_seeds")  # parameters of pages that say how often a training is repeated
# systems that a page trains by a module of the library, not by their names in its own code
BY_MODULE = {"rnasynth.evaluation.race": ("gan", "gan-narrow", "rna-gan"), "rnasynth.evaluation.expression": ("beta-vae",)}


def disk_table() -> pd.DataFrame:
    """Return what the files of each cohort take, by its manifest; a size that it does not know is said to be unknown."""
    rows = []
    for name, path in manifests.list_manifests().items():
        manifest = manifests.load_manifest(path)
        known = [entry.bytes for entry in manifest.files if entry.bytes is not None]
        unknown = len(manifest.files) - len(known)
        rows.append(
            {
                "cohort": name,
                "files": len(manifest.files),
                "MB (10^6 bytes)": f"{sum(known) / 1e6:,.1f}" if known else "not known",
                "of it not counted": f"{unknown} files of unknown size" if unknown else "nothing",
            }
        )
    return pd.DataFrame(rows)


def pages_table(pages: Mapping[str, PageSource]) -> pd.DataFrame:
    """Return what each page trains in `paper`, with the runs that those build on, and which parameter repeats it."""
    rows = []
    for name, page in pages.items():
        trained = trained_by(page)
        repeats = [f"{key}={page.parameters[key]}" for key in MANY if key in page.parameters]
        rows.append(
            {
                "page": name,
                "meant for": ", ".join(page.cohorts),
                "may train, unless found": ", ".join(trained) or "nothing",
                "repeated by": Code(", ".join(repeats)) if trained and repeats else "",
                "demo, s": page.demo_seconds,
            }
        )
    return pd.DataFrame(rows)


def trained_by(page: PageSource) -> list[str]:
    """Return the systems whose runs a page asks for, and those that they build on, in the order of `SYSTEMS`."""
    code = page.code()
    words = {
        node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = {part.strip() for word in words for part in word.split(",")} & set(SYSTEMS) if "train_preset" in code else set()
    for module, systems in BY_MODULE.items():
        if module in code:
            named |= set(systems)
    waiting = list(named)
    while waiting:
        below = [name for name in system_class(waiting.pop()).upstream if name not in named]
        named |= set(below)
        waiting += below
    return sorted(named)


def trainings_table() -> pd.DataFrame:
    """Return the length of each system's training in `paper`, the samples that it sees, and its weights."""
    rows = []
    for name in sorted(SYSTEMS):
        kind = system_class(name)
        config = kind.preset(PRESET)
        train, count = config.train, weights(kind, config)
        rows.append(
            {
                "system": name,
                "length": f"{train.steps:,} steps" if train.steps else f"{train.epochs:g} passes",
                "stops early": "" if train.patience is None else f"after {train.patience} validations without gain",
                "batch": train.batch_size,
                "samples seen": f"{train.steps * train.batch_size:,}"
                if train.steps
                else f"{train.epochs:g} x training samples",
                "weights, 10^6": "" if count is None else f"{count / 1e6:,.1f}",
                "GB without activations": "" if count is None else f"{count * bytes_a_weight(kind, config) / 1e9:,.1f}",
            }
        )
    return pd.DataFrame(rows)


def weights(kind: type[System], config: Any) -> int | None:
    """Return how many weights a system trains, of `GENES` genes; None where more than the configuration is needed."""
    if isinstance(config, CDMConfig):
        uses = kind.upstream_preset(PRESET)
        dim = TISSUES if not kind.upstream else int(system_class("beta-vae").preset(uses).latent)
        return stage_weights(config, dim)
    facts = {"tissues": [str(number) for number in range(TISSUES)], "latent_dim": 0}
    with torch.device("meta"):
        if isinstance(config, GANConfig):
            facts["latent_dim"] = int(system_class("beta-vae").preset(PRESET).latent)
            made: torch.nn.Module = kind(config, facts).networks  # type: ignore[call-arg]
        elif kind.name == "beta-vae":
            made = BetaVAE(GENES, config.hidden, config.latent, input_dropout=config.input_dropout, output=config.output)
        elif kind.name in ("simclr", "tile-classifier"):
            made = kind(config, {"classes": facts["tissues"]}).networks  # type: ignore[call-arg]
        else:
            return None
        return sum(parameter.numel() for parameter in made.parameters())


def bytes_a_weight(kind: type[System], config: Any) -> int:
    """Return the bytes that a weight takes in training: itself, its gradient, Adam's two moments, and a moving average."""
    return 4 * (5 if getattr(config, "ema_decay", 0) > 0 else 4)


def measured_table(pages: Mapping[str, PageSource]) -> pd.DataFrame:
    """Return the time of a step in the recorded runs: a line for each system, cohort, device and size."""
    groups: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for name in pages:
        for record in read_records(name):
            facts, config = record.facts, record.facts["config"]
            if "steps" not in record.summary or "train" not in config:  # of a study with many trainings
                continue
            sizes = {key: config[key] for key in ("hidden", "tile_px", "width", "width_generator") if key in config}
            size = ", ".join(f"{key} {value}" for key, value in sizes.items())
            key = (
                facts["system"],
                size,
                config["train"]["batch_size"],
                facts["cohort"],
                facts.get("machine", facts["device"]),
            )
            groups[key].append(facts["seconds"] / record.summary["steps"])
    columns = ["system", "size", "batch", "cohort", "device"]
    rows = [
        {**dict(zip(columns, key, strict=True)), "s a step": short(statistics.median(found)), "runs": len(found)}
        for key, found in sorted(groups.items(), key=str)
    ]
    return pd.DataFrame(rows, columns=[*columns, "s a step", "runs"])


def examples(pages: Mapping[str, PageSource]) -> str:
    """Return one papermill command a page, with all of its own parameters that are not empty, as its cell has them."""
    return "\n".join(example(page) for page in pages.values())


def example(page: PageSource) -> str:
    """Return the papermill command of one page; `$COHORT` and `$PRESET` are the guide's settings."""
    words = ["papermill", f'"$RNASYNTH_HOME"/notebooks/{page.name}.ipynb', f"{page.name}.ipynb", '-p preset "$PRESET"']
    others = [name for name in page.cohorts if name in BUILDERS]
    words.append('-p cohort "$COHORT"' if GUIDE_COHORT in others or not others else f"-p cohort {others[0]}")
    for name, value in page.parameters.items():
        if name not in REQUIRED_PARAMETERS and value != "":
            flag = "-r" if isinstance(value, str) and _looks_like_another_type(value) else "-p"
            words.append(f"{flag} {name} {shlex.quote(str(value))}")
    return " ".join(words)


def _looks_like_another_type(text: str) -> bool:
    """Whether papermill's -p would make something else of a text."""
    try:
        float(text)
    except ValueError:
        return text in ("True", "False", "None")
    return True


def fill(text: str, pages: Mapping[str, PageSource]) -> str:
    """Return the guide with what is made of the project in the places of %DISK%, %PAGES% and the like."""
    made = {
        "DISK": markdown_table(disk_table()),
        "PAGES": markdown_table(pages_table(pages)),
        "TRAININGS": markdown_table(trainings_table()),
        "MEASURED": markdown_table(measured_table(pages)),
        "EXAMPLES": examples(pages),
    }
    for word, part in made.items():
        text = text.replace(f"%{word}%", part)
    return text
