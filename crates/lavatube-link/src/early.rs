//! Symbols that came before the announcement of their transfer: kept a while, because datagrams overtake each other and the first
//! one may be lost.
//!
//! It must not know blocks: nobody has said yet which one a symbol is of. Step 11 of the walk.

use std::collections::VecDeque;

use lavatube_base::limits::EARLY_MAX;
use lavatube_format::btpu::Symbol;

/// Symbols of transfers that were not announced, the oldest first.
#[derive(Debug, Default)]
pub struct Early(VecDeque<Kept>);

#[derive(Debug)]
struct Kept {
    transfer: u32,
    repair: bool,
    number: u32,
    bytes: Vec<u8>,
}

impl Early {
    /// Keeps a symbol; the oldest one goes where there are too many.
    pub fn keep(&mut self, symbol: &Symbol<'_>) {
        if self.0.len() >= EARLY_MAX {
            self.0.pop_front();
        }
        let Symbol { transfer, repair, number, bytes } = *symbol;
        self.0.push_back(Kept { transfer, repair, number, bytes: bytes.to_vec() });
    }

    /// Shows the symbols of a transfer and forgets them.
    pub fn take(&mut self, transfer: u32, mut show: impl FnMut(&Symbol<'_>)) {
        // Nearly always there are none.
        if self.0.is_empty() {
            return;
        }
        self.0.retain(|kept| {
            let Kept { transfer: of, repair, number, bytes } = kept;
            if *of == transfer {
                show(&Symbol { transfer, repair: *repair, number: *number, bytes });
            }
            *of != transfer
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_kept_as_the_limit_says_and_each_is_shown_once() {
        let mut early = Early::default();
        for number in 0..=EARLY_MAX as u32 {
            early.keep(&Symbol { transfer: number % 2, repair: false, number, bytes: &[7] });
        }
        let mut numbers = Vec::new();
        early.take(0, |symbol| numbers.push(symbol.number));
        assert_eq!(numbers, (1..=EARLY_MAX as u32 / 2).map(|n| 2 * n).collect::<Vec<_>>(), "all but the oldest");
        early.take(0, |_| panic!("shown twice"));
        let mut rest = 0;
        early.take(1, |_| rest += 1);
        assert_eq!(rest, EARLY_MAX / 2);
    }
}
