"""docs/api.md says what API Gateway is made from."""

from __future__ import annotations

from copy import deepcopy

from api.page import PAGE, load, page_of


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page_of(load()), "run make api-page"


def test_the_page_names_every_method_parameter_and_field() -> None:
    page = page_of(load())
    for told in (
        "GET /results",
        "DELETE /rejects/rabbitmq",
        "POST /orders",
        "`ReceiptHandle` | required",
        "`items[].quantity`",
    ):
        assert told in page


def test_another_description_gives_another_page() -> None:
    other = deepcopy(load())
    other["paths"]["/results"]["get"]["summary"] = "Look at nothing"
    assert "Look at nothing" in page_of(other)
