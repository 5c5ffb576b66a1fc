"""Publishes the autopsy of a dead writer, once its observations are published."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aqltelemetry.autopsy.cause import Machine
from aqltelemetry.autopsy.examination import examine
from aqltelemetry.autopsy.published import read_published, recorded_labels
from aqltelemetry.autopsy.text import headline, text
from aqltelemetry.journal.dead_writers import DeadWriter
from aqltelemetry.journal.evidence import Evidence, read_evidence
from aqltelemetry.sinks import autopsies
from aqltelemetry.system.clock import epoch_ns
from aqltelemetry.system.kernel import boot_id, read_oom_kills
from aqltelemetry.system.logs import log


def publish_autopsy(directory: str, dead: DeadWriter) -> bool:
    """Publish the autopsy of a writer whose lock is held, and release it; say whether it is new.

    Failures are logged, not raised. What was left is kept for a later try only if there is no
    room to write.
    """
    is_done = True
    try:
        path = _publish(directory, dead.path)
    except OSError as exc:
        is_done = False
        log.warning("no autopsy of the recording %s: %s", dead.path.name, exc)
        return False
    except Exception as exc:  # noqa: BLE001 - what it can't read now, it can't read later
        log.error("no autopsy of the recording %s: %r", dead.path.name, exc)
        return False
    else:
        return bool(path)
    finally:
        if is_done:
            dead.finish()
        else:
            dead.close()


def autopsy_of(directory: str, path: Path) -> dict[str, Any]:
    """Return the autopsy of the writer in a directory of the journal; change nothing."""
    evidence = read_evidence(path)
    labels = partial(recorded_labels, directory)
    return examine(evidence, read_published(directory, path.name), labels, _machine(evidence))


def is_notable(found: Mapping[str, Any]) -> bool:
    """Return whether a process ended in an unusual way, as far as is known.

    One that ends by `os._exit` with nothing in flight, as forked children do, has not.
    """
    cause = found["cause"]
    requests = len(found["in_flight"]) + found["in_flight_without_slot"]
    return bool(requests or cause["oom_kills"] or cause["said"] or cause["witness"])


def _publish(directory: str, path: Path) -> str:
    if path.name in autopsies.writers(directory):
        return ""
    found = autopsy_of(directory, path)
    if not is_notable(found):
        return ""
    written = autopsies.publish(directory, found, text(found))
    log.warning("process %d ended: %s; see %s", found["pid"], headline(found), written)
    return written


def _machine(evidence: Evidence) -> Machine:
    source = "" if evidence.in_flight is None else evidence.in_flight.oom_source
    return Machine(epoch_ns(), boot_id(), read_oom_kills(source))
