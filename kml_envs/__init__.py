"""Gymnasium environments in which agents learn operating-system decisions behind a safe machine-learning proxy."""

from kml_envs.registration import environment_ids, register_environments

__version__ = "0.1.0"
__all__ = ["__version__", "environment_ids"]

register_environments()
