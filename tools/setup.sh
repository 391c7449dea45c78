#!/usr/bin/env bash
# Make the environment that everything runs in. Does nothing when it is there and nothing that it depends on has changed.
#
#   tools/setup.sh [folder]          default .venv; PYTHON=... chooses the interpreter
#
# With a sourced ROS 2 that one is used. Without: ROS 2 Jazzy from wheels, and the missing messages are built.
set -euo pipefail

cd "$(dirname "$0")/.."
# Left behind by the ROS wheels of another environment; with it set ours would not find its libraries.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE

venv=${1:-.venv}
stamp=$venv/.setup-complete

fail() {
  echo "setup: $*" >&2
  exit 1
}

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# system_packages WHY PACKAGE...: install them when we may, else say the command.
system_packages() {
  local why=$1
  shift
  may_install || fail "$why. Type: sudo apt-get install -y $*"
  echo "setup: $why; installing $*"
  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
    fail "$why, and apt could not install it. Try: apt-get install -y $*"
}

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

# The interpreter below an activated environment: that one may be the very folder that is made anew.
base_python() { "$1" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))'; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if supported "$candidate"; then
      base_python "$candidate"
      return
    fi
  done
  candidate=${PYTHON:-python3}
  fail "Python 3.10 to 3.13 is needed; $candidate is $("$candidate" --version 2>/dev/null || echo absent). Type: make PYTHON=/path/to/python3.12"
}

# Prints what ROS 2 there is. The wheels and a sourced ROS 2 never go together: one would load the other's libraries.
find_ros() {
  if [ -z "${ROS_DISTRO:-}" ] || [ -z "${AMENT_PREFIX_PATH:-}" ]; then
    echo wheels
  elif "$python" -c 'import rclpy' 2>/dev/null; then
    echo "sourced $ROS_DISTRO, numpy $(numpy_of_ros)"
  else
    fail "ROS 2 $ROS_DISTRO is sourced, but $python cannot import rclpy. Type: make PYTHON=/usr/bin/python3, or use a shell without ROS 2"
  fi
}

numpy_of_ros() { "$python" -c 'import numpy; print(numpy.__version__.split(".")[0])' 2>/dev/null || echo 2; }

# The builds that the environment's packages fit; a security update of the same Python leaves it unchanged.
interpreter() {
  "$python" -c 'import sys, sysconfig; print(sys.version_info[:2], sys.base_prefix, sysconfig.get_config_var("SOABI"))'
}

fingerprint() { # fingerprint FILE...: what an earlier result must agree with
  { echo "$mode" && interpreter && pwd && sha256sum "$@"; } | sha256sum | cut -d ' ' -f 1
}

unchanged() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

system_libraries_missing() {
  "$python" - <<'PY'
import ctypes
libraries = {"libusb-1.0.so.0": "libusb-1.0-0", "libGL.so.1": "libgl1", "libEGL.so.1": "libegl1",
             "libgomp.so.1": "libgomp1", "libX11.so.6": "libx11-6"}
for name, package in libraries.items():
    try:
        ctypes.CDLL(name)
    except OSError:
        print(package)
PY
}

check_system() {
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || [ "$mode" != wheels ] ||
    fail "ROS 2 wheels exist for Linux on x86-64 only; on $(uname -s) $(uname -m) install ROS 2 and source it"
  local version missing=()
  version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("$version-venv")
  [ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("platinclude"))')/Python.h" ] || missing+=("$version-dev")
  { command -v "${CC:-cc}" && command -v "${CXX:-c++}"; } >/dev/null || missing+=(build-essential)
  [ ${#missing[@]} = 0 ] || system_packages "a compiler, python3-venv or the Python headers are missing" "${missing[@]}"
  mapfile -t missing < <(system_libraries_missing)
  [ ${#missing[@]} = 0 ] || system_packages "system libraries of Open3D are missing" "${missing[@]}"
  [ "$mode" = wheels ] || command -v colcon >/dev/null ||
    fail "ROS 2 $ROS_DISTRO is sourced but colcon is missing. Type: sudo apt-get install -y python3-colcon-common-extensions"
}

step() { # step LABEL EXPECTED PATTERN -- COMMAND...
  local label=$1 expected=$2 pattern=$3
  shift 3
  "$python" tools/run_step.py "$label" "$venv/setup.log" "$expected" "$pattern" "$@" ||
    fail "stopped at: $label. The environment is incomplete; run the same command again to go on"
}

# Nothing that somebody else made is ever removed: ours carries these two files from its first moment on.
check_folder() {
  [ ! -e "$venv" ] || { [ -f "$venv/COLCON_IGNORE" ] && [ -f "$venv/setup.log" ]; } ||
    fail "$venv was not made by this script and is left alone. Remove it yourself, or name another folder"
}

make_environment() {
  if [ -d "$venv" ]; then
    echo "setup: the pinned requirements, the interpreter or the ROS 2 in use changed; making $venv anew"
    rm -rf "$venv"
  fi
  mkdir -p "$venv"
  touch "$venv/COLCON_IGNORE" "$venv/setup.log"
  local options=()
  [ "$mode" = wheels ] || options=(--system-site-packages)
  step "[1/4] virtual environment ($("$python" --version), $mode)" 0 '^$' -- "$python" -m venv "${options[@]}" "$venv"
}

install_packages() {
  local files=(-r requirements/runtime.txt -r requirements/dev.txt) expected=0
  if [ "$mode" = wheels ]; then
    files+=(-r requirements/ros-wheels.txt -c requirements/constraints.txt)
    expected=$(grep -oE '^[a-z][^=]*==' requirements/constraints.txt | sort -u | wc -l)
  elif [ "$(numpy_of_ros)" = 1 ]; then
    files=(-r requirements/runtime-numpy1.txt -r requirements/dev.txt)
  fi
  step "[2/4] Python packages" "$expected" '^(Collecting|Processing) ' -- \
    "$venv/bin/python" -m pip install --progress-bar off --disable-pip-version-check "${files[@]}"
}

python=$(find_python)
mode=$(find_ros)

shopt -s globstar
packages_print=$(fingerprint requirements/*.txt)
messages_print=$packages_print-$(fingerprint msg/*.msg CMakeLists.txt package.xml runtime/**/*.{txt,xml,msg} tools/build_ros_runtime.py)
complete_print=$messages_print-$(fingerprint pyproject.toml setup.py)
unchanged "$stamp" "$complete_print" && exit 0
check_folder
rm -f "$stamp"

check_system
if ! unchanged "$venv/.packages" "$packages_print"; then
  make_environment
  install_packages
  echo "$packages_print" >"$venv/.packages"
fi
if ! unchanged "$venv/.messages" "$messages_print"; then
  sourced=()
  [ "$mode" = wheels ] || sourced=(--sourced)
  step "[3/4] ROS 2 messages" 0 '^$' -- "$venv/bin/python" tools/build_ros_runtime.py "${sourced[@]}"
  echo "$messages_print" >"$venv/.messages"
fi
step "[4/4] end2reg_ros from this checkout" 0 '^$' -- "$venv/bin/python" -m pip install --disable-pip-version-check \
  --no-deps --no-build-isolation --editable .
"$venv/bin/python" -c 'import rclpy; from tf2_msgs.msg import TFMessage; from end2reg_ros.msg import TrackingStatus' ||
  fail "the ROS 2 messages do not import. Type: make clean setup"
echo "$complete_print" >"$stamp"
echo "setup: complete"
