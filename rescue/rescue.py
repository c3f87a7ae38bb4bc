#!/usr/bin/env python3
"""rescue.py: read a lavatube vault from its drive folders alone, and restore snapshots.

    rescue.py --drives D0 D1 ... --recovery-file FILE list
    rescue.py --drives D0 D1 ... --read-key FILE restore SNAPSHOT --target DIR
    rescue.py --drives D0 D1 ... --recovery "LVT1-..." verify

Written from docs/FORMAT.md and public standards, not from the Rust program, so that there are two. "FORMAT 3" below
means section 3 of that text, "F7" a numbered rule in it. The way from a drive to a file is the order of this program:

    drive folders -> shard files -> rows of blocks, erasure code (GF(256)) -> objects: packs, manifests, cards
    key -> manifest: signatures, wrapped session secret -> pack keys -> pieces -> frames -> chunks
    note in the manifest -> snapshot record -> layers -> tree chunks -> entries -> list chunks -> chunks of a file

Nothing is written to the drives. The exit status is 0 if all that was asked for was done, 1 if something was lost (and
named), 2 if nothing could be done. Needs Python 3.11 and the libraries in requirements.txt; see README.md.
"""
import argparse, base64, collections, contextlib, datetime, functools, hashlib, heapq, hmac, itertools, os, sqlite3, stat, sys
from dataclasses import dataclass, field

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
import zstandard

MIB = 1 << 20
BLOCK = 16384                       # of a shard, FORMAT 6
PIECE = 16384                       # of a pack's plaintext, FORMAT 3
PACK, MANIFEST, CARD, TAGS, RELEASE, REMNANT = 1, 2, 3, 4, 5, 6     # kinds of objects, FORMAT 6; tags prove and hold no content
GONE, FILE, DIRECTORY, SYMLINK, FIFO, CHARACTER, BLOCKDEV, SOCKET = range(8)    # kinds of entries, FORMAT 4


class Lost(Exception):
    """Something cannot be read: missing, damaged beyond the parity, or not what the format says."""


def warn(text):
    print("rescue: " + text, file=sys.stderr, flush=True)


def need(condition, text):
    if not condition:
        raise Lost(text)


def plain(text):
    """Text for people: no control characters reach the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def show(path):
    return plain("/" + path.decode("utf-8", "backslashreplace"))


class Recent:
    """A cache that forgets what was not used for longest, bounded by the bytes it holds."""

    def __init__(self, limit):
        self.limit, self.held, self.items = limit, 0, collections.OrderedDict()

    def get(self, key):
        if key in self.items:
            self.items.move_to_end(key)
            return self.items[key]
        return None

    def put(self, key, value):
        if key not in self.items:
            self.items[key] = value
            self.held += len(value)
        while self.held > self.limit and len(self.items) > 1:
            self.held -= len(self.items.popitem(last=False)[1])


# --- FORMAT 1: integers, bytes, CBOR -----------------------------------------------------------------------------------

class Cursor:
    """Reads a byte string from front to back; every read is checked against what is left (F2)."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        need(n <= self.left(), "value ends too early")
        self.at += n
        return self.data[self.at - n:self.at]

    def uint(self, n):
        return int.from_bytes(self.take(n), "little")

    def varint(self):
        value = 0
        for i in range(10):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                need((byte or i == 0) and value < 1 << 64, "varint is not in its shortest form (F1)")
                return value
        raise Lost("varint is too long (F1)")

    def zigzag(self):
        n = self.varint()
        return (n >> 1) ^ -(n & 1)

    def bytes(self):
        return self.take(self.varint())

    def end(self):
        need(self.left() == 0, "bytes after the end of a value (F3)")


def cbor_item(c, depth=0):
    """One item of deterministic CBOR (F4): integers, byte and text strings, arrays, maps with ascending integer keys."""
    need(depth < 16, "CBOR is nested too deeply")
    first = c.take(1)[0]
    major, value = first >> 5, first & 31
    if value >= 24:
        need(value <= 27, "CBOR of indefinite length (F4)")
        size = 1 << (value - 24)
        value = int.from_bytes(c.take(size), "big")
        need(value >= (24 if size == 1 else 1 << (4 * size)), "CBOR integer is not in its shortest form (F4)")
    if major == 0:
        return value
    if major == 1:
        return -1 - value
    if major == 2:
        return c.take(value)
    if major == 3:
        try:
            return c.take(value).decode("utf-8")
        except UnicodeDecodeError:
            raise Lost("CBOR text is not UTF-8")
    need(major in (4, 5) and value <= c.left(), "CBOR of an unexpected kind or length")
    if major == 4:
        return [cbor_item(c, depth + 1) for _ in range(value)]
    result, before = {}, None
    for _ in range(value):
        key = cbor_item(c, depth + 1)
        need(isinstance(key, int) and key >= 0 and (before is None or key > before), "CBOR map keys (F4)")
        result[key] = cbor_item(c, depth + 1)
        before = key
    return result


def cbor(data, maybe_padded=False):
    """A whole CBOR value; only notes may be padded with zeros behind it (FORMAT 5)."""
    c = Cursor(data)
    value = cbor_item(c)
    if maybe_padded:
        need(not any(data[c.at:]), "padding is not zero")
    else:
        c.end()
    return value


def cbor_encode(v):
    """Only for what the lock of a key file authenticates (FORMAT 2)."""
    def head(major, n):
        if n < 24:
            return bytes([major << 5 | n])
        size = next(s for s in (1, 2, 4, 8) if n < 1 << (8 * s))
        return bytes([major << 5 | 23 + size.bit_length()]) + n.to_bytes(size, "big")
    if isinstance(v, int):
        return head(0, v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, dict):
        return head(5, len(v)) + b"".join(cbor_encode(k) + cbor_encode(v[k]) for k in sorted(v))
    raise TypeError(v)


def is_a(value, kind):
    """kind: a type, or a number: bytes of that length."""
    return isinstance(value, bytes) and len(value) == kind if isinstance(kind, int) else isinstance(value, kind)


def fields(m, /, **keys):
    """The values of a CBOR map; keys: name=(key, kind)."""
    need(isinstance(m, dict), "a CBOR map was expected")
    for name, (key, kind) in keys.items():
        need(is_a(m.get(key), kind), f"CBOR map: {name} (key {key}) is missing or of the wrong kind")
    return [m[key] for key, _ in keys.values()]


def each(array, *kinds):
    """An array of just these kinds."""
    need(is_a(array, list) and len(array) == len(kinds) and all(map(is_a, array, kinds)), "CBOR array of a wrong shape")
    return array


def h16(data):
    return blake3(data).digest()[:16]


# --- Cryptography: HKDF (RFC 5869), HPKE (RFC 9180), X-Wing (draft-connolly-cfrg-xwing-kem), signatures ------------------

def extract(salt, ikm):
    return hmac.new(salt or bytes(64), ikm, hashlib.sha512).digest()


