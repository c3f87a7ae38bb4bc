//! Real entropy, from the kernel: the only place that rolls dice.
//!
//! Seeds, session secrets and random ids are made here and handed down, so that a simulation is one seed. This file must
//! not know what becomes of the bytes. No step of the walk.

/// The kernel gave no entropy; nothing that needs a secret can go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the system has no entropy to give: {0}")]
pub struct EntropyError(String);

/// Fills `out` with random bytes fit for keys.
///
/// # Errors
/// [`EntropyError`] when the kernel refuses; `out` must not be used then.
pub fn fill(out: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(out).map_err(|e| EntropyError(e.to_string()))
}

/// `N` random bytes fit for keys.
///
/// # Errors
/// As [`fill`].
pub fn bytes<const N: usize>() -> Result<[u8; N], EntropyError> {
    let mut out = [0; N];
    fill(&mut out).map(|()| out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(bytes::<32>(), bytes::<32>());
    }
}
