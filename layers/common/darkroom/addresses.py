"""The public addresses of renditions, where the stack delivers them (docs/serve.md)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from darkroom.environment import Environment


@dataclass(frozen=True)
class Addresses:
    """Makes addresses.

    Attributes
    ----------
    images_url:
        What every address begins with, without a slash at the end; empty without delivery.
    prefixes:
        Only object keys with one of these are delivered.
    """

    images_url: str = ""
    prefixes: tuple[str, ...] = ("",)

    @classmethod
    def read(cls, environment: Environment) -> Addresses:
        """Read ``IMAGES_URL`` and ``DELIVERY_PREFIXES``, both of which may be empty."""
        return cls(environment.text_or_empty("IMAGES_URL"), read_prefixes(environment))

    def delivers(self, key: str) -> bool:
        """Return whether a key of the renditions bucket is one that everybody may read."""
        return key.startswith(self.prefixes)

    def of(self, image_key: str, name: str, key: str) -> dict[str, str]:
        """Return the addresses of a rendition; empty if it is not delivered.

        Parameters
        ----------
        image_key, name, key:
            The upload's key, the rendition's name and its key in the renditions bucket.

        Returns
        -------
        dict of str to str
            ``url`` of these very bytes, ``stable_url`` of what is published under the upload's key.
        """
        if not self.images_url or not self.delivers(key):
            return {}
        return {
            "url": f"{self.images_url}/{quote(key)}",
            "stable_url": f"{self.images_url}/i/{quote(image_key)}/{name}",
        }


def read_prefixes(environment: Environment) -> tuple[str, ...]:
    """Read ``DELIVERY_PREFIXES``; empty, it is the prefix of every key."""
    return tuple(environment.text_or_empty("DELIVERY_PREFIXES").split(","))
