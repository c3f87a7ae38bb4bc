use super::*;
use crate::memory::{MemoryState, World, receipt_for};
use crate::spool::SpoolKind;
use lavatube_base::VaultId;
use lavatube_base::merkle::Tree;
use lavatube_base::sign::EdSigner;
use lavatube_format::log::Answer;

const VAULT: VaultId = VaultId([0; 16]);

/// A vault that is nothing but its log.
struct LogFar {
    log: Tree<Leaf>,
    key: EdSigner,
    /// Answers as for this nonce.
    nonce: Option<Nonce>,
    away: bool,
}

impl LogFar {
    fn new(ids: &[u8]) -> Self {
        let mut far =
            Self { log: Tree::default(), key: EdSigner::from_seed(&[4; 32]).unwrap(), nonce: None, away: false };
        ids.iter().for_each(|n| far.push(id(*n)));
        far
    }

    fn push(&mut self, id: ObjectId) {
        self.log.push(Leaf::new(ObjectKind::Manifest, id));
    }
}

impl Far for LogFar {
    fn signer(&self) -> Signer {
        Signer { vault: VAULT, key: EdSigner::from_seed(&[4; 32]).unwrap().public() }
    }
    fn deliver_pack(&self, _: lavatube_base::Verified<'_>) -> Result<crate::far::ReceiptBytes, FarError> {
        unreachable!("a log takes no packs")
    }
    fn deliver_tags(&self, _: lavatube_base::Verified<'_>) -> Result<crate::far::ReceiptBytes, FarError> {
        unreachable!("a log takes no tags")
    }
    fn deliver_manifest(&self, _: lavatube_base::Verified<'_>) -> Result<crate::far::ReceiptBytes, FarError> {
        unreachable!("a log takes no manifests")
    }
    fn fetch(&self, id: ObjectId, _: std::ops::Range<u64>, _: &mut Vec<u8>) -> Result<(), FarError> {
        Err(FarError::Absent(id))
    }
    fn manifests(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        Ok(Vec::new())
    }
    fn has(&self, _: ObjectId) -> Result<bool, FarError> {
        Ok(false)
    }
    fn log(&self, question: &Question) -> Result<LogWord, FarError> {
        if self.away {
            return Err(FarError::Away("no contact".into()));
        }
        let nonce = Some(self.nonce.unwrap_or(question.nonce));
        let checkpoint = Checkpoint { vault: VAULT, size: self.log.size(), root: self.log.root(), nonce };
        let place = |id: &ObjectId| {
            let place = self.log.leaves().iter().position(|leaf| leaf.id() == *id)? as u64;
            Some((place, self.log.inclusion(place)?))
        };
        Ok(LogWord::Signed(Answer {
            note: checkpoint.sign(&self.key).note().as_bytes().to_vec(),
            consistency: self.log.consistency(question.known),
            objects: question.objects.iter().map(|id| Placed { id: *id, place: place(id) }).collect(),
        }))
    }
}

fn id(n: u8) -> ObjectId {
    ObjectId([n; 32])
}

fn at(s: i64) -> WallTime {
    WallTime { s, ns: 0 }
}

fn meet(far: &LogFar, state: &MemoryState, nonce: u8) -> Verdict {
    contact(far, state, [nonce; 16], at(1000 + i64::from(nonce))).unwrap()
}

