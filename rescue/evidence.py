#!/usr/bin/env python3
"""Verifies evidence of lavatube: that a file is, to the last byte, one that was backed up.

    python3 evidence.py EVIDENCE FILE [--authority FINGERPRINT] [--vault-key FINGERPRINT] [--witness LINE]

Written from docs/FORMAT.md, section 19 (and 5 and 16 for what is signed), not from the Rust code. It needs no keys and
nothing of lavatube but rescue.py beside it, and the libraries in requirements.txt. Exit status: 0 proven, 16 not proven.
"""
import base64, contextlib, datetime, hashlib, os, sys

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from rescue import Cursor, Lost, cbor, fields, need, parse_checkpoint, parse_depositor_card, signed_body

FIRST = "lavatube evidence 1"
INTRODUCTION = """
This text is evidence. It shows that a file of exactly the length and the digests below was in a backup that a machine
signed, and that this backup is an entry in the log of a vault, which the vault signed. Whoever has the file can check
that with nothing but this text:

    lavatube verify THIS-TEXT THE-FILE
    python3 rescue/evidence.py THIS-TEXT THE-FILE

or by hand, as section 19 of FORMAT.md of lavatube says. Both tell what is proved, and what is only claimed: dates
are, unless a witness or a time-stamp authority has signed one. A text that is changed proves nothing.

"""
WORDS = ["length", "blake3", "sha256", "extents", "salt", "file", "file-path", "backed-up", "blind", "manifest",
         "depositor-card", "authority", "log-entry", "log-path", "checkpoint", "vault-key", "made", "token"]
BELOW = {"extents", "file-path", "manifest", "depositor-card", "authority", "log-path", "checkpoint", "token"}


def read_text(text):
    """The words of an evidence and their values; lines below a word as a list."""
    text = text.replace("\r\n", "\n")
    head = FIRST + "\n" + INTRODUCTION
    need(text.startswith(FIRST), "this is no evidence")
    need(text.startswith(head) and text.endswith("\n"), "the evidence is not whole")
    out = {}
    for number, line in enumerate(text[len(head):-1].split("\n"), head.count("\n") + 1):
        if line.startswith("    "):
            need(isinstance(out.get(word), list), f"line {number} stands below nothing")
            out[word].append(line[4:])
            continue
        word, space, value = line.partition(" ")
        need(word not in out and bool(space) != (word in BELOW), f"line {number} is not what it should be")
        out[word] = value if space else []
    order = [w for w in ["name", "name-hex"] + WORDS if w in out]
    need(list(out) == order and not ("name" in out and "name-hex" in out), "words are missing or out of order")
    need(set(WORDS) - set(out) <= {"extents", "token"}, "words are missing: the evidence is cut")
    return out, text


def b64(lines):
    return b"".join(base64.b64decode(line, validate=True) for line in lines)


def base64_lines(data, width):
    return [base64.b64encode(data[i:i + width]).decode() for i in range(0, len(data), width)]


def decimal(text):
    need(text == str(int(text)), f"{text} is no number")
    return int(text)


def hexed(text):
    need(text == bytes.fromhex(text).hex(), f"{text} is no hexadecimal number")
    return bytes.fromhex(text)


def root_by(leaf, place, size, path):
    """The root that the hash of a leaf and its audit path come to (RFC 9162, 2.1.3.2)."""
    need(0 <= place < size, "a place that is none")
    at, last = place, size - 1
    for beside in path:
        need(last > 0, "a path that is too long")
        if at & 1 or at == last:
            leaf = hashlib.sha256(b"\1" + beside + leaf).digest()
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            leaf = hashlib.sha256(b"\1" + leaf + beside).digest()
        at, last = at >> 1, last >> 1
    need(last == 0, "a path that is too short")
    return leaf


def parse_extents(data, length):
    c = Cursor(data)
    out, end = [], 0
    for _ in range(c.varint()):
        start = end + c.varint()
        end = start + c.varint()
        out.append((start, end))
    c.end()
    need(end <= length, "an extent reaches beyond the file")
    return out


def digests(path, extents):
    """Length and both digests of a file; with extents, of what is in them, and there must be zeros elsewhere."""
    b, s, at = blake3(), hashlib.sha256(), 0
    rest = list(extents or [])
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            if extents is None:
                b.update(data), s.update(data)
            else:
                done = 0
                while done < len(data):
                    while rest and rest[0][1] <= at + done:
                        rest.pop(0)
                    inside = bool(rest) and rest[0][0] <= at + done
                    until = rest[0][1] if inside else rest[0][0] if rest else at + len(data)
                    part = data[done:until - at]
                    if inside:
                        b.update(part), s.update(part)
                    else:
                        need(not any(part), "the file has data where there should be holes")
                    done += len(part)
            at += len(data)
    return at, b.digest(), s.digest()


