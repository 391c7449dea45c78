"""Parts inside the network, measured on both CPU engines."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from views import bundled_case, cloud_of, frame

from end2reg_ros.apps.bench.methods import parse_method
from end2reg_ros.apps.bench.network import network_parts, onnx_parts, shown_spec
from end2reg_ros.engine.load import load_engine
from end2reg_ros.engine.options import EngineOptions
from end2reg_ros.engine.types import Engine
from end2reg_ros.registration.classical import IcpRegistrar
from end2reg_ros.registration.end2reg import End2RegRegistrar
from end2reg_ros.registration.find.network_search import around_pose
from end2reg_ros.registration.network import ModelSide, NetworkScene, model_side
from end2reg_ros.registration.settings import RegistrationSettings
from end2reg_ros.registration.weights_path import packaged_weights

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

PARTS = {f"network: {part}" for part in ("geometry", "segmentation", "backbone", "transformer", "matching")}


@pytest.fixture(scope="module")
def side() -> ModelSide:
    """The whole surface of the case: quicker made than the visible one, and as good for a clock."""
    meshes = [v.mesh for v in bundled_case().vertebrae]
    points = np.concatenate([mesh.vertices[::4] for mesh in meshes])
    normals = np.tile([0.0, -1.0, 0.0], (len(points), 1))
    surface: Any = SimpleNamespace(points=points, normals=normals)
    return model_side(surface, engine("torch").profile)


@pytest.fixture(scope="module")
def scene(side: ModelSide) -> NetworkScene:
    found = around_pose(cloud_of(frame(0)), frame(0).T_camera_model, side, engine("torch").profile)
    assert found is not None
    return found


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("END2REG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@lru_cache
def engine(name: Any) -> Engine:
    return load_engine(EngineOptions(name, packaged_weights(), device="cpu", threads=1))


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_parts_are_those_of_a_frame(name: str, side: ModelSide) -> None:
    loaded = engine(name)
    loaded.set_model(side.pyramid)
    registrar = End2RegRegistrar.__new__(End2RegRegistrar)  # without the surface, which takes seconds
    registrar.settings = RegistrationSettings()
    registrar.network = SimpleNamespace(engine=loaded, side=side)  # type: ignore[assignment]
    parts = network_parts(
        registrar, cloud_of(frame(0)), frame(0).T_camera_model, packaged_weights(), repeats=2
    )
    assert {"crop", "tables", "network"} | PARTS <= set(parts)
    assert all(ms > 0.0 for part, ms in parts.items() if part != "crop")  # a difference of two measurements


def test_methods_without_a_network_have_no_parts() -> None:
    icp = IcpRegistrar.__new__(IcpRegistrar)
    assert network_parts(icp, cloud_of(frame(0)), frame(0).T_camera_model, None, 1) == {}


def test_the_profile_is_of_the_padding_that_is_run(
    side: ModelSide, scene: NetworkScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    loaded = engine("onnxruntime")
    loaded.set_model(side.pyramid)
    sizes: list[int] = []
    session = onnxruntime.InferenceSession

    def record(*arguments: Any, **more: Any) -> Any:
        made = session(*arguments, **more)
        names = [v for v in made.get_inputs() if v.name == "scene.0.points"]
        sizes.extend(v.shape[0] for v in names)
        return made

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    onnx_parts(loaded, packaged_weights(), side.pyramid, scene, 1)
    assert sizes == [shown_spec(loaded.profile, scene).capacities[0]]
    assert sizes == [len(scene.pyramids.registration.levels[0].points)]


def test_weights_for_the_parts_are_those_of_the_case(tmp_path: Path) -> None:
    from end2reg_ros.apps.bench.methods import engine_options

    given = tmp_path / "own.safetensors"
    given.write_bytes(packaged_weights().read_bytes())
    assert engine_options(parse_method("end2reg:torch", 1, weights=given), bundled_case()).weights == given