#[track_caller]
fn sound(far: &LogFar, state: &MemoryState, nonce: u8) -> Contact {
    match meet(far, state, nonce) {
        Verdict::Sound(contact) => contact,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_that_grows_is_followed_and_when_it_was_seen_is_kept() {
    let (mut far, state) = (LogFar::new(&[1, 2, 3]), MemoryState::default());
    assert_eq!(sound(&far, &state, 1).known, None, "at first sight it is trusted");
    far.push(id(4));
    let contact = sound(&far, &state, 2);
    assert_eq!((contact.known, contact.checkpoint.size, contact.is_signed()), (Some(3), 4, true));
    sound(&far, &state, 3);
    let seen = seen(&state, &far.signer()).unwrap().unwrap();
    assert_eq!((seen.first, seen.last, seen.note.checkpoint.size), (1002, 1003, 4));
    far.away = true;
    assert_eq!(meet(&far, &state, 4), Verdict::Unknown("no contact".into()));
}

#[test]
fn what_does_not_go_on_is_an_alarm_and_both_checkpoints_are_kept() {
    for (ids, alarm) in [
        (&[1, 2][..], Alarm::Shrunk { before: 3, now: 2 }),
        (&[1, 2, 9], Alarm::Forked { before: 3, now: 3 }),
        (&[1, 9, 3, 4, 5], Alarm::Forked { before: 3, now: 5 }),
        (&[], Alarm::Shrunk { before: 3, now: 0 }),
    ] {
        let state = MemoryState::default();
        let before = LogFar::new(&[1, 2, 3]);
        sound(&before, &state, 1);
        let far = LogFar::new(ids);
        assert_eq!(look(&far, &state, [2; 16]).unwrap(), Verdict::Alarm(alarm.clone()));
        assert_eq!(standing(&state).unwrap(), None, "whoever looks keeps nothing");
        assert_eq!(meet(&far, &state, 2), Verdict::Alarm(alarm.clone()));
        let raised = standing(&state).unwrap().unwrap();
        assert_eq!((raised.found, &*raised.kind, raised.why), (1002, alarm.kind(), alarm.to_string()));
        let text = String::from_utf8(state.0.lock().unwrap()["log/alarm"].clone()).unwrap();
        for far in [&before, &far] {
            let size = format!("\n    {}\n", far.log.size());
            assert!(text.contains(&size), "{text}");
        }
        // It is held to what it was as long as nobody has looked, and then to what it was found to be.
        assert_eq!(sound(&before, &state, 3).known, Some(3));
        let kept = accept(&state, &far.signer(), at(2000)).unwrap().unwrap();
        assert!(state.0.lock().unwrap().contains_key(&kept) && standing(&state).unwrap().is_none());
        assert_eq!(sound(&far, &state, 4).known, Some(far.log.size()));
        // What goes on from there may be believed again; what does not may not.
        let goes_on = [1, 2, 3].starts_with(ids);
        assert_eq!(matches!(meet(&before, &state, 5), Verdict::Alarm(_)), !goes_on, "{ids:?}");
        assert_eq!(accept(&state, &far.signer(), at(2001)).unwrap().is_some(), !goes_on);
        assert_eq!(accept(&state, &far.signer(), at(2002)).unwrap(), None, "once");
    }
}

#[test]
fn an_old_checkpoint_and_one_that_another_signed_are_alarms_and_nothing_is_taken_from_them() {
    let (mut far, state) = (LogFar::new(&[1, 2, 3]), MemoryState::default());
    sound(&far, &state, 1);
    far.nonce = Some([1; 16]);
    assert_eq!(meet(&far, &state, 2), Verdict::Alarm(Alarm::Stale));
    accept(&state, &far.signer(), at(2000)).unwrap().unwrap();
    far.nonce = None;
    assert_eq!(sound(&far, &state, 3).known, Some(3));
    far.key = EdSigner::from_seed(&[5; 32]).unwrap();
    let Verdict::Alarm(Alarm::Unfit(why)) = meet(&far, &state, 4) else { panic!("another key") };
    assert!(why.contains("signature"), "{why}");
    accept(&state, &far.signer(), at(2001)).unwrap().unwrap();
    far.key = EdSigner::from_seed(&[4; 32]).unwrap();
    assert_eq!(sound(&far, &state, 5).known, Some(3));
}

fn note_receipt(state: &MemoryState, id: ObjectId) {
    let (signer, receipt) = receipt_for(SpoolKind::Manifest, id);
    ledger::note(state, &signer, SpoolKind::Manifest, id, &receipt).unwrap();
}

#[test]
fn a_manifest_with_a_receipt_must_be_in_the_log() {
    let mut world = World::new();
    let mut made = || {
        let mut w = world.session();
        w.chunk(b"x");
        w.finish();
        world.last.unwrap().1
    };
    let (one, two, three) = (made(), made(), made());
    let chain = crate::chain::Chain::survey(&world.state, &world.deposit, &world.far).unwrap();
    assert_eq!(chain.next().sequence, 4);
    for id in [one, two] {
        note_receipt(&world.state, id);
    }
    let (mut far, state) = (LogFar::new(&[7]), &world.state);
    assert_eq!(meet(&far, state, 1), Verdict::Alarm(Alarm::Missing(vec![two, one])));
    accept(state, &far.signer(), at(2000)).unwrap().unwrap();
    assert_eq!(sound(&far, state, 2).proved, 0, "it is told once");
    note_receipt(state, three);
    assert_eq!(meet(&far, state, 3), Verdict::Alarm(Alarm::Missing(vec![three])));
    far.push(three);
    assert_eq!(sound(&far, state, 4).proved, 1);
}

#[test]
fn a_file_of_alarm_stops_deposits_whatever_is_in_it() {
    let state = MemoryState::default();
    for bytes in [&b""[..], b"\xff\xfe", b"found x\nwhy\nthen\nnonsense\n", &[b'a'; 1 << 20]] {
        crate::state::write_all(&state, "log/alarm", bytes).unwrap();
        assert!(standing(&state).unwrap().is_some());
    }
    let far = LogFar::new(&[1]);
    accept(&state, &far.signer(), at(1)).unwrap().unwrap();
    assert_eq!(sound(&far, &state, 1).known, None);
    crate::state::write_all(&state, "log/seen", b"first 1\nlast 2\nrubbish").unwrap();
    assert_eq!(seen(&state, &far.signer()).unwrap(), None);
}
