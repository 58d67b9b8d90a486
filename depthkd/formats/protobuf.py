"""Protocol buffers as they lie on disk: fields, each a key, (number << 3) | wire type, and a value."""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


def messages(message: memoryview, *numbers: int) -> Iterator[memoryview]:
    """The fields of these numbers that are bytes: messages of their own, text, or packed values."""
    for number, value in fields(message):
        if number in numbers and not isinstance(value, int):
            yield value


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: an int, or bytes."""
    place = 0
    while place < len(message):
        key, place = varint(message, place)
        kind = key & 7
        if kind == VARINT:
            value, place = varint(message, place)
            yield key >> 3, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(kind, 0)
        if kind == BYTES:
            length, place = varint(message, place)
        yield key >> 3, message[place : place + length]
        place += length


def whole_numbers(value: int | memoryview) -> list[int]:
    """A field of whole numbers: one, or several that are packed."""
    if isinstance(value, int):
        return [value]
    found, place = list[int](), 0
    while place < len(value):
        number, place = varint(value, place)
        found.append(number)
    return found


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; and where it ends."""
    value = shift = 0
    while message[place] & 128:
        value |= (message[place] & 127) << shift
        place, shift = place + 1, shift + 7
    return value | message[place] << shift, place + 1
