"""What a month of images costs: counted, multiplied, and written down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import cost
from benchmarks.cost import Load, bill_of_ours, bill_of_sample, page_of, rendering_seconds
from benchmarks.function_seconds import Measured, Seconds, item_bytes, load
from benchmarks.prices import PRICES, REGIONS, SOURCES

# Round numbers: a second of the CPU for 12 megapixels, two for 24; the sample takes twice that; half of it parallel.
MEASURED = Measured(
    machine="none",
    measured_on="2026-01-01",
    rendering=(
        Seconds(megapixels=12, ours=1, sample=2, one_core=1, two_cores=0.75),
        Seconds(megapixels=24, ours=2, sample=4, one_core=2, two_cores=1.5),
    ),
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
    def test_every_price_is_above_nothing_in_every_region_and_says_where_it_stands(self) -> None:
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
        # Waits: 2 x 40 + 4 x 6 + 12 ms for calls, 4 MB at 80 MB/s; then a second of the CPU.
        seconds = 0.080 + 0.024 + 0.012 + 0.050 + 1
        assert dollars(MILLION, "lambda.arm64") == pytest.approx(1e6 * seconds * 1769 / 1024 * 0.0000133334)
        assert dollars(MILLION, "lambda.request") == pytest.approx(0.20)

    def test_of_s3_each_rendition_is_a_put(self) -> None:
        assert dollars(MILLION, "s3.put") == pytest.approx(cost.renditions() * 5.0)
        assert dollars(MILLION, "s3.get") == pytest.approx(0.40)

    def test_of_sqs_two_messages_and_their_batch(self) -> None:
        assert dollars(MILLION, "sqs.request") == pytest.approx(4 * 0.40)
        assert dollars(replace(MILLION, batch=10), "sqs.request") == pytest.approx(2.2 * 0.40)

    def test_of_dynamodb_by_begun_kilobytes(self) -> None:
        assert dollars(MILLION, "dynamodb.write") == pytest.approx((1 + 1 + 2) * 0.625)
        assert dollars(MILLION, "dynamodb.read") == pytest.approx(0.5 * 0.125)

    def test_of_logs_by_image_and_batch(self) -> None:
        assert dollars(MILLION, "cloudwatch.logs") == pytest.approx(2.0 * 0.50)
        assert dollars(replace(MILLION, batch=10), "cloudwatch.logs") == pytest.approx(0.65 * 0.50)

    def test_of_traces_beyond_one_a_second_a_twentieth(self) -> None:
        assert dollars(MILLION, "xray.trace") == pytest.approx(5.0)
        busy = replace(MILLION, images=11 * cost.SECONDS_A_MONTH)
        assert dollars(busy, "xray.trace") == pytest.approx(1.5 * cost.SECONDS_A_MONTH * 5e-6)

    def test_the_fixed_part_does_not_grow_with_the_images(self) -> None:
        few, many = (bill_of_ours(replace(MILLION, images=n), MEASURED).fixed for n in (1e3, 1e9))
        assert few == many

    def test_what_is_kept_is_not_part_of_what_runs(self) -> None:
        bill = bill_of_ours(MILLION, MEASURED)
        uploads = next(line for line in bill.kept if line.driver.startswith("uploads"))
        assert uploads.dollars == pytest.approx(4000 * 0.023)
        assert bill.dollars == pytest.approx(sum(line.dollars for line in bill.running + bill.fixed))


class TestTheUsualSample:
    def test_waits_for_every_put_and_for_every_record(self) -> None:
        seconds = 0.040 * (1 + cost.renditions()) + 0.050 + 2
        for batch in (1, 10):
            of = replace(MILLION, batch=batch)
            assert cost.billed_seconds_of_sample(of, MEASURED) == pytest.approx(seconds)

    def test_ours_waits_once_for_a_batch(self) -> None:
        alone, ten = (cost.billed_seconds_of_ours(replace(MILLION, batch=n), MEASURED) for n in (1, 10))
        assert [alone, ten] == pytest.approx([1.166, 1.0166])

    def test_pays_for_no_table(self) -> None:
        assert not [line for line in bill_of_sample(MILLION, MEASURED).running if line.component == "DynamoDB"]


class TestMemory:
    def test_below_one_cpu_time_grows_as_memory_shrinks(self) -> None:
        assert rendering_seconds(1, 1769, parallel=0.5) == 1
        assert rendering_seconds(1, 884, parallel=0.5) == pytest.approx(1769 / 884)

    def test_a_second_cpu_takes_only_the_parallel_share(self) -> None:
        assert rendering_seconds(1, 2 * 1769, parallel=0.5) == 0.75
        assert rendering_seconds(1, 2 * 1769, parallel=0) == 1

    def test_a_third_cpu_has_nothing_to_do(self) -> None:
        assert rendering_seconds(1, 4 * 1769, parallel=0.5) == rendering_seconds(1, 2 * 1769, parallel=0.5)

    def test_the_parallel_share_is_what_two_cores_save(self) -> None:
        assert cost.parallel_share(one_core=1, two_cores=0.75) == 0.5
        assert cost.parallel_share(one_core=1, two_cores=1.1) == 0

    def test_the_best_size_costs_at_most_a_hundredth_more_than_any(self) -> None:
        bills = {m: bill_of_ours(replace(MILLION, memory_mb=m), MEASURED).dollars for m in cost.MEMORY_SIZES}
        best = cost.best_memory(MILLION, MEASURED)
        assert bills[best] <= 1.01 * min(bills.values())
        assert all(bills[size] > 1.01 * min(bills.values()) for size in bills if size > best)


class TestWhatWasMeasured:
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
        assert cost.PAGE.read_text() == page_of(load()), "run make cost-page"

    def test_other_seconds_make_another_page(self) -> None:
        assert page_of(MEASURED) != page_of(replace(MEASURED, measured_on="2026-01-02"))

    def test_names_every_price_with_its_source(self) -> None:
        page = page_of(MEASURED)
        for price in PRICES.values():
            assert price.unit in page
            assert SOURCES[price.service] in page
