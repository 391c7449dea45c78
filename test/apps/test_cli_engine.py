"""``end2reg export`` and ``end2reg engine build | info | verify``: what they print, what they leave behind, exit codes."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is absent: run 'make setup'")
pytest.importorskip("onnx", reason="onnx is absent: run 'make setup'")

from boxes_case import boxes_case
from engine_setup import LARGE, PROFILE, SMALL, WEIGHTS, bundle, surface

from end2reg_ros.apps.engine import info as engine_info
from end2reg_ros.apps.engine import parity_report
from end2reg_ros.apps.engine.build import build, check_precision, files_in
from end2reg_ros.cli import main as cli
from end2reg_ros.engine import load
from end2reg_ros.engine.onnx_files import companion
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.tensorrt import library as tensorrt_library
from end2reg_ros.engine.types import EngineInfo
from end2reg_ros.engine.weights_file import read_weights
from end2reg_ros.errors import EngineError
from end2reg_ros.registration import create_registrar
from end2reg_ros.registration.fit import surface_build

pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def end2reg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command, in this process, 200 columns wide."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: object) -> Ended:
        capsys.readouterr()
        code = cli.main([str(a) for a in args])
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache."""
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def one_line(ended: Ended) -> str:
    """The error of a command that failed."""
    assert ended.code == 1 and ended.err.startswith("end2reg: error: ") and ended.err.count("\n") == 1
    return ended.err.removeprefix("end2reg: error: ").strip()


# --- export ---------------------------------------------------------------------------------------------------------


