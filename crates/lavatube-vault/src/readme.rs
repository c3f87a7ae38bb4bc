//! The `README.txt` of a drive: plain words for a person who finds it. Part of step 15 of the walk.

use lavatube_format::drive_card::DriveCard;

/// Its name.
pub(crate) const README: &str = "README.txt";

/// Its text.
pub(crate) fn text(card: &DriveCard) -> String {
    let own = card.slots.iter().find(|s| s.drive == card.drive);
    let sisters: String = card
        .slots
        .iter()
        .map(|s| format!("  {}  {} (shelf {}, {} {})\n", s.drive, s.label, s.shelf, s.maker, s.model))
        .collect();
    let (all, needed) = (card.slots.len(), usize::from(card.k));
    format!(
        "This is one drive of a lavatube vault: a backup that somebody relies on.\n\
         \n\
         Please do not erase or change anything here, even if the drive seems broken or\n\
         its files damaged: what is left of it can still save the rest.\n\
         \n\
         vault {vault}\n\
         drive {drive}, \"{label}\", one of {all}:\n\
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
        label = own.map_or("", |s| &s.label),
        k = card.k,
        m = card.m,
        total = usize::from(card.k) + usize::from(card.m),
        enough = match all.checked_sub(usize::from(card.m)) {
            Some(n) if n > 0 => format!("any {n} of the drives are enough for everything."),
            _ => "more are better.".to_owned(),
        },
    )
}
