from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from aqltelemetry.samplers.garbage import GarbageSampler

Seen = list[tuple[str, float]]


@pytest.fixture
def sampler() -> Iterator[GarbageSampler]:
    sampler = GarbageSampler()
    yield sampler
    sampler.detach()


async def test_totals_are_summed_over_the_generations(sampler: GarbageSampler) -> None:
    gc.disable()
    try:
        before = {each.label: each.value for each in await sampler.sample()}
        ring: list[object] = []
        ring.append(ring)
        del ring
        gc.collect()
        after = {each.label: each.value for each in await sampler.sample()}
    finally:
        gc.enable()
    assert after["gc collections"] == before["gc collections"] + 1
    assert after["gc collected"] > before["gc collected"]
    assert after["gc uncollectable"] == before["gc uncollectable"]


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_each_collection_is_one_pause_in_total_and_by_generation(
    sampler: GarbageSampler, generation: int
) -> None:
    seen: Seen = []
    gc.disable()
    try:
        sampler.attach(lambda label, value: seen.append((label, value)))
        gc.collect(generation)
        sampler.detach()
    finally:
        gc.enable()
    assert [label for label, _ in seen] == ["gc pause", f"gc pause gen{generation}"]
    assert seen[0][1] == seen[1][1] > 0


def test_a_pause_is_the_time_between_the_collectors_two_calls(
    sampler: GarbageSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((1_000, 2_001_000))
    monkeypatch.setattr("aqltelemetry.samplers.garbage.monotonic_ns", lambda: next(times))
    seen: Seen = []
    gc.disable()
    try:
        sampler.attach(lambda label, value: seen.append((label, value)))
        gc.collect()
        sampler.detach()
    finally:
        gc.enable()
    assert seen[0] == ("gc pause", 0.002)


def test_the_end_of_a_collection_without_its_start_is_ignored(sampler: GarbageSampler) -> None:
    seen: Seen = []
    sampler.attach(lambda label, value: seen.append((label, value)))
    for callback in gc.callbacks:
        callback("stop", {"generation": 2})
    sampler.detach()
    assert seen == []


def test_attaching_twice_calls_once_and_detaching_leaves_nothing(sampler: GarbageSampler) -> None:
    before = list(gc.callbacks)
    sampler.attach(lambda label, value: None)
    sampler.attach(lambda label, value: None)
    assert len(gc.callbacks) == len(before) + 1
    sampler.detach()
    sampler.detach()
    assert gc.callbacks == before
