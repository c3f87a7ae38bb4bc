//! Drive cards: what a drive says of itself, its vault and its sisters.
//!
//! `docs/FORMAT.md` section 6. Any one card gives the whole vault's layout and the keys it trusts, so that a vault is
//! opened from whatever drives are left. It must not know whether the drives are there. Steps 14 and 15 of the walk.

use lavatube_base::limits::{CARD_LEN_MAX, DRIVES_MAX};
use lavatube_base::sign::{ED25519_PUBLIC_LEN, PairPublic};
use lavatube_base::{DriveId, VaultId};
use minicbor::{Decoder, Encoder};

use crate::Malformed;
use crate::cbor::{check_same, malformed};
use crate::receipt::array;
use crate::shard::{blake3, merge_copies};
use crate::wire::Reader;

/// One drive slot of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotCard {
    /// The drive.
    pub drive: DriveId,
    /// What people call it.
    pub label: String,
    /// The failure domain it stands in: a server, a rack, a room.
    pub shelf: String,
    /// Who made it.
    pub maker: String,
    /// Its model.
    pub model: String,
    /// It was emptied and gets nothing any more; it may be away for good.
    pub retired: bool,
}

/// The contents of `drive.card`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveCard {
    /// The vault.
    pub vault: VaultId,
    /// The drive that carries this card.
    pub drive: DriveId,
    /// Data shards of a stripe.
    pub k: u8,
    /// Parity shards of a stripe.
    pub m: u8,
    /// The vault's Ed25519 public key: it signs receipts.
    pub vault_key: [u8; ED25519_PUBLIC_LEN],
    /// The authority that certifies depositors.
    pub authority: PairPublic,
    /// All drives of the vault, by slot.
    pub slots: Vec<SlotCard>,
    /// Counts up each time names or drives are changed; the highest is believed.
    pub edition: u64,
    /// Number of the last mandate that the vault took; 0 for none. None with this or a lower number is taken any more.
    pub mandates: u64,
}

impl DriveCard {
    /// The bytes of the file: the card twice, so that one survives local damage.
    pub fn encode(&self) -> Vec<u8> {
        let body = self.body();
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&u32::try_from(body.len()).expect("cards are below CARD_LEN_MAX").to_le_bytes());
        out.extend_from_slice(&body);
        let check = blake3(&out);
        out.extend_from_slice(&check);
        out.repeat(2)
    }

    /// Reads the file. A damaged copy in it is made good by the other.
    ///
    /// # Errors
    /// [`Malformed`], as found in the first copy, when neither can be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (first, last) = bytes.split_at(bytes.len() / 2);
        Self::decode_one(first).or_else(|e| {
            Self::decode_one(last)
                .ok()
                .or_else(|| merge_copies(first, last, |trial| Self::decode_one(trial).ok()))
                .or_else(|| Self::decode_prefix(bytes))
                .ok_or(e)
        })
    }

    /// Whether the card is short enough to be read again: names may be long, and drives many.
    pub fn fits(&self) -> bool {
        self.body().len() <= CARD_LEN_MAX
    }

    /// Whether `bytes` hold the card twice and whole, as [`DriveCard::encode`] makes it.
    pub fn is_whole(&self, bytes: &[u8]) -> bool {
        self.encode() == bytes
    }

    /// The first copy of a file whose end is not where it was.
    fn decode_prefix(bytes: &[u8]) -> Option<Self> {
        let len = bytes.get(MAGIC.len()..HEAD)?.try_into().map(u32::from_le_bytes).ok()?;
        let whole = usize::try_from(len).ok()?.checked_add(HEAD + CHECK)?;
        Self::decode_one(bytes.get(..whole)?).ok()
    }

    fn decode_one(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        r.ensure(bytes.len() >= HEAD + CHECK && bytes.starts_with(MAGIC), "does not begin with LVTDRIV 1")?;
        let (covered, check) = bytes.split_at(bytes.len() - CHECK);
        r.ensure(blake3(covered) == *check, "the card's check does not match")?;
        r.take(MAGIC.len())?;
        let len = usize::try_from(r.u32()?).unwrap_or(usize::MAX);
        r.ensure(len <= CARD_LEN_MAX, "body longer than the limit")?;
        let body = r.take(len)?;
        r.take(CHECK)?;
        r.finish()?;
        let card = read(body).map_err(malformed(WHAT))?;
        check_same(WHAT, body, &card.body())?;
        Ok(card)
    }

    fn body(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        self.write(&mut e).expect("writing to memory does not fail");
        e.into_writer()
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        e.map(8 + u64::from(self.edition > 0) + u64::from(self.mandates > 0))?
            .u8(1)?
            .bytes(&self.vault.0)?
            .u8(2)?
            .bytes(&self.drive.0)?
            .u8(3)?
            .u8(self.k)?
            .u8(4)?
            .u8(self.m)?;
        e.u8(5)?.bytes(&self.vault_key)?;
        e.u8(6)?.bytes(&self.authority.ed25519)?.u8(7)?.bytes(&self.authority.ml_dsa_65)?;
        e.u8(8)?.array(self.slots.len() as u64)?;
        for slot in &self.slots {
            e.map(5 + u64::from(slot.retired))?.u8(1)?.bytes(&slot.drive.0)?.u8(2)?.str(&slot.label)?;
            e.u8(3)?.str(&slot.shelf)?.u8(4)?.str(&slot.maker)?.u8(5)?.str(&slot.model)?;
            if slot.retired {
                e.u8(6)?.u8(RETIRED)?;
            }
        }
        if self.edition > 0 {
            e.u8(9)?.u64(self.edition)?;
        }
        if self.mandates > 0 {
            e.u8(10)?.u64(self.mandates)?;
        }
        Ok(())
    }
}

