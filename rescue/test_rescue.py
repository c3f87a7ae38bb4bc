"""Tests of rescue.py: python3 -m unittest -v test_rescue (in this folder, with the libraries of requirements.txt).

Vectors: every golden file in ../vectors that rescue.py has to do with. Builder: a vault written here from FORMAT.md with
all that trees can have, and damaged in many ways. EndToEnd: a vault written by the lavatube program, when there is one
(LAVATUBE_BIN, or ../target/release/lavatube, or ../target/debug/lavatube)."""
import collections, contextlib, glob, hashlib, io, json, os, random, shutil, stat, struct, subprocess, sys, tempfile, time, unittest

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import evidence
import rescue as r
import spot

VECTORS = os.path.join(HERE, "..", "vectors")
H = bytes.fromhex


def golden(name):
    with open(os.path.join(VECTORS, name), "rb") as f:
        return f.read()


def quietly(*argv):
    """rescue.main with its output caught: (exit status, all text)."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = r.main([str(a) for a in argv])
    return status, out.getvalue()


def contents(folder):
    """What a folder holds, to compare: path -> (kind, mode, time, content or target, holes, hard-link group)."""
    found, groups = {}, {}
    for where, names, files in os.walk(folder):
        for name in names + files:
            path = os.path.join(where, name)
            s = os.lstat(path)
            kind = stat.S_IFMT(s.st_mode)
            what = os.readlink(path) if stat.S_ISLNK(kind) else b""
            if stat.S_ISREG(kind):
                with open(path, "rb") as f:
                    what = hashlib.sha256(f.read()).hexdigest()
            rel = os.path.relpath(path, folder)
            group = groups.setdefault(s.st_ino, rel) if s.st_nlink > 1 and not stat.S_ISDIR(kind) else None
            xattrs = {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)}
            found[rel] = (kind, stat.S_IMODE(s.st_mode), s.st_mtime_ns, what, group, xattrs)
    return found



def polyval(h, data):
    """RFC 8452 section 3, bit by bit."""
    total = 0
    for i in range(0, len(data), 16):
        a, product = total ^ int.from_bytes(data[i:i + 16], "little"), 0
        for bit in range(128):
            product ^= (a << bit) if h >> bit & 1 else 0
        for _ in range(128):                                    # divided by x: where x is no factor, after adding the modulus
            product = (product ^ (POLYVAL if product & 1 else 0)) >> 1
        total = product
    return total


POLYVAL = 1 << 128 | 1 << 127 | 1 << 126 | 1 << 121 | 1

class Vectors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.v = json.loads(golden("seal-v1.json"))
        cls.root = r.root_from_recovery(cls.v["recovery_text"])
        cls.keys = r.keys_from_root(cls.root)
        cls.session = H(cls.v["session"]["id"])
        cls.prk = r.extract(cls.keys.psk, H(cls.v["session"]["secret"]))

    def test_recovery_text(self):
        self.assertEqual(self.root, H(self.v["root_seed"]))
        easy = self.v["recovery_text"].lower().replace("-", " ").replace("0", "o").replace("1", "l")
        self.assertEqual(r.root_from_recovery(easy), self.root)
        with self.assertRaises(r.Lost):
            r.root_from_recovery(self.v["recovery_text"].replace("G4", "G5"))

    def test_key_derivation(self):
        d = self.v["derived"]
        self.assertEqual(self.keys.psk, H(d["psk"]))
        self.assertEqual(self.keys.chunk_id, H(d["chunk_id_key"]))
        self.assertEqual(self.keys.read.public, H(d["read_public"]))
        self.assertEqual(self.keys.read.id, H(d["read_key_id"]))
        self.assertEqual(self.keys.authority, (H(d["authority_ed25519_public"]), H(d["authority_ml_dsa_65_public"])))

    def test_key_files(self):
        locked = self.v["read"]["locked_key_file"]
        keys = r.keys_from_read_key(locked, lambda: self.v["read"]["passphrase_text"].encode())
        self.assertEqual((keys.psk, keys.chunk_id, keys.read.public, keys.authority, keys.tenant),
                         (self.keys.psk, self.keys.chunk_id, self.keys.read.public, self.keys.authority, "default"))
        self.assertEqual(r.open_key_file(locked, 2, lambda: b"lavatube"), r.cbor(H(self.v["read"]["body"])))
        with self.assertRaises(r.Lost):
            r.open_key_file(locked, 2, lambda: b"wrong")
        deposit = r.open_key_file(self.v["deposit"]["key_file"], 1)
        self.assertEqual(deposit[8], H(self.v["deposit"]["card"]))
        self.assertEqual((deposit[6], deposit[7]), (H(self.v["deposit"]["ed25519_seed"]), H(self.v["deposit"]["ml_dsa_65_seed"])))
        self.assertEqual(deposit[4], H(self.v["derived"]["chunker_secret"]))

    def test_chunk_id(self):
        c = self.v["chunk"]
        self.assertEqual(blake3(c["content_text"].encode(), key=self.keys.chunk_id).digest()[:24], H(c["id"]))

    def test_session_unwrap(self):
        s = self.v["session"]
        info = b"lavatube/1 session" + self.session + H(self.v["deposit"]["depositor"])
        self.assertEqual(self.keys.read.hpke_open(H(s["enc"]), H(s["ct"]), info), H(s["secret"]))
        with self.assertRaises(r.Lost):
            self.keys.read.hpke_open(H(s["enc"]), H(s["ct"]), info + b"!")

    def test_packs(self):
        first, second = self.v["packs"]
        sealed = H(first["sealed"])
        pack = r.Pack(lambda a, b: sealed[a:b], self.prk, self.session, 0, 0)
        self.assertEqual(pack.plain(0, pack.capacity), bytes((1 + 11 * i) % 256 for i in range(pack.capacity)))
        self.assertEqual(blake3(sealed).hexdigest(), first["blake3"])
        # The second is given by a rule only: seal it again, then open the seal.
        plain = bytes(i * i % 251 for i in range(65536 - 96 - 4 * 16))
        sealed = seal_pack(self.prk, self.session, 1, 2, plain)
        self.assertEqual(blake3(sealed).hexdigest(), second["blake3"])
        self.assertEqual(hashlib.sha256(sealed).hexdigest(), second["sha256"])
        self.assertEqual(sealed[64:96], H(second["commitment"]))
        pack = r.Pack(lambda a, b: sealed[a:b], self.prk, self.session, 1, 2)
        self.assertEqual(pack.plain(16380, 33000), plain[16380:33000])
        with self.assertRaises(r.Lost):
            r.Pack(lambda a, b: sealed[a:b], self.prk, self.session, 2, 2)

    def test_card_and_manifest(self):
        depositor, ed, ml, label = r.parse_depositor_card(H(self.v["deposit"]["card"]), self.keys.authority)
        self.assertEqual((depositor, label), (H(self.v["deposit"]["depositor"]), "golden machine"))
        data = golden("manifest-v1.bin")
        m = r.Manifest(data, {depositor: (ed, ml)})
        self.assertTrue(m.verified)
        self.assertEqual(m.unwrap(self.keys), self.prk)
        self.assertEqual(m.note(), ("default", [[H(self.v["chunk"]["id"]), 0], [m.note()[1][1][0], 1]], []))
        self.assertEqual([leaf[1].hex() for leaf in m.leaves], [p["blake3"] for p in self.v["packs"]])
        self.assertFalse(r.Manifest(data, {}).verified)
        for at in (-1, -3310):                                  # the last byte of each signature
            bad = bytearray(data)
            bad[at] ^= 1
            self.assertFalse(r.Manifest(bytes(bad), {depositor: (ed, ml)}).verified)
        with self.assertRaises(r.Lost):
            r.Manifest(data + b"\0", {})
        with self.assertRaises(r.Lost):
            r.parse_depositor_card(H(self.v["deposit"]["card"]), (ed, ml))

    def test_manifest_that_joins(self):
        depositor, ed, ml, _ = r.parse_depositor_card(H(self.v["deposit"]["card"]), self.keys.authority)
        m = r.Manifest(golden("manifest_joins-v1.bin"), {depositor: (ed, ml)})
        self.assertTrue(m.verified)
        self.assertEqual((m.sequence, [i[0] for i in m.follows]), (9, [0xf0, 0x20, 0x30]))
        m.unwrap(self.keys)
        self.assertEqual(m.note(), ("default", [], []))

    def test_manifest_with_marks(self):
        depositor, ed, ml, _ = r.parse_depositor_card(H(self.v["deposit"]["card"]), self.keys.authority)
        m = r.Manifest(golden("manifest_marks-v1.bin"), {depositor: (ed, ml)})
        self.assertTrue(m.verified)
        m.unwrap(self.keys)
        tenant, snapshots, marks = m.note()
        self.assertEqual((tenant, snapshots, [(mark[0][0], mark[1], mark[2]) for mark in marks]),
                         ("default", [], [(9, 1, 1), (9, 0, 2), (7, 1, 1)]))
        self.assertEqual([m.is_right(mark) for mark in marks], [True, True, False])

    def test_manifest_that_is_kept(self):
        depositor, ed, ml, _ = r.parse_depositor_card(H(self.v["deposit"]["card"]), self.keys.authority)
        m = r.Manifest(golden("manifest_kept-v1.bin"), {depositor: (ed, ml)})
        self.assertTrue(m.verified)
        self.assertEqual((m.sequence, m.retention, m.releases), (12, [315_576_000, 1], 3))

    def test_release(self):
        release = r.Release(golden("release-v1.bin"), self.keys.authority)
        self.assertTrue(release.verified)
        self.assertEqual((release.vault, release.size, release.number, len(release.objects), len(release.settled)),
                         (b"\x17" * 16, 300, 7, 2, 1))
        self.assertEqual([i[0] for i in release.snapshots(self.keys.psk)], [9])
        other = r.Release(golden("release-v1.bin"), (bytes(32), bytes(1952)))
        self.assertFalse(other.verified)

    def test_manifest_with_tags(self):
        """Tags are those of FORMAT 17, made here from its text alone; the manifest names the object they are in."""
        depositor, ed, ml, _ = r.parse_depositor_card(H(self.v["deposit"]["card"]), self.keys.authority)
        m = r.Manifest(golden("manifest_tags-v1.bin"), {depositor: (ed, ml)})
        self.assertTrue(m.verified)
        stored = golden("tags-v1.bin")
        self.assertEqual(m.tags, [blake3(stored).digest()])
        prk = r.extract(b"lavatube/1 audit", self.keys.psk)
        mask, key = r.expand(prk, b"mask", 32), int.from_bytes(r.expand(prk, b"hash", 32)[:16], "little")
        tags = b"LVTTAGS\1"
        second = seal_pack(self.prk, self.session, 1, 2, bytes(i * i % 251 for i in range(65536 - 96 - 4 * 16)))
        for data in (H(self.v["packs"][0]["sealed"]), second):
            blocks = [data[i:i + 16384].ljust(16384, b"\0") for i in range(0, len(data), 16384)]
            masks = blake3(blake3(data).digest(), key=mask).digest(length=16 * len(blocks))
            for i, block in enumerate(blocks):
                tag = polyval(key, block) ^ int.from_bytes(masks[16 * i:16 * i + 16], "little")
                tags += tag.to_bytes(16, "little")
        self.assertEqual(tags, stored)

    def test_evidence(self):
        text = golden("evidence-v1.txt").decode()
        file = os.path.join(VECTORS, "evidence-v1.file")
        proven = evidence.verify(text, file)
        self.assertTrue(proven[0].startswith("proven"), proven)
        self.assertTrue(evidence.verify(text.replace("\n", "\r\n"), file))
        authority = proven[1].rsplit(" ", 1)[1]
        self.assertTrue(evidence.verify(text, file, authority))
        with self.assertRaisesRegex(r.Lost, "not the one that was asked for"):
            evidence.verify(text, file, "00" * 32)
        manifest = r.Manifest(golden("manifest_files-v1.bin"), {})
        self.assertEqual((manifest.sequence, manifest.leaves), (1, []))
        with tempfile.TemporaryDirectory() as folder:
            whole, other = golden("evidence-v1.file"), os.path.join(folder, "other")
            for change, why in [(whole + b"x", "something was added"), (whole[:-1], "something is missing"),
                                (bytes([whole[0] ^ 1]) + whole[1:], "is not the one that was backed up"),
                                (whole[:5000] + b"x" + whole[5001:], "where there should be holes")]:
                with open(other, "wb") as f:
                    f.write(change)
                with self.assertRaisesRegex(r.Lost, why):
                    evidence.verify(text, other)
        lines = text.splitlines()
        for i, line in enumerate(lines):
            changed = line[:-1] + ("A" if line[-1:] != "A" else "B")
            for new in ([], [changed]):
                if line.startswith("name ") or line.startswith("made "):
                    continue                                    # what is only claimed may be another
                with self.assertRaises((r.Lost, ValueError, KeyError), msg=line):
                    evidence.verify("\n".join(lines[:i] + new + lines[i + 1:]) + "\n", file)

    def test_spot_proof(self):
        for n in (0, 1, 64, 65, 1023, 1024):                    # the compression function here against the library
            self.assertEqual(spot.chunk_value(bytes(n), 0, True), blake3(bytes(n)).digest())
        data = golden("spot_real-v1.bin")
        self.assertTrue(spot.verify(data)[0].startswith("all shown: 4 slices"))
        for at in range(len(data) - 5000, len(data), 251):      # in the slices and beside them
            with self.assertRaises((r.Lost, ValueError)):
                spot.verify(data[:at] + bytes([data[at] ^ 4]) + data[at + 1:])
        with self.assertRaises(r.Lost):
            spot.verify(data[:-1])
        drawn = blake3(b"lavatube/1 spot", key=b"\7" * 32).digest(length=128)
        want = sorted((b"\1" * 32, n) if n < 4 else (b"\2" * 32, n - 4)
                      for n in (int.from_bytes(drawn[i:i + 16], "little") % 1028 for i in range(0, 128, 16)))
        self.assertEqual(b"".join(p + n.to_bytes(8, "little") for p, n in want), golden("spot_picks-v1.bin"))

    def test_roll(self):
        c = r.Cursor(golden("roll-v1.bin"))
        self.assertEqual((c.uint(1), [(c.varint(), c.varint()) for _ in range(c.varint())]), (1, [(0, 2), (300, 16), (1, 1)]))
        self.assertEqual((c.take(32), c.take(32), c.left()), (b"\1" * 32, b"\2" * 32, 0))
        record = r.cbor(golden("snapshot_roll-v1.bin"))
        self.assertEqual(record[11], [b"\4" * 24, b"\5" * 24])

    def test_shard_file(self):
        """The vector is one header; the file around it is made here."""
        raw = golden("shard-v1.bin")
        shard = r.parse_header(raw)
        self.assertEqual((shard.k, shard.m, shard.index, shard.length, shard.blocks, shard.rotation),
                         (4, 2, 5, 75008, 5, 5 * (75008 // 6 // 64 * 64)))
        for i in range(len(raw)):
            self.assertIsNone(r.parse_header(raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1:]))

    def test_the_log(self):
        shard = r.parse_header(golden("shard_logged-v1.bin"))
        self.assertEqual((shard.kind, shard.place), (2, 0x01020305))
        self.assertEqual(r.parse_header(golden("shard-v1.bin")).place, 0)
        key = Ed25519PrivateKey.from_private_bytes(b"\4" * 32).public_key().public_bytes_raw()
        note = golden("checkpoint-v1.txt").decode()
        self.assertEqual(r.parse_checkpoint(note, key), (b"\xa1" * 16, 12345, b"\x5a" * 32))
        for bad in (note.replace("12345", "12346"), note.replace("lavatube/a1", "lavatube/a2"), note.replace("nonce 0", "nonce 1")):
            with self.assertRaises(r.Lost):
                r.parse_checkpoint(bad, key)
        with self.assertRaises(r.Lost):
            r.parse_checkpoint(note, b"\1" * 32)
        c = r.Cursor(golden("message_log_asked-v1.bin"))
        self.assertEqual((c.uint(1), c.uint(8), c.take(16), c.varint(), c.varint()), (11, 10, b"\7" * 16, 300, 2))
        self.assertEqual((c.take(32), c.take(32)), (b"\1" * 32, b"\2" * 32))
        c.end()
        c = r.Cursor(golden("message_logged-v1.bin"))
        self.assertEqual((c.uint(1), c.uint(8), r.parse_checkpoint(c.bytes().decode(), key)[1]), (12, 10, 301))
        self.assertEqual((c.uint(1), [c.take(32)[0] for _ in range(c.varint())], c.varint()), (1, [3, 4], 2))
        self.assertEqual((c.take(32)[0], c.varint(), [c.take(32)[0] for _ in range(c.varint())]), (1, 301, [5]))
        self.assertEqual((c.take(32)[0], c.varint()), (2, 0))
        c.end()

    def test_drive_card(self):
        data = golden("drive_card-v1.bin")
        self.assertEqual(data[:len(data) // 2], data[len(data) // 2:])
        card = r.parse_drive_card(data[:len(data) // 2])
        self.assertEqual((card[3], card[4], [s[2] for s in card[8]]), (2, 1, ["drive-1", "drive-2", "drive-3"]))

    def test_drive_card_that_was_changed(self):
        data = golden("drive_card_changed-v1.bin")
        card = r.parse_drive_card(data[:len(data) // 2])
        self.assertEqual((card[9], [s[2] for s in card[8]], [s.get(6, 0) for s in card[8]]),
                         (3, ["drive-1", "drive-2", "drive-3", "added"], [1, 0, 0, 0]))

    def test_drive_card_of_a_vault_that_took_mandates(self):
        data = golden("drive_card_mandates-v1.bin")
        card = r.parse_drive_card(data[:len(data) // 2])
        self.assertEqual((card[9], card[10], [s[2] for s in card[8]]), (4, 300, ["drive-1", "drive-2", "drive-3"]))

    def test_mandate(self):
        """Mandates never lie on a drive; the text of FORMAT 22 is checked all the same."""
        c = r.Cursor(golden("mandate-v1.bin"))
        self.assertEqual(c.take(8), b"LVTMAND\1")
        b = r.Cursor(c.take(c.uint(4)))
        self.assertEqual((b.take(16), b.varint(), b.uint(1), b.take(16)), (b"\x17" * 16, 300, 6, b"\x22" * 16))
        b.end()
        c.take(64 + 3309)
        c.end()

    def test_scrubs(self):
        """rescue.py reads drives, and this is beside them; the text of FORMAT 9 is checked all the same."""
        for version, found in (1, [(300, 1)]), (2, [(300, 1, 0, 0, 0), (0, 0, 2, 4, 1)]):
            data = golden(f"scrubs-v{version}.bin")
            self.assertEqual((data[:8], r.h16(data[:-16])), (b"LVTSCRB" + bytes([version]), data[-16:]))
            c, ends = r.Cursor(data[8:-16]), []
            for _ in range(c.varint()):
                began, _, until, _, end, _ = c.uint(8), c.uint(4), c.uint(8), c.uint(4), c.uint(1), c.take(32)
                ms, objects, length, read, unsound, degraded, mended, left, lost = (c.varint() for _ in range(9))
                named = [c.take(32) for _ in range(c.varint())]
                drives = [(c.take(16), c.varint(), c.varint()) + ((c.varint(), c.varint(), c.uint(1)) if version == 2 else ())
                          for _ in range(c.varint())]
                began_at = c.varint() if version == 2 else 0
                self.assertIn(began_at, (0, 70_000))
                ends.append((end, objects, mended, len(named), [d[1:] for d in drives]))
            self.assertEqual(ends, [(1, 1234, 2, 1, found), (2, 0, 0, 0, []), (0, 0, 0, 0, [])])
            self.assertEqual(c.left(), 0)

    def test_journal_and_receipt(self):
        """rescue.py needs neither; the text of FORMAT 6 is checked all the same."""
        for name, records in ("journal-v1.bin", [1, 2]), ("journal_drives-v1.bin", [3, 3, 3, 3, 4, 5]):
            c, check, kinds, drives = r.Cursor(golden(name)), bytes(16), [], []
            while c.left():
                start = c.at
                length, sequence, kind = c.uint(4), c.uint(8), c.uint(1)
                body = c.take(length)
                check = r.h16(check + c.data[start:c.at])
                self.assertEqual(check, c.take(16))
                stored = 1 + 32 + 8 + 4 + 2 + body[45] + body[46] if kind == 1 else 0
                self.assertEqual(length, {1: stored, 2: 39, 3: 2, 4: 1, 5: 34}[kind])
                kinds.append(kind)
                drives += [tuple(body[-2:])] if kind > 2 else []
                self.assertEqual(sequence, len(kinds))
            self.assertEqual(kinds, records)
        self.assertEqual(drives, [(0, 1), (1, 2), (2, 3), (3, 4), (2,), (4, 1)])
        c, check, lengths = r.Cursor(golden("journal_release-v1.bin")), bytes(16), []
        while c.left():
            start = c.at
            length, _, kind = c.uint(4), c.uint(8), c.uint(1)
            c.take(length)
            check = r.h16(check + c.data[start:c.at])
            self.assertEqual(check, c.take(16))
            lengths.append((kind, length))
        self.assertEqual(lengths, [(12, 41), (13, 33), (14, 32)])
        receipt = r.cbor(golden("receipt-v1.bin")[:-64])
        self.assertEqual([len(receipt[i]) for i in (1, 4, 5)], [16, 32, 16])

    def test_what_a_depositor_keeps(self):
        """Not needed either; the text of FORMAT 9 and 10 is checked."""
        wraps = lambda c: [(c.take(8), c.take(1120), c.take(48)) for _ in range(c.varint())]
        c, kinds = r.Cursor(golden("open_session-v2.bin")), []
        self.assertEqual(c.take(8), b"LVTOPEN\2")
        while c.left():
            start, body = c.at, r.Cursor(c.take(c.uint(4)))
            self.assertEqual(r.h16(c.data[start:c.at]), c.take(16))
            kinds.append(body.uint(1))
            if kinds[-1] == 1:
                self.assertEqual((body.take(16), body.take(32), body.bytes(), body.take(32), len(wraps(body))),
                                 (b"\7" * 16, b"\5" * 32, b"default", b"\x08" * 32, 2))
            else:
                row = body.take(64)
                self.assertEqual(row[53:], r.h16(row[:53])[:11])
                self.assertEqual((body.take(32), body.varint(), body.bytes()), (b"\t" * 32, 1, b"\0\x40\1" + b"\3" * 24 + b"\x80\1"))
            body.end()
        self.assertEqual(kinds, [1, 2])
        c = r.Cursor(golden("ledger-v1.bin"))
        for _ in range(2):
            object_id, length = c.take(32), c.uint(4)
            receipt, check = c.take(length), c.take(16)
            self.assertEqual(r.cbor(receipt[:-64])[4], object_id)
            self.assertEqual(check, r.h16(object_id + length.to_bytes(4, "little") + receipt))
        c.end()
        c = r.Cursor(golden("tree_cache_head-v1.bin"))
        self.assertEqual((c.take(8), c.take(24), c.zigzag(), c.varint(), c.varint()),
                         (b"LVTTREE\1", b"\3" * 24, 1_790_000_000, 123, 4))
        self.assertEqual([(c.take(24)[0], c.varint(), c.varint(), c.varint()) for _ in range(c.varint())], [(2, 3, 4, 200), (1, 0, 3, 14)])
        self.assertEqual((c.varint(), c.varint(), c.take(32)), (13, 1 << 31, b"\5" * 32))
        c.end()
        c, entries = r.Cursor(golden("tree_cache_body-v1.bin")), []
        while c.left():
            block, path = r.Cursor(c.take(c.uint(4))), b""
            while block.left():
                stamp = block.zigzag(), block.varint(), block.varint(), block.varint(), block.varint()
                n = 500 + len(entries)
                self.assertEqual(stamp, (-1, 999_999_999, n, 0x801, 1 + n % 4))
                entries.append(r.parse_entry(block.bytes(), path, 0))
                path = entries[-1].path
        again, path = r.Cursor(golden("tree_chunk-v1.bin")), b""
        for e in entries:
            self.assertEqual(r.parse_entry(again.bytes(), path, 0), e)
            path = e.path
        again.end()
        c = r.Cursor(golden("agent_requests-v1.bin"))
        hello, ask = c.take(c.uint(4)), r.Cursor(c.take(c.uint(4)))
        self.assertEqual((hello, ask.take(1), ask.take(16), ask.take(32), len(wraps(ask))), (b"\1", b"\2", b"\7" * 16, b"\x08" * 32, 2))
        ask.end(), c.end()
        c = r.Cursor(golden("agent_replies-v1.bin"))
        hello, opened, refused = (r.Cursor(c.take(c.uint(4))) for _ in range(3))
        c.end()
        self.assertEqual((hello.take(1), hello.bytes(), hello.take(32)[0], hello.take(32)[0], hello.take(32)[0], hello.take(1952)[0]),
                         (b"\1", b"default", 1, 2, 3, 4))
        self.assertEqual((opened.take(33), refused.take(1), refused.bytes()), (b"\2" + b"\5" * 32, b"\3", b"another key"))
        hello.end(), opened.end(), refused.end()

    def test_parity(self):
        """The check at the end of FORMAT 7, then all pairs of losses."""
        data = [bytes((31 * j + 7 * b) % 256 for b in range(16)) for j in range(4)]
        all_ = [r.combine(r.code_row(4, i), data) for i in range(6)]
        self.assertEqual(all_[4].hex(), "7c00040004808c808c8004000400fc80")
        self.assertEqual(all_[5].hex(), "61f94fa4e6bdf432e61a2eff8722ed1e")
        for chosen in r.itertools.combinations(range(6), 4):
            self.assertEqual([r.combine(row, [all_[i] for i in chosen]) for row in r.decoder(4, chosen)], data)

    def test_cursor_and_cbor(self):
        for n in (0, 1, 127, 128, 300, 2**32, 2**64 - 1):
            self.assertEqual(r.Cursor(varint(n)).varint(), n)
        for bad in ("8000", "ffffffffffffffffffff01", "ff" * 9 + "02", "80"):
            with self.assertRaises(r.Lost):
                r.Cursor(H(bad)).varint()
        self.assertEqual([r.Cursor(varint(n)).zigzag() for n in range(4)], [0, -1, 1, -2])
        for bad in ("1800", "190018", "9fff", "a2020101", "a201010202ff", "a202010102", "5affffffff", "f4", "c001", "9bffffffffffffffff",
                    "81" * 40 + "00", "61ff", ""):
            with self.assertRaises(r.Lost, msg=bad):
                r.cbor(H(bad))


# --- A vault written from FORMAT.md ----------------------------------------------------------------------------------------

def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def blob(b):
    return varint(len(b)) + b


def cbor(v):
    head = lambda major, n: bytes([major << 5]) if n == 0 else bytes([r.cbor_encode(n)[0] | major << 5]) + r.cbor_encode(n)[1:]
    if isinstance(v, int):
        return head(0, v) if v >= 0 else head(1, -1 - v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    if isinstance(v, list):
        return head(4, len(v)) + b"".join(map(cbor, v))
    return head(5, len(v)) + b"".join(cbor(k) + cbor(v[k]) for k in sorted(v))


def seal_pack(prk, session, number, size_class, plain):
    key, commitment = r.pack_keys(prk, session, number, size_class)
    out = b"LVTPACK\1aesgcm-1" + session + struct.pack("<IB", number, size_class) + bytes(27) + commitment
    pieces = [plain[i:i + 16384] for i in range(0, len(plain), 16384)]
    for i, piece in enumerate(pieces):
        out += AESGCM(key).encrypt(bytes(7) + struct.pack(">IB", i, i == len(pieces) - 1), piece, None)
    assert len(out) == 4096 << (2 * size_class)
    return out


class Builder:
    """Writes a vault with one depositor, as FORMAT.md says and nothing else was looked at."""
    VAULT = b"V" * 16

    def __init__(self, folder, root=bytes(range(32)), k=4, m=2):
        self.keys, self.k, self.m = r.keys_from_root(root), k, m
        self.drives = [os.path.join(folder, f"d{i}") for i in range(k + m)]
        derive = lambda label: r.expand(r.extract(b"lavatube/1", root), label, 32)
        self.authority = (Ed25519PrivateKey.from_private_bytes(derive(b"authority/ed25519")),
                          MLDSA65PrivateKey.from_seed_bytes(derive(b"authority/ml-dsa-65")))
        self.ed, self.ml = Ed25519PrivateKey.from_private_bytes(b"e" * 32), MLDSA65PrivateKey.from_seed_bytes(b"m" * 32)
        ed, ml = self.ed.public_key().public_bytes_raw(), self.ml.public_key().public_bytes_raw()
        self.depositor = blake3(b"lavatube/1 depositor" + ed + ml).digest()
        for i, drive in enumerate(self.drives):
            os.makedirs(drive)
            body = cbor({1: self.VAULT, 2: bytes([i]) * 16, 3: k, 4: m, 5: bytes(32), 6: self.keys.authority[0],
                         7: self.keys.authority[1], 8: []})
            card = b"LVTDRIV\1" + struct.pack("<I", len(body)) + body
            with open(os.path.join(drive, "drive.card"), "wb") as f:
                f.write((card + blake3(card).digest()) * 2)
        self.store(3, self.signed(b"LVTCARD\1", b"lavatube/1 depositor card\0", cbor({1: "builder", 2: ed, 3: ml}),
                                  self.authority))
        self.sequence, self.before, self.random = 0, None, random.Random(7)
        self.begin()

    @staticmethod
    def signed(magic, context, body, keys):
        return magic + struct.pack("<I", len(body)) + body + keys[0].sign(context + body) + keys[1].sign(context + body)

    def begin(self):
        self.session, self.secret = self.random.randbytes(16), self.random.randbytes(32)
        self.prk = r.extract(self.keys.psk, self.secret)
        self.frames, self.leaves, self.snapshots = [], [], []

    def chunk(self, content, base=None):
        """A chunk in a frame of its own."""
        chunk_id = blake3(content, key=self.keys.chunk_id).digest()[:24]
        self.frames.append([(chunk_id, content, base)])
        return chunk_id

    def pack(self, size_class, zstd=True):
        plain, index = b"", b""
        for frame in self.frames:
            raw, chunks = b"", b""
            for chunk_id, content, base in frame:
                body = content
                if base is not None:
                    prefix = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
                    body = zstandard.ZstdCompressor(dict_data=prefix).compress(content)
                chunks += chunk_id + varint(len(body) * 2 + (base is not None))
                if base is not None:
                    chunks += blake3(base, key=self.keys.chunk_id).digest()[:24] + varint(len(content))
                raw += body
            stored = zstandard.ZstdCompressor().compress(raw) if zstd else raw
            index += bytes([zstd]) + varint(len(stored)) + varint(len(frame)) + chunks
            plain += stored
        size = 4096 << (2 * size_class)
        capacity = size - 96 - 16 * -(-(size - 96) // 16400)
        footer = struct.pack("<III", len(index), len(plain), len(self.frames)) + b"LVTI"
        plain += bytes(capacity - len(plain) - len(index) - 16) + index + footer
        sealed = seal_pack(self.prk, self.session, len(self.leaves), size_class, plain)
        self.frames = []
        self.leaves.append([size_class, blake3(sealed).digest(), hashlib.sha256(sealed).digest()])
        return self.store(1, sealed)

    def manifest(self, break_signature=False, sequence=None, follows=None):
        """Ends the session; `follows`: other manifests than the last (key 4, then those of key 9)."""
        note = cbor({1: "default", 2: self.snapshots})
        note += bytes(-len(note) % 256)
        label = b"lavatube/1 note" if self.snapshots else b"lavatube/1 empty note"
        key = r.expand(self.prk, label + self.session, 64)
        public = self.keys.read.public
        # The library's own HPKE seals, so that it is a check of the one in rescue.py.
        suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA512, hpke.AEAD.AES_256_GCM)
        wrapped = suite.encrypt(self.secret, hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:1184]), X25519PublicKey.from_public_bytes(public[1184:])),
            b"lavatube/1 session" + self.session + self.depositor)
        self.sequence = sequence or self.sequence + 1
        follows = [i for i in (self.before,) if i] if follows is None else follows
        body = {1: self.session, 2: self.depositor, 3: self.sequence, 5: self.leaves,
                6: r.merkle_root([bytes([c]) + b + s for c, b, s in self.leaves]),
                7: [[self.keys.read.id, wrapped[:1120], wrapped[1120:]]],
                8: key[32:] + AESGCM(key[:32]).encrypt(bytes(12), note, None)}
        if follows:
            body[4] = follows[0]
        if follows[1:]:
            body[9] = follows[1:]
        data = self.signed(b"LVTMANI\1", b"lavatube/1 manifest\0", cbor(body), (self.ed, self.ml))
        if break_signature:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.before = self.store(2, data)
        self.begin()
        return self.before

    def store(self, kind, data, generation=1):
        k, n = self.k, self.k + self.m
        length = -(-len(data) // (64 * k)) * 64
        padded = data + bytes(k * length - len(data))
        shards = [padded[j * length:(j + 1) * length] for j in range(k)]
        object_id = blake3(data).digest()
        for i in range(n):
            shard = r.combine(r.code_row(k, i), shards)
            hashes = b"".join(r.h16(shard[p:p + 16384]) for p in range(0, length, 16384))
            rotation = i * (length // n // 64 * 64)
            head = (b"LVTSHRD\1" + struct.pack("<IBBBB", 176 + len(hashes), kind, k, self.m, i) + object_id
                    + struct.pack("<QQQII", len(data), length, rotation, generation, len(hashes) // 16)
                    + self.VAULT + bytes([i]) * 16 + bytes(32) + hashes)
            head += blake3(head).digest()
            body = shard[-rotation:] + shard[:-rotation] if rotation else shard
            folder = os.path.join(self.drives[i], "shards", f"{object_id[0]:02x}")
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"{object_id.hex()}.{i:02x}"), "wb") as f:
                f.write(head + body + head)
        return object_id

    # Trees
    def file(self, content, cut=5000, depth=0, extents=None, size=None):
        """What the kind `file` adds, its chunks stored on the way."""
        refs = [(self.chunk(content[p:p + cut]), len(content[p:p + cut])) for p in range(0, len(content), cut)]
        for _ in range(depth):
            groups = [refs[p:p + 3] for p in range(0, len(refs), 3)]
            refs = [(self.chunk(b"".join(i + varint(n) for i, n in g)), sum(n for _, n in g)) for g in groups]
        out = varint(len(content) if size is None else size) + varint(depth) + varint(len(refs))
        out += b"".join(i + varint(n) for i, n in refs)
        if extents is not None:
            out += varint(len(extents)) + b"".join(varint(g) + varint(n) for g, n in extents)
        return out + (blake3(content).digest() if len(refs) > 1 or depth else b"")

    @staticmethod
    def meta(mode=0o644, seconds=1_700_000_000, ns=123_456_789, xattrs=(), link=None, sparse=False):
        zig = seconds * 2 if seconds >= 0 else -seconds * 2 - 1
        out = varint(mode) + varint(os.getuid()) + varint(os.getgid()) + varint(zig) + varint(ns)
        out += varint(bool(xattrs) | (link is not None) << 1 | sparse << 2)
        if xattrs:
            out += varint(len(xattrs)) + b"".join(blob(n) + blob(v) for n, v in xattrs)
        return out + (blob(link) if link is not None else b"")

    def layer(self, entries, per_chunk=3):
        """entries: (path, kind, rest of the body), sorted."""
        parts = []
        for p in range(0, len(entries), per_chunk):
            group, content, before = entries[p:p + per_chunk], b"", b""
            for path, kind, rest in group:
                shared = len(os.path.commonprefix([before, path]))
                content += blob(bytes([kind]) + varint(shared) + blob(path[shared:]) + rest)
                before = path
            parts.append(self.chunk(content) + varint(len(content)) + blob(group[0][0]))
        return self.chunk(b"\1" + varint(len(entries)) + varint(len(parts)) + b"".join(parts))

    def snapshot(self, layers, when):
        record = {0: 1, 1: [when, 5], 2: "host\x1b[31m", 3: [b"/home"], 4: ["tag"], 5: "builder", 6: layers, 7: {1: 1, 4: 2, 6: 0},
                  8: []}
        snapshot_id = self.chunk(cbor(record))
        self.snapshots.append([snapshot_id, len(self.leaves)])
        return snapshot_id.hex()


class BuiltVault(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.b = b = Builder(self.folder)
        rnd = random.Random(1)
        self.big, self.zeros = rnd.randbytes(60_000), b"text " * 9000
        self.base = rnd.randbytes(9000)
        self.changed = self.base[:4000] + b"changed" + self.base[4100:]
        delta_id = b.chunk(self.changed, base=self.base)
        delta = varint(len(self.changed)) + varint(0) + varint(1) + delta_id + varint(len(self.changed))
        d, f = 2, 1
        full = [
            (b"", d, b.meta(0o755)), (b"home", d, b.meta(0o700)),
            (b"home/a", d, b.meta(0o750, -5)),
            (b"home/a/big", f, b.meta(0o600) + b.file(self.big)),
            (b"home/a/empty", f, b.meta() + b.file(b"")),
            (b"home/a/lists", f, b.meta() + b.file(self.zeros, depth=2)),
            (b"home/a.txt", f, b.meta(0o4711, xattrs=[(b"user.name", b"value")]) + b.file(b"old")),
            (b"home/b", d, b.meta()), (b"home/b/gone", f, b.meta() + b.file(b"x")),
            (b"home/delta-base", f, b.meta() + b.file(self.base, cut=9000)),
            (b"home/delta-of", f, b.meta() + delta),
            (b"home/fifo", 4, b.meta()),
            (b"home/hard1", f, b.meta() + b.file(b"hard")),
            (b"home/hard2", f, b.meta(link=b"home/hard1") + b.file(b"hard")),
            (b"home/hard3", f, b.meta(link=b"home/hard1") + b.file(b"hard")),
            (b"home/hard4", f, b.meta(link=b"home/hard1") + b.file(b"other")),
            (b"home/link", 3, b.meta(0o777) + blob(b"../nowhere\xff")),
            (b"home/socket", 7, b.meta()),
            (b"home/sparse", f, b.meta(sparse=True) + b.file(b"S" * 7000, extents=[(100_000, 3000), (50_000, 4000)], size=1 << 20)),
            (b"home/\xff\xfe", f, b.meta(0o400) + b.file(b"odd name"))]
        first = b.layer(full)
        self.first = b.snapshot([first], 1000)
        self.pack_id = b.pack(3)
        b.manifest()
        # The second session: a layer with what changed.
        newer = b.layer([(b"home/a.txt", f, b.meta() + b.file(b"new")), (b"home/b", 0, b""), (b"home/c", f, b.meta() + b.file(b"c")),
                         (b"home/hard1", 0, b"")])
        self.second = b.snapshot([newer, first], 2000)
        b.pack(1, zstd=False)
        b.manifest()
        self.recovery = os.path.join(self.folder, "recovery")
        root = bytes(range(32))
        number = int.from_bytes(root + blake3(b"lavatube/1 recovery" + root).digest()[:3], "big")
        with open(self.recovery, "w") as out:
            out.write("keep this\nLVT1-" + "".join(r.CROCKFORD[number >> (5 * i) & 31] for i in reversed(range(56))) + "\n")

    def run_on(self, drives, *command):
        return quietly("--drives", *drives, "--recovery-file", self.recovery, *command)

    def restore(self, snapshot, drives=None, status=0, expect=""):
        target = tempfile.mkdtemp(dir=self.folder)
        got, text = self.run_on(drives or self.b.drives, "restore", snapshot, "--target", target)
        self.assertEqual(got, status, text)
        self.assertIn(expect, text)
        return target

    def read(self, *parts):
        with open(os.path.join(*parts), "rb") as f:
            return f.read()

    def check_first(self, target):
        home = os.path.join(target, "home")
        self.assertEqual(self.read(home, "a/big"), self.big)
        self.assertEqual(self.read(home, "a/lists"), self.zeros)
        self.assertEqual(self.read(home, "a/empty"), b"")
        self.assertEqual(self.read(home, "a.txt"), b"old")
        self.assertEqual(self.read(home, "delta-of"), self.changed)
        self.assertEqual(self.read(home, "sparse"), bytes(100_000) + b"S" * 3000 + bytes(50_000) + b"S" * 4000 + bytes((1 << 20) - 157_000))
        self.assertEqual(os.readlink(os.fsencode(home) + b"/link"), b"../nowhere\xff")
        self.assertEqual(self.read(os.fsencode(home), b"\xff\xfe"), b"odd name")
        s = {n: os.lstat(os.path.join(home, n)) for n in ("a", "a/big", "a.txt", "hard1", "hard2", "hard3", "hard4", "fifo", "link", "sparse")}
        self.assertEqual((s["a"].st_mtime_ns, stat.S_IMODE(s["a"].st_mode)), (-5 * 10**9 + 123_456_789, 0o750))
        self.assertEqual((s["a/big"].st_mtime_ns, stat.S_IMODE(s["a/big"].st_mode)), (1_700_000_000_123_456_789, 0o600))
        self.assertEqual(stat.S_IMODE(s["a.txt"].st_mode), 0o4711)
        self.assertEqual(s["link"].st_mtime_ns, 1_700_000_000_123_456_789)
        self.assertTrue(s["hard1"].st_ino == s["hard2"].st_ino == s["hard3"].st_ino != s["hard4"].st_ino)
        self.assertTrue(stat.S_ISFIFO(s["fifo"].st_mode))
        self.assertLess(s["sparse"].st_blocks * 512, 200_000)
        with contextlib.suppress(OSError):
            os.setxattr(self.folder, "user.test", b"1")
            self.assertEqual(os.getxattr(os.path.join(home, "a.txt"), "user.name"), b"value")

    def shards(self, object_id):
        return sorted(glob.glob(os.path.join(self.folder, "d*", "shards", "*", object_id.hex() + ".*")), key=lambda p: p[-2:])

    def flip(self, path, *places):
        data = bytearray(self.read(path))
        for at in places:
            data[at] ^= 0x55
        with open(path, "wb") as f:
            f.write(data)

    def test_whole(self):
        self.check_first(self.restore(self.first))
        home = os.path.join(self.restore("latest"), "home")
        self.assertEqual((self.read(home, "a.txt"), self.read(home, "c"), self.read(home, "a/big")), (b"new", b"c", self.big))
        self.assertFalse(os.path.lexists(os.path.join(home, "b")))
        self.assertFalse(os.path.lexists(os.path.join(home, "hard1")))
        self.assertEqual(os.stat(os.path.join(home, "hard2")).st_ino, os.stat(os.path.join(home, "hard3")).st_ino)
        status, text = self.run_on(self.b.drives, "list")
        self.assertEqual((status, text.count(self.first), text.count(self.second)), (0, 1, 1), text)
        self.assertNotIn("\x1b", text)
        self.assertEqual(self.run_on(self.b.drives, "verify")[0], 0)

    def test_all_pairs_of_drives_lost(self):
        for lost in r.itertools.combinations(range(6), 2):
            self.check_first(self.restore(self.first, [d for i, d in enumerate(self.b.drives) if i not in lost]))

    def test_three_drives_lost(self):
        status, text = self.run_on(self.b.drives[3:], "restore", "latest", "--target", os.path.join(self.folder, "t"))
        self.assertEqual(status, 2, text)

    def test_damaged_headers(self):
        for path in self.shards(self.pack_id):
            self.flip(path, 20)                                 # the object id in the first header
        a, b = self.shards(self.pack_id)[:2]
        for path in (a, b):
            size = os.path.getsize(path)
            blocks = -(-(size - 352) // 16416)
            self.flip(path, size - (176 + 16 * blocks) + 30)    # and another byte in the last
        self.check_first(self.restore(self.first, self.b.drives[:3] + self.b.drives[4:5]))

    def test_damaged_blocks(self):
        for i, path in enumerate(self.shards(self.pack_id)):    # two rows of every shard, at the same place in the file
            self.flip(path, 2000, 30_000)
        self.check_first(self.restore(self.first))
        status, text = self.run_on(self.b.drives, "verify")
        self.assertEqual(status, 0, text)
        self.assertIn("blocks are damaged", text)

    def test_one_byte_in_every_file(self):
        """Fewer than k good blocks in a row, and still no column with more than one wrong byte."""
        for where, _, names in os.walk(self.folder):
            for name in names:
                if "shards" in where:
                    path = os.path.join(where, name)
                    head = int.from_bytes(self.read(path)[8:12], "little")
                    self.flip(path, head + 700)
        self.check_first(self.restore(self.first))

    def test_truncated_and_empty_files(self):
        a, b = self.shards(self.pack_id)[1:3]
        os.truncate(a, 9000)
        os.truncate(b, 0)
        with open(os.path.join(self.b.drives[0], "shards", "x.tmp"), "wb") as f:
            f.write(b"half a file")
        self.check_first(self.restore(self.first))

    def test_damage_beyond_parity_is_named(self):
        """One row of blocks too many is lost: one file suffers and is named, the other is restored."""
        b, large = self.b, random.Random(2).randbytes(700_000)
        layer = b.layer([(b"large", 1, b.meta() + b.file(large)), (b"small", 1, b.meta() + b.file(b"small"))])
        third = b.snapshot([layer], 3000)
        pack = b.pack(4)                                        # L = 262144: row 5 of shards 0..2 is within `large`
        b.manifest()
        for path in self.shards(pack)[:3]:
            shard = r.read_header(path)[0]
            at = 176 + 16 * shard.blocks + (5 * 16384 + shard.rotation) % shard.length
            self.flip(path, *range(at, at + 5000))
        target = self.restore(third, status=1, expect="NOT RESTORED: /large")
        self.assertEqual(sorted(os.listdir(target)), ["large.rescue-damaged", "small"])
        left = self.read(target, "large.rescue-damaged")
        wrong = sum(left[p:p + 5000] != large[p:p + 5000] for p in range(0, 700_000, 5000))
        self.assertTrue(len(left) == len(large) and 1 <= wrong <= 24, wrong)
        status, text = self.run_on(b.drives, "verify")
        self.assertEqual(status, 1)
        self.assertIn("/large: ", text)
        self.check_first(self.restore(self.first))

    def test_wrong_signature_is_refused(self):
        b = self.b
        third = b.snapshot([b.layer([(b"x", 1, b.meta() + b.file(b"x"))])], 3000)
        b.pack(0)
        b.manifest(break_signature=True)
        status, text = self.run_on(b.drives, "restore", third, "--target", os.path.join(self.folder, "t"))
        self.assertEqual(status, 2, text)
        self.assertIn("signatures are wrong (F14)", text)
        status, text = quietly("--drives", *b.drives, "--recovery-file", self.recovery, "--unverified", "restore", third,
                               "--target", os.path.join(self.folder, "t"))
        self.assertEqual(status, 0, text)

    def test_chain_and_clocks(self):
        """Who follows another is newer, an end that is not joined is no loss, and a missing manifest is named."""
        b, second = self.b, self.b.before
        take = lambda time: b.snapshot([b.layer([(b"t", 1, b.meta() + b.file(b"%d" % time))])], time)
        behind = take(500)                                      # a clock that is behind
        b.pack(0)
        left = b.manifest()
        b.chunk(b"of a session that was cut")                   # without a snapshot
        b.pack(0)
        other = b.manifest(sequence=3, follows=[second])
        self.assertNotIn("missing", self.run_on(b.drives, "list")[1])
        last = take(400)
        b.pack(0)
        b.manifest(sequence=4, follows=[other, left])
        text = self.run_on(b.drives, "list")[1]
        places = [text.index(i) for i in (self.first, self.second, behind, last)]
        self.assertEqual(places, sorted(places), text)
        self.assertEqual(self.read(self.restore("latest"), "t"), b"400")
        for path in self.shards(other):
            os.remove(path)
        self.assertIn(f"manifest {other.hex()[:16]}, which number 4 follows, is not here", self.run_on(b.drives, "list")[1])

    def test_generations_do_not_mix(self):
        data = r.Vault(self.b.drives).objects[self.pack_id].read()
        self.b.store(1, data, generation=2)
        for i in (0, 1, 2):                                     # half of the new generation is lost again
            os.remove(self.shards(self.pack_id)[0])
        self.assertEqual(len(self.shards(self.pack_id)), 3)
        with self.assertRaises(r.Lost):
            r.Vault(self.b.drives).objects[self.pack_id].read()

    def test_wrong_key(self):
        status, text = quietly("--drives", *self.b.drives, "--recovery",
                               json.loads(golden("seal-v1.json"))["recovery_text"], "--tenant", "other", "list")
        self.assertEqual(status, 2, text)

    def test_paths_cannot_leave_the_target(self):
        for path in (b"../x", b"/x", b"a//b", b"a/../../x", b"a/.", b"a\0b", b"a/"):
            with self.assertRaises(r.Lost, msg=path):
                r.parse_entry(b"\2\0" + blob(path) + self.b.meta(), b"", 0)
        b = self.b
        layer = b.layer([(b"a", 3, b.meta() + blob(b"/tmp")), (b"a/evil", 1, b.meta() + b.file(b"x")), (b"b", 1, b.meta() + b.file(b"b"))])
        third = b.snapshot([layer], 3000)
        b.pack(1)
        b.manifest()
        target = self.restore(third, status=1, expect="is no directory")
        self.assertEqual(sorted(os.listdir(target)), ["a", "b"])

    def test_paths_longer_than_the_system_takes_in_one_call(self):
        b = self.b
        parts = [bytes([ord("a") + i % 26]) * 200 for i in range(30)]
        entries = [(b"/".join(parts[:i + 1]), 2, b.meta(0o710, 1000 + i)) for i in range(30)]
        deep, damaged = b"/".join(parts), b.file(b"lost")
        b.frames.pop()                                          # its chunk never gets into a pack
        entries += [(deep + b"/attributes", 1, b.meta(0o600, xattrs=[(b"user.colour", b"blue")]) + b.file(b"deep")),
                    (deep + b"/damaged", 1, b.meta() + damaged),
                    (deep + b"/fifo", 4, b.meta(0o640)),
                    (deep + b"/link", 3, b.meta(0o777) + blob(b"../elsewhere")),
                    (b"y-hard", 1, b.meta(0o600, link=deep + b"/attributes", xattrs=[(b"user.colour", b"blue")]) + b.file(b"deep")),
                    (b"z-other", 1, b.meta(link=deep + b"/attributes") + b.file(b"other"))]
        self.assertGreater(len(deep), 4096)
        third = b.snapshot([b.layer(entries)], 3000)
        b.pack(3)
        b.manifest()
        target = self.restore(third, status=1, expect="1 not restored")
        fd = os.open(target, os.O_RDONLY)
        self.addCleanup(lambda: os.close(fd))
        for i, name in enumerate(parts):
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
            self.assertEqual((stat.S_IMODE(os.fstat(fd).st_mode), int(os.fstat(fd).st_mtime)), (0o710, 1000 + i))
        self.assertEqual(sorted(os.listdir(fd)), ["attributes", "damaged.rescue-damaged", "fifo", "link"])
        with open("attributes", "rb", opener=lambda name, flags: os.open(name, flags, dir_fd=fd)) as f:
            self.assertEqual(f.read(), b"deep")
            self.assertEqual(os.getxattr(f.fileno(), "user.colour"), b"blue")
            self.assertTrue(os.path.samestat(os.fstat(f.fileno()), os.stat(os.path.join(target, "y-hard"))))
        self.assertEqual(os.readlink("link", dir_fd=fd), "../elsewhere")
        self.assertTrue(stat.S_ISFIFO(os.stat("fifo", dir_fd=fd).st_mode))
        self.assertEqual(self.read(target, "z-other"), b"other")


# --- A vault written by the program ----------------------------------------------------------------------------------------

BINARY = next((p for p in (os.environ.get("LAVATUBE_BIN", ""), os.path.join(HERE, "../target/release/lavatube"),
                           os.path.join(HERE, "../target/debug/lavatube")) if p and os.access(p, os.X_OK)), None)


@unittest.skipIf(BINARY is None, "NO LAVATUBE BINARY: THE END-TO-END TEST IS SKIPPED (set LAVATUBE_BIN)")
class EndToEnd(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.source = os.path.join(self.folder, "source")
        os.makedirs(os.path.join(self.source, "sub", "deep"))
        rnd = random.Random(3)
        for name, content in (("empty", b""), ("small", b"hello"), ("text", b"".join(b"line %d\n" % i for i in range(50_000))),
                              ("random", rnd.randbytes(3_000_000)),
                              ("lists", b"".join(b"%x line %d\n" % (rnd.getrandbits(64), i) for i in range(1_000_000))), ("sub/deep/f", b"deep"), ("sub.txt", b"sorts between"),
                              ("read-only", b"r")):
            with open(os.path.join(self.source, name), "wb") as f:
                f.write(content)
        with open(os.path.join(self.source, "sparse"), "wb") as f:
            f.seek(1_000_000)
            f.write(b"data")
            f.truncate(5_000_000)
        with open(os.fsencode(self.source) + b"/odd \xff\n name", "wb") as f:
            f.write(b"odd")
        os.link(os.path.join(self.source, "text"), os.path.join(self.source, "sub", "text-link"))
        os.symlink("../nowhere", os.path.join(self.source, "sub", "symlink"))
        os.mkfifo(os.path.join(self.source, "fifo"))
        with contextlib.suppress(OSError):
            os.setxattr(os.path.join(self.source, "small"), "user.colour", b"blue")
        os.chmod(os.path.join(self.source, "read-only"), 0o400)
        os.utime(os.path.join(self.source, "small"), ns=(0, -1_500_000_001))
        os.utime(os.path.join(self.source, "sub"), ns=(0, 1_234_567_890_123_456_789))
        self.backup()

    def backup(self):
        places = [os.path.join(self.folder, n) for n in ("vault", "state", "keys")]
        done = subprocess.run([BINARY, "backup", self.source, "--vault", places[0], "--state", places[1], "--keys", places[2]],
                              capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.drives = sorted(glob.glob(os.path.join(places[0], "drives", "*")))
        self.keys = places[2]

    def newest_manifest(self):
        return sorted(glob.glob(os.path.join(self.folder, "state", "*", "manifests", "*")))[-1].rsplit("-", 1)[1]

    def rescue(self, drives, key, status=0):
        target = tempfile.mkdtemp(dir=self.folder)
        got, text = quietly("--drives", *drives, *key, "restore", "latest", "--target", target)
        self.assertEqual(got, status, text)
        return os.path.join(target, self.source.lstrip("/"))

    def run_on_vault(self, *args):
        places = [x for n in ("vault", "state", "keys") for x in (f"--{n}", os.path.join(self.folder, n))]
        done = subprocess.run([BINARY, *args, *places], capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_released(self):
        """What was released is not missed: the snapshot that stays is whole, the one that went is not listed."""
        recovery = ["--recovery-file", os.path.join(self.keys, "recovery-key.txt")]
        with open(os.path.join(self.source, "passing"), "wb") as f:
            f.write(random.Random(5).randbytes(6_000_000))
        self.backup()
        time.sleep(0.02)
        os.remove(os.path.join(self.source, "passing"))
        self.backup()
        status, text = quietly("--drives", *self.drives, *recovery, "list")
        self.assertEqual((status, len(text.splitlines())), (0, 3), text)
        self.run_on_vault("forget", "--keep-last", "1")
        status, text = quietly("--drives", *self.drives, *recovery, "list")
        self.assertEqual((status, text.count("(forgotten)")), (0, 2), text)
        before = len(glob.glob(os.path.join(self.folder, "vault", "drives", "*", "shards", "*", "*")))
        self.run_on_vault("release")
        self.assertLess(len(glob.glob(os.path.join(self.folder, "vault", "drives", "*", "shards", "*", "*"))), before)
        for command in ("verify", "list"):
            status, text = quietly("--drives", *self.drives, *recovery, command)
            self.assertEqual(status, 0, text)
        self.assertEqual(len(text.splitlines()), 1, text)
        self.assertEqual(contents(self.rescue(self.drives, recovery)), contents(self.source))

    def test_rescue(self):
        self.assertEqual(len(self.drives), 6)
        recovery = ["--recovery-file", os.path.join(self.keys, "recovery-key.txt")]
        read_key = ["--read-key", os.path.join(self.keys, "read.key")]
        self.assertEqual(contents(self.rescue(self.drives, recovery)), contents(self.source))
        status, text = quietly("--drives", *self.drives, *recovery, "verify")
        self.assertEqual(status, 0, text)
        seen = glob.glob(os.path.join(self.folder, "state", "*", "log", "seen"))[0]
        status, text = quietly("--drives", *self.drives, *recovery, "log", "--checkpoint", seen)
        self.assertEqual(status, 0, text)
        self.assertIn("goes on from the checkpoint of 2 entries", text)
        # A second snapshot, with things changed and gone.
        time.sleep(0.02)
        shutil.rmtree(os.path.join(self.source, "sub", "deep"))
        with open(os.path.join(self.source, "small"), "ab") as f:
            f.write(b" again")
        os.makedirs(os.path.join(self.source, "new"))
        self.backup()
        self.assertEqual(contents(self.rescue(self.drives, recovery)), contents(self.source))
        # The log that is found goes on from what was seen before, and not from what is seen later.
        status, text = quietly("--drives", *self.drives, *recovery, "log", "--checkpoint", seen)
        self.assertIn("goes on from the checkpoint of 3 entries", text)
        shards = glob.glob(os.path.join(self.folder, "vault", "drives", "*", "shards", "*", self.newest_manifest() + ".*"))
        for i, shard in enumerate(shards):
            os.rename(shard, os.path.join(self.folder, f"away-{i}"))
        status, text = quietly("--drives", *self.drives, *recovery, "log", "--checkpoint", seen)
        self.assertEqual(status, 2, text)
        for i, shard in enumerate(shards):
            os.rename(os.path.join(self.folder, f"away-{i}"), shard)
        # Two drives lost: the four others are just enough.
        for lost in r.itertools.combinations(range(6), 2):
            left = [d for i, d in enumerate(self.drives) if i not in lost]
            self.assertEqual(contents(self.rescue(left, read_key)), contents(self.source))
        shutil.copytree(os.path.join(self.folder, "vault"), os.path.join(self.folder, "copy"))
        # One byte flipped at a random place of the body of every shard file of all drives.
        rnd, hit = random.Random(4), collections.defaultdict(set)
        files = glob.glob(os.path.join(self.folder, "vault", "drives", "*", "shards", "*", "*"))
        for path in files:
            header = r.read_header(path)[0]
            head = 176 + 16 * header.blocks
            column = None
            # Two in one column of the code are more than two parity shards can find.
            while column is None or column in hit[header.object_id]:
                at = rnd.randrange(head, os.path.getsize(path) - head)
                column = (at - head - header.rotation) % header.length
            hit[header.object_id].add(column)
            with open(path, "r+b") as f:
                f.seek(at)
                byte = f.read(1)
                f.seek(at)
                f.write(bytes([byte[0] ^ 0x10]))
        self.assertEqual(contents(self.rescue(self.drives, recovery)), contents(self.source))
        shutil.rmtree(os.path.join(self.folder, "vault"))
        os.rename(os.path.join(self.folder, "copy"), os.path.join(self.folder, "vault"))
        # One drive lost, the first header of every remaining shard file damaged, and one drive's bodies too.
        shutil.rmtree(self.drives[2])
        for path in glob.glob(os.path.join(self.folder, "vault", "drives", "*", "shards", "*", "*")):
            with open(path, "r+b") as f:
                f.seek(40)
                byte = f.read(1)
                f.seek(40)
                f.write(bytes([byte[0] ^ 1]))
        for drive in self.drives[3:4]:
            for path in glob.glob(os.path.join(drive, "shards", "*", "*")):
                with open(path, "r+b") as f:
                    f.seek(os.path.getsize(path) // 2)
                    f.write(b"XXXXXXXX")
        self.assertEqual(contents(self.rescue(self.drives, read_key)), contents(self.source))
        status, text = quietly("--drives", *self.drives, *recovery, "verify")
        self.assertEqual(status, 0, text)


if __name__ == "__main__":
    if BINARY is None:
        print("NO LAVATUBE BINARY: the end-to-end test is skipped (set LAVATUBE_BIN)", file=sys.stderr)
    unittest.main()
