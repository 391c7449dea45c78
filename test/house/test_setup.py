"""Setting up: what must not be removed, loaded or downloaded."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run to the end, outside the make that may run the tests."""
    kept = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "VENV")}
    return subprocess.run(
        [str(c) for c in command], cwd=cwd, env=kept | environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("owned", [["pyvenv.cfg"], ["COLCON_IGNORE", "pyvenv.cfg"], []], ids=str)
def test_a_folder_that_setup_did_not_make_is_left_alone(tmp_path: Path, owned: list[str]) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in [*owned, "thesis.tex"]:
        (folder / name).write_text("years of work")
    ended = run(ROOT / "tools" / "setup.sh", folder)
    assert ended.returncode == 1
    assert ended.stderr.strip() == (
        f"setup: {folder} was not made by this script and is left alone. Remove it yourself, or name another folder"
    )
    assert sorted(p.name for p in folder.iterdir()) == sorted([*owned, "thesis.tex"])


@pytest.mark.skipif(shutil.which("make") is None, reason="make is absent")
def test_a_variable_of_the_shell_does_not_choose_what_is_removed() -> None:
    shown = run("make", "--dry-run", "setup", "clean", VENV="/somewhere/else").stdout
    assert "tools/setup.sh .venv\n" in shown
    assert "rm -rf .venv build" in shown
    assert "/somewhere/else" not in shown


def test_the_editable_install_needs_no_option_of_a_new_pip() -> None:
    declared = re.search(
        r'^\[tool\.distutils\.editable_wheel\]\nmode = "compat"$', read("pyproject.toml"), re.M
    )
    assert declared
    # pip 22.0 of Ubuntu 22.04 has none of these
    assert not re.search(r"--(config-settings|report|dry-run)\b", read("tools/setup.sh"))


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_pytest_plugins_of_a_sourced_ros_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "launch_pretender.py").write_text("raise ImportError('a plugin for another pytest')\n")
    information = tmp_path / "launch_pretender-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: launch_pretender\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[pytest11]\nlaunch_pretender = launch_pretender\n")
    (tmp_path / "test_nothing.py").write_text(
        "def test_nothing(pytestconfig):\n    assert pytestconfig.getini('timeout') == '120'\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-c",
        ROOT / "pyproject.toml",
        tmp_path,
    ]
    ended = run(*command, PYTHONPATH=str(tmp_path), PYTEST_ADDOPTS="")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout


@pytest.mark.parametrize(("at_hand", "parser"), [(True, 0), (False, 0), (True, 3), (True, 1)])
def test_ci_runs_everything_or_says_loudly_what_it_did_not(
    tmp_path: Path, at_hand: bool, parser: int
) -> None:
    for name in (".ci/run", "requirements/train.txt"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    # no torch; pip finds a build, or not; NVIDIA's parser takes the graphs, refuses one (1) or is not there (3)
    python.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n[ "$2" = pip ] && exit {int(not at_hand)}\n'
        f'[ "$1" = tools/check_tensorrt_graphs.py ] && exit {parser}\nexit 1\n'
    )
    make = tmp_path / "make"
    make.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    make.chmod(0o755)
    ended = run(tmp_path / ".ci" / "run", cwd=tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert ended.returncode == (1 if parser == 1 else 0), ended.stderr
    said = ended.stdout.splitlines()
    made = [line.removeprefix("== make ") for line in said if line.startswith("== make ")]
    steps = ["setup", "lint", *(["setup-train"] if at_hand else []), "test"]
    assert made == (steps[:-1] if parser == 1 else steps)
    assert ("tests of the network, which were NOT RUN" in said[-1]) is not at_hand
    assert ("NVIDIA's parser, which was NOT RUN" in said[-1]) is (parser == 3)
    # an index is never asked, and a build with CUDA is never taken
    [asked] = [line for line in (tmp_path / "asked").read_text().splitlines() if "pip" in line]
    assert re.search(r"--dry-run --no-deps --no-index torch==[\d.]+\+cpu$", asked)
