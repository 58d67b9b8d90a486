"""How the sources of a stream share its batches."""

from collections.abc import Mapping

from depthkd.errors import UserError

SUM_TOLERANCE = 1e-3  # lets thirds be written as 0.3333
PLACE_TOLERANCE = 0.02  # of a sample: the same


def places_per_rank(shares: Mapping[str, float], batch_size: int, world_size: int) -> dict[str, int]:
    """How many samples of each source every rank contributes to every batch.

    Raises:
        UserError: no sources; shares that are not positive or do not sum to 1; a share that is no
            whole number of samples for every rank. The sentence names `data.train.<name>.share`
            and the next larger batch size that would do.
    """
    if not shares:
        raise UserError("data.train names no sources; it would map a name of yours to a ShardSource")
    if batch_size < 1:
        raise UserError(f"data.batch_size must be 1 or more, not {batch_size}")
    named = ", ".join(f"data.train.{name}.share={share:g}" for name, share in shares.items())
    if min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > SUM_TOLERANCE:
        raise UserError(f"shares must be positive and sum to 1, but {named} sum to {sum(shares.values()):g}")
    places = _places(shares, batch_size, world_size)
    if isinstance(places, dict):
        return places
    ranks = f" on each of {world_size} ranks" if world_size > 1 else ""
    larger = (size for size in range(batch_size + 1, batch_size + 100_000))
    fits = next((size for size in larger if isinstance(_places(shares, size, world_size), dict)), None)
    advice = f"batch_size={fits} would do" if fits else "no batch_size would do: choose rounder shares"
    raise UserError(
        f"data.train.{places}.share={shares[places]:g} of data.batch_size={batch_size} is no whole number of "
        f"samples{ranks}: {advice}"
    )


def _places(shares: Mapping[str, float], batch_size: int, world_size: int) -> dict[str, int] | str:
    """Places of each source on each rank, or the first name whose share does not come out even."""
    places = {}
    for name, share in shares.items():
        whole = round(share * batch_size)
        if whole < 1 or whole % world_size or abs(share * batch_size - whole) > PLACE_TOLERANCE:
            return name
        places[name] = whole // world_size
    return places