/// Reads a body leniently; that keys, order and lengths are right is checked by encoding it again.
fn read(body: &[u8]) -> Result<DriveCard, minicbor::decode::Error> {
    let refuse = |rule| Err(minicbor::decode::Error::message(rule));
    let mut d = Decoder::new(body);
    let keys = d.map()?.unwrap_or(0);
    d.u8()?;
    let vault = VaultId(array(d.bytes()?)?);
    d.u8()?;
    let drive = DriveId(array(d.bytes()?)?);
    d.u8()?;
    let k = d.u8()?;
    d.u8()?;
    let m = d.u8()?;
    d.u8()?;
    let vault_key = array(d.bytes()?)?;
    d.u8()?;
    let ed25519 = array(d.bytes()?)?;
    d.u8()?;
    let ml_dsa_65 = d.bytes()?.to_vec();
    d.u8()?;
    let mut slots = Vec::new();
    for _ in 0..d.array()?.unwrap_or(0) {
        if slots.len() == DRIVES_MAX {
            return refuse("more drives than a vault can have");
        }
        slots.push(read_slot(&mut d)?);
    }
    let (mut edition, mut mandates) = (0, 0);
    for _ in 8..keys.min(10) {
        // In another order, or twice, it is not what is written again.
        match d.u8()? {
            9 => edition = d.u64()?,
            _ => mandates = d.u64()?,
        }
    }
    if k == 0 || usize::from(k) + usize::from(m) > slots.len() {
        return refuse("k + m drives are needed");
    }
    if mandates > 0 && edition == 0 {
        return refuse("taking a mandate changes the card");
    }
    if !slots.iter().any(|s| s.drive == drive) {
        return refuse("the drive is not among the vault's");
    }
    let authority = PairPublic { ed25519, ml_dsa_65 };
    Ok(DriveCard { vault, drive, k, m, vault_key, authority, slots, edition, mandates })
}

