"""Ray casting of the scene: one ray structure per rigid body, built once; a frame moves the rays, not the bodies.

Every other pixel of every other row is cast first. Where the four around a gap lie on one flat matte surface (drape,
skin, table) the gap is filled between them; everywhere else, so in the whole wound, every pixel gets its own ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.model import Mesh
from end2reg_ros.case.raycast import ray_scene, tensor
from end2reg_ros.simulation.camera.sensor import SensorSettings
from end2reg_ros.simulation.field.surfaces import MATTE, Array, Surface

# Between four rays two pixels apart, in 1/m (1/z is linear over a plane's image): bend and slope of a flat surface.
FLAT_BEND, FLAT_STEP = 0.002, 0.02
BACKGROUND = (30, 32, 34)  # where no ray hits anything


@dataclass(frozen=True)
class Hits:
    """First hits of the pixels' rays, (H, W) each.

    Attributes:
        depth_m: along the optical axis; inf where nothing is hit.
        cosine: of the angle between ray and surface normal, 0..1; 1 where nothing is hit.
        paint: (H, W, 4) uint8 red, green, blue, shine of what is hit.
        bone: bone (film included) of the patient's body is hit first.
        level_pixels: (B,) pixels that show each of the bone surfaces; their sum is the count of ``bone``.
        level_pixels_uncovered: (B,) the same if no occluder were there.
    """

    depth_m: NDArray[np.float32]
    cosine: NDArray[np.float32]
    paint: NDArray[np.uint8]
    bone: NDArray[np.bool_]
    level_pixels: NDArray[np.int64]
    level_pixels_uncovered: NDArray[np.int64]


@dataclass(frozen=True)
class Cast:
    """Answers for N rays: depth (inf for none), cosine of incidence, packed paint, surface number (max for none)."""

    depth_m: NDArray[np.float32]
    cosine: NDArray[np.float32]
    paint: NDArray[np.uint32]
    surface: NDArray[np.uint32]

    def arrays(self) -> tuple[NDArray, ...]:
        """All four, in order."""
        return self.depth_m, self.cosine, self.paint, self.surface


CastRays = Callable[[NDArray[np.float32]], Cast]  # (N, 3) directions with z = 1 -> their hits


class Body:
    """Surfaces that move as one, ready for ray casting."""

    def __init__(self, surfaces: Sequence[Surface], nthreads: int = 1) -> None:
        """Build the ray structure; the order of ``surfaces`` is the order of their hit ids."""
        self._nthreads = nthreads
        self._scene = ray_scene([Mesh(surface.vertices, surface.triangles) for surface in surfaces])
        paint = [np.concatenate([s.colours, s.shine[:, None]], axis=1) for s in surfaces]
        last = np.array([[*BACKGROUND, MATTE]], np.uint8)
        self._paint = np.ascontiguousarray(np.concatenate([*paint, last])).view(np.uint32)[:, 0]
        self._starts = np.cumsum([0] + [len(s.triangles) for s in surfaces]).astype(np.uint32)
        vertices = np.concatenate([s.vertices for s in surfaces])
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        self.corners: Array = np.stack(np.meshgrid(*zip(low, high, strict=True)), axis=-1).reshape(-1, 3)
        # The ray structure is built by the first ray: now, not in the first frame.
        self.cast(np.eye(4), np.array([[0.0, 0.0, 1.0]], np.float32))

    def cast(self, T_body_camera: Array, directions: NDArray[np.float32]) -> Cast:
        """Cast rays from the camera's centre.

        Args:
            T_body_camera: (4, 4).
            directions: (N, 3) float32, camera frame, with z = 1, so that a ray's parameter is depth.
        """
        rays = np.empty((len(directions), 6), np.float32)
        rays[:, :3] = T_body_camera[:3, 3].astype(np.float32)
        # By hand, as z = 1: BLAS would wake threads that cost more CPU time than this product.
        R = T_body_camera[:3, :3].astype(np.float32)
        x, y = directions[:, 0], directions[:, 1]
        for k in range(3):
            np.add(x * R[k, 0], y * R[k, 1] + R[k, 2], out=rays[:, 3 + k])
        answer = self._scene.cast_rays(tensor(rays), nthreads=self._nthreads)
        normals, surface = answer["primitive_normals"].numpy(), answer["geometry_ids"].numpy()
        cosine = np.abs(np.einsum("ij,ij->i", normals, rays[:, 3:]))
        cosine /= np.sqrt(x * x + y * y + np.float32(1.0))
        # Misses have the largest id: they take the last entry of the paint table.
        end = np.uint32(len(self._starts) - 1)
        slot = np.minimum(surface, end)
        triangle = np.where(slot == end, np.uint32(0), answer["primitive_ids"].numpy())
        return Cast(answer["t_hit"].numpy(), cosine, self._paint[self._starts[slot] + triangle], surface)


class Renderer:
    """An ideal camera over the patient, the room and whatever passes between."""

    def __init__(
        self, sensor: SensorSettings, patient: Body, bone_surfaces: int, room: Body, every_pixel: bool = False
    ) -> None:
        """``bone_surfaces``: the first that many of ``patient`` are bone; ``every_pixel``: the slow reference."""
        if sensor.width % 2 or sensor.height % 2:
            raise ValueError(f"image size must be even, not {sensor.width}x{sensor.height}")
        self.sensor = sensor
        self._patient, self._room, self._bones, self._every_pixel = patient, room, bone_surfaces, every_pixel
        K = sensor.camera_matrix()
        # One row and column more than the image, to close the last gaps.
        u, v = np.meshgrid(np.arange(sensor.width + 1), np.arange(sensor.height + 1))
        x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
        self._directions = np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)

    def render(
        self, T_camera_patient: Array, T_camera_world: Array, occluders: Sequence[tuple[Body, Array]] = ()
    ) -> tuple[Hits, int]:
        """Cast the image.

        Args:
            occluders: bodies with their (4, 4) T_camera_body.
        Returns:
            the hits, and how many pixels would show bone if no occluder were there.
        """
        T_patient_camera, T_world_camera = se3.inverse(T_camera_patient), se3.inverse(T_camera_world)

        def cast_still(directions: NDArray[np.float32]) -> Cast:
            hits = self._patient.cast(T_patient_camera, directions)
            missed = np.flatnonzero(np.isinf(hits.depth_m))
            room = self._room.cast(T_world_camera, directions[missed])
            hits.depth_m[missed], hits.cosine[missed], hits.paint[missed] = (
                room.depth_m,
                room.cosine,
                room.paint,
            )
            return hits

        whole = (0, self.sensor.height, 0, self.sensor.width)
        depth, cosine, paint, surface = self._fill(cast_still, whole)
        bone = surface < self._bones
        uncovered = self._count(surface, bone)
        for body, T_camera_body in occluders:
            window = self._window(body, T_camera_body)
            if window is None:
                continue
            T_body_camera = se3.inverse(T_camera_body)
            over = self._fill(lambda d, b=body, T=T_body_camera: b.cast(T, d), window)  # type: ignore[misc]
            place = (slice(window[0], window[1]), slice(window[2], window[3]))
            nearer = over[0] < depth[place]
            for image, values in zip((depth, cosine, paint), over, strict=False):
                image[place][nearer] = values[nearer]
            bone[place][nearer] = False
        seen = self._count(surface, bone) if occluders else uncovered
        colours = paint.view(np.uint8).reshape(*paint.shape, 4)
        return Hits(depth, cosine, colours, bone, seen, uncovered), int(uncovered.sum())

    def _count(self, surface: NDArray[np.uint32], bone: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(B,) pixels of each bone surface among those that show ``bone`` (H, W)."""
        return np.bincount(surface[bone].astype(np.int64), minlength=self._bones)

    def _fill(self, cast: CastRays, window: tuple[int, int, int, int]) -> tuple[NDArray, ...]:
        """Depth, cosine, paint, surface (h, w) of the window (top, bottom, left, right; all even)."""
        top, bottom, left, right = window
        shape = (bottom - top, right - left)
        if self._every_pixel:
            rays = self._directions[top:bottom, left:right].reshape(-1, 3)
            return tuple(a.reshape(shape) for a in cast(rays).arrays())
        rays = self._directions[top : bottom + 1 : 2, left : right + 1 : 2]
        coarse = [a.reshape(rays.shape[:2]) for a in cast(rays.reshape(-1, 3)).arrays()]
        with np.errstate(divide="ignore"):
            near = np.float32(1.0) / coarse[0]
        rough = _rough_gaps(near, coarse[2])
        image = [np.empty(shape, a.dtype) for a in coarse]
        for full, values in zip(image[1:], coarse[1:], strict=True):
            for row in (0, 1):
                full[row::2, 0::2] = full[row::2, 1::2] = values[:-1, :-1]
        a, b, c, d = near[:-1, :-1], near[:-1, 1:], near[1:, :-1], near[1:, 1:]
        fill = image[0]
        fill[0::2, 0::2], fill[0::2, 1::2], fill[1::2, 0::2] = a, 0.5 * (a + b), 0.5 * (a + c)
        fill[1::2, 1::2] = 0.25 * (a + b + c + d)
        with np.errstate(divide="ignore"):
            np.divide(1.0, fill, out=fill)
        above, beside = (2 * i for i in np.nonzero(rough))
        rows = np.stack([above, above + 1, above + 1], axis=1).ravel()
        columns = np.stack([beside + 1, beside, beside + 1], axis=1).ravel()
        exact = cast(self._directions[top + rows, left + columns])
        for full, values in zip(image, exact.arrays(), strict=True):
            full[rows, columns] = values
        return tuple(image)

    def _window(self, body: Body, T_camera_body: Array) -> tuple[int, int, int, int] | None:
        """The part of the image (top, bottom, left, right; even) in which a body can be; None when in none."""
        height, width = self.sensor.height, self.sensor.width
        corners = se3.apply(T_camera_body, body.corners)
        if (corners[:, 2] < 0.02).any():
            # Partly beside or behind the camera: its projected box means nothing.
            return (0, height, 0, width) if (corners[:, 2] > 0).any() else None
        K = self.sensor.camera_matrix()
        u = corners[:, 0] / corners[:, 2] * K[0, 0] + K[0, 2]
        v = corners[:, 1] / corners[:, 2] * K[1, 1] + K[1, 2]
        top, left = (max(0, int(a.min()) // 2 * 2) for a in (v, u))
        bottom, right = (min(n, int(a.max()) // 2 * 2 + 2) for a, n in ((v, height), (u, width)))
        return (top, bottom, left, right) if top < bottom and left < right else None


def _rough_gaps(near: NDArray[np.floating], paint: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Gaps between four rays that must be cast, (h - 1, w - 1), from inverse depth and paint (h, w) of the rays."""
    shiny = paint.view(np.uint8).reshape(*paint.shape, 4)[..., 3] != MATTE
    step_right, step_down = np.diff(near, axis=1), np.diff(near, axis=0)
    rough = np.abs(np.diff(step_right, axis=0)) > FLAT_BEND
    for step in (step_right[:-1], step_right[1:], step_down[:, :-1], step_down[:, 1:]):
        rough |= np.abs(step) > FLAT_STEP
    for part in (shiny[:-1, :-1], shiny[:-1, 1:], shiny[1:, :-1], shiny[1:, 1:]):
        rough |= part
    return np.asarray(rough)
