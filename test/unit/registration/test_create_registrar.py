"""Which registrar a name gives, and what it is refused with."""

from __future__ import annotations

import pytest
from fake_engine import FakeEngine
from views import bundled_case, frame

from end2reg_ros import create_registrar
from end2reg_ros.errors import RegistrationError


def test_a_loaded_engine_is_used_as_it_is() -> None:
    engine = FakeEngine(frame(0).T_camera_model)
    registrar = create_registrar("end2reg", bundled_case(), engine=engine)
    assert (registrar.method, registrar.engine, registrar.needs_prior) == ("end2reg", "fake", False)


def test_a_method_without_a_network_takes_no_engine() -> None:
    engine = FakeEngine(frame(0).T_camera_model)
    with pytest.raises(RegistrationError) as refused:
        create_registrar("icp", bundled_case(), engine=engine)
    assert str(refused.value) == "method 'icp' has no network: an engine is of no use to it"


def test_an_unknown_method_is_named_with_the_known_ones() -> None:
    with pytest.raises(RegistrationError, match="unknown method 'icq': choose one of icp, ransac_icp, "):
        create_registrar("icq", bundled_case())
    with pytest.raises(RegistrationError, match="unknown method 'icq'"):
        create_registrar("icq", bundled_case(), engine=FakeEngine(frame(0).T_camera_model))
