//! shard (being written)