def cosigned(note, line):
    """When the witness with the key in this line signed a checkpoint (FORMAT 16)."""
    name, digits, key = line.split("+", 2)
    key = base64.b64decode(key, validate=True)
    need(key[:1] == b"\4" and len(key) == 33, "that is no key of a witness")
    key_id = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    need(key_id.hex() == digits, "the digits are not those of the key")
    text, _, signatures = note.rpartition("\n\n")
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if dash == "\u2014" and signer == name and signature[:4] == key_id and len(signature) == 76:
            time = int.from_bytes(signature[4:12], "big")
            with contextlib.suppress(InvalidSignature):
                signed = f"cosignature/v1\ntime {time}\n{text}\n".encode()
                Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[12:], signed)
                return name, time
    raise Lost(f"witness {name} has not signed the checkpoint in the evidence")


def verify(evidence, path, authority_asked=None, vault_asked=None, witness_asked=None):
    """A list of lines that say what is proved; raises Lost where it is not."""
    e, _ = read_text(evidence)
    length, extents = decimal(e["length"]), None
    leaf = hexed(e["salt"]) + length.to_bytes(8, "little") + hexed(e["blake3"]) + hexed(e["sha256"])
    for word, size in [("salt", 32), ("blake3", 32), ("sha256", 32), ("blind", 32), ("vault-key", 32)]:
        need(len(hexed(e[word])) == size, f"{word} has a wrong length")
    if "extents" in e:
        extents = parse_extents(b64(e["extents"]), length)
        leaf += b64(e["extents"])
    for word in BELOW - {"checkpoint"} & set(e):
        width = 32 if word.endswith("-path") else 57
        need(e[word] == base64_lines(b64(e[word]), width), f"{word} is not written as it should be")
    place, count = map(decimal, e["file"].split(" of "))
    root = root_by(hashlib.sha256(b"\0" + leaf).digest(), place, count, [b64([line]) for line in e["file-path"]])
    began = decimal(e["backed-up"])
    sealed = hashlib.sha256(b"lavatube/1 files\0" + hexed(e["blind"]) + began.to_bytes(8, "little", signed=True)
                            + count.to_bytes(8, "little") + root).digest()
    keys = b64(e["authority"])
    need(len(keys) == 32 + 1952, "authority: wrong length")
    depositor, ed, ml, label = parse_depositor_card(b64(e["depositor-card"]), (keys[:32], keys[32:]))
    data = b64(e["manifest"])
    body, good = signed_body(data, b"LVTMANI\1", b"lavatube/1 manifest\0", lambda body: (ed, ml))
    need(good, "the depositor did not sign the manifest in the evidence")
    named, files = fields(cbor(body), depositor=(2, 32), files=(13, 32))
    need(named == depositor, "the card in the evidence is another depositor's than the manifest's")
    need(files == sealed, "what the evidence says of the file is not what the depositor signed")
    note = "".join(line[1:] + "\n" for line in e["checkpoint"])
    need(all(line.startswith("|") for line in e["checkpoint"]), "checkpoint: lines that are none of it")
    vault_key = hexed(e["vault-key"])
    vault, size, log_root = parse_checkpoint(note, vault_key)
    entry = decimal(e["log-entry"])
    manifest_leaf = hashlib.sha256(b"\0\2" + blake3(data).digest()).digest()
    found = root_by(manifest_leaf, entry, size, [b64([line]) for line in e["log-path"]])
    need(found == log_root, "the manifest in the evidence is not where the vault's log should have it")
    authority = hashlib.sha256(b"lavatube/1 authority\0" + keys).hexdigest()
    vault_print = hashlib.sha256(b"lavatube/1 vault\0" + vault + vault_key).hexdigest()
    need(authority_asked in (None, authority), f"the authority is {authority}, and not the one that was asked for")
    need(vault_asked in (None, vault_print), f"the vault's key is {vault_print}, and not the one that was asked for")
    witness = cosigned(note, witness_asked) if witness_asked else None
    there = os.path.getsize(path)
    need(there <= length, f"the file has {there} bytes, and the evidence is about one of {length}: something was added")
    need(there >= length, f"the file has {there} bytes, and the evidence is about one of {length}: something is missing")
    there, b, s = digests(path, extents)
    need(there == length and (b, s) == (hexed(e["blake3"]), hexed(e["sha256"])), "the file is as long as it should be, and is not the one that was backed up")
    when = datetime.datetime.fromtimestamp(began, datetime.timezone.utc).isoformat()
    witnessed = [f"  witnessed by {witness[0]}, {witness[1]} s after 1970 by its clock"] if witness else []
    return [f"proven: {path} is, to the last byte, a file that was backed up",
            f"  signed by {label}, depositor {depositor.hex()}, certified by authority {authority}",
            f"  entry {entry} of {size} in the log of vault {vault.hex()}, signed by vault key {vault_print}",
            f"  claimed, and not proved: backed up {when}; a time-stamp token, if there is one, was not looked at"] + witnessed


def main(argv):
    asked, files = {}, []
    rest = iter(argv)
    for word in rest:
        if word in ("--authority", "--vault-key", "--witness"):
            asked[word] = next(rest, "")
        else:
            files.append(word)
    if len(files) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with open(files[0], encoding="utf-8", newline="") as file:
            text = file.read()
        print("\n".join(verify(text, files[1], asked.get("--authority"), asked.get("--vault-key"), asked.get("--witness"))))
    except (Lost, ValueError, KeyError, OverflowError) as problem:
        print(f"not proven: {problem}", file=sys.stderr)
        return 16
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
