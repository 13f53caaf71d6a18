from __future__ import annotations

import pytest
from darkroom.addresses import Addresses
from darkroom.environment import InvalidSettings

from functions.process_image.photo import Limits
from functions.process_image.settings import Settings
from functions.process_order.settings import Settings as OrderSettings
from functions.relay_rabbitmq.relay import Target
from functions.relay_rabbitmq.settings import Settings as RelaySettings

COMPLETE = {
    "UPLOADS_BUCKET": "uploads",
    "RENDITIONS_BUCKET": "renditions",
    "TASKS_TABLE": "tasks",
    "IMAGES_TABLE": "images",
    "TASKS_QUEUE_URL": "https://sqs/tasks",
    "RERENDER_QUEUE_URL": "https://sqs/rerenders",
    "IMAGE_EVENTS_TOPIC_ARN": "arn:topic",
    "IMAGES_URL": "https://images.example.com",
    "DELIVERY_PREFIXES": "shop/,trip/",
    "DEAD_LETTER_QUEUE_URL": "https://sqs/dead-letters",
    "MAX_RECEIVES": "5",
    "MAX_ATTEMPTS": "4",
    "MAX_IMAGE_BYTES": "52428800",
    "MAX_IMAGE_PIXELS": "100000000",
    "MAX_IMAGE_FRAMES": "300",
    "KEEP_LOCATION": "false",
    "TASK_RETENTION_DAYS": "30",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
}

COMPLETE_FOR_ORDERS = {
    "ORDERS_TABLE": "orders",
    "INVENTORY_TABLE": "inventory",
    "ORDER_RETENTION_DAYS": "never",
    "ORDER_EVENTS_TOPIC_ARN": "arn:topic",
    "ORDER_QUEUE_URL": "https://sqs/orders",
    "DEAD_LETTER_QUEUE_URL": "https://sqs/dead-letters",
    "MAX_RECEIVES": "15",
    "PAYMENT_SECRET_ARN": "arn:secret",
    "PAYMENTS_URL": "https://api.stripe.com",
}

COMPLETE_FOR_THE_RELAY = {
    "ROUTES": '{"image-tasks::/": "image-tasks", "orders::/shop": "orders"}',
    "IMAGE_TASKS_QUEUE_URL": "https://sqs/image-tasks",
    "ORDER_QUEUE_URL": "https://sqs/orders",
    "DEAD_LETTER_QUEUE_URL": "https://sqs/dead-letters",
}


def test_a_complete_environment_is_read() -> None:
    assert Settings.from_environment(COMPLETE | {"PATH": "/bin"}) == Settings(
        uploads_bucket="uploads",
        existing_uploads_buckets=frozenset(),
        renditions_bucket="renditions",
        tasks_table="tasks",
        images_table="images",
        tasks_queue_url="https://sqs/tasks",
        rerender_queue_url="https://sqs/rerenders",
        image_events_topic_arn="arn:topic",
        addresses=Addresses("https://images.example.com", ("shop/", "trip/")),
        dead_letter_queue_url="https://sqs/dead-letters",
        max_receives=5,
        max_attempts=4,
        limits=Limits(max_bytes=52_428_800, max_pixels=100_000_000, max_frames=300),
        keep_location=False,
        task_retention_days=30,
        memory_mb=1769,
    )


def test_existing_buckets_are_separated_by_commas() -> None:
    settings = Settings.from_environment(COMPLETE | {"EXISTING_UPLOADS_BUCKETS": "older,oldest"})
    assert settings.existing_uploads_buckets == {"older", "oldest"}


def test_a_complete_environment_of_orders_is_read() -> None:
    assert OrderSettings.from_environment(COMPLETE_FOR_ORDERS | {"PATH": "/bin"}) == OrderSettings(
        orders_table="orders",
        inventory_table="inventory",
        order_retention_days=None,
        order_events_topic_arn="arn:topic",
        order_queue_url="https://sqs/orders",
        dead_letter_queue_url="https://sqs/dead-letters",
        max_receives=15,
        payment_secret_arn="arn:secret",
        payments_url="https://api.stripe.com",
    )


def test_finished_orders_are_kept_for_some_days_if_so_wished() -> None:
    settings = OrderSettings.from_environment(COMPLETE_FOR_ORDERS | {"ORDER_RETENTION_DAYS": "60"})
    assert settings.order_retention_days == 60


