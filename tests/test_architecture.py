"""The plan of the house, held by reading the imports: who may import whom, and which package lives where.

A new module gets a place in LAYERS; a new third-party package gets a home in HOMES.
"""

import ast
import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tempadvisor"

# A module imports from its own row and from the rows above it, never in a circle.
LAYERS = (
    ("__init__",),  # the version and the public names, resolved lazily
    ("errors", "fields", "files", "hub", "progress", "resources", "temperatures"),
    ("records", "runs", "location"),
    (
        "arrays",
        "measures",
        "relations",
        "exhibits",
        "orders",
        "gate",
        "logits",
        "documents",
        "corpus",
        "contracts",
        "settings",
        "features",
        "rules",
        "standing",
        "response",
        "evidence",
        "curves",
        "trials",
        "imports",
        "rows",
        "console",
        "calibration",
        "learned",
        "posterior",
        "search",
        "verification",
        "flags",
        "arguments",
    ),
    ("store", "holdings"),
    (
        "tally",
        "running",
        "profiling",
        "teachers",
        "class_maps",
        "images",
        "folders",
        "inputs",
        "shards",
        "sources",
        "collected",
        "glyphs",
        "datasets",
        "architectures",
        "checkpoints",
        "preprocessing",
        "programs",
        "huggingface",
        "models",
        "loss",
        "schedule",
        "distill",
        "batched",
        "losscall",
        "lossforms",
        "lossfit",
        "lossprobes",
        "lossreading",
        "losscheck",
    ),
    ("pretrained",),
    (
        "belief",
        "unknowns",
        "advise",
        "glimpses",
        "regressor",
        "audit",
        "coverage",
        "rivals",
        "evaluation",
        "summary",
        "fitting",
        "suites",
        "material",
        "pace",
        "preflight",
        "cluster",
        "bench",
        "answers",
        "case",
        "students",
        "study",
        "plans",
        "verify",
        "pictures",
        "export_commands",
        "export_files",
        "export_snippets",
        "export",
        "charts",
        "passages",
        "tables",
        "explorer",
        "report",
        "render",
        "render_knowledge",
        "render_loss",
        "render_verify",
    ),
    ("cli_knowledge", "cli_loss", "cli_verify"),
    ("cli",),
    ("__main__",),
)

# Third-party packages and the modules they live in. numpy may be used anywhere.
HOMES = {
    "PIL": {"glyphs", "images"},
    "dask": {"cluster"},
    "datasets": {"sources"},
    "distributed": {"bench", "cluster"},
    "huggingface_hub": {"hub"},
    "joblib": {"bench"},
    "onnxruntime": {"programs"},
    "optuna": {"study", "trials", "verify"},
    "pyarrow": {"holdings"},
    "rich": {"progress", "render", "render_verify"},
    "safetensors": {"arrays", "checkpoints", "material"},
    "sklearn": {"datasets", "regressor"},
    "timm": {"models"},
    "torch": {
        "answers",
        "architectures",
        "batched",
        "bench",
        "case",
        "checkpoints",
        "datasets",
        "distill",
        "inputs",
        "loss",
        "losscall",
        "losscheck",
        "lossfit",
        "lossforms",
        "lossprobes",
        "lossreading",
        "material",
        "models",
        "pace",
        "preprocessing",
        "pretrained",
        "programs",
        "running",
        "sources",
        "collected",
        "huggingface",
        "students",
    },
    "torchvision": {"datasets", "models", "sources"},
    "transformers": {"huggingface"},
    "sqlalchemy": {"store"},
    "typer": {"__main__", "cli", "cli_knowledge", "cli_loss", "cli_verify", "console", "flags"},
    "yaml": {"documents"},
}

# Packages that `recommend` must never load, and the modules that it loads: these import them inside functions only.
HEAVY = {
    "distributed",
    "joblib",
    "onnxruntime",
    "optuna",
    "pyarrow",
    "scipy",
    "sqlalchemy",
    "sklearn",
    "timm",
    "torch",
    "torchvision",
    "transformers",
    "datasets",
}
LIGHT = {"__init__", "__main__", "advise", "cli", "documents", "profiling", "render", "report", "teachers"}

TOP_LEVEL = {"LICENSE", "README.md", "benchmarks", "knowledge", "pyproject.toml", "tempadvisor", "tests"}
MADE_BY_TOOLS = {"build", "dist", "__pycache__"}


class Import(NamedTuple):
    name: str  # dotted: torch.nn, tempadvisor.records
    eager: bool  # runs when the module is imported


