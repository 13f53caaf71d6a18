from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Barrier, Event, Lock
from time import sleep, time
from typing import Any

import pytest
from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from darkroom.batch import Attempt, MessageHandler, ReceivedMessage
from darkroom.deadline import Deadline
from darkroom.errors import (
    InProgressElsewhere,
    NotAnImage,
    NotBegun,
    OutOfTime,
    ServiceUnavailable,
    TransientFault,
    UnexpectedError,
)
from darkroom.image_messages import ImageTask, read_body
from darkroom.messages import Unreadable
from hypothesis import given
from hypothesis import strategies as st

from functions.process_image import app
from functions.process_image.memory_budget import MemoryBudget
from functions.process_image.photo import Photo, Rendered
from functions.process_image.ports import Result
from functions.process_image.process import Dependencies, Outcome, process
from tests.unit.events import load_event, sqs_record
from tests.unit.fakes import Calls, Trouble, World, photo, plain_task, upload_event

ImageAttempt = Attempt[ImageTask | Unreadable, Outcome]
ImageHandler = MessageHandler[ImageTask | Unreadable, Outcome]

MAX_RECEIVES = 5


class NoTime:
    """A renderer whose vCPU is busy until the function's time is over."""

    def render(self, data: bytes, deadline: Deadline) -> tuple[Photo, Rendered]:
        raise NotBegun("5 s are left.")


SENT = 1_795_340_401.0


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(20) as pool:
        yield pool


@dataclass
class Told:
    """What a handler sent to SQS and the log."""

    shown_again: list[tuple[str, float]] = field(default_factory=list)
    reports: list[tuple[ImageAttempt, float, bool]] = field(default_factory=list)

    @property
    def outcomes(self) -> list[Result | type[TransientFault]]:
        outcomes = [attempt.outcome for attempt, _, _ in self.reports]
        return [outcome.result if isinstance(outcome, Outcome) else type(outcome) for outcome in outcomes]


@pytest.fixture
def told() -> Told:
    return Told()


def handler(dependencies: Dependencies, pool: Executor, told: Told) -> ImageHandler:
    return MessageHandler(
        read=read_body,
        process=partial(process, dependencies=dependencies),
        dead_letters=dependencies.dead_letters,
        workers=pool,
        answerers=pool,
        max_receives=MAX_RECEIVES,
        max_attempts=MAX_RECEIVES,
        set_visibility_timeout=lambda receipt, seconds: told.shown_again.append((receipt, seconds)),
        report=lambda attempt, sent, is_last: told.reports.append((attempt, sent, is_last)),
    )


def message_of(body: str, dependencies: Dependencies) -> ReceivedMessage[ImageTask | Unreadable, Outcome]:
    return ReceivedMessage(read_body(body), partial(process, dependencies=dependencies))


def take(messages: ImageHandler, *records: SQSRecord, seconds: float = 50) -> list[BaseException | None]:
    """Process the messages in parallel; returns for each what it raised."""
    deadline = Deadline(time() + seconds)

    async def take_all() -> list[BaseException | None]:
        return await asyncio.gather(*(messages.take(record, deadline) for record in records), return_exceptions=True)

    return asyncio.run(take_all())


def failing(*names: str, fault: Exception | None = None) -> Calls:
    """A worker whose calls of these names all fail."""

    def fail(name: str) -> None:
        if name in names:
            raise fault or ServiceUnavailable(f"{name}: refused")

    return Calls(before=fail)


def task_of(body: str) -> ImageTask:
    (task,) = read_body(body)
    assert isinstance(task, ImageTask)
    return task


def two_records(first: str, second: str) -> str:
    return json.dumps({"Records": [json.loads(first)["Records"][0], json.loads(second)["Records"][0]]})


