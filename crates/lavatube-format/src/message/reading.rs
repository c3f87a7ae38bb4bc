//! Messages of reading: parts of objects that are asked for and sent, and lists of what there is.
//!
//! A request has a number that its answers bear. Asked again under the same number, it replaces what is still to be sent
//! of it, so that nothing depends on a request or an answer that is lost.

use lavatube_base::digest::h16;
use lavatube_base::limits::{DENIAL_TEXT_LEN_MAX, LISTED_MAX, OBJECT_LEN_MAX, PARTS_MAX};
use lavatube_base::{Denial, ObjectId};

use super::{cut, denial, ground};
use crate::shard::ObjectKind;
use crate::wire::{Malformed, Reader, put_bytes, put_len, put_varint};

/// Bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The object.
    pub id: ObjectId,
    /// Where they begin.
    pub start: u64,
    /// How many.
    pub len: u64,
}

/// What became of a part that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent<'a> {
    /// The object.
    pub id: ObjectId,
    /// Where the bytes begin.
    pub start: u64,
    /// The bytes, or why they are not to be had.
    pub bytes: Result<&'a [u8], Withheld>,
}

/// Why a part is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// How many bytes were asked for.
    pub len: u64,
    /// On what ground.
    pub denial: Denial,
    /// The vault's account, for people.
    pub text: String,
}

/// A page of the list of all objects of a kind, which are in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The kind.
    pub kind: ObjectKind,
    /// The digest of the whole list.
    pub digest: [u8; 16],
    /// How many objects the list has.
    pub total: u64,
    /// The number of the first one here.
    pub first: u64,
    /// Objects and their lengths. None when whoever asks knows the list already.
    pub objects: Vec<(ObjectId, u64)>,
}

/// The digest of a list.
pub fn list_digest(objects: &[(ObjectId, u64)]) -> [u8; 16] {
    let mut bytes = Vec::with_capacity(objects.len() * (ObjectId::LEN + 4));
    objects.iter().for_each(|object| put_listed(&mut bytes, object));
    h16(&[&bytes])
}

fn put_listed(out: &mut Vec<u8>, (id, len): &(ObjectId, u64)) {
    out.extend_from_slice(&id.0);
    put_varint(out, *len);
}

/// Parts in their order, those of an object behind one mention of it.
pub(super) fn put_parts(out: &mut Vec<u8>, parts: &[Part]) {
    assert!(parts.len() <= PARTS_MAX, "asked for too many parts at once");
    let objects = || parts.chunk_by(|a, b| a.id == b.id);
    put_len(out, objects().count());
    for object in objects() {
        out.extend_from_slice(&object[0].id.0);
        put_len(out, object.len());
        let mut end = 0;
        for part in object {
            assert!(part.start >= end && part.len > 0, "parts of an object ascend");
            put_varint(out, part.start - end);
            put_varint(out, part.len);
            end = part.start + part.len;
        }
    }
}

pub(super) fn parts(r: &mut Reader<'_>) -> Result<Vec<Part>, Malformed> {
    let objects = r.varint_max(PARTS_MAX, MANY)?;
    let mut out: Vec<Part> = Vec::new();
    for _ in 0..objects {
        let id = ObjectId(r.array()?);
        r.ensure(out.last().is_none_or(|last| last.id != id), "an object named twice in a row")?;
        let count = r.varint_max(PARTS_MAX - out.len(), MANY)?;
        r.ensure(count > 0, "an object without a part")?;
        let mut end = 0;
        for _ in 0..count {
            let start = end + r.varint_max(OBJECT_LEN_MAX, BEYOND)? as u64;
            let len = r.varint_max(OBJECT_LEN_MAX, BEYOND)? as u64;
            end = start + len;
            r.ensure(len > 0 && end <= OBJECT_LEN_MAX as u64, BEYOND)?;
            out.push(Part { id, start, len });
        }
    }
    Ok(out)
}

pub(super) fn put_sent(out: &mut Vec<u8>, all: &[Sent<'_>]) {
    assert!(all.len() <= PARTS_MAX, "sent too many parts at once");
    put_len(out, all.len());
    for sent in all {
        out.extend_from_slice(&sent.id.0);
        put_varint(out, sent.start);
        match &sent.bytes {
            Ok(bytes) => {
                out.push(0);
                put_bytes(out, bytes);
            }
            Err(withheld) => {
                out.push(ground(withheld.denial));
                put_varint(out, withheld.len);
                put_bytes(out, cut(&withheld.text).as_bytes());
            }
        }
    }
}

pub(super) fn sent<'a>(r: &mut Reader<'a>) -> Result<Vec<Sent<'a>>, Malformed> {
    let count = r.varint_max(PARTS_MAX, MANY)?;
    let mut out = Vec::new();
    for _ in 0..count {
        let id = ObjectId(r.array()?);
        let start = r.varint_max(OBJECT_LEN_MAX, BEYOND)? as u64;
        let bytes = match r.u8()? {
            0 => {
                let bytes = r.bytes(OBJECT_LEN_MAX)?;
                r.ensure(!bytes.is_empty(), "a part without bytes")?;
                Ok(bytes)
            }
            code => {
                let denial = denial(code).ok_or_else(|| r.fail("unknown ground of a denial"))?;
                let len = r.varint_max(OBJECT_LEN_MAX, BEYOND)? as u64;
                let text = r.bytes(DENIAL_TEXT_LEN_MAX)?;
                let text = std::str::from_utf8(text).map_err(|_| r.fail("text that is not UTF-8"))?.to_owned();
                Err(Withheld { len, denial, text })
            }
        };
        out.push(Sent { id, start, bytes });
    }
    Ok(out)
}

pub(super) fn put_page(out: &mut Vec<u8>, page: &Page) {
    assert!(page.objects.len() <= LISTED_MAX, "listed too many objects at once");
    out.push(page.kind.code());
    out.extend_from_slice(&page.digest);
    put_varint(out, page.total);
    put_varint(out, page.first);
    put_len(out, page.objects.len());
    page.objects.iter().for_each(|object| put_listed(out, object));
}

pub(super) fn page(r: &mut Reader<'_>) -> Result<Page, Malformed> {
    let kind = kind(r)?;
    let (digest, total, first) = (r.array()?, r.varint()?, r.varint()?);
    let count = r.varint_max(LISTED_MAX, "more objects listed than the limit")?;
    r.ensure(first.checked_add(count as u64).is_some_and(|end| end <= total), "a page beyond its list")?;
    let mut objects: Vec<(ObjectId, u64)> = Vec::new();
    for _ in 0..count {
        let id = ObjectId(r.array()?);
        r.ensure(objects.last().is_none_or(|(last, _)| *last < id), "objects that do not ascend")?;
        objects.push((id, r.varint_max(OBJECT_LEN_MAX, BEYOND)? as u64));
    }
    Ok(Page { kind, digest, total, first, objects })
}

pub(super) fn kind(r: &mut Reader<'_>) -> Result<ObjectKind, Malformed> {
    let code = r.u8()?;
    ObjectKind::from_code(code).ok_or_else(|| r.fail("unknown kind of object"))
}

const MANY: &str = "more parts than the limit";
const BEYOND: &str = "beyond the longest object";
