//! The cards by which this machine introduces itself, and what the vault says to them.
//!
//! A vault holds a manifest whose depositor it does not know, because the card may be under way: it goes first, but packets
//! overtake each other. Where the vault does not take the card, it never knows the depositor, and its manifests cannot be
//! sent. It must not know the link.

use std::collections::BTreeMap;

use lavatube_base::{DepositorId, ObjectId, Verified};
use lavatube_format::depositor_card::SignedCard;
use lavatube_format::manifest::SignedManifest;

/// Prefix of depositor cards in the state: with a copy here, losses can be named file by file even when the vault lost the
/// card with them.
pub const CARDS: &str = "cards/";

/// The cards that were sent, and those of them that were refused.
#[derive(Debug, Default)]
pub struct Cards {
    /// By the names of their files.
    sent: BTreeMap<String, Option<Sent>>,
    /// Why, by depositor.
    refused: BTreeMap<DepositorId, String>,
}

#[derive(Debug)]
struct Sent {
    key: u64,
    id: ObjectId,
    depositor: DepositorId,
}

impl Cards {
    /// Whether the card in the file of this name was sent.
    pub fn has(&self, name: &str) -> bool {
        self.sent.contains_key(name)
    }

    /// The card in the file of this name is on its way, as the block of this key.
    pub fn sent(&mut self, name: &str, key: u64, card: &[u8]) {
        let id = Verified::hash(card).id();
        let sent = SignedCard::decode(card).ok().map(|signed| Sent { key, id, depositor: signed.card.id() });
        self.sent.insert(name.to_owned(), sent);
    }

    /// What was sent is to be sent once more: nobody knows whether it arrived.
    pub fn again(&mut self) {
        self.sent.clear();
    }

    /// The block of this name was refused: whose card it was, if it was one.
    pub fn refused_block(&mut self, key: u64) -> Option<DepositorId> {
        let depositor = self.sent.values().flatten().find(|sent| sent.key == key)?.depositor;
        self.refused.entry(depositor).or_insert_with(|| format!("the vault refuses the card of depositor {depositor}"));
        Some(depositor)
    }

    /// The vault does not take this object: whose card it is, if it is one.
    pub fn denied(&mut self, id: ObjectId, why: &str) -> Option<DepositorId> {
        let depositor = self.sent.values().flatten().find(|sent| sent.id == id)?.depositor;
        self.refused.insert(depositor, format!("the vault refuses the card of depositor {depositor}: {why}"));
        Some(depositor)
    }

    /// Why this manifest cannot be sent, if it is one of a depositor whose card was refused.
    pub fn refusal(&self, manifest: &[u8]) -> Option<&str> {
        if self.refused.is_empty() {
            return None;
        }
        let signed = SignedManifest::decode(manifest).ok()?;
        self.refused.get(&signed.manifest.depositor).map(String::as_str)
    }
}
