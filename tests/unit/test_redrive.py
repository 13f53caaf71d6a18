"""Dead letters go back to their queue, and none is lost, even if the process dies in between."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest
from botocore.exceptions import BotoCoreError
from darkroom.errors import ServiceUnavailable
from hypothesis import given
from hypothesis import strategies as st

from operations.dead_letters import QueueScan
from operations.redrive import NO_CODE, Moved, Pace, Plan, Redrive, back_to
from tests.unit.operations_fakes import FakeQueues, Killed

DEAD, LIVE = "dead-letters", "tasks"


def queues_with(*codes: str) -> FakeQueues:
    queues = FakeQueues()
    for number, code in enumerate(codes):
        queues.put(DEAD, f"body {number}", code)
    return queues


def redrive(queues: FakeQueues, code: str = "", limit: int = 0) -> Redrive:
    return Redrive(queues.client, DEAD, back_to(LIVE), code, limit)


def run(asked: Redrive, queues: FakeQueues, rate: float = 1000) -> Moved:
    done = Moved()
    asked.move(asked.plan(), Pace(rate, queues.clock, queues.sleep), done)
    return done


class TestADeadLetter:
    def test_goes_back_unchanged_with_the_mark_of_a_redrive(self) -> None:
        queues = FakeQueues()
        queues.put(DEAD, "body", "NotAnImage", task_id="t-1", tenant="shop-de")
        assert run(redrive(queues), queues).moved == 1
        (message,) = queues.queues[LIVE]
        assert message.body == "body"
        assert {name: value["StringValue"] for name, value in message.attributes.items()} == {
            "error_code": "NotAnImage",
            "tenant": "shop-de",
        }

    @pytest.mark.parametrize(
        ("largest", "mark_is_needed", "moved", "marked"),
        [(50, True, 1, True), (50, False, 1, True), (30, True, 0, False), (30, False, 1, False), (5, False, 0, False)],
    )
    def test_near_the_size_limit_goes_back_if_there_is_room_for_the_mark_where_it_needs_one(
        self, largest: int, mark_is_needed: bool, moved: int, marked: bool
    ) -> None:
        queues = queues_with("NotAnImage")
        asked = replace(redrive(queues), judge=back_to(LIVE, largest, mark_is_needed=mark_is_needed))
        assert run(asked, queues).moved == moved
        assert len(queues.bodies(DEAD)) == 1 - moved
        assert ["error_code" in message.attributes for message in queues.queues.get(LIVE, [])] == [marked] * moved

    def test_that_sqs_moved_itself_goes_back_without_an_error_code(self) -> None:
        queues = queues_with("")
        run(redrive(queues), queues)
        assert queues.queues[LIVE][0].attributes == {}

    def test_that_fails_again_at_once_is_not_moved_twice(self) -> None:
        queues = queues_with(*["NotAnImage"] * 25)
        asked = redrive(queues)
        plan = asked.plan()

        def fail_again(_: object) -> None:  # the function sets everything aside again, as new messages
            while queues.queues.get(LIVE):
                queues.put(DEAD, queues.queues[LIVE].pop().body, "NotAnImage")

        done = Moved()
        replace(asked, progress=fail_again).move(plan, Pace(1000, queues.clock, queues.sleep), done)
        assert done.moved == 25
        assert len(queues.visible(DEAD)) == 25

    def test_that_sqs_never_accepts_stays_and_is_reported(self) -> None:
        queues = queues_with("TooLarge", "TooLarge", "TooLarge")
        queues.refuses["body 1"] = "InvalidMessageContents"
        done = run(redrive(queues), queues)
        assert (done.moved, dict(done.refused)) == (2, {"InvalidMessageContents: ": 1})
        assert [message.body for message in queues.visible(DEAD)] == ["body 1"]

    def test_that_sqs_does_not_delete_is_reported_as_a_copy(self) -> None:
        queues = queues_with("TooLarge", "TooLarge")
        queues.keeps_deleted = {"body 0"}
        done = run(redrive(queues), queues)
        assert (done.moved, done.copies) == (2, 1)


class TestTheSelection:
    @pytest.mark.parametrize(("code", "moved"), [("TooLarge", 2), ("ObjectGone", 1), (NO_CODE, 1), ("", 4), ("C", 0)])
    def test_is_moved_and_the_rest_is_visible_at_once(self, code: str, moved: int) -> None:
        queues = queues_with("TooLarge", "ObjectGone", "TooLarge", "")
        assert run(redrive(queues, code), queues).moved == moved
        assert len(queues.bodies(LIVE)) == moved
        assert len(queues.visible(DEAD)) == 4 - moved

    def test_may_be_few_of_many(self) -> None:
        queues = queues_with(*["TooLarge"] * 37)
        assert run(redrive(queues, limit=12), queues).moved == 12
        assert len(queues.visible(DEAD)) == 25

    def test_is_found_in_a_large_queue_that_is_read_slower_than_messages_stay_hidden(self) -> None:
        queues = queues_with(*["TooLarge", "ObjectGone", "ObjectGone", "ObjectGone"] * 500)
        queues.seconds_per_call = 5
        assert run(redrive(queues, "TooLarge"), queues).moved == 500
        assert Counter(queues.bodies(LIVE)).most_common(1)[0][1] == 1
        assert len(queues.bodies(DEAD)) == 1500


class TestAQueueScan:
    def test_continues_when_ten_reappear_before_the_others(self) -> None:
        queues = queues_with(*["TooLarge"] * 20)
        seen: list[str] = []
        with QueueScan(queues.client, DEAD, hidden_for=30) as scan:
            for letters in scan.letters():
                if not seen:
                    for message in queues.queues[DEAD]:
                        message.visible_at = 0
                    queues.queues[DEAD].sort(key=lambda message: not message.receipt_handle)
                seen += [letter.body for letter in letters]
        assert sorted(seen) == sorted(queues.bodies(DEAD))

    def test_deletes_a_reappearing_message_again(self) -> None:
        queues = queues_with(*["TooLarge"] * 11)
        gone = queues.queues[DEAD][0]
        with QueueScan(queues.client, DEAD, hidden_for=30) as scan:
            for letters in scan.letters():
                if gone.message_id in {letter.message_id for letter in letters}:
                    scan.delete([gone.message_id])
                    queues.queues[DEAD].append(replace(gone, visible_at=0))
        assert len(queues.visible(DEAD)) == 10
        assert gone.message_id not in {message.message_id for message in queues.visible(DEAD)}

    def test_ends_cleanly_without_a_network(self) -> None:
        queues = queues_with("TooLarge")
        queues.dies_at, queues.only_network = 1, True
        with QueueScan(queues.client, DEAD, hidden_for=30) as scan:
            assert [letter.error_code for letter in next(scan.letters())] == ["TooLarge"]


class TestThePlan:
    def test_changes_nothing(self) -> None:
        queues = queues_with("TooLarge", "ObjectGone", "TooLarge")
        before = sorted(queues.bodies(DEAD))
        plan = redrive(queues).plan()
        assert {code: (group.go, group.reason) for code, group in plan.groups.items()} == {
            "TooLarge": (2, "why TooLarge"),
            "ObjectGone": (1, "why ObjectGone"),
        }
        assert sorted(message.body for message in queues.visible(DEAD)) == before
        assert set(queues.calls) == {"count", "receive", "show"}

    def test_shows_what_must_stay_and_why(self) -> None:
        queues = queues_with("TooLarge", "TooLarge")
        plan = replace(redrive(queues), judge=lambda letter: "no route").plan()
        assert (plan.groups["TooLarge"].must_stay, plan.groups["TooLarge"].must_stay_because) == (2, "no route")
        assert plan.message_ids == set()

    def test_ends_even_if_dead_letters_arrive_faster_than_they_are_read(self) -> None:
        queues = queues_with(*["TooLarge"] * 20)

        def pour(_: object) -> None:
            for number in range(30):
                queues.put(DEAD, f"more {number}", "TooLarge")

        plan = replace(redrive(queues), progress=pour).plan()
        assert not plan.is_complete
        assert plan.seen == 50

    def test_of_an_empty_queue_is_empty(self) -> None:
        assert redrive(FakeQueues()).plan() == Plan()


class TestThePace:
    @pytest.mark.parametrize(("rate", "seconds"), [(10, 9), (1, 90), (0.5, 180)])
    def test_is_kept_from_the_first_message_to_the_last(self, rate: float, seconds: float) -> None:
        queues = queues_with(*["TooLarge"] * 100)
        queues.seconds_per_call = 0
        asked = redrive(queues)
        plan = asked.plan()
        started = queues.now
        asked.move(plan, Pace(rate, queues.clock, queues.sleep), Moved())
        assert queues.now - started == pytest.approx(seconds)

    def test_lets_no_receipt_expire(self) -> None:
        queues = queues_with(*["TooLarge", "ObjectGone"] * 30)
        assert run(redrive(queues, "TooLarge"), queues, rate=0.1).copies == 0
        assert sorted(Counter(queues.bodies(LIVE)).values()) == [1] * 30


CALLS = st.integers(0, 40)


class TestNothingIsLost:
    @given(
        codes=st.lists(st.sampled_from(["TooLarge", "ObjectGone", ""]), min_size=1, max_size=35),
        code=st.sampled_from(["", "TooLarge"]),
        dies_at=CALLS,
        dies_after_effect=st.booleans(),
        only_network=st.booleans(),
    )
    def test_if_the_process_or_the_network_dies_at_any_call(
        self, codes: list[str], code: str, dies_at: int, dies_after_effect: bool, only_network: bool
    ) -> None:
        queues = queues_with(*codes)
        every, wanted = (
            set(queues.bodies(DEAD)),
            {m.body for m, c in zip(queues.queues[DEAD], codes, strict=True) if code in ("", c)},
        )
        queues.dies_at, queues.dies_after_effect, queues.only_network = dies_at, dies_after_effect, only_network
        with suppress(Killed, BotoCoreError, ServiceUnavailable):
            run(redrive(queues, code), queues)
        # every message stands in one of the two queues, at most one batch in both
        assert set(queues.bodies(DEAD)) | set(queues.bodies(LIVE)) == every
        assert len(queues.bodies(DEAD)) + len(queues.bodies(LIVE)) <= len(every) + 10
        # and another run moves the rest
        queues.restart()
        run(redrive(queues, code), queues)
        assert set(queues.bodies(LIVE)) == wanted
        assert set(queues.bodies(DEAD)) == every - wanted

    @given(batches=st.integers(0, 6))
    def test_when_a_person_ends_it_work_in_progress_finishes(self, batches: int) -> None:
        queues = queues_with(*["TooLarge"] * 35)
        asked = redrive(queues)
        plan, done = asked.plan(), Moved()
        replace(asked, is_over=lambda: queues.calls.count("send") >= batches).move(
            plan, Pace(1000, queues.clock, queues.sleep), done
        )
        assert done.moved == len(queues.bodies(LIVE)) == min(batches * 10, 35)
        assert len(queues.visible(DEAD)) == 35 - done.moved
