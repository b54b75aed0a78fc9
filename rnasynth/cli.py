"""The command line: thin calls into the library, with exit codes that tell.

0: done. 1: some inputs failed, the rest is done and listed. 2: the call or its input is wrong, nothing was written.
130: interrupted, 143: ended by SIGTERM; the same command goes on. A user's mistake never ends in a traceback, unless
`--debug` asks for it.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from rnasynth import __version__
from rnasynth.cli_ratings import ratings_app
from rnasynth.errors import InputError, RnasynthError, of_system

app = typer.Typer(
    help="H&E tiles from RNA profiles, and RNA profiles from tiles and clinical text.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(ratings_app, name="ratings")

Mirror = Annotated[
    Path | None,
    typer.Option("--mirror", help="Folder that holds the public files already; nothing is fetched from outside."),
]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"rnasynth {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Say the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Read by `main` from the arguments: an error can come before this callback runs."""


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Cohort (`rnasynth doctor` lists them), or the path of a manifest.")],
    mirror: Mirror = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder for the files (default: the data folder).")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Groups of files to fetch, such as a section.")] = None,
    gdc_manifest: Annotated[
        Path | None, typer.Option("--gdc-manifest", help="For tcga: the list of files that the GDC portal gives.")
    ] = None,
) -> None:
    """Fetch and verify a cohort's files; what is there already is checked and kept.

    Example: rnasynth fetch her2st --mirror ../shared/data
    """
    from rnasynth.data import manifests

    report = manifests.fetch(name, to=to, mirror=mirror, only=only or None, gdc_manifest=gdc_manifest)
    typer.echo(f"{report.folder}: {len(report.done)} fetched, {len(report.cached)} there already and verified")
    for path in report.locked:
        typer.echo(f"  {path}: no hash was known; locked to what came now")
    for path in report.missing:
        typer.echo(f"  {path}: missing, {report.reasons.get(path, 'not available')}")


@app.command()
def tile(
    slides: Annotated[list[Path], typer.Argument(help="Slides: any OpenSlide format, or a JPEG, PNG or TIFF of a section.")],
    out: Annotated[Path, typer.Option("--out", help="Tile store to make, to go on with or to extend.")],
    mpp: Annotated[float, typer.Option("--mpp", help="Micrometres per pixel of the tiles (0.5 = 20x).")] = 0.5,
    slide_mpp: Annotated[
        float | None,
        typer.Option("--slide-mpp", help="Micrometres per pixel of the slides, where their header is wrong or silent."),
    ] = None,
    tile_px: Annotated[int, typer.Option("--tile-px", help="Side of a tile in pixels.")] = 256,
    max_tiles: Annotated[
        int, typer.Option("--max-tiles", help="At most this many tiles a slide, drawn with the seed.")
    ] = 4000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    patients: Annotated[
        Path | None, typer.Option("--patients", help="csv with columns slide_id and patient_id; TCGA barcodes need none.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes on this machine.")] = 1,
    scheduler: Annotated[str | None, typer.Option("--scheduler", help="Address of a Dask scheduler to use instead.")] = None,
) -> None:
    """Cut the tissue of slides into tiles. A killed run goes on where it stopped; a broken slide does not stop the others.

    Example: rnasynth tile slides/*.svs --out tiles --mpp 0.5 --workers 2
    """
    from rnasynth.data.tiling import tile_slides
    from rnasynth.data.tissue import TileConfig

    config = TileConfig(tile_px=tile_px, mpp_um=mpp, max_tiles=max_tiles, seed=seed)
    patient_of = None if patients is None else _patient_table(patients)
    report = tile_slides(
        slides, out, config, slide_mpp=slide_mpp, workers=workers, scheduler=scheduler, patient_of=patient_of
    )
    typer.echo(f"{report.kept:,} tiles of {len(report.slides)} slides in {out}")
    for reason, count in report.dropped_by_reason.items():
        typer.echo(f"  dropped, {reason}: {count:,}")


def _patient_table(path: Path) -> dict[str, str]:
    from rnasynth.data.user_tables import read_user_table

    table = read_user_table(path, needs=("slide_id", "patient_id"))
    patient_of = dict(zip(table["slide_id"], table["patient_id"], strict=True))
    for slide_id, patient_id in zip(table["slide_id"], table["patient_id"], strict=True):
        if not patient_id or patient_of[slide_id] != patient_id:
            found = f"{patient_id} and {patient_of[slide_id]}" if patient_id else "none"
            raise InputError(f"{path}, slide {slide_id}", expected="one patient", found=found, fix="mend its row")
    return patient_of


