import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthkd.formats.codes import CHECKSUM, HEADER, pack_codes, unpack_codes
from depthkd.formats.images import encode_png
from depthkd.formats.sample import BadSample

RELAXED = settings(deadline=None, derandomize=True)


def smooth(height: int, width: int) -> np.ndarray:
    """A map like a network's: hills and a step."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    hills = np.sin(9 * x) * np.cos(7 * y) + (x > 0.6)
    return (1 + (hills + 1) / 3 * 65534).astype(np.uint16)


def signed(frame: bytes) -> bytes:
    return frame + CHECKSUM.pack(zlib.crc32(frame))


@RELAXED
@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_codes_come_back_as_they_were(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for codes in (rng.integers(0, 65536, (height, width)).astype(np.uint16), smooth(height, width)):
        before = codes.copy()
        packed = pack_codes(codes)
        assert np.array_equal(unpack_codes(packed, (height, width), "d"), before)
        assert np.array_equal(codes, before) and pack_codes(codes) == packed


def test_a_smooth_map_takes_less_than_half_of_a_png() -> None:
    codes = smooth(480, 640)
    assert 2 * len(pack_codes(codes)) < len(encode_png(codes))


@pytest.mark.parametrize("cut", [0, 3, 10, 19, 25, -1, -5])
def test_a_frame_cut_short_is_a_bad_sample(cut: int) -> None:
    with pytest.raises(BadSample, match=r"d is damaged: its \d+ bytes are not a Blosc frame with its CRC-32"):
        unpack_codes(pack_codes(smooth(20, 30))[:cut], (20, 30), "d")


def test_every_changed_byte_is_noticed() -> None:
    packed = pack_codes(smooth(12, 20))
    for place in range(len(packed)):
        changed = bytearray(packed)
        changed[place] ^= 0x10
        with pytest.raises(BadSample, match="d is damaged"):
            unpack_codes(bytes(changed), (12, 20), "d")


@pytest.mark.parametrize(
    ("field", "value"), [(3, 1), (4, 0), (4, 2**31 - 1), (4, 1198), (6, 16), (6, 2**31 - 1)]
)
def test_a_header_with_wrong_counts_never_reaches_the_library(field: int, value: int) -> None:
    frame = pack_codes(smooth(20, 30))[: -CHECKSUM.size]
    fields = list(HEADER.unpack_from(frame))
    fields[field] = value
    with pytest.raises(BadSample, match=r"d holds .* 30 x 20 codes have 1200 in items of 2"):
        unpack_codes(signed(HEADER.pack(*fields) + frame[HEADER.size :]), (20, 30), "d")


def test_another_size_and_another_content_are_bad_samples() -> None:
    packed = pack_codes(smooth(20, 30))
    with pytest.raises(BadSample, match="d holds 1200 bytes"):
        unpack_codes(packed, (20, 31), "d")
    header = packed[: HEADER.size]
    nonsense = header + struct.pack("<I", 2**31) + packed[HEADER.size + 4 : -CHECKSUM.size]
    with pytest.raises(BadSample, match="d is not a Blosc frame"):
        unpack_codes(signed(nonsense), (20, 30), "d")
