"""The neural arch of one vertebra as named points with radii: pedicles, laminae, articular, transverse and spinous
processes. Millimetres, level frame (x right, y anterior, z superior; origin at the body's middle)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from end2reg_ros.simulation.anatomy.fields import Array, Ball, Element, Part, ball
from end2reg_ros.simulation.anatomy.morphometry import LevelShape

SIDES = ("right", "left")
INFERIOR_RADIUS_MM = 4.4  # half the thickness of an inferior articular process


@dataclass(frozen=True)
class FacetJoint:
    """A facet joint in a vertebra's frame: (3,) centre and (3,) unit normal, pointing from the lower vertebra's
    superior facet to the upper vertebra's inferior one (backwards and inwards)."""

    centre: Array
    normal: Array


@dataclass(frozen=True)
class SideShape:
    """What differs between the sides of one vertebra.

    Attributes:
        transverse_length: lateral distance of the transverse tip from the midline, mm.
        transverse_back_deg, transverse_up_deg: direction of the transverse process.
        upper, lower: the facet joints above and below.
        jitter: (4, 3) small displacements of lamina, mammillary, transverse and inferior points, mm.
    """

    transverse_length: float
    transverse_back_deg: float
    transverse_up_deg: float
    upper: FacetJoint
    lower: FacetJoint
    jitter: Array


@dataclass(frozen=True)
class ArchPoints:
    """Design points that landmarks and screws need, all (3,) in the level frame, mm."""

    spinous_tip: Array
    transverse_tips: dict[str, Array]
    pedicle_centres: dict[str, Array]
    pedicle_axes: dict[str, Array]


def build_arch(
    shape: LevelShape, sides: dict[str, SideShape], spinous_bend: float
) -> tuple[list[Part], ArchPoints]:
    """All parts of the arch and its design points. ``spinous_bend``: sideways shift of the spinous tip, mm."""
    parts: list[Part] = []
    tips: dict[str, Array] = {}
    centres: dict[str, Array] = {}
    axes: dict[str, Array] = {}
    for name in SIDES:
        side = _Side(shape, sides[name], 1.0 if name == "right" else -1.0)
        parts += [side.pedicle(), side.lamina(), side.superior(), side.inferior(), side.transverse()]
        tips[name], centres[name], axes[name] = side.transverse_tip, side.centre, side.axis
    spine, spinous_tip = spinous_process(shape, spinous_bend)
    parts.append(spine)
    return parts, ArchPoints(spinous_tip, tips, centres, axes)


def quad(a: Ball, b: Ball, c: Ball, d: Ball) -> tuple[Element, Element]:
    """Two thick triangles that fill the corners a, b, c, d in order."""
    return (a, b, c), (a, c, d)


