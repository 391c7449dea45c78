"""The encoded pre-operative side of a case, kept between starts: it depends on the case and the weights alone."""

from __future__ import annotations

from end2reg_ros.cache import CaseEntry, digest_of
from end2reg_ros.cloud.pyramid import Pyramid
from end2reg_ros.engine.onnx_files import template_hash
from end2reg_ros.engine.types import Arrays, Engine


def encoded_model_side(case_hash: str, pyramid: Pyramid, engine: Engine) -> Arrays:
    """What ``engine.encode_model`` makes of a case's pyramid, from the cache where it was made before.

    The key holds everything that it follows from: the pyramid itself, the weights, the graph, and the engine, as two of
    them differ in the last digits.
    """
    info = engine.info
    arrays = [a for level in pyramid.levels for a in (level.points, level.neighbours)]
    key = {
        "pyramid": digest_of(*arrays, pyramid.attributes, pyramid.patches),
        "weights": info.weights_hash,
        "graph": template_hash(info.profile, "model"),
        "engine": f"{info.name} {info.version} {info.device} {info.precision}",
    }
    entry = CaseEntry(case_hash, f"model_side_{info.weights_hash}_{info.name}", key)
    return entry.arrays(lambda: engine.encode_model(pyramid))
