"""`rnasynth ratings`: make a blinded rating form, and analyse what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ratings_app = typer.Typer(
    help="Let experts rate tiles: make a blinded form, analyse the answers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@ratings_app.command()
def form(
    folders: Annotated[
        list[str], typer.Argument(help="TISSUE/GROUP=FOLDER of tile images, one a group; GROUP=FOLDER for one tissue.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for form.html, which holds its images and needs no network.")],
    tiles_per_group: Annotated[int, typer.Option("--tiles-per-group", help="Tiles drawn from each folder.")] = 5,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of the draw, names and order; by default a secret one, kept in the key.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="File that tells which tile is what (default: OUT-key.json).")
    ] = None,
    tissues: Annotated[
        str, typer.Option("--tissues", help="Answers to the first question, by commas (default: the groups' tissues).")
    ] = "",
) -> None:
    """Make a blinded, balanced, randomised rating form with the three questions of RNA-GAN.

    Example: rnasynth ratings form lung/real=a lung/gan=b brain/real=c brain/gan=d --out form --tiles-per-group 5 --seed 7
    """
    import secrets

    from rnasynth.evaluation.ratings.form import TileGroup, make_form

    seed = secrets.randbits(32) if seed is None else seed
    groups = [TileGroup.parse(text) for text in folders]
    answers = [name.strip() for name in tissues.split(",") if name.strip()]
    made = make_form(groups, out, tiles_per_group=tiles_per_group, seed=seed, key=key, tissues=answers)
    typer.echo(f"{made.path}: {made.n_tiles} tiles, study {made.study}; give this file to the raters")
    typer.echo(f"{made.key}: which tile is what; keep it to yourself until all answers are back")


@ratings_app.command()
def analyse(
    csvs: Annotated[list[Path], typer.Argument(help="The csv files that the raters exported, one a rater.")],
    key: Annotated[Path, typer.Option("--key", help="The key that was written with the form.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for ratings.csv, means.csv, tests.csv and results.json.")],
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
) -> None:
    """Unblind the answers and analyse them as page 14 analyses the published ones.

    Example: rnasynth ratings analyse ratings-*.csv --key form-key.json --out analysis
    """
    from rnasynth.evaluation.ratings.study import analyse_forms

    found = analyse_forms(csvs, key, out, seed=seed)
    typer.echo(f"{found.scores['rater'].nunique()} raters; mean quality (points of 5):")
    for row in found.means.to_dict("records"):
        typer.echo(f"  {row['tissue']} {row['group']}: {row['mean']:.2f} (SD {row['sd']:.2f})".replace("   ", "  "))
    for row in found.tests.to_dict("records"):
        name = f"{row['tissue']} {row['group']} - {row['against']}".strip()
        typer.echo(f"  {name}: {row['difference']:+.2f}, paired t p = {row['t_p']:.3g}, with Holm {row['t_p_holm']:.3g}")
    typer.echo(f"{out}: ratings.csv, means.csv, tests.csv, results.json")
