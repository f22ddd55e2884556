"""A URL on a list -> a reference to the image there, of which the server is asked at once."""

import dataclasses
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from ....features.durable.remote import failures
from ....features.durable.remote.system import stamp_of
from ....features.durable.remote.url import WEB, public
from ..image import Unreadable
from ..listing import Listing
from .folder import about_unstamped, unknown_stamp
from .reference import RemoteReference
from .store import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskedReference(RemoteReference):
    """An image of which the server has been asked, and has not answered yet; see `settled`."""

    answer: "Future[Mapping[str, Any]]" = dataclasses.field(compare=False)

    def exists(self) -> bool:
        """Whether the server has it, or does not say; waits for the answer."""
        return bool(self.now().stamp)

    def now(self) -> RemoteReference:
        """The image as the server says that it is."""
        info: Mapping[str, Any] = {}
        try:
            info = self.answer.result()
            stamp = stamp_of(info) or unknown_stamp()
        except Unreadable as error:  # reading it will say why
            gone = failures.status_of(error.__cause__ or error) in (404, 410)
            stamp = 0 if gone else unknown_stamp()
        return RemoteReference(
            self.path,
            self.location,
            self.label,
            self.split,
            self.group,
            store=self.store,
            key=self.key,
            size=info.get("size"),
            stamp=stamp,
        )

    @property
    def unstamped(self) -> bool:
        """Whether the server answers, and says nothing that tells when the image changes."""
        return self.answer.exception() is None and not stamp_of(self.answer.result())


def asked(address: str, label: str | None, split: str) -> AskedReference:
    """The image at a URL, of which the server is asked now; its path is the URL."""
    address = address.strip()
    name = public(address).encode("utf-8", "backslashreplace")
    store = Store(address)
    key = address if store.protocol in WEB else store.root
    return asked_of(store, key, name, name, label, split)


def settled(listing: Listing) -> Listing:
    """The same listing, when all servers have answered."""
    images = [
        image.now() if isinstance(image, AskedReference) else image for image in listing.images
    ]
    count = sum(isinstance(image, AskedReference) and image.unstamped for image in listing.images)
    return dataclasses.replace(
        listing, images=images, notes=[*listing.notes, *about_unstamped(count)]
    )


def asked_of(
    store: Store, key: str, path: bytes, location: bytes, label: str | None, split: str
) -> AskedReference:
    """A file of a store, of which the server is asked now."""
    answer = store.begin_info(key)
    return AskedReference(
        path, location, label, split, store=store, key=key, size=None, stamp=1, answer=answer
    )
