"""Printed models are kept: printed once, anew when model or printer change, whole whoever else prints them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sympy as sp

from deq_mpc_core.errors import UserError
from deq_mpc_core.models import MODELS, Model
from deq_mpc_core.models.pendulum import pendulum_model
from deq_mpc_core.solver import generate
from deq_mpc_core.solver.generate import (
    is_shipped_slot,
    load_package,
    load_printed,
    model_slot,
    print_slot,
    shipped_slot,
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DEQ_MPC_CACHE", str(folder))
    return folder


@pytest.fixture
def prints(monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """The models that are printed, in order."""
    printed: list[Model] = []

    def count(model: Model) -> str:
        printed.append(model)
        return print_slot(model)

    monkeypatch.setattr(generate, "print_slot", count)
    return printed


@pytest.mark.parametrize("name", ["pendulum", "crazyflie"])
def test_a_kept_slot_is_the_printed_one(name: str, cache: Path, prints: list[Model]) -> None:
    model = MODELS[name]()
    expected = print_slot(model)
    assert [model_slot(model) for _ in range(2)] == [expected] * 2
    assert shipped_slot.__wrapped__(name) == expected
    assert len(prints) == 1
    assert is_shipped_slot(name, expected)
    assert not is_shipped_slot(name, expected + "\n")


def changes(model: Model) -> dict[str, Model]:
    """The model, each time another in one respect."""
    last = model.xdot[-1]
    positive = sp.Symbol(model.p[0].name, positive=True)
    return {
        "name": dataclasses.replace(model, name="other"),
        "the last place of a number": dataclasses.replace(model, xdot=(*model.xdot[:-1], sp.Float(1 + 2**-52) * last)),
        "what is known of a symbol": dataclasses.replace(
            model,
            p=(positive, *model.p[1:]),
            xdot=tuple(sp.sympify(e).xreplace({model.p[0]: positive}) for e in model.xdot),
        ),
        "order of states": dataclasses.replace(model, x=model.x[::-1], xdot=model.xdot[::-1]),
        "scale": dataclasses.replace(model, u_scale=tuple(2.0 * s for s in model.u_scale)),
    }


@pytest.mark.parametrize("change", changes(pendulum_model()))
def test_another_model_is_printed_anew(change: str, cache: Path, prints: list[Model]) -> None:
    model_slot(pendulum_model())
    other = changes(pendulum_model())[change]
    assert model_slot(other) == print_slot(other)
    assert prints == [pendulum_model(), other]


def test_another_printer_prints_anew(cache: Path, prints: list[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    for take in (model_slot, lambda model: shipped_slot.__wrapped__(model.name)):
        take(pendulum_model())
    assert len(prints) == 1
    sources = generate.printer_sources()
    monkeypatch.setattr(generate, "printer_sources", lambda: (*sources[:-1], sources[-1] + "# another\n"))
    shipped_slot.__wrapped__("pendulum")
    assert len(prints) == 2


def test_a_changed_source_of_the_shipped_models_is_noticed(
    cache: Path, tmp_path: Path, prints: list[Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setattr(generate, "_ROOT", tmp_path)
    for text in ("x = 1", "x = 2"):
        (models / "pendulum.py").write_text(text)
        assert not is_shipped_slot("pendulum", print_slot(pendulum_model()))
        shipped_slot.__wrapped__("pendulum")
        assert is_shipped_slot("pendulum", print_slot(pendulum_model()))
    assert len(prints) == 1  # the equations were the same


def test_two_who_print_at_once_do_not_disturb_each_other(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=60.0)

    def print_together(model: Model) -> str:
        both.wait()  # neither has found a kept one
        slot = print_slot(model)
        both.wait()
        return slot

    monkeypatch.setattr(generate, "print_slot", print_together)
    with ThreadPoolExecutor(2) as pool:
        slots = list(pool.map(model_slot, [pendulum_model()] * 2))
    (kept,) = cache.iterdir()
    assert slots == [kept.read_text()] * 2 == [print_slot(pendulum_model())] * 2


def test_an_engine_prints_nothing_that_is_kept(prints: list[Model]) -> None:
    slot = model_slot(pendulum_model())
    prints.clear()
    assert generate.load_kernels.__wrapped__(pendulum_model()) is load_printed("pendulum", slot)
    assert prints == []


def test_kernels_of_a_shipped_model_load_without_sympy() -> None:
    shipped_slot("pendulum")
    code = (
        "import sys; from deq_mpc_core.solver.generate import load_shipped_kernels;"
        "load_shipped_kernels('pendulum').rk4.rk4; sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# A cache that is of no use --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_cache_that_cannot_be_is_said_in_a_line(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEQ_MPC_CACHE", str(tmp_path / place))
    for use in (lambda: model_slot(pendulum_model()), lambda: load_package("never", {"__init__.py": ""})):
        with pytest.raises(UserError, match="DEQ_MPC_CACHE name a folder that can be written"):
            use()


def test_a_package_that_a_power_cut_left_empty_is_whole_again(cache: Path) -> None:
    sources = {"__init__.py": "", "part.py": "NUMBER = 7\n"}
    name = load_package("test_restore", sources).__name__
    (part,) = cache.glob("*/part.py")
    for damage in (lambda: part.write_text(""), lambda: part.unlink()):
        damage()
        del sys.modules[name]
        load_package("test_restore", sources)
        assert part.read_text() == sources["part.py"]
    del sys.modules[name]
