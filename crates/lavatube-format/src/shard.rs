//! Shard files: one shard of one object on one drive, with a header before and after it that explains it.
//!
//! `docs/FORMAT.md` section 6. The header names the object, the code, and the hash of every block, so that a drive found
//! alone in a hundred years can be read, and so that rot is located to 16 KiB. [`Geometry`] is the arithmetic of it.
//! It must not know where files lie or how parity is computed. Steps 14, 18 and 20 of the walk.

use lavatube_base::limits::{DRIVES_MAX, OBJECT_LEN_MAX, SHARD_BLOCK_LEN};
use lavatube_base::{DriveId, ObjectId, VaultId};

use crate::Malformed;
use crate::wire::Reader;

/// What an object of a vault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A pack of sealed pieces.
    Pack,
    /// A signed manifest of a session.
    Manifest,
    /// A depositor card signed by the authority.
    DepositorCard,
    /// Tags of a session's packs, for audits.
    Tags,
    /// A release of packs, signed by the authority.
    Release,
    /// What stays of a pack that a release thinned; the vault makes it.
    Remnant,
}

impl ObjectKind {
    /// The byte that stands for it in headers, journal and receipts.
    pub fn code(self) -> u8 {
        match self {
            Self::Pack => 1,
            Self::Manifest => 2,
            Self::DepositorCard => 3,
            Self::Tags => 4,
            Self::Release => 5,
            Self::Remnant => 6,
        }
    }

    /// Whether objects of this kind are leaves of the vault's log.
    pub fn is_logged(self) -> bool {
        matches!(self, Self::Manifest | Self::DepositorCard | Self::Release)
    }

    /// The kind of a byte, or `None`.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Pack,
            2 => Self::Manifest,
            3 => Self::DepositorCard,
            4 => Self::Tags,
            5 => Self::Release,
            6 => Self::Remnant,
            _ => return None,
        })
    }
}

/// The sizes that follow from an object's length and its code. All lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    object_len: usize,
    k: u8,
    m: u8,
}

impl Geometry {
    /// The geometry of an object of 1 to [`OBJECT_LEN_MAX`] bytes in `k` data and `m` parity shards, 1 ≤ k and
    /// k + m ≤ [`DRIVES_MAX`]; else `None`.
    pub fn new(object_len: u64, k: u8, m: u8) -> Option<Self> {
        let object_len = usize::try_from(object_len).ok().filter(|n| (1..=OBJECT_LEN_MAX).contains(n))?;
        let fits = k >= 1 && usize::from(k) + usize::from(m) <= DRIVES_MAX;
        fits.then_some(Self { object_len, k, m })
    }

    /// Length of the object.
    pub fn object_len(self) -> usize {
        self.object_len
    }

    /// Number of data shards, as stored.
    pub fn k_code(self) -> u8 {
        self.k
    }

    /// Number of parity shards, as stored.
    pub fn m_code(self) -> u8 {
        self.m
    }

    /// Number of data shards.
    pub fn k(self) -> usize {
        self.k.into()
    }

    /// Number of parity shards.
    pub fn m(self) -> usize {
        self.m.into()
    }

    /// Number of shards.
    pub fn shards(self) -> usize {
        self.k() + self.m()
    }

    /// Length L of each shard.
    pub fn shard_len(self) -> usize {
        self.object_len.div_ceil(self.k()).next_multiple_of(ALIGN)
    }

    /// Blocks of each shard.
    pub fn blocks(self) -> usize {
        self.shard_len().div_ceil(SHARD_BLOCK_LEN)
    }

    /// The bytes of block `block` within its shard.
    pub fn block_range(self, block: usize) -> std::ops::Range<usize> {
        let len = self.shard_len();
        (block * SHARD_BLOCK_LEN).min(len)..((block + 1) * SHARD_BLOCK_LEN).min(len)
    }

    /// Rotation R of shard `index`: shard byte p lies at body position (p + R) mod L.
    pub fn rotation(self, index: usize) -> usize {
        let step = self.shard_len() / self.shards();
        index * (step - step % ALIGN)
    }

    /// Length H of the header.
    pub fn header_len(self) -> usize {
        header_len_of(self.blocks())
    }

