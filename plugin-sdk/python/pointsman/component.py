"""The interface ``processor`` of the contract (wit/pointsman.wit) on the one side, the package on the other. Only
componentize-py imports it, which makes ``wit_world`` of the contract."""

import componentize_py_types
import wit_world.exports
from wit_world.imports import host, types

import pointsman


class _Router:
    """The router's own log and counters."""

    def log(self, level, message):
        host.log(host.Level(level.value), message)

    def count(self, name, increment):
        host.count(name, increment)


class Processor(wit_world.exports.Processor):
    """What the router calls."""

    def configure(self, config):
        global _plugin
        pointsman._host = _Router()
        if pointsman._exported is None:
            raise componentize_py_types.Err("plugin.py does not call pointsman.export")
        try:
            _plugin = pointsman._exported(config)
        except pointsman.Refused as refused:
            raise componentize_py_types.Err(str(refused))
        except BaseException as error:
            _panic(0, error)
            raise

    def process(self, events):
        verdicts = []
        try:
            for event in events:
                verdicts.append(_verdict(_plugin.process(_event(event))))
        except BaseException as error:
            _panic(len(verdicts), error)
            raise
        return verdicts


_plugin = None


def _panic(event, error):
    """Tells the router of an exception that nobody caught, with its place and the event that it was at. That ends the call."""
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    file = place.tb_frame.f_code.co_filename.rpartition("/")[2]
    host.panic(event, f"{type(error).__name__}: {error} ({file}:{place.tb_lineno})")


def _event(event):
    return pointsman.Event(
        event.topic,
        event.partition,
        event.offset,
        None if event.timestamp == -1 else event.timestamp,
        event.key,
        event.value,
        [pointsman.Header(header.name, header.value) for header in event.headers],
        event.attempt,
    )


def _verdict(verdict):
    if isinstance(verdict, pointsman.Pass):
        return types.Verdict_Pass()
    if isinstance(verdict, pointsman.Drop):
        return types.Verdict_Drop(verdict.reason)
    if isinstance(verdict, pointsman.Emit):
        return types.Verdict_Emit([_output(output) for output in verdict.outputs])
    if isinstance(verdict, pointsman.Retry):
        return types.Verdict_Retry(types.Retry(verdict.reason, verdict.delay_ms))
    if isinstance(verdict, pointsman.Reject):
        return types.Verdict_Reject(types.Rejection(verdict.code, verdict.message))
    raise TypeError(f"process has to return a verdict, not {type(verdict).__name__}")


def _output(output):
    headers = output.headers
    if headers is not None:
        headers = [types.Header(header.name, header.value) for header in headers]
    return types.Output(output.port, _patch(output.key), _patch(output.value), headers, output.timestamp_ms)


def _patch(field):
    if field is pointsman.KEEP:
        return types.Patch_Keep()
    return types.Patch_Null() if field is None else types.Patch_Set(field)
