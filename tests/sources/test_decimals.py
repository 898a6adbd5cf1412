"""Decimals in text, against fractions in Python's integers."""

import random
from fractions import Fraction

import numpy as np
import pytest

from zetalib.archive import fixed_point
from zetalib.sources import decimals


def nearest(number):
    """In units of 2^-101, halves up."""
    units = Fraction(number.strip('"').lower().replace("d", "e")) * 2**101
    return (2 * units.numerator + units.denominator) // (2 * units.denominator)


def parse(text, fields=1, height=0, rank=None):
    return decimals.parse_lines(np.frombuffer(text.encode(), np.uint8), fields, height, rank)


def written(rng):
    """A number as somebody writes it: few digits or very many, exponents, signs, quotes."""
    whole = "".join(rng.choices("0123456789", k=rng.choice([1, 1, 2, 6, 7, 8, 9, 18, 19, 20, 27])))
    places = rng.choice([0, 0, 1, 2, 7, 8, 9, 11, 12, 15, 16, 17, 18, 19, 20, 31, 38, 39, 60, 105])
    part = "".join(rng.choices("0123456789", k=places))
    text = (
        rng.choice(["", "", "", "+", "000"])
        + whole
        + ("." + part if part else rng.choice(["", "."]))
    )
    if rng.random() < 0.3:
        text += rng.choice("eEdD") + rng.choice(["", "+", "-"]) + str(rng.randrange(25))
    return f'"{text}"' if rng.random() < 0.1 else text


def test_every_way_to_write_a_number_is_rounded_once():
    rng = random.Random(0)
    numbers = [written(rng) for _ in range(30_000)]
    numbers = [n for n in numbers if nearest(n) < 1 << 192]
    found = parse("\n".join(numbers) + "\n")
    assert found.fault == 0
    assert fixed_point.to_ints(found.heights) == [nearest(n) for n in numbers]


def test_a_rounding_that_hangs_on_a_late_digit_is_right():
    """Halves of 2^-101 have 102 digits: only all of them tell which way."""
    half = [Fraction(2 * k + 1, 2**102) for k in (0, 1, 5, 2**60 + 3, 2**100 + 7)]
    numbers = []
    for value in half:
        digits = f"{value.numerator * 10**102 // value.denominator:0102d}"
        for end in ("", "0", "1", "00000001"):
            numbers.append(f"7.{digits}{end}")
        numbers.append(f"7.{int(digits) - 1:0102d}9")
    found = fixed_point.to_ints(parse("\n".join(numbers) + "\n").heights)
    assert found == [nearest(n) for n in numbers]
    assert len(set(found)) > len(half)


def test_ranks_columns_and_what_lies_between():
    text = "1 14.134725142\r\n\n# remark\n  2,\t21.022039639 \n3 ; 25.010857580\n4\t30.5\n"
    found = parse(text, fields=2, height=1, rank=0)
    assert found.fault == 0 and found.ranks.tolist() == [1, 2, 3, 4]
    assert fixed_point.to_ints(found.heights) == [
        nearest(n) for n in ("14.134725142", "21.022039639", "25.010857580", "30.5")
    ]
    assert [text[a:].split()[0] for a in found.at] == ["1", "2,", "3", "4"]


def test_an_empty_field_is_a_field():
    for text in ("14.5,1,\n15.5,2,x\n", "14.5,1,\r\n15.5;2;\n"):
        found = parse(text, 3, 0, 1)
        assert found.fault == 0 and found.ranks.tolist() == [1, 2]
    assert parse("14.5,\n", 2, 0, 1).fault == decimals.FIELDS
    assert parse(",14.5\n", 2, 1).fault == 0
    assert parse("14.5,,\n", 2, 0).fault == decimals.FIELDS


def test_ranks_beyond_64_bits_keep_their_low_word():
    found = parse("10000000000000000000001 5.5\n1.0e+00 6.5\n", 2, 1, 0)
    assert found.ranks.tolist() == [(10**22 + 1) % 2**64, 1]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("abc", decimals.NUMBER_FAULT),
        ("1.2.3", decimals.NUMBER_FAULT),
        ("1e", decimals.NUMBER_FAULT),
        ("1e99999", decimals.NUMBER_FAULT),
        (".", decimals.NUMBER_FAULT),
        ("+", decimals.NUMBER_FAULT),
        ('"14.5', decimals.NUMBER_FAULT),
        ("1x", decimals.NUMBER_FAULT),
        ("0x1p3", decimals.NUMBER_FAULT),
        ("1_000.5", decimals.NUMBER_FAULT),
        ("-3.5", decimals.NEGATIVE),
        ("-1e-5", decimals.NEGATIVE),
        ("nan", decimals.NOT_FINITE),
        ("-inf", decimals.NOT_FINITE),
        ("Infinity", decimals.NOT_FINITE),
        ("3e27", decimals.TOO_HIGH),
        ("9" * 29, decimals.TOO_HIGH),
        ("2475880078570760549798248448", decimals.TOO_HIGH),  # 2^91
        ("1e30", decimals.TOO_HIGH),
        ("1e3000", decimals.TOO_HIGH),
        ("14.5 15.5", decimals.FIELDS),
        ("14.5,", decimals.FIELDS),
        ("14,134", decimals.FIELDS),
    ],
)
def test_what_is_no_height_ends_the_parse_there(line, fault):
    found = parse(f"14.25\n\n{line}\n15.5\n")
    assert found.fault == fault and found.fault_at == 7
    assert fixed_point.to_ints(found.heights) == [nearest("14.25")]


def test_the_highest_height_fits():
    found = parse("2475880078570760549798248447.999\n")
    assert found.fault == 0 and fixed_point.to_ints(found.heights) == [
        nearest("2475880078570760549798248447.999")
    ]


def test_a_column_that_should_be_ranks():
    for text in ("x 14.5\n", "1.5 14.5\n", "-1 14.5\n"):
        assert parse(text, 2, 1, 0).fault == decimals.RANK_FAULT
    assert parse("1 14.5 2\n", 2, 1, 0).fault == decimals.FIELDS
    assert parse("1\n", 2, 1, 0).fault == decimals.FIELDS


def test_an_empty_text():
    found = parse("")
    assert len(found.heights) == 0 and found.fault == 0


def test_exact_refuses_what_is_no_decimal_number():
    assert decimals.exact(b"14.5") == 29 << 100
    assert decimals.exact(b"1e-4000") == 0 and decimals.exact(b"1e40") is None
    for bad in (b"", b"-1", b"1e", b"nan", b"1" * 5000, b"1 2"):
        with pytest.raises(ValueError, match="not a decimal number"):
            decimals.exact(bad)
