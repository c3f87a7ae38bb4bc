//! Golden bytes of what crosses for a release that is signed far from the vault; `golden.rs` says how they are kept.

#![expect(clippy::disallowed_methods, reason = "golden bytes are files, and UPDATE asks for new ones")]

use std::path::PathBuf;

use lavatube_base::{DepositorId, ObjectId, VaultId};
use lavatube_format::log::Leaf;
use lavatube_format::message::Message;
use lavatube_format::release_word::{
    About, KeptWord, OpenWord, ReleaseQuestion, ReleaseWord, SignedWord, StandingWord,
};
use lavatube_format::shard::ObjectKind;

fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, bytes).expect("a file in vectors/");
    }
    let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(kept == bytes, "{name}: the layout changed");
}

#[test]
fn what_crosses_for_a_release_signed_far_away_is_as_ever() {
    let id = |n: u8| ObjectId([n; 32]);
    let bare = ReleaseQuestion { nonce: [9; 16], from: 300, lifts: vec![id(1), id(2)], release: None };
    let with =
        ReleaseQuestion { nonce: [9; 16], from: u64::MAX, lifts: Vec::new(), release: Some(b"not one".to_vec()) };
    let open = |n: u8, standing| OpenWord { id: id(n), number: n.into(), objects: 300, thins: 7, standing };
    let word = ReleaseWord {
        vault: VaultId([1; 16]),
        nonce: [9; 16],
        about: Some(About { id: id(7), number: 300, outcome: Ok(b"not one".to_vec()) }),
        size: 302,
        root: [4; 32],
        kept: KeptWord::Kept { place: 299, left_s: Some(86_400) },
        open: vec![
            open(1, StandingWord::Waits(vec![DepositorId([5; 32]), DepositorId([6; 32])])),
            open(2, StandingWord::Void),
            open(3, StandingWord::Followed),
            open(4, StandingWord::Unknown),
        ],
        from: 300,
        leaves: vec![Leaf::new(ObjectKind::Manifest, id(8)), Leaf::new(ObjectKind::Release, id(7))],
    };
    let refused = ReleaseWord {
        about: Some(About { id: id(7), number: 0, outcome: Err("the log is another".into()) }),
        kept: KeptWord::Kept { place: 3, left_s: None },
        open: Vec::new(),
        leaves: Vec::new(),
        ..word.clone()
    };
    let bare_word = ReleaseWord { about: None, kept: KeptWord::Nothing, ..refused.clone() };
    let unread = ReleaseWord { kept: KeptWord::Unread, ..bare_word.clone() };
    let told = |word| Message::ReleaseTold { request: 7, word: Box::new(SignedWord { word, signature: [8; 64] }) };
    for (name, message) in [
        ("release_asked", Message::ReleaseAsked { request: 7, question: bare }),
        ("release_asked_with", Message::ReleaseAsked { request: 7, question: with }),
        ("release_told", told(word)),
        ("release_told_refused", told(refused)),
        ("release_told_bare", told(bare_word)),
        ("release_told_unread", told(unread)),
    ] {
        golden(&format!("message_{name}-v1.bin"), &message.encode(9));
        assert_eq!((Message::decode(&message.encode(9)), Message::turn(&message.encode(9))), (Ok(message), 9));
    }
}
