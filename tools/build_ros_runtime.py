#!/usr/bin/env python3
"""Build the messages that this environment lacks and put them into its prefix, where they need no environment variable.

Run by the interpreter of the environment. Without a ROS installation (the wheels): tf2_msgs and this package's messages.
With a sourced ROS 2: this package's messages alone, and a start-up hook that adds the environment's libraries.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PREFIX = Path(sys.prefix)
WORK = PREFIX / "ros_build"
# The prefix that the wheels were built in, as their exported CMake files name it.
CPYTHON = "cp{}{}".format(*sys.version_info)
BUILD_MACHINE = f"/opt/python/{CPYTHON}-{CPYTHON}"
# Start-up hooks of the environment. The dynamic linker reads LD_LIBRARY_PATH only at start, hence the second start.
SOURCED_HOOK = '''\
"""Lets the dynamic linker find the message libraries of this environment beside those of the sourced ROS 2."""
import os
import sys

_lib = os.path.join(sys.prefix, "lib")
_paths = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
if _lib not in _paths and os.environ.get("AMENT_PREFIX_PATH"):
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([_lib, *filter(None, _paths)])
    os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join([sys.prefix, os.environ["AMENT_PREFIX_PATH"]])
    os.execv(sys.executable, sys.orig_argv)
'''
# Runs before the wheels' own hook (alphabetical order), which does the second start.
WHEELS_HOOK = '''\
"""Forgets that another environment of ROS wheels has set its library path: this one must set its own."""
import os
import sys

if os.path.join(sys.prefix, "lib") not in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
    os.environ.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
'''


def correct_cmake_files() -> int:
    """Point the wheels' exported CMake files at this interpreter; return how many files changed."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    replacements = {
        f"{BUILD_MACHINE}/include/{version}": sysconfig.get_path("platinclude"),
        f"{BUILD_MACHINE}/lib/{version}/site-packages": sysconfig.get_path("purelib"),
    }
    changed = 0
    for folder in (PREFIX / "share", PREFIX / "lib" / "cmake"):
        for file in folder.rglob("*.cmake"):
            text = original = file.read_text()
            for old, new in replacements.items():
                text = text.replace(old, new)
            if text != original:
                file.write_text(text)
                changed += 1
    return changed


def build(packages: list[Path], underlay: str, colcon: str) -> Path:
    """Build message packages with colcon on top of the underlay; return the install prefix.

    They are copied first: CMake refuses exported include paths inside its source folder, and the environment usually
    lies inside the checkout.
    """
    shutil.rmtree(WORK, ignore_errors=True)
    for package in packages:
        copy = WORK / "src" / package.name
        shutil.copytree(package / "msg", copy / "msg")
        for name in ("package.xml", "CMakeLists.txt", "LICENSE"):
            if (package / name).exists():
                shutil.copy2(package / name, copy)
    environment = dict(os.environ, AMENT_PREFIX_PATH=underlay, CMAKE_PREFIX_PATH=underlay)
    environment["PATH"] = os.pathsep.join([str(PREFIX / "bin"), environment.get("PATH", os.defpath)])
    command = [colcon, "--log-base", str(WORK / "log"), "build", "--merge-install"]
    command += ["--base-paths", str(WORK / "src")]
    command += ["--build-base", str(WORK / "build"), "--install-base", str(WORK / "install")]
    command += ["--event-handlers", "console_cohesion+"]
    command += [
        "--cmake-args",
        f"-DPython3_EXECUTABLE={sys.executable}",
        "-DCMAKE_POLICY_VERSION_MINIMUM=3.5",
    ]
    command += ["-DEND2REG_MESSAGES_ONLY=ON", "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=MinSizeRel"]
    subprocess.run(command, check=True, env=environment, cwd=WORK)
    return WORK / "install"


def install(built: Path) -> None:
    """Copy what was built into the environment's prefix.

    The generated ``end2reg_ros/__init__.py`` stays behind: without it the folder in site-packages does not shadow the
    sources of the checkout, and ``pkgutil.extend_path`` there finds the messages.
    """
    for name in ("share", "include"):
        shutil.copytree(built / name, PREFIX / name, dirs_exist_ok=True)
    (PREFIX / "lib").mkdir(exist_ok=True)
    for library in (built / "lib").glob("*.so*"):
        shutil.copy2(library, PREFIX / "lib")
    site_packages = Path(sysconfig.get_path("purelib"))
    for generated in sorted(built.rglob("*-packages")):
        for package in (p for p in generated.iterdir() if p.is_dir() and not p.name.endswith(".egg-info")):
            target = site_packages / package.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(package, target)
    for leftover in ("__init__.py", "__pycache__"):
        path = site_packages / "end2reg_ros" / leftover
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def main() -> int:
    """Build and install; exit non-zero when a tool fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sourced", action="store_true", help="on top of a sourced ROS 2 instead of the wheels"
    )
    options = parser.parse_args()
    if options.sourced:
        underlay, packages = os.environ["AMENT_PREFIX_PATH"], [ROOT]
        colcon = shutil.which("colcon") or "colcon"
    else:
        underlay, packages = str(PREFIX), [ROOT / "runtime" / "tf2_msgs", ROOT]
        colcon = str(PREFIX / "bin" / "colcon")
        print(f"{correct_cmake_files()} CMake files corrected", flush=True)
    try:
        install(build(packages, underlay, colcon))
    except subprocess.CalledProcessError as error:
        return error.returncode
    site_packages = Path(sysconfig.get_path("purelib"))
    (site_packages / "end2reg_ros_hook.py").write_text(SOURCED_HOOK if options.sourced else WHEELS_HOOK)
    (site_packages / "end2reg_ros_hook.pth").write_text("import end2reg_ros_hook\n")
    shutil.rmtree(WORK, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
