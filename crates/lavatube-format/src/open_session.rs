//! The open session: what a depositor must remember to finish, after a crash, what it had begun (FORMAT section 9).
//!
//! It says whose session it is: wraps are bound to the depositor, so that another one must wrap anew.
//! An append-only log with a check on every record; a torn tail is simply not there. It holds the session's secret and
//! is removed with the session's end, so that a stolen deposit key opens nothing that is finished (promise P2).

use lavatube_base::digest::h16;
use lavatube_base::limits::PACK_LEN_MAX;
use lavatube_base::limits::TENANT_LEN_MAX;
use lavatube_base::{DepositorId, SessionId};

use crate::catalog::PackRow;
use crate::key_file::Secret;
use crate::manifest::{CT_LEN, ENC_LEN, Wrap};
use crate::pack::{FrameEntry, decode_index};
use crate::wire::{Malformed, Reader, put_bytes, put_len};

/// How a session began.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Its id.
    pub session: SessionId,
    /// Whose it is: the wraps are bound to it.
    pub depositor: DepositorId,
    /// The tenant whose PSK is in all its keys.
    pub tenant: String,
    /// Its secret.
    pub secret: Secret,
    /// The secret wrapped to the read key, and to others.
    pub wraps: Vec<Wrap>,
}

/// A pack of the session that is durable somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackDone {
    /// Its row of the pack table.
    pub row: PackRow,
    /// SHA-256 of the sealed pack.
    pub sha256: [u8; 32],
    /// Its index.
    pub frames: Vec<FrameEntry>,
}

/// One record of the log.
#[derive(Debug, Clone)]
pub enum Record {
    /// Always the first.
    Begun(Begun),
    /// One pack.
    Pack(PackDone),
}

/// First eight bytes of every log.
pub const MAGIC: &[u8; 8] = b"LVTOPEN\x02";

const BEGUN: u8 = 1;
const PACK: u8 = 2;

impl Begun {
    /// Begins the log with this record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        let mut body = vec![BEGUN];
        body.extend_from_slice(&self.session.0);
        body.extend_from_slice(&self.depositor.0);
        put_bytes(&mut body, self.tenant.as_bytes());
        body.extend_from_slice(self.secret.bytes());
        put_len(&mut body, self.wraps.len());
        for wrap in &self.wraps {
            body.extend_from_slice(&wrap.key_id);
            body.extend_from_slice(&wrap.enc);
            body.extend_from_slice(&wrap.ct);
        }
        frame(&body, out);
    }
}

impl PackDone {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = vec![PACK];
        body.extend_from_slice(&self.row.encode());
        body.extend_from_slice(&self.sha256);
        put_len(&mut body, self.frames.len());
        let mut index = Vec::new();
        self.frames.iter().for_each(|f| f.encode(&mut index));
        put_bytes(&mut body, &index);
        frame(&body, out);
    }
}

fn frame(body: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&len);
    out.extend_from_slice(body);
    out.extend_from_slice(&h16(&[&len, body]));
}

impl Record {
    fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("open session", body);
        let out = match r.u8()? {
            BEGUN => {
                let session = SessionId(r.array()?);
                let depositor = DepositorId(r.array()?);
                let tenant = String::from_utf8(r.bytes(TENANT_LEN_MAX)?.to_vec());
                let tenant = tenant.map_err(|_| r.fail("the tenant's name is no text"))?;
                let secret = Secret::new(r.array()?);
                let n = r.varint_max(r.left() / (8 + ENC_LEN + CT_LEN), "more wraps than bytes")?;
                let mut wraps = Vec::with_capacity(n);
                for _ in 0..n {
                    let key_id = r.array()?;
                    wraps.push(Wrap { key_id, enc: r.take(ENC_LEN)?.to_vec(), ct: r.take(CT_LEN)?.to_vec() });
                }
                Self::Begun(Begun { session, depositor, tenant, secret, wraps })
            }
            PACK => {
                let row = PackRow::decode(r.take(crate::catalog::PACK_LEN)?)?;
                let sha256 = r.array()?;
                let frames = r.varint_max(PACK_LEN_MAX, "too many frames")?;
                let index = r.bytes(PACK_LEN_MAX)?;
                let frames = decode_index(frames, None, index)?;
                Self::Pack(PackDone { row, sha256, frames })
            }
            _ => return Err(r.fail("unknown record")),
        };
        r.finish()?;
        Ok(out)
    }
}

