"""What `import tempadvisor` promises: the names, and that they cost nothing until used."""

import importlib
import subprocess
import sys

import pytest

import tempadvisor

PROMISED = {
    "KDLoss": "tempadvisor.loss",
    "LossContract": "tempadvisor.records",
    "Recommendation": "tempadvisor.records",
    "TeacherProfile": "tempadvisor.records",
    "TempAdvisorError": "tempadvisor.errors",
    "TemperatureSchedule": "tempadvisor.schedule",
    "TrainingSetup": "tempadvisor.records",
    "profile": "tempadvisor.profiling",
    "recommend": "tempadvisor.advise",
}


def test_the_public_names_are_those_promised() -> None:
    assert set(tempadvisor.__all__) == {"__version__", *PROMISED}


@pytest.mark.parametrize(("name", "module"), PROMISED.items())
def test_a_public_name_is_the_one_in_its_module(name: str, module: str) -> None:
    value = getattr(tempadvisor, name)
    assert value is getattr(importlib.import_module(module), name)
    assert value.__module__ == module
    assert value.__doc__


def test_dir_lists_the_public_names() -> None:
    assert set(dir(tempadvisor)) >= set(tempadvisor.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tempadvisor' has no attribute 'temprature'"):
        tempadvisor.temprature  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    assert tempadvisor.__version__ == importlib.import_module("importlib.metadata").version("tempadvisor")


def test_importing_the_package_loads_neither_numpy_nor_its_own_modules() -> None:
    code = "import sys, tempadvisor; print([m for m in sys.modules if m == 'numpy' or m.startswith('tempadvisor.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
