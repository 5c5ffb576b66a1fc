from __future__ import annotations

import asyncio

import pytest

from aqltelemetry.views.serve.events import HEARTBEAT, Subscribers, TooManyClientsError, event


def test_an_event_is_framed_as_the_specification_says() -> None:
    framed = event("changed", 7, {"text": "a\nb\r\n\n"})
    assert framed == b'event: changed\nid: 7\ndata: {"text": "a\\nb\\r\\n\\n"}\n\n'
    assert framed.count(b"\n\n") == 1


async def test_a_subscriber_gets_the_newest_state_and_then_each_newer_one() -> None:
    subscribers = Subscribers()
    subscribers.publish(1, {})
    subscribers.publish(2, {})
    messages = subscribers.messages()
    assert await anext(messages) == event("changed", 2, {})
    waiting = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(0)
    assert not waiting.done()
    subscribers.publish(3, {})
    assert await waiting == event("changed", 3, {})
    await messages.aclose()


async def test_a_slow_subscriber_misses_states_instead_of_queueing_them() -> None:
    subscribers = Subscribers()
    messages = subscribers.messages()
    subscribers.publish(1, {})
    assert await anext(messages) == event("changed", 1, {})
    for number in range(2, 10_000):
        subscribers.publish(number, {})
    assert await anext(messages) == event("changed", 9_999, {})
    await messages.aclose()


async def test_a_state_that_was_sent_is_not_sent_again() -> None:
    subscribers = Subscribers(heartbeat_s=0)
    subscribers.publish(1, {})
    messages = subscribers.messages()
    assert await anext(messages) == event("changed", 1, {})
    subscribers.publish(1, {})
    assert await anext(messages) == HEARTBEAT
    await messages.aclose()


async def test_more_subscribers_than_the_limit_are_refused() -> None:
    subscribers = Subscribers(max_clients=2)
    refused = pytest.raises(TooManyClientsError, match="2 browsers")
    with subscribers.subscribed(), subscribers.subscribed(), refused, subscribers.subscribed():
        pass
    with subscribers.subscribed():
        assert subscribers.somebody_looks.is_set()
    assert not subscribers.somebody_looks.is_set()


async def test_closing_ends_all_messages() -> None:
    subscribers = Subscribers()

    async def count() -> int:
        return len([message async for message in subscribers.messages()])

    async with asyncio.TaskGroup() as group:
        counted = [group.create_task(count()) for _ in range(3)]
        await asyncio.sleep(0)
        subscribers.close()
    assert [task.result() for task in counted] == [0, 0, 0]
