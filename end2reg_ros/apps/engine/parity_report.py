"""What ``verify`` finds, scene by scene, and the tolerances that it is judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from end2reg_ros.engine.types import EngineInfo


@dataclass(frozen=True)
class Tolerances:
    """What every scene must keep to.

    A label, a correspondence or an inlier on the edge of being one may fall to the other side for a difference in the last
    digit. One label of a thousand moves the reference's own pose by up to 2.6 mm (measured on a scene with one level in
    view), more than all rounding together. So labels are judged by themselves, and all else against the reference with the
    engine's labels; a pose from other correspondences or inliers has limits of its own; and only a share of the scenes may
    hold any such decision.

    Attributes:
        mask: least share of cells with the reference's label.
        overlap: least intersection over union of the correspondences, the labels being the engine's.
        distance_mm: most that a point of the model may move between the two poses, of the same correspondences and inliers.
        angle_deg: most that the two poses may be turned against each other, likewise.
        edge_distance_mm, edge_angle_deg: the same where correspondences or the number of inliers differ.
        edge_share: most scenes where a decision may be another one, as a share of all.
        logits: largest difference of a cell's logit.
        region: largest difference in the region finder's maps.
    """

    mask: float
    overlap: float
    distance_mm: float
    angle_deg: float
    edge_distance_mm: float
    edge_angle_deg: float
    edge_share: float
    logits: float
    region: float


#: By the precision that an engine says it reckons in (``EngineInfo.precision``); benchmarks/parity.py measures what is behind it.
TOLERANCES = {
    "fp32": Tolerances(0.999, 0.99, 0.05, 0.05, 0.5, 0.5, 0.2, 0.001, 0.001),
    "fp16 backbone": Tolerances(0.98, 0.9, 0.05, 0.05, 1.0, 1.0, 1.0, 0.1, 0.1),
}


@dataclass(frozen=True)
class SceneComparison:
    """One scene through both engines.

    Attributes:
        scene: what it is.
        padding: rows of its tables; cells: those in use; truncated: cells that did not fit.
        mask, overlap, logits: see ``Tolerances``; 1, 1 and 0 where both have nothing.
        distance_mm, angle_deg: see ``Tolerances``; None where the reference has no pose.
        correspondences, inliers: of the reference with the engine's labels.
        inliers_found: of the engine.
        own_distance_mm: as ``distance_mm``, but from the reference with its own labels; told, not judged.
    """

    scene: str
    padding: int
    cells: int
    truncated: int
    mask: float
    overlap: float
    distance_mm: float | None
    angle_deg: float | None
    logits: float
    correspondences: int
    inliers: int
    inliers_found: int
    own_distance_mm: float | None

    @property
    def same_matches(self) -> bool:
        """Whether correspondences and number of inliers are the same."""
        return self.overlap == 1.0 and self.inliers == self.inliers_found

    @property
    def same_decisions(self) -> bool:
        """Whether the labels are the same as well."""
        return self.mask == 1.0 and self.same_matches

    def faults(self, limit: Tolerances) -> Iterator[str]:
        """One line for every figure outside its tolerance."""
        distance, angle = limit.distance_mm, limit.angle_deg
        if not self.same_matches:
            distance, angle = limit.edge_distance_mm, limit.edge_angle_deg
        # "not <=" rather than ">": NaN is a fault.
        if not self.mask >= limit.mask:
            yield f"{100 * self.mask:.2f} % of the mask's labels are equal, at least {100 * limit.mask:g} % needed"
        if not self.overlap >= limit.overlap:
            yield f"correspondences overlap by {self.overlap:.3f}, at least {limit.overlap:g} needed"
        if self.distance_mm is not None and not self.distance_mm <= distance:
            yield f"pose {self.distance_mm:.3f} mm off, at most {distance:g} mm allowed"
        if self.angle_deg is not None and not self.angle_deg <= angle:
            yield f"pose {self.angle_deg:.3f} deg off, at most {angle:g} deg allowed"
        if not self.logits <= limit.logits:
            yield f"logits differ by {self.logits:.2g}, at most {limit.logits:g} allowed"


@dataclass(frozen=True)
class VerifyReport:
    """All scenes, and what they are judged by.

    Attributes:
        engine, reference: what was compared.
        tolerances: of the engine's precision.
        comparisons: scene by scene.
        region: largest difference in the region finder's maps; None for weights without.
    """

    engine: EngineInfo
    reference: EngineInfo
    tolerances: Tolerances
    comparisons: tuple[SceneComparison, ...]
    region: float | None

    @property
    def faults(self) -> list[str]:
        """One line for every figure outside its tolerance, in the order of the scenes; empty when all is well."""
        limit = self.tolerances
        found = [
            f"scene {i} ({c.scene}, padding {c.padding}): {text}"
            for i, c in enumerate(self.comparisons, 1)
            for text in c.faults(limit)
        ]
        others, count = sum(not c.same_decisions for c in self.comparisons), len(self.comparisons)
        if others > limit.edge_share * count:
            allowed = f"at most {100 * limit.edge_share:g} % allowed"
            found.append(
                f"labels, correspondences or inliers are not the same in {others} of {count} scenes, {allowed}"
            )
        if self.region is not None and not self.region <= limit.region:
            found.append(f"region finder: maps differ by {self.region:.2g}, at most {limit.region:g} allowed")
        return found

    @property
    def fault(self) -> str:
        """The first of ``faults`` and how many there are more, in one line; empty when all is well."""
        if not self.faults:
            return ""
        info, more = self.engine, len(self.faults) - 1
        rest = f" (and {more} more)" if more else ""
        return f"engine '{info.name}' ({info.device}, {info.precision}) is not the torch reference: {self.faults[0]}{rest}"

    def document(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return {
            "passed": not self.faults,
            "faults": self.faults,
            "engine": self.engine.document(),
            "reference": self.reference.document(),
            "tolerances": asdict(self.tolerances),
            "worst": worst(self.comparisons),
            "region": self.region,
            "scenes": [asdict(c) | {"same_decisions": c.same_decisions} for c in self.comparisons],
        }


def worst(comparisons: Sequence[SceneComparison]) -> dict[str, float | None]:
    """The worst of every figure; None where there is none. NaN is the worst of all."""

    def extreme(name: str, of: Any) -> float | None:
        values = [value for c in comparisons if (value := getattr(c, name)) is not None]
        return float(of(values)) if values else None

    lowest = {name: extreme(name, np.min) for name in ("mask", "overlap")}
    return lowest | {
        name: extreme(name, np.max) for name in ("distance_mm", "angle_deg", "logits", "own_distance_mm")
    }