@app.command()
def train(
    system: Annotated[
        str,
        typer.Argument(help="Such as beta-vae, rna-gan or cdm-base (a wrong name lists all)."),
    ],
    cohort: Annotated[str, typer.Option("--cohort", help="Cohort name or manifest.")] = "simulated",
    preset: Annotated[str, typer.Option("--preset", help="demo, gpu or paper.")] = "demo",
    changes: Annotated[list[str] | None, typer.Option("--set", help="Change a field: --set train.seed=1")] = None,
    mirror: Mirror = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for runs (default: the runs folder).")] = None,
) -> None:
    """Train a system, or find the finished run of the same configuration and cohort. Under torchrun: several processes.

    Example: rnasynth train rna-gan --cohort simulated --preset demo --set train.seed=1
    """
    from rnasynth.data.cohort import load_cohort
    from rnasynth.systems.training import check_training, train_preset

    check_training(system, preset, changes or [])
    run = train_preset(system, load_cohort(cohort, mirror=mirror), preset, overrides=changes or [], folder=out)
    typer.echo(f"{run.id}\n{run.path}")


@app.command()
def generate(
    run: Annotated[str, typer.Option("--run", help="Folder of a run, its id, or the name of released weights.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for PNG tiles and table.csv; or a new .h5ad file for profiles.")
    ],
    expression: Annotated[
        Path | None, typer.Option("--expression", help="To make tiles: profiles (.h5ad, linear units), samples x genes.")
    ] = None,
    tiles: Annotated[
        Path | None, typer.Option("--tiles", help="To make profiles: a tile store, or a folder of tiles for each sample.")
    ] = None,
    clinical: Annotated[
        Path | None, typer.Option("--clinical", help="To make profiles: csv or tsv, sample_id and clinical_text or fields.")
    ] = None,
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="Micrometres per pixel of --tiles that are image files.")
    ] = None,
    draws: Annotated[int, typer.Option("--draws", help="Profiles drawn of a sample, for the spread.")] = 16,
    tiles_per_profile: Annotated[int, typer.Option("--tiles-per-profile")] = 10,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    base: Annotated[
        str | None, typer.Option("--base", help="Run of the base stage, where --run is a super-resolution stage.")
    ] = None,
    sampling: Annotated[
        list[str] | None, typer.Option("--sampling", help="Diffusion only: --sampling steps=20 --sampling guidance=2")
    ] = None,
) -> None:
    """Make H&E tiles from profiles (--expression), or profiles from tiles and clinical text (--tiles, --clinical).

    Genes may come in any order; extra ones are left out. A profile file holds the expected z-scores in X, their spread in
    layers, and where it came from in uns.

    Example: rnasynth generate --run runs/rna-gan-0123456789ab --expression profiles.h5ad --tiles-per-profile 10 --out tiles

    Example: rnasynth generate --run runs/gemm-flow-0123456789ab --tiles store --clinical table.csv --out profiles.h5ad
    """
    if (expression is None) == (tiles is None and clinical is None):
        raise InputError(
            "rnasynth generate",
            expected="--expression to make tiles, or --tiles and --clinical (or one of them) to make profiles",
            found="neither" if expression is None else "both",
        )
    if expression is None:
        if base is not None or sampling:
            raise InputError("rnasynth generate", expected="--base and --sampling with --expression only", found="--tiles")
        from rnasynth.systems.profile_files import generate_profiles

        made = generate_profiles(run, out, tiles=tiles, clinical=clinical, mpp_um=mpp, draws=draws, seed=seed)
        bare = int((made.obs["n_tiles"] == 0).sum()), int((~made.obs["has_text"]).sum())
        typer.echo(f"{made.n_obs} profiles of {made.n_vars:,} genes in {out}")
        typer.echo(f"  {bare[0]} samples without tiles, {bare[1]} without text")
        return
    from rnasynth.data.profiles import annotation_of
    from rnasynth.systems.diffusion import open_generator
    from rnasynth.systems.generation import generate_to_folder, read_profiles

    generator = open_generator(run, base=base, sampling=sampling or [])
    profiles = read_profiles(expression)
    if left := annotation_of(profiles):
        typer.echo(f"  columns of the profiles' table that were taken as annotation, not as genes or samples: {left}")
    table = generate_to_folder(generator, profiles, out, tiles_per_profile=tiles_per_profile, seed=seed)
    typer.echo(f"{len(table)} tiles of {table['sample_id'].nunique()} profiles in {out}")


@app.command()
def book(
    cohort: Annotated[str, typer.Option("--cohort")] = "simulated",
    preset: Annotated[str, typer.Option("--preset", help="demo, gpu or paper.")] = "demo",
    pages: Annotated[str, typer.Option("--pages", help="Numbers of the pages to run, such as 04,05; all by default.")] = "",
    seed: Annotated[int, typer.Option("--seed", help="Of the splits, the training and the simulated patients.")] = 0,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A page's own parameter: --set tiles_per_profile=8")
    ] = None,
    mirror: Mirror = None,
    force: Annotated[bool, typer.Option("--force", help="Run pages again whose inputs did not change.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", help="Pages at a time.")] = 1,
) -> None:
    """Run the pages on a cohort and render the book; prints where it is.

    Example: rnasynth book --cohort her2st --mirror ../shared/data --pages 01,03,07
    """
    from rnasynth.config import check_preset
    from rnasynth.pages.parameters import check_cohort
    from rnasynth.pages.runner import build_book, only_builder, run_pages

    chosen = [number.strip() for number in pages.split(",") if number.strip()] or None
    parameters = _assignments(changes or [])
    with only_builder(check_cohort(cohort), check_preset(preset)):
        run_pages(cohort, preset, pages=chosen, force=force, jobs=jobs, seed=seed, parameters=parameters, mirror=mirror)
        typer.echo("rendering the book")
        typer.echo(f"The book is at {build_book(cohort, preset)}")


