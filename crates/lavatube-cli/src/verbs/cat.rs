//! `lavatube cat`: one file's content to standard output. Must not know how it is fetched.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde_json::json;

use crate::archive::{self, ReadArgs};
use crate::errors::{Condition, End, Failure};
use crate::roots::with_path;
use crate::screen::{Screen, written};
use crate::settings::Settings;

/// Write one file's content to standard output.
///
/// Every piece is verified before it is written. That the pieces make up the file that was read is known at the end: an
/// exit status other than 0 means that the output is not to be used.
///
/// JSON fields (on standard error, since standard output has the content): snapshot, path, bytes, exit. The bytes of a
/// path that is no UTF-8 are in path_hex.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CatArgs {
    /// A snapshot (latest, latest~1, or the first digits of its id), and a file in it
    #[arg(value_name = "SNAPSHOT:PATH")]
    spec: PathBuf,
    #[command(flatten)]
    read_key: ReadArgs,
}

const EXAMPLES: &str = "Examples:
  lavatube cat latest:/home/ann/notes.txt
  lavatube cat latest~3:photos/moon.raw > moon.raw";

/// Writes it.
///
/// # Errors
/// When the file is not there, not whole, or cannot be written.
pub fn run(args: &CatArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let reader = archive::open(settings, &args.read_key, "lavatube cat", false)?;
    let session = archive::session(&reader, screen)?;
    let named = archive::named(&session, archive::spec_bytes(&args.spec))?;
    let Some(path) = named.path else {
        return Err(Failure::new(Condition::Usage, "cat needs a file: SNAPSHOT:PATH")
            .hint("`lavatube ls latest` shows what there is"));
    };
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let bytes = session.cat(&named.listed.snapshot, &path, &mut out)?;
    out.flush().map_err(written)?;
    if screen.json {
        let id = named.listed.place.id.to_string();
        screen.note(&with_path(&path, json!({ "snapshot": id, "bytes": bytes, "exit": 0 })).to_string());
    }
    Ok(End::Done)
}
