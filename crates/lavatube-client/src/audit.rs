//! Audits: what the vault must prove, and whether it did. Step 18 of the walk.
//!
//! Earth knows the sessions by their manifests and has the keys of their tags: with these alone it tells whether an answer
//! of 16 KiB is right about every byte of every pack. Where it is wrong, halves are asked about, until what is missing has a
//! name. It must not know how the vault reads, nor how challenges reach it. Tested where both sides are known: beside
//! `lavatube_node::reader`, with vaults that lie, and in the simulator.

use std::collections::BTreeMap;

use lavatube_base::limits::AUDIT_DEPOSITORS_MAX;
use lavatube_base::{Denial, DepositorId, ObjectId, Refusal};
use lavatube_format::audit::{Answer, Challenge, Place};
use lavatube_format::manifest::Manifest;
use lavatube_format::pack::class_len;
use lavatube_format::tags::{blocks, clear_weights};
use lavatube_seal::AuditKeys;

use crate::far::FarError;
use crate::released::Released;
use crate::state::{State, StateError, read_all};
use crate::vaulted::{Copied, OBJECT_MAX, Sessions, Vaulted, copies};

/// Why an audit could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The vault did not answer.
    #[error(transparent)]
    Far(#[from] FarError),
    /// The state folder failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The vault answered something else.
    #[error("the vault's answer is about something else than was asked")]
    Astray,
}

/// Whoever proves.
pub trait Proves {
    /// The answer to a challenge.
    ///
    /// # Errors
    /// When there is none.
    fn prove(&mut self, challenge: &Challenge) -> Result<Answer, FarError>;
}

/// The sessions that an audit is about.
pub struct Known<'a> {
    /// By the ids of their manifests.
    sessions: BTreeMap<ObjectId, &'a Manifest>,
    copies: BTreeMap<ObjectId, Copied>,
    state: &'a dyn State,
    keys: AuditKeys,
    /// What was freed: neither side proves it.
    released: &'a Released,
}

/// Something that was to be proved and was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The manifest that names it.
    pub manifest: ObjectId,
    /// The pack; the manifest itself when there is none.
    pub pack: Option<ObjectId>,
    /// What is wrong.
    pub why: Fault,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The vault says that it has none.
    Absent,
    /// The vault says that it cannot read it wholly any more.
    Lost,
    /// The vault says so, and that drives are away which may have it.
    Away,
    /// The vault has lost its tags: whether it is there, no audit can tell.
    Tags,
    /// The vault says nothing of the kind, and its proof is wrong.
    Wrong,
    /// So much is wrong that it was not asked for by name.
    Unasked,
}

impl Fault {
    fn of(denial: Denial) -> Self {
        match denial {
            Denial::Absent => Self::Absent,
            Denial::Away => Self::Away,
            Denial::Lost | Denial::Refused(Refusal::Full | Refusal::Depositor | Refusal::Caller) => Self::Lost,
            Denial::Refused(Refusal::Object) => Self::Tags,
        }
    }
}

/// What came of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Manifests that are proved to be there,
    pub manifests: u64,
    /// packs,
    pub packs: u64,
    /// and their bytes together.
    pub bytes: u64,
    /// Packs without tags, which no proof covers,
    pub untagged: u64,
    /// and their bytes.
    pub untagged_bytes: u64,
    /// Sessions that were finished after the challenge was made.
    pub later: u64,
    /// What is not proved.
    pub bad: Vec<Bad>,
    /// Answers of the vault,
    pub answers: u64,
    /// bytes of them,
    pub received: u64,
    /// and of the challenges.
    pub sent: u64,
}

