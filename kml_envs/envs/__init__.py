"""Gymnasium environments: the agent's side of a proxy."""
