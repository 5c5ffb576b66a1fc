from __future__ import annotations

from aqltelemetry.recording.stats import Stats
from aqltelemetry.samplers.health import HealthSampler


async def _sample(stats: Stats) -> dict[str, float]:
    return {each.label: each.value for each in await HealthSampler(lambda: stats).sample()}


async def test_totals_of_recording_and_cost_are_always_sampled() -> None:
    stats = Stats(recorded=7, write_s=0.25, journal_bytes=3 << 20)
    assert await _sample(stats) == {
        "telemetry recorded": 7,
        "telemetry write seconds": 0.25,
        "telemetry journal bytes": 3 << 20,
        "telemetry crash proof": True,
    }


async def test_each_loss_and_error_is_sampled_from_the_first_one() -> None:
    stats = Stats(
        dropped={"no segment": 3, "invalid": 1},
        recovered=5,
        sampler_errors=1,
        sink_errors=2,
        missed_ticks=4,
        is_crash_proof=False,
    )
    sample = await _sample(stats)
    assert sample["telemetry dropped no segment"] == 3
    assert sample["telemetry dropped invalid"] == 1
    assert sample["telemetry recovered"] == 5
    assert sample["telemetry sampler errors"] == 1
    assert sample["telemetry sink errors"] == 2
    assert sample["telemetry missed ticks"] == 4
    assert sample["telemetry crash proof"] == 0
