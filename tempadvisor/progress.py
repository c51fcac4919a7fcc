"""A progress bar on stderr, for whatever takes long; silent where nobody watches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol


class Progress(Protocol):
    """Told of the work done, the work there is, and what is known by now."""

    def __call__(self, done: int, available: int | None, said: str = "") -> None: ...


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Progress | None]:
    """Yield a function to call with the work done and the work there is; None when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    columns = (
        TextColumn(title),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:,.0f}{task.fields[of]}"),
        TimeRemainingColumn(),
        # the one column that is cut where the terminal is narrow
        TextColumn(
            "{task.fields[said]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
        task = bar.add_task(title, total=None, of="", said="")

        def report(done: int, available: int | None, said: str = "") -> None:
            of = "" if available is None else f" of {available:,}"
            bar.update(task, completed=done, total=available, of=of, said=said)

        yield report
