"""``import end2reg_ros``: instant, and all that it promises is there."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import end2reg_ros

SOURCE = ast.parse(Path(end2reg_ros.__file__).read_text())


def test_the_package_loads_nothing_by_itself() -> None:
    code = "import sys, end2reg_ros; print([m for m in ('numpy', 'open3d', 'yaml', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", end2reg_ros.__all__)
def test_every_name_is_what_the_type_checker_is_told(name: str) -> None:
    told = {
        alias.name: node.module
        for node in ast.walk(SOURCE)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("end2reg_ros")
        for alias in node.names
    }
    found = getattr(end2reg_ros, name)
    assert found is getattr(importlib.import_module(told[name]), name)
    assert found.__doc__


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'end2reg_ros' has no attribute 'load_cases'"):
        _ = end2reg_ros.load_cases
    with pytest.raises(ImportError, match="cannot import name 'load_cases'"):
        exec("from end2reg_ros import load_cases")
