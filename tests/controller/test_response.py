"""Roll and pitch that commands must have led to."""

import numpy as np
import pytest

from deq_mpc_controller.response import AttitudeReference
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command

TILTED = Command(0.3, -0.2, 0.0, 0.3)
GAIN = -cf.nominal_params()[4] / cf.nominal_params()[2]


def test_it_settles_where_the_model_does() -> None:
    reference = AttitudeReference()
    for t in np.arange(0.0, 1.5, 0.01):
        reference.send(t, TILTED)
    assert reference.error(np.array([0.3 * GAIN, -0.2 * GAIN, 1.0])) < 1e-3
    assert reference.error(np.zeros(3)) == pytest.approx(0.3 * GAIN, abs=1e-3)


def test_it_lags_as_the_vehicle_does_and_does_not_depend_on_the_period() -> None:
    errors = []
    for period in (0.005, 0.01, 0.05):
        reference = AttitudeReference()
        for t in np.arange(0.0, 0.1501, period):
            reference.send(t, TILTED)
        errors.append(reference.error(np.zeros(3)))
    np.testing.assert_allclose(errors, 0.3 * 0.63, rtol=0.1)  # 63 % after 0.15 s, see config/attitude_models.yaml


def test_reset_and_long_silence() -> None:
    reference = AttitudeReference()
    reference.send(0.0, TILTED)
    reference.send(1e9, TILTED)
    assert np.isfinite(reference.error(np.zeros(3)))
    reference.reset()
    assert reference.error(np.zeros(3)) == 0.0


def test_an_attitude_that_is_not_finite_is_an_error_without_bounds() -> None:
    assert not AttitudeReference().error(np.array([np.nan, 0.0, 0.0])) <= 1.0
