"""Pictures of the report: the camera's view, and the posed model drawn over it with the truth as an outline."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros import se3
from end2reg_ros.case.model import Case, Mesh
from end2reg_ros.case.raycast import first_hits

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Poses = Mapping[str, Array]  # level -> T_camera_level, (4, 4), metres
OCCLUDED_M = 0.012  # something this much nearer to the camera than the bone covers it


@dataclass(frozen=True)
class CameraPicture:
    """A camera picture: ``colour`` (H, W, 3), ``depth`` (H, W) metres (0 or NaN: nothing), ``K`` (3, 3) in pixels."""

    colour: Image
    K: Array
    depth: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Window:
    """A cut-out of a view, enlarged: left, top, width, height in pixels of the view; scale of the enlargement."""

    left: float
    top: float
    width: float
    height: float
    scale: float

    def size(self) -> tuple[int, int]:
        """Width and height of the cut-out in its own pixels."""
        return round(self.width * self.scale), round(self.height * self.scale)

    def camera_matrix(self, K: Array) -> Array:
        """K (3, 3) of the cut-out; pixel centres at whole numbers."""
        shifted = K.copy()
        shifted[0, 2] -= self.left - 0.5
        shifted[1, 2] -= self.top - 0.5
        shifted[:2] *= self.scale
        shifted[:2, 2] -= 0.5
        return shifted


def whole(view: CameraPicture, width: int = 960) -> Window:
    """The whole picture, brought to a width."""
    h, w = view.colour.shape[:2]
    return Window(0.0, 0.0, float(w), float(h), width / w)


def around(
    case: Case,
    poses: Poses,
    view: CameraPicture,
    width: int = 960,
    margin: float = 1.25,
    aspect: float = 4 / 3,
) -> Window:
    """The part of the picture where the posed model is; the whole picture when it lies outside."""
    points = np.concatenate([_in_camera(case, level, T).vertices for level, T in poses.items()])
    points = points[points[:, 2] > 0.05]
    h, w = view.colour.shape[:2]
    if len(points) == 0:
        return whole(view, width)
    pixels = points @ view.K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    low, high = np.clip(pixels.min(axis=0), 0, [w, h]), np.clip(pixels.max(axis=0), 0, [w, h])
    size = margin * (high - low)
    if (size < 8).any():
        return whole(view, width)
    size = np.array([max(size[0], size[1] * aspect), max(size[1], size[0] / aspect)])
    size = size * min(1.0, w / size[0], h / size[1])
    corner = np.clip((low + high - size) / 2, 0, np.array([w, h]) - size)
    return Window(float(corner[0]), float(corner[1]), float(size[0]), float(size[1]), width / float(size[0]))


def camera_picture(view: CameraPicture, window: Window) -> Image:
    """The cut-out of the colour picture, (h, w, 3)."""
    from PIL import Image as Pillow

    box = (window.left, window.top, window.left + window.width, window.top + window.height)
    return np.asarray(Pillow.fromarray(view.colour).resize(window.size(), Pillow.Resampling.BICUBIC, box=box))


def overlay(
    case: Case, view: CameraPicture, window: Window, poses: Poses, truth: Poses | None = None
) -> Image:
    """The posed vertebrae over the cut-out, (h, w, 3): filled where the camera sees them, outlined where covered.

    Args:
        poses: of the vertebrae to be drawn in their colours; may be empty.
        truth: drawn as a white outline.
    """
    picture = camera_picture(view, window).astype(np.float64)
    K, size = window.camera_matrix(view.K), window.size()
    colours = np.array([v.colour for v in case.vertebrae], dtype=np.float64)
    if poses:
        ids, depth, shade = raster(case, poses, K, size)
        drawn = ids >= 0
        fill = drawn & ~_covered(view, window, depth)
        tint = colours[ids[fill]] * (0.45 + 0.55 * shade[fill, None])
        picture[fill] = 0.42 * picture[fill] + 0.58 * tint
        edge = outline(ids) & drawn
        picture[edge] = 0.75 * colours[ids[edge]] * 0.8 + 0.25 * picture[edge]
    if truth:
        ids, _, _ = raster(case, truth, K, size)
        picture[outline(ids)] = (255, 255, 255)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def raster(
    case: Case, poses: Poses, K: Array, size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float32], Array]:
    """Posed vertebrae as a camera sees them, hidden surfaces removed.

    Returns:
        (h, w) index of the vertebra in the case, -1 for none; (h, w) depth in metres, inf for none; (h, w) cosine
        between surface and view, 0..1.
    """
    drawn = [i for i, vertebra in enumerate(case.vertebrae) if vertebra.level in poses]
    meshes = [_in_camera(case, case.vertebrae[i].level, poses[case.vertebrae[i].level]) for i in drawn]
    width, height = size
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    # z = 1: the distance is depth.
    ahead = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(u.shape)], axis=-1)
    hits = first_hits(meshes, np.zeros(3), ahead)
    unit = ahead / np.linalg.norm(ahead, axis=-1, keepdims=True)
    shade = np.abs(np.einsum("hwc,hwc->hw", hits.normal, unit))
    return np.array([*drawn, -1])[hits.mesh], hits.distance, shade


def outline(ids: NDArray[np.int64], thickness: int = 2) -> NDArray[np.bool_]:
    """Pixels beside a change of label, in a band of ``thickness``."""
    edge = np.zeros(ids.shape, dtype=bool)
    across = ids[:, 1:] != ids[:, :-1]
    down = ids[1:] != ids[:-1]
    edge[:, 1:] |= across
    edge[1:] |= down
    for _ in range(thickness - 1):
        edge[:, :-1] |= edge[:, 1:]
        edge[:-1] |= edge[1:]
    return edge


def jpeg(image: Image) -> bytes:
    """An (h, w, 3) image as a JPEG, colours at full resolution."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()


def _in_camera(case: Case, level: str, T_camera_level: Array) -> Mesh:
    vertebra = next(v for v in case.vertebrae if v.level == level)
    T_camera_model = T_camera_level @ se3.inverse(vertebra.T_model_level)
    return Mesh(se3.apply(T_camera_model, vertebra.mesh.vertices), vertebra.mesh.triangles)


def _covered(view: CameraPicture, window: Window, depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the camera measured something clearly in front of the model."""
    if view.depth is None:
        return np.zeros(depth.shape, dtype=bool)
    width, height = window.size()
    u = np.clip(
        (window.left + (np.arange(width) + 0.5) / window.scale).astype(int), 0, view.depth.shape[1] - 1
    )
    v = np.clip(
        (window.top + (np.arange(height) + 0.5) / window.scale).astype(int), 0, view.depth.shape[0] - 1
    )
    seen = view.depth[np.ix_(v, u)]
    return np.isfinite(seen) & (seen > 0) & (seen < depth - OCCLUDED_M)
