"""Sweeps: what changes and what stays from value to value, priors, figures, the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stand_in import StandInRegistrar

from benchmarks.paper.sweep_tables import sweep_figures, sweep_table, write_sweep_picture
from benchmarks.paper.sweeps import (
    SweepPoint,
    SweepSettings,
    draw_scene,
    points_of_sweep,
    rotated_prior,
    run_sweeps,
    sweep_document,
)
from end2reg_ros.case.model import Case
from end2reg_ros.cloud.types import Cloud
from end2reg_ros.errors import End2RegError
from end2reg_ros.evaluation.benchmark import CaseBench
from end2reg_ros.evaluation.metrics import Pose, pose_errors
from end2reg_ros.registration.types import Prior, Quality, Registration

SEED = 800_000


class PriorBack(StandInRegistrar):
    """Gives back the prior."""

    method, engine, engine_hash, needs_prior = "prior", "", "", True

    def register(self, cloud: Cloud, prior: Prior | None) -> Registration:
        assert prior is not None and len(cloud.points) > 10_000
        return Registration(prior.T_camera_model, True, "ok", "", Quality(), np.eye(6), "prior", "")


@pytest.fixture(scope="module")
def bench(case: Case) -> CaseBench:
    return CaseBench(case, ("prior",), lambda name, case: PriorBack())


def test_points_of_a_sweep(case: Case) -> None:
    points = points_of_sweep("levels", case, 2, 3)
    assert [(p.value, p.seed - SEED) for p in points] == [
        (v, 3000 + k) for v in (1.0, 2.0, 3.0, 4.0, 5.0) for k in (0, 1)
    ]
    with pytest.raises(End2RegError) as caught:
        points_of_sweep("weather", case, 1)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "unknown sweep 'weather'; one of misalignment, occlusion, levels, noise, film"
    )


@pytest.mark.slow
def test_a_scene_follows_from_its_point_and_only_the_swept_thing_changes(case: Case) -> None:
    quiet, _ = draw_scene(case, SweepPoint("noise", 0.5, SEED))
    again, measured = draw_scene(case, SweepPoint("noise", 0.5, SEED))
    np.testing.assert_array_equal(quiet.cloud.points, again.cloud.points)
    assert measured == 0.5 and quiet.tags["value"] == 0.5
    loud, _ = draw_scene(case, SweepPoint("noise", 3.0, SEED))
    np.testing.assert_array_equal(loud.T_camera_model, quiet.T_camera_model)
    other, _ = draw_scene(case, SweepPoint("noise", 0.5, SEED + 1))
    assert not np.allclose(other.T_camera_model, quiet.T_camera_model)


def test_fewer_levels_show_less_bone(case: Case) -> None:
    few, many = (draw_scene(case, SweepPoint("levels", v, SEED))[0] for v in (1.0, 5.0))
    assert few.bone is not None and many.bone is not None
    assert 100 < few.bone.sum() < 0.6 * many.bone.sum()


@pytest.mark.slow
def test_occlusion_covers_what_was_asked_for(case: Case) -> None:
    free, nothing = draw_scene(case, SweepPoint("occlusion", 0.0, SEED))
    half, measured = draw_scene(case, SweepPoint("occlusion", 0.45, SEED))
    assert nothing == 0.0 and measured == pytest.approx(0.45, abs=0.05)
    np.testing.assert_array_equal(half.T_camera_model, free.T_camera_model)
    assert free.bone is not None and half.bone is not None
    # Measured in rendered pixels; what the sensor returns of them is nearly that.
    assert 1.0 - half.bone.sum() / free.bone.sum() == pytest.approx(measured, abs=0.12)


def test_rotated_prior_turns_about_the_spines_centre(bench: CaseBench) -> None:
    truth = Pose(np.eye(4))
    for degrees in (0.0, 45.0, 180.0):
        first, again = (rotated_prior(bench, truth, degrees, 5) for _ in range(2))
        np.testing.assert_array_equal(first.T_camera_model, again.T_camera_model)
        errors = pose_errors(Pose(first.T_camera_model), truth, bench.targets)
        assert errors.rre_deg == pytest.approx(degrees, abs=1e-5)
        assert errors.rte_mm == pytest.approx(0.0, abs=1e-9)
    assert not np.allclose(
        rotated_prior(bench, truth, 45.0, 6).T_camera_model,
        rotated_prior(bench, truth, 45.0, 5).T_camera_model,
    )


def test_run_table_and_picture(case: Case, bench: CaseBench, tmp_path: Path) -> None:
    settings = SweepSettings(("misalignment",), seeds=1, methods=("prior",))
    rows = list(run_sweeps([case], lambda case: bench, settings))
    assert [row.point.value for row in rows] == [0.0, 15.0, 30.0, 45.0, 60.0, 90.0, 120.0, 150.0, 180.0]
    assert {row.trial.scene for row in rows} == {f"misalignment_0_{case.name}_{SEED}"}
    tre = [row["tre_mm"] for row in sweep_document(rows)]
    assert tre[0] == pytest.approx(0.0, abs=1e-6) and tre == sorted(tre)
    figures = sweep_figures(rows)
    assert [f.good for f in figures[:2]] == [1.0, 0.0]
    assert figures[1].wrong_reported == 1.0  # the fake takes every prior for good
    lines = sweep_table(figures)
    assert lines[0].startswith("| sweep | method | value | measured | n | TRE mm |")
    assert (
        lines[2] == "| misalignment | prior | 0 | 0.00 | 1 | 0.00 [0.00, 0.00] | 100.0 % | 100.0 % | 0.0 % |"
    )
    write_sweep_picture(tmp_path / "sweeps.png", figures)
    assert (tmp_path / "sweeps.png").read_bytes().startswith(b"\x89PNG")
