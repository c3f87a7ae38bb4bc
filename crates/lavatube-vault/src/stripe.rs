//! Stripes: an object cut into `k` data shards with `m` parity shards beside them, and the file of each.
//!
//! Data shards are slices of the object as it was handed in; only those with padding, and parity, take new memory. It must
//! not know drives or why a shard is wanted. Step 14 of the walk.

use lavatube_base::digest::h16;
use lavatube_base::{DriveId, ObjectId, VaultId};
use lavatube_codes::Code;
use lavatube_format::shard::{Geometry, ObjectKind, ShardHeader};

/// An encoded object.
pub(crate) struct Stripe<'a> {
    geometry: Geometry,
    object: &'a [u8],
    /// The data shards that are not wholly inside the object, padded with zeros.
    padded: Vec<Vec<u8>>,
    parity: Vec<Vec<u8>>,
    hashes: Vec<Vec<[u8; 16]>>,
}

impl<'a> Stripe<'a> {
    /// Computes parity and block hashes, row of blocks by row of blocks while they are in the cache.
    pub(crate) fn encode(code: &Code, geometry: Geometry, object: &'a [u8]) -> Self {
        let (k, len) = (geometry.k(), geometry.shard_len());
        let full = object.len() / len;
        let padded = (full..k)
            .map(|j| {
                let mut shard = object.get(j * len..).unwrap_or_default().to_vec();
                shard.resize(len, 0);
                shard
            })
            .collect();
        let parity = vec![vec![0; len]; geometry.m()];
        let hashes = vec![Vec::with_capacity(geometry.blocks()); geometry.shards()];
        let mut stripe = Self { geometry, object, padded, parity, hashes };
        stripe.fill_rows(code);
        stripe
    }

    fn fill_rows(&mut self, code: &Code) {
        let (k, len) = (self.geometry.k(), self.geometry.shard_len());
        let (full, object) = (self.object.len() / len, self.object);
        for block in 0..self.geometry.blocks() {
            let range = self.geometry.block_range(block);
            let inside = (0..full.min(k)).map(|j| &object[j * len..][range.clone()]);
            let data: Vec<&[u8]> = inside.chain(self.padded.iter().map(|p| &p[range.clone()])).collect();
            let mut parity: Vec<&mut [u8]> = self.parity.iter_mut().map(|p| &mut p[range.clone()]).collect();
            code.encode(&data, &mut parity);
            let all = data.iter().copied().chain(parity.iter().map(|p| &**p));
            all.zip(&mut self.hashes).for_each(|(bytes, hashes)| hashes.push(h16(&[bytes])));
        }
    }

    /// The bytes of shard `index`.
    pub(crate) fn shard(&self, index: usize) -> &[u8] {
        let (k, len) = (self.geometry.k(), self.geometry.shard_len());
        let full = (self.object.len() / len).min(k);
        match index {
            i if i < full => &self.object[i * len..][..len],
            i if i < k => &self.padded[i - full],
            i => &self.parity[i - k],
        }
    }

    /// The header of shard `index` as it stands on `drive`.
    pub(crate) fn header(&self, index: usize, whose: &Whose, drive: DriveId) -> Vec<u8> {
        let header = ShardHeader {
            kind: whose.kind,
            geometry: self.geometry,
            index: u8::try_from(index).expect("shard indexes are below DRIVES_MAX"),
            object: whose.object,
            generation: whose.generation,
            vault: whose.vault,
            drive,
            place: whose.place,
            hashes: self.hashes[index].clone(),
        };
        header.encode()
    }

    /// The four parts of the file of shard `index`: header, both halves of the rotated shard, header.
    pub(crate) fn parts<'s>(&'s self, index: usize, header: &'s [u8]) -> [&'s [u8]; 4] {
        let shard = self.shard(index);
        let (tail, head) = shard.split_at(shard.len() - self.geometry.rotation(index));
        [header, head, tail, header]
    }
}

/// What all headers of a stripe have in common.
pub(crate) struct Whose {
    pub(crate) vault: VaultId,
    pub(crate) kind: ObjectKind,
    pub(crate) object: ObjectId,
    pub(crate) generation: u32,
    /// Its place in the log.
    pub(crate) place: Option<u64>,
}
