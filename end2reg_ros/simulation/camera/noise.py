"""The faults of a depth camera, cut per frame from banks made once: a frame costs a few array passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.simulation.camera.sensor import SensorSettings
from end2reg_ros.simulation.field.surfaces import MATTE
from end2reg_ros.simulation.smooth_noise import image

SPARE_PX = 64  # banks are larger than the image by this, so that every frame cuts elsewhere
MIRROR_COS = 0.975  # wet or metal surfaces seen this head-on mirror the projector


@dataclass(frozen=True)
class IdealView:
    """What an ideal camera sees, (H, W) each: depth (inf where nothing is), cosine of incidence, shine code."""

    depth_m: NDArray[np.float32]
    cosine: NDArray[np.float32]
    shine: NDArray[np.uint8]


class SensorNoise:
    """Turns ideal depth into measured depth. Equal seed and frame number give equal faults."""

    def __init__(self, sensor: SensorSettings, seed: int) -> None:
        """Make the banks: noise, holes and colour noise for ``sensor``."""
        self.sensor = sensor
        self.seed = seed
        rng = np.random.default_rng((seed, 21))
        shape = (sensor.height + SPARE_PX, sensor.width + SPARE_PX)
        smooth, white = np.sqrt(sensor.smooth_share), np.sqrt(1.0 - sensor.smooth_share)
        self._axial = [
            (smooth * image(shape, sensor.smooth_px, rng) + white * image(shape, 0.0, rng)).astype(np.float32)
            for _ in range(4)
        ]
        holes = image(shape, 1.8, rng)
        self._holes = [holes > _upper_quantile(holes, sensor.hole_share)]
        self._uniform = rng.random(shape, dtype=np.float32)
        patches = image(shape, 2.0, rng)
        self._mirror = patches > _upper_quantile(patches, sensor.specular_drop)
        self._edge = self._uniform < sensor.edge_drop
        speckle = np.clip(sensor.colour_noise * rng.standard_normal((*shape, 3)), -15, 15)
        self._speckle = np.rint(speckle).astype(np.int8).view(np.uint8)

    def measure(self, view: IdealView, frame: int) -> NDArray[np.float32]:
        """(H, W) measured depth in metres, NaN where the camera has none."""
        sensor = self.sensor
        rng = np.random.default_rng((self.seed, 22, frame))
        ideal = view.depth_m
        lost = self._lost(view, rng)
        # Misses (inf) become NaN on the way; they are lost in any case.
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = ideal * ideal
            depth *= np.float32(sensor.axial_stddev_m / 0.25 * rng.choice((-1.0, 1.0)))
            depth *= self._cut(self._axial[int(rng.integers(len(self._axial)))], rng)
            depth += ideal
            if sensor.disparity_step_px > 0:
                steps = np.float32(sensor.focal_px * sensor.baseline_m / sensor.disparity_step_px)
                np.divide(steps, depth, out=depth)
                np.rint(depth, out=depth)
                np.divide(steps, depth, out=depth)
            if sensor.depth_unit_m > 0:
                unit = np.float32(sensor.depth_unit_m)
                depth = np.rint(depth / unit) * unit
        depth[lost] = np.nan
        return depth

    def speckle(self, frame: int) -> NDArray[np.uint8]:
        """(H, W, 3) colour noise as uint8 that wraps: adding it modulo 256 subtracts where the noise is negative."""
        return self._cut(self._speckle, np.random.default_rng((self.seed, 23, frame)))

    def _lost(self, view: IdealView, rng: np.random.Generator) -> NDArray[np.bool_]:
        sensor, depth = self.sensor, view.depth_m
        lost = view.cosine < np.float32(np.cos(np.radians(sensor.grazing_deg)))
        lost |= ~((depth > sensor.min_range_m) & (depth < sensor.max_range_m))
        if sensor.edge_drop > 0:
            lost |= _beside_steps(depth, sensor.edge_step_m) & self._cut(self._edge, rng)
        if sensor.hole_share > 0:
            lost |= self._cut(self._holes[0], rng)
        if sensor.specular_drop > 0:
            mirrors = (view.cosine > MIRROR_COS) & (view.shine != MATTE)
            lost |= mirrors & self._cut(self._mirror, rng)
        if sensor.shadow:
            lost |= stereo_shadow(depth, sensor.focal_px * sensor.baseline_m)
        return lost

    def _cut(self, bank: NDArray, rng: np.random.Generator) -> NDArray:
        row, column = rng.integers(0, SPARE_PX + 1, size=2)
        return bank[row : row + self.sensor.height, column : column + self.sensor.width]


def _upper_quantile(values: NDArray[np.float32], share: float) -> float:
    return float(np.quantile(values, 1.0 - share)) if share > 0 else np.inf


def _beside_steps(depth: NDArray[np.float32], step_m: float) -> NDArray[np.bool_]:
    """(H, W) pixels on either side of a depth step, one pixel wide on each side."""
    beside = np.zeros(depth.shape, bool)
    with np.errstate(invalid="ignore"):
        across = ~(np.abs(depth[:, 1:] - depth[:, :-1]) < step_m)
        down = ~(np.abs(depth[1:] - depth[:-1]) < step_m)
    beside[:, 1:] |= across
    beside[:, :-1] |= across
    beside[1:] |= down
    beside[:-1] |= down
    return beside


def stereo_shadow(depth: NDArray[np.float32], focal_baseline: float) -> NDArray[np.bool_]:
    """(H, W) pixels of the left eye that the right eye, a baseline to the right, cannot see.

    A pixel u lands at u - d(u) in the right image (d = f B / z). It is hidden when a pixel further right lands more than
    half a pixel to the left of it: that one is nearer and stands before it. Surfaces that only just fold over stay visible.

    Args:
        depth: (H, W) metres, inf where nothing is.
        focal_baseline: focal length in pixels times baseline in metres.
    """
    landing = np.arange(depth.shape[1], dtype=np.float32) - np.float32(focal_baseline) / depth
    nearest = np.minimum.accumulate(landing[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(nearest + np.float32(0.5) < landing)
