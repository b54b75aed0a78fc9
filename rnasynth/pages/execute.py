"""Execute one page in a clean kernel: `python -m rnasynth.pages.execute SOURCE OUT PARAMETERS.json`.

A process of its own, so that pages can run at the same time, each with its threads, and a page that dies takes nothing
with it. The executed page appears as `OUT/page.ipynb` only if every cell ran; else it is kept as `OUT/failed.ipynb`.
Exit codes: 0 executed, 1 a cell failed, 3 no room on a disk.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from pathlib import Path

from rnasynth.errors import is_full, of_system
from rnasynth.files import TEMPORARY_SUFFIX, read_json, replace
from rnasynth.pages.notebooks import check_parameters, read_page

FAILED, DONE = "failed.ipynb", "page.ipynb"
DISK_FULL = 3  # exit code
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def execute(source: Path, out: Path, parameters: dict[str, object]) -> str:
    """Run one page, and return "" or, in one line, which cell failed with what.

    Parameters
    ----------
    source : the page's percent text.
    out : its folder.
    parameters : values for its parameters cell; unknown ones are an InputError.

    Raises
    ------
    OSError : the page could not be written, or a cell found a disk full.
    """
    import nbclient.exceptions
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel

    page = read_page(source)
    values = check_parameters(page, parameters)
    out.mkdir(parents=True, exist_ok=True)
    running = out / f".page{TEMPORARY_SUFFIX}.ipynb"
    failure = ""
    try:
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
            print(_ANSI.sub("", "\n".join(error.traceback)), file=sys.stderr)
            failure = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
            if is_full(error):
                raise OSError(errno.ENOSPC, failure) from None
        with open(running, "rb+") as handle:
            os.fsync(handle.fileno())
        replace(running, out / (FAILED if failure else DONE))
    except (nbclient.exceptions.DeadKernelError, NoSuchKernel, TimeoutError, RuntimeError) as error:
        failure = f"{type(error).__name__}: {error}"
    finally:
        running.unlink(missing_ok=True)
    return failure


def main() -> int:
    """Read the three arguments, execute, and leave the error's one line as the last line of standard output."""
    logging.basicConfig(level=logging.ERROR)
    source, out, parameters = (Path(argument) for argument in sys.argv[1:4])
    try:
        reason = execute(source, out, read_json(parameters))
    except OSError as error:
        print(f"{error.filename or out}: {error.strerror or error}" if is_full(error) else of_system(error))
        return DISK_FULL if is_full(error) else 1
    if reason:
        print(reason)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
