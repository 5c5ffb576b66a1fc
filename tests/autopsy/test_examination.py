from __future__ import annotations

import signal
from typing import Any

import pytest

from aqltelemetry.autopsy import cause as causes
from aqltelemetry.autopsy.cause import Machine
from aqltelemetry.autopsy.examination import examine
from aqltelemetry.autopsy.published import Published, Row
from aqltelemetry.autopsy.text import headline, summary, text
from aqltelemetry.journal.evidence import Evidence
from aqltelemetry.journal.in_flight import InFlight, InFlightHeader, Request
from fakes import EPOCH_NS

_S = 1_000_000_000
_WRITER = "0123456789abcdef"
_NOTHING = Published(0, 0, 0, [], [], None, [], [])


def _in_flight(*requests: Request, oom_kills: int = 3, **changes: Any) -> InFlight:
    header = InFlightHeader(_WRITER, 4711, 10 * _S, EPOCH_NS, "boot-1")
    content = InFlight(header, requests, 0, 0, 70 * _S, EPOCH_NS, oom_kills, "/counter")
    return content._replace(**changes)


def _evidence(in_flight: InFlight | None = None, **changes: Any) -> Evidence:
    given = in_flight or _in_flight()
    return Evidence(_WRITER, given, ["/users/{id}"], {}, {})._replace(**changes)


def _exit(code: int | None = None, number: int | None = None, **others: Any) -> dict[str, Any]:
    end = {"at_ns": EPOCH_NS + 75 * _S, "code": code, "signal": number, "witness": "Gunicorn"}
    return {**end, "timeout_s": None, **others}


def _examined(
    evidence: Evidence, published: Published = _NOTHING, oom_kills: int = 3, boot: str = "boot-1"
) -> dict[str, Any]:
    machine = Machine(EPOCH_NS + 80 * _S, boot, oom_kills)
    return examine(evidence, published, set, machine)


@pytest.mark.parametrize(
    ("evidence", "oom_kills", "boot", "kind", "words"),
    [
        (_evidence(), 3, "boot-1", causes.UNKNOWN, "killed or crashed"),
        (_evidence(), 4, "boot-1", causes.UNKNOWN, "killed or crashed"),
        (_evidence(), 3, "boot-2", causes.RESTART, "the machine was restarted"),
        (_evidence(exit=_exit(number=signal.SIGKILL)), 3, "", causes.KILLED, "killed (SIGKILL)"),
        (
            _evidence(exit=_exit(number=signal.SIGKILL)),
            4,
            "boot-1",
            causes.OUT_OF_MEMORY,
            "for lack of memory, most likely (SIGKILL), as Gunicorn saw",
        ),
        (
            _evidence(exit=_exit(number=signal.SIGSEGV)),
            3,
            "boot-1",
            causes.CRASHED,
            "crashed in native code (SIGSEGV)",
        ),
        (_evidence(exit=_exit(number=77)), 3, "", causes.KILLED, "(signal 77)"),
        (_evidence(exit=_exit(code=3)), 3, "", causes.EXITED, "by itself (exit status 3)"),
        (
            _evidence(exit=_exit(number=signal.SIGKILL, timeout_s=30.0)),
            4,
            "",
            causes.TIMEOUT,
            "within the timeout of 30 s (SIGKILL)",
        ),
        (
            _evidence(last_words={"at_ns": EPOCH_NS + 71 * _S, "reason": "aborted"}),
            3,
            "",
            causes.TIMEOUT,
            "did not answer within the timeout",
        ),
        (
            _evidence(last_words={"at_ns": EPOCH_NS + 71 * _S, "reason": "SystemExit"}),
            3,
            "",
            causes.EXITED,
            "exited by itself",
        ),
    ],
)
def test_the_cause_is_what_the_evidence_shows(
    evidence: Evidence, oom_kills: int, boot: str, kind: str, words: str
) -> None:
    found = _examined(evidence, oom_kills=oom_kills, boot=boot)
    assert found["cause"]["kind"] == kind
    assert words in headline(found)


def test_kills_are_not_compared_if_the_counter_began_again_or_is_unknown() -> None:
    for before, after in ((5, 3), (-1, 4), (4, -1)):
        evidence = _evidence(_in_flight(oom_kills=before), exit=_exit(number=signal.SIGKILL))
        assert _examined(evidence, oom_kills=after)["cause"]["kind"] == causes.KILLED


def test_without_a_witness_the_end_is_between_the_last_sign_of_life_and_the_finding() -> None:
    found = _examined(_evidence(_in_flight(Request(40 * _S, 7, "GET /users/1", 0))))
    assert (found["end_ns"], found["is_end_exact"]) == (EPOCH_NS + 70 * _S, False)
    assert found["in_flight"] == [
        {
            "route": "/users/{id} [GET]",
            "age_s": 30.0,
            "begin_ns": EPOCH_NS + 40 * _S,
            "thread": 7,
        }
    ]
    assert "/users/{id} [GET]  for at least 30.0 s, thread 7" in text(found)
    assert "its last sign of life" in text(found)


