//! Judging evidence: what it proves, by whose signatures, and if nothing, where it breaks.
//!
//! Needs the evidence and what was found in the file, nothing else. It must not know where either comes from.

use lavatube_base::digest::Digests;
use lavatube_base::merkle::{leaf_hash, verify_inclusion};
use lavatube_base::sign::SignError;
use lavatube_base::{Verified, hex};
use lavatube_format::evidence::{Evidence, authority_fingerprint, vault_fingerprint};
use lavatube_format::log::Leaf;
use lavatube_format::roll::FileFacts;
use lavatube_format::shard::ObjectKind;

/// Why something is not proved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The file is longer.
    #[error(
        "the file has {found} bytes, and the evidence is about one of {said}: something was added, or it is another file"
    )]
    Longer {
        /// Its length.
        found: u64,
        /// What the evidence says.
        said: u64,
    },
    /// The file is shorter.
    #[error(
        "the file has {found} bytes, and the evidence is about one of {said}: something is missing, or it is another file"
    )]
    Shorter {
        /// Its length.
        found: u64,
        /// What the evidence says.
        said: u64,
    },
    /// As long, and not the same.
    #[error("the file is as long as it should be, and is not the one that was backed up: its {0} is another one")]
    Altered(&'static str),
    /// The leaf, what hides it or the date were changed.
    #[error(
        "what the evidence says of the file is not what the depositor signed: a length, digest, salt, path or date in it was changed"
    )]
    NotCommitted,
    /// The manifest is from before there were rolls.
    #[error("the manifest in the evidence says nothing of single files")]
    NoCommitment,
    /// The depositor did not sign.
    #[error("the depositor did not sign the manifest in the evidence: {0}")]
    Manifest(SignError),
    /// It is another depositor's card.
    #[error("the card in the evidence is another depositor's than the manifest's")]
    OtherDepositor,
    /// The authority did not sign.
    #[error("the authority in the evidence did not certify the depositor: {0}")]
    Card(SignError),
    /// The manifest is not in the log.
    #[error("the manifest in the evidence is not where the vault's log should have it, at this checkpoint")]
    NotLogged,
    /// The vault did not sign.
    #[error("the vault did not sign the checkpoint in the evidence: {0}")]
    Checkpoint(SignError),
    /// A witness did not sign.
    #[error("witness {0} has not signed the checkpoint in the evidence")]
    Unwitnessed(String),
    /// The authority is not the one that was expected.
    #[error("the authority is {found}, and not the one that was asked for")]
    OtherAuthority {
        /// Its fingerprint.
        found: String,
    },
    /// The vault is not the one that was expected.
    #[error("the vault is {found}, and not the one that was asked for")]
    OtherVault {
        /// Its fingerprint.
        found: String,
    },
}

/// What evidence proves, of the file that has its digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Fingerprint of the authority that certified the depositor.
    pub authority: String,
    /// Fingerprint of the vault that signed the checkpoint.
    pub vault: String,
}

/// Whether the file is the one that the evidence is about: `found` was read as [`FileFacts::extents`] of it say.
///
/// # Errors
/// A [`Flaw`] of the file.
pub fn compare(evidence: &Evidence, found: &FileFacts) -> Result<(), Flaw> {
    let said = &evidence.facts;
    let (found_len, said_len) = (found.len, said.len);
    if found_len > said_len {
        return Err(Flaw::Longer { found: found_len, said: said_len });
    }
    if found_len < said_len {
        return Err(Flaw::Shorter { found: found_len, said: said_len });
    }
    let Digests { blake3, sha256 } = said.digests;
    match (found.digests.blake3 == blake3, found.digests.sha256 == sha256) {
        (true, true) if found.extents == said.extents => Ok(()),
        (true, true) => Err(Flaw::Altered("content where there should be holes")),
        (false, true) => Err(Flaw::Altered("BLAKE3 digest")),
        (true, false) => Err(Flaw::Altered("SHA-256 digest")),
        (false, false) => Err(Flaw::Altered("content")),
    }
}

/// Whether the evidence holds together, from the file's digests to the signature of the vault.
///
/// # Errors
/// A [`Flaw`] of the evidence.
pub fn judge(evidence: &Evidence) -> Result<Proven, Flaw> {
    //= FORMAT#F41 file, commitment, depositor, authority, log, vault: each link of the chain
    let Evidence { manifest, card, checkpoint, authority, .. } = evidence;
    let files = manifest.manifest.files.ok_or(Flaw::NoCommitment)?;
    manifest.verify(&card.card.public).map_err(Flaw::Manifest)?;
    if evidence.committed.sealed(&evidence.blind) != files {
        return Err(Flaw::NotCommitted);
    }
    if card.card.id() != manifest.manifest.depositor {
        return Err(Flaw::OtherDepositor);
    }
    card.verify(authority).map_err(Flaw::Card)?;
    let id = Verified::hash(&manifest.encode()).id();
    let leaf = leaf_hash(Leaf::new(ObjectKind::Manifest, id).as_ref());
    let (logged, said) = (&evidence.logged, checkpoint.checkpoint);
    if !verify_inclusion(&leaf, logged.place, said.size, &logged.path, &said.root) {
        return Err(Flaw::NotLogged);
    }
    checkpoint.verify(&evidence.vault_key).map_err(Flaw::Checkpoint)?;
    Ok(Proven {
        authority: hex(&authority_fingerprint(authority)),
        vault: hex(&vault_fingerprint(said.vault, &evidence.vault_key)),
    })
}
