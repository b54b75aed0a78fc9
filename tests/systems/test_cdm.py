"""The diffusion stages: what a step computes, that the profile arrives, and tiles that do not depend on their batch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from rnasynth.data.cohort import Cohort
from rnasynth.data.papers import read_hyperparameters
from rnasynth.engine import Noise, TrainConfig, seeded
from rnasynth.errors import InputError
from rnasynth.evaluation.sampling import _Counter
from rnasynth.nets.edm import EDM, LinearDDPM
from rnasynth.nets.lowres import corrupt_low
from rnasynth.runs import Run, get_or_train
from rnasynth.systems import cdm, diffusion
from rnasynth.systems.beta_vae import BetaVAEConfig, BetaVAESystem
from rnasynth.systems.cdm import KEY, BaseStage, DiffusionSystem, DistilledStage, LabelStage, SuperResolutionStage
from rnasynth.systems.cdm_config import PAPER_SAMPLING, CDMConfig, DistilledConfig, Sampling
from rnasynth.systems.diffusion import Cascade, DiffusionGenerator
from rnasynth.systems.generation import generate_to_folder
from tests.systems.cdm_stages import SHORT, SMALL, SMALL_SR

FACTS = {"latent_dim": 5, "latent_mean": [], "latent_spread": [], "tissues": ["a", "b"], "tile_um": 64.0}
STAGES = [(BaseStage, SMALL), (SuperResolutionStage, SMALL_SR), (LabelStage, SMALL)]


def stage(kind: type[DiffusionSystem], config: CDMConfig, **changes: Any) -> DiffusionSystem:
    """A stage with first weights from a seed; the zero-initialised ones are moved, or every output would be zero."""
    with seeded("stage", 0):
        system = kind(dataclasses.replace(config, **changes), dict(FACTS))
        for parameter in system.networks[KEY].parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return system


def batch_of(system: DiffusionSystem, n: int = 8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    px = system.settings.tile_px
    return {
        "tile": torch.rand(n, 3, px, px, generator=generator) * 2 - 1,
        "condition": torch.randn(n, system.condition_dim, generator=generator),
    }


@pytest.fixture(scope="module")
def runs(gan_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """One short run of every stage on one beta-VAE."""
    folder = tmp_path_factory.mktemp("runs")
    vae = BetaVAEConfig(hidden=(16,), latent=4, n_genes=50, train=TrainConfig(steps=4, batch_size=8))
    encoder = get_or_train("beta-vae", vae, gan_cohort, folder=folder, progress=False)
    base = get_or_train("cdm-base", SMALL, gan_cohort, upstream=[encoder], folder=folder, progress=False)
    upper = get_or_train("cdm-sr", SMALL_SR, gan_cohort, upstream=[encoder], folder=folder, progress=False)
    student = DistilledConfig(steps=3, substeps=1, guidance=2.0, train=SHORT)
    fast = get_or_train("cdm-distilled", student, gan_cohort, upstream=[base], folder=folder, progress=False)
    return {"beta-vae": encoder, "base": base, "sr": upper, "distilled": fast}


# ---------------------------------------------------------------------- one step
#: Losses of the first two steps, CPU, fp32; a change must be explained and raises DiffusionSystem.step_version.
FROZEN: dict[str, list[float]] = {
    "cdm-base": [1.12861, 1.16642],
    "cdm-sr": [1.12553, 1.17404],
    "cdm-label": [1.11773, 1.13339],
}


@pytest.mark.parametrize(("kind", "config"), STAGES)
def test_first_losses_are_frozen(kind: type[DiffusionSystem], config: CDMConfig) -> None:
    system = stage(kind, config, lr=1e-3)
    optimizer, losses = system.optimizer(KEY), []
    for step in range(2):
        loss = system.loss("train", batch_of(system), Noise(0, step, 0, 8))[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, FROZEN[kind.name], rtol=5e-4)


@pytest.mark.parametrize(("kind", "config"), STAGES)
def test_every_parameter_gets_a_gradient(kind: type[DiffusionSystem], config: CDMConfig) -> None:
    system = stage(kind, config, condition_dropout=0.5)
    system.loss("train", batch_of(system), Noise(0, 0, 0, 8))[0].backward()
    dead = [name for name, p in system.networks[KEY].named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_condition_dropout_drops_the_share_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Tensor | None] = []

    def recorded(*given: Any, keep: Tensor | None = None, **more: Any) -> Tensor:
        kept.append(keep)
        return torch.zeros(4000)

    monkeypatch.setattr(cdm, "diffusion_loss", recorded)
    system = stage(BaseStage, SMALL, condition_dropout=0.25)
    system.loss("train", batch_of(system, 4000), Noise(0, 0, 0, 4000))
    assert kept[0] is not None and float(kept[0].float().mean()) == pytest.approx(0.75, abs=0.03)
    stage(BaseStage, SMALL, condition_dropout=0.0).loss("train", batch_of(system, 4000), Noise(0, 0, 0, 4000))
    assert kept[1] is None


def test_condition_noise_blurs_what_is_told_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Tensor] = []

    def recorded(network: Any, parametrisation: Any, clean: Tensor, *given: Any, **more: Any) -> Tensor:
        told.append(given[-1])
        return torch.zeros(len(clean))

    monkeypatch.setattr(cdm, "diffusion_loss", recorded)
    batch = batch_of(stage(BaseStage, SMALL), 4000)
    for noise, spread in ((0.5, 0.5), (0.0, 0.0)):
        stage(BaseStage, SMALL, condition_noise=noise).loss("train", batch, Noise(0, 0, 0, 4000))
        assert float((told[-1] - batch["condition"]).std()) == pytest.approx(spread, abs=0.02)


def test_low_resolution_tile_is_made_alike_in_training_and_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same tile, level and noise give the network the same input, and the level it is told is the level that was used."""
    system = stage(SuperResolutionStage, SMALL_SR, flips=False)
    seen: list[dict[str, Tensor]] = []
    levels: list[Tensor] = []

    def recorded(low: Tensor, level: Tensor, noise: Tensor, *, blur_sigma: float) -> Tensor:
        levels.append(level)
        return corrupt_low(low, level, noise, blur_sigma=blur_sigma)

    monkeypatch.setattr(cdm, "corrupt_low", recorded)

    def loss_of(network: Any, parametrisation: Any, clean: Tensor, *given: Any, **more: Tensor) -> Tensor:
        seen.append({**more, "clean": clean})
        return torch.zeros(len(clean))

    monkeypatch.setattr(cdm, "diffusion_loss", loss_of)
    system.loss("train", batch_of(system), Noise(0, 0, 0, 8))
    assert torch.equal(seen[0]["low_level"], levels[0]) and levels[0].unique().numel() > 1
    small = torch.nn.functional.avg_pool2d(seen[0]["clean"], 2)
    noise = Noise(0, 0, 0, 8)
    drawn = [noise.uniform(0, 1), noise.uniform(0, 1), noise.uniform(0, 0.5), noise.normal(3, 32, 32)][-1]
    torch.testing.assert_close(system.prepared(small, levels[0], drawn), seen[0]["low"])

    told: list[dict[str, Tensor]] = []
    network = system.networks[KEY]

    def denoiser(*given: Any, **more: Tensor) -> Any:
        told.append(more)
        return lambda noisy, sigma: noisy * 0

    monkeypatch.setattr(diffusion, "denoiser", denoiser)
    DiffusionGenerator(system, sampling=Sampling(low_level=0.3, steps=2)).draw(torch.zeros(8, 5), list(range(8)), small)
    assert bool((told[0]["low_level"] == 0.3).all()) and bool((levels[-1] == 0.3).all())
    assert network.training is False