def test_a_witness_says_when_it_ended() -> None:
    in_flight = _in_flight(Request(40 * _S, 7, "GET /users/1", 0))
    found = _examined(_evidence(in_flight, exit=_exit(number=signal.SIGKILL)))
    assert (found["end_ns"], found["is_end_exact"]) == (EPOCH_NS + 75 * _S, True)
    assert (found["in_flight"][0]["age_s"], found["uptime_s"]) == (35.0, 65.0)


def test_a_later_observation_or_request_is_a_sign_of_life_too() -> None:
    published = _NOTHING._replace(last_ns=EPOCH_NS + 78 * _S)
    assert _examined(_evidence(), published)["end_ns"] == EPOCH_NS + 78 * _S
    in_flight = _in_flight(Request(79 * _S, 7, "GET /users/1", 0))
    assert _examined(_evidence(in_flight), published)["end_ns"] == EPOCH_NS + 79 * _S


def test_last_words_that_the_process_outlived_are_left_out() -> None:
    words = {"at_ns": EPOCH_NS + 60 * _S, "reason": "SystemExit", "detail": "3"}
    found = _examined(_evidence(last_words=words))
    assert (found["cause"]["kind"], found["cause"]["said"]) == (causes.UNKNOWN, "")


def test_last_words_say_what_was_in_flight() -> None:
    said = [{"text": "GET /users/1", "age_ns": 2 * _S, "thread": 7}]
    stack = {"thread": 7, "name": "MainThread", "frames": ["/x/site-packages/a.py:1 f"]}
    words = {
        "at_ns": EPOCH_NS + 71 * _S,
        "reason": "SystemExit",
        "detail": "3",
        "in_flight": said,
        "stacks": [stack],
    }
    found = _examined(_evidence(last_words=words, exit=_exit(code=3)))
    assert found["in_flight"][0]["age_s"] == 6.0  # it ended 4 s after these words
    assert "a request raised SystemExit(3)" in text(found)
    assert "  a.py:1 f" in text(found)


def test_the_growth_of_memory_is_the_slope_of_its_samples() -> None:
    memory = [
        Row(EPOCH_NS + n * 30 * _S, (100 + 5 * n) * 2**20, "rss", "runtime") for n in range(9)
    ]
    found = _examined(_evidence(), _NOTHING._replace(memory=memory))
    assert found["memory"]["bytes_per_minute"] == pytest.approx(10 * 2**20)
    assert "140 MiB resident at its last sample, +10.0 MiB a minute over its last 4 min" in text(
        found
    )
    few = _examined(_evidence(), _NOTHING._replace(memory=memory[:2]))
    assert few["memory"]["bytes_per_minute"] is None


def test_the_text_is_aligned_and_complete() -> None:
    in_flight = _in_flight(
        *(Request(n * _S, n, f"GET /users/{n}", n) for n in range(25)), without_slot=2, damaged=1
    )
    published = Published(
        4711,
        EPOCH_NS,
        EPOCH_NS + 70 * _S,
        [Row(EPOCH_NS + 69 * _S, 0.0015, "/users/{id} [GET]", "duration")],
        [],
        Row(EPOCH_NS + 60 * _S, 0.012, "gc pause gen2", "runtime"),
        [
            {
                "begin_ns": EPOCH_NS + 50 * _S,
                "end_ns": EPOCH_NS + 52 * _S,
                "length_s": 2.0,
                "cause": "Python code",
                "user": {"file": "app.py", "line": 3, "function": "f"},
            }
        ],
        [],
    )
    found = _examined(_evidence(in_flight), published)
    lines = text(found).splitlines()
    assert lines[0] == f"Autopsy of process 4711, recording {_WRITER}"
    assert all(line == "" or line[17] != " " or line[:17] == 17 * " " for line in lines[2:])
    assert "and 7 more requests" in text(found)
    assert "1 request can't be read" in text(found)
    assert "2.0 s, Python code at app.py:3, 18.0 s before the end" in text(found)
    assert "generation 2, 12 ms, 10.0 s before the end" in text(found)
    assert "1.5 ms  /users/{id} [GET]" in text(found)
    assert summary(found).endswith("in flight: /users/{id} [GET] and 24 more")


def test_a_process_of_which_nothing_is_known_has_an_autopsy_too() -> None:
    found = _examined(Evidence(_WRITER, None, [], {}, {}))
    assert (found["pid"], found["in_flight"]) == (0, [])
    assert "no request" in text(found)
