"""Smooth random fields: over points in space, and as image banks that frames cut their noise from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TERMS = 16  # plane waves of a field in space


def at_points(
    points: NDArray[np.floating],
    wavelength_m: float,
    rng: np.random.Generator,
    origin: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """A smooth random field of mean 0 and variance 1 at points, by a sum of random plane waves.

    Args:
        points: (N, D), metres.
        wavelength_m: middle of the waves' lengths, which spread from 0.7 to 1.6 of it.
        origin: (D,) near the points; equal origins and generators give one field over several sets of points.
            Their mean when None.
    Returns:
        (N,) float32.
    """
    dimension = points.shape[1]
    directions = rng.normal(size=(TERMS, dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    waves = directions * (2 * np.pi / (wavelength_m * rng.uniform(0.7, 1.6, size=(TERMS, 1))))
    # Far coordinates (CT scanners put patients near -1 m) would cost float32 phase: work about a near origin.
    local = (points - (points.mean(axis=0) if origin is None else origin)).astype(np.float32)
    field = np.zeros(len(points), np.float32)
    phases = rng.uniform(0, 2 * np.pi, TERMS).astype(np.float32)
    for wave, phase in zip(waves.astype(np.float32), phases, strict=True):
        field += np.cos(local @ wave + phase)
    return np.asarray(field * np.float32(np.sqrt(2.0 / TERMS)))


def image(shape: tuple[int, int], radius_px: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random image (H, W) of mean 0 and variance 1, correlated over a Gaussian of ``radius_px``; white for 0."""
    from scipy.ndimage import gaussian_filter

    white = rng.standard_normal(shape, dtype=np.float32)
    if radius_px <= 0:
        return white
    field = gaussian_filter(white, radius_px, mode="wrap")
    return np.asarray((field - field.mean()) / field.std())


def smoothstep(x: NDArray[np.floating]) -> Array:
    """0 below 0, 1 above 1, smooth (C1) between."""
    s = np.clip(x, 0.0, 1.0)
    return np.asarray(s * s * (3 - 2 * s), dtype=np.float64)
