"""The package holds together: versions, pins, licence, messages, and which folder may import what."""

from __future__ import annotations

import ast
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import end2reg_ros

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
MESSAGES = sorted([*(ROOT / "msg").glob("*.msg"), *(ROOT / "runtime").rglob("*.msg")])
SOURCES = sorted((ROOT / "end2reg_ros").rglob("*.py"))
# Spelled in pieces: this file must not name them either.
REGISTRY_HOSTS = ["py" + "pi.org", "python" + "hosted.org", "index" + "-url", "conda" + ".anaconda.org"]


def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def imports(file: Path) -> set[str]:
    """Top-level names of everything that the file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_versions_agree() -> None:
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert package_xml().findtext("version") == declared[1] == end2reg_ros.__version__


def test_licence_is_mit_everywhere() -> None:
    assert package_xml().findtext("license") == "MIT"
    assert "Permission is hereby granted, free of charge" in (ROOT / "LICENSE").read_text()
    assert 'license = { text = "MIT" }' in (ROOT / "pyproject.toml").read_text()


def test_maintainer_address_is_valid() -> None:
    maintainer = package_xml().find("maintainer")
    assert maintainer is not None
    assert re.fullmatch(r"[^@\s]+@[\w-]+(\.[\w-]+)+", maintainer.attrib["email"])


def test_ros_dependencies_of_the_code_are_declared() -> None:
    declared = {element.text for element in package_xml() if element.tag.endswith("depend")}
    ros = {
        "rclpy",
        "tf2_ros",
        "cv_bridge",
        "message_filters",
        "sensor_msgs_py",
        "launch",
        "launch_ros",
        "rcl_interfaces",
    }
    files = [*SOURCES, *(ROOT / "launch").glob("*.py")]
    used = {
        name for file in files for name in imports(file) if name in ros or name.endswith(("_msgs", "_srvs"))
    }
    # rclpy brings the parameter messages along
    assert used - declared <= {"rcl_interfaces"}, used - declared


def test_ros_dependencies_that_are_declared_are_used() -> None:
    of_the_build = {"rosidl_default_runtime", "ament_index_python", "launch", "rviz2"}
    declared = {str(e.text) for e in package_xml() if e.tag in ("depend", "exec_depend")} - of_the_build
    files = [*SOURCES, *(ROOT / "launch").glob("*.py")]
    used = {name for file in files for name in imports(file)}
    assert {name for name in declared if not name.startswith("python3-")} <= used


def test_what_the_build_and_the_launch_files_look_for_is_declared() -> None:
    declared = {element.text for element in package_xml() if element.tag.endswith("depend")}
    built_with = re.findall(r"find_package\((\w+) REQUIRED\)", (ROOT / "CMakeLists.txt").read_text())
    launched = [
        name
        for file in (ROOT / "launch").glob("*.py")
        for name in re.findall(r'package="(\w+)"', file.read_text())
    ]
    assert "ament_cmake" in built_with
    assert "rviz2" in launched
    assert {*built_with, *launched} - {"end2reg_ros"} <= declared


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda f: f.name)
def test_every_requirement_is_pinned_and_explained(file: Path) -> None:
    generated = file.name == "constraints.txt"
    previous, explained = "", set()
    for line in file.read_text().splitlines():
        if line and not line.startswith(("#", "-r")):
            name = re.match(r"([A-Za-z0-9._-]+)==[0-9][\w.]*(; .+)?$", line)
            assert name, f"not pinned: {line}"
            assert generated or previous.startswith("#") or name[1] in explained, f"no reason given: {line}"
            explained.add(name[1])
        previous = line


def test_indirect_requirements_are_pinned() -> None:
    constrained = set(
        re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "constraints.txt").read_text(), re.MULTILINE)
    )
    assert {"pillow", "flask", "ros-rclpy", "colcon-core", "numpy"} <= constrained


@pytest.mark.parametrize("file", MESSAGES, ids=lambda f: f.stem)
def test_every_field_has_a_comment(file: Path) -> None:
    for line in file.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            assert re.fullmatch(r"\S+ +\w+( = \S+)? +# \S.*", line.replace("   # ", " # ")), line


@pytest.mark.parametrize("file", sorted((ROOT / "msg").glob("*.msg")), ids=lambda f: f.stem)
def test_every_number_has_a_unit(file: Path) -> None:
    unit = r"no unit|metres|radians|milliseconds|seconds|count|0\.\.1"
    for line in file.read_text().splitlines():
        if re.match(r"(float|uint64)", line):
            assert re.search(unit, line), line


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(ROOT)))
def test_only_some_folders_import_ros_and_torch(file: Path) -> None:
    path = file.relative_to(ROOT / "end2reg_ros")
    names = imports(file)
    if path.parts[0] != "ros":
        assert "rclpy" not in names
    may_torch = path.parts[0] in ("network", "training") or (
        path.parts[0] == "engine" and path.name.startswith("torch")
    )
    assert may_torch or "torch" not in names


def test_no_file_names_a_registry() -> None:
    found = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    files = found.stdout.splitlines() if found.returncode == 0 else []
    files = files or [str(p.relative_to(ROOT)) for p in [*REQUIREMENTS, *SOURCES, ROOT / "Makefile"]]
    for name in files:
        file = ROOT / name
        if file.suffix in (".py", ".txt", ".toml", ".sh", ".md", ".yaml", ".cfg", "") and file.is_file():
            text = file.read_text(errors="ignore")
            assert not [host for host in REGISTRY_HOSTS if host in text], name


def test_transport_profile_carries_large_clouds() -> None:
    root = ElementTree.parse(ROOT / "config" / "fastdds.xml").getroot()
    space = {"d": "http://www.eprosima.com"}
    assert root.findtext(".//d:segment_size", namespaces=space) == "134217728"
    assert root.findtext(".//d:maxMessageSize", namespaces=space) == "67108864"
    assert root.findtext(".//d:useBuiltinTransports", namespaces=space) == "false"
    assert [t.text for t in root.findall(".//d:type", space)] == ["SHM", "UDPv4"]
    ElementTree.parse(ROOT / "config" / "cyclonedds.xml")


@pytest.mark.ros
def test_messages_survive_serialisation() -> None:
    from rclpy.serialization import deserialize_message, serialize_message

    from end2reg_ros.msg import TrackingStatus, VertebraPose, VertebraPoseArray

    status = TrackingStatus(
        state=TrackingStatus.DEGRADED, stage_names=["decode"], stage_ms=[1.5], clouds_received=7
    )
    assert deserialize_message(serialize_message(status), TrackingStatus) == status
    poses = VertebraPoseArray(vertebrae=[VertebraPose(level="L3", held=True)])
    assert deserialize_message(serialize_message(poses), VertebraPoseArray) == poses
