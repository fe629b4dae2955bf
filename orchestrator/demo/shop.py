"""The throw-away project: a till for a small shop, its first tasks, and the agent's answers.

The tasks are written as a person would write them. The README promises functions that no test
calls: the product manager adds a task for each of them.
"""

from __future__ import annotations

from orchestrator.model.fields import NamedTuple


class Step(NamedTuple):
    """The agent's answer to a task, instead of a model's: files that it writes and commits.

    The first step for a task has a mistake. A step with a `cue` is made when an error or a review
    contains the cue.
    """

    title: str
    #: The subject of the commit.
    message: str
    files: dict[str, str]
    cue: str = ""


def _tests(imported: str, *cases: str) -> str:
    """Return a test module that imports `imported`; a case is a name, ": " and a statement."""
    start = f"import unittest\n\nfrom {imported}\n\n\nclass Tests(unittest.TestCase):\n"
    parts = (case.partition(": ") for case in cases)
    return start + "\n".join(
        f"    def test_{name}(self):\n        {code}\n" for name, _, code in parts
    )


_CENTS = 'cents_have_two_digits: assert format_price(1205) == "12.05"'
_PAPER = 'every_line_is_as_wide_as_the_paper: assert len(line("Bicycle", 124950)) == WIDTH'
_PARSED = 'cents_follow_the_point: assert parse_price("12.50") == 1250'
_SUM = "sum: assert total([450, 900]) == 1350"

FILES = {
    ".gitignore": "__pycache__/\n",
    "README.md": """\
# shop

A till for a small shop. Prices are whole cents. Run the tests with `python -m unittest`.

| what | where |
|---|---|
| `parse_price("12.50")` is 1250 | prices.py |
| `format_price(1250)` is "12.50" | prices.py |
| `line("Tea", 450)` is one line of a receipt | receipt.py |
| `total([450, 900])` is 1350 | receipt.py |
""",
    "prices.py": '''\
def parse_price(text: str) -> int:
    """Return the cents of a price such as "12.50"."""
    whole, _, cents = text.partition(".")
    return int(whole) * 100 + int(cents.ljust(2, "0"))


def format_price(cents: int) -> str:
    """Return a price for people."""
    return f"{cents // 100}.{cents % 100:02d}"
''',
    "receipt.py": '''\
from prices import format_price

WIDTH, PRICE_WIDTH = 30, 8


def line(name: str, cents: int) -> str:
    """Return one line, WIDTH characters wide: the name on the left, the price on the right."""
    return name.ljust(WIDTH - PRICE_WIDTH) + format_price(cents).rjust(PRICE_WIDTH)


def total(prices: list[int]) -> int:
    """Return what all prices add up to, in cents."""
    return sum(prices)
''',
    "test_prices.py": _tests("prices import format_price", _CENTS),
    "test_receipt.py": _tests("receipt import WIDTH, line", _PAPER),
}

#: Files for the queue.
TASKS = {
    "SHOP-1.md": """\
# [SHOP-1] Add discounts in percent

ROLE: implement
PRIORITY: P1

Vouchers take some percent off a price. New module: vouchers.py.

- [ ] `apply_discount(1000, 15)` is 850
- [ ] `apply_discount(1000, 101)` raises ValueError: no shop pays its customers
""",
    "SHOP-2.md": """\
# [SHOP-2] Test discounts at their limits

ROLE: test
DEPENDS_ON: SHOP-1

- [ ] `apply_discount(1000, 0)` is 1000
- [ ] `apply_discount(1000, 100)` is 0
""",
    "SHOP-3.md": """\
# [SHOP-3] Show the currency in prices

ROLE: implement

- [ ] `format_price(1205)` is "12.05 EUR"
""",
}

_DISCOUNT = '''\
def apply_discount(cents: int, percent: int) -> int:
    """Return a price less `percent`; the shop keeps half cents."""
    return cents - cents * percent // 100
'''
_IN_LIMITS = _DISCOUNT.replace(
    "    return",
    "    if not 0 <= percent <= 100:\n"
    '        raise ValueError(f"a discount is 0 to 100 percent, not {percent}")\n'
    "    return",
)
_PERCENT = "percent: assert apply_discount(1000, 15) == 850"
_LIMIT = "limit: self.assertRaises(ValueError, lambda: apply_discount(1000, 101))"
_NOTHING = "nothing_off: assert apply_discount(1000, 0) == 1000"
_EVERYTHING = "everything_off: assert apply_discount(1000, 100) == 0"
_IMPORT = "vouchers import apply_discount"

STEPS = (
    Step(
        "Add discounts in percent",
        "Add apply_discount for vouchers",
        {"vouchers.py": _DISCOUNT, "test_vouchers.py": _tests(_IMPORT, _PERCENT)},
    ),
    Step(
        "Add discounts in percent",
        "Refuse discounts outside 0 to 100 percent, as the review asks",
        {"vouchers.py": _IN_LIMITS, "test_vouchers.py": _tests(_IMPORT, _PERCENT, _LIMIT)},
        cue="no test of this change calls `apply_discount(1000, 101)`",
    ),
    Step(
        "Test discounts at their limits",
        "Test discounts at both limits",
        {"test_limits.py": _tests(_IMPORT, _NOTHING, _EVERYTHING)},
    ),
    Step(
        "Show the currency in prices",
        "Show the currency in prices",
        {
            path: FILES[path].replace('02d}"', '02d} EUR"').replace('12.05"', '12.05 EUR"')
            for path in ("prices.py", "test_prices.py")
        },
    ),
    Step(
        "Show the currency in prices",
        "Make room for the currency on receipts",
        {"receipt.py": FILES["receipt.py"].replace("= 30, 8", "= 30, 12")},
        cue="test_every_line_is_as_wide_as_the_paper",
    ),
    Step(
        "Test parse_price(), which the README promises",
        "Test parse_price",
        {"test_parse_price.py": _tests("prices import parse_price", _PARSED)},
    ),
    Step(
        "Test total(), which the README promises",
        "Test total",
        {"test_total.py": _tests("receipt import total", _SUM)},
    ),
)