/// All records up to the first that is torn or damaged; none of a log of another version.
pub fn decode_log(bytes: &[u8]) -> Vec<Record> {
    let mut out = Vec::new();
    let Some(records) = bytes.strip_prefix(MAGIC) else { return out };
    let mut r = Reader::new("open session", records);
    loop {
        let mut next = || -> Result<Record, Malformed> {
            let len = r.u32()?;
            let body = r.take(usize::try_from(len).unwrap_or(usize::MAX))?;
            let check: [u8; 16] = r.array()?;
            r.ensure(check == h16(&[&len.to_le_bytes(), body]), "check does not match")?;
            Record::decode(body)
        };
        match next() {
            Ok(record) => out.push(record),
            Err(_) => return out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_varint;
    use lavatube_base::ObjectId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in BEGUN..=PACK) {
            let _ = decode_log(&bytes);
            let _ = Record::decode(&bytes);
            let _ = Record::decode(&[&[kind], &bytes[..]].concat());
        }

        #[test]
        fn a_checked_record_of_any_bytes_never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut log = Vec::new();
            frame(&body, &mut log);
            let _ = decode_log(&log);
        }
    }

    /// Which rule a pack breaks that claims so many frames in an index of such a length, with no more of it there.
    fn rule_of(frames: usize, index: usize) -> &'static str {
        let row = PackRow { id: ObjectId([6; 32]), class: 3, session: SessionId([4; 16]), number: 0 };
        let mut body = vec![PACK];
        body.extend_from_slice(&row.encode());
        body.extend_from_slice(&[7; 32]);
        put_varint(&mut body, frames as u64);
        put_varint(&mut body, index as u64);
        Record::decode(&body).unwrap_err().rule
    }

    #[test]
    fn an_index_of_the_longest_pack_is_looked_for_and_a_longer_one_refused() {
        assert_eq!(rule_of(1, PACK_LEN_MAX), "longer than what is left of the input");
        assert_eq!(rule_of(1, PACK_LEN_MAX + 1), "length exceeds its limit");
        assert_eq!(rule_of(PACK_LEN_MAX, 0), "more frames than bytes");
        assert_eq!(rule_of(PACK_LEN_MAX + 1, 0), "too many frames");
    }

    #[test]
    fn a_log_survives_and_a_torn_tail_is_not_there() {
        let wraps = vec![Wrap { key_id: [1; 8], enc: vec![2; ENC_LEN], ct: vec![3; CT_LEN] }];
        let (session, depositor, tenant) = (SessionId([4; 16]), DepositorId([8; 32]), "default".to_owned());
        let begun = Begun { session, depositor, tenant, secret: Secret::new([5; 32]), wraps };
        let row = PackRow { id: ObjectId([6; 32]), class: 3, session: SessionId([4; 16]), number: 0 };
        let pack = PackDone { row, sha256: [7; 32], frames: Vec::new() };
        let mut bytes = Vec::new();
        begun.encode(&mut bytes);
        let first = bytes.len();
        pack.encode(&mut bytes);
        let again = |bytes: &[u8]| {
            let mut out = Vec::new();
            for record in decode_log(bytes) {
                match record {
                    Record::Begun(b) => b.encode(&mut out),
                    Record::Pack(p) => p.encode(&mut out),
                }
            }
            out
        };
        assert_eq!(again(&bytes), bytes);
        for cut in first..bytes.len() {
            assert_eq!(again(&bytes[..cut]), &bytes[..first]);
        }
        for at in [7, 19] {
            bytes[at] ^= 1;
            assert_eq!(again(&bytes), b"", "byte {at}");
            bytes[at] ^= 1;
        }
    }
}