class TestAMessageThatIsDone:
    def test_is_acknowledged_and_reported(self, world: World, pool: Executor, told: Told) -> None:
        world.upload()
        assert take(handler(world.dependencies(), pool, told), sqs_record(upload_event())) == [None]
        ((attempt, sent, is_last),) = told.reports
        assert told.outcomes == [Result.PROCESSED]
        assert (sent, is_last) == (SENT, False)
        assert attempt.started <= attempt.ended <= time()
        assert told.shown_again == []

    def test_a_test_event_is_acknowledged_without_a_report(self, world: World, pool: Executor, told: Told) -> None:
        record = SQSRecord(load_event("sqs_test_event")["Records"][0])
        assert take(handler(world.dependencies(), pool, told), record) == [None]
        assert (told.reports, world.tasks) == ([], {})

    @pytest.mark.parametrize("body", ["hello", plain_task("gone.jpg")])
    def test_an_impossible_task_is_acknowledged_and_reported(
        self, world: World, pool: Executor, told: Told, body: str
    ) -> None:
        assert take(handler(world.dependencies(), pool, told), sqs_record(body)) == [None]
        assert [letter.body for letter in world.dead_letters] == [body]
        assert told.outcomes == [Result.DEAD_LETTERED]

    @pytest.mark.parametrize(
        ("receives", "redriven", "is_first"), [(1, False, True), (2, False, False), (1, True, False)]
    )
    def test_only_a_first_attempt_is_reported_as_one(
        self, world: World, pool: Executor, told: Told, receives: int, redriven: bool, is_first: bool
    ) -> None:
        world.upload()
        record = sqs_record(upload_event(), receives=receives, redriven=redriven)
        take(handler(world.dependencies(), pool, told), record)
        ((attempt, _, _),) = told.reports
        assert attempt.is_first is is_first

    def test_one_that_is_redriven_is_done_again(self, world: World, pool: Executor, told: Told) -> None:
        messages, body = handler(world.dependencies(), pool, told), plain_task()
        take(messages, sqs_record(body))
        world.upload()
        take(messages, sqs_record(body))
        take(messages, sqs_record(body, redriven=True))
        assert told.outcomes == [Result.DEAD_LETTERED, Result.DUPLICATE, Result.PROCESSED]


class TestAMessageThatFails:
    def test_fails_and_is_visible_again_after_a_while(self, world: World, pool: Executor, told: Told) -> None:
        world.upload()
        messages = handler(world.dependencies(failing("publish")), pool, told)
        (fault,) = take(messages, sqs_record(upload_event(), message_id="m"))
        assert isinstance(fault, ServiceUnavailable)
        ((receipt, seconds),) = told.shown_again
        assert receipt == "receipt of m"
        assert 5 <= seconds <= 10
        assert told.outcomes == [ServiceUnavailable]

    @pytest.mark.parametrize(("receives", "longest"), [(1, 10), (2, 20), (3, 40), (4, 80)])
    def test_waits_longer_every_time(
        self, world: World, pool: Executor, told: Told, receives: int, longest: float
    ) -> None:
        messages = handler(world.dependencies(failing("open")), pool, told)
        for _ in range(30):
            take(messages, sqs_record(plain_task(), receives=receives))
        waits = [seconds for _, seconds in told.shown_again]
        assert 5 <= min(waits) <= max(waits) <= longest
        assert max(waits) > longest * 0.6

    def test_waits_until_another_delivery_is_finished_or_dead(self, world: World, pool: Executor, told: Told) -> None:
        world.upload()
        begun = time()
        world.dependencies().tasks.claim(task_of(upload_event()), until=begun + 30, again=False)
        (fault,) = take(handler(world.dependencies(), pool, told), sqs_record(upload_event()))
        assert isinstance(fault, InProgressElsewhere)
        ((_, seconds),) = told.shown_again
        assert begun + 30 - time() < seconds <= 31

    def test_fails_even_if_its_visibility_cannot_be_changed_and_the_log_says_so(
        self, world: World, pool: Executor, told: Told, log: Callable[[], dict[str, Any]]
    ) -> None:
        def refuse(receipt: str, seconds: float) -> None:
            raise ServiceUnavailable("SQS is away")

        messages = replace(handler(world.dependencies(failing("open")), pool, told), set_visibility_timeout=refuse)
        (fault,) = take(messages, sqs_record(plain_task()))
        assert isinstance(fault, ServiceUnavailable)
        assert told.outcomes == [ServiceUnavailable]
        assert (log()["level"], log()["message"]) == ("WARNING", "Not answered: SQS is away")

    def test_a_defect_keeps_its_traceback(self, world: World, pool: Executor, told: Told) -> None:
        defect = KeyError("colour")
        messages = handler(world.dependencies(failing("open", fault=defect)), pool, told)
        (fault,) = take(messages, sqs_record(plain_task()))
        assert isinstance(fault, UnexpectedError)
        assert str(fault) == "KeyError: 'colour'"
        assert fault.__cause__ is defect
        assert len(told.shown_again) == 1

    def test_is_not_a_first_attempt_even_if_it_never_started(self, world: World, pool: Executor, told: Told) -> None:
        take(handler(world.dependencies(), pool, told), sqs_record(plain_task(), receives=2), seconds=1)
        ((attempt, _, _),) = told.reports
        assert (type(attempt.outcome), attempt.is_first) == (OutOfTime, False)


