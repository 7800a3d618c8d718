"""The shop's bank, unreliable on purpose: its first answer to every payment is a timeout."""


class CardDeclinedError(Exception):
    """The bank's answer is no, and it will not change by asking again."""


def charge(card: str, *, cents: int, attempt: int) -> str:
    """Take money from a card.

    Args:
        card: `valid` or `stolen`.
        cents: The amount.
        attempt: Which attempt this is, from 1.

    Returns:
        The bank's receipt.

    Raises:
        CardDeclinedError: The card is stolen.
        ConnectionError: This is the first attempt.
    """
    if card == "stolen":
        raise CardDeclinedError("the card is reported stolen")
    if attempt == 1:
        raise ConnectionError("the bank did not answer")
    return f"{cents} cents paid"
