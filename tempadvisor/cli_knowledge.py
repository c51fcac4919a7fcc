"""The commands of `tempadvisor knowledge`: the user's own runs, above the shipped corpus."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tempadvisor.console import AsJson, PlainCommand, PlainGroup, show, write
from tempadvisor.errors import KnowledgeError, UsageError
from tempadvisor.location import check_named

app = typer.Typer(
    name="knowledge",
    cls=PlainGroup,
    epilog="Try: tempadvisor knowledge stats",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

URL = {
    "metavar": "URL",
    "help": "Database: sqlite:///FILE or postgresql://USER@SERVER/DATABASE. If not given, TEMPADVISOR_KNOWLEDGE, "
    "else a file of yours.",
}


def _there(url: str | None) -> str | None:
    check_named(url)
    return url


Url = Annotated[str | None, typer.Option("--knowledge", **URL)]  # of a database, which may be begun
Held = Annotated[str | None, typer.Option("--knowledge", callback=_there, **URL)]  # of one to read


@app.callback(invoke_without_command=True)
def knowledge(context: typer.Context) -> None:
    """Keep your own runs above the shipped corpus. Nothing is ever uploaded."""
    if context.invoked_subcommand is None:
        write(context.get_help())


@app.command(cls=PlainCommand, epilog="Example: tempadvisor knowledge add runs.csv --map acc=test_accuracy")
def add(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="CSV, JSONL or Parquet of runs, or sqlite:///study.db of Optuna."),
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="THEIRS=OURS", help="Their column is ours; THEIRS= leaves it out. Repeatable."),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OURS=VALUE", help="What holds for each row of the files. Repeatable."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Profile of the teacher of all rows, as the students saw it; fit needs one."
        ),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Add runs, each with its provenance and its loss: all rows of a file, or none.

    A row must tell temperature (empty without KD), seed, val_accuracy, source, dataset, teacher, kd_weight and
    t_squared; every setup flag of recommend is a column too. Without test_accuracy it teaches, but judges nothing.
    """
    from tempadvisor import render_knowledge as render
    from tempadvisor.documents import load_profile
    from tempadvisor.holdings import add as add_files
    from tempadvisor.progress import progress_bar

    if not files:
        raise UsageError("add needs a file: 'tempadvisor knowledge add runs.csv'.", code="nothing_given")
    pairs = _pairs("--map", mapping), _pairs("--set", fixed)
    measured = None if profile is None else load_profile(Path(profile))
    with progress_bar("Adding runs") as progress:
        added = add_files(files, *pairs, url, profile=measured, progress=progress)
    show({"files": added}, as_json, lambda: render.added(added))
    refused = [one for one in added if one.refused]
    if refused:
        reasons = render.refused(refused)
        if len(reasons) == 1:
            raise KnowledgeError(f"{reasons[0]} Nothing of it was added.", code="refused_rows")
        if not as_json:
            print("\n".join(reasons), file=sys.stderr)
        names = ", ".join(one.file for one in refused)
        raise KnowledgeError(
            f"{names} must hold only rows that can be taken. Reasons against: "
            f"{sum(len(one.refused) for one in refused)}, so nothing of it was added. Mend it and add it again.",
            code="refused_rows",
        )


@app.command("list", cls=PlainCommand, epilog="Example: tempadvisor knowledge list --json")
def list_imports(url: Held = None, as_json: AsJson = False) -> None:
    """List what was added: id, file, rows, curves, when."""
    from tempadvisor import render_knowledge as render
    from tempadvisor.store import imports

    found = imports(url)
    show({"imports": found}, as_json, lambda: render.imports(found))


@app.command(cls=PlainCommand, epilog="Example: tempadvisor knowledge stats")
def stats(url: Held = None, as_json: AsJson = False) -> None:
    """Show what the shipped corpus and your own runs cover, and the gaps."""
    from tempadvisor import render_knowledge as render
    from tempadvisor.coverage import coverage

    found = coverage(url)
    show(found, as_json, lambda: render.coverage(found))


@app.command(cls=PlainCommand, epilog="Example: tempadvisor knowledge check || echo look at it")
def check(url: Held = None, as_json: AsJson = False) -> None:
    """Look for what cannot be right in your own runs; exit code 1 if there is anything."""
    from tempadvisor import render_knowledge as render
    from tempadvisor.audit import findings

    found = findings(url)
    show({"findings": found}, as_json, lambda: render.findings(found))
    if found:
        raise typer.Exit(1)


