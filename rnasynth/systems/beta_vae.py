"""The beta-VAE of expression profiles as a trained system: its presets, what one step is, and how it is used.

Source: RNA-GAN (Cell Reports Methods 2023, STAR Methods) and RNA-CDM (preprint, Methods). Where the papers leave
something open (length of the warm-up, reductions of the loss) the field's docstring says what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.config import Config, check
from rnasynth.data.genes import choose_genes
from rnasynth.data.transform import Transform
from rnasynth.engine import Noise, System, TrainConfig, adam, mixed_seed, register, warmup_cosine
from rnasynth.errors import InputError
from rnasynth.nets.losses import beta_vae_loss
from rnasynth.nets.vae import BetaVAE

CHUNK = 256  # profiles encoded or decoded at a time
CLIP_SD = 10.0  # of profiles that come as z-scores: porpoise holds values up to 36,893, which no squared error survives


@dataclass(frozen=True, kw_only=True)
class BetaVAEConfig(Config):
    """Network, loss, input and training of a beta-VAE."""

    hidden: tuple[int, ...] = (6000, 4096)
    """Widths of the encoder's layers; the decoder mirrors them."""
    latent: int = 2048
    """Length of the latent vector."""
    input_dropout: float = 0.0
    """Share of the genes set to zero in training; RNA-GAN's released code: 0.5, its paper: none."""
    output: Literal["linear", "tanh"] = "linear"
    """Last activation; RNA-GAN's released code: tanh, which 31.7 % of z-scores cannot pass."""
    beta: float = 0.005
    """Weight of the KL divergence."""
    kl_reduction: Literal["sum", "mean"] = "sum"
    """Over the latent's dimensions; the papers do not say. The squared error is always the mean over genes."""
    lr: float = 5e-5
    """Adam's learning rate at the end of the warm-up."""
    warmup_share: float = 0.05
    """Share of the steps that warm up; then one cosine to 0 at the last step. The papers give no length."""
    transform: Literal["auto", "log2p1_zscore", "paper_rna_gan", "paper_rna_cdm", "none"] = "auto"
    """Of the profiles; auto: log2p1_zscore, or none for profiles that come as z-scores."""
    scale: Literal["auto", "none", "cp10k", "cpm"] = "auto"
    """Library-size scaling before the log; auto: cp10k for counts, else none."""
    n_genes: int | None = None
    """The genes of largest variance among the training patients; None: all."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(epochs=250, batch_size=128, patience=25, precision="auto", checkpoint_every=500)
    )
    """How long, batch size, early stopping, seed, precision."""

    def __post_init__(self) -> None:
        check(self, "hidden", len(self.hidden) >= 1 and min(self.hidden) >= 1, "at least one width, each at least 1")
        check(self, "latent", self.latent >= 1, "at least 1")
        check(self, "input_dropout", 0 <= self.input_dropout < 1, "in [0, 1)")
        check(self, "beta", self.beta >= 0, "at least 0")
        check(self, "lr", self.lr > 0, "more than 0")
        check(self, "warmup_share", 0 <= self.warmup_share < 1, "in [0, 1)")
        check(self, "n_genes", self.n_genes is None or self.n_genes >= 1, "at least 1, or none")


def demo() -> BetaVAEConfig:
    """Return the preset for 2 CPU cores: 1,000 genes, seconds; one layer, as two are worse on 120 patients.

    16 dimensions lose 2 % in error to 32 on the simulated cohort, and spare the systems that build on the latent
    dimensions that say nothing of the tissue.
    """
    return BetaVAEConfig(
        hidden=(512,),
        latent=16,
        beta=0.002,
        lr=1e-3,
        n_genes=1000,
        train=TrainConfig(epochs=120, batch_size=32, patience=30, checkpoint_every=200),
    )


def demo_wide() -> BetaVAEConfig:
    """Return `demo` with a latent of 32: on her2st 16 dimensions lose what tells one spot's nuclei from another's."""
    return replace(demo(), latent=32)


def gpu() -> BetaVAEConfig:
    """Return the preset for one GPU: all genes, a latent of RNA-CDM's size, minutes."""
    return BetaVAEConfig(
        hidden=(4096, 1024),
        latent=200,
        beta=0.0005,
        lr=3e-4,
        train=TrainConfig(epochs=250, batch_size=128, patience=40, precision="auto", checkpoint_every=500, log_every=5),
    )


