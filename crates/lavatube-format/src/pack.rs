//! pack (being written)
