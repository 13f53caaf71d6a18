"""The simulated flow keeps Lambda's and SQS's rules, loses nothing, and agrees with theory where there is one."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scaling.flow_model import (
    NOTIFICATION_SECONDS,
    Batches,
    Faults,
    Outcome,
    Setting,
    Throttles,
    Use,
    arrivals,
    burst_rate,
    day_rate,
)
from benchmarks.scaling.limits import DAY, LIMITS
from benchmarks.scaling.message_flow import makespan, simulate
from benchmarks.scaling.scenarios import DEFAULTS, recommended_concurrency
from tests.template.template import ROOT, load

SECOND = Batches(waiting=0, each=1, size=1)
OURS = Batches(waiting=0.2, each=0.8)
PLENTY = Setting("plenty", maximum_concurrency=1000)
TWO = Setting("two", maximum_concurrency=2)


SETTINGS = st.builds(
    Setting,
    st.just("any"),
    maximum_concurrency=st.none() | st.integers(2, 50),
    account=st.integers(1, 2000),
    provisioned=st.none() | st.tuples(st.integers(2, 4), st.integers(4, 8)),
)
BATCHES = st.builds(
    Batches,
    waiting=st.floats(0, 1),
    each=st.floats(0.1, 2),
    overlap=st.booleans(),
    size=st.integers(1, 10),
    cold=st.floats(0, 3),
)
ANY_FAULTS = st.builds(Faults, transient=st.floats(0, 1), crash=st.floats(0, 0.5))
USES = st.builds(Use, puts=st.sampled_from([0, 4, 1000]), task_units=st.sampled_from([0, 2, 800]))
some_loads = settings(max_examples=60, deadline=None)


def accounted_for(outcome: Outcome) -> float:
    return outcome.published + outcome.dead + outcome.waiting


class TestPollers:
    def test_start_at_five_and_grow_by_300_a_minute(self) -> None:
        assert PLENTY.start == 5
        assert PLENTY.grown(PLENTY.start, 60) == 305
        assert PLENTY.grown(PLENTY.start, 120) == 605

    @pytest.mark.parametrize(
        ("setting", "most"),
        [
            (Setting("template", maximum_concurrency=10), 10),
            (Setting("none", maximum_concurrency=None, account=5000), 1250),
            (Setting("account", maximum_concurrency=1000, account=400), 400),
            (Setting("provisioned", provisioned=(2, 150), account=5000), 1500),
        ],
    )
    def test_never_grow_beyond_the_lowest_limit(self, setting: Setting, most: int) -> None:
        assert setting.grown(setting.start, 3600) == most == setting.most

    def test_provisioned_ones_start_at_their_minimum_and_grow_by_1000_a_minute(self) -> None:
        setting = Setting("provisioned", provisioned=(5, 200), account=5000)
        assert setting.start == 50
        assert setting.grown(setting.start, 60) == 1050

    def test_provisioned_ones_are_paid_for_by_the_hour_and_others_are_not(self) -> None:
        setting = Setting("provisioned", provisioned=(6, 6), account=5000)
        uploads = [float(n) * 10 for n in range(361)]  # an hour
        paid = simulate(uploads, setting, SECOND)
        assert paid.poller_hours == pytest.approx(6, rel=0.01)
        assert simulate(uploads, PLENTY, SECOND).poller_hours == 0

    def test_grow_only_while_messages_wait(self) -> None:
        quiet = simulate([float(n) * 10 for n in range(50)], PLENTY, SECOND)
        assert quiet.peak_concurrency == 1
        assert not quiet.bites

    def test_are_there_from_the_start_where_it_begins_in_the_middle_of_work(self) -> None:
        cold = replace(SECOND, cold=3)
        assert simulate([0.0] * 20, PLENTY, cold).max > NOTIFICATION_SECONDS + 4
        assert simulate([0.0] * 20, PLENTY, cold, busy=20).max == NOTIFICATION_SECONDS + 1

    @pytest.mark.parametrize("most", [2, 7, 10])
    def test_maximum_concurrency_is_respected_and_used(self, most: int) -> None:
        outcome = simulate([0.0] * 500, replace(TWO, maximum_concurrency=most), SECOND)
        assert outcome.peak_concurrency == most
        assert outcome.bites["MaximumConcurrency"] > 0

    def test_a_burst_is_processed_as_fast_as_they_grow(self) -> None:
        # Five at once, five more each second: after n seconds 5 + 10 + ... + 5 n are done.
        outcome = simulate([0.0] * 275, PLENTY, SECOND)
        assert outcome.max - NOTIFICATION_SECONDS == pytest.approx(10, abs=1)


class TestBatches:
    def test_images_of_a_batch_wait_side_by_side(self) -> None:
        assert OURS.seconds(10) == pytest.approx(8.2)
        assert replace(OURS, overlap=False).seconds(10) == pytest.approx(10)

    def test_they_are_full_only_when_messages_wait(self) -> None:
        assert simulate([float(n) * 10 for n in range(50)], PLENTY, OURS).mean_batch == 1
        assert simulate([0.0] * 1000, TWO, OURS).mean_batch > 9

    def test_the_first_in_an_environment_takes_longer(self) -> None:
        outcome = simulate([0.0, 100.0, 800.0], PLENTY, replace(SECOND, cold=3))
        assert sorted(seconds for seconds, _ in outcome.latencies) == [2, 5, 5]
        assert outcome.cold_starts == 2  # the first, and the one after ten minutes of nothing


class TestNothingIsLost:
    FAULTS = Faults(transient=0.3, crash=0.1)

    @pytest.mark.parametrize("horizon", [50, 500, DAY])
    def test_what_arrived_is_published_dead_lettered_or_waiting(self, horizon: float) -> None:
        uploads = list(arrivals(burst_rate(1000, 100), 100, seed=3))
        outcome = simulate(uploads, TWO, OURS, faults=self.FAULTS, horizon=horizon)
        assert accounted_for(outcome) == outcome.arrived

    @given(SETTINGS, BATCHES, ANY_FAULTS, USES, st.integers(1, 150), st.sampled_from([30, 3000, DAY]))
    @some_loads
    def test_for_any_setting_faults_and_limits(
        self, setting: Setting, batches: Batches, faults: Faults, use: Use, images: int, horizon: float
    ) -> None:
        uploads = [n * 0.1 for n in range(images)]
        outcome = simulate(uploads, setting, batches, use=use, faults=faults, horizon=horizon)
        assert accounted_for(outcome) == outcome.arrived == images
        assert outcome.peak_concurrency <= setting.most
        assert sum(count for _, count in outcome.latencies) == outcome.published

    def test_a_message_is_dead_lettered_after_its_last_receive(self) -> None:
        outcome = simulate([0.0] * 20, TWO, SECOND, faults=Faults(transient=1))
        assert (outcome.dead, outcome.batches) == (20, 20 * LIMITS["receives"].value)

    def test_messages_of_a_function_that_died_come_back_after_the_visibility_timeout(self) -> None:
        outcome = simulate([0.0] * 200, TWO, SECOND, faults=Faults(crash=0.2))
        assert outcome.published == 200
        assert outcome.max >= LIMITS["visibility"].value

    def test_a_transient_fault_waits_as_the_function_lets_it(self) -> None:
        outcome = simulate([float(n) * 100 for n in range(200)], PLENTY, SECOND, faults=Faults(transient=0.2))
        once_again = [seconds for seconds, _ in outcome.latencies if 2.5 < seconds < 15]
        assert once_again
        assert all(2 + 1 + 5 <= seconds <= 2 + 1 + 10 for seconds in once_again)


class TestThrottles:
    def test_s3_takes_3500_puts_a_second_and_prefix(self) -> None:
        one, two = (Throttles(Use(puts=4), replace(PLENTY, prefixes=n)) for n in (1, 2))
        assert one.take(0, 10_000) == 875
        assert two.take(0, 10_000) == 1750
        assert one.bites == {"S3 PUT requests": 1}

    def test_each_second_counts_again(self) -> None:
        throttles = Throttles(Use(gets=1), PLENTY)
        assert [throttles.take(second, 4000) for second in (0, 0.5, 1)] == [4000, 1500, 4000]

    def test_a_table_takes_twice_its_peak_after_half_an_hour(self) -> None:
        throttles = Throttles(Use(image_units=2), PLENTY)
        assert throttles.take(0, 1e6) == 2000
        assert throttles.take(1799, 1e6) == 2000
        assert throttles.take(1800, 1e6) == 4000
        assert throttles.take(3600, 1e6) == 8000
        assert [throttles.take(1800 * n, 1e6) for n in range(3, 7)] == [16_000, 20_000, 20_000, 20_000]

    def test_a_table_takes_twice_its_previous_peak(self) -> None:
        assert Throttles(Use(image_units=2), PLENTY, before=3000).take(0, 1e6) == 6000

    def test_refused_images_come_back(self) -> None:
        fast = replace(SECOND, each=0.01, size=10)
        outcome = simulate([0.0] * 3000, PLENTY, fast, use=Use(puts=35))
        assert outcome.bites["S3 PUT requests"] > 0
        assert accounted_for(outcome) == 3000
        assert outcome.published > 2000


class TestAgainstTheory:
    def test_an_empty_system_adds_nothing_to_the_service(self) -> None:
        outcome = simulate([0.0], PLENTY, OURS)
        assert outcome.p50 == NOTIFICATION_SECONDS + 1.0

    @given(BATCHES, st.integers(1, 30), st.floats(1.01, 3))
    @some_loads
    def test_below_all_limits_an_image_takes_its_service_and_the_notification(
        self, batches: Batches, images: int, apart: float
    ) -> None:
        warm = replace(batches, cold=0)
        uploads = [n * apart * warm.seconds(1) for n in range(images)]
        outcome = simulate(uploads, PLENTY, warm, use=Use(puts=4, gets=1, task_units=2, image_units=2))
        assert outcome.quantile(0) == pytest.approx(NOTIFICATION_SECONDS + warm.seconds(1))
        assert outcome.max == pytest.approx(NOTIFICATION_SECONDS + warm.seconds(1))
        assert not outcome.bites

    @given(BATCHES, st.integers(1, 300), st.integers(1, 40), st.integers(1, 40))
    @some_loads
    def test_more_functions_never_take_longer_for_a_full_queue(
        self, batches: Batches, messages: int, functions: int, more: int
    ) -> None:
        slow, fast = (makespan(messages, count, batches) for count in (functions, functions + more))
        assert fast <= slow + 1e-6

    def test_a_rate_beyond_them_waits_as_the_difference_adds_up(self) -> None:
        # D/D/c: 8 uploads a second, 5 functions of a second each. After t seconds 3 t wait; the last of n waits
        # until all before it are done, n / 5, less the n / 8 that it took to come.
        setting, images = Setting("five", maximum_concurrency=5), 4000
        outcome = simulate([n / 8 for n in range(images)], setting, SECOND)
        assert outcome.peak_backlog == pytest.approx(3 * images / 8, rel=0.1)
        assert outcome.max - NOTIFICATION_SECONDS == pytest.approx(images / 5 - images / 8, rel=0.01)
        assert outcome.p50 - NOTIFICATION_SECONDS == pytest.approx((images / 5 - images / 8) / 2, rel=0.02)

    def test_a_full_queue_takes_as_long_as_its_rounds(self) -> None:
        assert makespan(100, 4, Batches(waiting=0.5, each=0.1, size=10)) == pytest.approx(3 * 1.5)
        assert makespan(101, 1, SECOND) == pytest.approx(101)

    def test_one_server_waits_as_pollaczek_and_khinchine_say(self) -> None:
        # M/D/1: rho / (2 (1 - rho)) services.
        setting = Setting("one", maximum_concurrency=None, account=1)
        uploads = arrivals(lambda _: 0.7, 60_000, seed=11)
        outcome = simulate(uploads, setting, SECOND)
        waited = mean(seconds for seconds, _ in outcome.latencies) - NOTIFICATION_SECONDS - 1
        assert waited == pytest.approx(0.7 / (2 * 0.3), rel=0.08)

    def test_several_servers_wait_as_a_queue_worked_by_hand(self) -> None:
        # M/D/c has no simple formula, but Lindley's recursion for deterministic service and first come, first served.
        uploads = list(arrivals(lambda _: 3.4, 5_000, seed=5))
        free = [0.0] * 4
        waits = []
        for moment in uploads:
            free.sort()
            started = max(moment, free[0])
            waits.append(started - moment)
            free[0] = started + 1
        outcome = simulate(uploads, Setting("four", maximum_concurrency=4), SECOND)
        waited = mean(seconds for seconds, _ in outcome.latencies) - NOTIFICATION_SECONDS - 1
        assert waited == pytest.approx(mean(waits), abs=0.01)

    def test_uploads_come_as_often_as_the_day_says(self) -> None:
        rate = day_rate(20_000)
        moments = list(arrivals(rate, DAY, seed=2))
        assert len(moments) == pytest.approx(20_000, rel=0.03)
        noon = sum(DAY / 2 - 3600 <= moment < DAY / 2 + 3600 for moment in moments)
        assert noon == pytest.approx(2 * 3600 * rate(DAY / 2), rel=0.05)


class TestDeterminism:
    def test_the_same_seed_gives_the_same_outcome(self) -> None:
        def once(seed: int) -> Outcome:
            random.seed()  # independent of earlier draws
            return simulate(
                arrivals(burst_rate(500, 100), 100, seed),
                TWO,
                OURS,
                faults=Faults(transient=0.2, crash=0.05),
                seed=seed,
            )

        assert once(1) == once(1)
        assert once(1) != once(2)


def test_the_recommended_concurrency_leaves_a_fifth_free_and_is_never_below_the_default() -> None:
    assert recommended_concurrency(80, SECOND) == 100
    assert recommended_concurrency(0.1, SECOND) == DEFAULTS.most


def test_the_defaults_are_those_of_the_template() -> None:
    template = load((ROOT / "template.yaml").read_text())
    queue = template.queues["ImageTasksQueue"]
    assert DEFAULTS.most == template["Parameters"]["ProcessImageConcurrency"]["Default"]
    assert LIMITS["visibility"].value == queue["VisibilityTimeout"]
    attempts = template.functions["ProcessImageFunction"]["Environment"]["Variables"]["MAX_ATTEMPTS"]
    assert LIMITS["receives"].value == int(attempts)
