"""The project's own promises: declared dependencies, the pinned set, and a light import."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SOURCES = [*ROOT.glob("kml_envs/**/*.py"), *ROOT.glob("agents/**/*.py"), *ROOT.glob("*.py")]
EXTRAS = ("", "test", "docs", "fuse")
UNPINNED = re.compile(r"pip|setuptools|kml-envs|triton|(nvidia|cuda)-.*")


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(distribution, extras=("",)):
    """Return the requirements that apply on this machine, by canonical name."""
    lines = importlib.metadata.requires(distribution) or []
    parsed = [Requirement(line) for line in lines]
    return {
        canonical(requirement.name): requirement
        for requirement in parsed
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
    }


def pins():
    """Return the pinned requirements that apply on this machine, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonical(pin.name): pin for pin in parsed if pin.marker is None or pin.marker.evaluate()}


def installed_closure(names):
    """Return the names and everything that they pull in, as far as it is installed."""
    seen, open_names = set(), list(names)
    while open_names:
        name = open_names.pop()
        if name in seen:
            continue
        try:
            needed = requirements(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        seen.add(name)
        open_names.extend(needed)
    return seen


def imported_packages(source):
    """Return the top-level packages that a file imports anywhere, relative imports apart."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_constraints_pin_everything_that_the_extras_install():
    direct = requirements("kml_envs", extras=EXTRAS)
    missing = {name for name in installed_closure(direct) | set(direct) if not UNPINNED.fullmatch(name)} - set(pins())
    assert not missing


def test_constraints_satisfy_the_lower_bounds():
    pinned = pins()
    for name, requirement in requirements("kml_envs", extras=EXTRAS).items():
        if name == "kml-envs":
            continue
        (version,) = (specifier.version for specifier in pinned[name].specifier)
        assert requirement.specifier.contains(version), f"{requirement} against the pin {version}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.relative_to(ROOT).as_posix())
def test_module_imports_only_declared_packages(source):
    own = {"kml_envs", "agents"} | {script.stem for script in ROOT.glob("*.py")}
    distributions = importlib.metadata.packages_distributions()
    declared = set(requirements("kml_envs", extras=("", "fuse", "minari")))
    for package in set(imported_packages(source)) - own - set(sys.stdlib_module_names):
        # What comes with an extra that is not installed here goes by its own name.
        providers = {canonical(name) for name in distributions.get(package, [package])}
        assert providers & declared, f"{package} is no dependency in pyproject.toml"


def test_packages_are_typed():
    assert (ROOT / "kml_envs" / "py.typed").is_file()
    assert (ROOT / "agents" / "py.typed").is_file()


@pytest.mark.gymnasium_interface
def test_import_is_light():
    heavy = {"torch", "stable_baselines3", "sb3_contrib", "tensorboard", "matplotlib", "numba", "scipy"}
    program = f"import sys, kml_envs; print(*({heavy!r} & set(sys.modules)))"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert printed.split() == []
