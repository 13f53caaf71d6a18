"""Currencies and their minor units, from ISO 4217.

https://www.six-group.com/en/products-services/financial-information/data-standards.html (list one, active codes)
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

_CODES_BY_DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP "
    "CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR "
    "JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN "
    "NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP "
    "SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
}
_DIGITS = {code: digits for digits, codes in _CODES_BY_DIGITS.items() for code in codes.split()}
_EXACT = Context(prec=28, traps=[Inexact, InvalidOperation, Overflow])


def is_currency(code: str) -> bool:
    """Return whether ISO 4217 lists the code, in capital letters, as a currency that people pay with."""
    return code in _DIGITS


def minor_units(amount: int | str, currency: str) -> int:
    """Convert an amount to minor units.

    Parameters
    ----------
    amount:
        Minor units as a whole number, or major units as decimal text: 1250 and "12.50" are the same in EUR.
    currency:
        An ISO 4217 code that `is_currency`.

    Raises
    ------
    ValueError
        The text is not a decimal number, or has more digits after the point than the currency.
    """
    if isinstance(amount, int):
        return amount
    digits = _DIGITS[currency]
    try:
        minor = Decimal(amount).scaleb(digits, _EXACT)
        whole = int(minor)
    except (ArithmeticError, ValueError):  # not a number, infinite, or too long to be exact
        raise ValueError(f"{amount!r} is not a decimal number") from None
    if whole != minor:
        raise ValueError(f"{amount!r} has more digits after the point than the {digits} of {currency}")
    return whole


def readable(amount: int, currency: str) -> str:
    """Format an amount in minor units as people write it: "12.50 EUR"."""
    return f"{Decimal(amount).scaleb(-_DIGITS[currency]):,f} {currency}"
