"""The ``end2reg`` command: exit codes, one-line errors, help without heavy imports."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import end2reg_ros
from end2reg_ros.cli import main as cli
from end2reg_ros.errors import CaseError

ROOT = str(Path(end2reg_ros.__file__).parents[1])
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))}


def end2reg(*args: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "end2reg_ros.cli.main", *args],
        capture_output=True,
        text=True,
        env=ENV,
        timeout=timeout,
    )


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """Puts a command ``probe`` in place whose ``run`` is the given function."""

    def install(run: Callable[[], int]) -> None:
        @dataclass
        class Probe:
            size: float = 1.0
            """Length of a side, mm."""

            def run(self) -> int:
                return run()

        monkeypatch.setattr(cli, "COMMANDS", (cli.Subcommand("probe", "probe:Probe", "a probe"),))
        monkeypatch.setitem(sys.modules, "end2reg_ros.cli.probe", SimpleNamespace(Probe=Probe))  # type: ignore[arg-type]

    return install


def test_help_lists_every_command_without_heavy_imports() -> None:
    code = (
        "import sys; from end2reg_ros.cli.main import main; code = main(['--help']); "
        "heavy = {'open3d', 'matplotlib', 'rclpy', 'scipy', 'tyro', 'numpy', 'trimesh'} & set(sys.modules); "
        "print('HEAVY', sorted(heavy)); import time; print('CPU', time.process_time()); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENV, timeout=60)
    assert done.returncode == 0
    assert "HEAVY []" in done.stdout
    # Processor time, not the clock's: other things may be running beside this test.
    assert float(done.stdout.split("CPU ")[1]) < 1.0
    for entry in cli.COMMANDS:
        assert re.search(
            rf"^  {' '.join(entry.words)} +{re.escape(entry.summary)}$", done.stdout, re.MULTILINE
        )


@pytest.mark.parametrize("entry", cli.COMMANDS, ids=lambda c: "-".join(c.words))
def test_every_command_exists_and_explains_itself(
    entry: cli.Subcommand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*entry.words, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: end2reg {' '.join(entry.words)}" in text


def test_version() -> None:
    done = end2reg("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"end2reg {end2reg_ros.__version__}\n", "")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["demos"], "end2reg: error: unknown command 'demos'; did you mean 'demo'?"),
        (["case", "crate"], "end2reg: error: unknown command 'case crate'; did you mean 'case create'?"),
        (
            ["xyz"],
            "end2reg: error: unknown command 'xyz'; one of: demo, case, simulate, register, track, evaluate, train, "
            "export, engine, bench",
        ),
    ],
)
def test_unknown_commands_are_usage_errors(
    args: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(args) == 2
    assert capsys.readouterr().err.strip() == text


def test_no_command_and_a_group_alone_show_help_as_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().err
    assert cli.main(["case"]) == 2
    group = capsys.readouterr()
    assert "case create" in group.err and "demo" not in group.err
    assert cli.main(["case", "--help"]) == 0
    assert "case validate" in capsys.readouterr().out


def test_options_arrive_typed_and_wrong_ones_exit_2(
    command: Callable[[Callable[[], int]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(lambda: 0)
    assert cli.main(["probe", "--size", "2.5"]) == 0
    assert cli.main(["probe", "--size", "big"]) == 2
    assert cli.main(["probe", "--sizes", "1"]) == 2
    assert cli.main(["probe", "--help"]) == 0
    assert "Length of a side, mm." in capsys.readouterr().out


def test_the_result_of_run_is_the_exit_code(command: Callable[[Callable[[], int]], None]) -> None:
    command(lambda: 1)
    assert cli.main(["probe"]) == 1


def raises(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CaseError("L3.stl: not watertight;\n  14 open edges"), 1, "error: L3.stl: not watertight; 14 open edges"),
        (FileNotFoundError(2, "No such file or directory", "x/y.ply"), 1, "error: x/y.ply: no such file or directory"),
        (PermissionError(13, "Permission denied", "/root/a"), 1, "error: /root/a: permission denied"),
        (ImportError("No module named 'rclpy'", name="rclpy"), 1,
         "error: No module named 'rclpy'; `make setup` installs what is missing"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)  # fmt: skip
def test_errors_are_one_line(
    error: BaseException,
    code: int,
    text: str,
    command: Callable[[Callable[[], int]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    command(raises(error))
    assert cli.main(["probe"]) == code
    assert capsys.readouterr().err == f"end2reg: {text}\n"


def test_our_own_faults_keep_their_traceback(command: Callable[[Callable[[], int]], None]) -> None:
    command(raises(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["probe"])


def test_a_missing_case_is_one_line_and_exit_1() -> None:
    done = end2reg("case", "validate", "/no/such/case")
    assert done.returncode == 1
    assert "/no/such/case" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_quiet() -> None:
    code = (
        "import sys; from end2reg_ros.cli import main as m; "
        "m.overview = lambda *a: 'x\\n' * 200000; sys.exit(m.main(['--help']))"
    )
    line = f'{sys.executable} -c "{code}"'
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env=ENV,
        timeout=30,
    )
    assert done.stdout.split() == ["x", "141"]
    assert done.stderr == ""


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    code = (
        "import sys, time; from end2reg_ros.cli import main as m\n"
        "def wait(args):\n    print('up', flush=True); time.sleep(30)\n"
        "m._run = wait; sys.exit(m.main([]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV
    )
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "end2reg: interrupted\n")
