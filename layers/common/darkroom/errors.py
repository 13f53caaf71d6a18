"""The faults of a message, and what Darkroom does about each.

    DarkroomError
    ├── PermanentFault             move it to the dead-letter queue with its reason
    │   ├── MalformedMessage       the body has none of the accepted shapes
    │   ├── BucketNotAllowed       the task names a bucket that the stack does not read
    │   ├── ObjectGone             the object, or that version of it, no longer exists
    │   ├── TooLarge               more bytes than the limit
    │   ├── NotAnImage             the file does not start like any image format
    │   ├── UnsupportedFormat      an image, but in a format that is not supported
    │   ├── TooManyPixels          a decompression bomb, or simply over the limit
    │   ├── TooManyFrames          an animation longer than the limit
    │   ├── DamagedImage           the header is valid, the pixel data is not
    │   ├── DecoderCrashed         the file crashed its decoder
    │   ├── DecoderOutOfMemory     decoding needs more memory than an image of its size should
    │   ├── DecoderTooSlow         decoding needs more CPU time than an image should
    │   ├── NotAcceptedBySqs       SQS does not accept such a message
    │   ├── OrderIdReused          another order has this id
    │   ├── PaymentsNotConfigured  there is no key for the payment provider
    │   ├── PaymentKeyRefused      the key for the payment provider has the wrong mode, or lacks a permission
    │   ├── ProductUnknown         the inventory has no such product
    │   ├── StockRecordInvalid     the inventory's record of a product has no number where one belongs
    │   └── PaymentRequestRefused  the payment provider refuses the request, not the customer
    └── TransientFault             leave it in the queue and retry later
        ├── ServiceUnavailable     AWS or another service failed or did not answer
        │   └── PaymentsUnavailable  the payment provider failed, did not answer, or refused the key
        ├── OutOfTime              the function would time out before the work is done
        │   └── NotBegun             so the work did not begin, and no attempt is counted
        ├── InProgressElsewhere    another delivery of the same task is processing it
        ├── ImageChanging          other deliveries keep changing the record of the image
        ├── NoRoute                no target is configured for this RabbitMQ queue: its messages stay on the broker
        └── UnexpectedError        a defect in Darkroom: its traceback is in the log

The name of a class is the ``error_code`` of dead letters and metrics. A redrive knows dead letters by it, so a class
stays for 14 days after its last use, as long as SQS keeps its dead letters.
"""

from __future__ import annotations


class DarkroomError(Exception):
    """A fault of one message. ``str()`` of it is the reason, for people."""

    @property
    def error_code(self) -> str:
        """The name that dead letters and metrics carry, such as ``NotAnImage``."""
        return type(self).__name__


class PermanentFault(DarkroomError):
    """A retry cannot help."""


class MalformedMessage(PermanentFault):
    """The body has none of the accepted shapes."""


class BucketNotAllowed(PermanentFault):
    """The task names a bucket that the stack does not read."""


class ObjectGone(PermanentFault):
    """The object, or that version of it, no longer exists."""


class TooLarge(PermanentFault):
    """More bytes than the limit."""


class NotAnImage(PermanentFault):
    """The file does not start like any image format."""


class UnsupportedFormat(PermanentFault):
    """An image, but in a format that is not supported."""


class TooManyPixels(PermanentFault):
    """A decompression bomb, or simply over the limit."""


class TooManyFrames(PermanentFault):
    """An animation longer than the limit."""


class DamagedImage(PermanentFault):
    """The header is valid, the pixel data is not."""


class DecoderCrashed(PermanentFault):
    """The file crashed its decoder."""


class DecoderOutOfMemory(PermanentFault):
    """Decoding needs more memory than an image of its size should."""


class DecoderTooSlow(PermanentFault):
    """Decoding needs more CPU time than an image should."""


class NotAcceptedBySqs(PermanentFault):
    """SQS does not accept such a message."""


class OrderIdReused(PermanentFault):
    """Another order has this id."""


class PaymentsNotConfigured(PermanentFault):
    """There is no key for the payment provider."""


class PaymentKeyRefused(PermanentFault):
    """The key for the payment provider is of the wrong mode, or lacks a permission."""


class ProductUnknown(PermanentFault):
    """The inventory has no such product: nobody can tell whether it is out of stock."""


class StockRecordInvalid(PermanentFault):
    """The inventory's record of a product has no number where one belongs."""


class PaymentRequestRefused(PermanentFault):
    """The payment provider refuses the request: not the customer's fault."""


class TransientFault(DarkroomError):
    """A retry can help.

    ``receives_not_counted``: how many earlier receives of the message did not begin its task; None if unknown.
    """

    receives_not_counted: int | None = None


class ServiceUnavailable(TransientFault):
    """AWS or another service failed or did not answer."""


class PaymentsUnavailable(ServiceUnavailable):
    """The payment provider failed, did not answer, or refused the key."""


class OutOfTime(TransientFault):
    """The function would time out before the work is done."""


class NotBegun(OutOfTime):
    """The work would not be done before the function times out, so it did not begin. No attempt is counted."""


class InProgressElsewhere(TransientFault):
    """Another delivery of the same task is processing it.

    Parameters
    ----------
    retry_after:
        Seconds until that delivery has finished or died.
    """

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class ImageChanging(TransientFault):
    """Other deliveries kept changing the record of this task's image."""


class NoRoute(TransientFault):
    """No target is configured for this RabbitMQ queue: its messages stay on the broker."""


class UnexpectedError(TransientFault):
    """A defect in Darkroom: its traceback is in the log."""