def paper_rna_gan() -> BetaVAEConfig:
    """Return RNA-GAN's numbers (Cell Reports Methods 2023, STAR Methods, "beta-VAE architecture").

    The transform is "log, then z-score", by the natural log of the released code; the patience is not printed.
    """
    return BetaVAEConfig(
        hidden=(6000, 4096),
        latent=2048,
        beta=0.005,
        lr=5e-5,
        transform="paper_rna_gan",
        scale="none",
        train=TrainConfig(epochs=250, batch_size=128, patience=25, precision="auto", checkpoint_every=500),
    )


def paper_rna_cdm() -> BetaVAEConfig:
    """Return RNA-CDM's numbers (preprint, Methods, "beta-VAE for multi-cancer latent embedding generation")."""
    return BetaVAEConfig(
        hidden=(6000, 4000),
        latent=200,
        beta=0.005,
        lr=3e-3,
        transform="paper_rna_cdm",
        scale="none",
        train=TrainConfig(epochs=250, batch_size=128, patience=25, precision="auto", checkpoint_every=500),
    )


def demo_rna_gan() -> BetaVAEConfig:
    """Return RNA-GAN's choices at a width for 2 CPU cores: 256 and 192 hidden units, a latent of 64, 1,000 genes."""
    return replace(paper_rna_gan(), hidden=(256, 192), latent=64, n_genes=1000)


def demo_rna_cdm() -> BetaVAEConfig:
    """Return RNA-CDM's choices at a width for 2 CPU cores: 256 and 192 hidden units, a latent of 16, 1,000 genes."""
    return replace(paper_rna_cdm(), hidden=(256, 192), latent=16, n_genes=1000)


PRESETS = {
    "demo": demo,
    "demo-wide": demo_wide,
    "gpu": gpu,
    "paper": paper_rna_gan,
    "paper-rna-gan": paper_rna_gan,
    "paper-rna-cdm": paper_rna_cdm,
    "demo-rna-gan": demo_rna_gan,
    "demo-rna-cdm": demo_rna_cdm,
}


