"""Where an engine gets its ONNX graphs from: an exported file and its companions, or a weights file, joined once and kept."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from end2reg_ros import __version__
from end2reg_ros.cache import CacheMiss, Key, cache_folder, seal, unseal, write_atomically
from end2reg_ros.engine.graph_io import GRAPHS
from end2reg_ros.engine.onnx_files import (
    FORMAT,
    OnnxBundle,
    OnnxGraph,
    companion,
    graph_names,
    make_bundle,
    read_graph,
    template_hash,
)
from end2reg_ros.engine.weights_file import RawWeights, profile_of, read_weights
from end2reg_ros.errors import EngineError

_log = logging.getLogger(__name__)


def load_bundle(weights: Path, profile: str | None = None) -> OnnxBundle:
    """The graphs of a weights file, or of an exported ONNX file and its companions.

    Raises:
        WeightsError, EngineError: a file that is missing, cut short or does not fit.
    """
    if weights.suffix == ".onnx":
        return exported_bundle(weights)
    raw = read_weights(weights)
    own = profile_of(raw.profile, raw.profile_hash, profile)
    graphs: dict[str, OnnxGraph] = {}
    for name in graph_names(own, raw.has_region):
        kept = _kept(raw, name)
        if kept is None:
            bundle = make_bundle(raw)
            _keep(raw, bundle)
            return bundle
        graphs[name] = kept
    return OnnxBundle(graphs)


def exported_bundle(scene: Path) -> OnnxBundle:
    """The graphs written by ``end2reg export``; companions that are not there are left out.

    Raises:
        EngineError: no such file, or one that cannot be read.
    """
    if not scene.is_file():
        raise EngineError(f"no network file {scene}")
    return OnnxBundle({n: read_graph(companion(scene, n)) for n in GRAPHS if companion(scene, n).is_file()})


def _path(raw: RawWeights, graph: str) -> Path:
    return cache_folder() / "networks" / raw.hash / f"{graph}.onnx"


def _key(raw: RawWeights, graph: str) -> Key:
    packaged = template_hash(raw.profile, graph)
    return {
        "format": FORMAT,
        "weights": raw.hash,
        "graph": packaged,
        "profile": raw.profile_hash,
        "by": __version__,
    }


def _kept(raw: RawWeights, name: str) -> OnnxGraph | None:
    """A kept graph; None when there is none that can be used, with one line where there was one."""
    try:
        content = bytes(unseal(_path(raw, name).read_bytes(), _key(raw, name)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (CacheMiss, OSError) as why:
        _log.warning("the %s graph kept for these weights is not used, but made anew: %s", name, why)
        return None
    line, data = content.split(b"\n", 1)
    told: dict[str, str] = json.loads(line)
    return OnnxGraph(data, told)


def _keep(raw: RawWeights, bundle: OnnxBundle) -> None:
    try:
        for name, graph in bundle.graphs.items():
            content = json.dumps(graph.metadata).encode() + b"\n" + graph.data
            write_atomically(_path(raw, name), seal(_key(raw, name), content))
    except OSError as why:
        _log.warning("the network's graphs are not kept between starts: %s", why)
