"""What a month of images costs: counted, multiplied, and written down."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from darkroom.batch import Attempt
from darkroom.errors import NotAnImage, ServiceUnavailable, TransientFault, UnexpectedError
from darkroom.image_messages import ImageTask
from darkroom.reporting import metrics

from benchmarks.cost import bill as cost
from benchmarks.cost import calculator
from benchmarks.cost.bill import Load, bill_of_ours, bill_of_sample
from benchmarks.cost.durations import computing_seconds, parallel_share, renditions
from benchmarks.cost.function_seconds import Measured, Seconds, item_bytes, load
from benchmarks.cost.page import PAGE, page_of
from benchmarks.cost.prices import PRICES, REGIONS, SOURCES
from benchmarks.cost.template_counts import PHOTOS_ONLY, count, template_counts
from benchmarks.function_settings import MEMORY_MB
from functions.process_image.ports import Result
from functions.process_image.process import Outcome
from functions.process_image.reporting import report, report_taken_over

# Round numbers: a second of the CPU for 12 megapixels, two for 24; the sample takes twice that; half of it parallel.
MEASURED = Measured(
    machine="none",
    measured_on="2026-01-01",
    rendering=(
        Seconds(megapixels=12, ours=1, sample=2, one_core=1, two_cores=0.75),
        Seconds(megapixels=24, ours=2, sample=4, one_core=2, two_cores=1.5),
    ),
    handler_ours=0.1,
    handler_sample=0.05,
    renditions_bytes=500_000,
    largest_rendition_bytes=250_000,
    log_bytes_per_image=500,
    log_bytes_per_batch=1500,
    images_item_bytes=1500,
    tasks_item_bytes=300,
    cold_start_seconds=1,
)
MILLION = Load(images=1e6, megabytes=4, memory_mb=1769, architecture="arm64", region="us-east-1")


def dollars(load_: Load, price: str) -> float:
    """What the bill says of one price, its fixed part left out."""
    return sum(line.dollars for line in bill_of_ours(load_, MEASURED).running if line.price == price)


class TestPrices:
    def test_every_price_is_above_zero_in_every_region_and_names_its_source(self) -> None:
        for name, price in PRICES.items():
            assert set(price.dollars) == set(REGIONS), name
            assert all(dollars > 0 for dollars in price.dollars.values()), name
            assert SOURCES[price.service].startswith("https://aws.amazon.com/")

    def test_arm_costs_a_fifth_less(self) -> None:
        for region in REGIONS:
            assert PRICES["lambda.arm64"].of(1, region) == pytest.approx(
                0.8 * PRICES["lambda.x86_64"].of(1, region), rel=1e-4
            )


class TestTheBill:
    """A million images in us-east-1, against sums made by hand."""

    def test_of_the_function(self) -> None:
        # Waits: 2 x 40 + 4 x 6 + 12 ms for calls, 4 MB at 80 MB/s; then a second of the CPU, and the handler's tenth.
        seconds = 0.080 + 0.024 + 0.012 + 0.050 + 1.1
        assert dollars(MILLION, "lambda.arm64") == pytest.approx(1e6 * seconds * 1769 / 1024 * 0.0000133334)
        assert dollars(MILLION, "lambda.request") == pytest.approx(0.20)

    @pytest.mark.parametrize(("megabytes", "objects"), [(4, 4), (0.5, 4), (0.3, 3), (0.04, 2)])
    def test_of_s3_has_a_put_for_the_upload_and_each_different_rendition(self, megabytes: float, objects: int) -> None:
        load = replace(MILLION, megabytes=megabytes)
        assert dollars(load, "s3.put") == pytest.approx((1 + objects) * 5.0)
        assert dollars(MILLION, "s3.get") == pytest.approx(0.40)

    def test_of_sqs_two_messages_and_their_batch(self) -> None:
        assert dollars(MILLION, "sqs.request") == pytest.approx(4 * 0.40)
        assert dollars(replace(MILLION, batch=10), "sqs.request") == pytest.approx(2.2 * 0.40)

    def test_of_dynamodb_by_started_kilobytes(self) -> None:
        assert dollars(MILLION, "dynamodb.write") == pytest.approx((1 + 1 + 2) * 0.625)
        assert dollars(MILLION, "dynamodb.read") == pytest.approx(0.125)

    def test_of_logs_by_image_and_batch(self) -> None:
        assert dollars(MILLION, "cloudwatch.logs") == pytest.approx(2e9 / 2**30 * 0.50)
        assert dollars(replace(MILLION, batch=10), "cloudwatch.logs") == pytest.approx(0.65e9 / 2**30 * 0.50)

    def test_of_traces_beyond_one_a_second_a_twentieth(self) -> None:
        assert dollars(MILLION, "xray.trace") == pytest.approx(5.0)
        busy = replace(MILLION, images=11 * cost.SECONDS_A_MONTH)
        assert dollars(busy, "xray.trace") == pytest.approx(1.5 * cost.SECONDS_A_MONTH * 5e-6)
        burst = Load(images=11 * 3600, seconds=3600)
        assert dollars(burst, "xray.trace") == pytest.approx(1.5 * 3600 * 5e-6)

    def test_the_fixed_part_does_not_grow_with_the_images(self) -> None:
        few, many = (bill_of_ours(replace(MILLION, images=n), MEASURED).fixed for n in (1e3, 1e9))
        assert few == many

    def test_storage_is_not_part_of_the_running_costs(self) -> None:
        bill = bill_of_ours(MILLION, MEASURED)
        uploads = next(line for line in bill.kept if line.driver.startswith("uploads"))
        assert uploads.dollars == pytest.approx(4e12 / 2**30 * 0.023)
        assert bill.dollars == pytest.approx(sum(line.dollars for line in bill.running + bill.fixed))

    def test_a_delivered_view_is_a_request_its_bytes_and_few_gets(self) -> None:
        delivered = replace(MILLION, views=2, delivered=True)
        without = bill_of_ours(MILLION, MEASURED).kept
        request, sent, gets = (line for line in bill_of_ours(delivered, MEASURED).kept if line not in without)
        assert request.dollars == pytest.approx(2e6 * 1e-6)
        assert sent.dollars == pytest.approx(2e6 * 250_000 / 2**30 * 0.085)
        assert gets.dollars == pytest.approx(2e6 * cost.MISSED_RENDITIONS * 0.4e-6)

    def test_a_stable_address_adds_a_redirect(self) -> None:
        delivered = replace(MILLION, views=4, delivered=True)
        plain, stable = (bill_of_ours(replace(delivered, by_stable_address=s), MEASURED).kept for s in (0, 0.5))
        more = {line.price: line.dollars for line in stable if line not in plain}
        missed = 2e6 * cost.MISSED_REDIRECTS
        assert more == {
            "cloudfront.request": pytest.approx(2e6 * 1e-6),
            "cloudfront.out": pytest.approx(2e6 * 700 / 2**30 * 0.085),
            "cloudfront.function": pytest.approx(2e6 * 0.1e-6),
            "lambda.request": pytest.approx(missed * 0.2e-6),
            "lambda.arm64": pytest.approx(missed * 0.020 * 0.5 * 0.0000133334),
            "dynamodb.read": pytest.approx(missed / 2 * 0.125e-6),
        }

    def test_delivery_has_alarms_of_its_own(self) -> None:
        alarms = [bill_of_ours(MILLION, MEASURED, {"Delivery": on}).fixed[0].dollars for on in ("false", "true")]
        assert alarms[1] == pytest.approx(alarms[0] + 2 * 0.10)

    def test_a_view_is_a_get_and_its_bytes(self) -> None:
        without, viewed = (bill_of_ours(replace(MILLION, views=n), MEASURED).kept for n in (0, 2))
        gets, sent = (line for line in viewed if line not in without)
        assert gets.dollars == pytest.approx(2e6 * 0.4e-6)
        assert sent.dollars == pytest.approx(2e6 * 250_000 / 2**30 * 0.09)


class TestIdleStack:
    """Against sums made by hand, of the template as it stands."""

    def test_costs_by_the_month(self) -> None:
        fixed = {
            line.price: line.dollars for line in bill_of_ours(MILLION, MEASURED, {"CreateDashboard": "true"}).fixed
        }
        counts = template_counts()
        assert fixed["cloudwatch.alarm"] == pytest.approx(counts.alarm_metrics * 0.10)
        assert fixed["cloudwatch.composite"] == 0.50
        assert fixed["cloudwatch.dashboard"] == 3.00
        assert fixed["kms.key"] == 1.00
        assert fixed["secrets.secret"] == 0.40
        assert fixed["sqs.request"] == pytest.approx(3 * 5 * 30 * 86_400 / 20 * 0.40e-6)

    def test_costs_less_than_three_dollars_with_photos_only(self) -> None:
        assert sum(line.dollars for line in bill_of_ours(MILLION, MEASURED, PHOTOS_ONLY).fixed) < 3

    def test_an_alarm_is_billed_for_every_metric_that_it_reads(self) -> None:
        counts = count(
            dedent("""\
                Resources:
                  One:
                    Type: AWS::CloudWatch::Alarm
                    Properties: {MetricName: Errors}
                  Two:
                    Type: AWS::CloudWatch::Alarm
                    Properties:
                      Metrics:
                        - {Id: result, Expression: m1 + m2}
                        - {Id: m1, MetricStat: {}}
                        - {Id: m2, MetricStat: {}}
                  Both:
                    Type: AWS::CloudWatch::CompositeAlarm
                """)
        )
        assert (counts.alarm_metrics, counts.composite_alarms) == (1 + 2, 1)

    def test_resources_of_a_broker_are_not_counted(self) -> None:
        counts = count(
            dedent("""\
                Resources:
                  Ours:
                    Type: AWS::SecretsManager::Secret
                  TheBrokers:
                    Type: AWS::SecretsManager::Secret
                    Condition: CreatesRabbitMqBroker
                """)
        )
        assert counts.secrets == 1

    def test_a_queue_is_polled_for_every_function_that_it_starts(self) -> None:
        assert template_counts().polled_queues == 3

    def test_every_alarm_of_the_template_is_counted(self) -> None:
        # Counted another way: every metric that an alarm reads stands under a name.
        text = (Path(cost.__file__).resolve().parents[2] / "template.yaml").read_text()
        alarms = re.findall(r"^    Type: AWS::CloudWatch::Alarm$.*?(?=^  \w+:$)", text, re.MULTILINE | re.DOTALL)
        names = sum(
            alarm.count("MetricName: ")
            for alarm in alarms
            if not re.search("Condition: .*(RabbitMq|Results|Delivery)", alarm)
        )
        assert template_counts().alarm_metrics == names

    def test_the_metrics_are_those_that_the_function_reports(self, capsys: pytest.CaptureFixture[str]) -> None:
        task = ImageTask("task-1", "uploads", "a.jpg", body="{}")
        done = [Outcome(result, "task-1") for result in Result if result is not Result.DEAD_LETTERED]
        dead_lettered = Outcome(Result.DEAD_LETTERED, "task-1", fault=NotAnImage("a text"))
        outcomes: list[Outcome | TransientFault] = [*done, dead_lettered, ServiceUnavailable(""), UnexpectedError("")]
        for outcome in outcomes:
            report(Attempt(replace(task, event_time=UPLOADED), 1.0, 2.0, outcome), sent=0.5)
        report_taken_over(task)
        metrics.flush_metrics()
        reported = {name for line in capsys.readouterr().out.splitlines() for name in _metrics(json.loads(line))}
        assert set(cost.METRICS) - reported == {"ColdStart"}  # Powertools', at the first invocation
        assert reported <= set(cost.METRICS)


UPLOADED = datetime.fromtimestamp(0, tz=UTC)


def _metrics(line: dict[str, Any]) -> Iterator[str]:
    for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
        yield from (metric["Name"] for metric in directive["Metrics"])


class TestTheCommand:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--images", "abc"], "'abc' is not a number, like 1000000 or 1e6"),
            (["--images", "0"], "0 is out of range: it must be 1 or more"),
            (["--images", "nan"], "nan is out of range"),
            (["--images", "inf"], "inf is out of range"),
            (["--memory", "100"], "100 is out of range: it must be from 128 to 10,240"),
            (["--batch", "11"], "11 is out of range: it must be from 1 to 10"),
            (["--region", "mars"], "invalid choice: 'mars' (choose from"),
        ],
    )
    def test_says_what_is_wrong_and_what_is_allowed(
        self, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            calculator.main(arguments)
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err

    def test_prints_the_bill_of_a_million_images_by_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert calculator.main([]) == 0
        said = capsys.readouterr().out
        assert said.startswith("1,000,000 images of 4 MB a month, eu-central-1")
        assert f"{bill_of_ours(Load(images=1e6), load()).dollars:,.2f}" in said

    def test_accepts_numbers_with_separators(self, capsys: pytest.CaptureFixture[str]) -> None:
        calculator.main(["--images", "2,500,000", "--mb", "1e1"])
        assert capsys.readouterr().out.startswith("2,500,000 images of 10 MB a month")


class TestTheBaseline:
    def test_waits_for_every_put_and_for_every_record(self) -> None:
        seconds = 0.040 * (1 + renditions()) + 0.050 + 2.05
        for batch in (1, 10):
            of = replace(MILLION, batch=batch)
            assert cost.billed_seconds_of_sample(of, MEASURED) == pytest.approx(seconds)

    def test_darkroom_waits_once_for_a_batch(self) -> None:
        alone, ten = (cost.billed_seconds_of_ours(replace(MILLION, batch=n), MEASURED) for n in (1, 10))
        assert [alone, ten] == pytest.approx([1.266, 1.1166])

    def test_pays_for_no_table(self) -> None:
        assert not [line for line in bill_of_sample(MILLION, MEASURED).running if line.component == "DynamoDB"]


class TestMemory:
    def test_below_one_cpu_time_grows_as_memory_shrinks(self) -> None:
        assert computing_seconds(1, 1769, parallel=0.5) == 1
        assert computing_seconds(1, 884, parallel=0.5) == pytest.approx(1769 / 884)

    def test_a_second_cpu_takes_only_the_parallel_share(self) -> None:
        assert computing_seconds(1, 2 * 1769, parallel=0.5) == 0.75
        assert computing_seconds(1, 2 * 1769, parallel=0) == 1

    def test_a_third_cpu_saves_nothing(self) -> None:
        assert computing_seconds(1, 4 * 1769, parallel=0.5) == computing_seconds(1, 2 * 1769, parallel=0.5)

    def test_the_parallel_share_is_what_two_cores_save(self) -> None:
        assert parallel_share(one_core=1, two_cores=0.75) == 0.5
        assert parallel_share(one_core=1, two_cores=1.1) == 0

    def test_the_best_size_has_the_least_cost_times_time(self) -> None:
        # Half of a rendering is parallel: from one CPU to two, time falls by a quarter and cost per second doubles.
        assert cost.best_memory(MILLION, MEASURED) == 1769
        # If all of it were, time would halve for the same cost.
        parallel = replace(
            MEASURED, rendering=tuple(replace(point, two_cores=point.one_core / 2) for point in MEASURED.rendering)
        )
        assert cost.best_memory(MILLION, parallel) == max(cost.MEMORY_SIZES)

    def test_the_template_has_the_default_size_of_the_page(self) -> None:
        assert str(Load(images=1).memory_mb) == MEMORY_MB


class TestMeasurements:
    def test_seconds_lie_on_the_line_between_two_sizes(self) -> None:
        assert MEASURED.at(18).ours == 1.5
        assert MEASURED.at(48).sample == 8

    def test_an_item_is_as_large_as_dynamodb_says(self) -> None:
        # Names count; a number takes a byte for two digits and one more; a list three and one for each entry.
        item = {
            "key": {"S": "ü"},
            "n": {"N": "-12345"},
            "l": {"L": [{"BOOL": True}]},
            "m": {"M": {"a": {"NULL": True}}},
        }
        assert item_bytes(item) == (3 + 2) + (1 + 4) + (1 + 3 + 1 + 1) + (1 + 3 + 1 + 1 + 1)


class TestThePage:
    def test_is_up_to_date(self) -> None:
        assert PAGE.read_text() == page_of(load()), "run make cost-page"

    def test_the_readme_has_the_same_figures(self) -> None:
        readme = (PAGE.parents[1] / "README.md").read_text()
        measured = load()
        for uploads in (1_000, 20_000, 1_000_000):
            bills = [bill_of_ours(Load(images=uploads), measured, parameters) for parameters in (None, PHOTOS_ONLY)]
            kept = sum(line.dollars for line in bills[0].kept)
            month = [bill.dollars + kept for bill in bills]
            row = "".join(f" {dollars:,.2f} USD |" for dollars in (*month, kept))
            assert f"| {uploads:,} |{row}\n" in readme
        idle = [sum(line.dollars for line in bill.fixed) for bill in bills]
        assert "the stack costs {:.2f} USD, photos only {:.2f} USD".format(*idle) in readme

    def test_other_seconds_make_another_page(self) -> None:
        assert page_of(MEASURED) != page_of(replace(MEASURED, measured_on="2026-01-02"))

    def test_names_every_price_with_its_source(self) -> None:
        page = page_of(MEASURED)
        for price in PRICES.values():
            assert price.unit in page
            assert SOURCES[price.service] in page
