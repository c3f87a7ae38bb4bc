#!/usr/bin/env python3
"""Checks a spot proof of lavatube: that a vault could show the slices of packs which its nonce picks.

    python3 spot.py PROOF

Written from docs/FORMAT.md, section 19, and the BLAKE3 paper, not from the Rust code: the compression function is here in
full, since libraries give no hashes of single chunks. Needs rescue.py beside it. Exit status: 0 all shown, 16 not.
"""
import datetime, sys

from blake3 import blake3

from rescue import Cursor, Lost, cbor, fields, need

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXES = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
START, END, PARENT, ROOT = 1, 2, 4, 8
SLICE = 1024


def compress(value, block, counter, length, flags):
    """BLAKE3's compression function: eight words of 32 bits."""
    words = [int.from_bytes(block[i:i + 4], "little") for i in range(0, 64, 4)]
    v = list(value) + list(IV[:4]) + [counter & 0xFFFFFFFF, counter >> 32, length, flags]

    def turn(x, n):
        return (x >> n | x << (32 - n)) & 0xFFFFFFFF
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(MIXES):
            for word, first, second in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & 0xFFFFFFFF
                v[d] = turn(v[d] ^ v[a], first)
                v[c] = (v[c] + v[d]) & 0xFFFFFFFF
                v[b] = turn(v[b] ^ v[c], second)
        words = [words[i] for i in ORDER]
    return tuple(v[i] ^ v[i + 8] for i in range(8))


def packed(words):
    return b"".join(w.to_bytes(4, "little") for w in words)


def chunk_value(data, number, root):
    """The chaining value of a chunk; as the root it is the hash of all there is."""
    value = IV
    blocks = [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
    for i, block in enumerate(blocks):
        flags = (START if i == 0 else 0) | ((END | (ROOT if root else 0)) if i == len(blocks) - 1 else 0)
        value = compress(value, block.ljust(64, b"\0"), number, len(block), flags)
    return packed(value)


def parent_value(left, right, root):
    return packed(compress(IV, left + right, 0, 64, PARENT | (ROOT if root else 0)))


def root_of_slice(data, number, length, beside):
    """What a slice and the values beside its way come to; the object has `length` bytes."""
    rest, offset, sides = length, 0, []
    while rest > SLICE:
        left = SLICE << (((rest - 1) // SLICE).bit_length() - 1)
        is_left = number * SLICE < offset + left
        sides.append(is_left)
        rest, offset = (left, offset) if is_left else (rest - left, offset + left)
    need(len(data) == rest and len(beside) == len(sides), "a slice of another form")
    value = chunk_value(data, number, not sides)
    for i, (is_left, other) in enumerate(zip(reversed(sides), beside)):
        pair = (value, other) if is_left else (other, value)
        value = parent_value(*pair, i == len(sides) - 1)
    return value


def verify(data):
    """Lines that say what was shown; raises Lost where something was not."""
    need(data[:8] == b"LVTSPOT\1", "this is no spot proof")
    c = Cursor(data)
    c.take(8)
    began = int.from_bytes(c.take(8), "little", signed=True)
    manifests = [c.bytes() for _ in range(c.varint())]
    ids = [blake3(m).digest() for m in manifests]
    need(all(a < b for a, b in zip(ids, ids[1:])), "its manifests do not ascend")
    packs = []
    for m in manifests:
        need(m[:8] == b"LVTMANI\1", "something else than a manifest")
        leaves, = fields(cbor(m[12:12 + int.from_bytes(m[8:12], "little")]), leaves=(5, list))
        packs += [(pack, 4096 << 2 * size_class) for size_class, pack, _ in leaves]
    nonce = c.take(32)
    count = c.varint()
    need(count <= 1024, "more slices than the limit")
    total = sum(length // SLICE for _, length in packs)
    stream = blake3(b"lavatube/1 spot", key=nonce).digest(length=16 * count) if count else b""
    picks = []
    for i in range(count):
        at = int.from_bytes(stream[16 * i:16 * i + 16], "little") % total
        for pack, length in packs:
            if at < length // SLICE:
                picks.append((pack, at, length))
                break
            at -= length // SLICE
    missed = 0
    for pack, number, length in sorted(picks):
        ground = c.take(1)[0]
        if ground:
            missed += 1
            continue
        piece = c.bytes()
        beside = [c.take(32) for _ in range(c.varint())]
        need(root_of_slice(piece, number, length, beside) == pack, f"slice {number} is not of pack {pack.hex()}")
    c.end()
    need(not missed, f"{missed} of {count} slices were not shown")
    when = datetime.datetime.fromtimestamp(began, datetime.timezone.utc).isoformat()
    sure = 100 * (1 - 0.99 ** count)
    return [f"all shown: {count} slices, picked by chance of {len(packs)} packs; had 1 % been gone, this would have shown it with {sure:.1f} %",
            f"  claimed, and not proved: asked {when}; about manifests {', '.join(i.hex() for i in ids)}"]


def main(argv):
    if len(argv) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with open(argv[0], "rb") as file:
            print("\n".join(verify(file.read())))
    except (Lost, ValueError, OverflowError) as problem:
        print(f"not proven: {problem}", file=sys.stderr)
        return 16
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
