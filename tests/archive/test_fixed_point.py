import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zetalib.archive import fixed_point

heights = st.one_of(
    st.integers(0, 2**192 - 1),
    st.integers(0, 2**140),
    # Ties and near-ties of the rounding, in every limb.
    st.builds(
        lambda m, s, d: max(0, (m << s) + d),
        st.integers(2**53, 2**54 - 1),
        st.integers(0, 130),
        st.integers(-1, 1),
    ),
)


@given(st.lists(heights, max_size=20))
def test_ints_survive_the_round_trip(values):
    assert fixed_point.to_ints(fixed_point.from_ints(values)) == values


@given(st.lists(heights, min_size=1, max_size=20))
def test_conversion_to_float_rounds_once_to_nearest_even(values):
    # Fraction to float is correctly rounded by the language's definition.
    expected = [float(Fraction(v, 2**fixed_point.UNIT_BITS)) for v in values]
    assert fixed_point.to_floats(fixed_point.from_ints(values)).tolist() == expected


@given(st.lists(heights, min_size=2, max_size=20, unique=True).map(sorted))
def test_differences_are_exact(values):
    found = fixed_point.to_ints(fixed_point.differences(fixed_point.from_ints(values)))
    assert found == [b - a for a, b in itertools.pairwise(values)]


@given(st.lists(heights, min_size=3, max_size=10, unique=True).map(sorted), st.data())
def test_differences_name_the_first_zero_that_does_not_increase(values, data):
    k = data.draw(st.integers(1, len(values) - 1))
    values[k] = values[k - 1]
    with pytest.raises(ValueError, match="strictly increase") as caught:
        fixed_point.differences(fixed_point.from_ints(values))
    assert caught.value.args[1] == k


@given(st.floats(0, 2.0**90))
def test_floats_are_taken_exactly_or_refused(value):
    exact = Fraction(value) * 2**fixed_point.UNIT_BITS
    if exact.denominator == 1:
        assert fixed_point.float_to_int(value) == exact
    else:
        with pytest.raises(ValueError, match="multiple of"):
            fixed_point.float_to_int(value)


@given(st.lists(st.floats(), max_size=8))
def test_from_floats_agrees_with_float_to_int(values):
    try:
        expected = fixed_point.from_ints([fixed_point.float_to_int(v) for v in values])
    except ValueError:
        with pytest.raises(ValueError, match=r"multiple of|finite|\[0, 2\^192\)"):
            fixed_point.from_floats(np.array(values))
    else:
        assert fixed_point.from_floats(np.array(values)).tolist() == expected.tolist()


@given(st.lists(st.tuples(st.integers(0, 2**53 - 1), st.integers(-101, 38)), max_size=20))
def test_from_floats_is_exact_over_the_whole_range(parts):
    values = [float(Fraction(m) * Fraction(2) ** e) for m, e in parts]
    expected = [int(Fraction(v) * 2**fixed_point.UNIT_BITS) for v in values]
    assert fixed_point.to_ints(fixed_point.from_floats(np.array(values))) == expected


@given(st.lists(st.tuples(heights, heights), min_size=1, max_size=10), st.data())
def test_subtract_is_exact_and_names_the_row_that_does_not_increase(pairs, data):
    pairs = [(max(p), min(p)) for p in pairs if p[0] != p[1]]
    a, b = ([p[k] for p in pairs] for k in (0, 1))
    found = fixed_point.subtract(fixed_point.from_ints(a), fixed_point.from_ints(b))
    assert fixed_point.to_ints(found) == [x - y for x, y in pairs]
    if pairs:
        k = data.draw(st.integers(0, len(pairs) - 1))
        b[k] = a[k]
        with pytest.raises(ValueError, match="strictly increase") as caught:
            fixed_point.subtract(fixed_point.from_ints(a), fixed_point.from_ints(b))
        assert caught.value.args[1] == k


def test_borrows_run_through_all_limbs():
    a, b = [2**128, 2**191, 2**64], [1, 2**64 + 1, 2**64 - 1]
    found = fixed_point.subtract(fixed_point.from_ints(a), fixed_point.from_ints(b))
    assert fixed_point.to_ints(found) == [x - y for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_impossible_heights_are_refused(value):
    with pytest.raises(ValueError, match="finite"):
        fixed_point.float_to_int(value)


def test_empty_arrays_pass():
    assert fixed_point.to_floats(fixed_point.from_ints([])).shape == (0,)
    assert fixed_point.differences(fixed_point.from_ints([])).shape == (0, 3)
    assert fixed_point.differences(fixed_point.from_ints([5])).dtype == np.uint64


@given(st.floats(0, 2**80), st.lists(st.floats(0, 8191.9), max_size=20))
def test_above_adds_offsets_rounded_to_2_to_the_minus_50(start, offsets):
    start = float(np.floor(start * 16) / 16)
    found = fixed_point.to_ints(fixed_point.above(start, np.array(offsets, dtype=np.float64)))
    unit = 2 ** (fixed_point.UNIT_BITS - fixed_point.OFFSET_BITS)
    for exact, offset in zip(found, offsets, strict=True):
        away = (
            exact
            - fixed_point.float_to_int(start)
            - int(Fraction(offset) * 2**fixed_point.UNIT_BITS)
        )
        assert (exact - fixed_point.float_to_int(start)) % unit == 0
        assert abs(away) <= unit // 2 + 1


@pytest.mark.parametrize("offset", [-1e-9, 8192.0, np.nan])
def test_above_refuses_offsets_it_cannot_hold(offset):
    with pytest.raises(ValueError, match="offsets must lie in"):
        fixed_point.above(14.0, np.array([1.0, offset]))
