"""Units that workers have published at a URL, fetched as they are heard of."""

import collections
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

from ....features.durable.remote.url import public
from ....features.errors import FeatureFileError
from ....features.journal.outputs import Output
from ..unit import Done


def fetched(made: Iterable[Done], output: Output) -> Iterator[Done]:
    """The same; at a URL each unit is fetched into the mirror meanwhile, from which it is sealed.

    At the end nothing is left to be fetched, and a worker that writes to some other place is found
    out by its first unit.

    Raises
    ------
    FeatureFileError
        If a unit is not there: its worker writes elsewhere, or another run has sealed.
    """
    if not output.far:
        yield from made
        return
    threads, coming = output.server.threads(), collections.deque[Future[None]]()
    try:
        for done in made:
            if done.unit:
                coming.append(threads.submit(_fetch, output, done))
            while coming and coming[0].done():
                coming.popleft().result()
            yield done
        for one in coming:
            one.result()
    finally:
        threads.shutdown(cancel_futures=True)


def _fetch(output: Output, done: Done) -> None:
    if output.take(done.unit):
        return
    if output.server.told() != output.then:
        raise output.overtaken()
    raise FeatureFileError(
        f"{public(output.name)}: {done.unit}, a unit that the worker process "
        f"{done.worker.partition('-')[0]} has published, is not there; does the environment of the "
        f"worker name another server or account, or has somebody deleted it? Mend that, and run "
        f"the same command again"
    )
