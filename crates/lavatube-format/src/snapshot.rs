//! Snapshot records: what one backup was of, and where its tree is (FORMAT section 4).
//!
//! It must not know how a tree is read; times in it are what a depositor's clock said, for people.

use lavatube_base::ChunkId;
use lavatube_base::limits::{LAYERS_MAX, ROLL_CHUNKS_MAX, SKIPPED_LISTED_MAX};
use lavatube_base::time::WallTime;
use minicbor::{Decoder, Encoder};

use crate::cbor::{check_same, malformed};
use crate::wire::Malformed;

/// Totals of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else: links, devices, pipes, sockets.
    pub others: u64,
    /// Apparent bytes of the files.
    pub bytes: u64,
    /// Bytes of content that were not known before.
    pub new_bytes: u64,
    /// Entries that could not be stored.
    pub skipped: u64,
}

/// An entry that could not be stored, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Path in the tree.
    pub path: Vec<u8>,
    /// Reason, for people.
    pub reason: String,
}

/// The record of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// When it began.
    pub time: WallTime,
    /// Host it was taken on.
    pub host: String,
    /// Source paths, absolute, as asked for.
    pub paths: Vec<Vec<u8>>,
    /// Tags.
    pub tags: Vec<String>,
    /// Program that took it.
    pub program: String,
    /// Layer descriptors, newest first.
    pub layers: Vec<ChunkId>,
    /// Totals.
    pub totals: Totals,
    /// The first [`SKIPPED_LISTED_MAX`] skipped entries.
    pub skipped: Vec<Skipped>,
    /// Snapshot this one was compared with.
    pub parent: Option<ChunkId>,
    /// Free text.
    pub description: Option<String>,
    /// Chunks of the roll of the files that were read for it ([`crate::roll`]), in order; none from before there was one.
    pub roll: Vec<ChunkId>,
}

type EncodeError = minicbor::encode::Error<std::convert::Infallible>;

