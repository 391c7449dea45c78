"""The package as a ROS workspace builds it: messages, Python, launch files and executables from one install prefix."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "package.xml",
    "CMakeLists.txt",
    "LICENSE",
    "msg",
    "end2reg_ros",
    "launch",
    "config",
    "rviz",
    "scripts",
    "runtime",
)
PROGRAM = """
import end2reg_ros, end2reg_ros.errors
from end2reg_ros.msg import TrackingStatus
from rclpy.serialization import serialize_message
print(end2reg_ros.__file__, end2reg_ros.errors.__file__, len(serialize_message(TrackingStatus())) > 0)
"""


# The command line as on a robot: a checkout that this environment knows would add what the installation leaves out.
ROBOT = """
import sys, pathlib
sys.path = [p for p in sys.path if not (pathlib.Path(p) / "end2reg_ros" / "network").is_dir()]
from end2reg_ros.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the package in src/, built; returns its folder."""
    colcon = shutil.which(
        "colcon", path=os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", "")])
    )
    if colcon is None:
        pytest.skip("ros: colcon is absent")
    folder = tmp_path_factory.mktemp("workspace")
    for name in PARTS:
        source, target = ROOT / name, folder / "src" / "end2reg_ros" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, target)
    underlay = os.environ.get("AMENT_PREFIX_PATH") or sys.prefix
    environment = {**os.environ, "AMENT_PREFIX_PATH": underlay, "CMAKE_PREFIX_PATH": underlay}
    command = [
        colcon,
        "build",
        "--cmake-args",
        f"-DPython3_EXECUTABLE={sys.executable}",
        "-DCMAKE_BUILD_TYPE=MinSizeRel",
    ]
    built = subprocess.run(
        [*command, "-DCMAKE_POLICY_VERSION_MINIMUM=3.5", "-DBUILD_TESTING=OFF"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "1 package finished" in built.stdout, "colcon looks below the package: " + built.stdout
    return folder


def sourced(workspace: Path, command: str) -> str:
    """Run a shell command with the workspace sourced; return what it prints."""
    found = subprocess.run(
        ["bash", "-c", f"source install/local_setup.bash && {command}"],
        cwd=workspace,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_python_and_messages_import_from_the_workspace(workspace: Path) -> None:
    package, module, serialised = sourced(workspace, f"'{sys.executable}' -c '{PROGRAM}'").split()
    assert package.startswith(str(workspace / "install")) and module.startswith(str(workspace / "install"))
    assert serialised == "True"


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_everything_that_a_user_starts_is_installed(workspace: Path) -> None:
    prefix = workspace / "install" / "end2reg_ros"
    for name in ("tracker", "simulated_camera"):
        assert os.access(prefix / "lib" / "end2reg_ros" / name, os.X_OK)
    for name in (
        "launch/tracking.launch.py",
        "launch/simulation.launch.py",
        "rviz/tracking.rviz",
        "config/fastdds.xml",
    ):
        assert (prefix / "share" / "end2reg_ros" / name).is_file()
    assert sourced(workspace, "command -v end2reg").strip() == str(prefix / "bin" / "end2reg")


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_robot_gets_what_tracks_and_is_told_how_to_get_the_rest(workspace: Path) -> None:
    installed = {
        str(file.relative_to(workspace)).partition("site-packages/end2reg_ros/")[2]
        for file in (workspace / "install").rglob("*.py")
    }
    assert {"frame.py", "engine/load.py", "ros/tracker_node.py"} <= installed
    left_out = ("training/", "network/", "apps/train/", "engine/torch_")
    assert not [name for name in installed if name.startswith(left_out)]
    (workspace / "robot.py").write_text(ROBOT)
    for arguments in ("train --config run.yaml", "case adapt CASE", "engine verify --engine torch"):
        text = sourced(workspace, f"'{sys.executable}' robot.py {arguments} 2>&1 || true")
        assert text == (
            "end2reg: error: this installation holds only what tracks, "
            "not what trains and adapts networks or runs them in torch: "
            "colcon build --cmake-args -DEND2REG_WITH_TRAINING=ON\n"
        )
