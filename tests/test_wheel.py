"""What a user installs: the wheel carries the knowledge and the demo, and reads them from inside the package."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

READ = """
import json
import tempadvisor.report
from tempadvisor import corpus, resources, rules
print(json.dumps({
    "package": tempadvisor.__file__,
    "knowledge": str(resources.knowledge_path("rules.toml")),
    "demo": resources.demo_path().exists(),
    "page": tempadvisor.report.page(tempadvisor.recommend(None, tempadvisor.TrainingSetup(epochs=10))),
    "sources": len(corpus.load_sources()),
    "literature": len(corpus.load_literature()),
    "rules": len(rules.load_rules().rules),
}))
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command and return its stdout; its stderr is the message when it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_every_knowledge_file_unchanged(wheel: Path) -> None:
    shipped = [path for path in (ROOT / "knowledge").rglob("*") if path.suffix in {".toml", ".csv", ".json", ".md"}]
    assert {"rules.toml", "sources.toml", "literature.csv"} <= {path.name for path in shipped}
    with zipfile.ZipFile(wheel) as archive:
        for path in shipped:
            inside = f"tempadvisor/knowledge/{path.relative_to(ROOT / 'knowledge').as_posix()}"
            assert archive.read(inside) == path.read_bytes()


def test_the_wheel_carries_the_demo_the_page_the_types_and_the_license(names: set[str]) -> None:
    assert {"tempadvisor/data/digits-teacher.safetensors", "tempadvisor/py.typed"} <= names
    assert {f"tempadvisor/page/{name}" for name in ("page.html", "style.css", "page.js")} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_carries_every_module_and_nothing_else(names: set[str]) -> None:
    modules = {f"tempadvisor/{path.name}" for path in (ROOT / "tempadvisor").glob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tempadvisor"}


def test_the_wheel_asks_for_everything_on_the_card(wheel: Path, names: set[str]) -> None:
    (metadata,) = (name for name in names if name.endswith("METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        required = message_from_string(archive.read(metadata).decode()).get_all("Requires-Dist") or []
    unconditional = {line.split(">")[0].split("<")[0] for line in required if "extra ==" not in line}
    assert unconditional >= {"torch", "torchvision", "timm", "scikit-learn", "optuna", "typer", "rich", "joblib"}


def test_the_installed_wheel_reads_its_knowledge_from_inside_the_package(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel, cwd=tmp_path)
    read = json.loads(run(sys.executable, "-c", READ, cwd=tmp_path, PYTHONPATH=str(target)))
    assert Path(read["package"]).is_relative_to(target)
    assert Path(read["knowledge"]).is_relative_to(target / "tempadvisor" / "knowledge")
    assert read["demo"] is True
    assert read["page"].startswith("<!doctype html>")
    assert read["literature"] == 148
    assert read["sources"] > 30
    assert read["rules"] > 7


@pytest.mark.install
def test_a_fresh_environment_with_the_wheel_answers_the_demo(wheel: Path, tmp_path: Path) -> None:
    """The dependencies come from the environment that runs the tests; tempadvisor itself only from the wheel."""
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    site = Path(
        run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    run(scripts / "python", "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    read = json.loads(run(scripts / "python", "-c", READ, cwd=tmp_path))
    assert Path(read["package"]).is_relative_to(site)
    answer = json.loads(run(scripts / "tempadvisor", "recommend", "--demo", "--json", cwd=tmp_path))
    low, high = answer["interval"]
    assert low <= answer["temperature"] <= high
    assert list(tmp_path.iterdir()) == [environment]
