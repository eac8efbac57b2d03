"""The texts that pass between kernel and agent: recommendations one way, feedback the other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kml_envs.proxy import Feedback, Mode, Verdict


def parse_recommendation(text: bytes, choice: bool) -> tuple[int | None, list[object] | npt.NDArray[np.generic]]:
    """Read a recommendation; what cannot be read is left for the proxy to reject.

    Args:
        text: `GENERATION CANDIDATE` or `GENERATION NUMBER NUMBER …`.
        choice: Whether a candidate is asked for.

    Returns:
        The generation, None where it cannot be read, and the recommendation as a batch of one.
    """
    words = text.split()
    if not words or not words[0].isdigit() or len(words[0]) > 18:
        return None, ["unreadable"]
    generation = int(words[0])
    try:
        if choice and len(words) == 2:
            return generation, np.array([int(words[1])])
        if choice:
            return generation, [[float(word) for word in words[1:]]]
        return generation, np.array([[float(word) for word in words[1:]]])
    except (ValueError, OverflowError):
        return generation, ["unreadable"]


def describe_feedback(generation: int, feedback: Feedback) -> str:
    """The text of `feedback`: what came of the decision for that data set."""
    acted = "agent" if feedback.acted_by_agent[0] else "builtin"
    return (
        f"generation={generation} reward={feedback.reward[0]:.9g} verdict={Verdict(feedback.verdict[0]).name.lower()} "
        f"acted={acted} mode={Mode(feedback.mode[0]).name.lower()} finished={int(feedback.finished[0])}\n"
    )
