//! Chunk ids: keyed BLAKE3, so that an id tells nothing to one without the tenant's key (FORMAT section 1).
//!
//! The key is cheap to clone and is used from every worker thread. [`Opened`] is the proof that restored content was
//! hashed again and is the chunk that was asked for. It must not know where content comes from. Step 3 of the walk.

use lavatube_base::ChunkId;
use lavatube_format::key_file::Secret;

/// The key of a tenant's chunk ids.
#[derive(Debug, Clone)]
pub struct ChunkIdKey(Secret);

impl ChunkIdKey {
    /// The key of these 32 secret bytes.
    pub fn new(key: Secret) -> Self {
        Self(key)
    }

    /// The id of `content`.
    pub fn id(&self, content: &[u8]) -> ChunkId {
        let mut id = [0; ChunkId::LEN];
        id.copy_from_slice(&blake3::keyed_hash(self.0.bytes(), content).as_bytes()[..ChunkId::LEN]);
        ChunkId(id)
    }

    /// Hashes `content` again; `None` when it is not the chunk `expected`. The only way to an [`Opened`].
    pub fn open<'a>(&self, content: &'a [u8], expected: ChunkId) -> Option<Opened<'a>> {
        //= FORMAT#F10 the id is that of the content, and is derived again before anyone believes the content
        (self.id(content) == expected).then_some(Opened { id: expected, content })
    }
}

/// Content of a chunk whose id was derived again and fits.
#[derive(Clone, Copy)]
pub struct Opened<'a> {
    id: ChunkId,
    content: &'a [u8],
}

impl<'a> Opened<'a> {
    /// The chunk's id.
    pub fn id(&self) -> ChunkId {
        self.id
    }

    /// The chunk's content.
    pub fn content(&self) -> &'a [u8] {
        self.content
    }
}

impl std::fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({}, {} bytes)", self.id, self.content.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_content_of_the_id_is_opened() {
        let key = ChunkIdKey::new(Secret::new([1; 32]));
        let id = key.id(b"basalt");
        assert_eq!(key.open(b"basalt", id).unwrap().content(), b"basalt");
        assert_eq!(key.open(b"basalt", id).unwrap().id(), id);
        assert!(key.open(b"basalu", id).is_none());
        assert!(ChunkIdKey::new(Secret::new([2; 32])).open(b"basalt", id).is_none());
    }
}
