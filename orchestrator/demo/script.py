"""The part that a model plays elsewhere: what the demonstration's agent changes for each task.

`first` is what it thinks of by itself. It overlooks things, as everybody does: `told` is what it
adds once an error or a review that it was given contains the cue.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Edit:
    """One change of a file: `old` becomes `new`; without `old`, a file is made of `new`."""

    path: str
    new: str
    old: str = ""


@dataclass(frozen=True)
class Answer:
    """What to change for a task, and how the commit is to be called."""

    message: str
    first: tuple[Edit, ...]
    #: The test modules beside it: what somebody in a hurry would run.
    tests: tuple[str, ...]
    #: By cue: what more to change, and the commit's name.
    told: dict[str, tuple[str, tuple[Edit, ...]]] = field(default_factory=dict)


def _test(imports: str, name: str, body: str) -> str:
    """Return the text of a new test module."""
    return f"import unittest\n\n{imports}\n\n\nclass {name}(unittest.TestCase):\n{body}"


_DISCOUNT = '''\
"""Vouchers: something off a price."""


def apply_discount(cents: int, percent: int) -> int:
    """Return a price with so many percent off; half cents are kept."""
    return cents - cents * percent // 100
'''
_DISCOUNT_LIMITS = """\
    if not 0 <= percent <= 100:
        raise ValueError(f"a discount is 0 to 100 percent, not {percent}")
    return cents - cents * percent // 100
"""

#: By task title.
ANSWERS = {
    "Refuse quantities below one in Cart.add": Answer(
        "Refuse quantities below one: they lowered the total",
        (
            Edit(
                "shop/cart.py",
                old='        """Put something into the cart."""\n',
                new='        """Put something into the cart; at least one piece."""\n'
                "        if quantity < 1:\n"
                '            raise ValueError(f"one piece at least, not {quantity}")\n',
            ),
            Edit(
                "tests/test_cart.py",
                old="1800)\n",
                new="1800)\n"
                "\n"
                "    def test_nothing_is_added_less_than_once(self):\n"
                "        cart = self.cart\n"
                "        with self.assertRaises(ValueError):\n"
                '            cart.add("Tea", 450, 0)\n'
                "        self.assertEqual(cart.total(), 0)\n",
            ),
        ),
        ("tests.test_cart",),
    ),
    "Add discounts in percent": Answer(
        "Add apply_discount for vouchers",
        (
            Edit("shop/vouchers.py", _DISCOUNT),
            Edit(
                "tests/test_vouchers.py",
                _test(
                    "from shop.vouchers import apply_discount",
                    "VouchersTest",
                    "    def test_percents_come_off_the_price(self):\n"
                    "        self.assertEqual(apply_discount(1000, 15), 850)\n",
                ),
            ),
        ),
        ("tests.test_vouchers",),
        told={
            "apply_discount(1000, 101)": (
                "Refuse discounts outside 0 to 100 percent, as the review asks",
                (
                    Edit(
                        "shop/vouchers.py",
                        old="    return cents - cents * percent // 100\n",
                        new=_DISCOUNT_LIMITS,
                    ),
                    Edit(
                        "tests/test_vouchers.py",
                        old="850)\n",
                        new="850)\n"
                        "\n"
                        "    def test_no_shop_pays_its_customers(self):\n"
                        "        with self.assertRaises(ValueError):\n"
                        "            apply_discount(1000, 101)\n",
                    ),
                ),
            )
        },
    ),
    "Test discounts at their edges": Answer(
        "Test discounts at both ends of the scale",
        (
            Edit(
                "tests/test_discount_edges.py",
                _test(
                    "from shop.vouchers import apply_discount",
                    "DiscountEdgesTest",
                    "    def test_nothing_off(self):\n"
                    "        self.assertEqual(apply_discount(1000, 0), 1000)\n"
                    "\n"
                    "    def test_everything_off(self):\n"
                    "        self.assertEqual(apply_discount(1000, 100), 0)\n"
                    "\n"
                    "    def test_the_shop_keeps_the_half_cent(self):\n"
                    "        self.assertEqual(apply_discount(999, 50), 500)\n",
                ),
            ),
        ),
        ("tests.test_discount_edges",),
    ),
    "Show the currency in prices": Answer(
        "Show the currency in prices",
        (
            Edit("shop/prices.py", old=':02d}"\n', new=':02d} EUR"\n'),
            # The task itself changes what this test expects.
            Edit("tests/test_prices.py", old='"12.05")', new='"12.05 EUR")'),
        ),
        ("tests.test_prices",),
        told={
            "test_every_line_is_as_wide_as_the_paper": (
                "Make room for the currency on receipts",
                (Edit("shop/receipt.py", old="PRICE_WIDTH = 8\n", new="PRICE_WIDTH = 12\n"),),
            )
        },
    ),
    "Add count(), which the README promises": Answer(
        "Add Cart.count",
        (
            Edit(
                "shop/cart.py",
                old="for quantity, cents in self.things.values())\n",
                new="for quantity, cents in self.things.values())\n"
                "\n"
                "    def count(self) -> int:\n"
                '        """Return how many things are in the cart."""\n'
                "        return sum(quantity for quantity, _ in self.things.values())\n",
            ),
            Edit(
                "tests/test_cart_count.py",
                _test(
                    "from shop.cart import Cart",
                    "CountTest",
                    "    def test_every_piece_counts(self):\n"
                    "        cart = Cart()\n"
                    '        cart.add("Tea", 450, 2)\n'
                    '        cart.add("Mug", 900)\n'
                    "        self.assertEqual(cart.count(), 3)\n",
                ),
            ),
        ),
        ("tests.test_cart_count",),
    ),
    "Test parse_price(), which the README promises": Answer(
        "Test parse_price",
        (
            Edit(
                "tests/test_parse_price.py",
                _test(
                    "from shop.prices import parse_price",
                    "ParsePriceTest",
                    "    def test_cents_follow_the_point(self):\n"
                    '        self.assertEqual(parse_price("12.50"), 1250)\n'
                    "\n"
                    "    def test_one_digit_is_tens_of_cents(self):\n"
                    '        self.assertEqual(parse_price("3.5"), 350)\n',
                ),
            ),
        ),
        ("tests.test_parse_price",),
    ),
}