def test_schedule_rises_and_falls() -> None:
    system = stage(BaseStage, SMALL, warmup_share=0.2, lr_decay=0.5)
    system.total_steps = 10
    factors = [system.schedule(KEY, step) for step in range(10)]
    np.testing.assert_allclose(factors, [0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


# ---------------------------------------------------------------------- sampling
def generator_of(**sampling: Any) -> DiffusionGenerator:
    return DiffusionGenerator(stage(BaseStage, SMALL), sampling=Sampling(**{"steps": 3, **sampling}))


def nearly_equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for single grey levels by rounding (other batch sizes add numbers up in another order)."""
    difference = np.abs(a.astype(int) - b.astype(int))
    return a.shape == b.shape and difference.max() <= 1 and (difference > 0).mean() < 1e-2


@pytest.mark.parametrize("changes", [{}, {"method": "heun", "churn": 80.0}, {"guidance": 2.0, "guided": (0.1, 5.0)}])
def test_a_tile_is_the_same_in_any_batch(changes: dict[str, Any]) -> None:
    generator = generator_of(**changes)
    latents = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    whole = generator.generate(latents, 2, seed=4)
    assert whole.shape == (3, 2, 16, 16, 3) and whole.std() > 0
    assert nearly_equal(generator.generate(latents, 2, seed=4, batch=1), whole)
    assert not nearly_equal(generator.generate(latents, 2, seed=5), whole)
    assert not nearly_equal(whole[:, 0], whole[:, 1])


def test_the_condition_and_guidance_change_the_tile() -> None:
    generator = generator_of()
    latents = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    own, other = generator.generate(latents, 1), generator.generate(latents[::-1].copy(), 1)
    assert not np.array_equal(own, other)  # the names, so the noise, are the same
    unguided = generator.with_sampling(guidance=0.0)  # the null condition alone: deaf
    assert np.array_equal(unguided.generate(latents, 1), unguided.generate(latents[::-1].copy(), 1))
    assert np.array_equal(generator.with_sampling(guidance=1.0).generate(latents, 1), own)
    assert not np.array_equal(generator.with_sampling(guidance=3.0).generate(latents, 1), own)
    nowhere = generator.with_sampling(guidance=3.0, guided=(1e3, 1e4))  # an interval that no noise level lies in
    assert np.array_equal(nowhere.generate(latents, 1), own)


def test_evaluations_are_counted_as_they_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 0
    original = diffusion.denoise

    def counting(*given: Any, **more: Any) -> Tensor:
        nonlocal counted
        counted += 1
        return original(*given, **more)

    monkeypatch.setattr(diffusion, "denoise", counting)
    for changes, wanted in (
        ({}, 3),
        ({"method": "heun"}, 5),
        ({"method": "dpm2m"}, 3),
        ({"guidance": 2.0}, 6),
        ({**PAPER_SAMPLING.to_dict()}, 63),
    ):
        generator, counted = generator_of(**changes), 0
        generator.generate(np.zeros((1, 5), dtype=np.float32), 1)
        assert counted == generator.evaluations == wanted


def test_weights_are_narrowed_once_however_many_steps() -> None:
    system = stage(BaseStage, SMALL).requires_grad_(False)
    shapes = [list(weight.shape) for weight in system.networks[KEY].parameters() if weight.ndim == 4]
    counts = []
    for steps in (2, 5):
        generator = DiffusionGenerator(system, encoder=None, sampling=Sampling(steps=steps, precision="bf16"))
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as watched:
            generator.draw(torch.randn(2, 5), [1, 2])
        events = watched.events() or []
        counts.append(sum(event.name == "aten::_to_copy" and event.input_shapes[0] in shapes for event in events))
    assert counts[0] == counts[1] == len(shapes)
    assert not any(weight.requires_grad for weight in system.parameters())


def test_a_finished_run_makes_tiles_from_profiles(runs: dict[str, Run], gan_cohort: Cohort, tmp_path: Path) -> None:
    base = runs["base"].load()
    profiles = gan_cohort.profiles[:3].copy()
    table = generate_to_folder(runs["base"], profiles, tmp_path / "tiles", 2, seed=1)
    assert len(table) == 6 and (tmp_path / "tiles" / table["file"].iloc[0]).exists()
    assert base.px == 16 and base.mpp_um == pytest.approx(4.0)
    swapped = profiles.copy()
    swapped.X = profiles.X[::-1].copy()
    assert not np.array_equal(base.generate(profiles, 2), base.generate(swapped, 2))


def test_cascade_builds_on_the_base_tile(runs: dict[str, Run], gan_cohort: Cohort) -> None:
    base, upper = runs["base"].load(), runs["sr"].load()
    both = Cascade(base, upper)
    profiles = gan_cohort.profiles[:2].copy()
    tiles = both.generate(profiles, 2, seed=3)
    assert tiles.shape == (2, 2, 32, 32, 3) and both.px == 32 and both.evaluations == (10, 10)
    assert nearly_equal(both.generate(profiles, 2, seed=3, batch=1), tiles)
    other = Cascade(base.with_sampling(steps=2), upper).generate(profiles, 2, seed=3)
    assert not np.array_equal(other, tiles)  # another small tile gives another large one
    with pytest.raises(InputError, match="a base stage with it"):
        upper.generate(profiles, 1)


def test_stages_that_do_not_fit_are_refused(runs: dict[str, Run]) -> None:
    base, upper = runs["base"].load(), runs["sr"].load()
    with pytest.raises(InputError, match=r"side of the small tile \(px\)"):
        Cascade(upper, upper)
    base.system.facts = {**base.system.facts, "tile_um": 1.0}
    with pytest.raises(InputError, match=r"side of a tile \(um\)"):
        Cascade(base, upper)


def test_sampling_streams_in_chunks(runs: dict[str, Run], gan_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Cascade(runs["base"].load(), runs["sr"].load())
    sizes: list[int] = []
    original = Cascade.tiles

    def counting(self: Cascade, condition: Tensor, generators: list[torch.Generator]) -> Tensor:
        sizes.append(len(generators))
        return original(self, condition, generators)

    monkeypatch.setattr(Cascade, "tiles", counting)
    tiles = both.stream(gan_cohort.profiles[:3].copy(), 7, batch=8)
    next(tiles)
    assert sizes == [8]  # nothing beyond the first chunk was made
    assert sum(1 for _ in tiles) == 20 and sizes == [8, 8, 5]


# ---------------------------------------------------------------------- distillation
def test_student_starts_as_its_teacher_and_has_one_sampler(runs: dict[str, Run], gan_cohort: Cohort) -> None:
    config = DistilledConfig(steps=3, substeps=1, train=SHORT)
    system = DistilledStage.from_cohort(config, gan_cohort, (runs["base"],))
    teacher = runs["base"].networks()[KEY]
    assert all(torch.equal(weight, teacher[name]) for name, weight in system.networks[KEY].state_dict().items())
    student = runs["distilled"].load()
    assert student.evaluations == 3
    assert any(not torch.equal(weight, teacher[name]) for name, weight in runs["distilled"].networks()[KEY].items())
    with pytest.raises(InputError, match="its own sampler"):
        student.with_sampling(steps=4)
    assert student.generate(gan_cohort.profiles[:1].copy(), 2).shape == (1, 2, 16, 16, 3)
    assert Cascade(student, runs["sr"].load()).evaluations == (3, 10)


@pytest.mark.parametrize("broken", [False, True])
def test_distillation_brings_the_student_to_where_the_teacher_lands(
    runs: dict[str, Run], gan_cohort: Cohort, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of a student that answers with the teacher's target is zero, and of one that answers otherwise is not."""
    system = DistilledStage.from_cohort(DistilledConfig(steps=3, train=SHORT), gan_cohort, (runs["base"],))
    targets: list[Tensor] = []
    original = cdm.step_target

    def recorded(*given: Any) -> Tensor:
        targets.append(original(*given))
        return targets[-1]

    monkeypatch.setattr(cdm, "step_target", recorded)
    monkeypatch.setattr(cdm, "denoise", lambda *given, **more: targets[-1] + (0.1 if broken else 0.0))
    loss = float(system.loss("train", batch_of(system), Noise(0, 0, 0, 8))[0])
    assert (loss > 1e-3) is broken


# ---------------------------------------------------------------------- configurations
def test_presets_are_whole_and_survive_json() -> None:
    for kind in (BaseStage, SuperResolutionStage, LabelStage, DistilledStage):
        for name in ("demo", "gpu", "paper"):
            config = kind.preset(name)
            assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert BaseStage.preset("demo").tile_px == SuperResolutionStage.preset("demo").low_px
    assert BaseStage.preset("demo") == LabelStage.preset("demo")
    assert BaseStage.upstream_preset("paper") == "paper-rna-cdm" and DistilledStage.upstream_preset("paper") == "paper"
    assert BetaVAESystem.preset(BaseStage.upstream_preset("demo")).latent == 32


def test_paper_preset_holds_the_published_numbers() -> None:
    read = read_hyperparameters("rna-cdm").set_index("field")["value"]
    table = {field: json.loads(value) for field, value in read.items() if field != "optimizer"}
    base, upper = BaseStage.preset("paper"), SuperResolutionStage.preset("paper")
    assert (base.tile_px, upper.tile_px, upper.low_px) == (table["base_px"], table["tile_px"], table["base_px"])
    assert (base.width, upper.width) == (table["base_width"], table["super_resolution_width"])
    for config in (base, upper):
        assert (config.train.steps, config.train.batch_size) == (table["steps"], table["batch_size"])
        assert (config.lr, config.tiles_per_patient) == (table["lr"], table["tiles_per_slide"])
        assert config.patch == 1 and config.crop_px == 0 and config.warmup_share == config.lr_decay == 0
        assert config.standardise == "none" and not config.same_stain
    assert (upper.low_blur > 0) == table["blur_low_resolution"]
    asked = {"rho": "rho", "churn": "S_churn", "churn_min": "S_tmin", "churn_max": "S_tmax", "churn_noise": "S_noise"}
    for ours, theirs in {**asked, "steps": "sampling_steps"}.items():
        assert getattr(PAPER_SAMPLING, ours) == table[theirs], ours
    assert LinearDDPM().steps == table["timesteps"] and cdm.parametrisation(base) == EDM()


def test_published_sizes_are_those_of_the_port_within_five_percent() -> None:
    base, upper = (cdm.parameters(kind.preset("paper"), 200) for kind in (BaseStage, SuperResolutionStage))
    assert base == pytest.approx(412.7e6, rel=0.05) and upper == pytest.approx(733.6e6, rel=0.05)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("blocks", (1,), "2 values, one a level"),
        ("low_px", 7, "a divisor of tile_px"),
        ("condition_dropout", 1.0, r"in \[0, 1\)"),
        ("tile_px", 17, "a multiple of 2"),
    ],
)
def test_wrong_configurations_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SMALL, **{field: value})


