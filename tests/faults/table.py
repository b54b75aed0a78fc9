"""The table of faults: what is wrong, how the command ends, which words its message holds, what is kept.

One row is one test of `test_faults.py` and one row of the book's page "What happens when ..." (book/faults.md).

In a call `{good}`, `{bad}` and `{runs}` are folders of the world (`world.py`), `{out}` is a new folder of the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

NOTHING = "nothing is written"
OTHERS = "the other inputs are done"
FINISHED = "what was finished is kept; the same command goes on"
WHOLE = "both end; the result is that of one"
THERE = "what is there stays as it is"
MADE_ANEW = "it is made anew from what was finished"
MEMORY_GIB = 1.0  # a call may take so much more than the process has


@dataclass(frozen=True)
class Fault:
    """One row.

    Attributes
    ----------
    command : of the command line.
    fault : what is wrong, for a reader.
    call : arguments after the command; empty where `situation` names a test of its own.
    code : exit code.
    words : each stands in the message: the subject, what was found, or the remedy.
    kept : what is there afterwards.
    situation : name in `situations.py`, for what needs a process of its own.
    """

    command: str
    fault: str
    call: str = ""
    code: int = 2
    words: tuple[str, ...] = ()
    kept: str = NOTHING
    situation: str = ""

    @property
    def name(self) -> str:
        """Name of the test."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.command} {self.fault}".lower()).strip("-")


FETCH = "--mirror {good}/mirror --to {out}/data"
TILE = "--out {out}/store --slide-mpp 0.5 --tile-px 64"
TRAIN = "beta-vae --cohort {bad}/%s/mine.yaml"
GENERATE = "--run {runs}/gan --out {out}/tiles --tiles-per-profile 1 --expression"
PROFILES = "--run {runs}/gemm --out {out}/made.h5ad --mpp 1 --tiles"
FORM = "--out {out}/form --tiles-per-group 2"
PROFILES_IN = "--expression {good}/profiles.h5ad"
RATERS = "{good}/ann.csv {good}/bob.csv --key"
GROUPS = "x/a={good}/rate/a y/b={good}/rate/b"
ANALYSE = "--key {good}/key.json --out {out}/analysis"
MANIFESTS = (
    ("empty", "empty.yaml", ("empty.yaml",)),
    ("cut short", "cut.yaml", ("cut.yaml", "manifest in YAML")),
    ("web page", "html.yaml", ("html.yaml",)),
    ("image", "png.yaml", ("png.yaml", "manifest in YAML")),
    ("unfolds to 10^9 items", "bomb.yaml", ("bomb.yaml", "alias")),
)

