"""``end2reg export``: the network as ONNX files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from end2reg_ros.errors import EngineError


@dataclass(frozen=True)
class Export:
    """Write the network as ONNX files. Needs no torch. Exit 0 when all are written.

    The file named is the graph of every frame; beside it, named after it, lie those of smaller views
    (.scene_small.onnx), of the case's side (.model.onnx) and of the region finder (.region.onnx).
    """

    out: Path
    """File to write, ending in .onnx; its folder is made if missing."""
    weights: Path | None = None
    """Weights file (.safetensors). Default: the shipped one."""
    profile: str | None = None
    """Profile that the weights must be of. Default: theirs."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        """Write the files and print what they are."""
        from end2reg_ros.engine.onnx_files import companion, make_bundle, write_bundle
        from end2reg_ros.engine.weights_file import read_weights
        from end2reg_ros.registration.weights_path import packaged_weights

        if self.out.suffix != ".onnx":
            raise EngineError(f"--out must end in .onnx, '{self.out.name}' does not")
        weights = read_weights(self.weights or packaged_weights(self.profile or "realtime"))
        bundle = make_bundle(weights, self.profile)
        write_bundle(bundle, self.out)
        rows = [(name, companion(self.out, name), len(g.data), g.hash) for name, g in bundle.graphs.items()]
        if self.json:
            document = {
                "profile": weights.profile,
                "weights_hash": weights.hash,
                "engine_hash": bundle.hash,
                "files": [
                    {"graph": name, "path": str(path), "bytes": size, "sha256": digest}
                    for name, path, size, digest in rows
                ],
            }
            print(json.dumps(document, indent=1))
            return 0
        for name, path, size, digest in rows:
            print(f"{path}: {name} graph, {size / 1e6:.1f} MB, sha256 {digest}")
        print(f"profile {weights.profile}, weights {weights.hash}, engine {bundle.hash}")
        return 0
