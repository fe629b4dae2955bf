"""The throw-away project: a till for a small shop, with a README, tests and a first list of tasks.

The tasks are as a person would write them. What the README promises beyond them is left for the
product manager to find.
"""

from __future__ import annotations

FILES = {
    ".gitignore": "__pycache__/\n",
    "README.md": """\
# shop

A till for a small shop. Prices are whole cents. Python's standard library, no more.

| what | where |
|---|---|
| `parse_price("12.50")` is 1250 | shop/prices.py |
| `format_price(1250)` is the same as text | shop/prices.py |
| `cart.add("Tea", 450)` puts something into the cart | shop/cart.py |
| `cart.total()` is what everything in it costs | shop/cart.py |
| `cart.count()` is how many things are in it | shop/cart.py |
| `receipt(cart)` is what the customer gets | shop/receipt.py |

Tests: `python -m unittest`
""",
    "IDEAS.md": "# Ideas\n\n- gift cards\n",
    "shop/__init__.py": '"""A till for a small shop."""\n',
    "shop/prices.py": '''\
"""Prices are whole cents; people write and read them with a point."""


def parse_price(text: str) -> int:
    """Return the cents that a price like "12.50" stands for."""
    whole, _, cents = text.partition(".")
    return int(whole) * 100 + int(cents.ljust(2, "0") or "0")


def format_price(cents: int) -> str:
    """Return a price for people."""
    return f"{cents // 100}.{cents % 100:02d}"
''',
    "shop/cart.py": '''\
"""What a customer is about to buy."""


class Cart:
    """Things by name: how many, and the price of one in cents."""

    def __init__(self) -> None:
        self.things: dict[str, tuple[int, int]] = {}

    def add(self, name: str, cents: int, quantity: int = 1) -> None:
        """Put something into the cart."""
        there, _ = self.things.get(name, (0, cents))
        self.things[name] = (there + quantity, cents)

    def total(self) -> int:
        """Return what everything costs, in cents."""
        return sum(quantity * cents for quantity, cents in self.things.values())
''',
    "shop/receipt.py": '''\
"""What the customer gets: one line a thing, names to the left, prices to the right."""

from shop.cart import Cart
from shop.prices import format_price

WIDTH = 30
PRICE_WIDTH = 8


def line(name: str, cents: int) -> str:
    """Return one line, WIDTH characters wide."""
    return name.ljust(WIDTH - PRICE_WIDTH) + format_price(cents).rjust(PRICE_WIDTH)


def receipt(cart: Cart) -> str:
    """Return the receipt for a cart."""
    lines = [line(f"{n} x {name}", n * cents) for name, (n, cents) in cart.things.items()]
    return "\\n".join([*lines, "-" * WIDTH, line("total", cart.total())])
''',
    "tests/__init__.py": "",
    "tests/test_prices.py": """\
import unittest

from shop.prices import format_price


class PricesTest(unittest.TestCase):
    def test_cents_have_two_digits(self):
        self.assertEqual(format_price(1205), "12.05")
""",
    "tests/test_cart.py": """\
import unittest

from shop.cart import Cart


class CartTest(unittest.TestCase):
    def setUp(self):
        self.cart = Cart()

    def test_the_total_counts_every_piece(self):
        self.cart.add("Tea", 450, 2)
        self.cart.add("Mug", 900)
        self.assertEqual(self.cart.total(), 1800)
""",
    "tests/test_receipt.py": """\
import unittest

from shop.cart import Cart
from shop.receipt import WIDTH, receipt


class ReceiptTest(unittest.TestCase):
    def test_every_line_is_as_wide_as_the_paper(self):
        cart = Cart()
        cart.add("Bicycle", 124950)
        for line in receipt(cart).splitlines():
            self.assertEqual(len(line), WIDTH, line)
""",
}

#: Files for the queue, by their names.
TASKS = {
    "SHOP-1.md": """\
# [SHOP-1] Refuse quantities below one in Cart.add

ROLE: implement
PRIORITY: P1

## Context
`Cart.add("Tea", 450, -3)` lowers the total: a customer could pay less by "buying" a negative mug.

## Acceptance Criteria
- [ ] `cart.add("Tea", 450, 0)` raises ValueError and leaves the cart as it was
""",
    "SHOP-2.md": """\
# [SHOP-2] Add discounts in percent

ROLE: implement
PRIORITY: P1

## Context
Vouchers take some percent off a price. New module shop/vouchers.py.

## Acceptance Criteria
- [ ] `apply_discount(1000, 15)` is 850
- [ ] `apply_discount(1000, 101)` raises ValueError: no shop pays its customers
""",
    "SHOP-3.md": """\
# [SHOP-3] Test discounts at their edges

ROLE: test
DEPENDS_ON: SHOP-2

## Context
Nothing holds what happens at both ends of the scale, and with half cents.

## Acceptance Criteria
- [ ] `apply_discount(1000, 0)` is 1000
- [ ] `apply_discount(1000, 100)` is 0
- [ ] `apply_discount(999, 50)` is 500: the shop keeps the half cent
""",
    "SHOP-4.md": """\
# [SHOP-4] Show the currency in prices

ROLE: implement

## Context
Customers from abroad ask what the numbers mean.

## Acceptance Criteria
- [ ] `format_price(1205)` is "12.05 EUR"
""",
}
