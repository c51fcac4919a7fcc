"""The command line: parse, call one public function, render, exit.

stdout is data, stderr is everything else. Exit codes: 0 done, 1 a check failed, 2 wrong usage or input.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

import tempadvisor
from tempadvisor.console import AsJson, PlainCommand, PlainGroup, check_place, show, write, write_export
from tempadvisor.errors import TempAdvisorError, UsageError, one_line
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
from tempadvisor.records import LOGITS_FROM, SETUP_COLUMNS

if TYPE_CHECKING:
    from tempadvisor.exhibits import Reservoir
    from tempadvisor.records import Recommendation, TeacherProfile


class Commands(PlainGroup):
    """All commands; some are built when asked for only, as that takes time which `recommend` has not."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        self._complete()
        return super().list_commands(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names, and the other words."""
        if args[0] not in self.commands:
            self._complete()
        return super().resolve_command(ctx, args)

    def _complete(self) -> None:
        from tempadvisor.cli_knowledge import app as knowledge
        from tempadvisor.cli_loss import app as check_loss
        from tempadvisor.cli_verify import app as verify

        more = {"verify": verify, "knowledge": knowledge, "check-loss": check_loss}
        self.commands = {**self.commands, **{name: typer.main.get_command(one) for name, one in more.items()}}


app = typer.Typer(
    name="tempadvisor",
    cls=Commands,
    help="Recommend the temperature for knowledge distillation before anyone trains.",
    epilog="Try: tempadvisor recommend --demo",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def tempadvisor_command(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Recommend the temperature for knowledge distillation before anyone trains."""
    if version:
        write(f"tempadvisor {tempadvisor.__version__}")
    elif context.invoked_subcommand is None:
        write(context.get_help())


@app.command(
    cls=PlainCommand,
    epilog="Example: tempadvisor recommend logits.npz --logits-from train --epochs 100",
)
@setup_flags
def recommend(
    *,
    flags: dict[str, Any],
    teacher: TeacherArgument = None,
    data: DataOption = None,
    model: ModelOption = None,
    class_map: ClassMapOption = None,
    preprocess: PreprocessOption = None,
    demo: Annotated[bool, typer.Option("--demo", help="Answer for an embedded digits teacher.")] = False,
    config: ConfigOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show everything the answer rests on.")] = False,
    knowledge_version: Annotated[
        str | None, typer.Option(metavar="V", help="Answer as this version of the knowledge did.")
    ] = None,
    export: ExportOption = None,
    report: ReportOption = None,
    as_json: AsJson = False,
) -> None:
    """Recommend a KD temperature for a teacher and a training setup."""
    from tempadvisor.advise import recommend as advise
    from tempadvisor.documents import read_setup
    from tempadvisor.teachers import demo_profile, on_inputs, profile_of

    if demo and teacher is not None:
        raise UsageError(f"--demo brings its own teacher. Got {teacher} too; leave one out.", code="contradiction")
    if teacher is None and any(given is not None for given in (data, model, class_map, preprocess)):
        raise UsageError(
            "--data and --model must come with the TEACHER they belong to, as must --class-map and --preprocess. "
            "Got none: 'tempadvisor recommend resnet18 --data images/'.",
            code="contradiction",
        )
    if not demo and teacher is None and config is None and all(value is None for value in flags.values()):
        raise UsageError(
            "recommend needs a teacher, setup flags, or both: 'tempadvisor recommend logits.npz --optimizer sgd "
            "--epochs 100', or 'tempadvisor recommend --demo'.",
            code="nothing_given",
        )
    check_place("--report", report, ".html")
    if export is not None:
        _check_export(export, as_json or explain)
    setup = read_setup(None if config is None else Path(config), flags)
    measured, reservoir = None, _reservoir(report)
    if demo:
        measured = on_inputs(demo_profile(reservoir), setup.logits_from)
    elif teacher is not None:
        with progress_bar("Profiling the teacher") as progress:
            measured = profile_of(
                teacher,
                data=data,
                model=model,
                class_map=class_map,
                preprocess=preprocess,
                logits_from=setup.logits_from,
                progress=progress,
                reservoir=reservoir,
            )
    advice = advise(measured, setup, knowledge_version=knowledge_version)
    _write_page(advice, report, reservoir)
    if export is not None:
        from tempadvisor import export as exports
        from tempadvisor.settings import settings

        write_export(exports.export(settings(advice), export))
        return

    def layout() -> str:
        from tempadvisor import render

        named = ["--demo"] if demo else _named(teacher, data, model, class_map, preprocess)
        return render.recommendation(advice, explain=explain, next_command=_next_command(advice, named))

    show(advice, as_json, layout)


@app.command(cls=PlainCommand, epilog="Example: tempadvisor profile logits.npz --logits-from train -o profile.json")
def profile(
    teacher: TeacherArgument = None,
    data: DataOption = None,
    model: ModelOption = None,
    class_map: ClassMapOption = None,
    preprocess: PreprocessOption = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Write the profile as JSON.")
    ] = None,
    logits_from: Annotated[
        str | None,
        typer.Option(metavar="|".join(LOGITS_FROM), help="Which inputs the teacher's logits come from."),
    ] = None,
    read_all: Annotated[bool, typer.Option("--all", help="Read every sample.")] = False,
    report: ReportOption = None,
    as_json: AsJson = False,
) -> None:
    """Measure how a teacher's softmax behaves over temperature and how its classes relate."""
    from tempadvisor.documents import read_setup, save_profile
    from tempadvisor.teachers import profile_of

    if teacher is None:
        raise UsageError(
            "profile needs a teacher: 'tempadvisor profile logits.npz -o profile.json'.", code="nothing_given"
        )
    if output is not None and Path(output).suffix.lower() != ".json":
        raise UsageError(
            f"--output must end in .json, so that `tempadvisor recommend` knows a profile. Got {output!r}.",
            code="bad_output",
        )
    check_place("--report", report, ".html")
    origin, reservoir = read_setup(None, {"logits_from": logits_from}).logits_from, _reservoir(report)
    with progress_bar("Profiling the teacher") as progress:
        measured = profile_of(
            teacher,
            data=data,
            model=model,
            class_map=class_map,
            preprocess=preprocess,
            logits_from=origin,
            read_all=read_all,
            progress=progress,
            reservoir=reservoir,
        )
    _write_page(measured, report, reservoir)
    if output is not None:
        save_profile(measured, Path(output))

    def layout() -> str:
        from tempadvisor import render

        named = [output] if output else _named(teacher, data, model, class_map, preprocess)
        return render.profile(measured, next_command=shlex.join(["tempadvisor", "recommend", *named]))

    show(measured, as_json, layout)


