"""Weights files: what is written is read, and whatever does not fit is refused with one line. Reading runs no code."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is absent: run 'make setup-train'")
safetensors = pytest.importorskip("safetensors", reason="safetensors is absent: run 'make setup-train'")

from network_pairs import tiny  # noqa: E402
from pickles import Trap  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from training_shards import know_tiny  # noqa: E402

from end2reg_ros import profile as profiles  # noqa: E402
from end2reg_ros.engine.torch_weights import build_network, load_weights, save_weights, tensors_hash  # noqa: E402
from end2reg_ros.errors import WeightsError  # noqa: E402
from end2reg_ros.network.model import End2Reg  # noqa: E402
from end2reg_ros.profile import paper, profile_hash, realtime  # noqa: E402

pytestmark = pytest.mark.torch

RECORD = {"iterations": 12, "config": {"shards": ["a"]}, "validation": {"tre_median_mm": 1.5}}


@pytest.fixture(autouse=True)
def tiny_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    know_tiny(monkeypatch)


@pytest.fixture(scope="module")
def network() -> End2Reg:
    torch.manual_seed(0)
    return End2Reg(tiny())


@pytest.fixture
def path(network: End2Reg, tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_weights(path, tiny(), network.state_dict(), {"head.bias": torch.arange(7.0)}, RECORD)
    return path


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(WeightsError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read(network: End2Reg, path: Path) -> None:
    found = load_weights(path)
    state = network.state_dict()
    assert set(found.network) == set(state)
    assert all(torch.equal(found.network[name], state[name]) for name in state)
    assert torch.equal(found.region["head.bias"], torch.arange(7.0)) and len(found.region) == 1
    assert (found.profile, found.profile_hash, found.record) == ("tiny", profile_hash(tiny()), RECORD)
    again = path.with_name("again.safetensors")
    assert (
        save_weights(again, tiny(), found.network, found.region, {}) == found.hash and len(found.hash) == 16
    )
    built = build_network(found, "tiny")
    assert not built.training and all(torch.equal(v, state[n]) for n, v in built.state_dict().items())
    assert list(path.parent.glob("*.tmp")) == []


def test_the_hash_sees_names_shapes_and_values() -> None:
    one = {"a": torch.arange(6.0), "b": torch.ones(2)}
    assert tensors_hash(one) == tensors_hash({"b": torch.ones(2), "a": torch.arange(6.0)})
    changed = one["a"].clone()
    changed[3] += 1e-6
    others = ({**one, "a": changed}, {**one, "a": one["a"].reshape(2, 3)}, {"a": one["a"], "c": one["b"]})
    assert len({tensors_hash(other) for other in (one, *others)}) == 4


def test_the_hash_of_a_profile_sees_every_number_but_the_padding() -> None:
    own = realtime()
    wider = replace(own, scene=replace(own.scene, capacities=(4096, 1024, 300)))
    assert profile_hash(wider) == profile_hash(own) == profile_hash(realtime())
    others = (
        replace(own, sigma_distance=0.21),
        replace(own, scene=replace(own.scene, radius_voxels=2.6)),
        paper(),
    )
    assert len({profile_hash(profile) for profile in (own, *others)}) == 4


def test_no_file(tmp_path: Path) -> None:
    absent = tmp_path / "w.safetensors"
    assert refusal(lambda: load_weights(absent)) == f"no weights file {absent}"
    assert refusal(lambda: load_weights(tmp_path)) == f"no weights file {tmp_path}"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_cut_short(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    text = refusal(lambda: load_weights(path))
    assert text.startswith(f"weights {path} cannot be read, the file may be cut short: ")


def test_reading_runs_no_code(path: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    torch.save({"network": Trap(made)}, path)
    assert "cannot be read" in refusal(lambda: load_weights(path))
    path.write_bytes(pickle.dumps(Trap(made)))
    assert "cannot be read" in refusal(lambda: load_weights(path))
    assert not made.exists()
    with pytest.raises(FileNotFoundError):  # the trap is one
        pickle.loads(pickle.dumps(Trap(tmp_path / "absent" / "made")))


def test_a_foreign_file(path: Path) -> None:
    save_file({"a": torch.ones(2)}, path)
    assert refusal(lambda: load_weights(path)) == f"{path} holds no weights of this program (format None)"
    save_file({"a": torch.ones(2)}, path, {"format": "pt"})
    assert refusal(lambda: load_weights(path)) == f"{path} holds no weights of this program (format 'pt')"


def test_one_altered_value(path: Path) -> None:
    right = load_weights(path).hash
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x10
    path.write_bytes(bytes(data))
    text = refusal(lambda: load_weights(path))
    assert text.startswith(f"weights {path} are not what was saved: hash ")
    assert text.endswith(f", {right} expected")


def test_a_dropped_tensor_and_a_renamed_one(path: Path, network: End2Reg) -> None:
    length = struct.unpack("<Q", path.read_bytes()[:8])[0]
    metadata = json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    save_file(tensors, path, metadata)  # the region finder's is gone
    assert "are not what was saved" in refusal(lambda: load_weights(path))


def test_another_profile_than_was_asked_for(path: Path) -> None:
    weights = load_weights(path)
    text = refusal(lambda: build_network(weights, "realtime"))
    assert text == "weights are of profile 'tiny', profile 'realtime' was asked for"
    text = refusal(lambda: build_network(replace(weights, profile="fast")))
    assert text == "weights: unknown profile 'fast': choose one of paper, realtime, tiny"


def test_other_numbers_of_the_profile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load_weights(path)
    now = tiny(sigma_distance=0.3)
    monkeypatch.setitem(profiles._PROFILES, "tiny", lambda: now)
    assert refusal(lambda: build_network(weights)) == (
        f"weights were trained with other numbers of profile 'tiny' "
        f"({weights.profile_hash}, now {profile_hash(now)}): train again"
    )
    padded = tiny(scene=replace(tiny().scene, capacities=(1000, 300, 100)))
    monkeypatch.setitem(profiles._PROFILES, "tiny", lambda: padded)
    assert build_network(weights).profile.scene.capacities[0] == 1000


def test_names_and_shapes_that_do_not_fit(path: Path) -> None:
    weights = load_weights(path)
    state = dict(weights.network)
    value = state.pop("segmentation.logits.bias")
    text = refusal(lambda: build_network(replace(weights, network=state)))
    assert text == 'weights do not fit the network: Missing key(s) in state_dict: "segmentation.logits.bias".'
    more = {**weights.network, "extra": value}
    text = refusal(lambda: build_network(replace(weights, network=more)))
    assert text == 'weights do not fit the network: Unexpected key(s) in state_dict: "extra".'
    other = {**weights.network, "segmentation.logits.bias": torch.zeros(3)}
    text = refusal(lambda: build_network(replace(weights, network=other)))
    assert text.startswith("weights do not fit the network: size mismatch for segmentation.logits.bias: ")


def test_a_file_is_replaced_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fails(tensors: object, target: Path, metadata: object) -> None:
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    # Whichever copy of the module is in use: other tests may have had it imported anew.
    monkeypatch.setitem(save_weights.__globals__, "save_file", fails)
    with pytest.raises(OSError, match="no space"):
        save_weights(path, tiny(), {}, {}, {})
    assert path.read_bytes() == before
