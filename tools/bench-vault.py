#!/usr/bin/env python3
"""Measures what a vault is made of against what others have, in the same run: the erasure code against ISA-L, and taking in, scrubbing and
repairing against the disk itself.

    cargo xtask bench vault [--mib 1024] [--code 4+2] [--rounds 3] [--work FOLDER]

ISA-L is Debian's libisal2, called through ctypes; without it that part is skipped, loudly. Both have one core and the same
shapes, a Cauchy matrix each, in turns, and of each the best round counts: whoever else works on the machine can only slow one down.
"""

import argparse
import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPES = [(4, 2), (10, 4), (20, 8), (64, 16)]
KIB = [64, 1024]


class Isal:
    """Intel's library, as Debian has it."""

    def __init__(self, name="libisal.so.2"):
        self.lib = ctypes.CDLL(name)

    def matrix(self, k, m):
        rows = (ctypes.c_ubyte * ((k + m) * k))()
        self.lib.gf_gen_cauchy1_matrix(rows, k + m, k)
        return rows

    def tables(self, k, rows):
        tables = (ctypes.c_ubyte * (32 * k * (len(rows) // k)))()
        self.lib.ec_init_tables(k, len(rows) // k, (ctypes.c_ubyte * len(rows))(*rows), tables)
        return tables

    @staticmethod
    def buffers(count, size):
        held = [ctypes.create_string_buffer(os.urandom(size), size) for _ in range(count)]
        return held, (ctypes.c_void_p * count)(*[ctypes.addressof(b) for b in held])

    def encode(self, k, m, size):
        """GB of data a second."""
        tables = self.tables(k, self.matrix(k, m)[k * k:])
        data, parity = self.buffers(k, size), self.buffers(m, size)
        return rate(k * size, lambda: self.lib.ec_encode_data(size, k, m, tables, data[1], parity[1]))

    def rebuild(self, k, m, size):
        """m data shards from the others; compared with what they were."""
        lost, matrix = min(m, k), self.matrix(k, m)
        data, parity = self.buffers(k, size), self.buffers(m, size)
        self.lib.ec_encode_data(size, k, m, self.tables(k, matrix[k * k:]), data[1], parity[1])
        left = list(range(lost, k + m))[:k]
        square = (ctypes.c_ubyte * (k * k))(*[matrix[row * k + c] for row in left for c in range(k)])
        inverse = (ctypes.c_ubyte * (k * k))()
        if self.lib.gf_invert_matrix(square, inverse, k) != 0:
            sys.exit("ISA-L: the matrix has no inverse")
        tables = self.tables(k, inverse[:lost * k])
        all_of = list(data[0]) + list(parity[0])
        views = (ctypes.c_void_p * k)(*[ctypes.addressof(all_of[row]) for row in left])
        rebuilt = self.buffers(lost, size)
        out = rate(k * size, lambda: self.lib.ec_encode_data(size, k, lost, tables, views, rebuilt[1]))
        assert all(rebuilt[0][i].raw == data[0][i].raw for i in range(lost)), "rebuilt what was lost"
        return out


def rate(size, work):
    """GB a second, the best of three fifths of a second, as the Rust side measures."""
    work()
    best = 0.0
    for _ in range(3):
        start, rounds = time.perf_counter(), 0
        while time.perf_counter() - start < 0.2:
            work()
            rounds += 1
        best = max(best, rounds * size / (time.perf_counter() - start) / 1e9)
    return best


def ours():
    """(k, m, KiB) -> GB/s of encoding and of rebuilding m data shards."""
    text = subprocess.run(example("lavatube-codes", "codes_speed"), stdout=subprocess.PIPE, text=True, check=True).stdout
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 5 and "+" in words[0] and words[2] == "KiB":
            k, m = map(int, words[0].split("+"))
            found[k, m, int(words[1])] = (float(words[3]), float(words[4]))
    return found


def example(package, name):
    return ["cargo", "run", "--quiet", "--release", "-p", package, "--example", name, "--"]


def codes(rounds):
    try:
        isal = Isal()
    except OSError:
        print("\n!!!! SKIPPED: ISA-L is not here (Debian: libisal2)\n")
        return
    best_ours, best_theirs = {}, {}
    for _ in range(rounds):
        for key, pair in ours().items():
            best_ours[key] = tuple(map(max, best_ours.get(key, (0, 0)), pair))
        for k, m in SHAPES:
            for kib in KIB:
                pair = isal.encode(k, m, kib << 10), isal.rebuild(k, m, kib << 10)
                key = (k, m, kib)
                best_theirs[key] = tuple(map(max, best_theirs.get(key, (0, 0)), pair))
    print(f"\nGB/s of data, one core, best of {rounds}\n")
    print("| code | shard | encode | ISA-L | ratio | rebuild m data shards | ISA-L | ratio |\n|---|---|---|---|---|---|---|---|")
    for key, (encode, rebuild) in sorted(best_ours.items()):
        other = best_theirs[key]
        print(f"| {key[0]}+{key[1]} | {key[2]} KiB | {encode:.1f} | {other[0]:.1f} | {encode / other[0]:.2f} | "
              f"{rebuild:.1f} | {other[1]:.1f} | {rebuild / other[1]:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="MiB of packs that are stored")
    parser.add_argument("--code", default="4+2", help="data + parity shards of the vault on this disk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", help="a folder on the disk to measure")
    args = parser.parse_args()
    codes(args.rounds)
    print(flush=True)
    with tempfile.TemporaryDirectory(dir=args.work, prefix="lavatube-bench-") as work:
        subprocess.run([*example("lavatube-node", "vault_disk"), work, str(args.mib), *args.code.split("+")], check=True)


if __name__ == "__main__":
    main()
