//! key_file (being written)
