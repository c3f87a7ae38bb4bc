//! Floor 4: the real client and vault in one thread, one seed and virtual time.
