"""A network of pathology features that learned from unlabelled H&E: SimCLR on two views of each tile.

Source: Chen, Kornblith, Norouzi and Hinton 2020. The features are those before the projection (their section 4.2). What
differs in the views stands in `nets.contrastive`. The tiles it may see are the training split's of a cohort; the
released weights were trained on `data.cohorts.sections`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnasynth.config import Config, check, check_preset
from rnasynth.data.cohort import Cohort, TileDataset
from rnasynth.engine import Noise, System, TrainConfig, register, warmup_cosine
from rnasynth.errors import InputError
from rnasynth.nets.contrastive import CROP_DRAWS, STAIN_DRAWS, crop, jitter_stain, nt_xent, resize
from rnasynth.nets.resnet import ResNet, Stem
from rnasynth.systems.tile_data import ConditionedTiles


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig(Config):
    """Networks and views."""

    added: ClassVar[dict[str, Any]] = {"optimizer": "adamw", "momentum": 0.9, "warmup": 0.1}

    depth: Literal[18, 50] = 18
    """Of the residual network."""
    width: int = 64
    """Channels of its first stage."""
    stem: Stem = "published"
    """First layer; "small" keeps four times the places, for small crops."""
    tile_px: int = 128
    """Side to which the cohort's tiles are brought before crops are cut."""
    crop_px: int = 64
    """Side of a view, and of a tile whose features are asked for."""
    smallest_crop: float = 0.5
    """Side of the smallest crop as a share of the tile's."""
    stain_factor: float = 0.25
    """Haematoxylin and eosin are multiplied by 1 - this to 1 + this, each view anew."""
    stain_offset: float = 0.05
    """Largest change of the concentrations, natural logarithm."""
    temperature: float = 0.2
    """Of the loss."""
    projection: int = 64
    """Length of the vector that the loss compares."""
    tiles_per_sample: int = 4000
    """At most so many tiles of one sample or section."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Which one; RNA-GAN pretrains by "sgd"."""
    learning_rate: float = 2e-3
    """Of the optimiser, after the warm-up, with a cosine down to 0."""
    momentum: float = 0.9
    """Of "sgd"."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 1e-4
    """On all weights."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1000, batch_size=128))
    """Length of the training."""

    def __post_init__(self) -> None:
        check(self, "width", self.width >= 1, "at least 1")
        check(self, "crop_px", 32 <= self.crop_px <= 512, "32..512")
        check(self, "tile_px", self.tile_px >= self.crop_px, "at least crop_px")
        check(self, "smallest_crop", 0 < self.smallest_crop <= 1, "above 0, at most 1")
        check(self, "stain_factor", 0 <= self.stain_factor < 1, "0..1")
        check(self, "stain_offset", 0 <= self.stain_offset <= 0.5, "0..0.5")
        check(self, "temperature", self.temperature > 0, "above 0")
        check(self, "projection", self.projection >= 2, "at least 2")
        check(self, "tiles_per_sample", self.tiles_per_sample >= 1, "at least 1")
        check(self, "learning_rate", self.learning_rate > 0, "above 0")
        check(self, "momentum", 0 <= self.momentum < 1, "0..1")
        check(self, "warmup", 0 <= self.warmup < 1, "0..1")
        check(self, "weight_decay", self.weight_decay >= 0, "at least 0")
        check(self, "train", self.train.batch_size >= 2, "a batch of two or more")


def demo() -> SimCLRConfig:
    """Eight minutes on one core; the released weights are of this preset."""
    train = TrainConfig(steps=500, batch_size=128, log_every=10, validate_every=0)
    return SimCLRConfig(width=16, stem="small", train=train)


def gpu() -> SimCLRConfig:
    """Hours on one GPU."""
    train = TrainConfig(steps=50_000, batch_size=512, precision="auto", log_every=100, validate_every=0)
    return SimCLRConfig(depth=50, crop_px=128, tile_px=256, train=train)


def paper() -> SimCLRConfig:
    """SimCLR's own ResNet-50, temperature 0.1 and batch of 4,096 (section 2, appendix B), here with AdamW."""
    train = TrainConfig(epochs=100, batch_size=4096, precision="auto", log_every=10, validate_every=0)
    return SimCLRConfig(depth=50, crop_px=224, tile_px=256, temperature=0.1, projection=128, train=train)