CALLS: tuple[Fault, ...] = (
    # ------------------------------------------------------------------ fetch
    Fault("fetch", "unknown cohort", f"her3st {FETCH}", words=("her3st", "her2st", "check the spelling")),
    Fault("fetch", "empty manifest", f"{{bad}}/empty.yaml {FETCH}", words=("empty.yaml",)),
    Fault("fetch", "manifest cut short", f"{{bad}}/cut.yaml {FETCH}", words=("cut.yaml", "manifest in YAML")),
    Fault("fetch", "web page called .yaml", f"{{bad}}/html.yaml {FETCH}", words=("html.yaml",)),
    Fault("fetch", "image called .yaml", f"{{bad}}/png.yaml {FETCH}", words=("png.yaml", "manifest in YAML")),
    Fault("fetch", "manifest that unfolds to 10^9 items", f"{{bad}}/bomb.yaml {FETCH}", words=("bomb.yaml", "alias")),
    Fault("fetch", "manifest of 5 MB", f"{{bad}}/long.yaml {FETCH}", words=("long.yaml", "4,194,304 bytes")),
    Fault("fetch", "no such mirror", "{good}/files.yaml --mirror {out}/none --to {out}/d", words=("none", "--mirror")),
    Fault("fetch", "data folder that is a file", "{good}/files.yaml --mirror {good}/mirror --to {bad}/empty.txt",
          words=("empty.txt", "folder")),
    Fault("fetch", "unknown group", f"{{good}}/files.yaml {FETCH} --only Z9", words=("Z9",)),
    Fault("fetch", "mirror without a needed file", "{good}/files.yaml --mirror {bad}/mirror_lacks --to {out}/data",
          code=1, words=("two", "not in the mirror"), kept=OTHERS),
    Fault("fetch", "damaged file", "{good}/files.yaml --mirror {bad}/mirror_damaged --to {out}/data",
          code=1, words=("two", "expected sha256", "deleted"), kept=OTHERS),
    Fault("fetch", "file of 200 GB in place of 300 bytes", "{good}/files.yaml --mirror {bad}/mirror_huge --to {out}/data",
          code=1, words=("two", "expected 300 bytes", "214,748,364,800"), kept=OTHERS),
    Fault("fetch", "locks.json cut short", "{good}/files.yaml --mirror {good}/mirror --to {bad}/data_locks",
          words=("locks.json", "delete it"), kept=THERE),
    Fault("fetch", "fetched.json of another kind", "{good}/files.yaml --mirror {good}/mirror --to {bad}/data_record",
          words=("fetched.json", "delete it"), kept=THERE),
    Fault("fetch", "web page in place of a GDC manifest", "tcga --gdc-manifest {bad}/html.txt --to {out}/d",
          words=("html.txt", "portal.gdc.cancer.gov")),
    Fault("fetch", "empty GDC manifest", "tcga --gdc-manifest {bad}/empty.txt --to {out}/d", words=("empty.txt",)),
    Fault("fetch", "GDC manifest cut short", "tcga --gdc-manifest {bad}/cut.txt --to {out}/d", words=("cut.txt",)),
    # ------------------------------------------------------------------ tile
    Fault("tile", "no such slide", f"{{out}}/none.svs {TILE}", words=("none.svs", "no such file", "check the path")),
    Fault("tile", "empty slide", f"{{bad}}/empty.svs {TILE}", words=("empty.svs", "an empty file", "fetch it again")),
    Fault("tile", "slide cut short", f"{{bad}}/cut.png {TILE}", words=("cut.png", "fetch it again")),
    Fault("tile", "web page called .svs", f"{{bad}}/html.svs {TILE}", words=("html.svs", "another kind of file")),
    Fault("tile", "pickle called .tif", f"{{bad}}/pickle.tif {TILE}", words=("pickle.tif", "another kind of file")),
    Fault("tile", "slide that claims 100,000 x 100,000 px", f"{{bad}}/bomb.png {TILE}",
          words=("bomb.png", "100,000 x 100,000", "not decoded")),
    Fault("tile", "one broken slide of two", f"{{bad}}/cut.png {{good}}/section1.png {TILE}",
          code=1, words=("cut", "1 failed", "run it again"), kept=OTHERS),
    Fault("tile", "two slides of one name", f"{{good}}/section1.png {{good}}/../good/section1.png {TILE}",
          words=("section1", "rename")),
    Fault("tile", "image without um/px", "{good}/section1.png --out {out}/store", words=("section1", "--slide-mpp")),
    Fault("tile", "absurd um/px", "{good}/section1.png --out {out}/store --slide-mpp 264", words=("264", "--slide-mpp")),
    Fault("tile", "tiles of a billion px", "{good}/section1.png --out {out}/store --slide-mpp 0.5 --tile-px 1000000000",
          words=("tile_px", "1000000000")),
    Fault("tile", "store that is a file", "{good}/section1.png --slide-mpp 0.5 --out {bad}/empty.txt",
          words=("empty.txt", "folder")),
    Fault("tile", "no workers", f"{{good}}/section1.png {TILE} --workers 0", words=("workers", "1 or more")),
    Fault("tile", "scheduler that is no address", f"{{good}}/section1.png {TILE} --scheduler nonsense",
          words=("nonsense", "scheduler")),
    *(Fault("tile", f"table of patients: {fault}", f"{{good}}/section1.png {TILE} --patients {{bad}}/{file}", words=words)
      for fault, file, words in (
          ("none there", "none.csv", ("none.csv", "no such file")),
          ("empty", "empty.csv", ("empty.csv", "slide_id")),
          ("web page", "html.csv", ("html.csv", "slide_id")),
          ("image", "png.csv", ("png.csv", "slide_id")),
          ("a million columns", "wide.csv", ("wide.csv", "slide_id")),
          ("slide without a row", "half_patients.csv", ("section1", "no row")),
          ("slide with two patients", "two_patients.csv", ("section1", "two_patients.csv")),
          ("row without a patient", "no_patient.csv", ("section1", "no_patient.csv")),
      )),
    # ------------------------------------------------------------------ train
    Fault("train", "unknown system", "beta-vea", words=("beta-vea", "rna-gan")),
    Fault("train", "unknown preset", "beta-vae --preset demmo", words=("demmo", "gpu")),
    Fault("train", "unknown cohort", "beta-vae --cohort her3st", words=("her3st", "her2st")),
    Fault("train", "misspelt field", "beta-vae --set train.sed=1", words=("train.sed", "check the spelling")),
    Fault("train", "field without a value", "beta-vae --set latent", words=("latent", "field=value")),
    Fault("train", "value of the wrong type", "beta-vae --set latent=many", words=("latent", "many")),
    Fault("train", "no such mirror", "beta-vae --cohort her2st --mirror {out}/none", words=("none", "--mirror")),
    Fault("train", "folder of runs that is a file", "beta-vae --cohort {good}/own/mine.yaml --out {bad}/empty.txt",
          words=("empty.txt", "folder"), kept=THERE),
    Fault("train", "network beyond the memory", "beta-vae --cohort {good}/own/mine.yaml --set hidden=[100000000,10]",
          words=("memory",)),
    *(Fault("train", f"manifest: {fault}", f"beta-vae --cohort {{bad}}/{file}", words=words)
      for fault, file, words in MANIFESTS),
    *(Fault("train", f"cohort of one's own, {fault}", TRAIN % file, words=words)
      for fault, file, words in (
          ("empty table of samples", "samples_empty", ("samples.csv", "sample_id")),
          ("web page as table of samples", "samples_html", ("samples.csv", "sample_id")),
          ("image as table of samples", "samples_png", ("samples.csv", "sample_id")),
          ("table of samples with a million columns", "samples_wide", ("samples.csv", "sample_id")),
          ("empty profiles", "expression_empty", ("expression.csv",)),
          ("web page as profiles", "expression_html", ("expression.csv",)),
          ("image as profiles", "expression_png", ("expression.csv",)),
          ("profiles cut short", "expression_cut", ("expression.csv",)),
      )),
    # ------------------------------------------------------------------ generate
    Fault("generate", "neither profiles nor tiles", "--run {runs}/gan --out {out}/x", words=("--expression",)),
    *(Fault("generate", f"profiles: {fault}", f"{GENERATE} {{bad}}/{file}", words=words)
      for fault, file, words in (
          ("none there", "none.h5ad", ("none.h5ad", "no such file")),
          ("empty file", "empty.h5ad", ("empty.h5ad",)),
          ("cut short", "cut.h5ad", ("cut.h5ad",)),
          ("image called .h5ad", "png.h5ad", ("png.h5ad",)),
          ("web page called .h5ad", "html.h5ad", ("html.h5ad",)),
          ("pickle called .h5ad", "pickle.h5ad", ("pickle.h5ad",)),
          ("4 TB claimed by a file of 30 kB", "huge.h5ad", ("huge.h5ad", "GiB")),
          ("a value that is no number", "nan.h5ad", ("NaN",)),
          ("none of the run's genes", "other_genes.h5ad", ("gene alignment", "0 of 60")),
      )),
    *(Fault("generate", f"run: {fault}", f"--run {{bad}}/{file} --out {{out}}/t {PROFILES_IN}", words=words)
      for fault, file, words in (
          ("none there", "run_none", ("run_none", "rnasynth train")),
          ("not finished", "run_unfinished", ("run_unfinished", "run the same command again")),
          ("web page as its manifest", "run_html", ("manifest.json",)),
          ("weights cut short", "run_cut", ("model.safetensors", "train the run again")),
          ("empty weights", "run_empty", ("model.safetensors", "train the run again")),
          ("pickle called .safetensors", "run_pickle", ("model.safetensors", "pickle", "run code")),
      )),
    Fault("generate", "run that makes no tiles", "--run {runs}/vae --out {out}/t --expression {good}/profiles.h5ad",
          words=("makes tiles",)),
    Fault("generate", "no tile asked for", f"--run {{runs}}/gan --out {{out}}/t --tiles-per-profile 0 {PROFILES_IN}",
          words=("tiles_per_profile", "at least 1")),
    Fault("generate", "sampling of a GAN", f"{GENERATE} {{good}}/profiles.h5ad --sampling steps=3", words=("diffusion",)),
    Fault("generate", "folder with other files", "--run {runs}/gan --out {good}/tiles --expression {good}/profiles.h5ad",
          words=("good/tiles", "choose another folder"), kept=THERE),
    Fault("generate", "folder that is a file", "--run {runs}/gan --out {bad}/empty.txt --expression {good}/profiles.h5ad",
          words=("empty.txt", "folder"), kept=THERE),
    *(Fault("generate", f"tiles: {fault}", f"{PROFILES} {{bad}}/{file}", words=words)
      for fault, file, words in (
          ("none there", "none", ("none", "no such folder")),
          ("empty folder", "tiles_none", ("tiles_none", "PNG or JPEG")),
          ("web page called .png", "tiles_html", ("1.png",)),
          ("image cut short", "tiles_cut", ("1.png",)),
          ("image that claims 100,000 x 100,000 px", "tiles_bomb", ("1.png",)),
          ("store with a damaged pointer", "store", ("store", "tile")),
      )),
    *(Fault("generate", f"clinical table: {fault}",
            f"--run {{runs}}/gemm --out {{out}}/made.h5ad --clinical {{bad}}/{file}", words=words)
      for fault, file, words in (
          ("none there", "none.csv", ("none.csv", "no such file")),
          ("empty", "empty.csv", ("empty.csv",)),
          ("web page", "html.csv", ("html.csv",)),
          ("image", "png.csv", ("png.csv",)),
          ("a million columns", "wide.csv", ("wide.csv",)),
      )),
    Fault("generate", "file of profiles that is there",
          "--run {runs}/gemm --out {good}/profiles.h5ad --clinical {good}/clinical.csv",
          words=("profiles.h5ad", "give another name"), kept=THERE),
    Fault("generate", "one draw", "--run {runs}/gemm --out {out}/made.h5ad --draws 1 --clinical {good}/clinical.csv",
          words=("draws", "2 or more")),
    # ------------------------------------------------------------------ book
    Fault("book", "unknown cohort", "--cohort her3st", words=("her3st", "her2st")),
    Fault("book", "unknown preset", "--preset demmo", words=("demmo", "gpu")),
    Fault("book", "unknown page", "--pages 99", words=("99",)),
    Fault("book", "misspelt parameter", "--pages 01 --set sed=1", words=("sed",)),
    Fault("book", "parameter of the wrong type", "--pages 01 --set seed=many", words=("seed", "many")),
    Fault("book", "parameter without a value", "--pages 01 --set seed", words=("seed", "name=value")),
    Fault("book", "no page at a time", "--pages 01 --jobs 0", words=("jobs", "1 or more")),
    Fault("book", "no such mirror", "--cohort her2st --pages 01 --mirror {out}/none", words=("none", "--mirror")),
    *(Fault("book", f"manifest: {fault}", f"--cohort {{bad}}/{file} --pages 01", words=words)
      for fault, file, words in MANIFESTS),
    Fault("book", "cohort of one's own, web page as table of samples", "--cohort {bad}/samples_html/mine.yaml --pages 01",
          words=("samples.csv", "sample_id")),
    # ------------------------------------------------------------------ ratings
    Fault("ratings form", "group without a folder", f"lung/real lung/gan={{good}}/rate/b {FORM}", words=("lung/real",)),
    Fault("ratings form", "no such folder", f"x/a={{out}}/none y/b={{good}}/rate/b {FORM}", words=("none", "folder")),
    Fault("ratings form", "too few images", f"x/a={{bad}}/tiles_none y/b={{good}}/rate/b {FORM}", words=("at least 2",)),
    Fault("ratings form", "image that claims 100,000 x 100,000 px", f"x/a={{bad}}/rate_a y/b={{good}}/rate/b {FORM}",
          words=("rate_a/0.png",)),
    Fault("ratings form", "empty image", f"x/a={{good}}/rate/a y/b={{bad}}/rate_b {FORM}", words=("rate_b/0.png",)),
    *(Fault("ratings form", fault, f"x/a={{bad}}/{folder} y/b={{good}}/rate/b --out {{out}}/form --tiles-per-group 1",
            words=(f"{folder}/s1/1.png",))
      for fault, folder in (("image cut short", "tiles_cut"), ("web page called .png", "tiles_html"))),
    Fault("ratings form", "folder that is a file", f"{GROUPS} --tiles-per-group 2 --out {{bad}}/empty.txt",
          words=("empty.txt", "folder"), kept=THERE),
    Fault("ratings form", "key that is there", f"{GROUPS} {FORM} --key {{good}}/key.json",
          words=("key.json", "choose another"), kept=THERE),
    Fault("ratings form", "key beside the form", f"{GROUPS} {FORM} --key {{out}}/form/key.json",
          words=("key.json", "choose another")),
    *(Fault("ratings analyse", f"key: {fault}", f"{RATERS} {{bad}}/{file} --out {{out}}/a", words=words)
      for fault, file, words in (
          ("none there", "none.json", ("none.json", "no such file")),
          ("empty", "empty.json", ("empty.json",)),
          ("cut short", "cut.json", ("cut.json",)),
          ("web page", "html.json", ("html.json",)),
          ("without tiles", "hollow_key.json", ("hollow_key.json",)),
      )),
    *(Fault("ratings analyse", f"answers: {fault}", f"{{good}}/ann.csv {{bad}}/{file} {ANALYSE}", words=words)
      for fault, file, words in (
          ("none there", "none.csv", ("none.csv", "no such file")),
          ("empty", "empty.csv", ("empty.csv", "study")),
          ("cut short", "cut_answers.csv", ("cut_answers.csv",)),
          ("web page", "html.csv", ("html.csv", "study")),
          ("image", "png.csv", ("png.csv",)),
          ("a million columns", "wide.csv", ("wide.csv", "study")),
      )),
    Fault("ratings analyse", "folder that is a file", f"{RATERS} {{good}}/key.json --out {{bad}}/empty.txt",
          words=("empty.txt", "folder"), kept=THERE),
    # ------------------------------------------------------------------ the rest
    Fault("notebooks", "unknown page", "--out {out}/pages --pages 99", words=("99", "01_cohorts")),
    Fault("notebooks", "folder that is a file", "--out {bad}/empty.txt", words=("empty.txt", "folder"), kept=THERE),
    Fault("doctor", "an argument that it does not take", "everything", words=("everything", "doctor -h")),
    Fault("bench", "unknown benchmark", "none-such", words=("none-such",)),
)  # fmt: skip

