"""What a notebook of the book talks to: it resolves the parameters, keeps the results, and ends with their provenance.

Examples
--------
In a notebook, after its parameters cell::

    page = Page.open("04_beta_vae", preset=preset, cohort=cohort, seed=seed, out=out)
    page.number("rmse_test", interval, unit="z-score", label="RMSE on test patients")
    page.figure(plots.latent_scatter(latent, tissue), "latent", caption="...", alt="...")
    page.verdicts()
    page.close(runs=[run])
"""

from __future__ import annotations

import html
import io
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from rnasynth.config import check_preset
from rnasynth.errors import InputError
from rnasynth.files import write_bytes, write_json
from rnasynth.pages import provenance, quiz_sheets, show, tables
from rnasynth.pages.notebooks import notebooks_folder, read_page
from rnasynth.pages.parameters import build_folder, cells_so_far, check_cells, check_cohort, options_of
from rnasynth.pages.recorded import Record, read_records, record_table, recorded_folder, write_record
from rnasynth.pages.tables import Number, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rnasynth.data.cohort import Cohort

FIGURE_DPI = 200  # twice the 100 dpi that the book's figures are laid out for
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


class Reported(Protocol):
    """What evaluations give back: numbers or intervals by name, and what each is."""

    @property
    def numbers(self) -> Mapping[str, Any]:
        """Number or interval by name."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What each is, for readers."""


