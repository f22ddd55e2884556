"""What failed between here and a server: whether it may pass, and how long to wait for that."""

import errno
import random
import re
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from ....features.errors import first_line
from ....features.records import AGAIN
from ..image import Unreadable

TRIES: Final = 4
_FIRST_WAIT: Final = 0.5
_GROWTH: Final = 3.0
"""0.5, 1.5 and 4.5 s, each between half and one and a half of that: some 6 s in all, at most 10. An
object store that asks to slow down means seconds, and one that is gone for longer is gone for all
images: the run would stand still for each."""

_LONGEST: Final = 20.0
"""Seconds after which it is not tried a third time: where tries take so long, time limits end them
(one connection may be dead, as it was kept for long; the next is not)."""

_PASSING_STATUS: Final = frozenset(
    (408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 522, 524, 529)
)
_PASSING_CODES: Final = frozenset(
    (
        "SlowDown RequestTimeout RequestTimeoutException InternalError ServiceUnavailable "
        "ServerBusy OperationTimedOut ThrottlingException Throttling TooManyRequests "
        "RequestThrottled RequestLimitExceeded BandwidthLimitExceeded"
    ).split()
)
"""Of S3 and Azure; some come with a status that says otherwise."""

_PASSING_NUMBERS: Final = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN EBUSY ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH EIO EINTR "
        "ENETDOWN ENETRESET ENETUNREACH EPIPE EREMOTEIO ETIMEDOUT EMFILE ENFILE ENOBUFS"
    ).split()
    if hasattr(errno, name)
)
_PASSING_KINDS: Final = frozenset(
    (
        # aiohttp, on which s3fs, gcsfs and adlfs stand
        "ClientPayloadError ClientConnectionError ServerDisconnectedError ServerTimeoutError "
        # botocore
        "HTTPClientError EndpointConnectionError ConnectionClosedError ReadTimeoutError "
        "ConnectTimeoutError ResponseStreamingError IncompleteReadError ResponseParserError "
        # urllib3, requests, http.client, httpx, azure, and fsspec itself
        "IncompleteRead ProtocolError ChunkedEncodingError Timeout RemoteDisconnected "
        "BadStatusLine TransportError ServiceRequestError ServiceResponseError FSTimeoutError"
    ).split()
)
"""By name: which of these libraries is there depends on where the images lie."""

_LASTING_KINDS: Final = frozenset(
    "ClientConnectorCertificateError ClientSSLError SSLCertVerificationError SSLError "
    "InvalidURL InvalidUrlClientError NonHttpUrlClientError UnsupportedProtocol".split()
)
_WITH_CODE: Final = ("HttpError", "HTTPError")
"""Of gcsfs and of Python; aiohttp has 400 as the code of a body that was cut off."""

_SIGNED: Final = re.compile(r"\?[^\s'\")]*|(?<=://)[^/@\s]*:[^/@\s]*@")


class Gone(Unreadable):
    """It could not be read now, however often it was tried."""


class Tries:
    """How often something has been tried, and whether it is tried once more.

    ``while True: try: return ...; except Exception as error: sleep(tries.wait(error))``
    """

    def __init__(self, most: int = TRIES) -> None:
        self._most = most
        self._failed = 0
        self._started = time.monotonic()

    @property
    def failed(self) -> int:
        """How many tries have failed."""
        return self._failed

    def give_up(self) -> None:
        """Try no more after the next failure."""
        self._most = 1

    def wait(self, error: BaseException) -> float:
        """Seconds to wait before the next try.

        Raises
        ------
        Unreadable
            If there is none: the error will not pass, or has not.
        """
        self._failed += 1
        if isinstance(error, Unreadable | MemoryError):
            raise error
        if status_of(error) == 416:  # it has no such bytes any more
            raise Unreadable(f"changed since it was listed; {AGAIN}") from error
        if not passing(error):
            raise Unreadable(f"cannot be read: {told(error)}") from error
        late = self._failed > 1 and time.monotonic() - self._started > _LONGEST
        if self._failed >= self._most or late:
            tries = "1 try" if self._failed == 1 else f"{self._failed} tries"
            raise Gone(f"cannot be read now: {told(error)}, after {tries}; {AGAIN}") from error
        # Jitter: 64 requests that were refused together would come back together.
        return _FIRST_WAIT * _GROWTH ** (self._failed - 1) * random.uniform(0.5, 1.5)


def passing(error: BaseException) -> bool:
    """Whether an error may be gone the next time."""
    chain = list(_chain(error))
    kinds = [{kind.__name__ for kind in type(one).__mro__} for one in chain]
    if any(names & _LASTING_KINDS for names in kinds):
        return False
    if any(code in _PASSING_CODES for code in map(_code, chain)):
        return True
    status = next(filter(None, map(_status, chain)), None)
    if status is not None:
        return status in _PASSING_STATUS
    if any(isinstance(one, FileNotFoundError | PermissionError) for one in chain):
        return False
    if any(isinstance(one, TimeoutError | ConnectionError | EOFError) for one in chain):
        return True
    if any(isinstance(one, OSError) and one.errno in _PASSING_NUMBERS for one in chain):
        return True
    return any(names & _PASSING_KINDS for names in kinds)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error tells of, if it does."""
    status = next(filter(None, map(_status, _chain(error))), None)
    if status is not None:
        return status
    chain = list(_chain(error))
    if any(isinstance(one, FileNotFoundError) for one in chain):
        return 404
    return 403 if any(isinstance(one, PermissionError) for one in chain) else None


def told(error: BaseException) -> str:
    """What an error says, in a few words without addresses, which may hold a signature."""
    status = status_of(error)
    code = next(filter(None, map(_code, _chain(error))), "")
    if status is not None:
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "error of the server"
        meant = {404: "it is not there", 403: "access is denied", 401: "credentials are needed"}
        said = meant.get(status, phrase)
        return f"{said} ({status}{f' {code}' if code and not code.isdigit() else ''})"
    if code:
        return code
    if any(isinstance(one, TimeoutError) and not str(one) for one in _chain(error)):
        return "no answer in time"
    last = next(_chain(error), error)
    return _SIGNED.sub("", first_line(last))[:300]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it comes from: s3fs and others translate them."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        # fsspec's HTTP says "not found" whatever has kept it from finding out.
        if not (isinstance(seen, FileNotFoundError) and seen.__cause__ is not None):
            yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _status(error: BaseException) -> int | None:
    """The HTTP status of an error of botocore, aiohttp, gcsfs, azure or requests."""
    response: Any = getattr(error, "response", None)
    found: list[Any] = [getattr(error, name, None) for name in ("status", "status_code")]
    if type(error).__name__ in _WITH_CODE:
        found.append(getattr(error, "code", None))
    if isinstance(response, dict):
        found.insert(0, response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    else:
        found.append(getattr(response, "status_code", None))
    for one in found:
        number = int(one) if isinstance(one, str) and one.isdigit() else one
        if isinstance(number, int) and 400 <= number < 600:
            return number
    return None


def _code(error: BaseException) -> str:
    """The name that the server gives the error."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    code = getattr(error, "error_code", None)
    return str(code) if isinstance(code, str) else ""
