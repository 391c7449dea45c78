"""Plans kept between starts: used only when everything they depend on is the same, and one line says what is not."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from end2reg_ros.engine.tensorrt import plan_cache
from end2reg_ros.engine.tensorrt.plan_cache import (
    Found,
    Gpu,
    PlanKey,
    keep_plan,
    keep_timings,
    plan_path,
    read_plan,
    read_timings,
)

GPU = Gpu("NVIDIA GeForce RTX 4090", "8.9")
KEY = PlanKey(
    graph="scene",
    profile="realtime",
    onnx="a" * 64,
    tensorrt="11.4.0.106",
    gpu=GPU,
    precision="fp16 backbone",
    shapes='{"model": [3840], "scene": [3072]}',
    settings="effort 3",
)
PLAN = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_a_plan_comes_back_as_it_was(folder: Path) -> None:
    assert read_plan(KEY) == Found(None, "")
    assert keep_plan(KEY, PLAN) == ""
    assert read_plan(KEY) == Found(PLAN)
    path = plan_path(KEY)
    assert path == folder / "plans" / "nvidia-geforce-rtx-4090-8-9" / "realtime-scene-fp16-backbone.plan"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


OTHERS = {
    "GPU": replace(KEY, gpu=Gpu("NVIDIA GeForce RTX 3090", "8.9")),
    "compute capability": replace(KEY, gpu=Gpu(GPU.name, "12.0")),
    "TensorRT": replace(KEY, tensorrt="10.3.0"),
    "precision": replace(KEY, precision="fp32"),
    "graph": replace(KEY, onnx="b" * 64),
    "shapes": replace(KEY, shapes='{"model": [3840], "scene": [1792]}'),
    "settings": replace(KEY, settings="effort 5"),
}


@pytest.mark.parametrize("part", OTHERS)
def test_a_plan_for_anything_else_is_not_used_and_the_line_names_the_part(part: str) -> None:
    other = OTHERS[part]
    keep_plan(other, PLAN)
    # Wherever it came from: it lies where this key's plan would be.
    plan_path(KEY).parent.mkdir(parents=True, exist_ok=True)
    plan_path(other).replace(plan_path(KEY))
    found = read_plan(KEY)
    assert found.content is None
    assert found.why.startswith(
        f"the plan kept for the scene graph is of no use, a new one is made: made for {part} "
    )
    assert "\n" not in found.why
    # The new one takes its place.
    keep_plan(KEY, PLAN[::-1])
    assert read_plan(KEY) == Found(PLAN[::-1])


def test_every_part_of_the_key_is_among_those_that_are_tried() -> None:
    assert set(KEY.parts()) == {*OTHERS, "conversion"}


def test_the_line_shows_both_sides() -> None:
    keep_plan(OTHERS["TensorRT"], PLAN)
    expected = "the plan kept for the scene graph is of no use, a new one is made: made for TensorRT 10.3.0, now 11.4.0.106"
    assert read_plan(KEY).why == expected


def test_names_of_gpus_are_shown_whole() -> None:
    keep_plan(KEY, PLAN)
    other = replace(KEY, gpu=Gpu("NVIDIA GeForce RTX 4090 D", "8.9"))
    plan_path(other).parent.mkdir(parents=True)
    plan_path(KEY).replace(plan_path(other))
    assert read_plan(other).why.endswith(
        "made for GPU NVIDIA GeForce RTX 4090, now NVIDIA GeForce RTX 4090 D"
    )


def test_a_new_conversion_makes_plans_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_plan(KEY, PLAN)
    monkeypatch.setattr(plan_cache, "CONVERSION", plan_cache.CONVERSION + 1)
    assert "made for conversion " in read_plan(KEY).why


def test_a_plan_for_another_gpu_of_the_same_machine_is_kept_beside() -> None:
    other = OTHERS["GPU"]
    keep_plan(KEY, PLAN)
    keep_plan(other, PLAN[:99])
    assert read_plan(KEY).content == PLAN and read_plan(other).content == PLAN[:99]


@pytest.mark.parametrize("cut", [0, 1, 30, 120, len(PLAN), -1])
def test_a_plan_that_was_cut_is_recognised(cut: int) -> None:
    keep_plan(KEY, PLAN)
    whole = plan_path(KEY).read_bytes()
    plan_path(KEY).write_bytes(whole[:cut])
    found = read_plan(KEY)
    assert found.content is None
    assert found.why.startswith("the plan kept for the scene graph is of no use, a new one is made: ")


def test_a_changed_byte_is_recognised() -> None:
    keep_plan(KEY, PLAN)
    content = bytearray(plan_path(KEY).read_bytes())
    content[-50] ^= 1
    plan_path(KEY).write_bytes(content)
    assert read_plan(KEY).why.endswith("damaged or cut short")


def test_a_foreign_file_is_recognised() -> None:
    plan_path(KEY).parent.mkdir(parents=True)
    plan_path(KEY).write_bytes(b"ftrt" + PLAN)
    assert read_plan(KEY) == Found(
        None, "the plan kept for the scene graph is of no use, a new one is made: no file of this cache"
    )


def test_what_cannot_be_read_is_built_anew() -> None:
    plan_path(KEY).mkdir(parents=True)
    assert read_plan(KEY) == Found(
        None, "the plan kept for the scene graph cannot be read, a new one is made: Is a directory"
    )


def test_a_full_disk_costs_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(plan_cache, "write_atomically", full)
    assert keep_plan(KEY, PLAN) == (
        "the plan of the scene graph cannot be kept, every start makes it anew: No space left on device"
    )
    assert read_plan(KEY) == Found(None, "")


def test_a_folder_that_is_a_file_costs_a_line(folder: Path) -> None:
    folder.write_bytes(b"")
    assert read_plan(KEY) == Found(None, "")
    assert keep_plan(KEY, PLAN).startswith(
        "the plan of the scene graph cannot be kept, every start makes it anew: "
    )


def test_without_a_home_it_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise OSError("there is no home folder: set END2REG_CACHE")

    monkeypatch.setattr(plan_cache, "cache_folder", none)
    assert read_plan(KEY).why.endswith(
        "cannot be read, a new one is made: there is no home folder: set END2REG_CACHE"
    )
    assert keep_plan(KEY, PLAN).endswith("there is no home folder: set END2REG_CACHE")


def test_timings_belong_to_a_gpu_and_a_version() -> None:
    assert read_timings(GPU, "11.4.0.106") == Found(None, "")
    assert keep_timings(GPU, "11.4.0.106", b"timings") == ""
    assert read_timings(GPU, "11.4.0.106") == Found(b"timings")
    assert read_timings(GPU, "11.5.0.1") == Found(
        None,
        "the kept timing cache is of no use, a new one is made: made for TensorRT 11.4.0.106, now 11.5.0.1",
    )
    assert read_timings(Gpu("NVIDIA H200", "9.0"), "11.4.0.106") == Found(None, "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H200", "nvidia-h200-9-0"),
        ("../../x", "x-9-0"),
        ("", "9-0"),
        ("Orin (nvgpu)", "orin-nvgpu-9-0"),
    ],
)
def test_a_gpus_name_makes_a_harmless_folder(name: str, expected: str) -> None:
    assert Gpu(name, "9.0").folder == expected
