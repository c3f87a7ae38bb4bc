//! What was measured of a link, on the disk: a next life believes it until it has measured anew.
//!
//! Why: the first packs of a life are sent before any report is home, and whoever believes in the wrong loss then pays a second round.
//! It is a guess for speed and nothing else: one that cannot be read is no guess. It must not know what is sent.

use std::path::PathBuf;

use lavatube_link::{DISPERSION_MAX, LOSS_MAX};

use crate::atomic::{self, IfThere};

/// Loss and bursts of what this end sends, and the file that remembers them.
#[derive(Debug)]
pub(crate) struct Weather {
    path: PathBuf,
    /// Share of datagrams lost, and variance of losses over that of independent ones.
    pub known: Option<(f64, f64)>,
}

impl Weather {
    /// What is remembered in `path`.
    pub(super) fn open(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut words = text.split_whitespace();
        let mut number = |most: f64| words.next()?.parse().ok().filter(|n: &f64| (0.0..=most).contains(n));
        let (loss, dispersion) = (number(LOSS_MAX), number(DISPERSION_MAX));
        Self { path, known: loss.zip(dispersion) }
    }

    /// Remembers what is known now, when it has changed. That it cannot be kept costs a second round at most.
    pub fn keep(&mut self, loss: f64, dispersion: f64) {
        let near = |(l, d): (f64, f64)| {
            (l - loss).abs() <= CHANGED * l.max(LOSS_LEAST) && (d - dispersion).abs() <= CHANGED * d
        };
        if self.known.is_some_and(near) {
            return;
        }
        self.known = Some((loss, dispersion));
        let _ = atomic::write(&self.path, format!("{loss:.6} {dispersion:.3}\n").as_bytes(), IfThere::Replace);
    }
}

/// A change worth a write, and a loss below which there is none.
const CHANGED: f64 = 0.2;
const LOSS_LEAST: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_believed_and_nonsense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Weather::open(dir.path().join("weather"));
        assert_eq!(open().known, None);
        open().keep(0.05, 12.5);
        assert_eq!(open().known, Some((0.05, 12.5)));
        let mut weather = open();
        weather.keep(0.055, 12.0);
        assert_eq!(open().known, Some((0.05, 12.5)), "much the same");
        weather.keep(0.08, 12.0);
        assert_eq!(open().known, Some((0.08, 12.0)));
        for nonsense in ["", "0.1", "nan 1", "-1 1", "0.7 1", "0.1 inf", "x y"] {
            std::fs::write(dir.path().join("weather"), nonsense).unwrap();
            assert_eq!(open().known, None, "{nonsense}");
        }
    }
}
