"""PYTHONPATH=../../plugin-sdk/python python3 -m unittest"""

import json
import unittest

import pointsman
from plugin import ConvertCurrency

CONFIG = '{"to": "EUR", "rates": {"USD": "0.92", "JPY": "0.0061", "XAU": "1234567890.123456789"}, "digits": 2}'


def judge(value, config=CONFIG):
    value = value.encode() if isinstance(value, str) else value
    return ConvertCurrency(config).process(pointsman.Event(value=value))


def becomes(value):
    return pointsman.emit(pointsman.Output(value=value.encode()))


class Test(unittest.TestCase):
    def test_amounts_are_converted_by_decimal_arithmetic(self):
        for value, expected in [
            ('{"amount": 12.50, "currency": "USD"}', '{"amount":11.50,"currency":"EUR"}'),
            ('{"amount": "0.1", "currency": "USD"}', '{"amount":"0.09","currency":"EUR"}'),
            ('{"amount": -1, "currency": "USD"}', '{"amount":-0.92,"currency":"EUR"}'),
            ('{"amount": 1e3, "currency": "JPY"}', '{"amount":6.10,"currency":"EUR"}'),
            ('{"amount": 12345678901234567890.12, "currency": "USD"}', '{"amount":11358024589135802458.91,"currency":"EUR"}'),
            ('{"amount": 1, "currency": "XAU"}', '{"amount":1234567890.12,"currency":"EUR"}'),
        ]:
            self.assertEqual(judge(value), becomes(expected), value)
        half = '{"to": "EUR", "rates": {"X": "0.5"}}'
        for amount, expected in [("0.25", "0.12"), ("0.75", "0.38"), ("-0.25", "-0.12")]:
            verdict = judge(f'{{"amount":{amount},"currency":"X"}}', half)
            self.assertEqual(verdict, becomes(f'{{"amount":{expected},"currency":"EUR"}}'))

    def test_all_else_goes_on_as_it_was(self):
        value = '{"z":[1.10,1e400,{"é":"\\u00e9\\n"}],"amount":1,"currency":"USD","n":123456789012345678901}'
        expected = '{"z":[1.10,1e400,{"é":"é\\n"}],"amount":0.92,"currency":"EUR","n":123456789012345678901}'
        self.assertEqual(judge(value), becomes(expected))
        self.assertEqual(judge('{"amount": 1.000, "currency": "EUR"}'), pointsman.keep())
        self.assertEqual(judge(None), pointsman.keep())

    def test_fields_have_the_names_of_the_configuration(self):
        config = '{"to": "EUR", "rates": {"USD": "2"}, "digits": 0, "amount": "price", "currency": "unit"}'
        self.assertEqual(judge('{"price":1.4,"unit":"USD"}', config), becomes('{"price":3,"unit":"EUR"}'))

    def test_what_cannot_be_converted_is_rejected_with_its_code(self):
        deep = "[" * 100_000 + "]" * 100_000
        for value, code in [
            ("", "bad-json"),
            ("[]", "bad-json"),
            (b"\xff", "bad-json"),
            ('{"amount":NaN,"currency":"USD"}', "bad-json"),
            ('{"amount":1,"currency":"USD","a":"\\ud800"}', "bad-json"),
            (f'{{"amount":1,"currency":"USD","deep":{deep}}}', "bad-json"),
            ("[" * 100_000, "bad-json"),
            ('{"currency":"USD"}', "no-amount"),
            ('{"amount":null,"currency":"USD"}', "no-amount"),
            ('{"amount":1}', "no-currency"),
            ('{"amount":1,"currency":7}', "no-currency"),
            ('{"amount":1,"currency":"GBP"}', "unknown-currency"),
            ('{"amount":true,"currency":"USD"}', "bad-amount"),
            ('{"amount":[1],"currency":"USD"}', "bad-amount"),
            ('{"amount":"","currency":"USD"}', "bad-amount"),
            ('{"amount":"NaN","currency":"USD"}', "bad-amount"),
            ('{"amount":"1_0","currency":"USD"}', "bad-amount"),
            ('{"amount":1e400,"currency":"USD"}', "bad-amount"),
            ('{"amount":1e-400,"currency":"USD"}', "bad-amount"),
            ('{"amount":1e999999999999999999999,"currency":"USD"}', "bad-amount"),
            ('{"amount":%s,"currency":"USD"}' % ("9" * 41), "bad-amount"),
            ('{"amount":%s,"currency":"USD"}' % ("9" * 1_000_000), "bad-amount"),
        ]:
            verdict = judge(value)
            self.assertIsInstance(verdict, pointsman.Reject, value[:80])
            self.assertEqual(verdict.code, code, value[:80])

    def test_brackets_in_texts_are_no_nesting(self):
        value = json.dumps({"amount": 1, "currency": "USD", "note": '\\"' + "[" * 1000})
        self.assertIsInstance(judge(value), pointsman.Emit)

    def test_a_wrong_configuration_is_refused(self):
        for config in [
            "{}",
            '{"to": "EUR"}',
            '{"to": "", "rates": {}}',
            '{"to": "EUR", "rates": {"USD": 0.92}}',
            '{"to": "EUR", "rates": {"USD": "0"}}',
            '{"to": "EUR", "rates": {"USD": "much"}}',
            '{"to": "EUR", "rates": {}, "digits": 2.5}',
            '{"to": "EUR", "rates": {}, "digits": true}',
            '{"to": "EUR", "rates": {}, "digit": 2}',
        ]:
            with self.assertRaises(pointsman.Refused, msg=config):
                ConvertCurrency(config)


if __name__ == "__main__":
    unittest.main()
