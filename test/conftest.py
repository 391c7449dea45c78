"""What all tests share: tests that lack something they need are skipped loudly, naming what is missing."""

from __future__ import annotations

import importlib.util
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from end2reg_ros.case.model import Case

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "test"
SHARED_DATA = ROOT.parent / "shared" / "data"


def missing_shared() -> str | None:
    """Why tests marked ``shared`` cannot run here; None when they can."""
    return None if SHARED_DATA.is_dir() else f"the data folder {SHARED_DATA} is absent"


def missing_ros() -> str | None:
    """Why tests marked ``ros`` cannot run here; None when they can."""
    if importlib.util.find_spec("rclpy") is None:
        return "rclpy is absent: run 'make setup', or source a ROS 2"
    if importlib.util.find_spec("end2reg_ros.msg") is None:
        return "the messages of end2reg_ros are not built: run 'make setup', or colcon build and source it"
    return None


def missing_gpu() -> str | None:
    """Why tests marked ``gpu`` cannot run here; None when they can."""
    return None if shutil.which("nvidia-smi") else "there is no NVIDIA GPU (nvidia-smi is absent)"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the whole run, apart from the user's: what is computed from a case is computed once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("END2REG_CACHE", str(folder))
        yield folder


NEEDS = {"shared": missing_shared, "ros": missing_ros, "gpu": missing_gpu}


@pytest.fixture(scope="session")
def case() -> Case:
    """The bundled case; not to be changed."""
    from views import bundled_case

    return bundled_case()


def pytest_configure() -> None:
    """Started in the background of a shell, this process would ignore Ctrl-C, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its folder's name, then skip what cannot run here."""
    for item in items:
        item.add_marker(item.path.relative_to(TESTS).parts[0])
    reasons = {marker: check() for marker, check in NEEDS.items()}
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{marker}: {reason}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests of torch run on one thread: on a busy machine a second one waits for the first, and both spin."""
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line a cause how many tests did not run, so that nobody takes a skip for a pass."""
    counts: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        counts[reason] = counts.get(reason, 0) + 1
    for reason, count in sorted(counts.items()):
        terminalreporter.write_line(f"NOT RUN: {count} test(s): {reason}", yellow=True, bold=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recordings and anatomies beside the checkout; mark the test ``shared`` as well."""
    reason = missing_shared()
    if reason:
        pytest.skip(f"shared: {reason}")
    return SHARED_DATA
