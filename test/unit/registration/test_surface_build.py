"""What a start takes from the cache: the same surface and markers as made anew, without the libraries that make them."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from boxes_case import boxes_case
from views import bundled_case

from end2reg_ros.case.model import Case, Mesh
from end2reg_ros.registration.fit import surface, surface_build
from end2reg_ros.registration.fit.surface import ModelSurface
from end2reg_ros.registration.fit.surface_build import (
    FILE_NAME,
    build_model_surface,
    model_surface,
    surface_key,
)

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("open3d", "trimesh", "skimage", "matplotlib", "pandas", "sklearn", "torch", "onnx", "nibabel", "rosbags",
         "tyro", "rich", "jinja2")  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of this file's tests, filled with the bundled case's surface."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("kept")
        patch.setenv("END2REG_CACHE", str(folder))
        model_surface(bundled_case())
        yield folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path))
    return tmp_path


def assert_same(one: object, other: object) -> None:
    """Equal bit by bit, types included."""
    assert type(one) is type(other)
    if is_dataclass(one):
        for field in fields(one):
            if field.name != "tree":
                assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        assert (one.dtype, one.shape, one.strides) == (other.dtype, other.shape, other.strides)
        assert one.tobytes() == other.tobytes()
    elif isinstance(one, tuple) and isinstance(other, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def never(*arguments: object) -> ModelSurface:
    raise AssertionError("made again, although it is kept")


@pytest.mark.slow
def test_a_kept_surface_is_the_fresh_one_bit_by_bit(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = bundled_case()
    fresh = build_model_surface(case)
    monkeypatch.setattr(surface_build, "build_model_surface", never)
    found = model_surface(case)
    assert_same(found, fresh)
    near = fresh.points[::37] + np.random.default_rng(0).normal(scale=0.004, size=fresh.points[::37].shape)
    for mine, reference in zip(found.tree.query(near, 5), fresh.tree.query(near, 5), strict=True):
        assert mine.tobytes() == reference.tobytes()


def test_a_cut_file_is_made_anew(empty: Path, caplog: pytest.LogCaptureFixture) -> None:
    case = boxes_case()
    first = model_surface(case)
    path = empty / "cases" / case.hash / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert_same(model_surface(case), first)
    assert caplog.messages == [f"{path} is not used, but made anew: damaged or cut short"]
    assert path.read_bytes() == whole


def test_a_case_changed_in_memory_does_not_get_the_old_surface(
    empty: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = boxes_case()
    model_surface(case)
    first = case.vertebrae[0]
    grown = Mesh(first.mesh.vertices * 1.01, first.mesh.triangles)
    changed = replace(case, vertebrae=(replace(first, mesh=grown), *case.vertebrae[1:]))
    assert changed.hash == case.hash
    assert_same(model_surface(changed), build_model_surface(changed))
    assert len(caplog.messages) == 1 and "made for meshes" in caplog.messages[0]


def test_other_settings_and_changed_code_do_not_get_the_old_surface(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = boxes_case()
    fine, coarse = model_surface(case), model_surface(case, 0.002)
    assert_same(coarse, build_model_surface(case, 0.002))
    assert len(coarse.points) < 0.5 * len(fine.points)
    before = surface_key(case, 0.001, 0.003)
    edited = empty / "surface.py"
    edited.write_bytes(Path(surface.__file__).read_bytes() + b"# another comment\n")
    monkeypatch.setattr(surface, "__file__", str(edited))
    after = surface_key(case, 0.001, 0.003)
    assert [name for name in before if before[name] != after[name]] == ["code"]
    monkeypatch.setattr(surface_build, "version", lambda name: "0.0")
    later = surface_key(case, 0.001, 0.003)
    assert [name for name in after if after[name] != later[name]] == [
        "numpy version", "scipy version", "open3d version"
    ]  # fmt: skip


# The node's start

START = """
import sys
import end2reg_ros.ros.tracker_node
from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.registration.fit.surface_build import model_surface
from end2reg_ros.ros.markers import case_markers
case = load_case(bundled_case_path())
model_surface(case)
case_markers("", case, 600)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.ros
def test_kept_markers_are_the_fresh_ones(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from end2reg_ros.ros import markers

    def decimate(mesh: Mesh, triangles: int) -> Mesh:
        raise AssertionError("made again, although it is kept")

    case = bundled_case()
    fresh = [markers.decimate(v.mesh, 600) for v in case.vertebrae]
    assert_same(tuple(markers.decimated(case, 600)), tuple(fresh))
    monkeypatch.setattr(markers, "decimate", decimate)
    assert_same(tuple(markers.decimated(case, 600)), tuple(fresh))
    with pytest.raises(AssertionError, match="made again"):
        markers.decimated(case, 601)
    assert markers.decimated(case, 10**6)[0] is case.vertebrae[0].mesh


@pytest.mark.ros
def test_a_start_with_a_kept_case_imports_none_of_the_libraries_that_made_it(kept: Path) -> None:
    """Open3D alone costs a second and 190 MB."""
    from end2reg_ros.ros.markers import case_markers

    case_markers("", bundled_case(), 600)
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, cwd=ROOT, check=True)
    imported = set(done.stdout.split())
    assert {"scipy", "rclpy"} <= imported  # it did import something
    assert imported.isdisjoint(HEAVY), imported & set(HEAVY)
    assert done.stderr == ""


# Memory

FREED = """
from pathlib import Path
import re, sys
from end2reg_ros.runtime.memory import give_back_freed_memory, keep_freed_memory
assert keep_freed_memory()
def resident_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000
blocks = [bytearray(b"x" * 16_000_000) for _ in range(8)]
del blocks
held = resident_mb()
assert give_back_freed_memory()
print(held, resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_memory_of_setting_up_goes_back_once(kept: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, cwd=ROOT, check=True)
    held, left = map(float, re.findall(r"[\d.]+", done.stdout))
    assert held > 128 and left < held - 100


def test_a_surface_of_a_case_without_a_folder_is_not_kept(empty: Path) -> None:
    case: Case = replace(boxes_case(), hash="")
    assert_same(model_surface(case), build_model_surface(case))
    assert not any(empty.iterdir())
