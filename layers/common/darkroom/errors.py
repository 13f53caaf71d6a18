"""What can go wrong with a message, and what to do about it.

    DarkroomError
    ├── PermanentFault             set it aside with its reason, acknowledge it
    │   ├── MalformedMessage       the body is none of the shapes we take
    │   ├── BucketNotAllowed       the task names a bucket that is not ours to read
    │   ├── ObjectGone             the object, or that version of it, is no longer there
    │   ├── TooLarge               more bytes than the limit
    │   ├── NotAnImage             no image format starts with these bytes
    │   ├── UnsupportedFormat      an image, of a format we do not take
    │   ├── TooManyPixels          a decompression bomb, or simply beyond the limit
    │   ├── TooManyFrames          an animation longer than the limit
    │   ├── DamagedImage           the header is fine, the pixels are not
    │   ├── DecoderCrashed         the file brought its decoder down
    │   ├── DecoderOutOfMemory     decoding takes more memory than an image of its size may
    │   ├── DecoderTooSlow         decoding takes more computing time than an image may
    │   ├── NoRoute                nothing says where messages of this RabbitMQ queue go
    │   ├── NotAcceptedBySqs       SQS takes no message like this
    │   ├── OrderIdReused          another order has this id
    │   ├── PaymentsNotConfigured  there is no key for the payment provider
    │   └── PaymentRequestRefused  the payment provider does not understand what we ask
    └── TransientFault             leave it in the queue and try again later
        ├── ServiceUnavailable     AWS or another service answered with an error that may pass, or not at all
        │   └── PaymentsUnavailable  it is the payment provider, which may also refuse our key
        ├── OutOfTime              the function would have to stop before the work is done
        ├── InProgressElsewhere    another delivery of the same task holds it
        └── UnexpectedError        a defect of ours: its traceback is in the log

A class's name is the ``error_code`` under which dead letters and metrics count it.
"""

from __future__ import annotations


class DarkroomError(Exception):
    """A fault of one message. ``str()`` of it is the reason a person reads."""

    @property
    def error_code(self) -> str:
        """The name that dead letters and metrics carry, such as ``NotAnImage``."""
        return type(self).__name__


class PermanentFault(DarkroomError):
    """Trying again cannot help."""


class MalformedMessage(PermanentFault):
    """The body is none of the shapes we take."""


class BucketNotAllowed(PermanentFault):
    """The task names a bucket that is not ours to read."""


class ObjectGone(PermanentFault):
    """The object, or that version of it, is no longer there."""


class TooLarge(PermanentFault):
    """More bytes than the limit."""


class NotAnImage(PermanentFault):
    """No image format starts with these bytes."""


class UnsupportedFormat(PermanentFault):
    """An image, but of a format we do not take."""


class TooManyPixels(PermanentFault):
    """A decompression bomb, or simply beyond the limit."""


class TooManyFrames(PermanentFault):
    """An animation longer than the limit."""


class DamagedImage(PermanentFault):
    """The header is fine, the pixels are not."""


class DecoderCrashed(PermanentFault):
    """The file brought its decoder down."""


class DecoderOutOfMemory(PermanentFault):
    """Decoding takes more memory than an image of its size may."""


class DecoderTooSlow(PermanentFault):
    """Decoding takes more computing time than an image may."""


class NoRoute(PermanentFault):
    """Nothing says where messages of this RabbitMQ queue go."""


class NotAcceptedBySqs(PermanentFault):
    """SQS takes no message like this."""


class OrderIdReused(PermanentFault):
    """Another order has this id."""


class PaymentsNotConfigured(PermanentFault):
    """There is no key for the payment provider."""


class PaymentRequestRefused(PermanentFault):
    """The payment provider does not understand what we ask: no fault of the customer's."""


class TransientFault(DarkroomError):
    """It may work later."""


class ServiceUnavailable(TransientFault):
    """AWS or another service answered with an error that may pass, or not at all."""


class PaymentsUnavailable(ServiceUnavailable):
    """The payment provider answered with an error that may pass, or not at all, or refused our key."""


class OutOfTime(TransientFault):
    """The function would have to stop before the work is done."""


class InProgressElsewhere(TransientFault):
    """Another delivery of the same task holds it.

    Parameters
    ----------
    retry_after:
        Seconds until that delivery must be finished or dead.
    """

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class UnexpectedError(TransientFault):
    """A defect of ours: its traceback is in the log."""