impl Snapshot {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        // Writing to a Vec cannot fail.
        let _: Result<(), EncodeError> = self.write(&mut e);
        e.into_writer()
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Result<(), EncodeError> {
        let further = [self.parent.is_some(), self.description.is_some(), !self.roll.is_empty()];
        e.map(9 + further.map(u64::from).iter().sum::<u64>())?.u8(0)?.u8(1)?;
        e.u8(1)?.array(2)?.i64(self.time.s)?.u32(self.time.ns)?;
        e.u8(2)?.str(&self.host)?;
        e.u8(3)?.array(self.paths.len() as u64)?;
        for path in &self.paths {
            e.bytes(path)?;
        }
        e.u8(4)?.array(self.tags.len() as u64)?;
        for tag in &self.tags {
            e.str(tag)?;
        }
        e.u8(5)?.str(&self.program)?;
        e.u8(6)?.array(self.layers.len() as u64)?;
        for layer in &self.layers {
            e.bytes(&layer.0)?;
        }
        let t = &self.totals;
        e.u8(7)?.map(6)?;
        for (key, value) in (1u8..).zip([t.files, t.directories, t.others, t.bytes, t.new_bytes, t.skipped]) {
            e.u8(key)?.u64(value)?;
        }
        e.u8(8)?.array(self.skipped.len() as u64)?;
        for s in &self.skipped {
            e.array(2)?.bytes(&s.path)?.str(&s.reason)?;
        }
        if let Some(parent) = &self.parent {
            e.u8(9)?.bytes(&parent.0)?;
        }
        if let Some(text) = &self.description {
            e.u8(10)?.str(text)?;
        }
        if !self.roll.is_empty() {
            e.u8(11)?.array(self.roll.len() as u64)?;
            for chunk in &self.roll {
                e.bytes(&chunk.0)?;
            }
        }
        Ok(())
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Malformed`] when it is not such a map, is not deterministic, or exceeds a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "snapshot record";
        let out = Self::read(&mut Decoder::new(bytes)).map_err(malformed(WHAT))?;
        let fail = |rule| Err(Malformed { what: WHAT, at: 0, rule });
        if out.layers.is_empty() || out.layers.len() > LAYERS_MAX {
            return fail("a snapshot has between one and eight layers");
        }
        if out.skipped.len() > SKIPPED_LISTED_MAX || out.roll.len() > ROLL_CHUNKS_MAX || out.time.ns > 999_999_999 {
            return fail("a list or time exceeds its limit");
        }
        check_same(WHAT, bytes, &out.encode())?;
        Ok(out)
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, minicbor::decode::Error> {
        let wrong = |text: &'static str| minicbor::decode::Error::message(text);
        let keys = d.map()?.ok_or_else(|| wrong("indefinite map"))?;
        let mut out = Self::default();
        for _ in 0..keys {
            match d.u8()? {
                0 => match d.u8()? {
                    1 => {}
                    _ => return Err(wrong("unknown version")),
                },
                1 => {
                    d.array()?;
                    out.time = WallTime { s: d.i64()?, ns: d.u32()? };
                }
                2 => out.host = d.str()?.to_owned(),
                3 => out.paths = list(d, |d| Ok(d.bytes()?.to_vec()))?,
                4 => out.tags = list(d, |d| Ok(d.str()?.to_owned()))?,
                5 => out.program = d.str()?.to_owned(),
                6 => out.layers = list(d, chunk_id)?,
                7 => {
                    d.map()?;
                    let t = &mut out.totals;
                    let all = [
                        &mut t.files,
                        &mut t.directories,
                        &mut t.others,
                        &mut t.bytes,
                        &mut t.new_bytes,
                        &mut t.skipped,
                    ];
                    for field in all {
                        d.u8()?;
                        *field = d.u64()?;
                    }
                }
                8 => {
                    out.skipped = list(d, |d| {
                        d.array()?;
                        Ok(Skipped { path: d.bytes()?.to_vec(), reason: d.str()?.to_owned() })
                    })?;
                }
                9 => out.parent = Some(chunk_id(d)?),
                10 => out.description = Some(d.str()?.to_owned()),
                11 => out.roll = list(d, chunk_id)?,
                _ => return Err(wrong("unknown key")),
            }
        }
        Ok(out)
    }
}

fn chunk_id(d: &mut Decoder<'_>) -> Result<ChunkId, minicbor::decode::Error> {
    ChunkId::from_slice(d.bytes()?).ok_or_else(|| minicbor::decode::Error::message("a chunk id has 24 bytes"))
}

/// A definite array, grown as elements really come: a claimed length allocates nothing.
fn list<T>(
    d: &mut Decoder<'_>,
    mut item: impl FnMut(&mut Decoder<'_>) -> Result<T, minicbor::decode::Error>,
) -> Result<Vec<T>, minicbor::decode::Error> {
    let n = d.array()?.ok_or_else(|| minicbor::decode::Error::message("indefinite array"))?;
    let mut out = Vec::new();
    for _ in 0..n {
        out.push(item(d)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Snapshot {
        Snapshot {
            time: WallTime { s: -3, ns: 5 },
            host: "moon".into(),
            paths: vec![b"/a\xff".to_vec()],
            tags: vec!["t".into()],
            program: "lavatube 0.1".into(),
            layers: vec![ChunkId([7; 24])],
            totals: Totals { files: 1, directories: 2, others: 3, bytes: 1 << 40, new_bytes: 5, skipped: 6 },
            skipped: vec![Skipped { path: b"x".to_vec(), reason: "vanished".into() }],
            parent: Some(ChunkId([1; 24])),
            description: Some("d".into()),
            roll: vec![ChunkId([2; 24])],
        }
    }

    #[test]
    fn a_record_survives() {
        let s = sample();
        assert_eq!(Snapshot::decode(&s.encode()), Ok(s));
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = sample().encode();
        for n in 0..bytes.len() {
            assert!(Snapshot::decode(&bytes[..n]).is_err(), "cut at {n}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_panics(at in 0usize..100, value: u8) {
            let mut bytes = sample().encode();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(s) = Snapshot::decode(&bytes) {
                prop_assert_eq!(s.encode(), bytes);
            }
        }
    }
}