class TestTheLastReceive:
    @pytest.mark.parametrize("receives", [MAX_RECEIVES, MAX_RECEIVES + 1])
    def test_moves_a_failed_task_to_the_dead_letter_queue_and_acknowledges(
        self, world: World, pool: Executor, told: Told, receives: int
    ) -> None:
        messages = handler(world.dependencies(failing("open")), pool, told)
        assert take(messages, sqs_record(plain_task(), receives=receives)) == [None]
        (letter,) = world.dead_letters
        assert (letter.body, letter.task_id) == (plain_task(), "task-1")
        assert (letter.error_code, letter.reason) == ("ServiceUnavailable", "open: refused")
        assert told.shown_again == []
        assert [is_last for _, _, is_last in told.reports] == [True]

    def test_leaves_the_message_in_its_queue_if_the_dead_letter_queue_refuses_it(
        self, world: World, pool: Executor, told: Told
    ) -> None:
        messages = handler(world.dependencies(failing("open", "dead letter")), pool, told)
        (fault,) = take(messages, sqs_record(plain_task(), receives=MAX_RECEIVES))
        assert isinstance(fault, ServiceUnavailable)

    def test_moves_nothing_to_the_dead_letter_queue_on_success(self, world: World, pool: Executor, told: Told) -> None:
        world.upload()
        assert take(handler(world.dependencies(), pool, told), sqs_record(upload_event(), receives=MAX_RECEIVES)) == [
            None
        ]
        assert world.dead_letters == []

    def test_a_dead_letter_of_a_transient_fault_is_done_when_redriven(
        self, world: World, pool: Executor, told: Told
    ) -> None:
        world.upload()
        take(
            handler(world.dependencies(failing("publish")), pool, told),
            sqs_record(upload_event(), receives=MAX_RECEIVES),
        )
        take(handler(world.dependencies(), pool, told), sqs_record(world.dead_letters[0].body, redriven=True))
        assert told.outcomes == [ServiceUnavailable, Result.PROCESSED]


class TestAReceiveThatDoesNotBegin:
    """The batch was too large for one invocation: nothing is wrong with the message."""

    ATTEMPTS = 2

    @pytest.fixture
    def messages(self, world: World, pool: Executor, told: Told) -> ImageHandler:
        return replace(handler(world.dependencies(), pool, told), max_attempts=self.ATTEMPTS)

    def test_comes_back_early_and_is_not_counted(
        self, world: World, pool: Executor, told: Told, messages: ImageHandler
    ) -> None:
        world.upload()
        no_time = replace(world.dependencies(), renderer=NoTime())
        bounced = replace(messages, process=partial(process, dependencies=no_time))
        for receives in (1, 2, 3):
            (fault,) = take(bounced, sqs_record(upload_event(), receives=receives))
            assert isinstance(fault, NotBegun)
        assert all(seconds <= 10 for _, seconds in told.shown_again)
        failing_now = replace(messages, process=partial(process, dependencies=world.dependencies(failing("publish"))))
        assert isinstance(take(failing_now, sqs_record(upload_event(), receives=4))[0], ServiceUnavailable)
        assert world.dead_letters == [], "the first of two attempts"
        assert take(failing_now, sqs_record(upload_event(), receives=5)) == [None]
        assert [letter.error_code for letter in world.dead_letters] == ["ServiceUnavailable"]

    def test_ends_with_its_reason_at_the_queues_last(self, world: World, pool: Executor, told: Told) -> None:
        world.upload()
        no_time = replace(world.dependencies(), renderer=NoTime())
        assert take(handler(no_time, pool, told), sqs_record(upload_event(), receives=MAX_RECEIVES)) == [None]
        assert [letter.error_code for letter in world.dead_letters] == ["NotBegun"]


