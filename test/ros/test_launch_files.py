"""The launch files, run against stand-ins for ``launch`` and ``launch_ros``: those need a ROS installation."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from end2reg_ros.ros.settings import TrackerParameters

ROOT = Path(__file__).resolve().parents[2]
CAMERAS = sorted(file.stem for file in (ROOT / "config" / "cameras").glob("*.yaml"))


class Recorded:
    """Stands for any launch action: keeps what it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class Argument(Recorded):
    pass


class Opaque(Recorded):
    pass


class Variable(Recorded):
    pass


class Include(Recorded):
    pass


class Node(Recorded):
    pass


class Configuration(Recorded):
    def perform(self, context: dict[str, str]) -> str:
        return context[self.args[0]]


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install modules with the few names that the launch files use."""
    modules = {
        "launch": {"LaunchContext": dict, "LaunchDescription": Recorded},
        "launch.actions": {
            "DeclareLaunchArgument": Argument,
            "OpaqueFunction": Opaque,
            "SetEnvironmentVariable": Variable,
            "IncludeLaunchDescription": Include,
        },
        "launch.launch_description_sources": {"PythonLaunchDescriptionSource": Recorded},
        "launch.substitutions": {"LaunchConfiguration": Configuration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Node},
        "ament_index_python": {},
        "ament_index_python.packages": {"get_package_share_directory": lambda name: str(ROOT)},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    yield


def launch(file: str, **given: str) -> SimpleNamespace:
    """Run a launch file with arguments; return its arguments, nodes by executable, environment and includes."""
    entities = runpy.run_path(str(ROOT / "launch" / file))["generate_launch_description"]().args[0]
    defaults = {a.args[0]: a.kwargs["default_value"] for a in entities if isinstance(a, Argument)}
    assert given.keys() <= defaults.keys()
    context = {**defaults, **given}
    nodes = [n for o in entities if isinstance(o, Opaque) for n in o.kwargs["function"](context)]
    return SimpleNamespace(
        arguments=defaults,
        nodes={node.kwargs["executable"]: node.kwargs for node in nodes},
        environment=dict(v.args for v in entities if isinstance(v, Variable)),
        includes=[i for i in entities if isinstance(i, Include)],
    )


def test_tracking_has_the_promised_arguments() -> None:
    promised = {
        "case",
        "method",
        "engine",
        "build_only",
        "camera",
        "points_topic",
        "input",
        "use_sim_time",
        "rviz",
        "prefix",
        "params_file",
        "namespace",
    }
    assert launch("tracking.launch.py").arguments.keys() == promised
    assert launch("simulation.launch.py").arguments.keys() == promised


@pytest.mark.parametrize("camera", CAMERAS)
def test_camera_preset_reaches_the_tracker(camera: str) -> None:
    preset = yaml.safe_load((ROOT / "config" / "cameras" / f"{camera}.yaml").read_text())
    tracker = launch("tracking.launch.py", camera=camera).nodes["tracker"]
    assert dict(tracker["remappings"]) == preset["topics"]
    file, parameters = tracker["parameters"]
    assert file.endswith("config/tracker.yaml")
    assert parameters == preset["parameters"]


def test_presets_name_real_inputs_and_parameters() -> None:
    assert {"realsense", "zed", "azure_kinect", "orbbec", "simulated"} == set(CAMERAS)
    for camera in CAMERAS:
        preset = yaml.safe_load((ROOT / "config" / "cameras" / f"{camera}.yaml").read_text())
        assert preset["topics"].keys() <= {"points", "depth/image", "depth/camera_info", "color/image"}
        assert all(topic.startswith("/") for topic in preset["topics"].values())
        assert preset["parameters"]["input"] in ("points", "depth")
        assert preset["parameters"]["input_reliability"] in ("best_effort", "reliable")


def test_arguments_win_over_the_preset() -> None:
    tracker = launch(
        "tracking.launch.py",
        points_topic="/mine",
        input="depth",
        prefix="p/",
        case="/c",
        use_sim_time="true",
        namespace="n",
    ).nodes["tracker"]
    assert dict(tracker["remappings"])["points"] == "/mine"
    given = {"input": "depth", "frame_prefix": "p/", "case": "/c", "use_sim_time": True}
    assert tracker["parameters"][2:] == [given]
    assert tracker["namespace"] == "n"


def test_the_users_file_is_above_the_preset_and_below_the_arguments() -> None:
    preset = yaml.safe_load((ROOT / "config" / "cameras" / "zed.yaml").read_text())["parameters"]
    tracker = launch("tracking.launch.py", camera="zed", params_file="/mine.yaml", case="/c").nodes["tracker"]
    defaults, *above = tracker["parameters"]
    assert defaults.endswith("config/tracker.yaml")
    assert above == [preset, "/mine.yaml", {"case": "/c"}]


def test_method_and_engine_reach_the_tracker() -> None:
    given = launch("tracking.launch.py", method="icp", engine="torch").nodes["tracker"]["parameters"]
    assert given[2:] == [{"method": "icp", "engine": "torch"}]
    for file in ("tracking.launch.py", "simulation.launch.py"):
        assert launch(file).arguments["build_only"] == "false"
        assert (launch(file).arguments["method"], launch(file).arguments["engine"]) == ("", "")


def test_the_methods_and_engines_offered_are_those_there_are() -> None:
    entities = runpy.run_path(str(ROOT / "launch" / "tracking.launch.py"))[
        "generate_launch_description"
    ]().args[0]
    choices = {a.args[0]: a.kwargs.get("choices") for a in entities if isinstance(a, Argument)}
    known = {f.name: f.metadata["ros"].choices for f in fields(TrackerParameters) if f.name in choices}
    assert choices["method"] == ["", *known["method"]]
    assert choices["engine"] == ["", *known["engine"]]


def test_build_only_starts_the_tracker_alone() -> None:
    nodes = launch("tracking.launch.py", build_only="true", rviz="true").nodes
    assert list(nodes) == ["tracker"]
    assert nodes["tracker"]["parameters"][2:] == [{"build_only": True}]
    assert launch("simulation.launch.py", build_only="true").nodes == {}


@pytest.mark.parametrize(
    ("given", "picks"),
    [
        ({}, False),
        ({"method": "end2reg"}, False),
        ({"method": "icp"}, True),
        ({"method": "ransac_icp"}, True),
        ({"params_file": "/mine.yaml"}, True),
        ({"params_file": "/mine.yaml", "method": "end2reg"}, False),
    ],
)
def test_the_simulated_camera_picks_landmarks_for_who_may_need_them(
    given: dict[str, str], picks: bool
) -> None:
    (parameters,) = launch("simulation.launch.py", **given).nodes["simulated_camera"]["parameters"]
    assert parameters["simulate_picks"] is picks


def test_the_defaults_in_the_parameter_file_are_those_of_the_code() -> None:
    told = yaml.safe_load((ROOT / "config" / "tracker.yaml").read_text())["/**"]["ros__parameters"]
    code = TrackerParameters()
    for name, value in told.items():
        default = code
        for part in name.split("."):
            default = getattr(default, part)
        assert value == (list(default) if isinstance(default, tuple) else default), name
    assert {
        "method",
        "engine",
        "engine_device",
        "engine_threads",
        "engine_precision",
        "network_passes",
        "weights",
        "build_only",
    } <= set(told)


def test_rviz_shows_the_topic_in_use_only_when_asked() -> None:
    assert "rviz2" not in launch("tracking.launch.py").nodes
    rviz = launch("tracking.launch.py", rviz="true", points_topic="/mine").nodes["rviz2"]
    configuration = Path(rviz["arguments"][1])
    assert rviz["remappings"] == [("/camera/depth/color/points", "/mine")]
    displays = yaml.safe_load(configuration.read_text())["Visualization Manager"]["Displays"]
    assert {d.get("Topic", {}).get("Value") for d in displays} >= {
        "/camera/depth/color/points",
        "markers",
        "spine/pose",
        "spine/network_pose",
    }
    # The node makes this one only while somebody listens.
    assert not next(d for d in displays if d.get("Topic", {}).get("Value") == "spine/network_pose")["Enabled"]


def test_transport_profile_is_set_unless_the_user_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = launch("tracking.launch.py").environment
    assert set(environment) == {"FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"}
    assert all(Path(value).is_file() for value in environment.values())
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/mine.xml")
    assert launch("tracking.launch.py").environment == {}


def test_simulation_includes_the_tracker_and_starts_the_camera() -> None:
    found = launch("simulation.launch.py", case="/c", points_topic="/mine", namespace="or_1")
    # initial_pose is a relative name: camera and tracker must share the namespace
    assert found.nodes["simulated_camera"]["namespace"] == "or_1"
    assert found.nodes["simulated_camera"]["remappings"] == [("/camera/depth/color/points", "/mine")]
    assert found.nodes["simulated_camera"]["parameters"] == [
        {"use_sim_time": False, "simulate_picks": False, "case": "/c"}
    ]
    (include,) = found.includes
    assert {name for name, _ in include.kwargs["launch_arguments"]} == found.arguments.keys()
    assert Path(include.args[0].args[0]).name == "tracking.launch.py"
    assert found.arguments["camera"] in CAMERAS


@pytest.mark.parametrize("name", ["tracker", "simulated_camera"])
def test_launched_executables_are_installed(name: str) -> None:
    assert (ROOT / "scripts" / name).stat().st_mode & 0o111
    assert f"scripts/{name}" in (ROOT / "CMakeLists.txt").read_text()
    assert f"end2reg_ros.ros.{name}_main" in (ROOT / "scripts" / name).read_text()
