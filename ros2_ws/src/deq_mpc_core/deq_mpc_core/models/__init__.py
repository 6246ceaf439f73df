"""Dynamics models: written once symbolically, printed for the engines that run them."""

from deq_mpc_core.models.model import Model

__all__ = ["Model"]
