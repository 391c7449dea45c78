"""How far each engine is from the torch reference: ``python benchmarks/parity.py``.

The scenes of ``end2reg engine verify`` through every engine and precision, apart by padding. Correspondences and poses are
those of the reference with the engine's labels; ``own labels``: each with its own. The graph with its backbones in
half precision is run by ONNX Runtime on the CPU: that shows what the rounding does, not what TensorRT makes of the graph.
``--gpu`` adds what an NVIDIA GPU can run. Engines that cannot be had are named and left out. Writes
benchmarks/results/parity.json, prints the Markdown table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from end2reg_ros.apps.engine.parity import load_reference, verify_engine
from end2reg_ros.apps.engine.parity_report import TOLERANCES, SceneComparison, VerifyReport
from end2reg_ros.apps.engine.parity_scenes import SurfacePoints, verify_scenes
from end2reg_ros.case import load_case
from end2reg_ros.case.bundled import bundled_case_path
from end2reg_ros.engine.bundle_store import load_bundle
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.onnx_files import OnnxBundle, OnnxGraph
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.types import Engine
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.host import environment
from end2reg_ros.evaluation.tables import NOTHING, finite, table_of
from end2reg_ros.registration.fit.surface_build import model_surface
from end2reg_ros.registration.network import model_side
from end2reg_ros.registration.weights_path import choose_weights

RESULTS = Path(__file__).resolve().parent / "results" / "parity.json"
HALF_GRAPHS = ("scene", "scene_small")  # as engine tensorrt has them: what runs once a case stays in fp32


@dataclass(frozen=True)
class Variant:
    """An engine under the name that the table has for it."""

    label: str
    make: Callable[[], Engine]


@dataclass(frozen=True)
class ParityOptions:
    """What is compared."""

    scenes: int = 60
    """Random scenes; four degenerate ones come on top."""
    seed: int = 0
    """Of the scenes."""
    case: Path | None = None
    """Case folder; default: the bundled case."""
    weights: Path | None = None
    """Weights file; default: the case's own, else the shipped one."""
    threads: int = 1
    """Of the CPU."""
    gpu: bool = False
    """Also torch, ONNX Runtime and TensorRT on an NVIDIA GPU."""
    out: Path = RESULTS
    """File of the results."""


def main(options: ParityOptions) -> int:
    """Run it; returns the exit code: 0 when all that was run is within its tolerances."""
    case = load_case(options.case or bundled_case_path())
    weights = choose_weights(case, options.weights).path
    reference = load_reference(EngineOptions(weights=weights, threads=options.threads))
    surface = model_surface(case)
    side = model_side(surface, reference.profile)
    points = SurfacePoints(surface.points - side.centre, surface.normals)
    scenes = verify_scenes(points, reference.profile, options.scenes, options.seed)
    reports: dict[str, VerifyReport] = {}
    left_out = {}
    for variant in variants(weights, options.threads, options.gpu):
        try:
            engine = variant.make()
        except End2RegError as fault:
            left_out[variant.label] = str(fault)
            continue
        reports[variant.label] = verify_engine(engine, reference, side.pyramid, scenes)
        engine.close()
    document = {
        "environment": environment(),
        "case": {"name": case.name, "hash": case.hash},
        "reference": reference.info.document(),
        "scenes": {"random": options.scenes, "degenerate": len(scenes) - options.scenes, "seed": options.seed},
        "tolerances": {name: asdict(limit) for name, limit in TOLERANCES.items()},
        "engines": {
            label: {"engine": r.engine.document(), "region": r.region, "faults": r.faults, "paddings": rows(r)}
            for label, r in reports.items()
        },
        "left_out": left_out,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(finite(document), indent=1) + "\n", encoding="utf-8")
    print(markdown(reports))
    for label, why in left_out.items():
        print(f"\nnot run: {label}: {why}")
    for label, report in reports.items():
        for text in report.faults:
            print(f"\noutside: {label}: {text}")
    return 1 if any(report.faults for report in reports.values()) else 0


