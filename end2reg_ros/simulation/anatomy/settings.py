"""What a user may ask of the parametric anatomy."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("L1", "L2", "L3", "L4", "L5")


@dataclass(frozen=True)
class AnatomySettings:
    """Settings of one procedural spine; the defaults give a healthy adult drawn from the seed.

    Attributes:
        size: factor on every length; None draws it (mean 1, sd 0.05: adults of both sexes).
        lordosis: factor on the lordosis of the literature; None draws it (mean 0.9, sd 0.15: prone on a table).
        scoliosis_deg: Cobb angle L1-L5 in degrees, positive with the convexity to the patient's right.
        asymmetry: factor on the left-right differences; 0 gives a mirror-symmetric neural arch.
        roughness: factor on the fine unevenness of the surface; 0 gives smooth bone.
        osteophytes_mm: length of bony spurs on the rims of the bodies; 0 for none.
        facet_gap_mm: width of the joint space between the articular processes, as CT shows it.
        voxel_mm: grid of the distance field; half of it is about the smallest feature.
        triangles: upper bound on the triangles of one vertebra.
    """

    size: float | None = None
    lordosis: float | None = None
    scoliosis_deg: float = 0.0
    asymmetry: float = 1.0
    roughness: float = 1.0
    osteophytes_mm: float = 0.0
    facet_gap_mm: float = 1.5
    voxel_mm: float = 0.75
    triangles: int = 7000