@pytest.mark.parametrize("name", COMPLETE_FOR_ORDERS)
def test_orders_have_no_invented_defaults(name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name} is not set$"):
        OrderSettings.from_environment(COMPLETE_FOR_ORDERS | {name: ""})


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False)])
def test_a_flag_is_true_or_false(value: str, expected: bool) -> None:
    assert Settings.from_environment(COMPLETE | {"KEEP_LOCATION": value}).keep_location is expected


@pytest.mark.parametrize("name", COMPLETE)
def test_no_variable_has_an_invented_default(name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name} is not set$"):
        Settings.from_environment({other: value for other, value in COMPLETE.items() if other != name})


@pytest.mark.parametrize("name", sorted(COMPLETE.keys() - {"IMAGES_URL", "DELIVERY_PREFIXES"}))
def test_an_empty_variable_is_not_set(name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name} is not set$"):
        Settings.from_environment(COMPLETE | {name: ""})


def test_nothing_is_delivered_unless_there_is_an_address() -> None:
    addresses = Settings.from_environment(COMPLETE | {"IMAGES_URL": "", "DELIVERY_PREFIXES": ""}).addresses
    assert addresses == Addresses()
    assert addresses.of("a.jpg", "thumb", "a.jpg/1/thumb.webp") == {}


@pytest.mark.parametrize("value", ["0", "-1", "5.5", "five", " 5", "²"])
def test_a_number_is_whole_and_above_zero(value: str) -> None:
    with pytest.raises(InvalidSettings, match=r"MAX_RECEIVES is .*; it must be a whole number above 0"):
        Settings.from_environment(COMPLETE | {"MAX_RECEIVES": value})


@pytest.mark.parametrize("value", ["yes", "True", "1"])
def test_a_flag_has_no_other_value(value: str) -> None:
    with pytest.raises(InvalidSettings, match=f"KEEP_LOCATION is '{value}'; it must be 'true' or 'false'"):
        Settings.from_environment(COMPLETE | {"KEEP_LOCATION": value})


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InvalidSettings) as error:
        Settings.from_environment({})
    assert all(f"{name} is not set" in str(error.value) for name in COMPLETE)


def test_the_relays_environment_says_which_queue_leads_where() -> None:
    assert RelaySettings.from_environment(COMPLETE_FOR_THE_RELAY | {"PATH": "/bin"}) == RelaySettings(
        routes={"image-tasks::/": Target.IMAGE_TASKS, "orders::/shop": Target.ORDERS},
        queue_urls={Target.IMAGE_TASKS: "https://sqs/image-tasks", Target.ORDERS: "https://sqs/orders"},
        dead_letter_queue_url="https://sqs/dead-letters",
    )


@pytest.mark.parametrize("name", COMPLETE_FOR_THE_RELAY)
def test_the_relay_has_no_invented_defaults(name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name} is not set$"):
        RelaySettings.from_environment(COMPLETE_FOR_THE_RELAY | {name: ""})


def test_a_relay_may_have_no_routes_yet() -> None:
    assert RelaySettings.from_environment(COMPLETE_FOR_THE_RELAY | {"ROUTES": "{}"}).routes == {}


@pytest.mark.parametrize(
    "routes",
    [
        "image-tasks",
        '{"image-tasks::/": ',
        "null",
        "[]",
        '["image-tasks::/"]',
        '"image-tasks::/"',
        '{"image-tasks::/": "images"}',
        '{"image-tasks::/": null}',
        '{"image-tasks::/": ["orders"]}',
        '{"image-tasks::/": {"to": "orders"}}',
        '{"image-tasks::/": "image-tasks", "orders": "orders"}',
        '{"": "orders"}',
    ],
)
def test_routes_lead_from_a_queue_with_its_virtual_host_to_a_target(routes: str) -> None:
    with pytest.raises(InvalidSettings) as error:
        RelaySettings.from_environment(COMPLETE_FOR_THE_RELAY | {"ROUTES": routes, "ORDER_QUEUE_URL": ""})
    assert "ORDER_QUEUE_URL is not set" in str(error.value)
    assert f'ROUTES is {routes!r}; it must be JSON such as {{"queue::vhost": target}}' in str(error.value)
    assert 'target "image-tasks" or "orders"' in str(error.value)
