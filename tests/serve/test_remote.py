"""A served model as an environment: no question that it has been asked is lost."""

import gymnasium
import numpy as np
import pytest

from kml_envs.serve.dataset import DataSet, pack
from kml_envs.serve.remote import ServedEnv

EPISODE = 3  # decisions


class Files:
    """A model's files that publish the next data set as soon as the last one is answered, and note what is answered."""

    def __init__(self):
        self.generation, self.read_last, self.answered = 1, 0, []
        self.gone = False

    def read(self, name):
        if self.gone:
            raise ConnectionResetError
        if name == "feedback":
            done = self.answered[-1]
            return b"generation=%d reward=1 verdict=accepted acted=agent finished=%d\n" % (done, done % EPISODE == 0)
        if self.generation == self.read_last:
            raise BlockingIOError
        self.read_last = self.generation
        return pack(DataSet(self.generation, 0, np.full(2, self.generation, np.float32), None, 1000, False))

    def write(self, name, text):
        self.answered.append(int(text.split()[0]))
        self.generation += 1

    def wait(self, name, timeout_s):
        return False

    def close(self):
        pass


@pytest.fixture
def served():
    """The environment, and the connections that it has made."""
    connections = []

    def connect():
        connections.append(Files())
        return connections[-1]

    box = gymnasium.spaces.Box(0.0, np.inf, (2,), np.float32)
    return ServedEnv(connect, box, gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)), connections


def test_the_first_question_of_an_episode_is_the_one_that_ended_the_last(served):
    env, connections = served
    observation, _ = env.reset()
    seen = [observation[0]]
    for _ in range(3 * EPISODE):
        observation, reward, _, finished, _ = env.step(np.zeros(1, np.float32))
        assert reward == 1.0
        if finished:
            again, _ = env.reset()
            assert again.tolist() == observation.tolist()
        seen.append(observation[0])
    assert seen == list(range(1, 3 * EPISODE + 2))
    assert connections[0].answered == list(range(1, 3 * EPISODE + 1))


def test_questions_of_a_server_that_is_gone_are_forgotten(served):
    env, connections = served
    env.reset()
    env.step(np.zeros(1, np.float32))
    connections[0].gone = True
    *_, finished, _ = env.step(np.zeros(1, np.float32))
    assert finished
    observation, _ = env.reset()
    assert len(connections) == 2 and observation[0] == 1