DENIED = ("ermission",)
FULL = ("expected room on the disk", "the same command goes on")
STOPPED = ("interrupted; what is finished is kept",)
_NAMES = {  # situation -> command, what it makes
    "fetch": ("fetch", "files"), "tile": ("tile", "store"), "train": ("train", "run"), "generate": ("generate", "tiles"),
    "generate-profiles": ("generate", "profiles"), "form": ("ratings form", "form"),
    "analyse": ("ratings analyse", "analysis"), "notebooks": ("notebooks", "notebooks"),
}  # fmt: skip
_NEEDED = {  # situation -> input, the word of the message that names it
    "tile": ("slide", "section1.png"), "train": ("profiles of one's own cohort", "expression.csv"),
    "generate": ("profiles", "profiles.h5ad"), "generate-run": ("weights of the run", "model.safetensors"),
    "generate-tiles": ("tile", "tiles/s1/1.png"), "generate-profiles": ("clinical table", "clinical.csv"),
    "form": ("image", "rate/a/0.png"), "analyse": ("answers", "bob.csv"),
}  # fmt: skip


def _command(name: str) -> str:
    return _NAMES[name if name in _NAMES else name.partition("-")[0]][0]


def _which(name: str) -> str:
    """Tell apart the two things that `generate` makes."""
    return f" ({_NAMES[name][1]})" if _NAMES[name][0] == "generate" else ""


