"""The shop's till: it stands in for the API, file or queue where your data comes from."""

from typing import Any

PRICES = {"bread": "2.40", "apples": "1.95", "tea": "4.10"}


def orders_of(day: str, *, count: int) -> list[dict[str, Any]]:
    """The orders of a day as the till tells them: prices as text, cancelled orders still there.

    Args:
        day: The date, `YYYY-MM-DD`.
        count: How many orders there were. Every fifth of them was cancelled.

    Returns:
        The orders. The same arguments give the same orders, as a source that can be asked twice
        should.
    """
    products = list(PRICES)
    return [
        {
            "order_id": f"{day}-{number:04}",
            "product": products[number % len(products)],
            "quantity": number % 3 + 1,
            "price": PRICES[products[number % len(products)]],
            "cancelled": number % 5 == 0,
        }
        for number in range(1, count + 1)
    ]
