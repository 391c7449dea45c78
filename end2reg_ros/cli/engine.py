"""``end2reg engine build | info | verify``: what runs the network."""

from __future__ import annotations

import json as jsonlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from end2reg_ros.engine.options import EngineChoice, EngineOptions
from end2reg_ros.errors import EngineError

if TYPE_CHECKING:
    from end2reg_ros.case.model import Case
    from end2reg_ros.engine.verify_report import VerifyReport
    from end2reg_ros.registration.weights_path import ChosenWeights


@dataclass(frozen=True)
class _Options:
    """What the three commands share."""

    engine: EngineChoice = "auto"
    """What runs the network; auto takes the fastest that is there."""
    case: Path | None = None
    """Case folder; its own network is taken where it has one."""
    weights: Path | None = None
    """Weights file (.safetensors), or a file of `end2reg export` (.onnx). Default: the case's own, else the shipped one."""
    profile: str | None = None
    """Profile that the weights must be of. Default: theirs."""
    device: str = ""
    """cpu or cuda; the engine's own choice when not given."""
    precision: Literal["fp32", "mixed"] = "fp32"
    """mixed: half precision in the backbones (engine tensorrt only)."""
    threads: int = 2
    """Threads of the CPU."""
    json: bool = False
    """Print the result as JSON."""

    def load_case(self) -> Case | None:
        """The case named; None for none."""
        from end2reg_ros.case import load_case

        return None if self.case is None else load_case(self.case)

    def choose(self, case: Case | None) -> tuple[EngineOptions, ChosenWeights]:
        """The options of an engine, and where its weights come from."""
        from end2reg_ros.registration.weights_path import choose_weights

        if self.threads < 1:
            raise EngineError("--threads must be 1 or more")
        chosen = choose_weights(case, self.weights, self.profile or "realtime")
        options = EngineOptions(
            self.engine, chosen.path, self.profile, self.device, self.threads, self.precision
        )
        return options, chosen


@dataclass(frozen=True)
class Build(_Options):
    """Make beforehand all that a first start makes: graphs, TensorRT's plans (minutes), the case's surface and its side of
    the network. All of it lies in the cache folder (END2REG_CACHE, else ~/.cache/end2reg_ros). Exit 0 when all is there."""

    def run(self) -> int:
        """Build and print what was made."""
        from end2reg_ros.cli.engine_build import build

        case = self.load_case()
        options, chosen = self.choose(case)
        made = build(options, case)
        if self.json:
            print(jsonlib.dumps(made.document(), indent=1))
            return 0
        from rich.console import Console
        from rich.table import Table

        table = Table()
        for column in ("step", "seconds", "written"):
            table.add_column(column, justify="right" if column == "seconds" else "left")
        for step in made.steps:
            size = sum(path.stat().st_size for path in step.written if path.is_file()) / 1e6
            count = len(step.written)
            files = f"{count} file{'s' * (count > 1)}, {size:.1f} MB" if count else "nothing new"
            table.add_row(step.what, f"{step.seconds:.2f}", step.note or files)
        console = Console()
        if chosen.note:
            console.print(f"note: {chosen.note}", markup=False, soft_wrap=True)
        console.print(table)
        assert made.engine is not None
        console.print(made.engine.text(), markup=False, highlight=False, soft_wrap=True)
        kept = "" if case is not None else "; with --case also what belongs to a case"
        console.print(f"{made.seconds:.1f} s; kept in {made.folder}{kept}", markup=False, soft_wrap=True)
        return 0


@dataclass(frozen=True)
class Info(_Options):
    """Tell which engine runs the network here and why, its network, what the cache folder holds, and which other engines
    there are or what they lack. Exit 0 when the engine can be loaded."""

    def run(self) -> int:
        """Print it."""
        from end2reg_ros.cli.engine_build import check_precision
        from end2reg_ros.cli.engine_info import info_document, loaded_info

        options, chosen = self.choose(self.load_case())
        if self.precision != "fp32":
            check_precision(options, loaded_info(options))
        document = info_document(options, chosen)
        if self.json:
            print(jsonlib.dumps(document, indent=1))
            return 0
        _print_info(document)
        return 0


