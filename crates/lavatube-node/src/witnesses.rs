//! Witnesses on this machine: the book of one (its key, and what it has signed), and a depositor's requests and what came of
//! them.
//!
//! All of it is files that go from hand to hand. It must not know when a witness may sign. Step 18 of the walk.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lavatube_base::limits::CHECKPOINT_LEN_MAX;
use lavatube_base::sign::EdSigner;
use lavatube_base::{VaultId, hex};
use lavatube_client::far::{Far, FarError, LogWord, Signer};
use lavatube_client::log::{Inquiry, Verdict};
use lavatube_client::witness::{self, Unwitnessed};
use lavatube_format::checkpoint::{SignedCheckpoint, origin};
use lavatube_format::key_file::Secret;
use lavatube_format::log::Question;
use lavatube_format::witness::{KeyKind, Request, VerifierKey, is_name};
use zeroize::Zeroizing;

use crate::atomic::{self, IfThere};
use crate::depositor::{DepositorError, Places, state_to_read};
use crate::embedded::VaultError;
use crate::far_vault::Asking;
use crate::keys_io::{self, KeyFileError};
use crate::lock::{Lock, LockError, Mode};
use crate::reader::Side;
use crate::{clock, entropy, link_folder};

/// Why a witness did nothing.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// It must not sign.
    #[error(transparent)]
    Unwitnessed(#[from] Unwitnessed),
    /// Its key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Someone else writes into the book.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no entropy for a key.
    #[error(transparent)]
    Entropy(#[from] entropy::EntropyError),
    /// A file of the book.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The book or what was asked makes no sense.
    #[error("{0}")]
    Unfit(String),
}

/// What a witness signed.
#[derive(Debug)]
pub struct Signed {
    /// The checkpoint, with its signature.
    pub note: SignedCheckpoint,
    /// What it had seen before.
    pub before: Option<u64>,
}

/// The book of a witness: a folder with its key and, for each vault, the vault's key and the latest checkpoint it signed.
pub struct Book {
    folder: PathBuf,
    signer: EdSigner,
    name: String,
    _lock: Lock,
}

impl Book {
    /// Opens the book in `folder`; a new one is made for a witness called `name`.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn open(folder: &Path, name: Option<&str>, wait: Duration) -> Result<Self, BookError> {
        let path = folder.join(KEY);
        let io = |source| BookError::Io { path: folder.to_owned(), source };
        if !path.exists() {
            let name = name.filter(|name| is_name(name));
            let name = name.ok_or_else(|| {
                BookError::Unfit(format!("{} has no witness yet, and needs a name without spaces", folder.display()))
            })?;
            fs::create_dir_all(folder).map_err(io)?;
            let seed = Zeroizing::new(entropy::bytes::<32>()?);
            let digits = Zeroizing::new(hex(&seed[..]));
            let text = Zeroizing::new(format!("{HEAD}{name} {}\n", digits.as_str()));
            keys_io::write_key_text(&path, &text)?;
        }
        let lock = Lock::acquire(&folder.join("lock"), "lavatube log witness", Mode::Exclusive, wait)?;
        let text = keys_io::read_key_text(&path)?;
        let unfit = || BookError::Unfit(format!("{} is no key of a witness", path.display()));
        let (name, seed) =
            text.trim_end().strip_prefix(HEAD).and_then(|rest| rest.split_once(' ')).ok_or_else(unfit)?;
        let seed = seed.parse::<lavatube_base::ObjectId>().map(|id| Secret::new(id.0)).map_err(|_| unfit())?;
        let signer = EdSigner::from_seed(seed.bytes()).map_err(|_| unfit())?;
        Ok(Self { folder: folder.to_owned(), signer, name: name.to_owned(), _lock: lock })
    }

    /// Its public key.
    pub fn key(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), kind: KeyKind::Cosignature, key: self.signer.public() }
    }

    /// Signs the checkpoint in `request`, of the vault whose key is `vault` (needed the first time), if it may.
    ///
    /// # Errors
    /// [`BookError`]; what was seen stays what it was.
    pub fn sign(&self, request: &Request, vault: Option<&VerifierKey>) -> Result<Signed, BookError> {
        let id = request.note.checkpoint.vault;
        let key = self.vault_key(id, vault)?;
        let before = self.seen(id)?;
        let seen = before.as_ref().map(|note| (note.checkpoint.size, note.checkpoint.root));
        if let Err(why) = witness::judge(request, &key, seen) {
            if matches!(why, Unwitnessed::Forked { .. }) {
                // What was shown is evidence: it has the vault's signature.
                self.write(&format!("{id}.forked-{}", clock::wall_now().s), request.encode().as_bytes())?;
            }
            return Err(why.into());
        }
        let now = u64::try_from(clock::wall_now().s).unwrap_or(0);
        let note = request.note.cosign(&self.name, &self.signer, now);
        let note = note.map_err(|e| BookError::Unfit(e.to_string()))?;
        // Before the signature leaves.
        self.write(&format!("{id}.seen"), note.note().as_bytes())?;
        Ok(Signed { note, before: seen.map(|(size, _)| size) })
    }

    /// The key of a vault: what the book has, or what it is given the first time.
    fn vault_key(&self, id: VaultId, given: Option<&VerifierKey>) -> Result<[u8; 32], BookError> {
        let name = format!("{id}.key");
        let own = |key: &VerifierKey| key.name == origin(id) && key.kind == KeyKind::Note;
        let known = self.read(&name)?.and_then(|text| VerifierKey::parse(&text).ok()).filter(own);
        match (known, given.filter(|key| own(key))) {
            (Some(known), given) if given.is_none_or(|given| *given == known) => Ok(known.key),
            (Some(_), _) => Err(BookError::Unfit(format!("this witness knows vault {id} by another key"))),
            (None, Some(given)) => {
                self.write(&name, format!("{}\n", given.line()).as_bytes())?;
                Ok(given.key)
            }
            (None, None) => Err(BookError::Unfit(format!(
                "this witness does not know vault {id} yet: the line with its key (`lavatube log request` prints it) is needed once"
            ))),
        }
    }

    fn seen(&self, id: VaultId) -> Result<Option<SignedCheckpoint>, BookError> {
        let name = format!("{id}.seen");
        let Some(text) = self.read(&name)? else { return Ok(None) };
        // Whoever does not know what he has seen must not sign.
        let note = SignedCheckpoint::decode(text.as_bytes()).ok().filter(|note| note.cosigned(&self.key()).is_ok());
        note.map(Some).ok_or_else(|| BookError::Unfit(format!("{} is damaged", self.folder.join(name).display())))
    }

    fn read(&self, name: &str) -> Result<Option<String>, BookError> {
        let path = self.folder.join(name);
        let fail = |source| BookError::Io { path: path.clone(), source };
        let file = match fs::File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(fail)?,
        };
        let mut text = String::new();
        file.take(CHECKPOINT_LEN_MAX as u64 + 1).read_to_string(&mut text).map_err(fail)?;
        Ok(Some(text))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BookError> {
        let path = self.folder.join(name);
        atomic::write(&path, bytes, IfThere::Replace).map_err(|source| BookError::Io { path, source })
    }
}

