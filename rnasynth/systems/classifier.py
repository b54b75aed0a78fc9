"""A residual network that names a label of a tile: which tissue it is, or on which side of a number its sample lies.

Source: RNA-GAN, Cell Reports Methods 2023, STAR Methods (a ResNet-18 from scratch, ten epochs, AdamW
3e-5, early stopping on a fifth of the data). Where we differ: that fifth is of the training *patients*, because tiles of
one patient resemble each other, and the tiles are brought to one stain as the generators' are, so that the stain is not
what is named.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rnasynth.config import Config, check_preset
from rnasynth.data.cohort import Cohort, TileDataset
from rnasynth.engine import Noise, System, register, warmup_cosine
from rnasynth.errors import InputError
from rnasynth.nets.augment import flip, transpose
from rnasynth.nets.contrastive import STAIN_DRAWS, jitter_stain, resize
from rnasynth.nets.resnet import ResNet
from rnasynth.runs import load_run
from rnasynth.systems.classifier_config import ClassifierConfig, demo, gpu, paper
from rnasynth.systems.tile_data import ConditionedTiles
from rnasynth.systems.tile_labels import FEWEST_GROUPS, LabelledTiles, class_numbers, label_rule, stop_groups

STARTS = {"encoder": "0.", "classifier": "encoder."}  # network of a run -> where its residual network's weights are
OFFSET_SHARE = 0.2  # of the stain jitter: concentrations are also raised or lowered by so much, natural logarithm
FIELD_TOLERANCE = 0.05  # of a tile's side in um


@register
class ClassifierSystem(System):
    """One phase: cross entropy of the named class.

    Attributes
    ----------
    facts : classes, label, cut (None for texts), tile_um, stop_groups (training groups that early stopping looks at; none:
        the validation split), class_weights.
    """

    name: ClassVar[str] = "tile-classifier"
    step_version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = ClassifierConfig

    def __init__(self, config: ClassifierConfig, facts: dict[str, Any]) -> None:
        """Build for `facts` (see `fitted`)."""
        super().__init__()
        self.settings, self.facts = config, facts
        encoder = ResNet(depth=config.depth, width=config.width, stem=config.stem)
        head = nn.Linear(encoder.dim, len(facts["classes"]))
        self.networks["classifier"] = nn.ModuleDict({"encoder": encoder, "head": head})
        self._tiles: dict[str, ConditionedTiles] = {}

    @property
    def encoder(self) -> ResNet:
        """The network without its last layer: weights that were trained otherwise may be loaded into it first."""
        return cast(ResNet, cast(nn.ModuleDict, self.networks["classifier"])["encoder"])

    @property
    def head(self) -> nn.Linear:
        """The last layer, one row a class."""
        return cast(nn.Linear, cast(nn.ModuleDict, self.networks["classifier"])["head"])

    def logits(self, tiles: Tensor) -> Tensor:
        """Shape (B, 3, H, W), in [-1, 1] -> (B, classes)."""
        return cast(Tensor, self.head(self.encoder(tiles))).float()

    # ------------------------------------------------------------------ one step
    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch with tile (B, 3, px, px) in [-1, 1] and condition (B, 1), the class's number."""
        tiles = batch["tile"]
        if self.settings.flips:
            draws = noise.uniform(0.0, 1.0, 3)
            tiles = transpose(flip(tiles, draws[:, :2]), draws[:, 2])
        if half := self.settings.stain_jitter:
            tiles = jitter_stain(tiles, noise.uniform(0.0, 1.0, STAIN_DRAWS), factor=half, offset=half * OFFSET_SHARE)
        return self._judged(tiles, batch["condition"][:, 0].long())

    def validate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return loss and accuracy on tiles as they are."""
        loss, parts = self._judged(batch["tile"], batch["condition"][:, 0].long())
        return {"loss": loss, **parts}

    def _judged(self, tiles: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.logits(tiles)
        weights = torch.tensor(self.facts["class_weights"], device=logits.device)[wanted]
        loss = (functional.cross_entropy(logits, wanted, reduction="none") * weights).mean()
        return loss, {"accuracy": (logits.argmax(dim=1) == wanted).float().mean()}

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        """Return AdamW."""
        config = self.settings
        weights = self.networks[key].parameters()
        return torch.optim.AdamW(weights, config.learning_rate, weight_decay=config.weight_decay, fused=True)

    def schedule(self, key: str, step: int) -> float:
        """Return 1, or the warm-up and the cosine."""
        if self.settings.schedule == "constant":
            return 1.0
        return warmup_cosine(step, self.total_steps, self.total_steps // 10)

    # ------------------------------------------------------------------ what runs asks for
    @classmethod
    def preset(cls, name: str) -> ClassifierConfig:
        """Return the configuration of a preset."""
        return {"demo": demo, "gpu": gpu, "paper": paper}[check_preset(name)]()

    @classmethod
    def from_cohort(cls, config: ClassifierConfig, cohort: Cohort, upstream: tuple[Any, ...] = ()) -> ClassifierSystem:
        """Build for a cohort with tiles; classes, their cut and their weights come from its training samples.

        Raises
        ------
        InputError : no tiles, no such column, fewer than two classes among the training samples with tiles, or a run to
            start from that has another network.
        RunError : no such run.
        """
        obs = cohort.profiles.obs
        there = list(cohort.tile_ids())
        training = (obs["split"] == "train").to_numpy() & obs["sample_id"].astype(str).isin(there).to_numpy()
        facts = {**label_rule(obs[training], config.label, config.cut), "label": config.label}
        facts["tile_um"] = cohort.tile_um()
        groups = set(obs["split_group"][training].astype(str))
        facts["stop_groups"] = (
            stop_groups(obs[training], facts, seed=config.train.seed) if len(groups) >= FEWEST_GROUPS else []
        )
        facts["class_weights"] = [1.0] * len(facts["classes"])
        system = cls(config, facts)
        if config.start:
            load_start(system.encoder, config.start)
        if config.class_weights == "balanced":
            chosen = system.dataset(cohort, "train")
            numbers = chosen.labels()
            counts = np.bincount(numbers, minlength=len(facts["classes"]))
            facts["class_weights"] = [float(len(numbers) / (len(counts) * max(count, 1))) for count in counts]
        return system

    def dataset(self, cohort: Cohort, split: str) -> LabelledTiles:
        """Return the tiles of one split whose class is known; "train" and "val" are parts of the training patients.

        "val", which early stopping looks at, is the fifth of the training patients that "train" leaves out; the cohort's
        own validation split where it has fewer than five training groups.
        """
        config, obs = self.settings, cohort.profiles.obs
        inner = bool(self.facts["stop_groups"]) and split in ("train", "val")
        source = "train" if inner else split
        if source not in self._tiles:
            numbers = class_numbers(obs, self.facts)[:, None].astype(np.float32)
            self._tiles[source] = ConditionedTiles(
                TileDataset(cohort, source, config.tile_px),
                numbers,
                config.tiles_per_sample,
                config.train.seed,
                same_stain=config.same_stain,
            )
        tiles = self._tiles[source]
        kept = class_numbers(obs, self.facts)[tiles.samples] >= 0
        if inner:
            held = obs["split_group"].astype(str).isin(self.facts["stop_groups"]).to_numpy()[tiles.samples]
            kept &= held == (split == "val")
        return LabelledTiles(tiles, np.flatnonzero(kept))

    def fitted(self) -> dict[str, Any]:
        """Return the facts: classes and where they are cut, weights, the held-out groups, the field of a tile."""
        return self.facts

    @classmethod
    def from_run(cls, run: Any) -> TileClassifier:
        """Return the trained classifier of a finished run."""
        system = cls(run.config, run.fitted)
        system.networks["classifier"].load_state_dict(run.networks()["classifier"])
        return TileClassifier(system, name=run.id)


def load_start(encoder: ResNet, name: str) -> None:
    """Load the weights of another run's residual network.

    Raises
    ------
    RunError : no such run. InputError : a run without such a network, or with one of another size.
    """
    networks = load_run(name).networks()
    parts = [(networks.get(key, {}), before) for key, before in STARTS.items()]
    weights = {
        weight.removeprefix(before): tensor
        for network, before in parts
        for weight, tensor in network.items()
        if weight.startswith(before)
    }
    wanted = encoder.state_dict()
    if {key: tensor.shape for key, tensor in weights.items()} != {key: tensor.shape for key, tensor in wanted.items()}:
        raise InputError(
            f"start {name!r}",
            expected="a residual network of the same depth, width and stem",
            found=f"{len(weights)} tensors of another shape or name" if weights else "none",
            fix="choose depth, width and stem as that run has them",
        )
    encoder.load_state_dict(weights)


class TileClassifier:
    """A trained classifier of tiles.

    Parameters
    ----------
    system : with its weights.
    name : what stands in captions and keys.

    Attributes
    ----------
    classes : in the order of the probabilities.
    px : side to which tiles are brought, and at which it was trained.
    restained : the tiles of each sample must be brought to the common stain first (`features.same_stain`).
    """

    def __init__(self, system: ClassifierSystem, *, name: str) -> None:
        self.system = system.requires_grad_(False).eval()
        self.name, self.classes = name, tuple(map(str, system.facts["classes"]))
        self.px, self.restained = system.settings.tile_px, system.settings.same_stain
        self.tile_um = float(system.facts["tile_um"])

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float, *, batch: int = 256) -> NDArray[np.float32]:
        """Shape (B, H, W, 3), uint8 RGB, `mpp_um` um a pixel -> probabilities of shape (B, classes), float32.

        Raises
        ------
        InputError : not uint8 RGB tiles, tiles of another field than trained on, or of fewer pixels.
        """
        if tiles.ndim != 4 or tiles.shape[-1] != 3 or tiles.dtype != np.uint8:
            raise InputError("tiles", expected="uint8 of shape (B, H, W, 3)", found=f"{tiles.dtype} of shape {tiles.shape}")
        sides = [mpp_um * side for side in tiles.shape[1:3]]
        if not all(math.isfinite(side) and abs(side / self.tile_um - 1) <= FIELD_TOLERANCE for side in sides):
            raise InputError(
                f"classifier {self.name}",
                expected=f"tiles of {self.tile_um:.0f} um a side",
                found=" x ".join(f"{side:.0f}" for side in sides) + " um",
                fix="cut tiles of that field, or train a classifier on theirs",
            )
        if min(tiles.shape[1:3]) < self.px:
            found = f"{tiles.shape[1]} x {tiles.shape[2]} px"
            fix = "train a classifier with that tile_px: a blurred tile is another kind of tile"
            raise InputError(f"classifier {self.name}", expected=f"tiles of at least {self.px} px", found=found, fix=fix)
        parts = [self._part(tiles[start : start + batch]) for start in range(0, len(tiles), batch)]
        return np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])

    def _part(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        device = next(self.system.parameters()).device
        pixels = torch.from_numpy(np.ascontiguousarray(tiles)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with torch.inference_mode():
            shown = pixels if pixels.shape[-2:] == (self.px, self.px) else resize(pixels, self.px)
            return np.asarray(self.system.logits(shown).softmax(dim=1).cpu().numpy(), dtype=np.float32)

    def labels(self, obs: pd.DataFrame) -> NDArray[np.str_]:
        """Return the class of each sample by the rule of the training samples, "" where it is not known, shape (n,).

        Raises
        ------
        InputError : no such column.
        """
        numbers = class_numbers(obs, self.system.facts)
        return np.array([self.classes[number] if number >= 0 else "" for number in numbers], dtype=str)