impl<'a> Known<'a> {
    /// Those of `sessions` that `is_there`, in a vault, and whose depositors' tags are made with `keys`.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn new(
        sessions: &'a Sessions<'_>,
        state: &'a dyn State,
        keys: AuditKeys,
        is_there: impl Fn(&Vaulted) -> bool,
    ) -> Result<Self, StateError> {
        let mut own: BTreeMap<DepositorId, bool> = BTreeMap::new();
        for vaulted in sessions.all() {
            // A depositor is one tenant's for ever; that one of its notes opens tells that it is ours.
            let own = own.entry(vaulted.manifest.depositor).or_default();
            *own = *own || sessions.keys(vaulted).is_ok_and(|keys| keys.open_note(&vaulted.manifest.note).is_ok());
        }
        let ours = sessions.all().iter().filter(|v| own.get(&v.manifest.depositor) == Some(&true) && is_there(v));
        let released = sessions.released();
        let sessions = ours.map(|v| (v.id, &v.manifest)).collect();
        Ok(Self { sessions, copies: copies(state)?, state, keys, released })
    }

    /// A challenge about all of it.
    pub fn challenge(&self, nonce: [u8; 32]) -> Challenge {
        let mut last: BTreeMap<DepositorId, u64> = BTreeMap::new();
        for manifest in self.sessions.values() {
            let last = last.entry(manifest.depositor).or_default();
            *last = (*last).max(manifest.sequence);
        }
        let depositors = last.into_iter().take(AUDIT_DEPOSITORS_MAX).collect();
        Challenge { nonce, from: Place::START, upto: Place::END, depositors }
    }

    /// Whether a challenge that was made earlier is still as good as a new one: it is about the same depositors.
    pub fn is_current(&self, challenge: &Challenge) -> bool {
        let now = self.challenge(challenge.nonce);
        let ids = |of: &Challenge| of.depositors.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        (challenge.from, challenge.upto) == (Place::START, Place::END)
            && ids(&now) == ids(challenge)
            && now.depositors.iter().zip(&challenge.depositors).all(|((_, now), (_, then))| then <= now)
    }

    /// All that a challenge is about: each place, and the pack there.
    fn places<'s>(&'s self, challenge: &'s Challenge) -> impl Iterator<Item = (Place, &'a Manifest)> + 's {
        let (from, upto) = (challenge.from, challenge.upto);
        let sessions = self.sessions.range(from.manifest..=upto.manifest).map(|(id, m)| (*id, *m));
        let about = sessions.filter(|(_, m)| challenge.is_about(m.depositor, m.sequence));
        let all = about.flat_map(|(manifest, m)| {
            let packs = if m.tags.is_empty() { 0 } else { u32::try_from(m.leaves.len()).unwrap_or(u32::MAX) };
            (0..=packs).map(move |position| (Place { manifest, position }, m))
        });
        let is_freed =
            |place: Place, m| leaf_at(m, place).is_some_and(|leaf| self.released.objects.contains(&leaf.id()));
        all.filter(move |(place, m)| (from..upto).contains(place) && !is_freed(*place, m))
    }

    /// Whether an answer is right; what it proves then. What it says is bad is not asked for.
    fn check(&self, challenge: &Challenge, answer: &Answer) -> Result<Option<Report>, StateError> {
        let (mut proved, mut expected) = (Report::default(), self.keys.expect());
        let of = Challenge { upto: answer.upto, ..challenge.clone() };
        for (place, manifest) in self.places(&of) {
            if is_bad(answer, place) {
                continue;
            }
            let len = match leaf_at(manifest, place) {
                Some(leaf) => {
                    let len = class_len(leaf.class) as u64;
                    let mut weights = challenge.weights(place, blocks(len));
                    let stays = self.released.stays.get(&leaf.id());
                    stays.iter().for_each(|stays| clear_weights(stays, &mut weights));
                    expected.add_tagged(leaf.id(), len, &weights);
                    proved.packs += 1;
                    stays.map_or(len, |stays| stays.len() as u64)
                }
                None => {
                    // Its bytes are here: they need no tags.
                    let Some(copy) = self.copies.get(&place.manifest) else { return Ok(None) };
                    let Some(bytes) = read_all(self.state, &copy.name, OBJECT_MAX)? else { return Ok(None) };
                    let weights = challenge.weights(place, blocks(bytes.len() as u64));
                    expected.add_known(&bytes, &weights);
                    proved.manifests += 1;
                    bytes.len() as u64
                }
            };
            proved.bytes += len;
        }
        //= FORMAT#F34 the tags of what is there fit what is there, and nothing else does
        let fits = expected.fits(&answer.sum, answer.tags);
        let says = (answer.manifests, answer.packs, answer.bytes);
        Ok((fits && says == (proved.manifests, proved.packs, proved.bytes)).then_some(proved))
    }

    /// Audits: asks `vault` about `whole`, and where its answer is wrong, about ever smaller parts under nonces of their own.
    ///
    /// # Errors
    /// [`AuditError`] when it does not answer. A wrong answer is no error.
    pub fn audit(
        &self,
        whole: Challenge,
        vault: &mut dyn Proves,
        nonce: &mut dyn FnMut() -> [u8; 32],
    ) -> Result<Report, AuditError> {
        let mut report = self.uncovered(&whole);
        let mut open = vec![whole];
        while let Some(challenge) = open.pop() {
            if report.answers >= ANSWERS_MAX {
                report.bad.extend(self.places(&challenge).map(|(place, m)| bad(place, m, Fault::Unasked)));
                continue;
            }
            let answer = vault.prove(&challenge)?;
            report.answers += 1;
            report.sent += challenge.encode().len() as u64;
            report.received += answer.encode().len() as u64;
            if answer.upto < challenge.from || answer.upto > challenge.upto {
                return Err(AuditError::Astray);
            }
            let part = |from, upto, nonce| Challenge { from, upto, nonce, ..challenge.clone() };
            if answer.upto < challenge.upto {
                // What comes first on the heap is asked about last.
                let mut from = answer.upto;
                if from == challenge.from {
                    // It cannot go on: what it should have gone by next, and the packs that go with it, are passed over.
                    let next = self.places(&challenge).next().map_or(from.manifest, |(place, _)| place.manifest);
                    let rest = part(from, Place::behind(next).min(challenge.upto), [0; 32]);
                    report.bad.extend(self.places(&rest).map(|(place, m)| bad(place, m, Fault::Lost)));
                    from = rest.upto;
                }
                if from < challenge.upto {
                    open.push(part(from, challenge.upto, nonce()));
                }
            }
            match self.check(&challenge, &answer)? {
                Some(proved) => {
                    report.manifests += proved.manifests;
                    report.packs += proved.packs;
                    report.bytes += proved.bytes;
                    self.name_bad(&challenge, &answer, &mut report);
                }
                None => {
                    let asked = part(challenge.from, answer.upto, [0; 32]);
                    let places: Vec<_> = self.places(&asked).map(|(place, _)| place).collect();
                    match places[..] {
                        [] => {}
                        [_] => report.bad.extend(self.places(&asked).map(|(place, m)| bad(place, m, Fault::Wrong))),
                        _ => {
                            let middle = places[places.len() / 2];
                            open.push(part(middle, answer.upto, nonce()));
                            open.push(part(challenge.from, middle, nonce()));
                        }
                    }
                }
            }
        }
        report.bad.sort_by_key(|bad| (bad.manifest, bad.pack));
        Ok(report)
    }

    /// What no answer to this challenge is about.
    fn uncovered(&self, whole: &Challenge) -> Report {
        let mut report = Report::default();
        for manifest in self.sessions.values() {
            if !whole.is_about(manifest.depositor, manifest.sequence) {
                report.later += 1;
            } else if manifest.tags.is_empty() {
                let there = manifest.leaves.iter().filter(|leaf| !self.released.objects.contains(&leaf.id()));
                for leaf in there {
                    report.untagged += 1;
                    report.untagged_bytes += class_len(leaf.class) as u64;
                }
            }
        }
        report
    }

    /// What the vault said is bad, by name. Of a manifest that this machine does not know it is no part of the audit.
    fn name_bad(&self, challenge: &Challenge, answer: &Answer, report: &mut Report) {
        for (place, denial) in &answer.bad {
            let Some(manifest) = self.sessions.get(&place.manifest) else { continue };
            if !challenge.is_about(manifest.depositor, manifest.sequence) {
                continue;
            }
            if place.position == 0 {
                report.bad.push(bad(*place, manifest, Fault::of(*denial)));
                // Which packs it names the vault cannot know without it.
                let upto = Place::behind(place.manifest).min(answer.upto);
                let packs = Challenge { from: place.next(), upto, ..challenge.clone() };
                report.bad.extend(self.places(&packs).map(|(place, m)| bad(place, m, Fault::of(*denial))));
            } else if leaf_at(manifest, *place).is_some() {
                report.bad.push(bad(*place, manifest, Fault::of(*denial)));
            }
        }
    }
}

fn leaf_at(manifest: &Manifest, place: Place) -> Option<&lavatube_format::manifest::Leaf> {
    manifest.leaves.get(usize::try_from(place.position.checked_sub(1)?).ok()?)
}

/// Whether the vault says that what is at a place, or the manifest that names it, cannot be read.
fn is_bad(answer: &Answer, place: Place) -> bool {
    let says = |place: Place| answer.bad.binary_search_by_key(&place, |(place, _)| *place).is_ok();
    says(place) || says(Place { position: 0, ..place })
}

fn bad(place: Place, manifest: &Manifest, why: Fault) -> Bad {
    Bad { manifest: place.manifest, pack: leaf_at(manifest, place).map(|leaf| leaf.id()), why }
}

/// Answers after which no more is asked: enough to find a dozen packs among millions.
const ANSWERS_MAX: u64 = 256;