@app.command(cls=PlainCommand, epilog="Example: tempadvisor knowledge remove 1f0c2a9b37")
def remove(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Of an import, as list shows it.")] = None,
    url: Held = None,
    as_json: AsJson = False,
) -> None:
    """Take back what one import brought."""
    from tempadvisor import render_knowledge as render
    from tempadvisor.resources import model_path
    from tempadvisor.store import remove as take_back

    if id is None:
        raise UsageError("remove needs the id of an import: see 'tempadvisor knowledge list'.", code="nothing_given")
    removed = take_back(id, url)
    show({"removed": removed}, as_json, lambda: render.removed(removed, fitted=model_path().exists()))


@app.command(
    cls=PlainCommand,
    epilog="Example: tempadvisor knowledge export -o mine.csv",
    context_settings={"allow_extra_args": True},
)
def export(
    context: typer.Context,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Write a file; stdout if not given.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", metavar="csv|jsonl|parquet", help="If not given, what FILE ends in.")
    ] = None,
    url: Held = None,
    as_json: AsJson = False,
) -> None:
    """Write your own runs to CSV, JSONL or Parquet.

    With -o runs.csv, their teachers' profiles go to runs.teachers.jsonl, where add finds them.
    """
    from tempadvisor import render_knowledge as render
    from tempadvisor.holdings import export_file, export_text

    if context.args:
        file = context.args[0]
        raise UsageError(f"export must be told its file by -o. Got {file!r}. Say: -o {file}", code="no_option")
    if output is None:
        if as_json:
            raise UsageError("--json must come with -o FILE, as stdout holds the runs.", code="contradiction")
        text = export_text(form or "csv", url)
        if text:
            write(text.removesuffix("\n"))
        return
    written = export_file(Path(output), form, url)
    show(written, as_json, lambda: render.exported(written))


@app.command(cls=PlainCommand, epilog="Example: tempadvisor knowledge evaluate --by teacher")
def evaluate(
    by: Annotated[
        str, typer.Option("--by", metavar="source|teacher|setup", help="What is left out at a time.")
    ] = "source",
    url: Held = None,
    as_json: AsJson = False,
) -> None:
    """Score the advice and its rivals on setups never seen, of the shipped corpus and yours. Takes minutes."""
    from tempadvisor import render_knowledge as render
    from tempadvisor.fitting import evaluated
    from tempadvisor.progress import progress_bar

    with progress_bar("Setups held out") as progress:
        found = evaluated(by, url, progress=progress)
    show(found, as_json, lambda: render.summary(found))


@app.command(cls=PlainCommand, epilog="Example: tempadvisor knowledge fit")
def fit(
    force: Annotated[bool, typer.Option("--force", help="Use the new model without comparing.")] = False,
    url: Held = None,
    as_json: AsJson = False,
) -> None:
    """Learn from your own runs too, and use the new model unless it advises worse on setups never seen.

    Counts the measured setups for and against each rule, too; recommend --explain shows them. Takes minutes:
    all advice is scored on setups never seen, once with your runs and, the first time, once without them.
    """
    from tempadvisor import render_knowledge as render
    from tempadvisor.fitting import refit
    from tempadvisor.progress import progress_bar

    with progress_bar("Setups held out") as progress:
        outcome = refit(url, force=force, progress=progress)
    show(outcome, as_json, lambda: render.outcome(outcome))
    if not outcome.activated:
        raise typer.Exit(1)


@app.command(cls=PlainCommand, epilog="Example: tempadvisor knowledge restore")
def restore(as_json: AsJson = False) -> None:
    """Swap your model in use with the one before.

    If there is none before, the shipped knowledge is in use.
    Nothing is lost: restore again swaps back, and recommend --knowledge-version takes either.
    """
    from tempadvisor import render_knowledge as render
    from tempadvisor.fitting import restore as go_back
    from tempadvisor.resources import model_path

    version = go_back()
    show({"version": version}, as_json, lambda: render.restored(version, shipped=not model_path().exists()))


def _pairs(option: str, words: Any) -> dict[str, str]:
    """Return the pairs of a repeatable option."""
    pairs: dict[str, str] = {}
    for word in words or ():
        name, separator, value = word.partition("=")
        if not separator or not name or name in pairs:
            raise UsageError(f"{option} must be A=B, each A once. Got {word!r}.", code="bad_pair")
        pairs[name] = value
    return pairs
