"""Simulated depth camera and tracker: ``ros2 launch end2reg_ros simulation.launch.py rviz:=true``.

The truth is on /ground_truth/status and under the TF frames ground_truth/spine, ground_truth/L1, ...
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("end2reg_ros"))
SIMULATED_TOPIC = "/camera/depth/color/points"
# Handed on to tracking.launch.py as they are; it documents them.
PASSED_ON = (
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
)

ARGUMENTS = [
    DeclareLaunchArgument("case", default_value="", description="case folder; empty: the bundled one"),
    DeclareLaunchArgument("method", default_value="", description="registration method of the tracker"),
    DeclareLaunchArgument("engine", default_value="", description="what runs the network"),
    DeclareLaunchArgument(
        "build_only", default_value="false", description="no camera; see tracking.launch.py"
    ),
    DeclareLaunchArgument("camera", default_value="simulated", description="camera preset of the tracker"),
    DeclareLaunchArgument(
        "points_topic", default_value=SIMULATED_TOPIC, description="topic of the simulated cloud"
    ),
    DeclareLaunchArgument(
        "input", default_value="points", choices=["points"], description="the simulation sends clouds"
    ),
    DeclareLaunchArgument("use_sim_time", default_value="", description="take the time from /clock"),
    DeclareLaunchArgument("rviz", default_value="false", description="show it in rviz2"),
    DeclareLaunchArgument(
        "prefix", default_value="", description="put before every TF frame name of the tracker"
    ),
    DeclareLaunchArgument("params_file", default_value="", description="parameters of the tracker"),
    DeclareLaunchArgument("namespace", default_value="", description="ROS namespace of tracker and camera"),
]


def camera(context: LaunchContext) -> list[Node]:
    """Return the simulated camera; none where the tracker only builds.

    It sends an initial_pose from simulated picks only to a method that may need one: the learned one finds the spine
    by itself, and that is what is to be seen. With a parameter file nobody knows here which method it is.
    """

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def true(name: str) -> bool:
        return given(name).lower() in ("true", "1")

    if true("build_only"):
        return []
    topic = given("points_topic") or SIMULATED_TOPIC
    method = given("method") or ("" if given("params_file") else "end2reg")
    parameters: dict[str, object] = {
        "use_sim_time": true("use_sim_time"),
        "simulate_picks": method != "end2reg",
    }
    if given("case"):
        parameters["case"] = given("case")
    return [
        Node(
            package="end2reg_ros",
            executable="simulated_camera",
            name="simulated_camera",
            # initial_pose is named relatively, so that it reaches the tracker in its namespace.
            namespace=given("namespace"),
            parameters=[parameters],
            remappings=[(SIMULATED_TOPIC, topic)],
            output="screen",
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the tracker's own launch file and the camera; the former comes first, it sets the transport for both."""
    tracking = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "tracking.launch.py")),
        launch_arguments=[(name, LaunchConfiguration(name)) for name in PASSED_ON],
    )
    return LaunchDescription([*ARGUMENTS, tracking, OpaqueFunction(function=camera)])
