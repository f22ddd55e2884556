"""What failed between here and a server: whether it may pass, how long to wait, and what to say."""

import errno
import random
import re
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Final, TypeVar

from ...errors import first_line

_T = TypeVar("_T")

TRIES: Final = 4
_FIRST_WAIT: Final = 0.5
_GROWTH: Final = 3.0
"""0.5, 1.5 and 4.5 s, each between half and one and a half of that: some 6 s in all, at most 10. An
object store that asks to slow down means seconds, and one that is gone for longer is gone for all
images: the run would stand still for each."""

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


def attempted(call: Callable[[], _T], tries: int = TRIES) -> _T:
    """Call something, a few times if that may help; the last error is raised as it is."""
    for failed in range(1, tries):
        try:
            return call()
        except Exception as error:  # of anybody's library
            if not passing(error):
                raise
            time.sleep(pause(failed))
    return call()


def pause(failed: int) -> float:
    """Seconds to wait before it is tried again, after so many failures."""
    # Jitter: 64 requests that were refused together would come back together.
    return _FIRST_WAIT * _GROWTH ** (failed - 1) * random.uniform(0.5, 1.5)


def why(error: BaseException, otherwise: str) -> str:
    """Why a URL cannot be used, and what to do; `otherwise` begins what is said of odd errors."""
    names = {kind.__name__ for kind in type(error).__mro__}
    status = status_of(error)
    if "NoCredentialsError" in names or "DefaultCredentialsError" in names:
        return (
            "no credentials were found; give them as for the library itself (for s3:// "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or FSSPEC_S3_ANON=true for "
            "what is public)"
        )
    if status == 404:
        return "there is no such bucket, folder or file (404); check the spelling"
    if status in (401, 403):
        return f"{told(error)}; check the credentials, and the rights that they give"
    if passing(error):
        return (
            f"not reached: {told(error)}; check the network and the address, then run the same "
            f"command again"
        )
    return f"{otherwise}: {told(error)}"


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
