//! A bundle as a value, and plain bundles as bytes.
//!
//! What we make has a CRC-32C in each block, an age where no clock is known, and is never cut into fragments on the way. What
//! we read is refused aloud when nothing protects its primary block: other nodes acknowledge such bundles, drop them, and
//! the sender has deleted its copy by then.

use hardy_bpv7::block::{BibCoverage, Flags as BlockFlags, Type};
use hardy_bpv7::bpsec::key::KeySet;
use hardy_bpv7::builder::Builder;
use hardy_bpv7::bundle::{Bundle as Parsed, Flags as ParsedFlags, ParsedBundle};
use hardy_bpv7::crc::CrcType;
use hardy_bpv7::creation_timestamp::CreationTimestamp;
use hardy_bpv7::dtn_time::DtnTime;
use lavatube_base::limits::BLOCK_LEN_MAX;
use std::time::Duration;

use crate::scan::scan;
use crate::{BundleError, Endpoint};

/// A bundle: who sends what to whom, and how long it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Who made it; nobody can be asked or told then when it is [`Endpoint::NONE`].
    pub source: Endpoint,
    /// Whom it is for.
    pub destination: Endpoint,
    /// Whom to tell what becomes of it.
    pub report_to: Endpoint,
    /// When it was made, in milliseconds since 2000-01-01 UTC; 0 when its maker knew no clock.
    pub time_ms: u64,
    /// Which of that moment's; with source and time it is the bundle's name, and never used again.
    pub sequence: u64,
    /// How long after `time_ms` it is of use, in milliseconds.
    pub lifetime_ms: u64,
    /// What its maker asks for.
    pub flags: Flags,
    /// Its content.
    pub payload: Vec<u8>,
    /// How long it is under way, in milliseconds. Must be there when `time_ms` is 0.
    pub age_ms: Option<u64>,
    /// How many nodes it may pass, and has passed.
    pub hops: Option<Hops>,
    /// Which node it comes from directly.
    pub previous_node: Option<Endpoint>,
}

/// How many nodes a bundle may pass, and has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hops {
    /// At most so many, at least 1.
    pub limit: u8,
    /// So many so far.
    pub count: u64,
}

/// What the maker of a bundle asks for: bits of RFC 9171, 4.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u64);

impl Flags {
    /// The payload is a record of the network itself, not of an application.
    pub const ADMIN: Self = Self(1 << 1);
    /// It must not be cut into fragments. All that we make have it.
    pub const WHOLE: Self = Self(1 << 2);
    /// The application is asked to acknowledge it.
    pub const ACK: Self = Self(1 << 5);

    const FRAGMENT: Self = Self(1);

    /// Whether all of `other` are in these.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Bundle {
    /// A bundle that lives for a day and has no age, no hops and no time yet.
    pub fn new(source: Endpoint, destination: Endpoint, payload: Vec<u8>) -> Self {
        Self {
            source,
            destination,
            report_to: Endpoint::NONE,
            time_ms: 0,
            sequence: 0,
            lifetime_ms: 24 * 60 * 60 * 1000,
            flags: Flags::WHOLE,
            payload,
            age_ms: None,
            hops: None,
            previous_node: None,
        }
    }

    /// Its bytes, neither signed nor encrypted, a CRC-32C in each block.
    ///
    /// # Errors
    /// [`BundleError`] when it breaks a rule or a limit.
    pub fn encode(&self) -> Result<Vec<u8>, BundleError> {
        self.build().map(|(_, bytes)| bytes.into_vec())
    }

    pub(crate) fn build(&self) -> Result<(Parsed, Box<[u8]>), BundleError> {
        if self.payload.len() > BLOCK_LEN_MAX {
            return Err(BundleError::TooLong);
        }
        // What we make, we read: a twin without a payload shows it at no cost.
        let (_, twin) = self.assemble(&[])?;
        let twin = Self::decode(&twin).map_err(|e| match e {
            BundleError::Unread(why) => BundleError::Unfit(why),
            other => other,
        })?;
        if twin != self.without_payload() {
            return Err(unfit("a value that is read differently"));
        }
        self.assemble(&self.payload)
    }

    fn without_payload(&self) -> Self {
        Self {
            source: self.source.clone(),
            destination: self.destination.clone(),
            report_to: self.report_to.clone(),
            payload: Vec::new(),
            previous_node: self.previous_node.clone(),
            ..*self
        }
    }

    fn assemble(&self, payload: &[u8]) -> Result<(Parsed, Box<[u8]>), BundleError> {
        if self.flags.has(Flags::FRAGMENT) {
            return Err(BundleError::Fragment);
        }
        let time = (self.time_ms != 0).then(|| DtnTime::new(self.time_ms));
        let mut builder = Builder::new(self.source.eid().clone(), self.destination.eid().clone())
            .with_report_to(self.report_to.eid().clone())
            .with_flags(ParsedFlags::from(self.flags.0))
            .with_lifetime(Duration::from_millis(self.lifetime_ms))
            //= rfc9171#4.3.1 the primary block has a CRC unless it is signed
            .with_crc_type(CrcType::CRC32_CASTAGNOLI);
        if let Some(node) = &self.previous_node {
            builder = block(builder, Type::PreviousNode, hardy_cbor::encode::emit(node.eid()).0)?;
        }
        if let Some(age) = self.age_ms {
            builder = block(builder, Type::BundleAge, hardy_cbor::encode::emit(&age).0)?;
        }
        if let Some(hops) = self.hops {
            builder = block(builder, Type::HopCount, hardy_cbor::encode::emit(&(u64::from(hops.limit), hops.count)).0)?;
        }
        let block = builder.add_extension_block(Type::Payload).map_err(unfit)?;
        let builder = block.with_flags(BlockFlags::default()).build(payload.into());
        builder.build(CreationTimestamp::from_parts(time, self.sequence)).map_err(unfit)
    }

