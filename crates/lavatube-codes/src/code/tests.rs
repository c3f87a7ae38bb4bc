//! Tests of encoding and rebuilding against the naive twin and against golden bytes.
