//! `lavatube ls`: what a snapshot holds. Streams: a listing of a million files needs no memory for them.
//!
//! Must not know how a tree is read.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use lavatube_base::hex;
use lavatube_client::layers::LostRange;
use lavatube_format::tree::{Entry, Kind};
use lavatube_node::reader::Session;
use serde_json::json;

use crate::archive::{self, Named, ReadArgs, is_within, lost_in_words};
use crate::errors::{Condition, End, Failure};
use crate::roots::put_path;
use crate::screen::{Screen, written};
use crate::settings::Settings;
use crate::{date, units};

/// List files in a snapshot.
///
/// Prints whole paths, which `cat` and `restore` take after the colon. Folders end in a slash. Without a path it lists
/// the folders that were backed up. Control characters in names are shown as \u{..} or \x...
///
/// JSON fields: snapshot, time, entries [{path, type, size, mode, uid, gid, mtime, target, first_link}], lost [{from,
/// until, reason}], exit. Of what is no UTF-8 the bytes are in path_hex, target_hex, first_link_hex, from_hex, until_hex.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct LsArgs {
    /// A snapshot (latest, latest~1, or the first digits of its id), and a path in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    spec: PathBuf,
    /// With mode, owner, size and time of change
    #[arg(long, short)]
    long: bool,
    /// Everything below, not one level only
    #[arg(long, short = 'R')]
    recursive: bool,
    #[command(flatten)]
    read_key: ReadArgs,
}

const EXAMPLES: &str = "Examples:
  lavatube ls latest
  lavatube ls -l latest:/home/ann/photos
  lavatube ls -R latest~1:photos | grep -i moon
  lavatube ls 3f2a9c1e:photos --json | jq -r '.entries[].path'";

/// Lists it.
///
/// # Errors
/// When the snapshot cannot be read, or has nothing there.
pub fn run(args: &LsArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let reader = archive::open(settings, &args.read_key, "lavatube ls", false)?;
    let session = archive::session(&reader, screen)?;
    let named = archive::named(&session, archive::spec_bytes(&args.spec))?;
    let mut out = Output {
        out: BufWriter::new(std::io::stdout().lock()),
        json: screen.json,
        long: args.long,
        any: false,
        failure: None,
    };
    if screen.json {
        let (id, time) = (named.listed.place.id, date::rfc3339(named.listed.snapshot.time));
        out.write(&format!("{{\"snapshot\":\"{id}\",\"time\":\"{time}\",\"entries\":["));
    }
    let lost = list(&session, &named, args.recursive, &mut out)?;
    let end = if lost.is_empty() { End::Done } else { End::Lost };
    if screen.json {
        let lost: Vec<_> = lost.iter().map(lost_to_json).collect();
        out.write(&format!("],\"lost\":{},\"exit\":{}}}\n", json!(lost), end.status()));
    }
    out.finish()?;
    for range in &lost {
        screen.warn(&format!("cannot be read: {}", lost_in_words(range)));
    }
    Ok(end)
}

/// A lost range as JSON.
pub fn lost_to_json(lost: &LostRange) -> serde_json::Value {
    let mut value = json!({ "until": null, "reason": lost.error.to_string() });
    put_path(&mut value, "from", &lost.from);
    if let Some(until) = &lost.until {
        put_path(&mut value, "until", until);
    }
    value
}

fn list(session: &Session<'_>, named: &Named, deep: bool, out: &mut Output<'_>) -> Result<Vec<LostRange>, Failure> {
    let snapshot = &named.listed.snapshot;
    let path = named.path.as_deref().unwrap_or_default();
    let roots: Vec<&[u8]> = snapshot.paths.iter().map(|p| p.strip_prefix(b"/").unwrap_or(p)).collect();
    // Above the source folders the tree has no entries: list these.
    if !deep && !roots.contains(&path) && roots.iter().any(|r| is_within(r, path)) {
        let mut lost = Vec::new();
        for root in roots.into_iter().filter(|r| is_within(r, path)) {
            lost.extend(session.list(snapshot, root, false, |entry| {
                if entry.path == root {
                    out.entry(&entry);
                }
            })?);
        }
        return Ok(lost);
    }
    let each = |entry: Entry| {
        // A folder that was asked for is not listed in itself.
        if deep || entry.path != path || entry.kind != Kind::Directory {
            out.entry(&entry);
        }
    };
    Ok(session.list(snapshot, path, deep, each)?)
}