def variants(weights: Path, threads: int, gpu: bool) -> list[Variant]:
    """What is held against the reference."""

    def loaded(engine: Any, device: str, precision: str = "fp32") -> Callable[[], Engine]:
        return lambda: load_engine(EngineOptions(engine, weights, None, device, threads, precision))

    on_cpu = [
        Variant("onnxruntime, CPU, fp32", loaded("onnxruntime", "cpu")),
        Variant("onnxruntime, CPU, fp16 backbone", lambda: half_engine(weights, threads)),
    ]
    on_gpu = [
        Variant("torch, CUDA, fp32", loaded("torch", "cuda")),
        Variant("onnxruntime, CUDA, fp32", loaded("onnxruntime", "cuda")),
        Variant("tensorrt, fp32", loaded("tensorrt", "")),
        Variant("tensorrt, fp16 backbone", loaded("tensorrt", "", "mixed")),
    ]
    return [*on_cpu, *(on_gpu if gpu else [])]


def half_engine(weights: Path, threads: int) -> Engine:
    """ONNX Runtime with the scene's graphs in half precision where ``mixed_precision`` puts them so."""
    import onnx

    from end2reg_ros.engine.onnx_engine import OnnxEngine
    from end2reg_ros.engine.tensorrt.mixed_precision import to_mixed

    graphs = dict(load_bundle(weights).graphs)
    for name in [n for n in HALF_GRAPHS if n in graphs]:
        model = to_mixed(onnx.load_model_from_string(graphs[name].data))
        told = {entry.key: entry.value for entry in model.metadata_props}
        graphs[name] = OnnxGraph(model.SerializeToString(deterministic=True), told)
    return OnnxEngine(OnnxBundle(graphs), threads=threads)


def rows(report: VerifyReport) -> list[dict[str, Any]]:
    """The figures of a report, one row a padding, the smallest first."""
    paddings = sorted({c.padding for c in report.comparisons})
    return [{"padding": p} | figures([c for c in report.comparisons if c.padding == p]) for p in paddings]


def figures(found: Sequence[SceneComparison]) -> dict[str, Any]:
    """Medians and worst of some scenes; poses over those that have one."""
    millimetres = [c.distance_mm for c in found if c.distance_mm is not None]
    own = [c.own_distance_mm for c in found if c.own_distance_mm is not None]
    degrees = [c.angle_deg for c in found if c.angle_deg is not None]
    return {
        "scenes": len(found),
        "posed": len(millimetres),
        "same_decisions": sum(c.same_decisions for c in found),
        "mask_worst": min(c.mask for c in found),
        "overlap_median": float(np.median([c.overlap for c in found])),
        "overlap_worst": min(c.overlap for c in found),
        "distance_mm_median": float(np.median(millimetres)) if millimetres else None,
        "distance_mm_worst": float(np.max(millimetres)) if millimetres else None,
        "angle_deg_median": float(np.median(degrees)) if degrees else None,
        "angle_deg_worst": float(np.max(degrees)) if degrees else None,
        "own_distance_mm_worst": float(np.max(own)) if own else None,
        "logits_worst": float(np.max([c.logits for c in found])),
    }


def markdown(reports: dict[str, VerifyReport]) -> str:
    """The table."""

    def told(row: dict[str, Any], *names: str) -> str:
        return " / ".join(NOTHING if row[name] is None else f"{row[name]:.1e}" for name in names)

    lines = [
        {
            "engine": label, "padding": str(row["padding"]), "scenes (with a pose)": f"{row['scenes']} ({row['posed']})",
            "all decisions the same": f"{row['same_decisions']} of {row['scenes']}",
            "labels equal, worst %": f"{100 * row['mask_worst']:.2f}",
            "overlap, median / worst": f"{row['overlap_median']:.3f} / {row['overlap_worst']:.3f}",
            "pose mm, median / worst": told(row, "distance_mm_median", "distance_mm_worst"),
            "pose deg, median / worst": told(row, "angle_deg_median", "angle_deg_worst"),
            "own labels: pose mm, worst": told(row, "own_distance_mm_worst"), "logits, worst": told(row, "logits_worst"),
            "region finder": NOTHING if report.region is None else f"{report.region:.1e}",
        }
        for label, report in reports.items() for row in rows(report)
    ]  # fmt: skip
    return "\n".join(table_of(lines))


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(ParityOptions, description=__doc__)))
    except End2RegError as error:
        print(f"parity: {error}", file=sys.stderr)
        sys.exit(1)
