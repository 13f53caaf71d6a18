"""The arithmetic behind the page and the exit code of `make bench`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from time import time
from typing import Any

import boto3
import pytest
from botocore.config import Config
from darkroom.deadline import Deadline
from darkroom.image_messages import read_body

from benchmarks.rendering import fake_aws
from benchmarks.rendering.cold_start import FUNCTIONS, by_package
from benchmarks.rendering.figures import Encoded, at_ssim, geometric_mean, price, price_of_two, ratio_of_pairs, spread
from benchmarks.rendering.targets import Bound, bounds, figures, figures_of_rendering
from functions.process_image.image_events_topic import SnsImageEvents
from functions.process_image.images_table import DynamoDbImages
from functions.process_image.ports import Result
from functions.process_image.process import process
from functions.process_image.s3 import S3Renditions, S3Uploads
from functions.process_image.tasks_table import DynamoDbTasks
from tests.template.template import ROOT, load
from tests.unit.fakes import World, photo, upload_event

NEVER_AGAIN = Config(retries={"total_max_attempts": 1})

SHARP = {"bytes": 1000, "ssim": 0.9, "ssimulacra2": 70.0}
AT_LEAST = Bound("speed", "how much faster", target=1.5, budget=1.2, at_least=True)
AT_MOST = Bound("memory", "how much memory", target=100, budget=140, at_least=False)


class TestSpread:
    def test_one_outlier_moves_neither_the_median_nor_the_middle_half(self) -> None:
        assert spread([1.0, 1.0, 1.0, 1.0, 9.0]) == spread([1.0, 1.0, 1.0, 1.0, 1.0])

    def test_a_single_round_has_no_width(self) -> None:
        alone = spread([2.0])

        assert (alone.low, alone.median, alone.high) == (2.0, 2.0, 2.0)


class TestRatioOfPairs:
    def test_what_slows_a_whole_round_down_cancels_out(self) -> None:
        quiet, busy = 1.0, 7.0

        ratio = ratio_of_pairs([3.0 * quiet, 3.0 * busy], [2.0 * quiet, 2.0 * busy])

        assert ratio.low == ratio.median == ratio.high == 1.5

    def test_rounds_pair_up(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            ratio_of_pairs([1.0, 2.0], [1.0])


class TestGeometricMean:
    def test_half_and_double_cancel_out(self) -> None:
        assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)


class TestEncodingsAtEqualQuality:
    LOW, HIGH = Encoded(0.90, bytes=1000, seconds=1.0), Encoded(0.96, bytes=4000, seconds=3.0)

    def test_lie_between_their_neighbours_bytes_by_ratio_and_seconds_by_difference(self) -> None:
        halfway = at_ssim(0.93, [self.HIGH, self.LOW])

        assert halfway is not None
        assert halfway.bytes == pytest.approx(2000)
        assert halfway.seconds == pytest.approx(2.0)

    def test_at_an_encoding_are_that_encoding(self) -> None:
        found = at_ssim(0.90, [self.LOW, self.HIGH])

        assert found is not None
        assert (found.bytes, found.seconds) == pytest.approx((1000, 1.0))

    @pytest.mark.parametrize("ssim", [0.89, 0.97])
    def test_are_not_guessed_beyond_what_was_measured(self, ssim: float) -> None:
        assert at_ssim(ssim, [self.LOW, self.HIGH]) is None


class TestPrice:
    def test_a_gigabyte_is_stored_for_twelve_months(self) -> None:
        assert price(seconds=0, size=1e9, views=0) == pytest.approx(12 * 0.023)

    def test_every_view_is_a_transfer(self) -> None:
        assert price(0, 1e9, views=10) - price(0, 1e9, views=0) == pytest.approx(10 * 0.085)

    def test_a_second_is_one_of_a_whole_core(self) -> None:
        assert price(seconds=1, size=0, views=0) == pytest.approx(1.7275 * 0.0000133334, rel=1e-3)

    def test_of_two_formats_is_that_of_both_each_sent_to_its_share_and_one_write_more(self) -> None:
        usual, better = (1.0, 2e9), (3.0, 1e9)
        made = price(*usual, views=0) + price(*better, views=0) + 5e-6
        assert price_of_two(usual, better, views=0, share=0.9) == pytest.approx(made)
        sent = 10 * (0.1 * 2 + 0.9 * 1) * 0.085
        assert price_of_two(usual, better, views=10, share=0.9) == pytest.approx(made + sent)


class TestBounds:
    @pytest.mark.parametrize(
        ("bound", "measured", "met", "kept"),
        [
            (AT_LEAST, 1.5, True, True),
            (AT_LEAST, 1.3, False, True),
            (AT_LEAST, 1.1, False, False),
            (AT_MOST, 100, True, True),
            (AT_MOST, 120, False, True),
            (AT_MOST, 141, False, False),
        ],
    )
    def test_a_missed_target_does_not_break_the_budget(
        self, bound: Bound, measured: float, met: bool, kept: bool
    ) -> None:
        assert (bound.is_met(measured), bound.is_kept(measured)) == (met, kept)

    def test_every_budget_is_more_generous_than_its_target(self) -> None:
        assert bounds()
        assert [bound.what for bound in bounds() if not bound.is_kept(bound.target)] == []

    def test_every_bound_has_a_measurement(self) -> None:
        assert {bound.figure for bound in bounds()} <= figures().keys()

    def test_each_figure_has_one_bound(self) -> None:
        named = [bound.figure for bound in bounds()]

        assert len(named) == len(set(named))


class TestDetail:
    """Given a photo of every kind, when Darkroom's renditions are compared with sharp's, then only a loss counts."""

    @pytest.mark.parametrize(
        ("renditions", "lost"),
        [
            ([SHARP | {"bytes": 900, "ssim": 0.95, "ssimulacra2": 75.0}], (-0.1, -0.05, -5.0)),
            ([SHARP | {"bytes": 900}, SHARP | {"bytes": 1030, "ssim": 0.89, "ssimulacra2": 69.0}], (0.03, 0.01, 1.0)),
        ],
    )
    def test_the_worst_rendition_counts(
        self, renditions: list[dict[str, float]], lost: tuple[float, float, float]
    ) -> None:
        row = {"photo": "p", "set": "webp", "megapixels": 12, "kind": True, "ratio": {"median": 1.0}, "peak_mb": None}
        row |= {"ssim": 0.9, "bytes": 1000}
        ours = row | {"baseline": "ours", "renditions": renditions}
        sharp = row | {"baseline": "sharp, one decode", "renditions": [SHARP] * len(renditions)}

        found = figures_of_rendering([ours, sharp])

        assert tuple(found[f"detail / {name}"] for name in ("bytes", "ssim", "ssimulacra2")) == pytest.approx(lost)


class TestFakeAws:
    """A batch that is measured meets no error: each would be tried again, and the batch would fail in the end."""

    @pytest.fixture
    def client(self, tmp_path: Path) -> Iterator[Any]:
        (tmp_path / "a.jpg").write_bytes(photo())
        server = fake_aws.serve(tmp_path, 0)
        Thread(target=partial(server.serve_forever, poll_interval=0.01)).start()
        yield partial(boto3.client, endpoint_url=f"http://127.0.0.1:{server.server_port}", config=NEVER_AGAIN)
        server.shutdown()
        server.server_close()

    def test_an_image_is_processed_at_its_first_delivery(self, client: Any) -> None:
        # given the real adapters
        s3, dynamodb = client("s3"), client("dynamodb")
        with ThreadPoolExecutor() as transfers:
            dependencies = replace(
                World().dependencies(),
                uploads=S3Uploads(s3),
                renditions=S3Renditions(s3, "renditions", transfers),
                tasks=DynamoDbTasks(dynamodb, "tasks", 1),
                images=DynamoDbImages(dynamodb, "images", 1),
                events=SnsImageEvents(client("sns"), "arn:aws:sns:eu-central-1:123456789012:images"),
            )
            (task,) = read_body(upload_event(version_id="a.jpg"))
            # when
            outcome = process(task, Deadline(time() + 50), dependencies=dependencies)
        # then
        assert outcome.result is Result.PROCESSED


class TestImports:
    def test_it_is_summed_by_package_without_the_handlers_own_time(self) -> None:
        lines = [
            "import time: self [us] | cumulative | imported package",
            "import time:      1500 |       1500 |     botocore.utils",
            "import time:       500 |       2000 |   botocore",
            "import time:       250 |        250 |   functions.relay_rabbitmq",
            "import time:    400000 |     402250 | functions.relay_rabbitmq.app",
            "/opt/python: a warning",
        ]

        assert by_package(lines, "functions.relay_rabbitmq.app") == {
            "all": 2.25,
            "packages": {"botocore": 2.0, "functions": 0.25},
        }

    def test_every_function_is_measured_with_the_layers_that_the_template_gives_it(self) -> None:
        functions = load((ROOT / "template.yaml").read_text()).functions

        in_template = {name: {layer["Ref"] for layer in values["Layers"]} for name, values in functions.items()}
        assert {name: set(function.layers) for name, function in FUNCTIONS.items()} == in_template


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_measured_function_has_all_its_settings(name: str) -> None:
    module = import_module(FUNCTIONS[name].module.removesuffix("app") + "settings")
    assert module.Settings.from_environment(FUNCTIONS[name].environment)