    /// Reads a bundle whose payload is not encrypted. Signatures are not looked at: what is claimed is not proved.
    ///
    /// # Errors
    /// [`BundleError`]; in every case the bundle was *not* taken, and its sender must not take it for stored.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        scan(bytes)?;
        let parsed = parse(bytes, &KeySet::EMPTY)?;
        let block = parsed.blocks.get(&PAYLOAD).ok_or_else(|| unread("no payload"))?;
        if block.bcb.is_some() {
            return Err(BundleError::Sealed);
        }
        let payload = block.payload(bytes).ok_or_else(|| unread("no payload"))?;
        if payload.len() > BLOCK_LEN_MAX {
            return Err(BundleError::TooLong);
        }
        Self::of(&parsed, payload.to_vec())
    }

    pub(crate) fn of(parsed: &Parsed, payload: Vec<u8>) -> Result<Self, BundleError> {
        let endpoint = |eid: &hardy_bpv7::eid::Eid| Endpoint::try_from(eid.clone());
        let (time, sequence) = parsed.id.timestamp.clone().into_parts();
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let hops = |hops: &hardy_bpv7::hop_info::HopInfo| {
            let limit = u8::try_from(hops.limit).map_err(|_| unread("a hop limit beyond 255"))?;
            Ok::<_, BundleError>(Hops { limit, count: hops.count })
        };
        let bundle = Self {
            source: endpoint(&parsed.id.source)?,
            destination: endpoint(&parsed.destination)?,
            report_to: endpoint(&parsed.report_to)?,
            time_ms: time.map_or(0, |time| time.millisecs()),
            sequence,
            lifetime_ms: millis(parsed.lifetime),
            flags: Flags(u64::from(&parsed.flags)),
            payload,
            age_ms: parsed.age.map(millis),
            hops: parsed.hop_count.as_ref().map(hops).transpose()?,
            previous_node: parsed.previous_node.as_ref().map(endpoint).transpose()?,
        };
        //= rfc9171#4.4.2 a bundle without a time of creation has an age
        if bundle.time_ms == 0 && bundle.age_ms.is_none() {
            return Err(BundleError::Ageless);
        }
        Ok(bundle)
    }
}

/// Parses what was scanned, and refuses what we take from nobody.
pub(crate) fn parse(bytes: &[u8], keys: &KeySet) -> Result<Parsed, BundleError> {
    let parsed = ParsedBundle::parse_with_keys(bytes, keys).map_err(|e| match e {
        hardy_bpv7::Error::InvalidBPSec(e) => BundleError::Forged(plain(e)),
        other => unread(other),
    })?;
    if parsed.non_canonical {
        return Err(unread("not in canonical form"));
    }
    let parsed = parsed.bundle;
    let primary = parsed.blocks.get(&0).ok_or_else(|| unread("no primary block"))?;
    //= rfc9171#4.3.1 the primary block has a CRC unless it is signed
    if matches!(primary.crc_type, CrcType::None) && !matches!(primary.bib, BibCoverage::Some(_)) {
        return Err(BundleError::Unprotected);
    }
    if parsed.flags.is_fragment {
        return Err(BundleError::Fragment);
    }
    Ok(parsed)
}

/// Adds an extension block that every node may drop when it does not know it.
fn block(builder: Builder<'_>, kind: Type, data: Vec<u8>) -> Result<Builder<'_>, BundleError> {
    let block = builder.add_extension_block(kind).map_err(unfit)?;
    Ok(block.with_flags(BlockFlags::default()).build(data.into()))
}

pub(crate) fn unread(why: impl ToString) -> BundleError {
    BundleError::Unread(plain(why))
}

pub(crate) fn unfit(why: impl ToString) -> BundleError {
    BundleError::Unfit(plain(why))
}

/// What the library says, in one line that a terminal can be shown: it quotes what came over the wire.
pub(crate) fn plain(why: impl ToString) -> String {
    why.to_string().chars().take(TEXT_LEN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(crate) const PAYLOAD: u64 = 1;
/// Longest text of the library that we pass on, in characters.
const TEXT_LEN_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_over_the_wire_is_shown_in_one_short_line_without_control_characters() {
        assert_eq!(plain("no name:\n  \u{1b}[2Jmoon\r"), "no name:    [2Jmoon ");
        assert_eq!(plain("é".repeat(TEXT_LEN_MAX + 1)), "é".repeat(TEXT_LEN_MAX));
    }
}