def expand(prk, info, n):
    out = block = b""
    while len(out) < n:
        block = hmac.new(prk, block + info + bytes([len(out) // 64 + 1]), hashlib.sha512).digest()
        out += block
    return out[:n]


def gcm_open(key, nonce, sealed, aad=None, what="sealed bytes"):
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Lost(f"{what} do not open: wrong key, or damaged")


class ReadKey:
    """An X-Wing key pair from its 32-byte seed: ML-KEM-768 and X25519 side by side."""

    def __init__(self, seed):
        wide = hashlib.shake_256(seed).digest(96)
        self.x25519 = X25519PrivateKey.from_private_bytes(wide[64:])
        self.x25519_public = self.x25519.public_key().public_bytes_raw()
        try:
            from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
            key = MLKEM768PrivateKey.from_seed_bytes(wide[:64])
            public, self.ml_kem_decapsulate = key.public_key().public_bytes_raw(), key.decapsulate
        except ImportError:                                     # an older cryptography: pip install kyber-py
            from kyber_py.ml_kem import ML_KEM_768
            public, secret = ML_KEM_768.key_derive(wide[:64])
            self.ml_kem_decapsulate = lambda ct: ML_KEM_768.decaps(secret, ct)
        self.public = public + self.x25519_public               # 1216 bytes
        self.id = blake3(self.public).digest()[:8]

    def decapsulate(self, enc):
        need(len(enc) == 1120, "X-Wing ciphertext has a wrong length")
        shared = self.ml_kem_decapsulate(enc[:1088])
        try:
            shared_x = self.x25519.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        except ValueError:                                      # a point of small order: X-Wing goes on with zeros
            shared_x = bytes(32)
        return hashlib.sha3_256(shared + shared_x + enc[1088:] + self.x25519_public + b"\\.//^\\").digest()

    def hpke_open(self, enc, ct, info):
        """HPKE base mode, single shot, no aad: KEM 0x647a, KDF HKDF-SHA512 (3), AEAD AES-256-GCM (2)."""
        suite = b"HPKE" + bytes.fromhex("647a00030002")
        labeled_extract = lambda salt, label, ikm: extract(salt, b"HPKE-v1" + suite + label + ikm)
        labeled_expand = lambda prk, label, context, n: expand(
            prk, n.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context, n)
        context = b"\0" + labeled_extract(b"", b"psk_id_hash", b"") + labeled_extract(b"", b"info_hash", info)
        secret = labeled_extract(self.decapsulate(enc), b"secret", b"")
        return gcm_open(labeled_expand(secret, b"key", context, 32), labeled_expand(secret, b"base_nonce", context, 12),
                        ct, what="wrapped session secret")


def ml_dsa_65():
    """verify(public key, signature, message) -> bool, and public_key(seed); or None when no library is at hand."""
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

        def verify(public, signature, message):
            try:
                MLDSA65PublicKey.from_public_bytes(public).verify(signature, message)
                return True
            except InvalidSignature:
                return False
        return verify, lambda seed: MLDSA65PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()
    except ImportError:
        pass
    try:                                                        # an older cryptography: pip install dilithium-py
        from dilithium_py.ml_dsa import ML_DSA_65
        return (lambda public, signature, message: ML_DSA_65.verify(public, message, signature),
                lambda seed: ML_DSA_65._keygen_internal(seed)[0])
    except ImportError:
        return None


def signed_body(data, magic, context, public_keys):
    """Body of a manifest or card (FORMAT 5), and whether both signatures verify (F14); public_keys(body) gives the
    two keys to believe, or None when they are not known."""
    need(data[:8] == magic, "wrong magic")
    c = Cursor(data)
    c.take(8)
    body = c.take(c.uint(4))
    signature, pq_signature = c.take(64), c.take(3309)
    c.end()
    keys = public_keys(body)
    if keys is None:
        return body, False
    try:
        Ed25519PublicKey.from_public_bytes(keys[0]).verify(signature, context + body)
    except (InvalidSignature, ValueError):
        return body, False
    library = ml_dsa_65()
    if library is None:
        warn("WARNING: no ML-DSA-65 library: only the Ed25519 half of the signatures is verified")
        return body, True
    return body, library[0](keys[1], pq_signature, context + body)


# --- FORMAT 2: keys ----------------------------------------------------------------------------------------------------

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass
class Keys:
    """All that a reader of one tenant needs."""
    tenant: str
    psk: bytes
    chunk_id: bytes
    read: ReadKey
    authority: tuple                # Ed25519 and ML-DSA-65 public key; the second None without a library


def root_from_recovery(text):
    """The root seed from the printed recovery key."""
    text = "".join(text.upper().split()).replace("-", "").replace("O", "0").replace("I", "1").replace("L", "1")
    need(text.startswith("1VT1"), "a recovery key begins with LVT1-")
    text = text[4:]
    need(len(text) == 56 and all(c in CROCKFORD for c in text), "a recovery key has 56 letters and digits after LVT1-")
    raw = functools.reduce(lambda n, c: n * 32 + CROCKFORD.index(c), text, 0).to_bytes(35, "big")
    need(blake3(b"lavatube/1 recovery" + raw[:32]).digest()[:3] == raw[32:], "the recovery key has a typing error")
    return raw[:32]


def keys_from_root(root, tenant="default"):
    derive = lambda label, n=32: expand(extract(b"lavatube/1", root), label.encode(), n)
    library = ml_dsa_65()
    authority = (Ed25519PrivateKey.from_private_bytes(derive("authority/ed25519")).public_key().public_bytes_raw(),
                 library and library[1](derive("authority/ml-dsa-65")))
    return Keys(tenant, derive(f"tenant/{tenant}/psk"), derive(f"tenant/{tenant}/chunk-id"),
                ReadKey(derive("read/x-wing")), authority)


def open_key_file(text, kind, passphrase=None):
    """The body of a key file as a map. passphrase: a function that asks, called only if the file is locked."""
    name = {1: "DEPOSIT", 2: "READ", 3: "VAULT"}[kind]
    lines = [line.strip() for line in text.strip().splitlines()]
    need(len(lines) > 2 and lines[0] == f"-----BEGIN LAVATUBE {name} KEY-----"
         and lines[-1] == f"-----END LAVATUBE {name} KEY-----", f"not a lavatube {name} key file")
    try:
        outer = cbor(base64.b64decode("".join(lines[1:-1]), validate=True))
    except ValueError:
        raise Lost("the key file is not base64")
    version, got_kind, body = fields(outer, version=(0, object), kind=(1, object), body=(3, bytes))
    need(version == 1 and got_kind == kind, "key file of an unknown version or another kind")
    if 2 in outer:
        salt, memory, passes, lanes = fields(outer[2], salt=(1, 16), memory=(2, int), passes=(3, int), lanes=(4, int))
        need(64 * 1024 <= memory <= 4 * MIB and 1 <= passes <= 16 and 1 <= lanes <= 16, "Argon2id parameters (F6)")
        need(passphrase, "the key file is locked with a passphrase")
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
        key = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(passphrase())
        aad = cbor_encode({k: v for k, v in outer.items() if k != 3})
        body = gcm_open(key, body[:12], body[12:], aad, "key file bytes (is the passphrase right?)")
    return cbor(body)


def keys_from_read_key(text, passphrase=None):
    tenant, psk, chunk_id, seed, ed, ml = fields(
        open_key_file(text, 2, passphrase), tenant=(1, str), psk=(2, 32), chunk_id=(3, 32), seed=(4, 32), ed25519=(5, 32),
        ml_dsa_65=(6, 1952))
    return Keys(tenant, psk, chunk_id, ReadKey(seed), (ed, ml))


# --- FORMAT 7: erasure code --------------------------------------------------------------------------------------------

EXP, LOG = [0] * 510, [0] * 256
_x = 1
for _i in range(255):
    EXP[_i] = EXP[_i + 255] = _x
    LOG[_x] = _i
    _x = (_x << 1) ^ (0x11D if _x & 0x80 else 0)


def mul(a, b):
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def inverse(a):
    return EXP[255 - LOG[a]]


@functools.lru_cache(None)
def times(c):
    """Table for bytes.translate that multiplies every byte by c."""
    return bytes(mul(c, x) for x in range(256))


def code_row(k, index):
    """Shard `index` as a combination of the k data shards: a unit vector, or a row of the scaled Cauchy matrix."""
    if index < k:
        return [int(j == index) for j in range(k)]
    return [mul(k ^ j, inverse(index ^ j)) for j in range(k)]


def combine(coefficients, blocks):
    """The sum (XOR) of blocks, each times its coefficient."""
    total = 0
    for c, block in zip(coefficients, blocks):
        if c:
            total ^= int.from_bytes(block if c == 1 else block.translate(times(c)), "little")
    return total.to_bytes(len(blocks[0]), "little")


@functools.lru_cache(1024)
def decoder(k, chosen):
    """The matrix that gives the k data shards from the k chosen ones (Gauss-Jordan over GF(256))."""
    m = [code_row(k, index) + [int(t == row) for t in range(k)] for row, index in enumerate(chosen)]
    for col in range(k):
        pivot = next(r for r in range(col, k) if m[r][col])
        m[col], m[pivot] = m[pivot], m[col]
        scale = inverse(m[col][col])
        m[col] = [mul(scale, x) for x in m[col]]
        for r in range(k):
            if r != col and m[r][col]:
                f = m[r][col]
                m[r] = [x ^ mul(f, y) for x, y in zip(m[r], m[col])]
    return [row[k:] for row in m]


def mend_columns(k, got, trusted):
    """Correct wrong bytes at unknown places. got: blocks by shard index, some damaged; those in `trusted` are right.
    In each column the blocks must satisfy the code; the fewest blocks that explain a violation are corrected. The
    caller compares the result with the block hashes, so that a wrong guess does no harm."""
    order = sorted(got, key=lambda i: (i not in trusted, i))
    base, spare = tuple(order[:k]), min(2, (len(order) - k) // 2)
    fixed = {i: bytearray(got[i]) for i in order}
    bad = set()
    data = [combine(row, [got[i] for i in base]) for row in decoder(k, base)]
    for i in order[k:]:
        said = combine(code_row(k, i), data)
        if said != got[i]:
            bad.update(x for x in range(len(said)) if said[x] != got[i][x])
    suspects = [i for i in order if i not in trusted]
    for x in bad:
        def explain():
            for count in range(1, (spare if len(bad) <= 512 else 1) + 1):
                for out in itertools.combinations(suspects, count):
                    rest = [i for i in order if i not in out]
                    column = [functools.reduce(lambda s, p: s ^ mul(*p), zip(row, (got[i][x] for i in rest)), 0)
                              for row in decoder(k, tuple(rest[:k]))]
                    value = lambda i: functools.reduce(lambda s, p: s ^ mul(*p), zip(code_row(k, i), column), 0)
                    if all(value(i) == got[i][x] for i in rest[k:]):
                        return [(i, value(i)) for i in out]
            return []
        for i, byte in explain():
            fixed[i][x] = byte
    return {i: bytes(block) for i, block in fixed.items()}


# --- FORMAT 6: drives, shard files, objects ------------------------------------------------------------------------------

@dataclass(frozen=True)
class Shard:
    """One shard file. The fields are those of the header; block hashes are read again when needed."""
    path: str
    kind: int
    k: int
    m: int
    index: int
    object_id: bytes
    object_length: int
    length: int
    rotation: int
    generation: int
    blocks: int
    vault: bytes
    place: int = 0                  # in the vault's log, + 1 (FORMAT 16); 0 of what is not in it

    def hash_of(self, b):
        return block_hashes(self.path)[16 * b:16 * b + 16]

    def raw_block(self, b):
        """Block b of the shard as it is on the drive, the rotation undone; None if the file ends before."""
        start = b * BLOCK
        size = min(BLOCK, self.length - start)
        at = (start + self.rotation) % self.length
        first = min(size, self.length - at)
        try:
            with open(self.path, "rb", buffering=0) as f:
                head = 176 + 16 * self.blocks
                data = os.pread(f.fileno(), first, head + at)
                if first < size:
                    data += os.pread(f.fileno(), size - first, head)
        except OSError:
            return None
        return data if len(data) == size else None

    def block(self, b):
        data = self.raw_block(b)
        return data if data is not None and h16(data) == self.hash_of(b) else None


def parse_header(raw, path=""):
    """A Shard from the bytes of one header, or None if its check or a field is wrong."""
    if len(raw) < 192 or raw[:8] != b"LVTSHRD\1" or blake3(raw[:-32]).digest() != raw[-32:]:
        return None
    c = Cursor(raw)
    c.take(8)
    head, kind, k, m, index, object_id = c.uint(4), c.uint(1), c.uint(1), c.uint(1), c.uint(1), c.take(32)
    object_length, length, rotation, generation, blocks = c.uint(8), c.uint(8), c.uint(8), c.uint(4), c.uint(4)
    vault = c.take(16)
    c.take(16)                                                  # DriveId: where the file was written
    place = c.uint(8)
    good = (head == len(raw) == 176 + 16 * blocks and kind in range(1, 7) and k >= 1 and k + m <= 255 and index < k + m
            and 1 <= object_length <= 64 * MIB and length == -(-object_length // (64 * k)) * 64 and rotation < length
            and blocks == -(-length // BLOCK) and not any(c.take(24)) and (place == 0 or kind in (MANIFEST, CARD, RELEASE)))
    return Shard(path, kind, k, m, index, object_id, object_length, length, rotation, generation, blocks,
                 vault, place) if good else None


def read_header(path):
    """The Shard and its block hashes from the first header, or the one at the end, or both together."""
    with open(path, "rb", buffering=0) as f:
        size = os.fstat(f.fileno()).st_size
        head = int.from_bytes(os.pread(f.fileno(), 4, 8), "little")
        if 192 <= head <= 176 + 16 * 4096:                      # the first header, if its length is right
            raw = os.pread(f.fileno(), head, 0)
            if (shard := parse_header(raw, path)):
                return shard, raw[144:-32]
        blocks = -(-(size - 352) // (BLOCK + 32))               # size = 2 H + L, H = 176 + 16 blocks: one solution
        head = 176 + 16 * blocks
        if blocks < 1 or size <= 2 * head:
            return None, b""
        last, first = os.pread(f.fileno(), head, size - head), os.pread(f.fileno(), head, 0)
        if (shard := parse_header(last, path)):
            return shard, last[144:-32]
    differ = [i for i in range(head) if first[i] != last[i]]
    if len(differ) <= 16:                                       # both damaged: where they differ, either may be right
        raw = bytearray(first)
        for choice in itertools.product((first, last), repeat=len(differ)):
            for i, copy in zip(differ, choice):
                raw[i] = copy[i]
            if (shard := parse_header(bytes(raw), path)):
                return shard, bytes(raw[144:-32])
    return None, b""


@functools.lru_cache(2048)
def block_hashes(path):
    return read_header(path)[1]


class Stripe:
    """The shards of one object that belong together: one generation, one shape (F15)."""

    def __init__(self, shard, cache):
        self.k, self.n, self.length, self.blocks = shard.k, shard.k + shard.m, shard.length, shard.blocks
        self.generation, self.shards, self.cache = shard.generation, {}, cache

    def data_block(self, j, b):
        """Block b of data shard j: from its own file, else from k good blocks of its row."""
        data = self.cache.get((self, j, b))
        if data is None:
            data = next((d for s in self.shards.get(j, ()) if (d := s.block(b)) is not None), None)
            if data is None:
                row = self.row(b)
                for i, other in enumerate(row):
                    self.cache.put((self, i, b), other)
                return row[j]
            self.cache.put((self, j, b), data)
        return data

    def row(self, b):
        """Block b of all data shards."""
        good = {}
        for i, copies in sorted(self.shards.items()):
            if len(good) < self.k and (d := next((d for s in copies if (d := s.block(b)) is not None), None)):
                good[i] = d
        if len(good) < self.k:
            good = self.mend(b, good)
        chosen = tuple(sorted(good))[:self.k]
        matrix, blocks = decoder(self.k, chosen), [good[i] for i in chosen]
        return [good[j] if j in good else combine(matrix[j], blocks) for j in range(self.k)]

    def mend(self, b, good):
        """Fewer than k blocks of a row have the right hash: try to correct single bytes from the parity equations."""
        got, owner = dict(good), {}
        for i, copies in self.shards.items():
            for s in copies:
                if i not in got and (d := s.raw_block(b)) is not None:
                    got[i], owner[i] = d, s
        if len(got) >= self.k + 2:
            fixed = mend_columns(self.k, got, set(good))
            good = {i: d for i, d in fixed.items() if i not in owner or h16(d) == owner[i].hash_of(b)}
        need(len(good) >= self.k, f"only {len(good)} good blocks of the {self.k} needed")
        return good

    def read(self, start, end):
        out, p = [], start
        while p < end:
            j, q = divmod(p, self.length)
            block = self.data_block(j, q // BLOCK)
            piece = block[q % BLOCK:q % BLOCK + end - p]
            out.append(piece)
            p += len(piece)
        return b"".join(out)


class Object:
    """One object of the vault: its id, and the stripes that hold it (normally one; more after a re-encoding)."""

    def __init__(self, object_id):
        self.id, self.stripes, self.place = object_id, {}, 0

    def add(self, shard, cache):
        self.kind, self.length = shard.kind, shard.object_length
        self.place = max(self.place, shard.place)
        key = (shard.generation, shard.k, shard.m, shard.object_length, shard.kind, shard.vault)
        self.stripes.setdefault(key, Stripe(shard, cache)).shards.setdefault(shard.index, []).append(shard)

    def is_readable(self):
        return any(len(stripe.shards) >= key[1] for key, stripe in self.stripes.items())

    def read(self, start=0, end=None):
        """Bytes start..end of the object, from the newest generation that can give them."""
        problem = "no shards"
        for key in sorted(self.stripes, reverse=True):
            try:
                need((key[3] if end is None else end) <= key[3], "object is too short")
                data = self.stripes[key].read(start, key[3] if end is None else end)
                if end is None and start == 0:
                    need(blake3(data).digest() == self.id, "the object's bytes do not have its id")
                return data
            except Lost as e:
                problem = e
        raise Lost(f"object {self.id.hex()[:16]}: {problem}")


class Vault:
    """All objects that any shard file on the given drives speaks of. The journal is not needed (F16)."""

    def __init__(self, drives):
        self.objects, self.damaged, self.cards = {}, [], []
        cache = Recent(96 * MIB)
        for drive in drives:
            self.read_card(drive)
            folder = os.path.join(drive, "shards")
            if not os.path.isdir(folder):
                warn(f"{drive}: no shards here: a missing drive, or not a drive")
            for where, _, names in os.walk(folder):
                for name in names:
                    path = os.path.join(where, name)
                    try:
                        shard, _ = read_header(path)
                    except OSError as e:
                        shard = None
                        warn(f"{path}: {e.strerror}")
                    if shard is None:
                        self.damaged.append(path)
                    else:
                        self.objects.setdefault(shard.object_id, Object(shard.object_id)).add(shard, cache)
        for path in self.damaged:
            warn(f"{path}: not a readable shard file, left aside")

    def read_card(self, drive):
        """drive.card tells what the drive is; nothing of it is needed, so damage is only mentioned."""
        try:
            with open(os.path.join(drive, "drive.card"), "rb") as f:
                data = f.read(MIB)
        except OSError as e:
            return warn(f"{drive}: drive.card: {e.strerror}")
        for copy in (data[:len(data) // 2], data[len(data) // 2:]):
            try:
                self.cards.append(parse_drive_card(copy))
                return
            except Lost:
                pass
        warn(f"{drive}: drive.card is damaged")

    def of_kind(self, kind):
        return [o for o in self.objects.values() if o.kind == kind]

    def log(self):
        """The leaves of the log, in the order that shards tell (FORMAT 16, F31): the journal is not read."""
        shards = lambda o: max(len(stripe.shards) for stripe in o.stripes.values())
        found = sorted(self.of_kind(MANIFEST) + self.of_kind(CARD) + self.of_kind(RELEASE), key=lambda o: (o.place, -shards(o), o.id))
        placed, rest, out = {}, collections.deque(), []
        for o in found:
            if o.place == 0 or placed.setdefault(o.place - 1, o) is not o:
                rest.append(o)
        for place in sorted(placed):
            while len(out) < place and rest:
                out.append(rest.popleft())
            out.append(placed[place])
        return out + list(rest)


def parse_drive_card(data):
    """One of the two copies of a drive card, as a map."""
    c = Cursor(data)
    need(c.take(8) == b"LVTDRIV\1", "not a drive card")
    body = c.take(c.uint(4))
    need(blake3(data[:c.at]).digest() == c.take(32), "a drive card with a wrong check")
    c.end()
    card = cbor(body)
    fields(card, vault=(1, 16), drive=(2, 16), k=(3, int), m=(4, int), ed25519=(6, 32), ml_dsa_65=(7, 1952), slots=(8, list))
    return card


# --- FORMAT 5: depositor cards and manifests -----------------------------------------------------------------------------

def parse_depositor_card(data, authority):
    """(DepositorId, Ed25519 key, ML-DSA-65 key, label); refused unless the authority signed it."""
    body, good = signed_body(data, b"LVTCARD\1", b"lavatube/1 depositor card\0", lambda body: authority)
    need(good, "depositor card is not signed by the authority of this key")
    label, ed, ml = fields(cbor(body), label=(1, str), ed25519=(2, 32), ml_dsa_65=(3, 1952))
    return blake3(b"lavatube/1 depositor" + ed + ml).digest(), ed, ml, label


def merkle_root(leaves):
    """RFC 6962 section 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + merkle_root(leaves[:split]) + merkle_root(leaves[split:])).digest()


def log_root(leaves):
    """The root over leaves of the log, FORMAT 16."""
    return merkle_root([bytes([o.kind]) + o.id for o in leaves])


def parse_checkpoint(note, public_key):
    """(vault, size, root) of a checkpoint, FORMAT 16: a C2SP note; refused unless the vault's key signed it."""
    text, _, signatures = note.rpartition("\n\n")
    origin, size, root, *more = text.split("\n")
    need(origin.startswith("lavatube/") and len(more) <= 1 and size == str(int(size)), "not a checkpoint of a vault")
    key_id = hashlib.sha256(origin.encode() + b"\n\1" + public_key).digest()[:4]
    for line in signatures.splitlines():
        dash, name, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if dash == "\u2014" and name == origin and signature[:4] == key_id:
            with contextlib.suppress(InvalidSignature):
                Ed25519PublicKey.from_public_bytes(public_key).verify(signature[4:], (text + "\n").encode())
                return bytes.fromhex(origin.removeprefix("lavatube/")), int(size), base64.b64decode(root, validate=True)
    raise Lost("the checkpoint is not signed by this vault")


def show_log(vault, checkpoint):
    """Prints the log; compares it with a file that has a checkpoint (`log/seen` of a depositor's state)."""
    leaves = vault.log()
    for place, o in enumerate(leaves):
        print(f"{place:9}  { {MANIFEST: 'manifest', CARD: 'depositor card', RELEASE: 'release'}[o.kind]}  {o.id.hex()}")
    print(f"{len(leaves)} entries, root {log_root(leaves).hex()}")
    if checkpoint:
        need(vault.cards, "no drive card tells the vault's key")
        note = read_text(checkpoint)
        note = note[note.index("lavatube/"):]
        card = vault.cards[0]
        origin, size, root = parse_checkpoint(note, card[5])
        need(origin == card[1], "the checkpoint is of another vault")
        need(size <= len(leaves) and log_root(leaves[:size]) == root,
             f"the log does not go on from the checkpoint of {size} entries: something was put back, replaced or taken out")
        print(f"goes on from the checkpoint of {size} entries")


class Manifest:
    """One session: which packs it has, its secret wrapped to read keys, and a note that names its snapshots."""

    def __init__(self, data, cards):
        """cards: DepositorId -> (Ed25519 public key, ML-DSA-65 public key)."""
        self.id = blake3(data).digest()
        body, self.verified = signed_body(data, b"LVTMANI\1", b"lavatube/1 manifest\0",
                                          lambda body: cards.get(fields(cbor(body), depositor=(2, 32))[0]))
        m = cbor(body)
        (self.session, self.depositor, self.sequence, leaves, root, self.wraps, self.sealed_note) = fields(
            m, session=(1, 16), depositor=(2, 32), sequence=(3, int), leaves=(5, list), root=(6, 32), wraps=(7, list),
            note=(8, bytes))
        joins = m.get(9, [])
        need(is_a(joins, list) and is_a(m.get(4, self.id), 32), "manifest: what it follows")
        self.follows = [m[i] for i in (4,) if i in m] + each(joins, *[32] * len(joins))
        self.leaves = [each(leaf, int, 32, 32) for leaf in leaves]
        self.tags = each(m.get(10, []), *[32] * len(m.get(10, [])))     # of no use to a reader, nor what follows
        self.retention, self.releases = each(m.get(11, [0, 0]), int, int), m.get(12, 0)
        self.precious = m.get(16, 0)
        need(all(0 <= c < 8 for c, _, _ in leaves) and all(each(w, 8, 1120, 48) for w in self.wraps), "manifest: leaves")
        need(merkle_root([bytes([c]) + b + s for c, b, s in leaves]) == root, "manifest: Merkle root is wrong")

    def unwrap(self, keys):
        """The session's PRK (FORMAT 3), from which all keys of its packs and note come."""
        for key_id, enc, ct in self.wraps:
            if key_id == keys.read.id:
                secret = keys.read.hpke_open(enc, ct, b"lavatube/1 session" + self.session + self.depositor)
                self.prk = extract(keys.psk, secret)
                return self.prk
        raise Lost("session is not wrapped to this read key")

    def note(self):
        """The tenant, the list of [SnapshotId, pack number], and the marks: [SnapshotId, forgotten, edition, proof]."""
        keys = [expand(self.prk, b"lavatube/1 " + label + self.session, 64) for label in (b"note", b"empty note")]
        key = next((k for k in keys if k[32:] == self.sealed_note[:32]), None)
        need(key, "note: the key does not fit (another tenant?)")
        plain = gcm_open(key[:32], bytes(12), self.sealed_note[32:], what="note")
        tenant, snapshots = fields(cbor(plain, maybe_padded=True), tenant=(1, str), snapshots=(2, list))
        need(len(plain) % 256 == 0, "note has a wrong length")
        marks = cbor(plain, maybe_padded=True).get(3, [])
        return tenant, [each(s, 24, int) for s in snapshots], [each(mark, 24, int, int, 32) for mark in marks]

    def is_right(self, mark):
        """Whether a mark of a snapshot of this session was made by someone who can open it (F36)."""
        snapshot, forgotten, edition, proof = mark
        info = b"lavatube/1 mark" + self.session + snapshot + bytes([forgotten]) + edition.to_bytes(8, "little")
        return hmac.compare_digest(expand(self.prk, info, 32), proof)


class Release:
    """What the authority said may go (FORMAT 18)."""

    def __init__(self, data, authority):
        body, self.verified = signed_body(data, b"LVTRLSE\1", b"lavatube/1 release\0", lambda _: authority)
        self.vault, self.nonce, self.size, self.root, self.number, objects, settled, self.sealed_note = fields(
            cbor(body), vault=(1, 16), nonce=(2, 32), size=(3, int), root=(4, 32), number=(5, int), objects=(6, list),
            settled=(7, list), note=(8, bytes))
        self.objects, self.settled = each(objects, *[32] * len(objects)), each(settled, *[32] * len(settled))
        self.thins = {}
        for thinned in cbor(body).get(10, []):
            pack, *runs = each(thinned, 32, *[int] * (len(thinned) - 1))
            self.thins[pack] = blocks_of(runs)

    def snapshots(self, psk):
        """The SnapshotIds that are not whole any more once it was followed."""
        keys = expand(extract(psk, self.nonce), b"lavatube/1 release" + self.vault, 64)
        need(keys[32:] == self.sealed_note[:32], "release: the key does not fit (another tenant?)")
        plain = gcm_open(keys[:32], bytes(12), self.sealed_note[32:], what="note of a release")
        _, snapshots = fields(cbor(plain, maybe_padded=True), tenant=(1, str), snapshots=(2, list))
        return each(snapshots, *[24] * len(snapshots))


def blocks_of(runs):
    """The blocks of a pack that stay, of runs that stay, go, stay, ..., stay (F51)."""
    need(len(runs) % 2 == 1 and all(runs) and sum(runs) in (4 << i for i in range(11)), "these are no runs of a pack")
    starts = [sum(runs[:i]) for i in range(len(runs))]
    return [b for i in range(0, len(runs), 2) for b in range(starts[i], starts[i] + runs[i])]


class Remnant:
    """What stays of a pack that a release thinned (FORMAT 18). read(start, end) gives bytes of the pack, where they stay."""

    def __init__(self, obj):
        self.obj, self.length = obj, obj.length
        head = obj.read(0, 44)
        need(head[:8] == b"LVTREMN\1", "not a remnant")
        self.pack, count = head[8:40], int.from_bytes(head[40:], "little")
        need(44 + 4 * count <= obj.length, "a remnant is too short")
        runs = obj.read(44, 44 + 4 * count)
        runs = [int.from_bytes(runs[i:i + 4], "little") for i in range(0, 4 * count, 4)]
        self.blocks = blocks_of(runs)
        self.place = {block: i for i, block in enumerate(self.blocks)}
        self.size = sum(runs) * BLOCK
        self.hashes = self.subtrees(0, sum(runs))
        self.body = 44 + 4 * count + 32 * len(self.hashes)
        need(obj.length == self.body + BLOCK * len(self.blocks), "a remnant is not as long as what stays")

    def subtrees(self, first, count):
        """The largest subtrees of which nothing stays, as (first block, blocks)."""
        stay = sum(b in self.place for b in range(first, first + count))
        if stay == 0:
            return [(first, count)]
        half = count // 2
        return [] if stay == count else self.subtrees(first, half) + self.subtrees(first + half, half)

    def read(self, start, end):
        out = []
        while start < end:
            block, n = start // BLOCK, min(end, start // BLOCK * BLOCK + BLOCK) - start
            need(block in self.place, "a release freed these bytes (F52)")
            at = self.body + self.place[block] * BLOCK + start % BLOCK
            out.append((at, at + n))
            start += n
        runs = []
        for at, to in out:                      # what lies together is read together
            if runs and runs[-1][1] == at:
                runs[-1] = (runs[-1][0], to)
            else:
                runs.append((at, to))
        return b"".join(self.obj.read(at, to) for at, to in runs)


# --- FORMAT 3: packs, frames, chunks -------------------------------------------------------------------------------------

def pack_keys(prk, session, number, size_class):
    """AEAD key and commitment of a pack."""
    both = expand(prk, b"lavatube/1 pack" + b"aesgcm-1" + session + number.to_bytes(4, "little") + bytes([size_class]), 64)
    return both[:32], both[32:]


class Pack:
    """A sealed pack. read(start, end) gives bytes of the stored object."""

    def __init__(self, read, prk, session, number, size_class):
        self.read, self.name = read, f"pack {number} of session {session.hex()[:8]}"
        self.size = 4096 << (2 * size_class)
        self.pieces = -(-(self.size - 96) // (PIECE + 16))
        self.capacity = self.size - 96 - 16 * self.pieces
        key, commitment = pack_keys(prk, session, number, size_class)
        self.aead = AESGCM(key)
        try:
            header = read(0, 96)
        except Lost as e:                       # its fields are all known from the manifest, so go on without it
            warn(f"{self.name}: header is lost ({e}), commitment not compared (F7)")
        else:
            need(header[:64] == b"LVTPACK\1aesgcm-1" + session + number.to_bytes(4, "little") + bytes([size_class])
                 + bytes(27), f"{self.name}: the header is not that of this pack")
            need(header[64:] == commitment, f"{self.name}: key commitment differs (F7)")

    def plain(self, start, end):
        """Bytes start..end of the plaintext; only the pieces that hold them are opened."""
        need(0 <= start <= end <= self.capacity, f"{self.name}: range beyond the end")
        first, last = start // PIECE, max(start, end - 1) // PIECE
        sealed = self.read(96 + first * (PIECE + 16), min(self.size, 96 + (last + 1) * (PIECE + 16)))
        out = []
        for i in range(first, last + 1):
            part = sealed[(i - first) * (PIECE + 16):(i - first + 1) * (PIECE + 16)]
            nonce = bytes(7) + i.to_bytes(4, "big") + bytes([i == self.pieces - 1])
            try:
                out.append(self.aead.decrypt(nonce, part, None))
            except InvalidTag:
                raise Lost(f"{self.name}: piece {i} does not open")
        return b"".join(out)[start - first * PIECE:end - first * PIECE]

    def index(self):
        """Rows (chunk id, frame position, method, stored length, raw length, position in raw, body length, delta base
        or None, content length)."""
        footer = self.plain(self.capacity - 16, self.capacity)
        index_length, frames_length, count = (int.from_bytes(footer[i:i + 4], "little") for i in (0, 4, 8))
        need(footer[12:] == b"LVTI" and index_length + frames_length + 16 <= self.capacity, f"{self.name}: bad footer")
        c = Cursor(self.plain(self.capacity - 16 - index_length, self.capacity - 16))
        position, rows = 0, []
        for _ in range(count):
            method, stored, chunks, raw = c.uint(1), c.varint(), [], 0
            for _ in range(c.varint()):
                chunk_id, length = c.take(24), c.varint()
                length, delta = length >> 1, length & 1
                base, content = (c.take(24), c.varint()) if delta else (None, length)
                need(content <= 8 * MIB, "chunk is too long")
                chunks.append((chunk_id, raw, length, base, content))
                raw += length
            need(method in (0, 1) and raw <= 16 * MIB and stored <= raw + 64 and (method or stored == raw),
                 f"{self.name}: a frame of impossible size")
            rows += [(i, position, method, stored, raw, at, length, base, content)
                     for i, at, length, base, content in chunks]
            position += stored
        c.end()
        need(position == frames_length, f"{self.name}: frames do not add up (F8)")
        return rows


def unzstd(data, length, base=None):
    """One zstd frame (RFC 8878) that declares exactly `length` bytes. base: content used as prefix (FORMAT 3, delta)."""
    try:
        need(zstandard.frame_content_size(data) == length, "zstd frame declares another length")
        prefix = base and zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        window = 32 * MIB if base else 8 * MIB
        out = zstandard.ZstdDecompressor(dict_data=prefix, max_window_size=window).decompress(
            data, max_output_size=length, allow_extra_data=False) if length else b""
    except zstandard.ZstdError as e:
        raise Lost(f"zstd: {e}")
    need(len(out) == length, "zstd frame has another length")
    return out


class Chunks:
    """Every chunk of every readable pack, by id. The index is kept in SQLite, in memory or in a file, since a large
    vault has more chunks than Python dictionaries like."""

    def __init__(self, chunk_id_key, where=":memory:"):
        self.key, self.packs, self.frames = chunk_id_key, [], Recent(128 * MIB)
        self.db = sqlite3.connect(where)
        self.db.executescript("""pragma journal_mode = off; pragma synchronous = off; drop table if exists chunk;
            create table chunk (id blob, pack int, at int, method int, stored int, raw int, pos int, body int, base blob,
            length int)""")

    def add_pack(self, pack):
        rows = pack.index()
        self.packs.append(pack)
        self.db.executemany(f"insert into chunk values (?,{len(self.packs) - 1},?,?,?,?,?,?,?,?)", rows)
        return len(rows)

    def ready(self):
        self.db.execute("create index by_id on chunk (id)")

    def frame(self, number, at, method, stored, raw):
        data = self.frames.get((number, at))
        if data is None:
            data = self.packs[number].plain(at, at + stored)
            data = unzstd(data, raw) if method else data
            self.frames.put((number, at), data)
        return data

    def get(self, chunk_id, depth=0):
        """The content of a chunk, whose id is derived again (F10). Every pack that has the chunk is tried."""
        problem = "in no pack that can be read"
        for row in self.db.execute("select pack, at, method, stored, raw, pos, body, base, length from chunk where id = ?",
                                   (chunk_id,)).fetchall():
            number, at, method, stored, raw, pos, body, base, length = row
            try:
                content = self.frame(number, at, method, stored, raw)[pos:pos + body]
                if base is not None:
                    need(depth < 8, "delta on delta too deep (F9)")
                    content = unzstd(content, length, self.get(base, depth + 1))
                need(blake3(content, key=self.key).digest()[:24] == chunk_id, "content does not have the chunk's id")
                return content
            except Lost as e:
                problem = e
        raise Lost(f"chunk {chunk_id.hex()[:16]}: {problem}")


# --- FORMAT 4: trees -----------------------------------------------------------------------------------------------------

@dataclass
class Entry:
    """One file, directory, ... of a snapshot."""
    path: bytes
    kind: int
    layer: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: list = field(default_factory=list)
    link: bytes | None = None               # path of the first entry of this hard-link group
    target: bytes = b""                     # of a symlink
    device: tuple = (0, 0)
    size: int = 0
    depth: int = 0
    refs: list = field(default_factory=list)
    extents: list = field(default_factory=list)     # (offset, length) of data; the rest are holes
    digest: bytes | None = None

    @property
    def parts(self):
        return self.path.split(b"/") if self.path else []


def read_ref(c):
    return c.take(24), c.varint()


def parse_refs(data):
    c, refs = Cursor(data), []
    while c.left():
        refs.append(read_ref(c))
    return refs


def parse_entry(body, previous, layer):
    """One record body of a tree chunk; `previous` is the path of the record before."""
    c = Cursor(body)
    kind, shared = c.uint(1), c.varint()
    need(kind <= SOCKET and shared <= len(previous), "tree record of an unknown kind")
    e = Entry(previous[:shared] + c.bytes(), kind, layer)
    need(all(p not in (b"", b".", b"..") and b"\0" not in p for p in e.parts), "a forbidden path (F11)")
    if kind != GONE:
        e.mode, e.uid, e.gid, seconds, ns, flags = c.varint(), c.varint(), c.varint(), c.zigzag(), c.varint(), c.varint()
        need(e.mode < 4096 and ns < 10**9 and flags < 8, "tree record with an impossible mode, time or flag")
        e.mtime_ns = seconds * 10**9 + ns
        if flags & 1:
            e.xattrs = [(c.bytes(), c.bytes()) for _ in range(c.varint())]
        if flags & 2:
            e.link = c.bytes()
        if kind == SYMLINK:
            e.target = c.bytes()
            need(b"\0" not in e.target, "a zero byte in the target of a symlink")
        elif kind in (CHARACTER, BLOCKDEV):
            e.device = (c.varint(), c.varint())
        elif kind == FILE:
            e.size, e.depth = c.varint(), c.varint()
            e.refs = [read_ref(c) for _ in range(c.varint())]
            e.extents, at = [(0, e.size)], 0
            if flags & 4:
                e.extents = []
                for _ in range(c.varint()):
                    gap, length = c.varint(), c.varint()
                    e.extents.append((at + gap, length))
                    at += gap + length
                need(at <= e.size, "extents beyond the end of the file")
            if len(e.refs) > 1 or e.depth > 0:
                e.digest = c.take(32)
            need(sum(n for _, n in e.refs) == sum(n for _, n in e.extents) and e.depth <= 8, "lengths of refs (F13)")
    c.end()
    return e


class Snapshot:
    """A snapshot: its record, and its merged tree. problem(text) is called for each part that cannot be read."""

    def __init__(self, chunks, snapshot_id):
        self.chunks, self.id = chunks, snapshot_id
        self.record = cbor(chunks.get(snapshot_id))
        version, time, self.layers, totals = fields(self.record, version=(0, int), start=(1, list), layers=(6, list),
                                                    totals=(7, dict))
        need(version == 1 and 1 <= len(self.layers) <= 8, "snapshot record of an unknown version")
        each(self.layers, *[24] * len(self.layers))
        self.time = each(time, int, int)

    def layer(self, number, problem):
        """The entries of one layer, in order."""
        try:
            c = Cursor(self.chunks.get(self.layers[number]))
            need(c.uint(1) == 1, "layer descriptor of an unknown version")
            count = c.varint()
            parts = [(c.take(24), c.varint(), c.bytes()) for _ in range(c.varint())]
            c.end()
        except Lost as e:
            return problem(f"layer {number} of the tree, with everything it lists: {e}")
        seen, before = 0, None
        for i, (chunk_id, length, first) in enumerate(parts):
            try:
                c = Cursor(self.chunks.get(chunk_id))
                need(c.left() == length, "tree chunk of another length")
                path = b""
                while c.left():
                    entry = parse_entry(c.bytes(), path, number)
                    path = entry.path
                    need(before is None or before < entry.parts, "tree is not sorted (F11)")
                    before, seen = entry.parts, seen + 1
                    yield entry
            except Lost as e:
                after = show(parts[i + 1][2]) if i + 1 < len(parts) else "the end"
                problem(f"all entries from {show(first)} until before {after} (layer {number}; older layers may show"
                        f" through): {e}")
                count = None
        if count not in (None, seen):
            problem(f"layer {number} has {seen} entries, but should have {count}")

    def entries(self, problem):
        """The merged tree: for each path the newest layer counts; what is gone, or beneath no directory, is hidden."""
        merged = heapq.merge(*(self.layer(n, problem) for n in range(len(self.layers))), key=lambda e: (e.parts, e.layer))
        roof = None                                             # the last entry that is not a directory
        for parts, group in itertools.groupby(merged, key=lambda e: e.parts):
            e = next(group)
            if roof and parts[:len(roof.parts)] == roof.parts:
                if e.layer <= roof.layer and e.kind != GONE:
                    problem(f"{show(e.path)}: lies beneath {show(roof.path)}, which is no directory")
                continue
            roof = e if e.kind != DIRECTORY else None
            if e.kind != GONE:
                yield e

    def stream(self, refs, depth):
        """(length, bytes) for each part of a content stream, or (length, None) where it is lost."""
        for chunk_id, length in refs:
            try:
                content = self.chunks.get(chunk_id)
                if depth:
                    below = parse_refs(content)
                    need(sum(n for _, n in below) == length, "list chunk of another length (F13)")
                else:
                    need(len(content) == length, "chunk of another length (F13)")
            except Lost as e:
                self.why = e
                yield length, None
            else:
                if depth:
                    yield from self.stream(below, depth - 1)
                else:
                    yield length, content

    def content(self, e, write):
        """Call write(offset, bytes) for all data of a file; None if all is there, else what is wrong."""
        digest, lost, self.why = blake3(), 0, None
        extents = iter(e.extents)
        at, left = next(extents, (0, 0))
        for length, data in self.stream(e.refs, e.depth):
            if data is None:
                lost += length
            else:
                digest.update(data)
            done = 0
            while done < length:
                while left == 0:
                    at, left = next(extents)
                n = min(left, length - done)
                if data is not None:
                    write(at, data[done:done + n])
                at, left, done = at + n, left - n, done + n
        if lost or self.why:
            return f"{lost} of {e.size} bytes are lost: {self.why}"
        if e.digest is not None and digest.digest() != e.digest:
            return "the content does not have the file's digest"


# --- Opening an archive --------------------------------------------------------------------------------------------------

class Archive:
    """A vault seen with a key: its manifests, the chunks they lead to, and snapshots."""

    def __init__(self, vault, keys, unverified=False, index=":memory:"):
        self.vault, self.keys, self.problems = vault, keys, []
        self.chunks, self.snapshots, self.manifests = Chunks(keys.chunk_id, index), {}, []
        if vault.cards and all((c[6], c[7]) != keys.authority for c in vault.cards if keys.authority[1]):
            warn("WARNING: these drives were made for another authority than that of the given key")
        cards = {}
        for obj in vault.of_kind(CARD):
            try:
                depositor, ed, ml, label = parse_depositor_card(obj.read(), keys.authority)
                cards[depositor] = (ed, ml)
            except Lost as e:
                self.problem(f"depositor card {obj.id.hex()[:16]}: {e}")
        for obj in vault.of_kind(MANIFEST):
            try:
                m = Manifest(obj.read(), cards)
                if not m.verified:
                    why = "signatures are wrong (F14)" if m.depositor in cards else "the depositor's card is not here"
                    need(unverified, f"{why}; --unverified reads it all the same")
                    warn(f"WARNING: manifest {m.id.hex()[:16]} is read UNVERIFIED: {why}")
                m.unwrap(keys)
                m.tenant, m.snapshots, m.marks = m.note()
                self.manifests.append(m)
            except Lost as e:
                self.problem(f"manifest {obj.id.hex()[:16]}: {e}")
        self.manifests.sort(key=lambda m: (m.depositor, m.sequence))
        self.check_chain()
        self.read_remnants()
        self.read_releases()
        self.read_packs()

    def read_remnants(self):
        """By pack the shortest remnant, which is the latest, of packs that cannot be read themselves (F50)."""
        self.remnants = {}
        for obj in sorted(self.vault.of_kind(REMNANT), key=lambda o: o.length):
            try:
                remnant = Remnant(obj)
            except Lost as e:
                self.problem(f"remnant {obj.id.hex()[:16]}: {e}")
                continue
            whole = self.vault.objects.get(remnant.pack)
            if remnant.pack not in self.remnants and not (whole and whole.is_readable()):
                self.remnants[remnant.pack] = remnant

    def read_releases(self):
        """Packs that releases name and that are not here are gone on purpose, and so are the snapshots that went with them."""
        self.released, self.gone = set(), set()
        for obj in self.vault.of_kind(RELEASE):
            try:
                release = Release(obj.read(), self.keys.authority)
                ours = {card[1] for card in self.vault.cards}
                need(release.verified and (not ours or release.vault in ours),
                     "is not the authority's word about this vault (F37)")
                missing = {i for i in release.objects if i not in self.vault.objects}
                thinned = (i for i in release.thins if i in self.remnants)
                missing |= {i for i in thinned if set(self.remnants[i].blocks) <= set(release.thins[i])}
                self.released |= set(release.objects)
                self.gone |= set(release.snapshots(self.keys.psk) if missing else [])
            except Lost as e:
                self.problem(f"release {obj.id.hex()[:16]}: {e}")

    def problem(self, text):
        self.problems.append(text)
        warn(text)

    def check_chain(self):
        """Every manifest that another one follows is here (FORMAT 5). Several ends of a chain are no loss."""
        here = {m.id for m in self.manifests}
        for m in self.manifests:
            for missing in (i for i in m.follows if i not in here):
                self.problem(f"depositor {m.depositor.hex()[:8]}: manifest {missing.hex()[:16]}, which number {m.sequence}"
                             f" follows, is not here; it and perhaps others before it are missing, with their snapshots")

    def read_packs(self):
        for m in self.manifests:
            for number, (size_class, pack_id, _) in enumerate(m.leaves):
                try:
                    obj = self.remnants.get(pack_id) or self.vault.objects.get(pack_id)
                    size = obj and (obj.size if isinstance(obj, Remnant) else obj.kind == PACK and obj.length)
                    need(size == 4096 << (2 * size_class), "not on these drives")
                    self.chunks.add_pack(Pack(obj.read, m.prk, m.session, number, size_class))
                except Lost as e:
                    if pack_id not in self.released:
                        self.problem(f"pack {pack_id.hex()[:16]} (number {number}): {e}")
        self.chunks.ready()
        self.forgotten = self.read_marks()
        for m in self.manifests:
            for snapshot_id in (i for i, _ in m.snapshots if i not in self.gone):
                try:
                    self.snapshots[snapshot_id] = Snapshot(self.chunks, snapshot_id)
                except Lost as e:
                    self.problem(f"snapshot {snapshot_id.hex()}: {e}")

    def read_marks(self):
        """The snapshots that are forgotten: of the marks of one that are right the highest edition counts (F36)."""
        home, best = {i: m for m in self.manifests for i, _ in m.snapshots}, {}
        for mark in (mark for m in self.manifests for mark in m.marks):
            if mark[0] in home and home[mark[0]].is_right(mark):
                best[mark[0]] = max(best.get(mark[0], (0, 0)), (mark[2], -mark[1]))
        return {i for i, (_, kept) in best.items() if kept < 0}

    def find(self, name):
        known = [s for s in self.oldest_first() if s.id not in self.forgotten]
        if name == "latest" and known:
            return known[-1]
        found = [s for i, s in self.snapshots.items() if i.hex().startswith(name.lower())]
        need(len(found) == 1, f"{len(found)} snapshots have an id that begins with {name}")
        return found[0]

    def oldest_first(self):
        """Who follows another is newer, and so is a snapshot than its parent; else times decide (F25)."""
        by_id = {m.id: m for m in self.manifests}
        home = {i: m.id for m in self.manifests for i, _ in m.snapshots}
        after = {m.id: {i for i in m.follows if i in by_id} for m in self.manifests}
        for m in self.manifests:                # where one is missing, or was when m was made: all below its number
            above = max((by_id[i].sequence for i in after[m.id]), default=0) + 1
            if m.sequence > above or len(after[m.id]) < len(m.follows):
                after[m.id] |= {o.id for o in self.manifests if o.depositor == m.depositor and o.sequence < m.sequence}
        for i, s in self.snapshots.items():
            after[home[i]] |= {home[p] for p in (s.record.get(9),) if p in home and home[p] != home[i]}
        time = {m.id: max((self.snapshots[i].time for i, _ in m.snapshots if i in self.snapshots), default=None)
                for m in self.manifests}
        weight = {i: (time[i] is None, time[i] or (), by_id[i].sequence, i) for i in by_id}
        followers = collections.Counter(i for before in after.values() for i in before)
        left, newest_first = set(by_id), []
        free = {i for i in left if not followers[i]}
        while left:
            newest_first.append(max(free or left, key=weight.get))
            left.remove(newest_first[-1])
            followers.subtract(after[newest_first[-1]])
            free = {i for i in free | after[newest_first[-1]] if i in left and followers[i] <= 0}
        place = {i: n for n, i in enumerate(reversed(newest_first))}
        return [s for _, s in sorted(self.snapshots.items(), key=lambda x: (place[home[x[0]]], x[1].time, x[0]))]

    def list(self):
        for s in self.oldest_first():
            host, paths, tags, totals, description = (s.record.get(i, "") for i in (2, 3, 4, 7, 10))
            try:
                when = (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=s.time[0])).isoformat(" ") + "Z"
            except OverflowError:
                when = f"time {s.time[0]}"
            paths = [p.decode("utf-8", "backslashreplace") for p in paths if is_a(p, bytes)]
            print(plain(f"{s.id.hex()}  {when}  {host}  {' '.join(paths)}  files {totals.get(1)}  bytes {totals.get(4)}"
                        f"  skipped {totals.get(6)}  {' '.join(f'#{t}' for t in tags)}  {description}"
                        f"{'  (forgotten)' if s.id in self.forgotten else ''}").rstrip())

    def verify(self):
        """Read all: every block of every shard file, every object, every distinct file of every snapshot."""
        for obj in self.vault.objects.values():
            for stripe in obj.stripes.values():
                for s in itertools.chain(*stripe.shards.values()):
                    bad = sum(s.block(b) is None for b in range(s.blocks))
                    if bad:
                        warn(f"{s.path}: {bad} of {s.blocks} blocks are damaged")
            try:
                data = obj.read()
            except Lost as e:
                outlived = obj.kind == REMNANT and obj not in [remnant.obj for remnant in self.remnants.values()]
                if obj.id not in self.released and obj.id not in self.remnants and not outlived:
                    self.problem(str(e))
                continue
            for m in self.manifests:
                for _, pack_id, sha256 in m.leaves:
                    if pack_id == obj.id and hashlib.sha256(data).digest() != sha256:
                        self.problem(f"pack {pack_id.hex()[:16]}: its SHA-256 is not that of the manifest")
        known = set()
        for s in self.snapshots.values():
            count = 0
            for e in s.entries(self.problem):
                identity = h16(repr((e.size, e.depth, e.refs, e.digest)).encode())
                count += 1
                if e.kind == FILE and identity not in known:
                    wrong = s.content(e, lambda at, data: None)
                    if wrong:
                        self.problem(f"{s.id.hex()[:12]} {show(e.path)}: {wrong}")
                    else:
                        known.add(identity)
            print(f"{s.id.hex()}: {count} entries read")


# --- Restoring -----------------------------------------------------------------------------------------------------------

class Folder:
    """A directory below the target, held open. What is in it is named relative to it (dir_fd), and each step down is a
    call of its own: a path may be longer than a system takes in one call, and no step follows a symlink."""

    def __init__(self, target):
        self.target, self.parts, self.fd = target, None, None

    def at(self, parts):
        """A descriptor of the directory, which is made where it is missing; good until the next call."""
        if self.parts is None or parts[:len(self.parts)] != self.parts:         # not below where we are: from the top
            self.step([], os.open(self.target, os.O_RDONLY | os.O_DIRECTORY))
        for name in parts[len(self.parts):]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=self.fd)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.fd)
            self.step(self.parts + [name], below)
        return self.fd

    def step(self, parts, fd):
        if self.fd is not None:
            os.close(self.fd)
        self.parts, self.fd = parts, fd


class Restore:
    """Writes a snapshot into an empty folder. `lost` names everything that could not be restored whole."""

    def __init__(self, snapshot, target):
        self.snapshot, self.target, self.lost, self.notes = snapshot, os.fsencode(target), [], 0
        self.groups, self.directories, self.done = {}, [], 0
        os.umask(0o077)                                         # nobody else reads along before modes are set
        os.makedirs(self.target, exist_ok=True)
        need(not os.listdir(self.target), "the target folder is not empty")
        self.here, self.there = Folder(self.target), Folder(self.target)        # `there`: where a hard link leads

    def failed(self, text):
        self.lost.append(text)
        warn("NOT RESTORED: " + text)

    def note(self, text):
        self.notes += 1
        warn(text)

    def run(self):
        for e in self.snapshot.entries(self.failed):
            try:
                self.entry(e)
            except (OSError, OverflowError, NotImplementedError) as error:
                self.failed(f"{show(e.path)}: {error}")
        for e in reversed(self.directories):                    # last, and the deepest first: files inside change times
            try:
                self.meta(e, self.here.at(e.parts[:-1]), e.parts[-1] if e.parts else b".")
            except OSError as error:
                self.note(f"{show(e.path)}: mode and time not set: {error}")

    def entry(self, e):
        if e.kind == DIRECTORY:
            self.here.at(e.parts)
            self.directories.append(e)
            self.done += 1
            return
        folder, name = self.here.at(e.parts[:-1]), e.parts[-1]  # parents normally have entries of their own
        identity = h16(repr((e.kind, e.mode, e.uid, e.gid, e.mtime_ns, e.xattrs, e.target, e.device, e.size, e.refs,
                             e.extents, e.digest)).encode())
        known = self.groups.get(e.link)
        if known and known[1] == identity:                      # a further name of what is already restored
            try:
                os.link(known[0][-1], name, src_dir_fd=self.there.at(known[0][:-1]), dst_dir_fd=folder,
                        follow_symlinks=False)
                self.done += 1
                return
            except OSError as error:
                self.note(f"{show(e.path)}: restored as a copy, not as a hard link: {error.strerror}")
        if e.kind == FILE:
            with open(name, "xb", opener=lambda name, flags: os.open(name, flags, dir_fd=folder)) as f:
                def write(at, data):
                    f.seek(at)
                    f.write(data)
                wrong = self.snapshot.content(e, write)
                f.truncate(e.size)
            if wrong:                                           # what is left of it, zeros where it is lost
                os.rename(name, name + b".rescue-damaged", src_dir_fd=folder, dst_dir_fd=folder)
                return self.failed(f"{show(e.path)}: {wrong} (what is left: {show(e.path)}.rescue-damaged)")
        elif e.kind == SYMLINK:
            os.symlink(e.target, name, dir_fd=folder)
        else:
            bits = {FIFO: stat.S_IFIFO, CHARACTER: stat.S_IFCHR, BLOCKDEV: stat.S_IFBLK, SOCKET: stat.S_IFSOCK}[e.kind]
            try:
                os.mknod(name, bits | 0o600, os.makedev(*e.device), dir_fd=folder)
            except PermissionError:
                return self.note(f"{show(e.path)}: a device, skipped: only root can make it")
        self.meta(e, folder, name)
        self.groups[e.path] = (e.parts, identity)
        if e.link is not None:
            self.groups[e.link] = (e.parts, identity)
        self.done += 1

    def meta(self, e, folder, name):
        """Owner (as root), extended attributes, mode and time; in this order, since an earlier one can undo a later one."""
        def attempt(what, call, *arguments, **options):
            try:
                call(*arguments, **options)
            except (OSError, OverflowError, ValueError, NotImplementedError) as error:
                self.note(f"{show(e.path)}: {what} not set: {error}")
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            attempt("owner", os.chown, name, e.uid, e.gid, dir_fd=folder, follow_symlinks=False)
        for key, value in e.xattrs:                             # the one call that takes no dir_fd
            attempt(f"attribute {show(key)[1:]}", getattr(os, "setxattr", no_setxattr), b"/proc/self/fd/%d/%s" % (folder, name),
                    key, value, follow_symlinks=False)
        if e.kind != SYMLINK:
            attempt("mode", os.chmod, name, e.mode, dir_fd=folder)
        attempt("time", os.utime, name, ns=(e.mtime_ns, e.mtime_ns), dir_fd=folder, follow_symlinks=False)


def no_setxattr(*_, **__):
    raise OSError("this system's Python has no os.setxattr")


# --- Command line --------------------------------------------------------------------------------------------------------

def arguments(argv):
    p = argparse.ArgumentParser(description="Read a lavatube vault from its drive folders and restore snapshots.")
    p.add_argument("--drives", nargs="+", required=True, metavar="DIR", help="the drive folders that are left")
    key = p.add_mutually_exclusive_group(required=True)
    key.add_argument("--recovery", metavar="LVT1-...", help="the recovery key (better: --recovery-file)")
    key.add_argument("--recovery-file", metavar="FILE", help="a file that holds the recovery key; - is stdin")
    key.add_argument("--read-key", metavar="FILE", help="a read key; a passphrase is read from stdin if it is locked")
    p.add_argument("--tenant", default="default", help="with a recovery key: whose archive (default: default)")
    p.add_argument("--unverified", action="store_true", help="use manifests whose signatures cannot be verified")
    p.add_argument("--index", default=":memory:", metavar="FILE", help="keep the chunk index in a file, for large vaults")
    sub = p.add_subparsers(dest="command", required=True)
    sub.add_parser("list", help="print the snapshots")
    restore = sub.add_parser("restore", help="restore a snapshot")
    restore.add_argument("snapshot", help="its id, the beginning of it, or latest")
    restore.add_argument("--target", required=True, metavar="DIR", help="an empty or new folder")
    sub.add_parser("verify", help="read everything and say what is wrong")
    log = sub.add_parser("log", help="print the vault's log, as the shards tell it")
    log.add_argument("--checkpoint", metavar="FILE", help="compare it with this checkpoint")
    return p.parse_args(argv)


def ask_passphrase():
    if sys.stdin.isatty():
        import getpass
        return getpass.getpass("Passphrase of the read key: ").encode()
    return sys.stdin.buffer.readline().rstrip(b"\r\n")


def read_text(path):
    if path == "-":
        return sys.stdin.read()
    with open(path, encoding="utf-8") as f:
        return f.read()


def recovery_text(text):
    """The line of a file that holds the recovery key; other lines are for people."""
    return next((line for line in text.splitlines() if line.strip().upper().startswith(("LVT1", "LVTI", "LVTL"))), text)


def main(argv=None):
    a = arguments(argv)
    try:
        if a.read_key:
            keys = keys_from_read_key(read_text(a.read_key), ask_passphrase)
        else:
            keys = keys_from_root(root_from_recovery(a.recovery or recovery_text(read_text(a.recovery_file))), a.tenant)
        archive = Archive(Vault(a.drives), keys, a.unverified, a.index)
        need(archive.manifests, "no manifest on these drives opens with this key")
        if a.command == "list":
            archive.list()
        elif a.command == "log":
            show_log(archive.vault, a.checkpoint)
        elif a.command == "verify":
            archive.verify()
            print("everything can be read" if not archive.problems else f"{len(archive.problems)} problems, named above")
        else:
            job = Restore(archive.find(a.snapshot), a.target)
            job.run()
            print(f"{job.done} entries restored to {a.target}, {job.notes} warnings, {len(job.lost)} not restored")
            for text in job.lost:
                print("NOT RESTORED: " + text)
            return 1 if job.lost else 0
        return 1 if archive.problems else 0
    except (Lost, OSError) as e:
        warn(f"cannot go on: {e}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