class ProfileDataset:
    """Transformed profiles of one split, held in memory: `fetch` gives "profile" (B, genes), float32."""

    def __init__(self, profiles: AnnData) -> None:
        self.sample_ids = [str(name) for name in profiles.obs_names]
        self.z = torch.from_numpy(np.ascontiguousarray(profiles.X, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.z)

    def fetch(self, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the profiles of these rows."""
        return {"profile": self.z[torch.as_tensor(np.asarray(indices))]}


@register
class BetaVAESystem(System):
    """A beta-VAE with the transform and gene order that it was trained on; also what a finished run gives back.

    Parameters
    ----------
    config : network, loss and training.
    transform : fitted on the training patients.
    """

    name: ClassVar[str] = "beta-vae"
    step_version: ClassVar[int] = 2
    Config = BetaVAEConfig

    def __init__(self, config: BetaVAEConfig, transform: Transform) -> None:
        super().__init__()
        self.config, self.transform = config, transform
        self.networks["vae"] = BetaVAE(
            len(transform.genes),
            config.hidden,
            config.latent,
            input_dropout=config.input_dropout,
            output=config.output,
        )

    # ------------------------------------------------------------------ how it is made
    @classmethod
    def preset(cls, name: str) -> BetaVAEConfig:
        """Return a preset, by its name in `PRESETS`; "paper" is RNA-GAN's.

        Raises
        ------
        InputError : there is none of that name.
        """
        if name not in PRESETS:
            raise InputError(f"preset {name!r}", expected=f"one of {', '.join(PRESETS)}", found="unknown")
        return PRESETS[name]()

    @classmethod
    def from_cohort(cls, config: BetaVAEConfig, cohort: Any, upstream: tuple[Any, ...] = ()) -> BetaVAESystem:
        """Build an untrained one; genes are chosen and the transform is fitted on the training patients only.

        Profiles that come as z-scores are cut to 10 standard deviations either side: 0.14 % of porpoise's values.
        """
        train: AnnData = cohort.only("train").profiles
        unit = str(train.uns.get("unit", ""))
        name: Any = config.transform
        scale: Any = config.scale
        if name == "auto":
            name = "none" if unit == "zscore" else "log2p1_zscore"
        if scale == "auto":
            scale = "cp10k" if unit == "counts" else "none"
        genes = None if config.n_genes is None else choose_genes(train, config.n_genes)
        clip = CLIP_SD if unit == "zscore" else None
        return cls(config, Transform.fit(train, name=name, scale=scale, genes=genes, clip=clip))

    def dataset(self, cohort: Any, split: str) -> ProfileDataset:
        """Return the transformed profiles of one split."""
        return ProfileDataset(self.transform.apply(cohort.only(split).profiles))

    def fitted(self) -> dict[str, Any]:
        """Return the transform, gene order included."""
        return {"transform": self.transform.to_dict()}

    @classmethod
    def from_run(cls, run: Any) -> BetaVAESystem:
        """Return the trained system of a finished run."""
        system = cls(run.config, run.transform)
        system.vae.load_state_dict(run.networks()["vae"])
        system.requires_grad_(False)
        return system.eval()

    # ------------------------------------------------------------------ one step
    @property
    def vae(self) -> BetaVAE:
        """The network."""
        network = self.networks["vae"]
        assert isinstance(network, BetaVAE)
        return network

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return squared error + beta * KL of a draw of the latent."""
        reconstruction, mean, logvar = self.vae(batch["profile"], noise.normal)
        return self._loss(batch["profile"], reconstruction, mean, logvar)

    def validate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the same loss at the latent's mean, so that validation has no noise."""
        loss, parts = self._loss(batch["profile"], *self.vae(batch["profile"]))
        return {"loss": loss, **parts}

    def _loss(self, x: Tensor, reconstruction: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config
        return beta_vae_loss(x, reconstruction, mean, logvar, beta=config.beta, kl_reduction=config.kl_reduction)

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        """Return Adam."""
        return adam(self.vae, self.config.lr)

    def schedule(self, key: str, step: int) -> float:
        """Return warm-up, then one cosine over the whole training."""
        return warmup_cosine(step, self.total_steps, round(self.config.warmup_share * self.total_steps))

    # ------------------------------------------------------------------ what it is used for
    def encode(self, profiles: AnnData | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the latent means of profiles, shape (n, latent), float32.

        Parameters
        ----------
        profiles : raw AnnData (any gene order, extra genes are dropped), AnnData transformed by this run's transform,
            or z-scores of shape (n, genes) in this run's gene order.

        Raises
        ------
        InputError : transformed otherwise, too few genes in common, or an array of another width.
        """
        z = torch.from_numpy(self._scores(profiles))
        return self._by_chunks(z, lambda part: self.vae.encode(part)[0])

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return z-scores, shape (n, genes), float32, from latents (n, latent); `transform.inverse` makes them linear.

        Raises
        ------
        InputError : latents of another length.
        """
        latents = np.atleast_2d(np.asarray(latents, dtype=np.float32))
        if latents.shape[1] != self.config.latent:
            raise InputError("latents", expected=f"length {self.config.latent}", found=str(latents.shape[1]))
        return self._by_chunks(torch.from_numpy(latents), self.vae.decode)

    def reconstruct(self, profiles: AnnData | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the z-scores that come back from the latent means, shape (n, genes), float32."""
        return self.decode(self.encode(profiles))

    def sample(self, n: int, seed: int) -> NDArray[np.float32]:
        """Return z-scores of `n` profiles decoded from N(0, I), shape (n, genes); one generator a profile."""
        draws = [self._draw(seed, number) for number in range(n)]
        return self.decode(np.stack(draws) if draws else np.empty((0, self.config.latent), dtype=np.float32))

    def _draw(self, seed: int, number: int) -> NDArray[np.float32]:
        generator = torch.Generator().manual_seed(mixed_seed("beta-vae sample", seed, number))
        return torch.randn(self.config.latent, generator=generator).numpy()

    def _scores(self, profiles: AnnData | NDArray[np.float32]) -> NDArray[np.float32]:
        genes = self.transform.genes
        if not isinstance(profiles, AnnData):
            z = np.ascontiguousarray(profiles, dtype=np.float32)
            if z.ndim != 2 or z.shape[1] != len(genes):
                raise InputError("z-scores", expected=f"shape (n, {len(genes)})", found=str(z.shape))
            return z
        if "transform" not in profiles.uns:
            return np.ascontiguousarray(self.transform.apply(profiles).X, dtype=np.float32)
        if Transform.from_dict(dict(profiles.uns["transform"])) != self.transform:
            raise InputError(
                "transformed profiles",
                expected="this run's own transform",
                found="another one",
                fix="give the raw profiles, they are transformed here",
            )
        return np.ascontiguousarray(profiles[:, list(genes)].X, dtype=np.float32)

    @torch.inference_mode()
    def _by_chunks(self, x: Tensor, function: Any) -> NDArray[np.float32]:
        if self.training:
            self.eval()
        device = next(self.vae.parameters()).device
        parts = [function(part.to(device)).float().cpu().numpy() for part in x.split(CHUNK)] if len(x) else []
        if parts:
            return np.concatenate(parts)
        return function(x.new_zeros((1, x.shape[1])).to(device)).float().cpu().numpy()[:0]
