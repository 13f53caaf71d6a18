from __future__ import annotations

from decimal import Decimal

import pytest
from darkroom.currencies import is_currency, minor_units, readable
from hypothesis import given
from hypothesis import strategies as st

NONE_TWO_THREE = st.sampled_from([("JPY", 0), ("EUR", 2), ("KWD", 3)])


@pytest.mark.parametrize(
    ("one", "codes"),
    [
        (1, "CLP ISK JPY KRW PYG UGX VND XAF XOF XPF"),
        (100, "CHF CNY EUR GBP HUF MGA MRU TWD USD XCG ZWG"),
        (1000, "BHD IQD JOD KWD LYD OMR TND"),
    ],
)
def test_one_of_a_currency_has_as_many_minor_units_as_iso_4217_says(one: int, codes: str) -> None:
    for code in codes.split():
        assert is_currency(code)
        assert minor_units("1", code) == one


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        ("eur Euro EU € ABC", "never listed"),
        ("ANG BGN CUC DEM HRK SLL ZWL", "no longer listed"),
        ("XAG XAU XDR XSU XTS XUA XXX", "metals, units of account, tests, nothing"),
        ("BOV CHE CHW CLF COU MXV USN UYI UYW", "funds"),
    ],
)
def test_units_without_payments_are_not_currencies(codes: str, why: str) -> None:
    assert [code for code in codes.split() if is_currency(code)] == [], why
    assert not is_currency("")


@given(st.integers(), NONE_TWO_THREE)
def test_minor_units_are_not_changed(amount: int, currency: tuple[str, int]) -> None:
    assert minor_units(amount, currency[0]) == amount


@given(st.integers(0, 10**12), NONE_TWO_THREE)
def test_decimal_text_means_the_same_as_the_minor_units_it_was_written_from(
    amount: int, currency: tuple[str, int]
) -> None:
    code, digits = currency
    assert minor_units(str(Decimal(amount).scaleb(-digits)), code) == amount


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12", "EUR", 1200),
        ("12.5", "EUR", 1250),
        ("12.50", "EUR", 1250),
        ("12.5000", "EUR", 1250),
        ("0.10", "EUR", 10),
        ("0012", "EUR", 1200),
        ("0", "EUR", 0),
        ("500", "JPY", 500),
        ("500.00", "JPY", 500),
        ("1.234", "KWD", 1234),
    ],
)
def test_decimal_text(text: str, currency: str, minor: int) -> None:
    assert minor_units(text, currency) == minor


@pytest.mark.parametrize(("text", "currency"), [("12.505", "EUR"), ("0.1", "JPY"), ("1.0001", "KWD")])
def test_more_digits_than_the_currency_has_are_not_rounded(text: str, currency: str) -> None:
    with pytest.raises(ValueError, match=f"{text}' has more digits after the point than the . of {currency}"):
        minor_units(text, currency)


@pytest.mark.parametrize("text", ["", "twelve", "12,50", "NaN", "sNaN", "Infinity", "1e9999999", "12.50 EUR"])
def test_other_text_is_not_a_decimal_number(text: str) -> None:
    with pytest.raises(ValueError, match="is not a decimal number"):
        minor_units(text, "EUR")


def test_a_number_too_long_to_be_exact_is_not_rounded() -> None:
    assert minor_units("9" * 26, "EUR") == int("9" * 26 + "00")
    with pytest.raises(ValueError, match="is not a decimal number"):
        minor_units("9" * 29, "EUR")


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1250, "EUR", "12.50 EUR"),
        (123456789, "EUR", "1,234,567.89 EUR"),
        (500, "JPY", "500 JPY"),
        (5, "KWD", "0.005 KWD"),
    ],
)
def test_readable(amount: int, currency: str, text: str) -> None:
    assert readable(amount, currency) == text