class TestSeveralRecordsInOneMessage:
    def test_a_bad_one_is_dead_lettered_once_however_often_the_message_comes(
        self, world: World, pool: Executor, told: Told
    ) -> None:
        world.upload()
        body = two_records(json.dumps({"Records": [{"no": "record"}]}), upload_event())
        messages = handler(world.dependencies(failing("open")), pool, told)
        for _ in range(3):
            take(messages, sqs_record(body))
        assert [letter.error_code for letter in world.dead_letters] == ["MalformedMessage"]

    def test_a_failed_one_does_not_affect_the_others(self, world: World, pool: Executor, told: Told) -> None:
        world.upload("a.jpg", "v1")
        world.upload("b.jpg", "v2")
        body = two_records(upload_event("a.jpg", "v1"), upload_event("b.jpg", "v2"))
        record = sqs_record(body)

        (fault,) = take(handler(world.dependencies(Calls(Trouble.REFUSED, at=2)), pool, told), record)
        assert isinstance(fault, ServiceUnavailable)
        assert told.outcomes == [ServiceUnavailable, Result.PROCESSED]

        assert take(handler(world.dependencies(), pool, told), record) == [None]
        assert told.outcomes[2:] == [Result.PROCESSED, Result.DUPLICATE]

    def test_at_the_last_receive_only_the_failed_one_is_dead_lettered(
        self, world: World, pool: Executor, told: Told
    ) -> None:
        world.upload("a.jpg", "v1")
        world.upload("b.jpg", "v2")
        body = two_records(upload_event("a.jpg", "v1"), upload_event("b.jpg", "v2"))
        messages = handler(world.dependencies(Calls(Trouble.REFUSED, at=2)), pool, told)
        assert take(messages, sqs_record(body, receives=MAX_RECEIVES)) == [None]
        (letter,) = world.dead_letters
        assert json.loads(letter.body) == json.loads(upload_event("a.jpg", "v1"))


