"""Imports run one way: a module or folder of the package imports only what stands before it in ORDER."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "end2reg_ros"
ORDER = (
    *("reasons", "errors", "names", "se3", "se3_batch", "kabsch", "uncertainty", "cache"),
    *("case", "cloud", "profile", "network", "engine", "registration", "tracking", "frame", "runtime"),
    *("simulation", "evaluation", "ros", "training", "apps", "cli"),
)
# The version, and the messages that the build generates.
ANYBODY, ROS_ONLY = ("__version__",), ("msg",)


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """(line, module or folder) of each import of the package, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "end2reg_ros":
            modules = [f"end2reg_ros.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        yield from ((node.lineno, m.split(".")[1]) for m in modules if m.startswith("end2reg_ros."))


PARTS = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}


@pytest.mark.parametrize("part", sorted(PARTS - {"__init__"}))
def test_imports_run_one_way(part: str) -> None:
    assert part in ORDER, f"give {part} its place in ORDER"
    before = {*ORDER[: ORDER.index(part) + 1], *ANYBODY, *(ROS_ONLY if part == "ros" else ())}
    files = sorted((PACKAGE / part).rglob("*.py")) or [PACKAGE / f"{part}.py"]
    back = [
        f"{file.relative_to(PACKAGE)}:{line} imports {name}"
        for file in files
        for line, name in imported(file)
        if name not in before
    ]
    assert not back


def test_the_package_knows_nothing_of_what_lies_beside_it() -> None:
    beside = {"benchmarks", "examples", "test", "tools"}
    found = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{file}: {m}" for m in modules if m.split(".")[0] in beside]
    assert not found


def is_training_part(module: str) -> bool:
    """Whether CMakeLists.txt leaves a module out unless END2REG_WITH_TRAINING is on."""
    parts = module.removeprefix("end2reg_ros.").split(".")
    return (
        parts[0] in ("training", "network")
        or parts[:2] == ["apps", "train"]
        or parts[-1].startswith("torch_")
    )


def test_what_a_robot_gets_does_without_the_training_parts() -> None:
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        if is_training_part(".".join(file.relative_to(PACKAGE).with_suffix("").parts)):
            continue
        for node in ast.parse(file.read_text()).body:  # what is imported at once, not inside functions
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if module.startswith("end2reg_ros.") and is_training_part(module):
                wrong.append(f"{file.relative_to(PACKAGE)} imports {module}")
    assert not wrong