class _Side:
    """One side of the arch; ``sign`` is +1 on the right. Points are named after what a surgeon calls them."""

    def __init__(self, shape: LevelShape, side: SideShape, sign: float) -> None:
        self.shape, self.side, self.sign = shape, side, sign
        self.wall, self.roof = shape.back_wall, shape.canal_roof
        turn = np.radians(shape.pedicle_angle_deg)
        self.axis = np.array([sign * np.sin(turn), -np.cos(turn), 0.0])  # outwards along the pedicle
        x = sign * (shape.canal_width + shape.pedicle_width) / 2
        self.centre = np.array([x, self.wall - 5.0, 0.22 * shape.body_height])
        self.lamina_low = -shape.spinous_drop - 0.22 * shape.spinous_height
        self.pillar = self.centre + self.axis * 8.0 + np.array([0, 0, 1.0])

    def point(self, x: float, y: float, z: float, radius: float) -> Ball:
        """A ball at lateral distance x (positive outwards on either side)."""
        return ball(self.sign * x, y, z, radius)

    def pedicle(self) -> Part:
        shape = self.shape
        radius = min(shape.pedicle_width, shape.pedicle_height) / 2
        spread = np.array(
            [max(shape.pedicle_width / 2 - radius, 0.0), 0, max(shape.pedicle_height / 2 - radius, 0.0)]
        )
        front, back = self.centre - self.axis * 11.0, self.centre + self.axis * 5.0
        return Part(
            quad(
                Ball(front + spread, radius + 0.8),
                Ball(front - spread, radius + 0.8),
                Ball(back - 0.9 * spread, radius),
                Ball(back + 0.9 * spread, radius),
            ),
            blend=5.0,
        )

    def lamina(self) -> Part:
        shape, roof, push = self.shape, self.roof, self.side.jitter[0]
        joint = self.side.lower.centre
        top = self.point(abs(self.pillar[0]) - 2.5, self.pillar[1] - 1.0, self.pillar[2] - 2.5, 3.8)
        pars = self.point(max(abs(joint[0]) - 2.5, 10.0), roof + 1.0, -0.10 * shape.body_height, 3.8)
        root, inner, _ = self._inferior_points()
        crest_top = self.point(0.5, roof - 2.2, 0.10 * shape.body_height, 2.8)
        crest_low = self.point(0.5, roof - 4.0, self.lamina_low, 3.2)
        pars = Ball(pars.at + push, pars.radius)
        shoulder = Ball(0.5 * (inner.at + crest_low.at) + np.array([0, 0.3, 0.8]), 3.4)
        return Part(
            (
                (top, pars, crest_top),
                (pars, crest_low, crest_top),
                (pars, root, crest_low),
                (root, shoulder, crest_low),
                (root, inner, shoulder),
            ),
            blend=3.0,
        )

    def _inferior_points(self) -> tuple[Ball, Ball, Ball]:
        """Root, inner and outer low end of the inferior articular process."""
        joint = self.side.lower
        middle = joint.centre + joint.normal * (INFERIOR_RADIUS_MM + 0.7) + self.side.jitter[3]
        root = Ball(middle + self.along(joint) * 1.0 + np.array([0, 0.5, 7.0]), INFERIOR_RADIUS_MM - 0.4)
        inner = Ball(middle - self.along(joint) * 2.4 + np.array([0, 0, -3.0]), INFERIOR_RADIUS_MM - 0.2)
        outer = Ball(middle + self.along(joint) * 2.4 + np.array([0, 0, -1.8]), INFERIOR_RADIUS_MM - 0.2)
        return root, inner, outer

    def along(self, joint: FacetJoint) -> Array:
        """Horizontal direction within the facet, backwards and outwards."""
        return np.array([self.sign * abs(joint.normal[1]), -abs(joint.normal[0]), 0.0])

    def superior(self) -> Part:
        """A stout ear before the joint, from the pillar up, with the mammillary process on its back edge. It is drawn
        a little into the joint: the neighbour's inferior process then carves its hollow facet."""
        joint = self.side.upper
        outward, along = -joint.normal, self.along(joint)
        middle = joint.centre + outward * 3.4
        inner_top = Ball(middle - along * 4.6 + np.array([0, 0, 1.8]), 3.6)
        crown = Ball(middle - along * 0.5 + np.array([0, 0, 4.4]), 3.5)
        outer_top = Ball(middle + along * 4.0 + np.array([0, 0, 1.4]), 4.2)
        foot_in = Ball(self.pillar + np.array([-self.sign * 1.0, 1.5, 2.0]), 4.6)
        foot_out = Ball(self.pillar + np.array([self.sign * 1.0, -4.0, 0.0]), 4.4)
        bulge = Ball(middle + along * 6.0 + outward * 0.8 + np.array([0, 0, -2.5]) + self.side.jitter[1], 4.5)
        return Part(
            (
                *quad(foot_in, inner_top, outer_top, foot_out),
                (inner_top, crown, outer_top),
                (outer_top, bulge, foot_out),
            ),
            blend=2.5,
        )

    def inferior(self) -> Part:
        """A broad bullet behind the joint, hanging from the lamina."""
        joint = self.side.lower
        root, inner, outer = self._inferior_points()
        middle = joint.centre + joint.normal * (INFERIOR_RADIUS_MM + 0.7) + self.side.jitter[3]
        upper = Ball(middle + self.along(joint) * 2.0 + np.array([0, 0, 4.0]), INFERIOR_RADIUS_MM - 0.4)
        return Part(((root, inner, outer), (root, upper, outer)), blend=2.5)

    def transverse(self) -> Part:
        shape, side = self.shape, self.side
        half = shape.transverse_height / 2
        thick = 2.7 + 0.28 * (half - 5.0) * 2
        root = self.pillar + np.array([self.sign * 1.0, 1.0, -0.5])
        root[:2] += np.array([0.0, 0.35 * max(shape.pedicle_width - 10.0, 0.0)])
        run = side.transverse_length - abs(root[0])
        back, up = np.tan(np.radians(side.transverse_back_deg)), np.tan(np.radians(side.transverse_up_deg))
        tip = root + np.array([self.sign * run, -run * back, run * up]) + side.jitter[2] * np.array([0, 1, 1])
        self.transverse_tip = tip
        end = thick * 0.95
        inner_tip = tip - np.array([self.sign * end, 0, 0])
        rise = np.array([0, 0, half - thick])
        waist = root + 0.55 * (inner_tip - root)
        root_top, root_low = Ball(root + rise * 1.25, thick * 1.25), Ball(root - rise * 1.4, thick * 1.25)
        mid_top, mid_low = Ball(waist + rise, thick * 0.95), Ball(waist - rise, thick * 0.95)
        tip_top, tip_low = Ball(inner_tip + rise * 0.7, end), Ball(inner_tip - rise * 0.7, end)
        knob = Ball(root + np.array([self.sign * 1.5, -4.0, -3.5]), 2.0)  # accessory process
        return Part(
            (
                *quad(root_top, mid_top, mid_low, root_low),
                *quad(mid_top, tip_top, tip_low, mid_low),
                (knob, root_low),
            ),
            blend=3.5,
        )