@register
class SimCLRSystem(System):
    """One phase: two views of each tile, pulled together and pushed away from all others."""

    name: ClassVar[str] = "simclr"
    step_version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = SimCLRConfig

    def __init__(self, config: SimCLRConfig, facts: dict[str, Any]) -> None:
        """Build for `facts` (see `fitted`)."""
        super().__init__()
        self.settings, self.facts = config, facts
        encoder = ResNet(depth=config.depth, width=config.width, stem=config.stem)
        head = nn.Sequential(
            nn.Linear(encoder.dim, encoder.dim), nn.ReLU(inplace=True), nn.Linear(encoder.dim, config.projection)
        )
        self.networks["encoder"] = nn.Sequential(encoder, head)

    @property
    def encoder(self) -> ResNet:
        """The network without its projection."""
        return cast(ResNet, cast(nn.Sequential, self.networks["encoder"])[0])

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch with tile (B, 3, px, px) in [-1, 1]."""
        views = torch.cat([self.view(batch["tile"], noise) for _ in range(2)])
        first, second = self.networks["encoder"](views).float().chunk(2)
        loss, right = nt_xent(first, second, temperature=self.settings.temperature)
        return loss, {"loss": loss.detach(), "partner_nearest": right}

    def view(self, tiles: Tensor, noise: Noise) -> Tensor:
        """Return one view of each tile, (B, 3, crop_px, crop_px)."""
        config = self.settings
        views = crop(tiles, noise.uniform(0.0, 1.0, CROP_DRAWS), out=config.crop_px, smallest=config.smallest_crop)
        draws = noise.uniform(0.0, 1.0, STAIN_DRAWS)
        return jitter_stain(views, draws, factor=config.stain_factor, offset=config.stain_offset)

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        """Return AdamW, or stochastic gradient descent with momentum."""
        config, weights = self.settings, self.networks[key].parameters()
        if config.optimizer == "sgd":
            return torch.optim.SGD(
                weights, config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
            )
        return torch.optim.AdamW(weights, config.learning_rate, weight_decay=config.weight_decay, fused=True)

    def schedule(self, key: str, step: int) -> float:
        """Return the warm-up and the cosine."""
        return warmup_cosine(step, self.total_steps, int(self.settings.warmup * self.total_steps))

    @classmethod
    def preset(cls, name: str) -> SimCLRConfig:
        """Return the configuration of a preset."""
        return {"demo": demo, "gpu": gpu, "paper": paper}[check_preset(name)]()

    @classmethod
    def from_cohort(cls, config: SimCLRConfig, cohort: Cohort, upstream: tuple[Any, ...] = ()) -> SimCLRSystem:
        """Build for a cohort with tiles.

        Raises
        ------
        InputError : no tiles.
        """
        return cls(config, {"tile_um": cohort.tile_um()})

    def dataset(self, cohort: Cohort, split: str) -> ConditionedTiles:
        """Return the tiles of one split, in memory where small."""
        tiles = TileDataset(cohort, split, self.settings.tile_px)
        nothing = np.zeros((cohort.profiles.n_obs, 0), dtype=np.float32)
        return ConditionedTiles(tiles, nothing, self.settings.tiles_per_sample, self.settings.train.seed)

    def fitted(self) -> dict[str, Any]:
        """Return the field of a training tile, in um."""
        return self.facts

    @classmethod
    def from_run(cls, run: Any) -> TileEncoder:
        """Return the trained feature network of a finished run."""
        system = cls(run.config, run.fitted)
        system.networks["encoder"].load_state_dict(run.networks()["encoder"])
        return TileEncoder(system, name=run.id)


class TileEncoder:
    """A trained network as a `features.FeatureNetwork`: tiles are brought to the side of a view, bilinear, antialiased.

    Parameters
    ----------
    system : with its weights.
    name : what stands in captions and keys.

    Attributes
    ----------
    field_um : smallest and largest side of a tile, in um, that it was trained on, the smallest with a tolerance of a third.
    """

    def __init__(self, system: SimCLRSystem, *, name: str) -> None:
        self.encoder = system.encoder.requires_grad_(False).eval()
        self.name, self.dim, self.px = name, self.encoder.dim, system.settings.crop_px
        largest = float(system.facts["tile_um"])
        self.field_um = (0.75 * largest * system.settings.smallest_crop, 1.01 * largest)

    @property
    def preprocessing(self) -> str:
        """What is done to a tile, in words."""
        return f"whole tile to {self.px} px, bilinear with antialiasing, scaled to [-1, 1]"

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> NDArray[np.float32]:
        """Shape (B, H, W, 3), uint8 RGB -> (B, dim) float32.

        Raises
        ------
        InputError : not uint8 RGB tiles, or tiles of a field that the network never saw.
        """
        if tiles.ndim != 4 or tiles.shape[-1] != 3 or tiles.dtype != np.uint8:
            found = f"{tiles.dtype} of shape {tiles.shape}"
            raise InputError("tiles", expected="uint8 of shape (B, H, W, 3)", found=found)
        side_um = mpp_um * max(tiles.shape[1:3])
        low, high = self.field_um
        if not (math.isfinite(side_um) and low <= side_um <= high):
            raise InputError(
                f"features {self.name}",
                expected=f"tiles of {low:.0f} to {high:.0f} um a side",
                found=f"{side_um:.0f} um",
                fix="cut tiles of another size, or use another feature network",
            )
        pixels = torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with torch.inference_mode():
            return np.asarray(self.encoder(resize(pixels, self.px)).numpy(), dtype=np.float32)
