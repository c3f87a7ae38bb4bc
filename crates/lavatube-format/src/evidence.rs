//! Evidence: a text that proves to anyone that a file was in a vault's log, all in one (FORMAT section 19).
//!
//! Text, so that a person who finds it in thirty years can see what it is; one text for one evidence, so that nothing can
//! be written between its lines. It must not know whether what it says is right: whoever verifies it does. Step 21 of the
//! walk.

use std::fmt::Write;

use lavatube_base::digest::{Digests, sha256};
use lavatube_base::limits::{CHECKPOINT_LEN_MAX, EVIDENCE_LEN_MAX, LOG_PROOF_MAX, TOKEN_LEN_MAX};
use lavatube_base::merkle::{Hash, root_by};
use lavatube_base::sign::{ML_DSA_65_PUBLIC_LEN, PairPublic};

use crate::checkpoint::SignedCheckpoint;
use crate::depositor_card::SignedCard;
use crate::key_file::armour;
use crate::manifest::SignedManifest;
use crate::roll::{Committed, FileFacts, Salt};
use crate::tree::{extents, put_extents};
use crate::wire::{Malformed, Reader};

mod lines;

use lines::{Lines, fail, put_block, put_hashes, put_hex};

/// A proof that something is in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its place, from 0.
    pub place: u64,
    /// The audit path.
    pub path: Vec<Hash>,
}

/// Evidence that a file was backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The file's name when the evidence was made: whoever made it says so.
    pub name: Option<Vec<u8>>,
    /// The content.
    pub facts: FileFacts,
    /// The salt of its leaf.
    pub salt: Salt,
    /// Its leaf among those of the session.
    pub file: Placed,
    /// What the manifest commits to,
    pub committed: Committed,
    /// and what hides that.
    pub blind: Salt,
    /// The manifest, signed by the depositor.
    pub manifest: SignedManifest,
    /// The depositor's card, signed by the authority.
    pub card: SignedCard,
    /// The authority's keys.
    pub authority: PairPublic,
    /// The manifest in the log.
    pub logged: Placed,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// The vault's key.
    pub vault_key: [u8; 32],
    /// When this was made, in seconds since 1970 by the clock of whoever made it.
    pub made_s: i64,
    /// A time-stamp token (RFC 3161), DER.
    pub token: Option<Vec<u8>>,
}

impl Evidence {
    /// The text.
    pub fn encode(&self) -> String {
        let mut out = self.stamped_text();
        if let Some(token) = &self.token {
            put_block(&mut out, "token", token);
        }
        out
    }

    /// What a time-stamp token is of: SHA-256 of all lines but its own.
    pub fn stamped(&self) -> [u8; 32] {
        sha256(self.stamped_text().as_bytes())
    }

    fn stamped_text(&self) -> String {
        let mut out = format!("{FIRST}\n{INTRODUCTION}");
        match self.name.as_deref().map(|name| (plain(name), name)) {
            Some((Some(name), _)) => out.push_str(&format!("name {name}\n")),
            Some((None, name)) => put_hex(&mut out, "name-hex", name),
            None => {}
        }
        let _ = writeln!(out, "length {}", self.facts.len);
        put_hex(&mut out, "blake3", &self.facts.digests.blake3);
        put_hex(&mut out, "sha256", &self.facts.digests.sha256);
        if let Some(all) = &self.facts.extents {
            let mut bytes = Vec::new();
            put_extents(&mut bytes, all);
            put_block(&mut out, "extents", &bytes);
        }
        put_hex(&mut out, "salt", &self.salt);
        let _ = writeln!(out, "file {} of {}", self.file.place, self.committed.count);
        put_hashes(&mut out, "file-path", &self.file.path);
        let _ = writeln!(out, "backed-up {}", self.committed.time_s);
        put_hex(&mut out, "blind", &self.blind);
        put_block(&mut out, "manifest", &self.manifest.encode());
        put_block(&mut out, "depositor-card", &self.card.encode());
        put_block(&mut out, "authority", &[&self.authority.ed25519, &self.authority.ml_dsa_65[..]].concat());
        let _ = writeln!(out, "log-entry {}", self.logged.place);
        put_hashes(&mut out, "log-path", &self.logged.path);
        out.push_str("checkpoint\n");
        for line in self.checkpoint.note().split_terminator('\n') {
            let _ = writeln!(out, "{}{line}", lines::QUOTE);
        }
        put_hex(&mut out, "vault-key", &self.vault_key);
        let _ = writeln!(out, "made {}", self.made_s);
        out
    }

    /// Reads exactly an evidence; ends of lines may be those of mail.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks the layout: `at` is the number of the line.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > EVIDENCE_LEN_MAX {
            return Err(fail(0, "longer than the limit"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| fail(0, "not UTF-8 text"))?.replace("\r\n", "\n");
        let out = Self::read(&text)?;
        //= FORMAT#F40 one text for one evidence
        let again = out.encode();
        if again != text {
            let same = again.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
            return Err(fail(
                same + 1,
                "this line is not as the others have it, or there are more lines than there should be",
            ));
        }
        Ok(out)
    }