@app.command()
def notebooks(
    out: Annotated[Path, typer.Option("--out", help="Folder for them; files of the same names are replaced.")] = Path(
        "notebooks"
    ),
    pages: Annotated[str, typer.Option("--pages", help="Numbers of pages, such as 04,05; all by default.")] = "",
) -> None:
    """Write the pages as notebooks that run anywhere under papermill or Jupyter in this environment.

    Example: rnasynth notebooks --out build/notebooks
    """
    from rnasynth.pages.notebooks import choose, read_pages, write_notebooks

    sources = read_pages()
    chosen = choose(sources, [number.strip() for number in pages.split(",") if number.strip()] or None)
    for path in write_notebooks(out, {name: sources[name] for name in sorted(chosen)}):
        typer.echo(path)


def _assignments(texts: list[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise InputError(f"--set {text}", expected="name=value", found="no '='")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return values


@app.command()
def doctor() -> None:
    """Show versions, devices, disk, what is fetched, and what is missing with the command that gets it.

    Example: rnasynth doctor
    """
    from rnasynth.doctor import report

    typer.echo(report())


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks, such as slides or gct; all by default.")] = None,
) -> None:
    """Measure speed and memory against the named alternatives, in one run (needs the checkout).

    Example: rnasynth bench slides
    """
    import runpy

    from rnasynth.config import checkout_folder

    folder = (checkout_folder() or Path.cwd()) / "benchmarks"
    if not (folder / "__main__.py").exists():
        raise InputError("rnasynth bench", expected="the folder benchmarks/ of a checkout", found=f"none at {folder}")
    sys.path.insert(0, str(folder.parent))
    sys.argv = ["benchmarks", *(names or [])]
    runpy.run_module("benchmarks", run_name="__main__")


INTERRUPTED, TERMINATED = 130, 143  # 128 + the signal, as shells count


def main() -> None:
    """Run the command line and leave with its exit code."""
    arguments = sys.argv[1:]
    with suppress(ValueError):  # only the main thread may; a batch system's SIGTERM then ends like Ctrl-C, cleaning up
        signal.signal(signal.SIGTERM, _stop)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell's background job has it
            signal.signal(signal.SIGINT, _stop)
    debug = "--debug" in arguments
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        _run(arguments, debug)
    except KeyboardInterrupt as interrupt:
        _interrupted(interrupt)


def _run(arguments: list[str], debug: bool) -> None:
    try:
        app(args=["--debug", *(a for a in arguments if a != "--debug")] if debug else arguments, standalone_mode=True)
    except SystemExit as ended:  # typer turns an interrupt into this
        if ended.code == INTERRUPTED:
            raise KeyboardInterrupt from ended.__context__
        raise
    except (RnasynthError, OSError, MemoryError, RuntimeError) as error:
        told = _told(error)
        if debug or told is None:
            raise
        typer.echo(f"rnasynth: {told}" + ("" if told.fix else f"; see {_help_of(arguments)}"), err=True)
        raise SystemExit(told.exit_code) from error


def _stop(number: int, _: object) -> NoReturn:
    _ignore_signals()  # a second one must not break what tidies up
    raise KeyboardInterrupt(number)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _interrupted(interrupt: BaseException) -> NoReturn:
    _ignore_signals()
    typer.echo("rnasynth: interrupted; what is finished is kept, the same command goes on from there", err=True)
    chain: BaseException | None = interrupt
    while chain is not None:  # typer leaves its own exceptions between
        if signal.SIGTERM in chain.args:
            raise SystemExit(TERMINATED)
        chain = chain.__cause__ or chain.__context__
    raise SystemExit(INTERRUPTED)


def _told(error: Exception) -> RnasynthError | None:
    """Return the error as a user reads it; None for a fault of the program itself."""
    if isinstance(error, RnasynthError):
        return error
    if isinstance(error, OSError):
        return of_system(error)
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or type(error).__name__ == "OutOfMemoryError":
        return InputError(
            "memory",
            expected="enough for this input and configuration",
            found=str(error).strip().partition("\n")[0] or "too little",
            fix="give less at a time, choose a smaller preset or batch, or use a machine with more",
        )
    return None


def _help_of(arguments: list[str]) -> str:
    """Return the command that explains a call."""
    names = [argument for argument in arguments if not argument.startswith("-")]
    count = 2 if names[:1] == ["ratings"] else 1
    return " ".join(["rnasynth", *names[:count], "--help"])


if __name__ == "__main__":
    main()
