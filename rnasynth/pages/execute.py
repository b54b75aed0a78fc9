"""Execute one page in a clean kernel: `python -m rnasynth.pages.execute SOURCE OUT PARAMETERS.json`.

A process of its own, so that pages can run at the same time, each with its threads, and a page that dies takes nothing
with it. The executed page appears as `OUT/page.ipynb` only if every cell ran; else it is kept as `OUT/failed.ipynb`.
"""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

from rnasynth.files import read_json, replace
from rnasynth.pages.notebooks import check_parameters, read_page

FAILED, DONE = "failed.ipynb", "page.ipynb"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def execute(source: Path, out: Path, parameters: dict[str, object]) -> str:
    """Run one page, and return "" or, in one line, which cell failed with what.

    Parameters
    ----------
    source : the page's percent text.
    out : its folder.
    parameters : values for its parameters cell; unknown ones are an InputError.
    """
    import nbclient.exceptions
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel

    page = read_page(source)
    values = check_parameters(page, parameters)
    out.mkdir(parents=True, exist_ok=True)
    running = out / ".running.ipynb"
    try:
        papermill.execute_notebook(
            page.notebook,
            str(running),
            parameters=values,
            kernel_name="python3",
            progress_bar=False,
            start_timeout=120,
            cwd=str(source.parent),
            request_save_on_cell_execute=False,
        )
    except papermill.PapermillExecutionError as error:
        replace(running, out / FAILED)
        traceback = _ANSI.sub("", "\n".join(error.traceback))
        print(traceback, file=sys.stderr)
        return f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    except (nbclient.exceptions.DeadKernelError, NoSuchKernel, TimeoutError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    replace(running, out / DONE)
    (out / FAILED).unlink(missing_ok=True)
    return ""


def main() -> int:
    """Read the three arguments, execute, and leave the error's one line as the last line of standard output."""
    logging.basicConfig(level=logging.ERROR)
    source, out, parameters = (Path(argument) for argument in sys.argv[1:4])
    reason = execute(source, out, read_json(parameters))
    if reason:
        print(reason)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
