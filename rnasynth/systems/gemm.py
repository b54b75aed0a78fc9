"""Tiles and clinical text -> profiles: GeMM-GAN as published, and our flow on the beta-VAE's latent.

    gemm-gan     WGAN-GP on z-scored profiles, told what a transformer makes of tiles and text (arXiv 2601.15392)
    gemm-flow    conditional flow matching on the latent that RNA -> tiles is told, decoded by the same decoder

Beside the flow stands a head for the latent's mean.
Neither is ever told the label: only baselines are (`systems.profile_baselines`).
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.config import Config
from rnasynth.data.cohort import Cohort
from rnasynth.data.patients import PatientInputs
from rnasynth.engine import Noise, register, warmup_cosine
from rnasynth.errors import InputError
from rnasynth.nets.gemm import Conditioner, FlowNet, Patients, follow, straight_path
from rnasynth.systems import gemm_config as presets
from rnasynth.systems.beta_vae import BetaVAESystem
from rnasynth.systems.patient_data import TOLD, PatientDataset, PatientReader, cohort_inputs, thinned
from rnasynth.systems.profile_base import ProfileSystemBase, WassersteinProfiles, fitted_transform, scores
from rnasynth.systems.profile_generation import ProfileGenerator

SPREAD_FLOOR = 0.1  # a latent that hardly varies is divided by this share of the largest spread
WARMUP_SHARE = 0.1  # of the flow's steps, before one cosine to 0
VALIDATION_TIMES = 8  # at which a validation sample's flow loss is taken, with fixed noise


class PatientSystem(ProfileSystemBase):
    """What reads tiles and text; a subclass makes networks and says what is to be made for a sample (`targets`)."""

    uses = "patient"

    def __init__(self, config: presets.PatientConfig, facts: dict[str, Any]) -> None:
        super().__init__(config, facts)
        self.reader = PatientReader(config, facts["reader"])

    def conditioner(self) -> Conditioner:
        """Return a new network that makes one vector of tiles and text."""
        config = self.settings
        return Conditioner(
            self.facts["reader"]["patch_dim"],
            word_dim=self.facts["reader"]["word_dim"],
            buckets=config.text_buckets if config.text_encoder == "hashed" else 0,
            width=config.width,
            heads=config.heads,
            layers=config.layers,
            feed_forward=config.feed_forward,
            dropout=config.dropout,
            fusion=config.fusion,
            attention=config.attention,
        )

    def condition(self, batch: dict[str, Tensor], noise: Noise) -> Patients:
        """Return a training batch, thinned (see `patient_data.thinned`)."""
        return thinned(batch, noise, self.settings)

    def inputs(self, cohort: Cohort, split: str | None = None) -> PatientInputs:
        """Return a cohort's samples with the features, um/px and tiles that this system reads."""
        return self.reader.inputs(cohort, split)

    def told(self, inputs: PatientInputs) -> Tensor:
        """Return the condition vectors of samples, shape (N, width).

        Raises
        ------
        InputError : see `PatientReader.check`.
        """
        network: Any = self.best(self.sampled()[0])
        made: Tensor = network.condition(self.reader.patients(inputs, self.device))
        return made

    def targets(self, cohort: Cohort) -> NDArray[np.float32]:
        """Return what is to be made for each of a cohort's profiles, shape (N, d)."""
        return scores(self.transform, cohort.profiles)

    def dataset(self, cohort: Cohort, split: str) -> PatientDataset:
        """Return the samples of one split with their targets."""
        return PatientDataset(self.reader, self.inputs(cohort, split), self.targets(cohort.only(split)))


