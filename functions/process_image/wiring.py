"""The only place that puts real adapters together."""

from __future__ import annotations

import atexit
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import boto3
from botocore.config import Config
from darkroom.batch import MessageHandler
from darkroom.dead_letters import SqsDeadLetters
from darkroom.image_messages import ImageTask, read_body
from darkroom.messages import Unreadable
from darkroom.visibility import set_visibility_timeout

from functions.process_image import sandbox
from functions.process_image.admission import Admission
from functions.process_image.image_events_topic import SnsImageEvents
from functions.process_image.images_table import DynamoDbImages
from functions.process_image.memory_budget import MemoryBudget
from functions.process_image.process import Dependencies, Outcome, process
from functions.process_image.render_server import RenderServer
from functions.process_image.rendition_set import load_rendition_set
from functions.process_image.reporting import report, report_taken_over
from functions.process_image.s3 import S3Renditions, S3Uploads
from functions.process_image.settings import Settings
from functions.process_image.tasks_table import DynamoDbTasks

_RENDITION_SET = Path(__file__).with_name("renditions.toml")
_BATCH_SIZE = 10
# The function and its render server before the first image: 80 MB measured, and room for what boto3 buffers.
_MB_AT_REST = 200
# CPU time of one image: half of the function's time, so that the timeout does not come first. A bomb that the
# clock ends comes back. No more with more vCPU: an image uses two at best.
_CPU_SECONDS_OF_ONE_VCPU, _CPU_SECONDS = 25, 40
_MB_OF_ONE_VCPU = 1769  # https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
# A call that takes longer is better made again by the next delivery.
_CLIENTS = Config(
    connect_timeout=3, read_timeout=10, retries={"mode": "standard", "max_attempts": 3}, max_pool_connections=40
)


ImageMessages = MessageHandler[ImageTask | Unreadable, Outcome]


def build_message_handlers(settings: Settings) -> dict[str, ImageMessages]:
    """Build a handler of the messages of each queue, by the queue's name; the first is for live uploads.

    Raises
    ------
    InvalidRenditionSet, RenderDefect
        The rendition set is not valid, or the image libraries do not load.
    """
    free = (settings.memory_mb - _MB_AT_REST) * 2**20
    rendition_set = load_rendition_set(_RENDITION_SET)
    # First, because it loads the image libraries while this process makes its clients.
    admission = Admission(free - free // 4, vcpus=settings.memory_mb / _MB_OF_ONE_VCPU)
    sandbox.hide()  # before there is a process that could look
    renderer = RenderServer(settings.limits, rendition_set, admission, cpu_seconds(settings.memory_mb))
    atexit.register(renderer.close)
    s3 = boto3.client("s3", config=_CLIENTS)
    sqs = boto3.client("sqs", config=_CLIENTS)
    dynamodb = boto3.client("dynamodb", config=_CLIENTS)
    dependencies = Dependencies(
        uploads_bucket=settings.uploads_bucket,
        existing_uploads_buckets=settings.existing_uploads_buckets,
        limits=settings.limits,
        keep_location=settings.keep_location,
        addresses=settings.addresses,
        rendition_set=rendition_set,
        uploads=S3Uploads(s3),
        renderer=renderer,
        renditions=S3Renditions(s3, settings.renditions_bucket, ThreadPoolExecutor(max_workers=20)),
        tasks=DynamoDbTasks(dynamodb, settings.tasks_table, settings.task_retention_days),
        images=DynamoDbImages(dynamodb, settings.images_table, settings.task_retention_days),
        events=SnsImageEvents(boto3.client("sns", config=_CLIENTS), settings.image_events_topic_arn),
        dead_letters=SqsDeadLetters(sqs, settings.dead_letter_queue_url),
        download_budget=MemoryBudget(free // 4),
        note_taken_over=report_taken_over,
    )
    handler = MessageHandler(
        read=read_body,
        process=partial(process, dependencies=dependencies),
        dead_letters=dependencies.dead_letters,
        workers=ThreadPoolExecutor(max_workers=2 * _BATCH_SIZE),  # room for threads that still run after their deadline
        answerers=ThreadPoolExecutor(max_workers=_BATCH_SIZE),
        max_receives=settings.max_receives,
        max_attempts=settings.max_attempts,
        set_visibility_timeout=partial(set_visibility_timeout, sqs, settings.tasks_queue_url),
        report=report,
    )
    rerenders = replace(
        handler, set_visibility_timeout=partial(set_visibility_timeout, sqs, settings.rerender_queue_url)
    )
    renderer.wait_until_ready()
    return {_queue_name(settings.tasks_queue_url): handler, _queue_name(settings.rerender_queue_url): rerenders}


def _queue_name(url: str) -> str:
    return url.rpartition("/")[2]


def cpu_seconds(memory_mb: int) -> int:
    """Return the CPU time that one image may take in a function with this memory, which determines its vCPUs."""
    return min(_CPU_SECONDS, _CPU_SECONDS_OF_ONE_VCPU * memory_mb // _MB_OF_ONE_VCPU)