    /// Length of the shard file: header, body, header.
    pub fn file_len(self) -> usize {
        2 * self.header_len() + self.shard_len()
    }
}

/// The header of a shard file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardHeader {
    /// What the object is.
    pub kind: ObjectKind,
    /// The object's length and code.
    pub geometry: Geometry,
    /// Which shard this is: below k + m.
    pub index: u8,
    /// The object.
    pub object: ObjectId,
    /// Counts re-encodings of the stripe, from 1.
    pub generation: u32,
    /// The vault.
    pub vault: VaultId,
    /// The drive the shard was written to.
    pub drive: DriveId,
    /// The object's place in the vault's log, from 0; `None` of what is not in it, and of what older programs wrote.
    pub place: Option<u64>,
    /// H16 of each block of the shard before rotation.
    pub hashes: Vec<[u8; 16]>,
}

impl ShardHeader {
    /// The header's bytes.
    ///
    /// # Panics
    /// When `hashes` is not one per block: a mistake of our caller.
    pub fn encode(&self) -> Vec<u8> {
        let g = self.geometry;
        assert_eq!(self.hashes.len(), g.blocks(), "one hash per block");
        let mut out = Vec::with_capacity(g.header_len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&narrow(g.header_len()).to_le_bytes());
        out.extend_from_slice(&[self.kind.code(), g.k, g.m, self.index]);
        out.extend_from_slice(&self.object.0);
        for n in [g.object_len, g.shard_len(), g.rotation(self.index.into())] {
            out.extend_from_slice(&(n as u64).to_le_bytes());
        }
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&narrow(g.blocks()).to_le_bytes());
        out.extend_from_slice(&self.vault.0);
        out.extend_from_slice(&self.drive.0);
        out.extend_from_slice(&self.place.map_or(0, |place| place + 1).to_le_bytes());
        out.extend_from_slice(&[0; RESERVED]);
        self.hashes.iter().for_each(|h| out.extend_from_slice(h));
        let check = blake3(&out);
        out.extend_from_slice(&check);
        out
    }

    /// Reads a header from exactly its bytes.
    ///
    /// # Errors
    /// [`Malformed`] naming the first rule that is broken; a wrong check comes before all others.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("shard header", bytes);
        r.ensure(bytes.len() > FIXED && bytes.starts_with(MAGIC), "does not begin with LVTSHRD 1")?;
        let (covered, check) = bytes.split_at(bytes.len() - CHECK);
        r.ensure(blake3(covered) == *check, "the header's check does not match")?;
        r.take(MAGIC.len())?;
        r.ensure(usize::try_from(r.clone().u32()?) == Ok(bytes.len()), "header length is not that of the header")?;
        r.u32()?;
        let kind = r.u8()?;
        let kind = ObjectKind::from_code(kind).ok_or_else(|| r.fail("unknown object kind"))?;
        let (k, m, index) = (r.u8()?, r.u8()?, r.u8()?);
        let object = ObjectId(r.array()?);
        let geometry =
            Geometry::new(r.u64()?, k, m).ok_or_else(|| r.fail("object length or code beyond its limits"))?;
        r.ensure(usize::from(index) < geometry.shards(), "shard index is not below k + m")?;
        r.ensure(usize::try_from(r.clone().u64()?) == Ok(geometry.shard_len()), "shard length does not follow")?;
        r.u64()?;
        let rotation = usize::try_from(r.u64()?);
        r.ensure(rotation == Ok(geometry.rotation(index.into())), "rotation does not follow from the index")?;
        let generation = r.u32()?;
        r.ensure(generation >= 1, "generations count from 1")?;
        let blocks = usize::try_from(r.u32()?);
        r.ensure(blocks == Ok(geometry.blocks()), "number of blocks does not follow")?;
        r.ensure(bytes.len() == geometry.header_len(), "header length does not follow")?;
        let (vault, drive) = (VaultId(r.array()?), DriveId(r.array()?));
        let place = r.u64()?.checked_sub(1);
        r.ensure(place.is_none() || kind.is_logged(), "a place in the log of what is not in it")?;
        r.reserved(RESERVED)?;
        let hashes = (0..geometry.blocks()).map(|_| r.array()).collect::<Result<_, _>>()?;
        Ok(Self { kind, geometry, index, object, generation, vault, drive, place, hashes })
    }

    /// Reads a header from its two copies: the first that is whole, or else what the two together still say. `None` when
    /// they do not.
    pub fn decode_copies(first: &[u8], last: &[u8]) -> Option<Self> {
        Self::decode(first)
            .or_else(|_| Self::decode(last))
            .ok()
            .or_else(|| merge_copies(first, last, |bytes| Self::decode(bytes).ok()))
    }

    /// Length H that a file's first bytes claim, if they are those of a shard file.
    pub fn claimed_len(start: &[u8]) -> Option<usize> {
        let mut r = Reader::new("shard header", start);
        r.take(MAGIC.len()).ok().filter(|magic| magic == MAGIC)?;
        let len = usize::try_from(r.u32().ok()?).ok()?;
        (len > FIXED && len <= HEADER_LEN_MAX).then_some(len)
    }

    /// Length H of the header of a whole shard file of `file_len` bytes: the inverse of [`Geometry::file_len`], with
    /// which the copy at the end is found when the one at the start is damaged.
    pub fn len_in_file(file_len: u64) -> Option<usize> {
        let file_len = usize::try_from(file_len).ok()?;
        let body_and_hashes = file_len.checked_sub(2 * FIXED)?;
        let blocks = body_and_hashes.div_ceil(SHARD_BLOCK_LEN + 2 * HASH);
        let header = header_len_of(blocks);
        let body = file_len.checked_sub(2 * header)?;
        (blocks > 0 && body.div_ceil(SHARD_BLOCK_LEN) == blocks).then_some(header)
    }
}

