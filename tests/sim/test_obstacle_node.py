"""The node of the virtual obstacles, in process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rclpy

from deq_mpc_sim import obstacle_node, obstacles


@pytest.fixture
def ros() -> Iterator[None]:
    rclpy.init(args=["--ros-args", "--log-level", "fatal", "-p", "obstacles:=moving"])
    yield
    rclpy.shutdown()


def test_what_moves_the_obstacles_is_ready_before_the_flight(ros: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from the disk in the air it would leave the controller without news of them for half a second."""
    used: list[str] = []
    for name in ("positions", "advance_adversarial"):
        moves = getattr(obstacle_node, name)
        monkeypatch.setattr(
            obstacle_node, name, lambda *args, name=name, moves=moves: (used.append(name), moves(*args))[1]
        )
    node = obstacle_node.ObstacleNode()
    node.destroy_node()
    assert sorted(used) == ["advance_adversarial", "positions"]
    assert obstacles._fly.overloads
