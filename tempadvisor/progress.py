"""A progress bar on stderr, for whatever takes long; silent where nobody watches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Progress = Callable[[int, int | None], None]


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Progress | None]:
    """Yield a function to call with the work done and the work there is; None when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), TextColumn("{task.completed:,.0f}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def report(done: int, available: int | None) -> None:
            bar.update(task, completed=done, total=available)

        yield report