@dataclass(frozen=True)
class Verify(_Options):
    """Hold an engine against the torch reference on random scenes and on degenerate ones. Exit 0 when every figure is
    within its tolerance. Needs torch (`make setup-train`)."""

    scenes: int = 12
    """Random scenes, made up from the case's surface (default: the bundled case); four degenerate ones come on top."""
    seed: int = 0
    """Of the scenes."""
    reference: Path | None = None
    """Weights file (.safetensors) of the reference, where --weights is an exported file. Default: the one that would be
    taken without --weights."""

    def run(self) -> int:
        """Verify, print the figures; raises EngineError with the first figure that is outside."""
        from end2reg_ros.case import load_case
        from end2reg_ros.case.bundled import bundled_case_path
        from end2reg_ros.cli.engine_build import check_precision
        from end2reg_ros.engine.load import load_engine
        from end2reg_ros.engine.verify import load_reference, verify_engine
        from end2reg_ros.engine.verify_scenes import SurfacePoints, verify_scenes
        from end2reg_ros.registration.find.local_scene import model_side
        from end2reg_ros.registration.fit.surface_cache import model_surface

        if self.scenes < 0 or self.seed < 0:
            raise EngineError("--scenes and --seed must be 0 or more")
        case = self.load_case() or load_case(bundled_case_path())
        options, _ = self.choose(case)
        reference = load_reference(replace(options, weights=self._reference_weights(case, options)))
        engine = load_engine(options)
        check_precision(options, engine.info)
        surface = model_surface(case)
        side = model_side(surface, engine.profile)
        points = SurfacePoints(surface.points - side.centre, surface.normals)
        scenes = verify_scenes(points, engine.profile, self.scenes, self.seed)
        report = verify_engine(engine, reference, side.pyramid, scenes)
        if self.json:
            from end2reg_ros.evaluation.tables import finite

            document = finite(report.document()) | {"seed": self.seed}
            print(jsonlib.dumps(document, indent=1))
        else:
            _print_report(report)
        if report.fault:
            raise EngineError(report.fault)
        return 0

    def _reference_weights(self, case: Case, options: EngineOptions) -> Path | None:
        from end2reg_ros.registration.weights_path import choose_weights

        if self.reference is None and options.weights is not None and options.weights.suffix != ".onnx":
            return options.weights
        return choose_weights(case, self.reference, self.profile or "realtime").path


def _print_info(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    engine, weights, cache = document["engine"], document["weights"], document["cache"]
    why = f" ({engine['why']})" if engine["why"] else ""
    threads = f", {engine['threads']} threads" if engine["threads"] else ""
    rows = [
        ("engine", f"{engine['name']} {engine['version']}{why}"),
        ("runs on", f"{engine['device']}{threads}, {engine['precision']}"),
        ("engine hash", engine["engine_hash"]),
        ("weights", f"{engine['weights_hash']}, {weights['source']}: {weights['path']}"),
        ("network", f"profile {engine['profile']}, {engine['parameters']} parameters"),
    ]
    if weights["note"]:
        rows.append(("note", weights["note"]))
    for name, value in document["sizes"].items():
        paddings = value if value and isinstance(value[0], list) else [value]
        rows.append((f"sizes, {name}", ", or ".join("/".join(map(str, p)) for p in paddings)))
    for name, graph in document["graphs"].items():
        rows.append((f"graph {name}", f"{graph['bytes'] / 1e6:.1f} MB, sha256 {graph['sha256'][:16]}"))
    for name, value in document["training"].items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        rows.append((f"training, {name.replace('_', ' ')}", text))
    rows.append(("cache", str(cache["folder"] or cache["why"])))
    for name, part in cache["parts"].items():
        rows.append((f"cache, {name}", f"{part['files']} files, {part['bytes'] / 1e6:.1f} MB"))
    for other in document["engines"]:
        state = "usable" if other["usable"] else "not usable"
        text = ", ".join(filter(None, [state, other["version"], other["note"]]))
        rows.append((f"engine {other['name']}", text))
    for name, text in rows:
        table.add_row(name, text)
    Console(highlight=False, markup=False).print(table)


def _print_report(report: VerifyReport) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0))
    headings = ("", "scene", "rows", "cells", "cut", "label%", "overlap", "mm", "deg", "logits", "inliers")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "scene" else "right", no_wrap=True)
    for i, c in enumerate(report.comparisons, 1):
        pose = ["-" if value is None else f"{value:.4f}" for value in (c.distance_mm, c.angle_deg)]
        inliers = str(c.inliers) if c.inliers == c.inliers_found else f"{c.inliers}/{c.inliers_found}"
        table.add_row(
            str(i), c.scene, str(c.padding), str(c.cells), str(c.truncated), f"{100 * c.mask:.2f}",
            f"{c.overlap:.4f}", *pose, f"{c.logits:.1e}", inliers,
        )  # fmt: skip
    limit, console = report.tolerances, Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{report.engine.text()}\nheld against {report.reference.text()}")
    if (report.engine.name, report.engine.device) == (report.reference.name, report.reference.device):
        console.print("this engine is the reference itself")
    console.print(table)
    if report.region is not None:
        console.print(f"region finder's maps differ by {report.region:.1e} at most")
    console.print(
        f"needed: labels >= {100 * limit.mask:g} %, overlap >= {limit.overlap:g}, pose <= {limit.distance_mm:g} mm and "
        f"<= {limit.angle_deg:g} deg (<= {limit.edge_distance_mm:g} mm and {limit.edge_angle_deg:g} deg where a "
        f"correspondence or an inlier on the edge fell otherwise), labels, correspondences or inliers not the same in "
        f"<= {100 * limit.edge_share:g} % of the scenes, logits <= {limit.logits:g}, region finder <= {limit.region:g}; "
        "correspondences and pose are held against the reference with this engine's labels"
    )
    if not report.faults:
        console.print("all within tolerance")
