"""Track the spine with a depth camera: ``ros2 launch end2reg_ros tracking.launch.py case:=/path/to/case camera:=realsense``.

``--show-args`` lists the arguments. An empty argument leaves the choice to the camera preset or to the parameter file.
``build_only:=true`` does before the operation what the first start would do, and ends with exit code 0.
"""

import os
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("end2reg_ros"))
CAMERAS = sorted(file.stem for file in (SHARE / "config" / "cameras").glob("*.yaml"))
RVIZ_CLOUD = "/camera/depth/color/points"  # the camera's cloud as rviz/tracking.rviz names it
# Fast DDS 2 (Humble, Jazzy) and Fast DDS 3 (Kilted) name it differently.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
# Argument -> the tracker's parameter, set where the argument is not empty.
PARAMETERS = {
    "case": "case",
    "method": "method",
    "engine": "engine",
    "input": "input",
    "prefix": "frame_prefix",
}

ARGUMENTS = [
    DeclareLaunchArgument("case", default_value="", description="case folder; empty: the bundled one"),
    DeclareLaunchArgument(
        "method",
        default_value="",
        choices=["", "end2reg", "icp", "ransac_icp"],
        description="registration method; empty: as params_file says, else end2reg, which needs no start",
    ),
    DeclareLaunchArgument(
        "engine",
        default_value="",
        choices=["", "auto", "onnxruntime", "tensorrt", "torch"],
        description="what runs the network; empty: as params_file says, else the fastest that is there",
    ),
    DeclareLaunchArgument(
        "build_only",
        default_value="false",
        description="make the engine and what is computed of the case, keep them for the next start, and end",
    ),
    DeclareLaunchArgument(
        "camera", default_value="realsense", choices=CAMERAS, description="names and settings of"
    ),
    DeclareLaunchArgument(
        "points_topic", default_value="", description="PointCloud2 topic; empty: the camera's"
    ),
    DeclareLaunchArgument(
        "input",
        default_value="",
        choices=["", "points", "depth"],
        description="cloud or depth image; empty: the camera's",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="", description="take the time from /clock; empty: as params_file says"
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="show it in rviz2"),
    DeclareLaunchArgument(
        "prefix", default_value="", description="put before every TF frame name, such as 'patient/'"
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value="",
        description="parameters of the tracker, above the camera preset; empty: config/tracker.yaml, below it",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="ROS namespace of the tracker"),
]


def transport() -> list[SetEnvironmentVariable]:
    """Return what makes Fast DDS carry large clouds, unless the user has chosen a profile."""
    if any(os.environ.get(name) for name in PROFILE_VARIABLES):
        return []
    return [SetEnvironmentVariable(name, str(SHARE / "config" / "fastdds.xml")) for name in PROFILE_VARIABLES]


def nodes(context: LaunchContext) -> list[Node]:
    """Return the tracker and, when asked for, rviz2.

    Parameters, each above the one before: defaults, camera preset, the user's file, arguments that were given.
    """

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def true(name: str) -> bool:
        return given(name).lower() in ("true", "1")

    preset = yaml.safe_load((SHARE / "config" / "cameras" / f"{given('camera')}.yaml").read_text())
    topics = dict(preset["topics"])
    if given("points_topic"):
        topics["points"] = given("points_topic")
    parameters: dict[str, object] = {}
    if given("use_sim_time"):
        parameters["use_sim_time"] = true("use_sim_time")
    for argument, parameter in PARAMETERS.items():
        if given(argument):
            parameters[parameter] = given(argument)
    if true("build_only"):
        parameters["build_only"] = True
    above = [*filter(None, [given("params_file"), parameters])]
    tracker = Node(
        package="end2reg_ros",
        executable="tracker",
        name="tracker",
        namespace=given("namespace"),
        parameters=[str(SHARE / "config" / "tracker.yaml"), preset["parameters"], *above],
        remappings=list(topics.items()),
        output="screen",
        emulate_tty=True,
    )
    if not true("rviz") or true("build_only"):
        return [tracker]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        # The displays name the tracker's topics relatively, so that they follow its namespace.
        namespace=given("namespace"),
        arguments=["-d", str(SHARE / "rviz" / "tracking.rviz")],
        parameters=[{"use_sim_time": true("use_sim_time")}],
        remappings=[(RVIZ_CLOUD, topics["points"])],
    )
    return [tracker, rviz]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, the transport and the nodes."""
    return LaunchDescription([*ARGUMENTS, *transport(), OpaqueFunction(function=nodes)])
