"""Vertebra meshes and planned screws for rviz, in the tracked frames; gone when nothing is tracked."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Vector3
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from end2reg_ros import names, se3
from end2reg_ros.cache import Arrays, CaseEntry, Key, digest_of_code
from end2reg_ros.case.model import Case, Mesh, Screw, Vertebra
from end2reg_ros.registration.fit.surface_build import installed_version, mesh_digest
from end2reg_ros.ros import qos
from end2reg_ros.ros.conversions import pose_from_matrix
from end2reg_ros.ros.tf import screw_pose
from end2reg_ros.tracking.types import PUBLISHING_STATES, State

Array = NDArray[np.float64]
DEGRADED_ALPHA = 0.4


def decimate(mesh: Mesh, triangles: int) -> Mesh:
    """A mesh of about ``triangles`` triangles (quadric error); the mesh itself when it has no more."""
    if len(mesh.triangles) <= triangles:
        return mesh
    import open3d as o3d

    full = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices), o3d.utility.Vector3iVector(mesh.triangles)
    )
    small = full.simplify_quadric_decimation(triangles)
    return Mesh(np.asarray(small.vertices), np.asarray(small.triangles, dtype=np.int32))


def decimated(case: Case, triangles: int) -> list[Mesh]:
    """``decimate`` of every vertebra, from the cache where it is there."""

    def made() -> Arrays:
        small = [decimate(v.mesh, triangles) for v in case.vertebrae]
        return {
            f"{k} {name}": getattr(m, name) for k, m in enumerate(small) for name in ("vertices", "triangles")
        }

    if all(len(v.mesh.triangles) <= triangles for v in case.vertebrae):
        return [v.mesh for v in case.vertebrae]
    key: Key = {
        "meshes": mesh_digest(case),
        "triangles": triangles,
        "code": digest_of_code(__file__),
        "open3d version": installed_version("open3d"),
    }
    arrays = CaseEntry(case.hash, "markers.bin", key).arrays(made)
    return [Mesh(arrays[f"{k} vertices"], arrays[f"{k} triangles"]) for k in range(len(case.vertebrae))]


def mesh_marker(prefix: str, vertebra: Vertebra, mesh: Mesh, number: int) -> Marker:
    """A vertebra's surface (``mesh``, model frame) in its own frame, metres."""
    corners = se3.apply(se3.inverse(vertebra.T_model_level), mesh.vertices)[mesh.triangles.ravel()]
    red, green, blue = (c / 255.0 for c in vertebra.colour)
    marker = _marker(prefix + vertebra.level, "vertebrae", number, Marker.TRIANGLE_LIST)
    marker.scale = Vector3(x=1.0, y=1.0, z=1.0)
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in corners.tolist()]
    return marker


def screw_marker(prefix: str, vertebra: Vertebra, screw: Screw, number: int) -> Marker:
    """A planned screw as a cylinder from entry point to tip."""
    length = float(np.linalg.norm(screw.tip - screw.entry))
    middle = se3.from_rotation_translation(np.eye(3), np.array([0.0, 0.0, length / 2]))
    T_level_screw = se3.inverse(vertebra.T_model_level) @ screw_pose(screw)
    marker = _marker(prefix + vertebra.level, "screws", number, Marker.CYLINDER)
    marker.pose = pose_from_matrix(T_level_screw @ middle)
    marker.scale = Vector3(x=screw.diameter, y=screw.diameter, z=length)
    marker.color = ColorRGBA(r=0.2, g=0.6, b=1.0, a=1.0)
    return marker


def case_markers(prefix: str, case: Case, triangles: int) -> MarkerArray:
    """All meshes and screws of a case."""
    pairs = zip(case.vertebrae, decimated(case, triangles), strict=True)
    markers = [mesh_marker(prefix, v, mesh, number) for number, (v, mesh) in enumerate(pairs)]
    screws = [(v, screw) for v in case.vertebrae for screw in v.screws]
    markers += [screw_marker(prefix, v, screw, number) for number, (v, screw) in enumerate(screws)]
    return MarkerArray(markers=markers)


def _marker(frame_id: str, namespace: str, number: int, kind: int) -> Marker:
    # Stamp zero and frame_locked: rviz moves the marker with its frame; the shape itself has no time.
    return Marker(
        header=Header(frame_id=frame_id, stamp=Time()),
        ns=namespace,
        id=number,
        type=kind,
        action=Marker.ADD,
        pose=Pose(),
        frame_locked=True,
    )


class MarkerPublisher:
    """Publishes on changes of state alone: opaque in TRACKING, pale in DEGRADED, removed otherwise.

    rviz keeps a marker where its frame was last: without the removal a lost spine would seem to be tracked.
    """

    def __init__(self, node: Node, prefix: str, case: Case, triangles: int) -> None:
        self._node = node
        self._markers = case_markers(prefix, case, triangles)
        self._publisher = node.create_publisher(MarkerArray, names.MARKERS, qos.latched())
        self._shown: State | None = None

    def publish(self, state: State) -> None:
        """Show what the state allows."""
        wanted = state if state in PUBLISHING_STATES else None
        if wanted == self._shown:
            return
        self._shown = wanted
        if wanted is None:
            self._publisher.publish(MarkerArray(markers=[Marker(action=Marker.DELETEALL)]))
            return
        for marker in self._markers.markers:
            marker.color.a = 1.0 if wanted == State.TRACKING else DEGRADED_ALPHA
        self._publisher.publish(self._markers)

    def close(self) -> None:
        """Give the publisher back."""
        self._node.destroy_publisher(self._publisher)
