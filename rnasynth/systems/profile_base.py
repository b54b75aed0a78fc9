"""What the systems that make profiles share: genes and transform, the critic's game, what sampling is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor, nn

from rnasynth.data.cohort import ArrayDataset, Cohort
from rnasynth.data.genes import choose_genes, dense
from rnasynth.data.patients import PatientInputs, texts_of
from rnasynth.data.transform import Transform, default_scale
from rnasynth.engine import Dataset, Noise, System, adam
from rnasynth.errors import InputError
from rnasynth.nets.adversarial import between, critic_loss, generator_loss, gradient_penalty
from rnasynth.nets.gemm import Patients, ProfileCritic
from rnasynth.nets.gemm import ProfileGenerator as GeneratorNet
from rnasynth.systems.gemm_config import ProfileConfig
from rnasynth.systems.profile_generation import ProfileGenerator

CLIP_SD = 10.0  # of profiles that come as z-scores, as in the beta-VAE


class ProfileSystemBase(System):
    """A subclass says what a batch is told (`condition`), the loss, and how a profile is drawn.

    Attributes
    ----------
    settings : its configuration.
    facts : what sampling needs beside weights: transform, tissues, and what a subclass adds.
    transform : of the profiles.
    """

    preset_of: ClassVar[dict[str, Callable[[], Any]]]
    uses: ClassVar[str]  # "patient", "label" or "nothing"

    def __init__(self, config: Any, facts: dict[str, Any]) -> None:
        super().__init__()
        self.settings: Any = config
        self.facts = facts
        self.transform = Transform.from_dict(facts["transform"])

    @classmethod
    def preset(cls, name: str) -> Any:
        """Return the configuration of a preset: "demo", "gpu" or "paper".

        Raises
        ------
        InputError : there is none of that name.
        """
        if name not in cls.preset_of:
            raise InputError(f"preset {name!r}", expected=f"one of {', '.join(cls.preset_of)}", found="unknown")
        return cls.preset_of[name]()

    def fitted(self) -> dict[str, Any]:
        """Return the facts that sampling needs: transform with the gene order, labels, scales."""
        return self.facts

    def best(self, key: str) -> nn.Module:
        """Return the moving average of a network where there is one, else the network; in evaluation mode."""
        return self.averaged.get(key, self.networks[key]).eval()

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks.parameters()).device

    @classmethod
    def from_run(cls, run: Any) -> ProfileGenerator:
        """Return the trained generator of a finished run."""
        return ProfileGenerator(cls._restored(run), run_id=run.id)

    @classmethod
    def _restored(cls, run: Any, **more: Any) -> Self:
        system = cls(run.config, run.fitted, **more)
        for key, weights in run.networks().items():
            system.networks[key].load_state_dict(weights)
        system.requires_grad_(False)
        return system.eval()

    # ------------------------------------------------------------------ what is told
    def inputs(self, cohort: Cohort, split: str | None = None) -> PatientInputs:
        """Return a cohort's samples; a system that reads no tiles gets none."""
        obs = (cohort if split is None else cohort.only(split)).profiles.obs
        names = tuple(obs["sample_id"].astype(str))
        return PatientInputs(names, (None,) * len(names), texts_of(obs), tuple(obs["tissue"].astype(str)))

    @property
    def label_dim(self) -> int:
        """Length of what a system without patients is told: one-hot tissue, or 0."""
        return len(self.facts["tissues"]) if self.uses == "label" else 0

    def labels(self, tissues: tuple[str, ...]) -> NDArray[np.float32]:
        """Return the one-hot labels, shape (N, label_dim).

        Raises
        ------
        InputError : a tissue that the training samples did not have.
        """
        if self.uses != "label":
            return np.zeros((len(tissues), 0), np.float32)
        known = {name: number for number, name in enumerate(self.facts["tissues"])}
        if unknown := sorted(set(tissues) - set(known)):
            raise InputError(f"tissue {unknown[0]!r}", expected=f"one of {', '.join(known)}", found="unknown to this run")
        return np.eye(len(known), dtype=np.float32)[[known[name] for name in tissues]]

    def told(self, inputs: PatientInputs) -> Tensor:
        """Return the condition vectors of samples, shape (N, c)."""
        return torch.from_numpy(self.labels(inputs.tissues)).to(self.device)

    def draw(self, told: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Return a profile's z-scores for every row of the condition with its own generator, shape (B, genes)."""
        raise NotImplementedError

    def expected(self, told: Tensor) -> Tensor | None:
        """Return None: the mean is that of draws."""
        return None

    def dataset(self, cohort: Cohort, split: str) -> Dataset:
        """Return the z-scores ("target") and labels ("label") of one split."""
        part = cohort.only(split).profiles
        labels = self.labels(tuple(part.obs["tissue"].astype(str)))
        return ArrayDataset(target=scores(self.transform, part), label=labels)

    def condition(self, batch: dict[str, Tensor], noise: Noise) -> Patients | Tensor:
        """Return what the networks are told of a training batch."""
        return batch["label"]


class WassersteinProfiles(ProfileSystemBase):
    """WGAN-GP on z-scores: critic steps, then one of the generator; RMSprop, its rate halved evenly over the training."""

    def build(self, make_conditioner: Callable[[], nn.Module] | None, condition_dim: int) -> None:
        """Make generator and critic, each with a conditioner of its own."""
        config, genes = self.settings, len(self.transform.genes)
        parts = [make_conditioner() if make_conditioner is not None else None for _ in range(2)]
        self.networks["generator"] = GeneratorNet(genes, config.noise_dim, condition_dim, config.hidden, parts[0])
        self.networks["critic"] = ProfileCritic(genes, condition_dim, config.hidden, parts[1])
        self.ema = {"generator": config.ema_decay} if config.ema_decay > 0 else {}

    def phases(self, step: int) -> list[str]:
        """Return the critic's steps, then one of the generator."""
        return ["critic"] * self.settings.critic_steps + ["generator"]

    def trained(self, phase: str) -> str:
        """Return the network of a phase, which has its name."""
        return phase

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one phase; `batch` holds the z-scores as "target", shape (B, genes)."""
        generator = cast(GeneratorNet, self.networks["generator"])
        critic = cast(ProfileCritic, self.networks["critic"])
        told, real = self.condition(batch, noise), batch["target"]
        drawn = noise.normal(self.settings.noise_dim)
        if phase == "generator":
            fake = generator(drawn, generator.condition(told))
            loss = generator_loss(critic(fake, critic.condition(told)))
            return loss, {"loss_generator": loss.detach()}
        with torch.no_grad():
            fake = generator(drawn, generator.condition(told))
        known = critic.condition(told)
        distance = -critic_loss(critic(real, known), critic(fake, known))
        points = between(real, fake, noise.uniform(0.0, 1.0))
        penalty = gradient_penalty(lambda profiles: critic(profiles, known), points).mean()
        loss = self.settings.penalty_weight * penalty - distance
        return loss, {"wasserstein": distance.detach(), "penalty": penalty.detach()}

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        """Return RMSprop."""
        return torch.optim.RMSprop(self.networks[key].parameters(), lr=self.settings.lr)

    def schedule(self, key: str, step: int) -> float:
        """Return 1, 1/2, 1/4, ... in equal parts of the training."""
        parts = self.settings.lr_halvings + 1
        return float(0.5 ** min(parts - 1, parts * step // max(1, self.total_steps)))

    def sampled(self) -> tuple[str, ...]:
        """Return the generator: the critic makes no profile."""
        return ("generator",)

    def draw(self, told: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Return z-scores, shape (B, genes), for every row of the condition with its own generator."""
        drawn = torch.stack([torch.randn(self.settings.noise_dim, generator=generator) for generator in generators])
        made: Tensor = self.best("generator")(drawn.to(told.device), told)
        return made


def fitted_transform(config: ProfileConfig, cohort: Cohort) -> Transform:
    """Choose genes and fit the transform, on the training samples only."""
    train: AnnData = cohort.only("train").profiles
    unit = str(train.uns.get("unit", ""))
    genes: list[str] | None = None
    if config.max_zero_share < 1:
        zero = (dense(train) == 0).mean(axis=0)
        train = train[:, zero <= config.max_zero_share].copy()
        genes = [str(name) for name in train.var_names]
    if config.n_genes is not None:
        genes = choose_genes(train, min(config.n_genes, train.n_vars))
    if unit == "zscore":
        return Transform.fit(train, name="none", genes=genes, clip=CLIP_SD)
    return Transform.fit(train, scale=default_scale(train), genes=genes)


def scores(transform: Transform, profiles: AnnData) -> NDArray[np.float32]:
    """Return z-scores, shape (N, genes), float32."""
    return np.ascontiguousarray(transform.apply(profiles).X, dtype=np.float32)


def training_tissues(cohort: Cohort) -> list[str]:
    """Return the labels that the training samples have, sorted."""
    return sorted(set(cohort.only("train").profiles.obs["tissue"].astype(str)))


__all__ = ["ProfileSystemBase", "WassersteinProfiles", "adam", "fitted_transform", "scores", "training_tissues"]
