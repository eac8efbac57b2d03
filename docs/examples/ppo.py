"""Proximal policy optimization on a native vector environment, in one file, read from top to bottom.

    python docs/examples/ppo.py --total-steps 20000

It needs nothing of this project but the environment id: the same loop runs on any Gymnasium vector environment with
a flat Box of observations and of actions.
"""

from __future__ import annotations

import argparse

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.distributions import Normal


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="kml_envs:kml/LfsTune-v0")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-steps", type=int, default=20_000)
    parser.add_argument("--num-envs", type=int, default=32)
    parser.add_argument("--rollout", type=int, default=20, help="steps of each environment between two updates")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--minibatches", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--gamma", type=float, default=0.85)
    parser.add_argument("--gae-lambda", type=float, default=0.95)
    parser.add_argument("--clip", type=float, default=0.2)
    parser.add_argument("--value-weight", type=float, default=0.5)
    parser.add_argument("--max-gradient-norm", type=float, default=0.5)
    return parser.parse_args()


class Agent(nn.Module):
    """A Gaussian policy and a value function, 64 x 64 each; the mean starts at the zero action."""

    def __init__(self, features: int, numbers: int) -> None:
        """Build both networks."""
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.head = nn.Linear(64, numbers)
        self.value = nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        self.log_deviation = nn.Parameter(torch.full((numbers,), -1.0))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def policy(self, observation: torch.Tensor) -> Normal:
        """The distribution of actions."""
        return Normal(self.head(self.mean(observation)), self.log_deviation.exp())


def main() -> list[float]:
    """Train, and return the mean reward of each iteration."""
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    envs = gymnasium.make_vec(arguments.env, num_envs=arguments.num_envs, vectorization_mode="vector_entry_point")
    low, high = envs.single_action_space.low, envs.single_action_space.high
    agent = Agent(envs.single_observation_space.shape[0], envs.single_action_space.shape[0])
    optimizer = torch.optim.Adam(agent.parameters(), lr=arguments.learning_rate, eps=1e-5)
    steps, count = arguments.rollout, arguments.num_envs

    observations = torch.zeros(steps, count, envs.single_observation_space.shape[0])
    actions = torch.zeros(steps, count, envs.single_action_space.shape[0])
    log_probabilities, rewards, ends, values = (torch.zeros(steps, count) for _ in range(4))
    seen = torch.as_tensor(envs.reset(seed=arguments.seed)[0])
    curve: list[float] = []

    for iteration in range(arguments.total_steps // (steps * count)):
        for step in range(steps):
            with torch.no_grad():
                distribution = agent.policy(seen)
                action = distribution.sample()
                values[step] = agent.value(seen)[:, 0]
            observations[step], actions[step] = seen, action
            log_probabilities[step] = distribution.log_prob(action).sum(1)
            following, reward, _, truncated, infos = envs.step(np.clip(action.numpy(), low, high))
            rewards[step] = torch.as_tensor(reward) / 100.0
            ends[step] = torch.as_tensor(truncated)
            if truncated.any():
                # A truncated episode goes on without us: what it would still have been worth is added.
                last = torch.as_tensor(np.stack([infos["final_obs"][row] for row in np.flatnonzero(truncated)]))
                with torch.no_grad():
                    rewards[step, truncated] += arguments.gamma * agent.value(last)[:, 0]
            seen = torch.as_tensor(following)

        advantages = torch.zeros(steps, count)
        with torch.no_grad():
            after, running = agent.value(seen)[:, 0], torch.zeros(count)
        for step in reversed(range(steps)):
            going_on = 1.0 - ends[step]
            error = rewards[step] + arguments.gamma * going_on * after - values[step]
            running = error + arguments.gamma * arguments.gae_lambda * going_on * running
            advantages[step], after = running, values[step]
        targets = (advantages + values).flatten()
        flat = observations.flatten(0, 1), actions.flatten(0, 1), log_probabilities.flatten(), advantages.flatten()

        for _ in range(arguments.epochs):
            for batch in torch.randperm(steps * count).chunk(arguments.minibatches):
                distribution = agent.policy(flat[0][batch])
                ratio = (distribution.log_prob(flat[1][batch]).sum(1) - flat[2][batch]).exp()
                advantage = flat[3][batch]
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                clipped = ratio.clamp(1 - arguments.clip, 1 + arguments.clip)
                policy_loss = -torch.min(advantage * ratio, advantage * clipped).mean()
                value_loss = (agent.value(flat[0][batch])[:, 0] - targets[batch]).pow(2).mean()
                optimizer.zero_grad()
                (policy_loss + arguments.value_weight * value_loss).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), arguments.max_gradient_norm)
                optimizer.step()

        curve.append(rewards.mean().item())
        print(f"iteration {iteration:4}  steps {(iteration + 1) * steps * count:7}  mean reward {curve[-1]:+.4f}")
    envs.close()
    return curve


if __name__ == "__main__":
    main()
