//! receipt (being written)
