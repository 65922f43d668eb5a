"""What tests/guests/conformance does in Rust, in Python."""

import pointsman
from pointsman import Header, Output


class Conformance(pointsman.Plugin):
    def __init__(self, config):
        if "refuse" in config:
            raise pointsman.Refused("asked to refuse")
        self.config = config

    def process(self, event):
        answer = event.header("answer")
        judge = ANSWERS.get(answer.value) if answer else None
        return judge() if judge else self.describe(event)

    def describe(self, event):
        pointsman.log(pointsman.Level.INFO, "described")
        pointsman.count("described")
        timestamp = -1 if event.timestamp_ms is None else event.timestamp_ms
        fields = [
            in_hex(self.config.encode()),
            in_hex(event.topic.encode()),
            event.partition,
            event.offset,
            timestamp,
            event.attempt,
            in_hex(event.key),
            in_hex(event.value),
            "".join(f"{in_hex(header.name.encode())}={in_hex(header.value)}," for header in event.headers),
        ]
        return pointsman.emit(Output(value="|".join(map(str, fields)).encode()))


def in_hex(value):
    """Null is a dash."""
    return "-" if value is None else value.hex()


def trap():
    raise RuntimeError("asked to trap")


REWRITTEN = Output(
    key=b"new key",
    value=b"new value",
    headers=[Header("a", b"1"), Header("a", b"\xff\x00"), Header("n", None)],
    timestamp_ms=1,
)

ANSWERS = {
    b"pass": pointsman.keep,
    b"drop": lambda: pointsman.drop("asked"),
    b"nothing": pointsman.emit,
    b"twice": lambda: pointsman.emit(Output("first"), Output("second")),
    b"rewrite": lambda: pointsman.emit(REWRITTEN),
    b"nulls": lambda: pointsman.emit(Output(key=None, value=None, headers=[])),
    b"empty": lambda: pointsman.emit(Output(key=b"", value=b"")),
    b"retry": lambda: pointsman.retry("busy"),
    b"retry-after": lambda: pointsman.retry_after(1500, "busy"),
    b"reject": lambda: pointsman.reject("bad", "not acceptable"),
    b"trap": trap,
}

pointsman.export(Conformance)