/// The name of a shard file on its drive: `shards/<xx>/<object id>.<index>`.
pub fn shard_name(object: ObjectId, index: u8) -> String {
    format!("{SHARDS}{:02x}/{object}.{index:02x}", object.0[0])
}

/// The object and shard index of a name made by [`shard_name`]; `None` for any other name.
pub fn parse_shard_name(name: &str) -> Option<(ObjectId, u8)> {
    let (id, index) = name.strip_prefix(SHARDS)?.split_once('/')?.1.split_once('.')?;
    let parsed = (id.parse().ok()?, u8::from_str_radix(index, 16).ok()?);
    (shard_name(parsed.0, parsed.1) == name).then_some(parsed)
}

/// What two damaged copies of the same bytes say together: where they differ either may be right, and `decode` (which
/// checks a hash) tells. Gives up beyond 8 differing bytes.
pub(crate) fn merge_copies<T>(a: &[u8], b: &[u8], decode: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    if a.len() != b.len() {
        return None;
    }
    let differing: Vec<usize> = (0..a.len()).filter(|&i| a[i] != b[i]).take(MERGED_BYTES_MAX + 1).collect();
    if differing.len() > MERGED_BYTES_MAX {
        return None;
    }
    let mut trial = a.to_vec();
    (0u32..1 << differing.len()).find_map(|choice| {
        for (bit, &at) in differing.iter().enumerate() {
            trial[at] = if choice >> bit & 1 == 1 { b[at] } else { a[at] };
        }
        decode(&trial)
    })
}

/// BLAKE3-256: the id of bytes as an object is exactly that.
pub(crate) fn blake3(bytes: &[u8]) -> [u8; 32] {
    lavatube_base::Verified::hash(bytes).id().0
}

const fn header_len_of(blocks: usize) -> usize {
    FIXED + HASH * blocks
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).expect("shards and headers are far below 4 GiB")
}