@register
class GemmGAN(PatientSystem, WassersteinProfiles):
    """GeMM-GAN: a WGAN-GP whose generator and critic each read tiles and text with a transformer of their own."""

    name: ClassVar[str] = "gemm-gan"
    step_version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = presets.GemmGANConfig
    preset_of: ClassVar = {"demo": presets.gan_demo, "gpu": presets.gan_gpu, "paper": presets.gan_paper}

    def __init__(self, config: presets.GemmGANConfig, facts: dict[str, Any]) -> None:
        super().__init__(config, facts)
        self.build(self.conditioner, config.width)

    @classmethod
    def from_cohort(cls, config: Any, cohort: Cohort, upstream: tuple[Any, ...] = ()) -> GemmGAN:
        """Build an untrained one; genes, transform and the features' scale are fitted on the training samples."""
        reader = PatientReader.fit(config, cohort_inputs(config, cohort, "train"))
        return cls(config, {"transform": fitted_transform(config, cohort).to_dict(), "reader": reader.facts})


@register
class GemmFlow(PatientSystem):
    """Flow matching on the beta-VAE's latent; its mean by a head of its own, its spread by the flow.

    Parameters
    ----------
    decoder : the trained beta-VAE; its transform and genes are this system's.
    """

    name: ClassVar[str] = "gemm-flow"
    step_version: ClassVar[int] = 1
    upstream: ClassVar[tuple[str, ...]] = ("beta-vae",)
    Config: ClassVar[type[Config]] = presets.GemmFlowConfig
    preset_of: ClassVar = {"demo": presets.flow_demo, "gpu": presets.flow_gpu, "paper": presets.flow_gpu}

    def __init__(self, config: presets.GemmFlowConfig, facts: dict[str, Any], decoder: BetaVAESystem) -> None:
        super().__init__(config, facts)
        self._decoder = (decoder,)  # in a tuple: it is no network of this system, nothing here may train or save it
        self.networks["flow"] = FlowNet(
            len(facts["latent_mean"]),
            self.conditioner(),
            config.width,
            width=config.flow_width,
            blocks=config.flow_blocks,
            dropout=config.flow_dropout,
        )
        self.ema = {"flow": config.ema_decay}
        spread = torch.tensor(facts["latent_sd"])
        self.register_buffer("weight", spread.square() / spread.square().mean(), persistent=False)
        self.weight: Tensor

    @classmethod
    def upstream_preset(cls, preset: str) -> str:
        """Return the beta-VAE's preset: RNA-CDM's size for `paper`, as nobody published a flow."""
        return "gpu" if preset == "paper" else preset

    @classmethod
    def from_cohort(cls, config: Any, cohort: Cohort, upstream: tuple[Any, ...] = ()) -> GemmFlow:
        """Build an untrained one on a trained beta-VAE.

        Raises
        ------
        InputError : not one upstream run, or one that is no beta-VAE; neither tiles nor texts.
        """
        decoder = upstream[0].load() if len(upstream) == 1 else None
        if not isinstance(decoder, BetaVAESystem):
            raise InputError("system gemm-flow", expected="one upstream run of beta-vae", found=f"{len(upstream)} others")
        reader = PatientReader.fit(config, cohort_inputs(config, cohort, "train"))
        latents = decoder.encode(cohort.only("train").profiles)
        sd = latents.std(axis=0)
        lost = scores(decoder.transform, cohort.only("val").profiles)
        lost -= decoder.reconstruct(lost)
        facts = {
            "transform": decoder.transform.to_dict(),
            "reader": reader.facts,
            "latent_mean": [float(value) for value in latents.mean(axis=0)],
            "latent_sd": [float(value) for value in np.maximum(sd, max(SPREAD_FLOOR * float(sd.max()), 1e-6))],
            "residual_sd": [float(value) for value in np.sqrt(np.square(lost).mean(axis=0))],
        }
        return cls(config, facts, decoder)

    @classmethod
    def from_run(cls, run: Any) -> ProfileGenerator:
        """Return the trained generator of a finished run, with its upstream decoder."""
        return ProfileGenerator(cls._restored(run, decoder=run.upstream()[0].load()), run_id=run.id)

    @property
    def flow(self) -> FlowNet:
        """The network that is trained."""
        return cast(FlowNet, self.networks["flow"])

    @property
    def decoder(self) -> BetaVAESystem:
        """The trained beta-VAE."""
        return self._decoder[0]

    def targets(self, cohort: Cohort) -> NDArray[np.float32]:
        """Return the standardised latents of a cohort's profiles, shape (N, latent)."""
        mean, sd = (np.array(self.facts[name], dtype=np.float32) for name in ("latent_mean", "latent_sd"))
        return np.asarray((self.decoder.encode(cohort.profiles) - mean) / sd, dtype=np.float32)

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the flow's squared error plus the mean's, both per latent dimension."""
        draws, size = self.settings.draws, batch["target"].shape[1]
        told = self.condition(batch, noise)
        return self._loss(self.flow, told, batch["target"], noise.normal(draws, size), noise.uniform(0.0, 1.0, draws))

    def validate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the same loss with all tiles and text, at fixed noise and times."""
        target = batch["target"]
        generator = torch.Generator().manual_seed(0)
        starts = torch.randn(VALIDATION_TIMES, target.shape[1], generator=generator).to(target)
        times = ((torch.arange(VALIDATION_TIMES) + 0.5) / VALIDATION_TIMES).to(target)
        told = Patients(*(batch[name] for name in TOLD))
        network = cast(FlowNet, self.best("flow"))
        loss, parts = self._loss(network, told, target, starts.expand(len(target), -1, -1), times.expand(len(target), -1))
        return {"loss": loss, **parts}

    def _loss(
        self, network: FlowNet, told: Patients, target: Tensor, starts: Tensor, times: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        known = network.condition(told)
        mean = network.mean(known)
        draws = times.shape[1]
        known_all, mean_all = known.repeat_interleave(draws, 0), mean.detach().repeat_interleave(draws, 0)
        points, direction = straight_path(target.repeat_interleave(draws, 0), starts.flatten(0, 1), times.flatten())
        moved = network.velocity(points, times.flatten(), known_all, mean_all)
        flow = (moved - direction).square().mean()
        wrong = ((mean - target).square() * self.weight.to(mean)).mean()
        return flow + self.settings.mean_weight * wrong, {"flow": flow.detach(), "mean_error": wrong.detach()}

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        """Return AdamW."""
        config = self.settings
        return torch.optim.AdamW(self.flow.parameters(), config.lr, weight_decay=config.weight_decay, fused=True)

    def schedule(self, key: str, step: int) -> float:
        """Return the warm-up and one cosine."""
        return warmup_cosine(step, self.total_steps, max(1, round(WARMUP_SHARE * self.total_steps)))

    def _decoded(self, standardised: Tensor) -> Tensor:
        mean, sd = (torch.tensor(self.facts[name]) for name in ("latent_mean", "latent_sd"))
        return torch.from_numpy(self.decoder.decode((standardised.float().cpu() * sd + mean).numpy()))

    def draw(self, told: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Return z-scores, shape (B, genes): a latent that the flow leads to, decoded, and what the decoder cannot know."""
        network = cast(FlowNet, self.best("flow"))
        start = torch.stack([torch.randn(len(self.facts["latent_mean"]), generator=generator) for generator in generators])
        mean = network.mean(told)
        end = follow(
            lambda x, time: network.velocity(x, time, told, mean), start.to(told.device), self.settings.sampling_steps
        )
        made = self._decoded(end)
        if self.settings.residual_noise:
            lost = torch.stack([torch.randn(made.shape[1], generator=generator) for generator in generators])
            made = made + lost * torch.tensor(self.facts["residual_sd"])
        return made

    def expected(self, told: Tensor) -> Tensor | None:
        """Return the decoded mean of the latent; None where no mean was learnt."""
        if self.settings.mean_weight == 0:
            return None
        return self._decoded(cast(FlowNet, self.best("flow")).mean(told))