SITUATIONS: tuple[Fault, ...] = (
    *(Fault(command, f"no permission to write the {what}", words=DENIED, situation=f"{name}-permission")
      for name, (command, what) in _NAMES.items()),
    Fault("fetch", "file of the mirror that may not be read", code=1, words=DENIED, kept=OTHERS,
          situation="fetch-unreadable"),
    *(Fault(_command(name), f"{what} that may not be read", words=(where,), situation=f"{name}-unreadable")
      for name, (what, where) in _NEEDED.items()),
    *(Fault(command, f"disk full while it writes the {what}", code=1, kept=FINISHED, situation=f"{name}-full",
            words=(*FULL, "section1.partial") if name == "tile" else FULL)
      for name, (command, what) in _NAMES.items()),
    *(Fault(command, f"Ctrl-C twice, then SIGTERM (143){_which(name)}", code=130, words=STOPPED, kept=FINISHED,
            situation=f"{name}-interrupted") for name, (command, _) in _NAMES.items()),
    *(Fault(command, f"two at once, same call{_which(name)}", code=0, kept=WHOLE, situation=f"{name}-at-once")
      for name, (command, _) in _NAMES.items() if name not in ("tile", "form")),
    Fault("ratings form", "two at once, same call: the second", words=("does not exist yet",), kept=THERE,
          situation="form-at-once"),
    Fault("tile", "slide that another process writes", words=("one writer at a time",), situation="tile-held"),
    Fault("doctor", "data folder that may not be looked into", code=0, words=("NO PERMISSION", "RNASYNTH_DATA"),
          situation="doctor-closed"),
    Fault("book", "page that fails", code=1, words=("cell 4: ValueError: the slide C2 is bent", "01_first/failed.ipynb"),
          kept=OTHERS, situation="book-failed"),
    Fault("book", "Ctrl-C twice while a page's kernel runs, then SIGTERM (143)", code=130, words=STOPPED,
          kept="pages that were finished are kept; no process is left", situation="book-interrupted"),
    Fault("book", "disk full while a page runs", code=1, words=("page 02_second", "book-full", *FULL), kept=FINISHED,
          situation="book-full"),
    Fault("book", "disk full while the book is rendered", code=1, words=("book-render", *FULL), kept=FINISHED,
          situation="book-render-full"),
    Fault("book", "no permission to write the build folder", words=("book-locked/new", "there/build/mine-demo", *DENIED),
          situation="book-permission"),
    Fault("book", "no permission to write one page's folder", code=1, words=("02_second", *DENIED), kept=OTHERS,
          situation="book-page-permission"),
    Fault("book", "record of the build cut short", code=0, words=("01_first: kept", "02_second: kept"), kept=MADE_ANEW,
          situation="book-record"),
    Fault("book", "build folder in which another process works", words=("one process at a time",), situation="book-held"),
)  # fmt: skip

TABLE = CALLS + SITUATIONS


def markdown(rows: Iterable[Fault] = TABLE) -> str:
    """Return the page's tables, one a command, in the order of the table."""
    rows = list(rows)
    parts = []
    for command in dict.fromkeys(row.command for row in rows):
        parts += [f"## `rnasynth {command}`", "", "| what is wrong | exit code | afterwards |", "|---|---|---|"]
        parts += [f"| {row.fault} | {row.code} | {row.kept} |" for row in rows if row.command == command]
        parts.append("")
    return "\n".join(parts)
