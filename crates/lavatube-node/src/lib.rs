//! Floor 3: files, threads, clocks and entropy of a real computer.