@app.command(cls=PlainCommand, epilog="Example: tempadvisor bench suite.toml --dry-run")
def bench(
    suite: Annotated[str | None, typer.Argument(metavar="SUITE.toml", help="Declared temperature curves.")] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Runs as CSV; SUITE.csv here if not given.")
    ] = None,
    jobs: Annotated[str | None, typer.Option(metavar="N", help="Processes, one thread each; 1 if not given.")] = None,
    backend: Annotated[
        str | None, typer.Option(metavar="dask", help="Train students on a cluster that runs; teachers here.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Where its scheduler listens.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the runs that FILE has and do the others.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many runs and minutes there are.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train students over temperatures, as a suite declares, and write each as a row."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does: workers stop, rows are kept
    from tempadvisor.bench import run_suite

    if suite is None:
        raise UsageError("bench needs a suite: 'tempadvisor bench suite.toml --dry-run'.", code="nothing_given")
    if jobs is not None and not jobs.isdecimal():
        raise UsageError(f"--jobs must be a whole number at least 1. Got {jobs!r}.", code="bad_jobs")
    if backend not in (None, "dask"):
        raise UsageError(f"--backend must be dask, or left out. Got {backend!r}.", code="bad_backend")
    if (backend is None) != (scheduler is None):
        raise UsageError("--backend dask and --scheduler ADDRESS must be given together.", code="bad_backend")
    path = Path(suite)
    out = Path(output) if output else Path(f"{path.stem}.csv")
    with progress_bar("Training students") as progress:
        plan = run_suite(
            path,
            out,
            jobs=int(jobs or 1),
            scheduler=scheduler,
            resume=resume,
            dry_run=dry_run,
            progress=progress,
        )

    def layout() -> str:
        from tempadvisor import render

        return render.plan(plan, suite, out, dry_run=dry_run)

    show(plan, as_json, layout)


def _reservoir(report: str | None) -> Reservoir | None:
    """Return what keeps samples for a page, where there will be one."""
    if report is None:
        return None
    from tempadvisor.exhibits import Reservoir

    return Reservoir()


def _write_page(record: TeacherProfile | Recommendation, report: str | None, reservoir: Reservoir | None) -> None:
    if report is not None:
        from tempadvisor.report import write_page

        write_page(record, Path(report), reservoir=reservoir)


def _check_export(form: str, more: bool) -> None:
    from tempadvisor.export import check_format

    check_format(form)
    if more:
        raise UsageError(
            "--export prints the settings alone: leave out --json and --explain. --export json is an object.",
            code="contradiction",
        )


def _named(
    teacher: str | None, data: str | None, model: str | None, class_map: str | None, preprocess: str | None
) -> list[str]:
    """Return the words that name a teacher."""
    flags = (("--data", data), ("--model", model), ("--class-map", class_map), ("--preprocess", preprocess))
    return [word for word in (teacher, *(part for flag in flags if flag[1] for part in flag)) if word]


def _next_command(advice: Recommendation, named: list[str]) -> str:
    """Return the command that would improve the answer most: the same, with the unknown that moves it most.

    What the unknown may be else stands behind it as a comment, so that a shell takes the line as it is.
    """
    words = ["tempadvisor", "recommend", *named]
    for column in SETUP_COLUMNS:
        value = getattr(advice.setup, column.name)
        if isinstance(value, bool):
            words.append(column.flag.split("/")[0 if value else 1])
        elif value is not None:
            words += [column.flag, f"{value:.12g}" if isinstance(value, float) else str(value)]
    known = {column.name: column for column in SETUP_COLUMNS}
    if not advice.unknown:
        return shlex.join([*words, "--explain"])
    column = known[advice.unknown[0].name]
    flag, *other = column.flag.split("/")
    first, *more = [""] if column.type is bool else column.spec.choices or [{int: "100", float: "0.1"}[column.type]]
    others = ", ".join(other or more) or "your own number"
    return f"{shlex.join(words)} {f'{flag} {first}'.strip()}  # or {others}"


def main() -> None:
    """Run the command line; each error becomes one line on stderr and exit code 2."""
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]  # Typer vendors Click and does not export its own
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115  # a closed stream is None
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a console without bars and arrows shows question marks
        code = app(standalone_mode=False)
        if code == 130:  # Typer's answer to Ctrl-C
            raise KeyboardInterrupt
    except TempAdvisorError as error:
        code = _fail(str(error), error.code)
    except usage_error as error:
        code = _fail(error.format_message(), "usage")  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        code = _fail("Interrupted.", "interrupted", 130)
    except OSError as error:  # the disk is full, say
        place = error.filename or "stdout"
        code = _fail(f"{place} must be readable or writable. {error.strerror}. Check it.", "system")
    sys.exit(code)


def _fail(message: str, code: str, status: int = 2) -> int:
    line = one_line(message)
    as_json = "--json" in sys.argv
    print(json.dumps({"code": code, "message": line}) if as_json else f"tempadvisor: {line}", file=sys.stderr)
    return status
