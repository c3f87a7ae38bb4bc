//! The two small files of an end of a link, each with a copy beside it: who is at the other end, and the key of this one.
//!
//! One that is lost or has a flipped bit is had from its copy; whoever turns the link makes it what it was. What a person changed counts. It must not
//! know what is set, nor what the key is for.

use std::path::Path;

use lavatube_base::hex;
use lavatube_format::key_file::{KeyFile, KeyKind, LinkBody};
use lavatube_seal::LinkKey;
use zeroize::Zeroizing;

use super::{LinkError, LinkFile, io_error, unfit};
use crate::atomic::{self, IfThere};
use crate::copies;
use crate::embedded::LINK_FILE;
use crate::keys_io::{self, KeyFileError};

/// The key of an end of a link.
pub(super) const KEY_FILE: &str = "link.key";

/// Whether it is said who is at the other end.
pub(super) fn is_paired(folder: &Path) -> bool {
    copies::exists(&folder.join(LINK_FILE))
}

/// Who is at the other end, and what a person has set.
pub(super) fn read_file(folder: &Path) -> Result<LinkFile, LinkError> {
    let path = folder.join(LINK_FILE);
    let text = copies::read(&path).map_err(|e| io_error(&path, &e))?;
    let text = text.ok_or_else(|| LinkError::NotPaired(folder.to_owned()))?;
    toml::from_str(&text).map_err(|e| unfit(&path, &e))
}

pub(super) fn write_file(folder: &Path, file: &LinkFile) -> Result<(), LinkError> {
    let path = folder.join(LINK_FILE);
    let text = toml::to_string(file).map_err(|e| unfit(&path, &e))?;
    let text = format!("# The other end of the link of this folder. It holds no secret.\n{text}");
    copies::write(&path, &text, IfThere::Replace).map_err(|e| io_error(&path, &e))
}

/// Whether there is a key, or its copy.
pub(super) fn has_key(folder: &Path) -> bool {
    copies::exists(&folder.join(KEY_FILE))
}

/// Writes a new key and its copy.
pub(super) fn write_key(folder: &Path, text: &str) -> Result<(), KeyFileError> {
    let path = folder.join(KEY_FILE);
    keys_io::write_key_text(&path, text)?;
    // Without a copy whoever turns the link makes one.
    let _ = atomic::write(&copies::copy_of(&path), text.as_bytes(), IfThere::Replace);
    Ok(())
}

/// The key, from its file, or from the copy of that.
pub(super) fn read_key(folder: &Path) -> Result<LinkKey, LinkError> {
    right_key(folder).map(|(key, _)| key)
}

/// Of the key and its copy the one that `link.toml` names; where that names none, the key before its copy.
fn right_key(folder: &Path) -> Result<(LinkKey, Zeroizing<String>), LinkError> {
    let path = folder.join(KEY_FILE);
    let main = key_in(&path);
    // Rights that are too wide are for a person to think about.
    if matches!(&main, Err(LinkError::Key(KeyFileError::Exposed(_)))) {
        return main;
    }
    let named = read_file(folder).ok().and_then(|file| file.own);
    let is_named = |(key, _): &(LinkKey, _)| named.as_ref().is_none_or(|own| *own == hex(key.public()));
    match (main, key_in(&copies::copy_of(&path))) {
        (Ok(main), _) if is_named(&main) => Ok(main),
        (_, Ok(copy)) if is_named(&copy) => Ok(copy),
        (main, _) => main,
    }
}

fn key_in(path: &Path) -> Result<(LinkKey, Zeroizing<String>), LinkError> {
    let text = keys_io::read_key_text(path)?;
    let file = KeyFile::decode(&text).map_err(|e| unfit(path, &e))?;
    let body = lavatube_seal::lock::unlock(&file, KeyKind::Link, None)?;
    let body = LinkBody::decode(&body).map_err(|e| unfit(path, &e))?;
    Ok((LinkKey::new(&body.x25519)?, text))
}

/// Makes both files and their copies what they should be. Best effort: the next one does it again.
pub(super) fn heal(folder: &Path) {
    copies::heal(&folder.join(LINK_FILE));
    let Ok((_, text)) = right_key(folder) else { return };
    let path = folder.join(KEY_FILE);
    let is_named = read_file(folder).is_ok_and(|file| file.own.is_some());
    for file in [copies::copy_of(&path), path] {
        // Where nothing tells which of two keys is right, both stay.
        let differs = !keys_io::read_key_text(&file).is_ok_and(|own| *own == *text);
        if differs && (is_named || key_in(&file).is_err()) {
            let _ = atomic::write(&file, text.as_bytes(), IfThere::Replace);
        }
    }
}
