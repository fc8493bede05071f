"""Whatever happens, by whatever seed: the promise holds once the world is at rest."""

from __future__ import annotations

import logging
import os

import pytest

from tests.simulation.checks import check
from tests.simulation.scheduler import run_seeded
from tests.simulation.world import Surprises, World

AT_ONCE = 25
"""How many seeds one test of the short version tries."""

FOUND_BUGS: tuple[int, ...] = (22, 3034, 5191)
"""Seeds that once showed a bug."""


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of simulated failures are not worth keeping the logs of."""
    caplog.set_level(logging.ERROR, logger="sagaflow")


def simulate(seed: int) -> World:
    """Run the world of *seed* and check it.

    ``SAGAFLOW_SIMULATION_SEED=<seed> pytest tests/simulation -k given`` runs it alone.
    """
    world = World(seed)
    logger, surprises = logging.getLogger("sagaflow"), Surprises(world)
    logger.addHandler(surprises)
    try:
        run_seeded(world.run, seed)
    except BaseException as exc:
        exc.add_note(f"seed {seed}")
        raise
    finally:
        logger.removeHandler(surprises)
    broken = check(world)
    assert not broken, "\n".join([f"seed {seed}:", *broken, *world.trace])
    return world


@pytest.mark.parametrize("first", range(0, 100, AT_ONCE))
def test_a_hundred_seeds(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        simulate(seed)


@pytest.mark.parametrize("seed", FOUND_BUGS)
def test_seed_that_once_showed_a_bug(seed: int) -> None:
    simulate(seed)


@pytest.mark.skipif("SAGAFLOW_SIMULATION_SEED" not in os.environ, reason="no seed is given")
def test_given_seed() -> None:
    simulate(int(os.environ["SAGAFLOW_SIMULATION_SEED"]))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("thousand", range(5))
def test_thousands_of_seeds(thousand: int) -> None:
    for seed in range(1000 * (thousand + 1), 1000 * (thousand + 2)):
        simulate(seed)


def test_same_seed_is_the_same_run() -> None:
    for seed in (1, 2, 3):
        first, second = simulate(seed), simulate(seed)
        assert first.trace == second.trace
        assert first.fingerprint() == second.fingerprint()
        assert first.trace != simulate(seed + 100).trace
