//! Floor 2: keeps packs on drives, finds rot and mends it, signs receipts.
//!
//! A [`Vault`] cuts every object into `k` data and `m` parity shards on different drives and says so in a journal on all
//! of them. Whatever any `k` good blocks of a row can tell is read back; nothing is passed off as right that no hash
//! vouches for. It must not know keys, chunks, paths, the clock, real files or threads: drives come as [`Drive`], ids as
//! bytes somebody drew, signatures are verified by `lavatube_base::sign`. Steps 13 to 20 of the walk.
//!
//! | file | is |
//! |---|---|
//! | `drive` | the seam: named files, staged and synced |
//! | `create`, `open`, `scan` | a vault is born; is opened from whatever is left of it; is found by its shard headers |
//! | `inbox` | objects and manifests come in |
//! | `stripe`, `placement` | an object becomes shards; which drive gets which |
//! | `journal`, `merge`, `chain` | what is durable, in order; made one of all copies; read again |
//! | `index`, `mentions`, `receipt` | where everything lies; where the journal speaks of packs; the signed word for it |
//! | `log` | that nothing of it is taken back: the order of manifests and cards, checkpoints and proofs |
//! | `gather`, `row`, `read` | blocks come back, the good ones are chosen, the bytes asked for are handed out |
//! | `worker`, `parcels` | does what crossed a link asks for; what is still to be sent to who reads |
//! | `audit` | proves to Earth that it has what it should have |
//! | `release`, `retention` | what the authority freed is not kept any more; when it may be |
//! | `remnant` | of packs of which only some was freed, what stays takes their place |
//! | `examine`, `mend`, `scrub` | how an object is; makes it whole again; does so with one after the other |
//! | `status`, `cards` | how the vault is; drives are named anew, added, retired |
//! | `quarantine` | drives that are not trusted, and how they are again |
//! | `thin` | where room has ended, what could lose most gives up for what could lose least |
//! | `leftover` | what lies where shards were before they were moved, and when it goes |

pub mod audit;
mod cards;
mod chain;
mod create;
pub mod drive;
mod examine;
mod gather;
mod inbox;
mod index;
mod journal;
mod leftover;
mod log;
mod mandate;
mod mend;
mod mentions;
mod merge;
mod open;
pub mod parcels;
mod placement;
mod precious;
mod quarantine;
mod read;
mod readme;
mod receipt;
mod release;
mod release_word;
mod remnant;
mod retention;
mod row;
mod scan;
pub mod scrub;
pub mod spot;
mod status;
mod stripe;
mod thin;
pub mod worker;

use std::borrow::Cow;
use std::sync::Mutex;

use lavatube_base::sign::{EdSigner, PairPublic};
use lavatube_base::{DepositorId, ObjectId, VaultId};
use lavatube_codes::Code;
use lavatube_format::drive_card::DriveCard;

pub use cards::{CardError, Prepared};
pub use create::{CreateError, NewDrive, NewVault};
pub use drive::{Drive, DriveError, PutMode, ReadingTime, Space};
pub use examine::{Depth, Health, ShardHealth, ShardState};
pub use inbox::{DepositError, StoreError};
pub use lavatube_format::journal::Distrust;
pub use lavatube_format::log::Leaf;
pub use lavatube_format::receipt::Receipt;
pub use lavatube_format::shard::ObjectKind;
pub use log::{LogError, LogSight};
pub use mandate::MandateError;
pub use mend::{MendError, MendReport};
pub use open::{DriveReport, OpenError, OpenReport};
pub use quarantine::Trial;
pub use read::{ReadError, ReadReport};
pub use receipt::{Durable, sign_receipt};
pub use release::{OpenRelease, ReleaseError, Standing};
pub use retention::Kept;
pub use status::{DriveState, DriveStatus, ReadoptError, Status};

use index::{Entry, Index};
use journal::Journal;
use status::Slot;

/// An open vault.
///
/// Reading takes `&self` and may be done from several threads at once; whatever writes takes `&mut self`.
pub struct Vault {
    /// The card of slot 0, or of whichever drive: all but its `drive` counts for all.
    card: DriveCard,
    /// One per drive slot of the card.
    slots: Vec<Slot>,
    code: Code,
    index: Index,
    journal: Journal,
    signer: Option<EdSigner>,
    headers: Mutex<gather::HeaderCache>,
    depositors: std::collections::BTreeMap<DepositorId, PairPublic>,
    /// Slots whose drives have an older edition of the card.
    behind: Vec<usize>,
    /// What is worth more than other packs, as it was when that was last asked.
    precious: Mutex<precious::Precious>,
}

/// What a vault says of an object without looking at a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectEntry {
    /// The object.
    pub id: ObjectId,
    /// What it is.
    pub kind: ObjectKind,
    /// Its bytes.
    pub len: u64,
}

impl ObjectEntry {
    fn of(id: ObjectId, entry: &Entry) -> Self {
        Self { id, kind: entry.kind, len: entry.geometry.object_len() as u64 }
    }
}

impl Vault {
    /// The vault's id.
    pub fn id(&self) -> VaultId {
        self.card.vault
    }

    /// Data and parity shards of a new stripe.
    pub fn code(&self) -> (u8, u8) {
        (self.card.k, self.card.m)
    }

    /// The key that verifies this vault's receipts.
    pub fn vault_key(&self) -> [u8; 32] {
        self.card.vault_key
    }

    /// The authority whose depositors this vault takes manifests from.
    pub fn authority(&self) -> &PairPublic {
        &self.card.authority
    }

    /// All objects, by id.
    pub fn objects(&self) -> impl Iterator<Item = ObjectEntry> + '_ {
        self.entries_from(ObjectId([0; 32])).map(|(id, entry)| ObjectEntry::of(id, &entry))
    }

    /// All objects of a kind, by id. Of any but packs there are few.
    pub fn objects_of(&self, kind: ObjectKind) -> impl Iterator<Item = ObjectEntry> + '_ {
        let packs = (kind == ObjectKind::Pack).then(|| self.objects()).into_iter().flatten();
        let others = self.index.objects.iter().filter(move |_| kind != ObjectKind::Pack);
        packs.chain(others.map(|(id, entry)| ObjectEntry::of(*id, entry))).filter(move |object| object.kind == kind)
    }

    /// What is known of an object, `None` when it is not here.
    pub fn find(&self, id: ObjectId) -> Option<ObjectEntry> {
        let of_remnant = |remnant| Some(ObjectEntry { id, kind: ObjectKind::Pack, ..self.find(remnant)? });
        match self.entry(id) {
            Some(entry) => Some(ObjectEntry::of(id, &entry)),
            // Of the length of what stays of it.
            None => self.index.thin.get(&id).and_then(|remnant| of_remnant(*remnant)),
        }
    }

    /// Whether the object is here, be it only some of a pack (whether it can be read is for [`Vault::examine`] to say).
    pub fn contains(&self, id: ObjectId) -> bool {
        self.has_entry(id) || self.index.thin.contains_key(&id)
    }

    /// The code of an object, which may have been stored when the vault had another.
    fn code_of(&self, entry: &Entry) -> Cow<'_, Code> {
        let (k, m) = (entry.geometry.k(), entry.geometry.m());
        if (k, m) == (self.code.k(), self.code.m()) {
            return Cow::Borrowed(&self.code);
        }
        Cow::Owned(Code::new(k, m).expect("a Geometry is a shape of a code"))
    }
}
