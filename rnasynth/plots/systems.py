"""How each system works, drawn from its configuration: what goes in, what is made of it, what it is held against.

The sizes in the boxes are those of the presets, so a drawing cannot differ from what is trained. They are laid out from
top to bottom and narrow, so that the text can be read on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from rnasynth.plots.style import GREY, OKABE_ITO, style
from rnasynth.systems import SYSTEMS

WIDTH_IN = 3.6  # of each drawing: 360 px, the width of a phone
ROW_IN = 0.74  # from one row of boxes to the next
TEXT_PT = 8.5
FILL = {"data": "#f2f2f2", "network": "#d6e9f6", "noise": "#fdf0d0", "judge": "#fbe0d2"}
EDGE = {"data": GREY, "network": OKABE_ITO[0], "noise": OKABE_ITO[4], "judge": OKABE_ITO[1]}
MEANING = {"data": "data", "network": "trained network", "noise": "noise", "judge": "what judges it"}


@dataclass(frozen=True)
class Box:
    """One step."""

    text: str
    x: float
    """Middle, as a share of the width."""
    row: float
    """Row, counted from the top."""
    kind: str = "network"
    """A key of `FILL`."""
    width: float = 0.44
    """As a share of the width."""


@dataclass(frozen=True)
class Drawing:
    """Boxes by name, the arrows between them, and what the drawing says in words."""

    title: str
    boxes: dict[str, Box]
    arrows: tuple[tuple[str, str], ...]
    alt: str
    caption: str


def draw(drawing: Drawing) -> Figure:
    """Return a drawing as a figure, `WIDTH_IN` inches wide, with its legend of colours."""
    rows = max(box.row for box in drawing.boxes.values()) + 1
    height = ROW_IN * rows + 0.42
    tall = 0.5 / height  # a box of two lines
    with style():
        figure = Figure(figsize=(WIDTH_IN, height))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set(xlim=(0, 1), ylim=(0, 1))
        axis.axis("off")
        middle = {name: 1 - (box.row + 0.5) * ROW_IN / height for name, box in drawing.boxes.items()}
        for start, end in drawing.arrows:
            axis.add_patch(_arrow(drawing.boxes[start], drawing.boxes[end], middle[start], middle[end], tall))
        for name, box in drawing.boxes.items():
            axis.add_patch(
                FancyBboxPatch(
                    (box.x - box.width / 2 + 0.012, middle[name] - tall / 2),
                    box.width - 0.024,
                    tall,
                    boxstyle="round,pad=0,rounding_size=0.02",
                    mutation_aspect=WIDTH_IN / height,
                    facecolor=FILL[box.kind],
                    edgecolor=EDGE[box.kind],
                    linewidth=1.2,
                    linestyle="--" if box.kind == "noise" else "-",
                )
            )
            axis.text(box.x, middle[name], box.text, ha="center", va="center", fontsize=TEXT_PT, linespacing=1.25)
        _legend(axis, {box.kind for box in drawing.boxes.values()}, 0.2 / height)
        return figure


def _arrow(start: Box, end: Box, y_start: float, y_end: float, tall: float) -> FancyArrowPatch:
    """Return an arrow from edge to edge: sideways within a row, else from the lower edge to the upper one."""
    if start.row == end.row:
        side = 1 if end.x > start.x else -1
        tail = (start.x + side * (start.width / 2 - 0.012), y_start)
        head = (end.x - side * (end.width / 2 - 0.012), y_end)
    else:
        down = 1 if end.row > start.row else -1
        reach = end.width / 2 - 0.08
        tail = (start.x, y_start - down * tall / 2)
        head = (min(max(start.x, end.x - reach), end.x + reach), y_end + down * tall / 2)
    return FancyArrowPatch(tail, head, arrowstyle="-|>", mutation_scale=9, color="#404040", lw=1.1, shrinkA=0, shrinkB=1)


def _legend(axis: Any, kinds: set[str], y: float) -> None:
    x = 0.03
    for kind in (kind for kind in FILL if kind in kinds):
        axis.plot([x + 0.012], [y], "s", ms=7, mfc=FILL[kind], mec=EDGE[kind], mew=1.2)
        axis.text(x + 0.04, y, MEANING[kind], va="center", fontsize=7.8)
        x += 0.085 + 0.0185 * len(MEANING[kind])


def drawings(preset: str) -> dict[str, Drawing]:
    """Return the drawings of a preset by name: rna_gan, rna_cdm, gemm_gan, round_trip.

    Raises
    ------
    InputError : unknown preset.
    """
    return {
        "rna_gan": _rna_gan(preset),
        "rna_cdm": _rna_cdm(preset),
        "gemm_gan": _gemm_gan(preset),
        "round_trip": _round_trip(preset),
    }


def _genes(count: int | None) -> str:
    return "all genes" if count is None else f"{count:,} genes"


def _encoder(preset: str) -> tuple[Any, str]:
    """Return the beta-VAE's configuration and its hidden widths in words."""
    config: Any = SYSTEMS["beta-vae"].preset(preset)
    return config, " → ".join(f"{width:,}" for width in (*config.hidden, config.latent))