class TestAtTheDeadline:
    def test_unfinished_work_is_returned_while_the_rest_is_acknowledged(
        self, world: World, pool: Executor, told: Told
    ) -> None:
        go_on, opened = Event(), Event()

        def hold(call: str) -> None:
            if call == "open":
                opened.set()
                go_on.wait(60)

        world.upload("slow.jpg")
        slow = handler(world.dependencies(Calls(before=hold)), pool, told)
        deadline = Deadline(time() + 4.5)

        async def both() -> tuple[BaseException | None, BaseException | None]:
            return await asyncio.gather(
                slow.take(sqs_record(plain_task("slow.jpg", "slow"), message_id="slow"), deadline),
                handler(world.dependencies(), pool, told).take(sqs_record(plain_task("gone.jpg", "gone")), deadline),
                return_exceptions=True,
            )

        try:
            given_back, acknowledged = asyncio.run(both())
            assert time() < deadline.at
            assert opened.is_set()
        finally:
            go_on.set()
        assert isinstance(given_back, OutOfTime)
        assert acknowledged is None
        assert [receipt for receipt, _ in told.shown_again] == ["receipt of slow"]
        assert sorted(map(str, told.outcomes)) == sorted(map(str, [Result.DEAD_LETTERED, OutOfTime]))

    def test_unfinished_work_of_the_last_receive_is_dead_lettered(
        self, world: World, pool: Executor, told: Told
    ) -> None:
        go_on = Event()

        def hold(call: str) -> None:
            if call == "open":
                go_on.wait(60)

        messages = handler(world.dependencies(Calls(before=hold)), pool, told)
        try:
            assert take(messages, sqs_record(plain_task(), receives=MAX_RECEIVES), seconds=3.1) == [None]
        finally:
            go_on.set()
        assert [letter.error_code for letter in world.dead_letters[:1]] == ["OutOfTime"]
        assert (told.outcomes, [is_last for _, _, is_last in told.reports]) == ([OutOfTime], [True])

    def test_what_was_not_started_is_left_to_the_next_delivery(self, world: World) -> None:
        # given a worker that comes to its second record only after the function had to answer
        late = Calls(before=lambda call: sleep(1.1) if call == "open" else None)
        message = message_of(two_records(upload_event("a.jpg"), upload_event("b.jpg")), world.dependencies(late))
        deadline = Deadline(time() + 4)
        # when it works
        message.work(deadline)
        # then the second is not even claimed
        assert late.made.count("claim") == 1
        assert [type(attempt.outcome) for attempt in message.attempts()] == [Outcome, OutOfTime]

    def test_a_task_that_ends_during_the_check_is_reported_once(self, world: World) -> None:
        body = two_records(upload_event("a.jpg"), upload_event("b.jpg"))
        for _ in range(50):
            message = message_of(body, world.dependencies(failing("claim")))
            with ThreadPoolExecutor(1) as worker:
                working = worker.submit(message.work, Deadline(time() + 50))
                while not working.done():
                    told = message.attempts()
                    assert [attempt.task for attempt in told] == list(message.tasks)
                    assert all(isinstance(attempt.outcome, TransientFault) for attempt in told)

    def test_work_that_hangs_does_not_keep_the_function_from_answering(self, world: World, told: Told) -> None:
        # given threads that all hang
        go_on = Event()
        with ThreadPoolExecutor(1) as workers, ThreadPoolExecutor(1) as answerers:
            workers.submit(go_on.wait, 60)
            messages = replace(handler(world.dependencies(), workers, told), answerers=answerers)
            deadline = Deadline(time() + 3.3)

            async def take_one() -> None:
                await messages.take(sqs_record(plain_task()), deadline)

            # when a message comes
            try:
                with pytest.raises(OutOfTime):
                    asyncio.run(take_one())
                # then it is given back before Lambda stops the function
                assert time() < deadline.at
                assert len(told.shown_again) == 1
            finally:
                go_on.set()

    def test_a_hanging_answer_is_not_awaited(self, world: World, pool: Executor, told: Told) -> None:
        go_on = Event()

        def hang(receipt: str, seconds: float) -> None:
            go_on.wait(60)

        messages = replace(handler(world.dependencies(failing("open")), pool, told), set_visibility_timeout=hang)
        deadline = Deadline(time() + 1)
        try:
            (fault,) = take(messages, sqs_record(plain_task()), seconds=1)
            assert time() < deadline.at
        finally:
            go_on.set()
        assert isinstance(fault, OutOfTime)

    def test_with_no_time_left_nothing_is_lost(self, world: World, pool: Executor, told: Told) -> None:
        world.upload()
        (fault,) = take(handler(world.dependencies(), pool, told), sqs_record(upload_event()), seconds=1)
        assert isinstance(fault, OutOfTime)
        assert len(told.shown_again) == 1


def test_messages_overlap_in_time(world: World, pool: Executor, told: Told) -> None:
    all_are_reading = Barrier(10)

    def meet(call: str) -> None:
        if call == "read":
            all_are_reading.wait(60)

    for number in range(10):
        world.upload(f"{number}.jpg")
    records = [sqs_record(plain_task(f"{number}.jpg", f"task-{number}")) for number in range(10)]
    assert take(handler(world.dependencies(Calls(before=meet)), pool, told), *records) == [None] * 10
    assert told.outcomes == [Result.PROCESSED] * 10


