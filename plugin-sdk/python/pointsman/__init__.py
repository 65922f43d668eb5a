"""Write Pointsman plugins in Python.

A plugin judges events, one verdict each: it lets them pass, drops them, emits others in their place, asks for a retry, or
rejects them. It is a class, in a file ``plugin.py``, and one line that makes a component of it::

    import pointsman

    class Recent(pointsman.Plugin):
        def process(self, event):
            if event.timestamp_ms is not None and event.timestamp_ms < 1_700_000_000_000:
                return pointsman.drop("too-old")
            return pointsman.keep()

    pointsman.export(Recent)

``pointsman plugin build`` builds it, and it is tested natively, with ``python -m unittest``.

A component in Python imports nothing but the router's log and counters, and nothing can be granted to it: what its
libraries say of the time and of randomness is made up, and what it prints is discarded.

An exception that is not caught is a trap: the record that caused it ends as a poison pill, and the instance is thrown away.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable, Optional, Type, Union


@dataclass(frozen=True)
class Header:
    """One header of a record. A value of ``None`` is null, which is not the same as empty."""

    name: str
    value: Optional[bytes]


@dataclass(frozen=True)
class Event:
    """A record of a source topic, or what an earlier stage made of it.

    Topic, partition and offset together name the record it comes from, for ever: a retried event has those of its source
    topic.
    """

    topic: str = "topic"
    partition: int = 0
    offset: int = 0
    #: Milliseconds since 1970-01-01 UTC; ``None`` where the log has no timestamp.
    timestamp_ms: Optional[int] = None
    #: ``None`` is null, which is not the same as empty.
    key: Optional[bytes] = None
    #: ``None`` is a tombstone.
    value: Optional[bytes] = None
    #: In order; a name may come several times.
    headers: "list[Header]" = field(default_factory=list)
    #: 1 on the first run of this event, 2 on its first retry, and so on.
    attempt: int = 1

    def header(self, name: str) -> Optional[Header]:
        """The last header of this name, as Kafka's own clients look headers up."""
        return next((header for header in reversed(self.headers) if header.name == name), None)

    def json(self) -> Any:
        """The value as JSON. Raises ``ValueError`` where it is none, and for a tombstone."""
        if self.value is None:
            raise ValueError("a tombstone has no value")
        return json.loads(self.value)


class _Keep:
    """What stays as the event has it."""

    def __repr__(self) -> str:
        return "KEEP"


#: A field of an output that stays as the event has it.
KEEP = _Keep()


@dataclass(frozen=True)
class Output:
    """One event that goes on in place of the one that came in. What is not named stays as the event has it."""

    #: The port it leaves by, of at most 64 bytes.
    port: Optional[str] = None
    #: ``None`` is null.
    key: Union[bytes, None, _Keep] = KEEP
    #: ``None`` is a tombstone.
    value: Union[bytes, None, _Keep] = KEEP
    #: Headers in place of the event's; to add to them, begin with those of the event.
    headers: Optional["list[Header]"] = None
    #: Milliseconds since 1970-01-01 UTC.
    timestamp_ms: Optional[int] = None


@dataclass(frozen=True)
class Pass:
    """It goes on unchanged."""


@dataclass(frozen=True)
class Drop:
    """It ends here, on purpose."""

    reason: str


@dataclass(frozen=True)
class Emit:
    """These go on in its place, in order."""

    outputs: "list[Output]"


@dataclass(frozen=True)
class Retry:
    """The whole record is tried again later."""

    reason: str
    delay_ms: Optional[int] = None


@dataclass(frozen=True)
class Reject:
    """It is not acceptable, and would not be later."""

    code: str
    message: str


#: What becomes of one event. Of each text that gives a reason the first 1024 bytes are kept.
Verdict = Union[Pass, Drop, Emit, Retry, Reject]


def keep() -> Verdict:
    """Pass: the event goes on unchanged. (``pass`` is a word of Python's own.)"""
    return Pass()


def drop(reason: str) -> Verdict:
    """The event ends here, on purpose. The reason is a short word of a small set, since metrics count by it."""
    return Drop(reason)


def emit(*outputs: Output) -> Verdict:
    """These go on in place of the event. None at all ends it, as a drop with the reason ``emitted-nothing``."""
    return Emit(list(outputs))


def retry(reason: str) -> Verdict:
    """A transient failure: the whole record is tried again later, from the first stage, on the route's schedule. The reason
    is a sentence for a person."""
    return Retry(reason)


def retry_after(delay_ms: int, reason: str) -> Verdict:
    """The same, but not before so many milliseconds have passed. The route's schedule may wait longer, and caps it."""
    return Retry(reason, max(0, delay_ms))


def reject(code: str, message: str) -> Verdict:
    """A permanent failure. The code is a short word of a small set, since metrics count by it; the message is a sentence
    for a person."""
    return Reject(code, message)


class Refused(Exception):
    """Raised by the constructor of a plugin whose configuration is not what it needs. The router then does not start, and
    shows the text."""


class Plugin:
    """Judges events. One instance of it lives in one sandbox.

    Nothing is promised about state between calls: instances are discarded, multiplied, and shared by partitions, and a
    batch that failed is run again in smaller parts. Keep what makes the next call cheaper, never what a verdict depends on.
    """

    def __init__(self, config: str) -> None:
        """Makes the plugin from its configuration, JSON text, once for each instance, before any event."""

    def process(self, event: Event) -> Verdict:
        """Judges one event."""
        raise NotImplementedError


class Level(Enum):
    """How much a log line matters."""

    #: For the plugin's author.
    DEBUG = 0
    #: For the record.
    INFO = 1
    #: Something is odd.
    WARN = 2
    #: Something is wrong.
    ERROR = 3


def log(level: Level, message: str) -> None:
    """Writes a line to the router's log, with route, lane and plugin as fields. At most 64 lines of 1024 bytes are kept of
    one call. What is said in a call that traps is forgotten with that call, but for the last line of level ``ERROR``."""
    _host.log(level, message)


def count(name: str, increment: int = 1) -> None:
    """Adds to one of the plugin's own counters. A name has 1 to 64 ASCII letters, digits, ``_``, ``-`` and ``.``."""
    _host.count(name, increment)


class Host:
    """What the router does for a plugin, where there is none: ``pointsman.testing_host()`` gives it to tests."""

    def __init__(self) -> None:
        #: Level and message of each line.
        self.lines: "list[tuple[Level, str]]" = []
        #: Sums by name.
        self.counts: "dict[str, int]" = {}

    def log(self, level: Level, message: str) -> None:
        self.lines.append((level, message))

    def count(self, name: str, increment: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + increment


_host: Any = Host()


def testing_host() -> Host:
    """A fresh host, which keeps what is logged and counted from now on. For tests."""
    global _host
    _host = Host()
    return _host


_exported: Optional[Callable[[str], Plugin]] = None


def export(plugin: Type[Plugin]) -> None:
    """Says what the component's plugin is. Call it once, in ``plugin.py``."""
    global _exported
    if _exported is not None:
        raise RuntimeError("pointsman.export is called twice: a component has one plugin")
    _exported = plugin
