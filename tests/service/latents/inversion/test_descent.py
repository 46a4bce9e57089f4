"""L-BFGS on functions whose lowest point is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.latents.inversion.descent import Descent

Vector = NDArray[np.float64]


def rosenbrock(point: Vector) -> tuple[float, Vector]:
    """A curved valley whose lowest point is (1, 1)."""
    x, y = point
    steep = y - x**2
    return (1 - x) ** 2 + 100 * steep**2, np.array([-2 * (1 - x) - 400 * x * steep, 200 * steep])


def descended(start: list[float], evaluations: int) -> Descent:
    run = Descent(np.array(start), lambda gradient: gradient)
    for _ in range(evaluations):
        if not run.stuck:
            run.tell(*rosenbrock(run.point))
    return run


def test_it_follows_a_curved_valley_to_its_end() -> None:
    best = descended([-1.2, 1.0], 60).best
    assert best is not None
    assert best.point == pytest.approx([1.0, 1.0], abs=1e-6)


def test_the_first_move_is_short() -> None:
    run = Descent(np.array([10.0, 10.0]), lambda gradient: gradient)
    run.tell(*rosenbrock(run.point))
    assert np.linalg.norm(run.point - [10.0, 10.0]) == pytest.approx(1.0)


def test_the_same_values_lead_the_same_way() -> None:
    one, other = descended([-1.2, 1.0], 30), descended([-1.2, 1.0], 30)
    assert one.point.tolist() == other.point.tolist()


def test_a_good_metric_leads_straight_down() -> None:
    curvature = np.array([1.0, 10_000.0])
    run = Descent(np.array([0.5, 0.5]), lambda gradient: gradient / curvature)
    for _ in range(4):
        run.tell(float(curvature @ run.point**2) / 2, curvature * run.point)
    assert run.best is not None
    assert run.best.loss < 1e-20


def test_where_nothing_leads_down_it_is_stuck() -> None:
    run = Descent(np.zeros(2), lambda gradient: gradient)
    run.tell(1.0, np.zeros(2))
    assert run.stuck


def test_a_step_too_far_is_taken_back() -> None:
    def with_a_cliff(point: Vector) -> tuple[float, Vector]:
        loss, gradient = rosenbrock(point)
        return (np.nan, gradient) if point[0] > 1.5 else (loss, gradient)

    run = Descent(np.array([-1.2, 1.0]), lambda gradient: gradient)
    for _ in range(80):
        if not run.stuck:
            run.tell(*with_a_cliff(run.point))
    assert run.best is not None
    assert run.best.loss < 1e-9