def _rna_gan(preset: str) -> Drawing:
    vae, widths = _encoder(preset)
    gan: Any = SYSTEMS["rna-gan"].preset(preset)
    noise = f"uniform noise, ±{gan.noise_range:g}" + (f"\nand {gan.extra_noise} Gaussian" if gan.extra_noise else "")
    told = "and does the tile fit the profile" if gan.condition_critic != "none" else "the tile alone"
    boxes = {
        "profile": Box(f"RNA profile\n{_genes(vae.n_genes)}", 0.26, 0, "data"),
        "encoder": Box(f"beta-VAE encoder\n{widths}", 0.26, 1),
        "latent": Box(f"latent\n{vae.latent:,} numbers", 0.26, 2, "data"),
        "noise": Box(noise, 0.76, 2, "noise"),
        "generator": Box(f"generator\nwidth {gan.width_generator}", 0.26, 3),
        "tile": Box(f"generated tile\n{gan.tile_px} px", 0.26, 4, "data"),
        "real": Box(f"real tile of a patient\n{gan.tile_px} px", 0.76, 4, "data"),
        "critic": Box(f"critic: {gan.loss.capitalize()} distance,\n{told}", 0.5, 5, "judge", 0.62),
    }
    arrows = (
        ("profile", "encoder"),
        ("encoder", "latent"),
        ("latent", "generator"),
        ("noise", "generator"),
        ("generator", "tile"),
        ("tile", "critic"),
        ("real", "critic"),
    )
    alt = (
        f"RNA-GAN from top to bottom: a profile of {_genes(vae.n_genes)} goes through the beta-VAE's encoder to a latent of "
        f"{vae.latent:,} numbers; with noise added it goes into the generator, which makes a tile of {gan.tile_px} px; a "
        "critic compares generated tiles with real ones."
    )
    caption = "**RNA-GAN.** One pass of the generator makes a tile; only the critic, while training, sees real ones."
    return Drawing("RNA-GAN", boxes, arrows, alt, caption)


def _rna_cdm(preset: str) -> Drawing:
    vae, _ = _encoder(preset)
    base: Any = SYSTEMS["cdm-base"].preset(preset)
    large: Any = SYSTEMS["cdm-sr"].preset(preset)
    boxes = {
        "profile": Box(f"RNA profile\n{_genes(vae.n_genes)}", 0.26, 0, "data"),
        "encoder": Box(f"beta-VAE encoder\nlatent of {vae.latent:,}", 0.76, 0),
        "noise": Box(f"noise\n{base.tile_px} px", 0.26, 1.15, "noise"),
        "base": Box("base stage, U-Net:\nless noise, step by step", 0.26, 2.15, "network", 0.5),
        "small": Box(f"small tile\n{base.tile_px} px", 0.26, 3.15, "data"),
        "more": Box(f"noise\n{large.tile_px} px", 0.26, 4.15, "noise"),
        "large": Box("super-resolution\nstage, U-Net", 0.76, 4.15),
        "tile": Box(f"generated tile\n{large.tile_px} px", 0.76, 5.15, "data"),
    }
    arrows = (
        ("profile", "encoder"),
        ("encoder", "base"),
        ("encoder", "large"),
        ("noise", "base"),
        ("base", "small"),
        ("small", "large"),
        ("more", "large"),
        ("large", "tile"),
    )
    alt = (
        f"RNA-CDM: the profile's latent of {vae.latent:,} numbers is told to both stages. The base stage takes noise of "
        f"{base.tile_px} px out step by step until a small tile is left; the super-resolution stage makes of it, and of new "
        f"noise, a tile of {large.tile_px} px."
    )
    caption = (
        "**RNA-CDM.** A cascade of two diffusion models, one for all tissues and told no label. While training, each stage "
        "learns to take noise out of real tiles."
    )
    return Drawing("RNA-CDM", boxes, arrows, alt, caption)