fn read_slot(d: &mut Decoder<'_>) -> Result<SlotCard, minicbor::decode::Error> {
    let keys = d.map()?.unwrap_or(0);
    d.u8()?;
    let drive = DriveId(array(d.bytes()?)?);
    let mut text = || -> Result<String, minicbor::decode::Error> {
        d.u8()?;
        Ok(d.str()?.to_owned())
    };
    let [label, shelf, maker, model] = [text()?, text()?, text()?, text()?];
    // What else it may say is found by encoding it again.
    let retired = keys > 5 && d.u8().and_then(|_| d.u8())? == RETIRED;
    Ok(SlotCard { drive, label, shelf, maker, model, retired })
}

const RETIRED: u8 = 1;
const WHAT: &str = "drive card";
const MAGIC: &[u8; 8] = b"LVTDRIV\x01";
const HEAD: usize = 8 + 4;
const CHECK: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> DriveCard {
        let slot = |n: u8| SlotCard {
            drive: DriveId([n; 16]),
            label: format!("drive-{n}"),
            shelf: "shelf".into(),
            maker: "Lunar Disks".into(),
            model: "LD-1 ✓".into(),
            retired: false,
        };
        DriveCard {
            vault: VaultId([9; 16]),
            drive: DriveId([2; 16]),
            k: 2,
            m: 1,
            vault_key: [7; 32],
            authority: PairPublic { ed25519: [8; 32], ml_dsa_65: vec![6; 1952] },
            slots: (1..=3).map(slot).collect(),
            edition: 0,
            mandates: 0,
        }
    }

    #[test]
    fn the_golden_card_that_was_changed_stays_as_it_is() {
        let golden = include_bytes!("../../../vectors/drive_card_changed-v1.bin");
        let mut card = sample();
        card.edition = 3;
        card.slots[0].retired = true;
        card.slots.push(SlotCard { drive: DriveId([4; 16]), label: "added".into(), ..card.slots[1].clone() });
        assert_eq!(card.encode(), golden);
        assert_eq!(DriveCard::decode(golden), Ok(card));
    }

    #[test]
    fn an_edition_or_a_state_that_is_none_is_refused() {
        let mut card = sample();
        (card.edition, card.slots[2].retired) = (1, true);
        let good = card.encode();
        let find = |what: &[u8]| good.windows(what.len()).rposition(|w| w == what).unwrap();
        // Key 6 of the last slot, then key 9: with what they say.
        let at = find(&[6, 1, 9, 1]);
        for (offset, value) in [(1, 0), (1, 2), (3, 0), (2, 10), (0, 7)] {
            let half = good.len() / 2;
            let mut bad = good[half..].to_vec();
            bad[at - half + offset] = value;
            let covered = bad.len() - CHECK;
            let check = blake3(&bad[..covered]);
            bad[covered..].copy_from_slice(&check);
            assert!(DriveCard::decode(&bad.repeat(2)).is_err(), "{offset}: {value}");
        }
    }

    #[test]
    fn the_golden_card_stays_as_it_is() {
        let golden = include_bytes!("../../../vectors/drive_card-v1.bin");
        assert_eq!(sample().encode(), golden);
        assert_eq!(DriveCard::decode(golden), Ok(sample()));
    }

    #[test]
    fn a_card_with_any_wrong_byte_is_read_from_its_other_copy() {
        let good = sample().encode();
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(DriveCard::decode(&bad), Ok(sample()), "byte {at}");
            assert!(!sample().is_whole(&bad));
        }
        assert_eq!(DriveCard::decode(&good[..good.len() - 9]), Ok(sample()));
    }

    #[test]
    fn a_card_of_too_few_drives_is_refused() {
        let mut card = sample();
        card.slots.pop();
        assert!(DriveCard::decode(&card.encode()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = DriveCard::decode(&bytes);
            let _ = read(&bytes);
        }

        #[test]
        fn cards_survive(label in ".{0,20}", k in 1u8..=2, edition: u64, retired: bool, ml in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut card = sample();
            card.k = k;
            card.slots[1].label = label;
            (card.edition, card.slots[0].retired) = (edition, retired);
            card.authority.ml_dsa_65 = ml;
            prop_assert_eq!(DriveCard::decode(&card.encode()), Ok(card));
        }
    }
}
