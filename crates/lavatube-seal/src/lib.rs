//! Floor 1: keys, sealing and opening.
