"""What a scenario is: a function of the pair, with a name, a time limit and a verdict."""

import os
import random

ALL = {}


class Scenario:
    def __init__(self, name, limit_s, function):
        self.name, self.limit_s, self.function = name, limit_s, function
        self.summary = (function.__doc__ or "").strip().splitlines()[0]


def scenario(name, limit_s):
    """Registers a scenario; they run in the order of registration."""
    def register(function):
        assert name not in ALL, name
        ALL[name] = Scenario(name, limit_s, function)
        return function
    return register


def parameter(name, default):
    """A number from the environment, so that CI can shorten what is long."""
    return int(os.environ.get(name, default))


def chance(pair, what):
    """Random numbers whose seed is printed and can be given: UNDERSTUDY_SEED=N."""
    seed = parameter("UNDERSTUDY_SEED", random.SystemRandom().randrange(1, 1 << 31))
    pair.say(f"{what}: UNDERSTUDY_SEED={seed}")
    return random.Random(seed)
