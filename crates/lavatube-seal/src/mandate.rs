//! Mandates: the authority signs what a vault far away is to do for its drives (FORMAT section 22).
//!
//! It must not know how a mandate is numbered or carried.

use lavatube_format::mandate::{MANDATE_CONTEXT, Mandate, SignedMandate};

use crate::error::SealError;
use crate::root::Root;

impl Root {
    /// Signs a mandate as the authority.
    ///
    /// # Errors
    /// [`SealError`] when it is none that anybody could read, or the library refuses.
    pub fn sign_mandate(&self, mandate: Mandate) -> Result<SignedMandate, SealError> {
        let body = mandate.encode_body();
        // Better none than a signed one that nobody can read.
        Mandate::decode_body(&body)?;
        let signature =
            self.authority()?.sign(MANDATE_CONTEXT, &body).map_err(|_| SealError::Library("signing the mandate"))?;
        Ok(SignedMandate { mandate, body, signature })
    }
}

#[cfg(test)]
mod tests {
    use lavatube_base::{DriveId, VaultId};
    use lavatube_format::key_file::Secret;
    use lavatube_format::mandate::Task;

    use super::*;

    #[test]
    fn only_the_authority_tells_a_vault_what_to_do() {
        let (root, other) = (Root::new(Secret::new([5; 32])), Root::new(Secret::new([6; 32])));
        let mandate = Mandate { vault: VaultId([1; 16]), number: 3, task: Task::Retire { drive: DriveId([2; 16]) } };
        let signed = root.sign_mandate(mandate.clone()).unwrap();
        let authority = root.authority_public().unwrap();
        let again = SignedMandate::decode(&signed.encode()).unwrap();
        again.verify(&authority).unwrap();
        assert_eq!(again.mandate, mandate);
        assert!(other.sign_mandate(mandate.clone()).unwrap().verify(&authority).is_err());
        let mut altered = again;
        *altered.body.last_mut().unwrap() ^= 1;
        assert!(altered.verify(&authority).is_err());
        assert!(root.sign_mandate(Mandate { number: 0, ..mandate }).is_err());
    }
}
