"""The command `tempadvisor verify`: parse, call one public function, render, exit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tempadvisor.console import AsJson, PlainCommand, check_place, show, write_export
from tempadvisor.errors import UsageError
from tempadvisor.flags import (
    ClassMapOption,
    ConfigOption,
    DataOption,
    ExportOption,
    ModelOption,
    PreprocessOption,
    ReportOption,
    TeacherArgument,
    setup_flags,
)
from tempadvisor.progress import progress_bar

DEMO_BUDGET = "40"
app = typer.Typer(
    name="verify",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(cls=PlainCommand, epilog="Try: tempadvisor verify --demo")
@setup_flags
def verify(
    *,
    flags: dict[str, Any],
    teacher: TeacherArgument = None,
    data: DataOption = None,
    model: ModelOption = None,
    class_map: ClassMapOption = None,
    preprocess: PreprocessOption = None,
    demo: Annotated[bool, typer.Option("--demo", help="Verify the advice for a digits teacher.")] = False,
    config: ConfigOption = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="N", help="Trainings at most, 10 if not given; or 600epochs, 30minutes in all."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Write the runs as CSV, for knowledge add.")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE.svg", help="Draw accuracy over temperature, before and after.")
    ] = None,
    report: ReportOption = None,
    proxy: Annotated[
        str | None, typer.Option(metavar="X", help="Share of the epochs that students train; 1 if not given.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the study is kept: a file, or a database's URL.")
    ] = None,
    jobs: Annotated[str | None, typer.Option(metavar="N", help="Processes on this machine; 1 if not given.")] = None,
    join: Annotated[str | None, typer.Option(metavar="STUDY", help="Work on a study that has begun.")] = None,
    seed: Annotated[str | None, typer.Option(metavar="N", help="Seed of the split; 0 if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study that has begun.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be trained.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a better temperature is found.")] = False,
    export: ExportOption = None,
    as_json: AsJson = False,
) -> None:
    """Confirm the recommended temperature by training a few students."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does: workers stop, trainings are kept
    given = [
        one
        for one in (teacher, data, model, class_map, preprocess, config, seed, proxy, *flags.values())
        if one is not None
    ]
    if join is not None:
        more = (budget, output, plot, report, jobs, demo, resume, dry_run, strict, export)
        _join(join, storage, as_json, given or any(more))
        return
    if demo and given:
        raise UsageError("--demo brings its own teacher, data and setup. Leave all others out.", code="contradiction")
    if not demo and (teacher is None or data is None):
        raise UsageError(
            "verify needs a teacher, data and a student: 'tempadvisor verify my_teachers:best --data photos/ "
            "--student resnet20 --optimizer sgd --lr 0.1 --epochs 60 --batch-size 128', "
            "or 'tempadvisor verify --demo'.",
            code="nothing_given",
        )
    if export is not None:
        _check_export(export, as_json or dry_run)
    check_place("-o", output, ".csv")
    check_place("--plot", plot, ".svg")
    check_place("--report", report, ".html")
    from tempadvisor import plans
    from tempadvisor import verify as verifying
    from tempadvisor.case import DEMO, Task
    from tempadvisor.documents import read_setup

    n_jobs, split_seed = _whole(jobs, "--jobs", 1, low=1), _whole(seed, "--seed", 0, low=0)
    if demo:
        task = DEMO
    else:
        setup = read_setup(None if config is None else Path(config), flags)
        task = Task(
            teacher=str(teacher),
            data=str(data),
            setup=setup,
            model=model,
            class_map=class_map,
            preprocess=preprocess,
            seed=split_seed,
            proxy=_share(proxy),
        )
    reservoir = None
    if report is not None:
        from tempadvisor.exhibits import Reservoir

        reservoir = Reservoir()
    amount = DEMO_BUDGET if demo and budget is None and not resume else budget
    with _kept(storage, demo=demo) as place:
        if dry_run:
            plan = plans.plan(task, budget="10" if amount is None else amount, storage=place, jobs=n_jobs)
            if demo and storage is None:
                plan = dataclasses.replace(plan, storage="a temporary file")
            show(plan, as_json, lambda: _rendered().plan(plan, next_command=_again()))
            return
        with (
            _interruptible(as_json, kept=not demo or storage is not None),
            progress_bar("Training students") as progress,
        ):
            found = verifying.verify(
                task,
                budget=amount,
                storage=place,
                jobs=n_jobs,
                resume=resume,
                out=Path(output) if output else None,
                report=progress,
                reservoir=reservoir,
            )
    if plot is not None:
        from tempadvisor.documents import write_text
        from tempadvisor.pictures import verification_svg

        write_text(Path(plot), verification_svg(found))
    if report is not None:
        from tempadvisor.report import write_page

        write_page(found, Path(report), reservoir=reservoir)
    if export is None:
        kept = not demo or storage is not None
        show(found, as_json, lambda: _rendered().verification(found, output=output, kept=kept))
    else:
        from tempadvisor import export as exports
        from tempadvisor.settings import settings

        verified = settings(found.recommendation, temperature=found.temperature, headline=found.headline)
        write_export(exports.export(verified, export))
    if strict and found.verdict == "better_found":
        raise typer.Exit(1)


def _check_export(form: str, more: bool) -> None:
    from tempadvisor.export import check_format

    check_format(form)
    if more:
        raise UsageError(
            "--export prints the settings alone: leave out --json and --dry-run. --export json is an object.",
            code="contradiction",
        )


def _join(study: str, storage: str | None, as_json: bool, more: object) -> None:
    from tempadvisor.verify import join

    if storage is None or more:
        raise UsageError(
            "--join STUDY must come with --storage URL alone; the study knows all else.", code="contradiction"
        )
    with progress_bar("Training students") as report:
        n = join(study, storage, report)
    print(f"{n} students trained here. The verdict comes from the first command with --resume.", file=sys.stderr)
    if as_json:
        show({"study": study, "trained": n}, as_json, str)


def _rendered() -> Any:
    from tempadvisor import render_verify

    return render_verify


def _again() -> str:
    """Return this command without --dry-run, and without the password of the storage."""
    from tempadvisor.study import public

    return shlex.join(["tempadvisor", *(public(word) for word in sys.argv[1:] if word != "--dry-run")])


@contextlib.contextmanager
def _interruptible(as_json: bool, *, kept: bool) -> Iterator[None]:
    """Say how to go on after Ctrl-C, where something is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not (kept and stop.args):  # nothing has begun
            raise
        line = f"Interrupted. {stop}"
        told = json.dumps({"code": "interrupted", "message": line}) if as_json else f"tempadvisor: {line}"
        print(told, file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def _kept(storage: str | None, *, demo: bool) -> Iterator[str | None]:
    """Yield where the study is kept; a demo's own is not."""
    if storage is not None or not demo:
        yield storage
        return
    with tempfile.TemporaryDirectory() as folder:
        yield f"journal:///{folder}/demo.journal"


def _share(text: str | None) -> float:
    try:
        return float(text or 1)
    except ValueError:
        raise UsageError(f"--proxy must be a number. Got {str(text)[:60]!r}.", code="bad_number") from None


def _whole(text: str | None, flag: str, default: int, *, low: int) -> int:
    if text is None:
        return default
    if not text.isdecimal() or int(text) < low or int(text) > 10**9:
        raise UsageError(f"{flag} must be a whole number of at least {low}. Got {text[:60]!r}.", code="bad_number")
    return int(text)