def test_wrong_samplings_are_refused() -> None:
    with pytest.raises(InputError, match="unless the method is heun"):
        Sampling(method="euler", churn=1.0)
    with pytest.raises(InputError, match="two rising noise levels"):
        Sampling(guided=(3.0, 1.0))


# ---------------------------------------------------------------------- the command line's door
def test_runs_are_opened_by_name_with_their_sampling(runs: dict[str, Run], gan_cohort: Cohort) -> None:
    profiles = gan_cohort.profiles[:1].copy()
    base, upper = (str(runs[name].path) for name in ("base", "sr"))
    alone = diffusion.open_generator(base, sampling=["steps=2", "method=dpm2m"])
    assert isinstance(alone, DiffusionGenerator) and alone.sampling == Sampling(steps=2, method="dpm2m")
    both = diffusion.open_generator(upper, base=base, sampling=["steps=2"])
    assert isinstance(both, Cascade) and both.evaluations == (2, 2)
    assert both.generate(profiles, 1).shape == (1, 1, 32, 32, 3)
    with pytest.raises(InputError, match="a base stage with it"):
        diffusion.open_generator(upper).generate(profiles, 1)
    with pytest.raises(InputError, match="a system that makes tiles"):
        diffusion.open_generator(str(runs["beta-vae"].path))
    with pytest.raises(InputError, match="steps"):
        diffusion.open_generator(base, sampling=["steps=0"])
    with pytest.raises(InputError, match="stride"):
        diffusion.open_generator(base, sampling=["stride=2"])