def test_export(end2reg: Run, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model.onnx"
    done = end2reg("export", "--out", out, "--weights", WEIGHTS, "--json")
    assert done.code == 0
    document = done.document
    assert document["profile"] == "realtime" and document["weights_hash"] == read_weights(WEIGHTS).hash
    assert document["engine_hash"] == bundle().hash
    assert [f["graph"] for f in document["files"]] == ["scene", "scene_small", "model", "region"]
    names = ["model.onnx", "model.scene_small.onnx", "model.model.onnx", "model.region.onnx"]
    assert sorted(p.name for p in out.parent.iterdir()) == sorted(names)
    for file in document["files"]:
        content = Path(file["path"]).read_bytes()
        assert Path(file["path"]) == companion(out, file["graph"])
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    told = end2reg("export", "--out", out, "--profile", "realtime")
    lines = told.out.splitlines()
    assert told.code == 0 and len(lines) == 5 and lines[0].startswith(f"{out}: scene graph, ")
    assert (
        lines[-1] == f"profile realtime, weights {document['weights_hash']}, engine {document['engine_hash']}"
    )


def test_export_needs_no_torch(end2reg: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
    assert end2reg("export", "--out", tmp_path / "model.onnx").code == 0


def test_exports_that_cannot_be(end2reg: Run, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    assert (
        one_line(end2reg("export", "--out", tmp_path / "a.bin"))
        == "--out must end in .onnx, 'a.bin' does not"
    )
    said = one_line(end2reg("export", "--out", out, "--weights", WEIGHTS, "--profile", "paper"))
    assert said == "weights are of profile 'realtime', profile 'paper' was asked for"
    absent = tmp_path / "none.safetensors"
    assert one_line(end2reg("export", "--out", out, "--weights", absent)) == f"no weights file {absent}"
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "model.onnx"
    said = one_line(end2reg("export", "--out", below))
    assert said.startswith(f"{below} cannot be written (")
    assert not out.exists()


# --- build ----------------------------------------------------------------------------------------------------------


def test_a_build_makes_all_that_a_start_makes(cache: Path) -> None:
    """What the registrar finds after it is all there: its own start writes nothing more into the cache."""
    case = boxes_case()
    options = EngineOptions("onnxruntime", WEIGHTS, threads=1)
    made = build(options, case)
    assert [s.what for s in made.steps] == [
        "graphs", "engine", "the case's surface", "the case's side of the network", "warm-up",
    ]  # fmt: skip
    assert made.engine is not None and made.engine.name == "onnxruntime"
    kept = files_in(cache)
    assert set(kept) == {path for step in made.steps for path in step.written}
    assert {path.relative_to(cache).parts[0] for path in kept} == {"networks", "onnxruntime", "cases"}
    assert made.seconds == sum(s.seconds for s in made.steps) > 0
    create_registrar("end2reg", case, network=options).warm_up()
    assert files_in(cache) == kept
    again = build(options, case)
    assert [s.written for s in again.steps] == [()] * 5 and files_in(cache) == kept


def test_build_is_told(end2reg: Run, cache: Path) -> None:
    done = end2reg("engine", "build", "--engine", "onnxruntime", "--threads", 1, "--json")
    document = done.document
    assert done.code == 0 and document["cache"] == str(cache)
    assert document["engine"]["engine_hash"] == bundle().hash
    steps = {s["what"]: s for s in document["steps"]}
    assert list(steps) == ["graphs", "engine"]
    networks = {f"networks/{document['engine']['weights_hash']}/{name}.onnx" for name in bundle().graphs}
    assert set(steps["graphs"]["written"]) == networks
    again = end2reg("engine", "build", "--engine", "onnxruntime", "--threads", 1)
    assert again.code == 0 and again.out.count("nothing new") == 2
    assert f"kept in {cache}; with --case also what belongs to a case" in again.out
    assert "onnxruntime" in again.out and "on cpu, 1 thread, fp32, profile realtime" in again.out


def test_a_cache_that_cannot_be_written(
    end2reg: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("END2REG_CACHE", str(tmp_path / "file"))
    info = EngineInfo("onnxruntime", "cpu", "realtime", "ab" * 8, 0, {})
    monkeypatch.setattr(load, "load_engine", lambda options: SimpleNamespace(info=info, close=lambda: None))
    said = one_line(end2reg("engine", "build", "--engine", "onnxruntime", "--threads", 1))
    assert said == (
        f"nothing is kept in {tmp_path / 'file'}: it cannot be written, every start makes all of it anew"
    )


def test_builds_that_cannot_be(end2reg: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = one_line(end2reg("engine", "build", "--engine", "onnxruntime", "--precision", "mixed"))
    assert said == "engine 'onnxruntime' calculates in fp32: precision 'mixed' needs engine 'tensorrt'"
    said = one_line(end2reg("engine", "build", "--engine", "onnxruntime", "--device", "abacus"))
    assert said == "ONNX Runtime knows no device 'abacus': choose one of cpu, cuda, tensorrt"
    assert one_line(end2reg("engine", "build", "--threads", 0)) == "--threads must be 1 or more"
    absent = tmp_path / "none.safetensors"
    assert one_line(end2reg("engine", "build", "--weights", absent)) == f"no weights file {absent}"
    assert end2reg("engine", "build", "--case", tmp_path / "none").code == 1
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    said = one_line(end2reg("engine", "build", "--engine", "tensorrt"))
    assert said.startswith("engine 'tensorrt' needs ") and "requirements/tensorrt.txt" in said


# --- info -----------------------------------------------------------------------------------------------------------


def test_info(end2reg: Run, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "has_nvidia_gpu", lambda: False)
    done = end2reg("engine", "info", "--json")
    document, raw = done.document, read_weights(WEIGHTS)
    assert done.code == 0
    assert document["engine"]["name"] == "onnxruntime"
    assert document["engine"]["why"].startswith("no NVIDIA GPU is there")
    assert (document["engine"]["weights_hash"], document["engine"]["engine_hash"]) == (
        raw.hash,
        bundle().hash,
    )
    assert document["weights"] == {"path": str(WEIGHTS), "source": "package", "note": ""}
    assert document["sizes"] == {
        "model": list(PROFILE.model.capacities),
        "scene": [list(spec.capacities) for spec in PROFILE.scene_specs],
    }
    assert {n: g["sha256"] for n, g in document["graphs"].items()} == {
        n: g.hash for n, g in bundle().graphs.items()
    }
    assert document["training"]["iterations"] == raw.record["iteration"]
    assert document["training"]["validation_tre_median_mm"] == raw.record["validation"]["tre_median_mm"]
    assert document["cache"]["folder"] == str(cache)
    kept = document["cache"]["parts"]
    assert kept["networks"]["files"] == 4
    assert sum(part["bytes"] for part in kept.values()) == sum(size for size, _ in files_in(cache).values())
    assert [e["name"] for e in document["engines"]] == ["onnxruntime", "tensorrt", "torch"]
    text = end2reg("engine", "info").out
    for expected in (
        raw.hash,
        str(cache),
        f"{SMALL}/",
        f", or {LARGE}/",
        "no NVIDIA GPU is there",
        str(WEIGHTS),
    ):
        assert expected in text, expected


def test_the_engines_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (engine_info, tensorrt_library):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(load, "has_nvidia_gpu", lambda: False)
    found = {c.name: c for c in engine_info.candidates()}
    assert not any(c.usable for c in found.values())
    assert found["onnxruntime"].note == "pip install onnxruntime"
    assert found["torch"].note == "`make setup-train` installs it"
    assert found["tensorrt"].note == (
        "no NVIDIA GPU; tensorrt, polygraphy, cuda-bindings missing: pip install -r requirements/tensorrt.txt"
    )


def test_the_engines_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    for module in (engine_info, tensorrt_library):
        monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr(load, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    found = {c.name: c for c in engine_info.candidates()}
    assert all(c.usable for c in found.values()) and found["tensorrt"].note == ""
    assert found["onnxruntime"].note == (
        "on cpu; for the GPU pip install onnxruntime-gpu (in place of onnxruntime)"
    )
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    assert engine_info.candidates()[0].note == "on cpu, cuda"


def test_a_record_in_short() -> None:
    assert engine_info.short_record({}) == {}
    record = {
        "note": "x",
        "iteration": 3,
        "validation": {"tre_median_mm": 1.5, "other": 2},
        "config": {"seed": 1},
    }
    assert engine_info.short_record(record) == {"note": "x", "iterations": 3, "validation_tre_median_mm": 1.5}
    assert engine_info.short_record({"validation": "none", "note": ""}) == {}


def test_info_of_what_cannot_be_loaded(end2reg: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(b"\x08\x0a\x12")
    said = one_line(end2reg("engine", "info", "--engine", "onnxruntime", "--weights", cut))
    assert said == f"{cut} is no ONNX file, or cut short"
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    monkeypatch.setattr(load, "has_nvidia_gpu", lambda: False)
    assert (
        one_line(end2reg("engine", "info")) == "nothing is there to run the network: pip install onnxruntime"
    )


# --- verify ---------------------------------------------------------------------------------------------------------

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch: torch is absent: run 'make setup-train'"
)


@pytest.mark.torch
@needs_torch
def test_verify(end2reg: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Text, JSON, an exported file, and figures that are outside: those are told in one line, with exit code 1."""
    monkeypatch.setattr(surface_build, "model_surface", lambda case: surface())  # no ray casting
    common = ("engine", "verify", "--engine", "onnxruntime", "--threads", 1)
    done = end2reg(*common, "--scenes", 2)
    assert done.code == 0 and done.err == ""
    assert "all within tolerance" in done.out and "held against torch" in done.out
    assert "needed: labels >= 99.9 %, overlap >= 0.99, pose <= 0.05 mm and <= 0.05 deg" in done.out
    assert [line.split()[1] for line in done.out.splitlines()[3:9]] == [
        "spine",
        "part",
        "empty",
        "60",
        "one",
        "too",
    ]

    out = tmp_path / "model.onnx"
    end2reg("export", "--out", out)
    strict = replace(parity_report.TOLERANCES["fp32"], logits=0.0)
    monkeypatch.setitem(parity_report.TOLERANCES, "fp32", strict)
    outside = end2reg(*common, "--scenes", 0, "--seed", 5, "--json", "--weights", out)
    document = outside.document
    assert document["passed"] is False and document["seed"] == 5 and len(document["scenes"]) == 4
    assert document["tolerances"]["logits"] == 0.0 and document["region"] < 1e-4
    said = one_line(outside)
    assert said.startswith(
        "engine 'onnxruntime' (cpu, fp32) is not the torch reference: scene 2 (60 points, padding "
    )
    assert "logits differ by " in said and said.endswith(f"(and {len(document['faults']) - 1} more)")


def test_verify_without_torch(end2reg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from end2reg_ros.apps.engine import parity

    monkeypatch.setattr(parity, "find_spec", lambda name: None)
    said = one_line(end2reg("engine", "verify"))
    assert said == "engines are held against torch, which is not installed: `make setup-train` installs it"
    assert one_line(end2reg("engine", "verify", "--scenes", -1)) == "--scenes and --seed must be 0 or more"


def test_precisions() -> None:
    info = EngineInfo("tensorrt", "cuda", "realtime", "ab" * 8, 0, {}, precision="fp16 backbone")
    check_precision(EngineOptions("tensorrt", precision="mixed"), info)
    check_precision(EngineOptions("onnxruntime"), replace(info, precision="fp32"))
    with pytest.raises(EngineError, match="calculates in fp32"):
        check_precision(EngineOptions("tensorrt", precision="mixed"), replace(info, precision="fp32"))


# --- help -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [("export",), ("engine", "build"), ("engine", "info"), ("engine", "verify")]
)
def test_help(end2reg: Run, words: tuple[str, ...]) -> None:
    done = end2reg(*words, "--help")
    assert done.code == 0 and "--json" in done.out and "Exit 0" in done.out
    for option in ("--weights", "--profile"):
        assert option in done.out
    if words[0] == "engine":
        for option in ("--engine", "--case", "--device", "--precision", "--threads"):
            assert option in done.out