class Page:
    """The results of one page while it runs. Made by `Page.open`, ended by `Page.close`.

    Attributes
    ----------
    name : the page's name, such as "04_beta_vae".
    preset, cohort_name, seed : the resolved parameters.
    data : what the numbers were measured on, where that is not the cohort; else empty.
    parameters : further parameters of the page, for its provenance.
    folder : where results.json and figures/ go.
    numbers : the numbers so far, by name.
    """

    def __init__(
        self, name: str, *, preset: str, cohort: str, seed: int, folder: Path, parameters: Mapping[str, Any], data: str = ""
    ) -> None:
        self.name, self.preset, self.cohort_name, self.seed, self.folder = name, preset, cohort, seed, folder
        self.data = data
        self.parameters = dict(parameters)
        self.numbers: dict[str, Number] = {}
        self._figures: list[dict[str, str]] = []
        self._tables: list[str] = []
        self._not_converged: list[str] = []
        self._verdicts: list[Verdict] = []
        self._quiz: list[str] = []
        self._banner = ""
        self._cohort: Cohort | None = None
        self._started, self._clock = provenance.now(), time.monotonic()
        self._closed = False

    @classmethod
    def open(
        cls, name: str, *, preset: str, cohort: str, seed: int = 0, out: str | Path = "", data: str = "", **parameters: Any
    ) -> Page:
        """Check the page's parameters and make its folder.

        Parameters
        ----------
        name : the page's name.
        preset : "demo", "gpu" or "paper".
        cohort : a cohort's name, or the path of a manifest.
        seed : 0 or more.
        out : folder for results.json and figures/; empty: `build/<cohort>-<preset>/<name>`.
        data : for a page that uses no cohort: its data, in the word of the published rows' column `cohort`.
        **parameters : the page's other parameters, kept with the results.

        Raises
        ------
        InputError : unknown preset or cohort, a name that is no page name, a negative seed; in a notebook, a parameter that
            papermill put in and the page does not have, or one of another type.
        """
        if not _NAME.fullmatch(name):
            raise InputError(f"page {name!r}", expected="a name like 04_beta_vae", found=repr(name))
        check_cells(name, cells_so_far())
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise InputError(f"page {name}, seed", expected="an integer of 0 or more", found=repr(seed))
        check_preset(preset)
        check_cohort(cohort)
        folder = Path(out) if str(out) else build_folder(cohort, preset) / name
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        return cls(name, preset=preset, cohort=cohort, seed=seed, folder=folder, parameters=parameters, data=data)

    @property
    def cohort(self) -> Cohort:
        """The cohort, loaded and announced with its banner on first use."""
        return self._cohort if self._cohort is not None else self.load()

    def load(self, given: str = "", **options: Any) -> Cohort:
        """Load the page's cohort, and show its banner and notes.

        Parameters
        ----------
        given : options of the cohort's builder as a page's parameter has them: "profiles=all,sections=C2+C3"; a "+" makes
            a list.
        **options : of `load_cohort`.

        Raises
        ------
        InputError : `given` is not of that form, or an option is unknown.
        """
        from rnasynth.data.cohort import load_cohort

        self._cohort = load_cohort(self.cohort_name, seed=self.seed, **options_of(given), **options)
        lines = [self._cohort.banner or f"Cohort: {self._cohort.name}."]
        if self._cohort.simulated and "SIMULATED" not in lines[0]:
            lines.insert(0, "SIMULATED DATA: nothing on this page was measured on a patient.")
        if self.preset == "demo":
            lines.append("Demo preset: minutes on two CPU cores. Read it as a check of the method's path, not its quality.")
        self._banner = " ".join(lines)
        show.admonition("warning" if self._cohort.simulated else "important", self._banner)
        for note in self._cohort.notes:
            show.admonition("note", note)
        return self._cohort

    def number(
        self,
        name: str,
        value: Any,
        *,
        low: float | None = None,
        high: float | None = None,
        n: int | None = None,
        unit: str = "",
        label: str = "",
        paper: str = "",
        metric: str = "",
        against: float = 0.0,
    ) -> None:
        """Keep a named number at full precision.

        Parameters
        ----------
        name : unique on the page, such as "rmse_test".
        value : a finite number, or an interval with `value`, `low`, `high`, `n` and `method`.
        low, high, n : interval and number of independent units, where `value` is a plain number.
        unit, label : for readers.
        paper : id of the published row it answers, if that is not `name`.
        metric : how it was measured, in the words of the published row; without it a number can only show a direction.
        against : what a published direction ("higher", "lower") is judged against: 0 for a difference or a correlation,
            else the page's own reference, such as the baseline's error.

        Raises
        ------
        InputError : the name is taken or malformed, the value is not finite, or lies outside its interval.
        """
        self._check_open()
        subject = f"page {self.name}, number {name}"
        if not _NAME.fullmatch(name) or name in self.numbers:
            raise InputError(subject, expected="a new name of a-z, 0-9 and _", found=repr(name))
        method = ""
        if hasattr(value, "low") and hasattr(value, "high"):
            low, high, n = value.low, value.high, value.n if n is None else n
            method, value = str(getattr(value, "method", "")), value.value
        ends = [None if end is None else float(end) for end in (low, value, high)]
        if any(end is not None and not math.isfinite(end) for end in ends):
            raise InputError(subject, expected="finite numbers", found=str(ends), fix="say why with page.note instead")
        number = Number(
            value=float(value),
            low=ends[0],
            high=ends[2],
            n=None if n is None else int(n),
            unit=unit,
            label=label,
            method=method,
            paper=paper,
            metric=metric,
            against=float(against),
        )
        self.numbers[name] = number

    def report(self, report: Reported, *, unit: str = "") -> None:
        """Keep all numbers of an evaluation's report under their own names, with its labels; `unit` is that of all."""
        for name, value in report.numbers.items():
            self.number(name, value, unit=unit, label=report.labels[name])

    def figure(self, figure: Figure, name: str, *, caption: str, alt: str, n: int | str | None = None) -> None:
        """Save a figure at twice its size, show it with its caption and alternative text, and close it.

        Parameters
        ----------
        figure : a matplotlib figure.
        name : file name without suffix, unique on the page.
        caption : what is seen, in Markdown; n (here or in the text), cohort, preset and seed are appended.
        alt : the figure in words, for who cannot see it.
        n : how many of what, such as "40 test patients".

        Raises
        ------
        InputError : a name that is taken or malformed, or an empty caption or alt text.
        """
        import matplotlib.pyplot as plt

        self._check_open()
        subject = f"page {self.name}, figure {name}"
        if not _NAME.fullmatch(name) or any(entry["name"] == name for entry in self._figures):
            raise InputError(subject, expected="a new name of a-z, 0-9 and _", found=repr(name))
        if not caption.strip() or not alt.strip():
            raise InputError(subject, expected="a caption and an alternative text", found="none")
        facts = [f"n = {n}"] if n is not None else []
        facts += [
            f"data {self.data}" if self.data else f"cohort {self.cohort_name}",
            f"preset {self.preset}",
            f"seed {self.seed}",
        ]
        whole = f"{show.one_line(caption)} ({', '.join(facts)}.)"
        if self._not_converged:
            whole = f"**Not converged.** {whole}"
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=FIGURE_DPI, bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
        path = self.folder / "figures" / f"{name}.png"
        write_bytes(path, buffer.getvalue())
        self._figures.append({"name": name, "file": f"figures/{name}.png", "caption": whole, "alt": show.one_line(alt)})
        show.picture(f"{self.name}/figures/{path.name}", buffer.getvalue(), caption=whole, alt=show.one_line(alt))

    def table(self, table: pd.DataFrame, *, caption: str) -> None:
        """Show a table with its caption; a named index is shown, numbers with four significant digits."""
        self._check_open()
        self._tables.append(show.one_line(caption))
        page_html = f"<p><strong>{html.escape(caption)}</strong></p>{tables.html_table(table)}"
        show.display(f"**{show.one_line(caption)}**\n\n{tables.markdown_table(table)}", page_html)

    def note(self, text: str) -> None:
        """Show a remark, in Markdown."""
        show.admonition("note", text)

    def not_converged(self, reason: str) -> None:
        """Say that the page's own proof failed: every later figure is marked, and the status page shows it."""
        self._check_open()
        self._not_converged.append(reason)
        show.admonition("caution", f"**Not converged.** {reason}")

    def quiz(self, model: str, *, real: Any, made: Any, mpp_um: float, handling: str) -> None:
        """Leave tiles for the book's quiz; arguments and errors as in `quiz_sheets.write_sheet`."""
        self._check_open()
        simulated = self._cohort is not None and self._cohort.simulated
        sheet = quiz_sheets.write_sheet(
            self.folder,
            model,
            real=real,
            made=made,
            mpp_um=mpp_um,
            handling=handling,
            banner=self._banner,
            simulated=simulated,
        )
        self._quiz.append(str(sheet.relative_to(self.folder)))
        text = f"For the quiz: {len(real)} real tiles and {len(made)} of {model}, {real.shape[1]} px of {mpp_um:.4g} µm."
        show.display(text, f"<p>{html.escape(text)}</p>")

    def verdicts(self, because: Mapping[str, str] | None = None) -> None:
        """Judge the published numbers of this page by the numbers so far, and show paper / here / verdict.

        Parameters
        ----------
        because : for the id of a published row, the reason to stand in "differs, because" or "not attempted, because".
        """
        self._check_open()
        rows = tables.published(self.name)
        self._verdicts = tables.verdicts(
            self.numbers, rows, cohort=self.data or self.cohort_name, preset=self.preset, because=because
        )
        if self._verdicts:
            self.table(tables.verdict_table(self._verdicts), caption="Published, and here")
        else:
            self.note("No published number belongs to this page.")

    def record(self, name: str, *, title: str, run: Any, test: pd.DataFrame) -> None:
        """Keep a run's metrics and test errors in `book/recorded/<page>/<name>`; arguments and errors of `write_record`."""
        self._check_open()
        folder = recorded_folder(self.name) / re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        write_record(folder, title=title, run=run, cohort=self.cohort, test=test)

    def recorded(self, numbers: Mapping[str, str], *, caption: str, fields: Sequence[str] = ()) -> list[Record]:
        """Show the recorded results of this page, each labelled with its cohort, device, time and commit.

        Parameters
        ----------
        numbers : name in a record's summary -> heading of its column.
        caption : of the table.
        fields : of the configuration that are shown too.

        Returns
        -------
        The records, by name; empty, and said so, where there are none.
        """
        self._check_open()
        records = read_records(self.name)
        if records:
            self.table(record_table(records, numbers, fields), caption=caption)
        else:
            self.note("No recorded results of longer runs yet.")
        return records

    def close(self, runs: Sequence[Any] = ()) -> None:
        """Write results.json, atomically, and show the provenance.

        Parameters
        ----------
        runs : the runs that the page used (objects with an `id`, or ids).
        """
        self._check_open()
        head, dirty = provenance.commit()
        seconds = time.monotonic() - self._clock
        fingerprint = self._cohort.fingerprint() if self._cohort is not None else ""
        command = provenance.remake_command(
            self.name, cohort=self.cohort_name, preset=self.preset, seed=self.seed, parameters=self._changed_parameters()
        )
        results = {
            "page": self.name,
            "cohort": self.cohort_name,
            "preset": self.preset,
            "seed": self.seed,
            "parameters": self.parameters,
            "numbers": {name: _fields(number) for name, number in self.numbers.items()},
            "figures": self._figures,
            "tables": self._tables,
            "not_converged": self._not_converged,
            "quiz": self._quiz,
            "verdicts": [_fields(verdict) for verdict in self._verdicts],
            "runs": [str(getattr(run, "id", run)) for run in runs],
            "provenance": {
                "commit": head,
                "dirty": dirty,
                "cohort_fingerprint": fingerprint,
                "device": provenance.device(),
                "versions": provenance.versions(),
                "started": self._started,
                "seconds": round(seconds, 2),
                "peak_memory_mb": round(provenance.peak_memory_mb(), 1),
                "command": command,
            },
        }
        write_json(self.folder / "results.json", results)
        self._closed = True
        shown = tables.provenance_table(results, data=self.data)
        show.display(tables.markdown_table(shown), tables.html_table(shown))

    def _changed_parameters(self) -> dict[str, Any]:
        """Parameters that differ from the page in git (all of them, for a page that lies elsewhere)."""
        source = notebooks_folder() / f"{self.name}.py"
        defaults = read_page(source).parameters if source.is_file() else {}
        return {name: value for name, value in self.parameters.items() if name not in defaults or defaults[name] != value}

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"page {self.name}", expected="an open page", found="page.close() was called before")


def _fields(record: Number | Verdict) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if value not in (None, "")}