def test_crops_are_cut_from_clean_and_low_tile_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    system = stage(SuperResolutionStage, SMALL_SR, flips=False, crop_px=8, low_blur=0.0, low_level_max=0.001)
    seen: list[tuple[Tensor, Tensor]] = []

    def recorded(network: Any, parametrisation: Any, clean: Tensor, *given: Any, low: Tensor, **more: Any) -> Tensor:
        seen.append((clean, low))
        return torch.zeros(len(clean))

    monkeypatch.setattr(cdm, "diffusion_loss", recorded)
    batch = batch_of(system)
    ramp = torch.linspace(-1, 1, 32)
    batch["tile"] = torch.stack([ramp[:, None].expand(32, 32), ramp[None].expand(32, 32), torch.zeros(32, 32)]).repeat(
        8, 1, 1, 1
    )
    system.loss("train", batch, Noise(0, 0, 0, 8))
    clean, low = seen[0]
    assert clean.shape == low.shape == (8, 3, 8, 8) and clean[:, :2, 0, 0].unique().numel() > 4  # crops differ in place
    torch.testing.assert_close(clean, low, atol=0.05, rtol=0)  # of a ramp the low-resolution tile is the tile
    with pytest.raises(InputError, match="crop_px"):
        dataclasses.replace(SMALL, crop_px=8)  # a base stage sees whole tiles