/// A request to witnesses, and the vault's key for those who do not know it.
#[derive(Debug)]
pub struct Asked {
    /// What goes to the witness.
    pub request: Request,
    /// The vault's key, as a line.
    pub vault: VerifierKey,
}

/// How far a trusted witness has signed, and whether the log goes on from there.
#[derive(Debug)]
pub struct Standing {
    /// Who.
    pub witness: VerifierKey,
    /// The size it has signed, and when; `None` when it never has.
    pub signed: Option<(u64, u64)>,
    /// Whether the log as it is now goes on from that; `None` when the vault could not be asked.
    pub goes_on: Option<bool>,
}

/// Whether signatures of any witness are asked for here.
///
/// # Errors
/// When the state cannot be read.
pub fn any_trusted(places: &Places) -> Result<bool, DepositorError> {
    let state = state_to_read(places)?;
    Ok(!state.map_or(Ok(Vec::new()), |state| witness::trusted(&state))?.is_empty())
}

/// A vault that is opened to be asked for its log.
pub struct Asker {
    side: Side,
    signer: Signer,
}

impl Asker {
    /// Opens the vault of `places`.
    ///
    /// # Errors
    /// As [`Side::open`].
    pub fn open(places: &Places, command: &str, wait: Duration) -> Result<Self, DepositorError> {
        // Who only reads a vault on this machine gets no signature.
        let sign = !link_folder::is_far(&places.vault);
        let side = Side::open(places, command, sign, Asking::default(), wait)?;
        let signer = match &side {
            Side::Here(holding) => holding.vault.signer(),
            Side::Far(vault) => vault.signer(),
        };
        Ok(Self { side, signer })
    }

