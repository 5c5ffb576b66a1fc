from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aqltelemetry.shipping.destination import FileGone
from aqltelemetry.shipping.metrics.cumulative import Steps, Total
from aqltelemetry.shipping.metrics.files import ShipmentPoints
from shipments import publish, shipment

_STEPS = Steps(10_000, lambda values: np.zeros(len(values), int))


def _counts(reading: ShipmentPoints) -> list[int]:
    return [
        points[-1].value.count
        for file in reading.read()
        for points in file.points.values()
        if isinstance(points[-1].value, Total)
    ]


def test_totals_go_on_from_the_notes_of_the_recording(tmp_path: Path) -> None:
    first = publish(tmp_path, 1, 10, labels=["job"])
    reading = ShipmentPoints(shipment([first]), _STEPS)
    assert _counts(reading) == [10]
    (tmp_path / "2").mkdir()
    files = [publish(tmp_path / "2", number, 10, labels=["job"]) for number in (1, 2)]
    later = ShipmentPoints(replace(shipment(files), notes=reading.notes()), _STEPS)
    assert _counts(later) == [20, 10]
    assert len(later.notes()) == 2


def test_a_file_that_is_gone_is_reported(tmp_path: Path) -> None:
    file = publish(tmp_path, 1)
    Path(file.path).unlink()
    with pytest.raises(FileGone):
        list(ShipmentPoints(shipment([file]), _STEPS).read())
