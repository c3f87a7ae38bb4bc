//! What the vault says of releases to whoever is far away: what one would stand on, and what became of one that came.
//!
//! Nothing is decided here: a release that came over a link is taken or refused as any other. It must not know who asks, nor how the word crosses. Step 18 of the walk.

use lavatube_base::limits::{LEAVES_TOLD_MAX, RELEASES_TOLD_MAX};
use lavatube_format::log::Leaf;
use lavatube_format::release_word::{
    About, KeptWord, OpenWord, ReleaseQuestion, ReleaseWord, SignedWord, StandingWord,
};

use crate::{LogError, OpenRelease, Standing, StoreError, Vault};

impl Vault {
    /// Answers a question about releases. What became of the release that came with it is handed in.
    ///
    /// # Errors
    /// [`LogError`] when too few drives are there to make sure of what was stored, or there is no key to sign with.
    pub fn answer_of_releases(
        &mut self,
        question: &ReleaseQuestion,
        about: Option<About>,
    ) -> Result<SignedWord, LogError> {
        //= FORMAT#F32 first it is settled, and then signed
        self.settle_journal()?;
        let signer = self.signer.as_ref().ok_or(StoreError::ReadOnly)?;
        let log = &self.index.log;
        let from = question.from.min(log.size());
        let leaves: Vec<Leaf> = usize::try_from(from)
            .map_or(&[][..], |from| &log.leaves()[from..])
            .iter()
            .take(LEAVES_TOLD_MAX)
            .copied()
            .collect();
        let kept = match self.kept_but_for(&question.lifts) {
            Ok(None) => KeptWord::Nothing,
            Ok(Some(kept)) => KeptWord::Kept { place: kept.place, left_s: kept.left_s },
            Err(_) => KeptWord::Unread,
        };
        let mut open: Vec<OpenWord> = self.open_releases().into_iter().map(word_of).collect();
        open.sort_by_key(|open| open.number);
        let open = open.split_off(open.len().saturating_sub(RELEASES_TOLD_MAX));
        let (vault, nonce) = (self.card.vault, question.nonce);
        let (size, root) = (log.size(), log.root());
        Ok(ReleaseWord { vault, nonce, about, size, root, kept, open, from, leaves }.sign(signer))
    }
}

fn word_of(open: OpenRelease) -> OpenWord {
    let OpenRelease { id, number, objects, thins, standing } = open;
    let standing = match standing {
        None => StandingWord::Unknown,
        Some(Standing::Waits(waits)) => StandingWord::Waits(waits),
        Some(Standing::Void) => StandingWord::Void,
        Some(Standing::Followed) => StandingWord::Followed,
    };
    OpenWord { id, number, objects, thins, standing }
}
