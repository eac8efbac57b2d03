"""Gymnasium environments in which agents learn operating-system decisions behind a safe machine-learning proxy."""

__version__ = "0.1.0"
