//! Floor 2: keeps packs on drives, finds rot and mends it, signs receipts.