    /// A request to a witness that has seen a log of `old` entries; of none named, what is kept of it says that.
    ///
    /// # Errors
    /// When the vault does not sign now, is not what it was, or was never as long.
    pub fn request(&self, old: Option<u64>, of: Option<&VerifierKey>) -> Result<Asked, DepositorError> {
        let state = self.side.state();
        let away = |text: String| DepositorError::Vault(VaultError::Unsigned(text));
        let known = of.map(|witness| witness::witnessed(state, &self.signer, witness)).transpose()?.flatten();
        let old = old.unwrap_or_else(|| known.map_or(0, |(note, _)| note.checkpoint.size));
        let nonce = entropy::bytes().map_err(VaultError::from)?;
        let inquiry = Inquiry::new(state, self.signer, nonce)?;
        // What is not believed here is shown to no witness.
        let word = self.ask(&inquiry.question).map_err(|e| away(e.to_string()))?;
        match inquiry.conclude(state, &word, clock::wall_now())? {
            Verdict::Sound(contact) if contact.is_signed() => {}
            Verdict::Sound(_) => return Err(away("too few of its drives are there".into())),
            Verdict::Alarm(alarm) => return Err(away(alarm.to_string())),
            Verdict::Unknown(why) => return Err(away(why)),
        }
        let question = Question { nonce: entropy::bytes().map_err(VaultError::from)?, known: old, objects: Vec::new() };
        let LogWord::Signed(answer) = self.ask(&question).map_err(|e| away(e.to_string()))? else {
            return Err(away("it gave no signature".into()));
        };
        let note = SignedCheckpoint::decode(&answer.note).map_err(|e| away(e.to_string()))?;
        let proof = answer.consistency.ok_or_else(|| away(format!("its log never had {old} entries")))?;
        let vault = VerifierKey { name: origin(self.signer.vault), kind: KeyKind::Note, key: self.signer.key };
        Ok(Asked { request: Request { old, proof, note }, vault })
    }

    fn ask(&self, question: &Question) -> Result<LogWord, FarError> {
        match &self.side {
            Side::Here(holding) => holding.vault.log(question),
            Side::Far(vault) => vault.log(question),
        }
    }

    /// How far each trusted witness has signed, and whether the log goes on from there.
    ///
    /// # Errors
    /// When the state fails.
    pub fn standing(&self) -> Result<Vec<Standing>, DepositorError> {
        let state = self.side.state();
        let mut out = Vec::new();
        for key in witness::trusted(state)? {
            let Some((note, time)) = witness::witnessed(state, &self.signer, &key)? else {
                out.push(Standing { witness: key, signed: None, goes_on: None });
                continue;
            };
            let (size, root) = (note.checkpoint.size, note.checkpoint.root);
            let nonce = entropy::bytes().map_err(VaultError::from)?;
            let word = self.ask(&Question { nonce, known: size, objects: Vec::new() });
            let goes_on = word.ok().and_then(|word| witness::goes_on(&word, &self.signer, size, &root));
            out.push(Standing { witness: key, signed: Some((size, time)), goes_on });
        }
        Ok(out)
    }

    /// Keeps a checkpoint that came back from witnesses.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn keep(&self, note: &SignedCheckpoint) -> Result<Vec<(VerifierKey, u64)>, DepositorError> {
        Ok(witness::keep(self.side.state(), &self.signer, note)?)
    }

    /// Asks for a witness's signatures from now on, or not any more.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn trust(&self, key: &VerifierKey, is_trusted: bool) -> Result<(), DepositorError> {
        Ok(witness::trust(self.side.state(), key, is_trusted)?)
    }
}

const KEY: &str = "witness.key";
const HEAD: &str = "lavatube witness ";