def test_a_residual_stage_adds_back_what_training_took_off(monkeypatch: pytest.MonkeyPatch) -> None:
    system = stage(SuperResolutionStage, SMALL_SR, flips=False, residual=True, sigma_data=0.1)
    seen: list[Tensor] = []

    def recorded(network: Any, parametrisation: Any, clean: Tensor, *given: Any, **more: Any) -> Tensor:
        seen.append(clean)
        return torch.zeros(len(clean))

    monkeypatch.setattr(cdm, "diffusion_loss", recorded)
    batch = batch_of(system)
    system.loss("train", batch, Noise(0, 0, 0, 8))
    small = torch.nn.functional.avg_pool2d(batch["tile"], 2)
    torch.testing.assert_close(seen[0] + system.ground(small), batch["tile"])
    assert float(seen[0].std()) < 0.95 * float(batch["tile"].std())

    monkeypatch.setattr(diffusion, "denoiser", lambda *given, **more: lambda noisy, sigma: seen[0])  # a perfect network
    made = DiffusionGenerator(system).draw(torch.zeros(8, 5), list(range(8)), small)
    torch.testing.assert_close(made, batch["tile"], atol=1e-4, rtol=0)
    plain = stage(SuperResolutionStage, SMALL_SR)
    assert not plain.ground(small).any()