def spinous_process(shape: LevelShape, bend: float) -> tuple[Part, Array]:
    """The hatchet in the midline and its tip (3,): a thin plate with a thick back edge, thickest below."""
    roof = shape.canal_roof
    half, drop = shape.spinous_height / 2, -shape.spinous_drop
    tip = -shape.spinous_reach
    base_top = ball(0, roof - 3.0, drop * 0.45 + half * 0.55, 3.0)
    base_low = ball(0, roof - 4.0, drop - half * 0.25, 3.2)
    thin = 0.33 * shape.spinous_thickness
    thick = 0.5 * shape.spinous_thickness
    mid_y = 0.5 * (roof - 3.0 + tip)
    mid_top = ball(0.5 * bend, mid_y, drop * 0.8 + half - thin - 0.5, thin)
    mid_low = ball(0.5 * bend, mid_y, drop - half * 0.7 + thin, thin * 1.1)
    # The back edge is round: two balls reach the tip, those above and below stay a little before it.
    end_top = ball(bend, tip + thick * 0.9 + 3.6, drop + half - thick * 0.9, thick * 0.85)
    end_high = ball(bend, tip + thick * 0.9, drop + half * 0.45 - thick * 0.5, thick * 0.9)
    end_mid = ball(bend, tip + thick, drop - half * 0.35, thick)
    end_low = ball(bend, tip + thick * 1.1 + 2.6, drop - half + thick * 1.1, thick * 1.1)
    elements: tuple[Element, ...] = (
        *quad(base_top, mid_top, mid_low, base_low),
        *quad(mid_top, end_top, end_high, mid_low),
        *quad(mid_low, end_high, end_mid, end_low),
    )
    return Part(elements, blend=3.5), np.array([bend, tip, drop - half * 0.2])