/// The folder of shard files on a drive.
pub const SHARDS: &str = "shards/";
/// Longest header: one block hash per 16 KiB of the longest object in one shard.
pub const HEADER_LEN_MAX: usize = header_len_of(OBJECT_LEN_MAX.div_ceil(SHARD_BLOCK_LEN) + 1);
const MAGIC: &[u8; 8] = b"LVTSHRD\x01";
const FIXED: usize = 176;
const RESERVED: usize = 24;
const HASH: usize = 16;
const CHECK: usize = 32;
const ALIGN: usize = 64;
const MERGED_BYTES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(object_len: u64, k: u8, m: u8, index: u8) -> ShardHeader {
        let geometry = Geometry::new(object_len, k, m).unwrap();
        let hashes = (0..geometry.blocks()).map(|b| lavatube_base::digest::h16(&[&b.to_le_bytes()])).collect();
        ShardHeader {
            kind: ObjectKind::Pack,
            geometry,
            index,
            object: ObjectId([0x5a; 32]),
            generation: 1,
            vault: VaultId([0xaa; 16]),
            drive: DriveId([0xd1; 16]),
            place: None,
            hashes,
        }
    }

    #[test]
    fn the_golden_header_stays_as_it_is() {
        let header = sample(300_000, 4, 2, 5);
        let golden = include_bytes!("../../../vectors/shard-v1.bin");
        assert_eq!(header.encode(), golden);
        assert_eq!(ShardHeader::decode(golden), Ok(header));
    }

    #[test]
    fn a_pack_has_no_place_in_the_log() {
        let header = ShardHeader { kind: ObjectKind::Manifest, place: Some(7), ..sample(5000, 4, 2, 1) };
        assert_eq!(ShardHeader::decode(&header.encode()), Ok(header.clone()));
        let pack = ShardHeader { kind: ObjectKind::Pack, ..header };
        assert_eq!(ShardHeader::decode(&pack.encode()).unwrap_err().rule, "a place in the log of what is not in it");
    }

    #[test]
    fn two_damaged_copies_together_are_one_good_one() {
        let header = sample(300_000, 4, 2, 5);
        let good = header.encode();
        for (at_a, at_b) in [(0, 9), (12, 12), (good.len() - 1, 40), (130, 150)] {
            let (mut a, mut b) = (good.clone(), good.clone());
            a[at_a] ^= 0x40;
            b[at_b] ^= 0x02;
            let expected = (at_a != at_b).then(|| header.clone());
            assert_eq!(ShardHeader::decode_copies(&a, &b), expected);
        }
    }

    #[test]
    fn any_flipped_byte_of_a_header_is_noticed() {
        let good = sample(20_000, 1, 1, 1).encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(ShardHeader::decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_drawing_of_format_and_the_constants_agree() {
        let g = Geometry::new(300_000, 4, 2).unwrap();
        assert_eq!((g.shard_len(), g.blocks(), g.header_len()), (75_008, 5, 176 + 80));
        assert_eq!((g.rotation(0), g.rotation(1), g.rotation(5)), (0, 12_480, 62_400));
        assert_eq!(g.block_range(4), 65_536..75_008);
    }

    proptest! {
        #[test]
        fn headers_survive(len in 1u64..3_000_000, k in 1u8..=30, m in 0u8..=20, index: u8, generation in 1u32.., place in proptest::option::of(0..u64::MAX)) {
            let mut header = sample(len, k, m, index % (k + m));
            header.generation = generation;
            if place.is_some() {
                (header.kind, header.place) = (ObjectKind::DepositorCard, place);
            }
            let bytes = header.encode();
            prop_assert_eq!(bytes.len(), header.geometry.header_len());
            prop_assert_eq!(ShardHeader::claimed_len(&bytes), Some(bytes.len()));
            prop_assert_eq!(ShardHeader::len_in_file(header.geometry.file_len() as u64), Some(bytes.len()));
            prop_assert_eq!(ShardHeader::decode(&bytes), Ok(header));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), fix: bool) {
            let mut bytes = bytes;
            if fix && bytes.len() > FIXED {
                bytes[..8].copy_from_slice(MAGIC);
                let at = bytes.len() - CHECK;
                let check = blake3(&bytes[..at]);
                bytes[at..].copy_from_slice(&check);
            }
            let _ = ShardHeader::claimed_len(&bytes);
            if let Ok(header) = ShardHeader::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }

        #[test]
        fn file_lengths_never_make_the_search_for_the_copy_panic(len: u64) {
            let _ = ShardHeader::len_in_file(len);
        }

        #[test]
        fn names_survive(id: [u8; 32], index: u8, other in "[ -~]{0,90}") {
            prop_assert_eq!(parse_shard_name(&shard_name(ObjectId(id), index)), Some((ObjectId(id), index)));
            let _ = parse_shard_name(&other);
        }
    }
}
