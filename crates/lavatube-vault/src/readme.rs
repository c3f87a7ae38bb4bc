//! The `README.txt` of a drive: plain words for a person who finds it. Part of step 15 of the walk.

use lavatube_format::drive_card::{DriveCard, SlotCard};

/// Its name.
pub(crate) const README: &str = "README.txt";

/// Its text.
pub(crate) fn text(card: &DriveCard) -> String {
    let own = card.slots.iter().find(|s| s.drive == card.drive).map_or("", |s| &s.label);
    let own = if own.is_empty() { String::new() } else { format!(", \"{own}\"") };
    let sisters: String = card.slots.iter().map(line).collect();
    let (all, needed) = (card.slots.iter().filter(|s| !s.retired).count(), usize::from(card.k));
    format!(
        "This is one drive of a lavatube vault: a backup that somebody relies on.\n\
         \n\
         Please do not erase or change anything here, even if the drive seems broken or\n\
         its files damaged: what is left of it can still save the rest.\n\
         \n\
         vault {vault}\n\
         drive {drive}{own}, one of {all}:\n\
         {sisters}\
         \n\
         Every stored object is cut into {k} data and {m} parity pieces on different\n\
         drives. Any {needed} of the {total} pieces of an object give it back, so bring together\n\
         as many of the drives as you can find; {enough}\n\
         \n\
         The contents are encrypted. Without the read key or the printed recovery key\n\
         (it begins with LVT1-) nobody can read them, but anybody can check and mend them.\n\
         \n\
         drive.card   what is said here, for machines\n\
         journal      what was stored, in order\n\
         shards/      the pieces; each says at its start and at its end what it is\n\
         \n\
         To read: the program `lavatube`, or `rescue/rescue.py` of its sources, written\n\
         in Python from docs/FORMAT.md of the same sources, which explains every byte.\n",
        vault = card.vault,
        drive = card.drive,
        k = card.k,
        m = card.m,
        total = usize::from(card.k) + usize::from(card.m),
        enough = match all.checked_sub(usize::from(card.m)) {
            Some(n) if n > 0 => format!("any {n} of the drives are enough for everything."),
            _ => "more are better.".to_owned(),
        },
    )
}

/// One drive of the list: its id, and what is known of it besides.
fn line(slot: &SlotCard) -> String {
    let mut line = format!("  {}", slot.drive);
    if !slot.label.is_empty() {
        line.push_str(&format!("  {}", slot.label));
    }
    let shelf = if slot.shelf.is_empty() { String::new() } else { format!("shelf {}", slot.shelf) };
    let product = [&slot.maker[..], &slot.model].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ");
    let retired = if slot.retired { "retired".to_owned() } else { String::new() };
    let known: Vec<_> = [shelf, product, retired].into_iter().filter(|s| !s.is_empty()).collect();
    if !known.is_empty() {
        line.push_str(&format!(" ({})", known.join(", ")));
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_is_told_by_what_is_known_of_it() {
        let told = |label: &str, shelf: &str, maker: &str, model: &str| {
            let [label, shelf, maker, model] = [label, shelf, maker, model].map(str::to_owned);
            let line =
                line(&SlotCard { drive: lavatube_base::DriveId([7; 16]), label, shelf, maker, model, retired: false });
            line.strip_prefix(&format!("  {}", "07".repeat(16))).unwrap().to_owned()
        };
        assert_eq!(told("d0", "left", "WD", "Red"), "  d0 (shelf left, WD Red)\n");
        assert_eq!(told("d0", "", "", ""), "  d0\n");
        assert_eq!(told("", "", "", "Red"), " (Red)\n");
        assert_eq!(told("d1", "left", "", ""), "  d1 (shelf left)\n");
        assert_eq!(told("", "", "", ""), "\n");
    }
}