def _gemm_gan(preset: str) -> Drawing:
    config: Any = SYSTEMS["gemm-gan"].preset(preset)
    genes = _genes(config.n_genes)
    boxes = {
        "tiles": Box(f"tiles of a patient\nup to {config.per_sample}", 0.26, 0, "data"),
        "text": Box(f"clinical text\nup to {config.max_words} words", 0.76, 0, "data"),
        "features": Box("features of each tile\n(a fixed network)", 0.26, 1, "data"),
        "words": Box("numbers of each word\n(a fixed encoder)", 0.76, 1, "data"),
        "attention": Box(f"transformer: {config.layers} layer{'s' if config.layers > 1 else ''} of {config.heads} heads\n"
                         f"→ {config.width} numbers", 0.5, 2, "network", 0.62),
        "generator": Box("generator\n" + " → ".join(map(str, config.hidden)), 0.26, 3),
        "noise": Box(f"noise\n{config.noise_dim} numbers", 0.76, 3, "noise"),
        "profile": Box(f"generated profile\n{genes}", 0.26, 4, "data"),
        "real": Box(f"the patient's profile\n{genes}", 0.76, 4, "data"),
        "critic": Box("critic: Wasserstein distance,\ntold tiles and text too", 0.5, 5, "judge", 0.62),
    }  # fmt: skip
    arrows = (
        ("tiles", "features"),
        ("text", "words"),
        ("features", "attention"),
        ("words", "attention"),
        ("attention", "generator"),
        ("noise", "generator"),
        ("generator", "profile"),
        ("profile", "critic"),
        ("real", "critic"),
    )
    alt = (
        f"GeMM-GAN from top to bottom: features of up to {config.per_sample} tiles and of the words of the clinical text go "
        f"through a transformer to {config.width} numbers; with noise they go into the generator, which makes a profile of "
        f"{genes}; a critic compares it with the patient's own."
    )
    caption = "**GeMM-GAN**, the way back: from tiles and clinical text to a profile."
    return Drawing("GeMM-GAN", boxes, arrows, alt, caption)


def _round_trip(preset: str) -> Drawing:
    vae, _ = _encoder(preset)
    boxes = {
        "own": Box("profile of a patient\nnever trained on", 0.26, 0, "data"),
        "there": Box("RNA-GAN or RNA-CDM", 0.26, 1),
        "tiles": Box("generated tiles", 0.26, 2, "data"),
        "slide": Box("real tiles of the\nsame patient", 0.76, 2, "data"),
        "back": Box("the way back: GeMM-GAN, flow matching\nor regression, trained on real pairs", 0.5, 3, "network", 0.84),
        "read": Box("profile read\noff the tiles", 0.26, 4, "data"),
        "ceiling": Box("the same, off the\nreal tiles: the ceiling", 0.76, 4, "data"),
        "judge": Box("nearer to the own profile than to another's of\nthe same tissue? Gene by gene", 0.5, 5, "judge", 0.92),
    }
    arrows = (
        ("own", "there"),
        ("there", "tiles"),
        ("tiles", "back"),
        ("slide", "back"),
        ("back", "read"),
        ("back", "ceiling"),
        ("read", "judge"),
        ("ceiling", "judge"),
    )
    alt = (
        "The round trip from top to bottom: tiles are generated from the profile of a held-out patient, coded as a latent "
        f"of {vae.latent:,} numbers; a reader that was trained on real pairs turns them, and the patient's real tiles, into "
        "profiles; these are held against the patient's own profile and those of other patients of the same tissue."
    )
    caption = "**There and back.** What comes back from generated tiles, beside what the same reader finds in real ones."
    return Drawing("There and back", boxes, arrows, alt, caption)


def text_at(figure: Figure, width_px: float) -> Sequence[float]:
    """Return the size of each text of a drawing, in points of 1/72 of 96 px, when it is shown `width_px` wide."""
    scale = width_px / (float(figure.get_figwidth()) * 96)
    return [float(text.get_fontsize()) * scale for axis in figure.axes for text in axis.texts]
