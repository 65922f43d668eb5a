"""Converts amounts to one currency, by the rates of its configuration::

    config = { to = "EUR", rates = { USD = "0.92", JPY = "0.0061" }, digits = 2 }

``{"amount": 12.50, "currency": "USD"}`` becomes ``{"amount":11.50,"currency":"EUR"}``. An amount is a JSON number or a string with
a decimal number, and stays what it was; the fields have other names by ``amount`` and ``currency``. A rate is a string, so that it
is the decimal number that is written there. Nothing is ever a binary fraction: products are exact, and then rounded
half to even to so many ``digits`` (2 by default). All other numbers go on with the digits that they came with.

What is in the target currency already passes as it is, and so does a tombstone. What can't be converted is rejected: ``bad-json``,
``no-amount``, ``bad-amount``, ``no-currency``, ``unknown-currency``.
"""

import json
import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow

import pointsman

#: Digits of an amount and of a rate; a product has no more than twice as many.
DIGITS = 40
#: Calculates exactly or not at all.
EXACT = Context(prec=2 * DIGITS, Emax=DIGITS, Emin=-DIGITS, traps=[Inexact, InvalidOperation, Overflow])
#: Rounds a product to the digits of a currency.
ROUNDING = Context(prec=3 * DIGITS, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])
#: Levels that a value may be nested: fewer than Python has room for on any machine.
MOST_NESTING = 100


class Number(str):
    """A number of JSON, as it is written."""


class ConvertCurrency(pointsman.Plugin):
    def __init__(self, config: str) -> None:
        settings = json.loads(config, parse_float=Number)
        unknown = settings.keys() - {"to", "rates", "digits", "amount", "currency"}
        if unknown:
            raise pointsman.Refused(f"the configuration has no `{min(unknown)}`")
        self.to = text(settings, "to")
        self.amount = text(settings, "amount", "amount")
        self.currency = text(settings, "currency", "currency")
        digits = settings.get("digits", 2)
        if type(digits) is not int or not 0 <= digits <= 10:
            raise pointsman.Refused("`digits` must be a whole number from 0 to 10")
        self.step = Decimal(1).scaleb(-digits)
        rates = settings.get("rates")
        if not isinstance(rates, dict):
            raise pointsman.Refused('`rates` must be a table, such as { USD = "0.92" }')
        self.rates = {currency: rate_of(currency, rate) for currency, rate in rates.items()}

    def process(self, event: pointsman.Event) -> pointsman.Verdict:
        if event.value is None:
            return pointsman.keep()
        try:
            order = read(event.value)
        except ValueError as error:
            return pointsman.reject("bad-json", f"the value can't be read as JSON: {error}")
        if not isinstance(order, dict):
            return pointsman.reject("bad-json", "the value is not a JSON object")
        return self.convert(order)

    def convert(self, order: dict) -> pointsman.Verdict:
        currency, amount = order.get(self.currency), order.get(self.amount)
        if not is_text(currency):
            return pointsman.reject("no-currency", f"`{self.currency}` is missing, or no string")
        if amount is None:
            return pointsman.reject("no-amount", f"`{self.amount}` is missing")
        if currency == self.to:
            return pointsman.keep()
        rate = self.rates.get(currency)
        if rate is None:
            return pointsman.reject("unknown-currency", f"there is no rate for `{currency}`")
        try:
            converted = ROUNDING.quantize(EXACT.multiply(decimal(amount), rate), self.step)
        except (ValueError, DecimalException):
            message = f"`{self.amount}` is no decimal number of at most {DIGITS} digits"
            return pointsman.reject("bad-amount", message)
        order[self.amount] = type(amount)(format(converted, "f"))
        order[self.currency] = self.to
        return pointsman.emit(pointsman.Output(value=write(order).encode()))


def text(settings: dict, name: str, default: "str | None" = None) -> str:
    value = settings.get(name, default)
    if not is_text(value) or not value:
        raise pointsman.Refused(f"`{name}` must be a text")
    return value


def rate_of(currency: str, rate: object) -> Decimal:
    try:
        if is_text(rate) and (number := decimal(rate)) > 0:
            return number
    except (ValueError, DecimalException):
        pass
    raise pointsman.Refused(f'`rates.{currency}` must be a positive decimal number in quotes, such as "0.92"')


def is_text(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def decimal(value: object) -> Decimal:
    """A number of JSON, or a string that looks like one. Raises ``ValueError`` and ``DecimalException`` for all else."""
    if not isinstance(value, str) or len(value) > 2 * DIGITS or not set(value) <= set("0123456789+-.eE"):
        raise ValueError("no decimal number")
    number = Decimal(value)
    if len(number.as_tuple().digits) > DIGITS:
        raise ValueError("too many digits")
    # Within the range of exponents, and not beyond.
    return EXACT.create_decimal(number)


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def read(value: bytes) -> object:
    """JSON with its numbers as they are written. Raises ``ValueError``."""
    if nesting(value) > MOST_NESTING:
        raise ValueError(f"it is nested deeper than {MOST_NESTING} levels")
    read = json.loads(value.decode(), parse_int=Number, parse_float=Number, parse_constant=refuse)
    # Escapes can make texts that no UTF-8 says.
    json.dumps(read, ensure_ascii=False).encode()
    return read


def nesting(value: bytes) -> int:
    """The deepest level of a text that may be JSON."""
    deepest = level = 0
    for bracket in re.findall(rb"[\[\]{}]", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", value, flags=re.DOTALL)):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


def write(value: object) -> str:
    """JSON of what was read."""
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        members = (f"{json.dumps(name, ensure_ascii=False)}:{write(item)}" for name, item in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


pointsman.export(ConvertCurrency)