def imports(source: str, modules: set[str]) -> Iterator[Import]:
    """Read the imports of a source; `from tempadvisor import x` is the module x where there is one."""

    def visit(node: ast.AST, eager: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"tempadvisor.{node.module}".rstrip(".") if node.level else str(node.module)
            base = base.replace("tempadvisor.None", "tempadvisor")
            if base == "tempadvisor":
                names = {f"tempadvisor.{a.name}" if a.name in modules else "tempadvisor" for a in node.names}
                yield from (Import(name, eager) for name in sorted(names))
            else:
                yield Import(base, eager)
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        )
        for child in ast.iter_child_nodes(node):
            yield from visit(child, eager and not lazy)

    return visit(ast.parse(source), eager=True)


MODULES = {path.stem: path for path in sorted(PACKAGE.rglob("*.py"))}
IMPORTS = {name: tuple(imports(path.read_text(encoding="utf-8"), set(MODULES))) for name, path in MODULES.items()}
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}


def house_imports(name: str, *, eager_only: bool = False) -> set[str]:
    """Return the modules of the package that `name` imports."""
    found = {i.name for i in IMPORTS[name] if i.eager or not eager_only}
    return {
        "__init__" if dotted == "tempadvisor" else dotted.split(".")[1]
        for dotted in found
        if dotted.split(".")[0] == "tempadvisor"
    }


def third_party(name: str, *, eager_only: bool = False) -> set[str]:
    """Return the packages outside the standard library and the house that `name` imports."""
    found = {i.name.split(".")[0] for i in IMPORTS[name] if i.eager or not eager_only}
    return found - sys.stdlib_module_names - {"tempadvisor", "__future__"}


def test_the_reader_tells_eager_from_lazy_imports() -> None:
    source = (
        "import torch.nn as nn\n"
        "from tempadvisor import records, __version__\n"
        "from . import errors\n"
        "from .fields import Spec\n"
        "if TYPE_CHECKING:\n    import optuna\n"
        "class A:\n    import yaml\n"
        "def f():\n    from timm import create_model\n"
    )
    assert set(imports(source, {"records", "errors", "fields"})) == {
        Import("torch.nn", True),
        Import("tempadvisor.records", True),
        Import("tempadvisor", True),
        Import("tempadvisor.errors", True),
        Import("tempadvisor.fields", True),
        Import("optuna", False),
        Import("yaml", True),
        Import("timm", False),
    }


def test_the_package_is_flat_and_every_module_has_a_place() -> None:
    assert all(path.parent == PACKAGE for path in MODULES.values())
    assert set(MODULES) - set(LAYER) == set(), "give the module a place in LAYERS"


@pytest.mark.parametrize("name", MODULES)
def test_no_import_goes_against_the_layers(name: str) -> None:
    above = {other for other in house_imports(name) if LAYER[other] > LAYER[name]}
    assert above == set(), f"{name} must not import from a later layer"


def test_no_imports_form_a_circle() -> None:
    sorter = graphlib.TopologicalSorter({name: house_imports(name) - {"__init__"} for name in MODULES})
    assert set(sorter.static_order()) == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_third_party_packages_stay_at_home(name: str) -> None:
    strays = {package for package in third_party(name) - {"numpy"} if name not in HOMES.get(package, set())}
    assert strays == set(), f"{name} is no home of these in HOMES"


@pytest.mark.parametrize("name", sorted(LIGHT & set(MODULES)))
def test_modules_on_the_way_to_a_recommendation_load_nothing_heavy(name: str) -> None:
    reached, queue = set[str](), {name}
    while queue:
        module = queue.pop()
        reached.add(module)
        queue |= house_imports(module, eager_only=True) - reached
    heavy = {module: third_party(module, eager_only=True) & HEAVY for module in reached}
    assert {module: packages for module, packages in heavy.items() if packages} == {}


def test_each_dependency_has_a_home_and_each_home_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {"huggingface-hub": "huggingface_hub", "pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
    extras = project["optional-dependencies"]
    requirements = project["dependencies"] + extras["cluster"] + extras["parquet"] + extras["onnx"]
    requirements += extras["transformers"] + extras["hfds"]
    declared = {requirement.split(">")[0].strip() for requirement in requirements}
    declared |= {"dask"}  # distributed brings it; SQLAlchemy imports psycopg, the extra `postgres`, by itself
    assert {names.get(name, name) for name in declared} == HOMES.keys() | {"numpy"}


def test_the_top_level_holds_what_the_plan_says() -> None:
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.suffix != ".egg-info"}
    assert found - MADE_BY_TOOLS == TOP_LEVEL


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_under_400_lines(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) < 400


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["recommend", "--demo", "--json"], ["recommend", "--demo", "--report", "page.html"]],
)
def test_the_command_line_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['tempadvisor', *{arguments!r}]\n"
        "try:\n"
        "    runpy.run_module('tempadvisor', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr.splitlines()[-1] == "[]"
