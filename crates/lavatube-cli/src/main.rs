//! The lavatube command.
fn main() {}
