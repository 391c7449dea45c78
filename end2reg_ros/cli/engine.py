"""``end2reg engine build | info | verify``: what runs the network."""

from __future__ import annotations

import json as jsonlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.errors import EngineError

if TYPE_CHECKING:
    from end2reg_ros.case.model import Case
    from end2reg_ros.registration.weights_path import ChosenWeights


@dataclass(frozen=True)
class _Options(EngineOptions):
    """What the three commands share."""

    case: Path | None = None
    """Case folder; its own network is taken where it has one."""
    precision: Literal["fp32", "mixed"] = "fp32"
    """mixed: half precision in the backbones (engine tensorrt only)."""
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
        options = replace(self, weights=chosen.path)
        return options, chosen


@dataclass(frozen=True)
class BuildEngine(_Options):
    """Make beforehand all that a first start makes: graphs, TensorRT's plans (minutes), the case's surface and its side of
    the network. All of it lies in the cache folder (END2REG_CACHE, else ~/.cache/end2reg_ros). Exit 0 when all is there."""

    def run(self) -> int:
        """Build and print what was made."""
        from end2reg_ros.apps.engine.build import build, print_build

        case = self.load_case()
        options, chosen = self.choose(case)
        made = build(options, case)
        if self.json:
            print(jsonlib.dumps(made.document(), indent=1))
        else:
            print_build(
                made, chosen.note, "" if case is not None else "; with --case also what belongs to a case"
            )
        return 0


@dataclass(frozen=True)
class ShowEngine(_Options):
    """Tell which engine runs the network here and why, its network, what the cache folder holds, and which other engines
    there are or what they lack. Exit 0 when the engine can be loaded."""

    def run(self) -> int:
        """Print it."""
        from end2reg_ros.apps.engine.info import info_document, print_info

        document = info_document(*self.choose(self.load_case()))
        if self.json:
            print(jsonlib.dumps(document, indent=1))
        else:
            print_info(document)
        return 0


@dataclass(frozen=True)
class VerifyEngine(_Options):
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
        from end2reg_ros.apps.engine.verify import print_report, verify
        from end2reg_ros.case import load_case
        from end2reg_ros.case.bundled import bundled_case_path

        case = self.load_case() or load_case(bundled_case_path())
        report = verify(self.choose(case)[0], case, self.reference, self.scenes, self.seed)
        if self.json:
            from end2reg_ros.evaluation.tables import finite

            print(jsonlib.dumps(finite(report.document()) | {"seed": self.seed}, indent=1))
        else:
            print_report(report)
        if report.fault:
            raise EngineError(report.fault)
        return 0
