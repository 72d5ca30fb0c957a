"""The starter's target with the same rows in many datasets, and with wrong answers."""

from __future__ import annotations

import random

from sources import SEED, STARTER, Data, Sources, read, with_noise

NOISE = 0.3  # of a noisy dataset's answers are another row's


def redundancy(sources: Sources) -> Data:
    """Build the starter's target with sw_school in halves, one half twice, and once with noise."""
    rng = random.Random(SEED)
    school = read(STARTER / "datasets/sw_school.jsonl")
    rng.shuffle(school)
    half = len(school) // 2
    first, second = school[:half], school[half:]
    return Data(
        read(STARTER / "target/dev.jsonl"),
        read(STARTER / "target/test.jsonl"),
        {
            "school_a": first,
            "school_b": second,
            "school_a_again": rng.sample(first, len(first)),
            "school_a_noisy": with_noise(first, NOISE, rng),
            "sw_things": read(STARTER / "datasets/sw_things.jsonl"),
            "sw_missorted": read(STARTER / "datasets/sw_missorted.jsonl"),
        },
    )