struct Output<'o> {
    out: BufWriter<std::io::StdoutLock<'o>>,
    json: bool,
    long: bool,
    any: bool,
    failure: Option<Failure>,
}

impl Output<'_> {
    fn write(&mut self, text: &str) {
        if self.failure.is_some() {
            return;
        }
        if let Err(e) = self.out.write_all(text.as_bytes()) {
            let failure = written(e);
            if failure.condition == Condition::PipeClosed {
                // Nobody reads on. Ending here is as safe as Ctrl-C, and spares reading the rest of a large tree.
                std::process::exit(0);
            }
            self.failure = Some(failure);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let text = match (self.json, self.long) {
            (true, _) if self.any => format!(",{}", to_json(entry)),
            (true, _) => to_json(entry).to_string(),
            (false, true) => format!("{}\n", long(entry)),
            (false, false) => format!("{}\n", plain(entry)),
        };
        self.any = true;
        self.write(&text);
    }

    fn finish(mut self) -> Result<(), Failure> {
        match self.failure {
            Some(failure) => Err(failure),
            None => self.out.flush().map_err(written),
        }
    }
}

fn plain(entry: &Entry) -> String {
    let slash = if entry.kind == Kind::Directory { "/" } else { "" };
    format!("{}{slash}", units::tree_path(&entry.path))
}

fn long(entry: &Entry) -> String {
    let meta = &entry.meta;
    let size = match &entry.kind {
        Kind::File(content) => units::count(content.size),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => format!("{major}, {minor}"),
        _ => "-".into(),
    };
    let mut line = format!(
        "{} {:>5} {:>5} {size:>15}  {}  {}",
        mode(entry),
        meta.uid,
        meta.gid,
        date::table(meta.mtime),
        plain(entry)
    );
    if let Kind::Symlink(target) = &entry.kind {
        line.push_str(&format!(" -> {}", units::name(target)));
    }
    line
}

fn mode(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::File(_) | Kind::Gone => '-',
        Kind::Directory => 'd',
        Kind::Symlink(_) => 'l',
        Kind::Fifo => 'p',
        Kind::CharDevice { .. } => 'c',
        Kind::BlockDevice { .. } => 'b',
        Kind::Socket => 's',
    };
    let bits = entry.meta.mode;
    let mut out = String::from(kind);
    for (shift, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let three = bits >> shift;
        out.push(if three & 4 != 0 { 'r' } else { '-' });
        out.push(if three & 2 != 0 { 'w' } else { '-' });
        out.push(match (three & 1 != 0, bits & special != 0) {
            (true, true) => set,
            (false, true) => unset,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    out
}

fn to_json(entry: &Entry) -> serde_json::Value {
    let (kind, size, target) = match &entry.kind {
        Kind::Gone => ("gone", None, None),
        Kind::File(content) => ("file", Some(content.size), None),
        Kind::Directory => ("directory", None, None),
        Kind::Symlink(target) => ("symlink", None, Some(String::from_utf8_lossy(target))),
        Kind::Fifo => ("fifo", None, None),
        Kind::CharDevice { .. } => ("char-device", None, None),
        Kind::BlockDevice { .. } => ("block-device", None, None),
        Kind::Socket => ("socket", None, None),
    };
    let mut value = json!({
        "path": null,
        "type": kind,
        "size": size,
        "mode": format!("{:04o}", entry.meta.mode),
        "uid": entry.meta.uid,
        "gid": entry.meta.gid,
        "mtime": date::rfc3339_exact(entry.meta.mtime),
        "target": target,
        "first_link": null,
    });
    put_path(&mut value, "path", &entry.path);
    if let Some(first) = &entry.meta.first_link {
        put_path(&mut value, "first_link", first);
    }
    if let Kind::Symlink(target) = &entry.kind
        && std::str::from_utf8(target).is_err()
    {
        value["target_hex"] = hex(target).into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_format::tree::Meta;

    #[test]
    fn modes_look_as_ls_shows_them() {
        let of = |kind, mode| mode_of(kind, mode);
        assert_eq!(of(Kind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(of(Kind::Fifo, 0o644), "prw-r--r--");
        assert_eq!(of(Kind::Socket, 0o6750), "srwsr-s---");
        assert_eq!(of(Kind::Symlink(Vec::new()), 0o4600), "lrwS------");
    }

    fn mode_of(kind: Kind, bits: u32) -> String {
        mode(&Entry { path: Vec::new(), kind, meta: Meta { mode: bits, ..Meta::default() } })
    }
}