    fn read(text: &str) -> Result<Self, Malformed> {
        if text.lines().next() != Some(FIRST) {
            return Err(fail(1, "this is no evidence: the first line of one is `lavatube evidence 1`"));
        }
        let mut lines = Lines::new(text, FIRST.len() + 1 + INTRODUCTION.len(), 2 + INTRODUCTION.lines().count());
        let name = match lines.maybe("name")? {
            Some(name) => Some(name.as_bytes().to_vec()),
            None => lines.maybe("name-hex")?.map(|_| lines.hex_of_last()).transpose()?,
        };
        let len = lines.number("length")?;
        let digests = Digests { blake3: lines.hash("blake3")?, sha256: lines.hash("sha256")? };
        let all = match lines.maybe_block("extents", EVIDENCE_LEN_MAX)? {
            Some(bytes) => {
                let mut r = Reader::new("extents", &bytes);
                let (all, _) = extents(&mut r, len)?;
                r.finish()?;
                Some(all)
            }
            None => None,
        };
        let salt = lines.hash("salt")?;
        let (place, count) = lines.place("file")?;
        let file = Placed { place, path: lines.hashes("file-path", LOG_PROOF_MAX)? };
        let time_s = lines.number("backed-up")?;
        let blind = lines.hash("blind")?;
        let manifest = SignedManifest::decode(&lines.block("manifest", EVIDENCE_LEN_MAX)?)?;
        let card = SignedCard::decode(&lines.block("depositor-card", EVIDENCE_LEN_MAX)?)?;
        let authority = authority(&lines.block("authority", EVIDENCE_LEN_MAX)?, &lines)?;
        let place = lines.number("log-entry")?;
        let logged = Placed { place, path: lines.hashes("log-path", LOG_PROOF_MAX)? };
        let checkpoint = SignedCheckpoint::decode(lines.quoted("checkpoint", CHECKPOINT_LEN_MAX)?.as_bytes())?;
        let vault_key = lines.hash("vault-key")?;
        let made_s = lines.number("made")?;
        let token = lines.maybe_block("token", TOKEN_LEN_MAX)?;
        // The root is not told: it is what leaf and path come to.
        let facts = FileFacts { len, digests, extents: all };
        let root = root_by(&facts.leaf(&salt), file.place, count, &file.path)
            .ok_or_else(|| fail(0, "a path that leads to no root"))?;
        let committed = Committed { time_s, count, root };
        Ok(Self {
            name,
            facts,
            salt,
            file,
            committed,
            blind,
            manifest,
            card,
            authority,
            logged,
            checkpoint,
            vault_key,
            made_s,
            token,
        })
    }
}

fn authority(bytes: &[u8], lines: &Lines<'_>) -> Result<PairPublic, Malformed> {
    let parts = bytes.split_first_chunk::<32>().filter(|(_, rest)| rest.len() == ML_DSA_65_PUBLIC_LEN);
    let (ed25519, ml_dsa_65) = parts.ok_or_else(|| lines.fail("keys of other lengths than an authority's"))?;
    Ok(PairPublic { ed25519: *ed25519, ml_dsa_65: ml_dsa_65.to_vec() })
}

/// A name as it stands in a line; `None` when it is no text, or would not be seen as it is.
fn plain(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let odd = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    (!name.is_empty() && name.trim() == name && !name.chars().any(odd)).then_some(name)
}

/// The digest of an authority's keys, for people to compare.
pub fn authority_fingerprint(authority: &PairPublic) -> [u8; 32] {
    sha256(&[&b"lavatube/1 authority\0"[..], &authority.ed25519, &authority.ml_dsa_65].concat())
}

/// The digest of a vault's key, for people to compare.
pub fn vault_fingerprint(vault: lavatube_base::VaultId, key: &[u8; 32]) -> [u8; 32] {
    sha256(&[&b"lavatube/1 vault\0"[..], &vault.0, key].concat())
}

/// What every evidence begins with.
pub const FIRST: &str = "lavatube evidence 1";

const INTRODUCTION: &str = "
This text is evidence. It shows that a file of exactly the length and the digests below was in a backup that a machine
signed, and that this backup is an entry in the log of a vault, which the vault signed. Whoever has the file can check
that with nothing but this text:

    lavatube verify THIS-TEXT THE-FILE
    python3 rescue/evidence.py THIS-TEXT THE-FILE

or by hand, as section 19 of FORMAT.md of lavatube says. Both tell what is proved, and what is only claimed: dates
are, unless a witness or a time-stamp authority has signed one. A text that is changed proves nothing.

";

/// Bytes as base64, for those who write texts of this kind.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    armour::put_base64(&mut out, bytes);
    out
}

#[cfg(test)]
mod tests;
