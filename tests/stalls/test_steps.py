"""Steps of an event loop are counted in looks at its thread."""

from __future__ import annotations

from types import CodeType

from aqltelemetry.stalls.steps import Frame, StepCounter


def _code(name: str) -> CodeType:
    return compile("", name, "exec").replace(co_qualname=name)


_BASE: list[Frame] = [(_code("Handle._run"), 1, 1), (_code("run_forever"), 1, 2)]
_FIRST, _SECOND = _code("first"), _code("second")


def test_a_step_that_goes_on_is_one() -> None:
    steps = StepCounter(2)
    assert steps.count([(_FIRST, 1, 9), *_BASE], 0, 5) == (1, "first")
    inner = (_SECOND, 1, 10)
    assert steps.count([inner, (_FIRST, 2, 9), *_BASE], 0, 5) == (1, "first")


def test_a_step_is_another_one_if_its_code_its_frame_or_its_task_is() -> None:
    steps = StepCounter(2)
    looks: list[tuple[CodeType, int, int]] = [
        *((_FIRST, 9, 0), (_SECOND, 9, 0), (_SECOND, 8, 0), (_SECOND, 8, 1)),
    ]
    found = [steps.count([(code, 1, frame), *_BASE], task, 0)[0] for code, frame, task in looks]
    assert found == [1, 2, 3, 4]


def test_a_step_is_another_one_after_the_queue_has_advanced() -> None:
    steps = StepCounter(2)
    found = [steps.count([(_FIRST, 1, 9), *_BASE], 0, following)[0] for following in (0, 5, 6, 0)]
    assert found == [1, 1, 2, 3]


def test_a_loop_between_two_steps_ends_the_first() -> None:
    steps = StepCounter(2)
    assert steps.count([(_FIRST, 1, 9), *_BASE], 0, 0) == (1, "first")
    assert steps.count(_BASE, 0, 0) == (0, "")
    assert steps.count([(_FIRST, 1, 9), *_BASE], 0, 0) == (2, "first")


def test_without_the_depth_of_the_loop_no_step_is_counted() -> None:
    assert StepCounter(0).count([(_FIRST, 1, 9), *_BASE], 0, 0) == (0, "")
