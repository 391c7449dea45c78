"""Public registration pairs through the solver that registers spines: ``python benchmarks/pairs.py DATA``.

DATA holds ``geotransformer_demo`` (src.npy, ref.npy, gt.npy) and ``pcl_face_template``; prints the distance to the published
transforms, and how well each of the two fits the data.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.register_pair import register_clouds
from end2reg_ros.cloud.files import read_cloud
from end2reg_ros.se3 import apply, from_rotation_translation, inverse, rotation_angle

# Template 5 onto the person, as the Point Cloud Library's tutorial prints it (three digits).
T_PERSON_TEMPLATE = from_rotation_translation(
    np.array([[0.834, 0.295, 0.466], [-0.336, 0.942, 0.006], [-0.437, -0.162, 0.885]]),
    np.array([-0.373, -0.097, 0.087]),
)


def report(name: str, source: np.ndarray, target: np.ndarray, T_published: np.ndarray, voxel: float) -> None:
    """Register from nothing and from the published transform; print one line."""
    tree = cKDTree(target)
    found = register_clouds(source, target, voxel).T_target_source
    again = register_clouds(source, target, voxel, T_published).T_target_source

    def turn_deg(T: np.ndarray) -> float:
        return float(np.degrees(rotation_angle((found @ inverse(T))[:3, :3])))

    def fit_mm(T: np.ndarray) -> float:
        return float(1000 * np.median(tree.query(apply(T, source))[0]))

    apart = 1000 * np.linalg.norm(apply(found, source) - apply(T_published, source), axis=1).mean()
    print(
        f"{name}: {turn_deg(T_published):.2f} deg and {apart:.1f} mm (mean) from the published transform; "
        f"{turn_deg(again):.3f} deg from the refined published one; median nearest distance {fit_mm(found):.2f} mm "
        f"(published: {fit_mm(T_published):.2f} mm)"
    )


def main() -> None:
    """Print both pairs."""
    data = Path(sys.argv[1])
    source, target, T = (np.load(data / "geotransformer_demo" / f"{n}.npy") for n in ("src", "ref", "gt"))
    report("geotransformer_demo", source, target, T, 0.05)
    face = data / "pcl_face_template"
    template = read_cloud(face / "object_template_5.pcd").points.astype(np.float64)
    person = read_cloud(face / "person.pcd").points.astype(np.float64)
    report("pcl_face_template", template, person[person[:, 2] < 1.0], T_PERSON_TEMPLATE, 0.006)


if __name__ == "__main__":
    main()
