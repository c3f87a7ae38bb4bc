//! depositor_card (being written)
