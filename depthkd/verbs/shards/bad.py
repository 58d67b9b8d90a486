"""Bad samples, printed."""

SHOWN = 20  # that are printed one by one


def print_bad(bad: list[str], total: int | None = None) -> None:
    """A sentence for each of the first, and how many there are, of `total`."""
    if bad:
        print(f"{len(bad)}{'' if total is None else f' of {total}'} are bad:")
    for sentence in bad[:SHOWN]:
        print(f"  {sentence}")
    if len(bad) > SHOWN:
        print(f"  and {len(bad) - SHOWN} more")
