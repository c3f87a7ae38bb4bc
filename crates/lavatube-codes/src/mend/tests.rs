//! Tests of mending.
