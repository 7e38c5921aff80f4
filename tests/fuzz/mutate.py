"""Seeded mutations of files: bytes are flipped, cut and swapped, numbers and words become awkward ones."""

from __future__ import annotations

import random
import struct

NUMBERS = [
    *(struct.pack("<f", float(text)) for text in ("nan", "inf", "-inf", "1e30", "1e-30", "-1", "0", "1e-45")),
    *(struct.pack("<d", float(text)) for text in ("nan", "inf", "1e300", "-0")),
    *(struct.pack("<h", value) for value in (-1, 0, 1, 32767, -32768, 255)),
    *(struct.pack("<i", value) for value in (-1, 0, 2**31 - 1, -(2**31), 65536)),
    *(struct.pack("<q", value) for value in (-1, 2**63 - 1, 2**40)),
    b"\x00" * 8,
    b"\xff" * 8,
]
WORDS = [
    *("null", "~", "true", "-1", "0", "1e999", ".nan", ".inf", "NaN", "Infinity", "{}", "[]", "[[]]", '""', "''"),
    *("9" * 400, "9" * 5000, "-" + "9" * 25, "0x" + "f" * 400, "1:30:00", "%", "@", "`", "\t", "---", "...", "\x00"),
    *("2024-02-30", "2024-01-01", "2024-01-01T00:00:00Z", "!!binary aGVsbG8=", "!!set {a, b}", "!!omap [a: 1]"),
    *("!!python/object:os.system x", "&a [*a]", "&a {b: *a}", "*a", "<<: *a", "? [1, 2] : 3", "{? {a: b} : c}"),
    *("{1: 2}", "{null: 1}", "{2024-01-01: 1}", "{a: {b: {c: d}}}", "&a [x, x], &b [*a, *a], &c [*b, *b]"),
    *("[" * 3000, "{a: " * 500, "- " * 2000, '{"a":' * 3000, "a" * 70000, "\u2028", "é", "[/x]", '"\\ud800"'),
    *("fit", "data", "model", "kind", "recipe", "attention", "[knn, kv]", "{name: knn, topk: .nan}"),
]


def mutated(rng: random.Random, seed: bytes, *, text: bool) -> bytes:
    """Return `seed` after one to six mutations."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place = rng.randrange(len(data) + 1)
        if rng.random() < 0.15:
            place = min(place, 64)
        how = rng.random()
        if text and how < 0.6:
            _word(rng, data, place)
        elif how < 0.2 and data:
            data[min(place, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif how < 0.55:
            value = rng.choice(NUMBERS)
            data[place : place + len(value)] = value
        elif how < 0.65:
            del data[place:]
        elif how < 0.8:
            del data[place : place + rng.choice((1, 2, 4, 16, 100))]
        elif how < 0.9:
            other = rng.randrange(len(data) + 1)
            data[place:place] = data[other : other + rng.choice((1, 4, 50))]
        else:
            data[place:place] = rng.randbytes(rng.choice((1, 3, 20)))
    return bytes(data)


def _word(rng: random.Random, data: bytearray, place: int) -> None:
    """Replace the word at a place, or put one there."""
    word = rng.choice(WORDS).encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        data[place:place] = word
        return
    start = end = place
    while start > 0 and data[start - 1] not in b" \n:,[]{}=<>":
        start -= 1
    while end < len(data) and data[end] not in b"\n:,[]{}=<>":
        end += 1
    data[start:end] = word
