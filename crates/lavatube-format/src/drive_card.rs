//! drive_card (being written)
