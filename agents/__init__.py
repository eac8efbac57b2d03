"""Agents for the environments of `kml_envs`: policies, training, evaluation, built-in and oracle baselines."""