class TestTheAnswerToSqs:
    def answer(self, messages: ImageHandler, event: dict[str, Any]) -> Any:
        async def take_one(record: SQSRecord) -> None:
            await messages.take(record, Deadline(time() + 50))

        processor = AsyncBatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)
        return async_process_partial_response(event, take_one, processor)

    def test_names_the_messages_that_failed_and_no_others(self, world: World, pool: Executor, told: Told) -> None:
        event = load_event("sqs_mixed_batch")
        _, gone, malformed, _, wrapped = event["Records"]
        world.upload("events/Otto", "bHvRtKmN1pGdQy7sZx0cWfJ4aLe8Ui2o")

        world.dependencies().tasks.claim(task_of(wrapped["body"]), until=time() + 30, again=False)

        answer = self.answer(handler(world.dependencies(), pool, told), event)

        assert answer == {"batchItemFailures": [{"itemIdentifier": wrapped["messageId"]}]}
        assert {letter.body for letter in world.dead_letters} == {gone["body"], malformed["body"]}
        assert [receipt for receipt, _ in told.shown_again] == [wrapped["receiptHandle"]]
        assert set(world.images) == {"events/Otto"}

    def test_names_all_if_all_failed(self, world: World, pool: Executor, told: Told) -> None:
        event = load_event("sqs_mixed_batch")
        event["Records"] = event["Records"][:2]
        answer = self.answer(handler(world.dependencies(failing("claim")), pool, told), event)
        assert answer == {"batchItemFailures": [{"itemIdentifier": r["messageId"]} for r in event["Records"]]}

    def test_names_none_if_all_succeeded(self, world: World, pool: Executor, told: Told) -> None:
        assert self.answer(handler(world.dependencies(), pool, told), load_event("sqs_test_event")) == {
            "batchItemFailures": []
        }


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (load_event("sqs_s3"), True),
        (load_event("sqs_mixed_batch"), True),
        (load_event("s3"), False),
        (json.loads(plain_task()), False),
        ({"Records": []}, False),
        ({"Records": {}}, False),
        ({"Records": ["text"]}, False),
        ("text", False),
        ({}, False),
    ],
)
def test_a_batch_from_sqs_differs_from_a_direct_invocation(event: Any, expected: bool) -> None:
    assert app._is_from_sqs(event) is expected


class TestTheMemoryBudget:
    @given(capacity=st.integers(100, 200), amounts=st.lists(st.integers(0, 100), min_size=1, max_size=12))
    def test_is_never_exceeded(self, capacity: int, amounts: list[int]) -> None:
        budget, lock = MemoryBudget(capacity), Lock()
        held = highest = 0

        def work(amount: int) -> None:
            nonlocal held, highest
            with budget.reserve(amount):
                with lock:
                    held += amount
                    highest = max(highest, held)
                with lock:
                    held -= amount

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(work, amounts))
        assert highest <= capacity
        assert held == 0

    def test_refuses_at_once_more_than_its_capacity(self) -> None:
        with (
            pytest.raises(ValueError, match="101 bytes are needed, but the budget has 100"),
            MemoryBudget(100).reserve(101),
        ):
            pass

    def test_admits_those_that_fit_together(self) -> None:
        budget, together = MemoryBudget(100), Barrier(2)

        def work() -> None:
            with budget.reserve(50):
                together.wait(60)

        with ThreadPoolExecutor(2) as threads:
            for future in [threads.submit(work), threads.submit(work)]:
                future.result(60)

    def test_releases_memory_after_an_error(self) -> None:
        budget = MemoryBudget(100)
        for _ in range(3):
            with pytest.raises(NotAnImage), budget.reserve(80):
                raise NotAnImage("a text")
        with budget.reserve(100):
            pass


def test_waiting_for_memory_makes_no_deadlock(world: World, pool: Executor, told: Told) -> None:
    for number in range(10):
        world.upload(f"{number}.jpg")
    tight = replace(world.dependencies(), download_budget=MemoryBudget(len(photo())))
    records = [sqs_record(plain_task(f"{number}.jpg", f"task-{number}")) for number in range(10)]
    assert take(handler(tight, pool, told), *records) == [None] * 10