def test_usual_sampling_covers_the_noise_levels_of_what_is_made() -> None:
    residual = dataclasses.replace(SMALL_SR, residual=True, sigma_data=0.1)
    assert diffusion.usual_sampling(SMALL, EDM()) == Sampling()
    scaled = diffusion.usual_sampling(residual, EDM(sigma_data=0.1))
    assert scaled.sigma_max == pytest.approx(16.0) and scaled.churn_max == pytest.approx(10.0)
    steps = LinearDDPM()  # outside its levels the network was never trained
    linear = diffusion.usual_sampling(dataclasses.replace(SMALL, parametrisation="ddpm"), steps)
    assert (linear.sigma_min, linear.sigma_max) == (steps.sigma_min, steps.sigma_max) and linear.sigma_min > 0.009
    with pytest.raises(InputError, match="only with low_px"):
        dataclasses.replace(SMALL, residual=True)


def test_guidance_needs_a_stage_that_was_trained_without_its_profile() -> None:
    generator = DiffusionGenerator(stage(BaseStage, SMALL, condition_dropout=0.0))
    with pytest.raises(InputError, match="condition_dropout 0"):
        generator.with_sampling(guidance=2.0)


def test_tiles_of_another_sampling_are_never_mixed(runs: dict[str, Run], gan_cohort: Cohort, tmp_path: Path) -> None:
    profiles, base = gan_cohort.profiles[:1].copy(), str(runs["base"].path)
    generate_to_folder(diffusion.open_generator(base), profiles, tmp_path / "tiles", 1)
    guided = diffusion.open_generator(base, sampling=["guidance=2"])
    with pytest.raises(InputError, match="tiles of another drawing"):
        generate_to_folder(guided, profiles, tmp_path / "tiles", 1)


def test_a_cascade_is_moved_and_counted_whole(runs: dict[str, Run], gan_cohort: Cohort) -> None:
    cascade = Cascade(runs["base"].load(), runs["sr"].load())
    profiles = gan_cohort.profiles[:2].copy()
    with _Counter(cascade) as counter:
        cascade.generate(profiles, 1)
    alone = {}
    for name, part in (("base", cascade.base), ("sr", cascade.upper)):
        with _Counter(part) as count:
            cascade.generate(profiles, 1)
        alone[name] = count.rows
    assert alone["base"] > 0 and alone["sr"] > 0
    assert counter.rows == alone["base"] + alone["sr"] == 2 * sum(cascade.evaluations)
    moved = cascade.to("meta")
    assert moved is cascade
    for part in (cascade.base, cascade.upper):
        assert {weight.device.type for weight in part.system.best(KEY).parameters()} == {"meta"}


def test_stages_told_by_other_encoders_are_refused(runs: dict[str, Run]) -> None:
    base, upper = runs["base"].load(), runs["sr"].load()
    assert base.encoder_id == upper.encoder_id == runs["beta-vae"].id == runs["distilled"].load().encoder_id
    upper.encoder_id = "beta-vae-another"
    with pytest.raises(InputError, match="the run of their encoder"):
        Cascade(base, upper)
