//! Floor 2: trees to packs and packs to trees.
