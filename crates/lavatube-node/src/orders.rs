//! Work orders: what hands could do for a vault, who does it, and whether it helped.
//!
//! Which orders there are follows from how the vault is, each time anew ([`list`]); what is kept, in the file `orders` of the vault's folder, is
//! only who has claimed one, how far they are, and how earlier ones ended ([`Book`]). That one is done nobody is believed: the vault looks, takes
//! in what came, repairs onto it, and the order is over when there is no reason for it any more. Step 18 of the walk. It must not know who
//! asks, or by which way.

mod book;
mod knocking;
mod list;
mod steward;

pub use book::{Book, BookError, Entry, Stage};
pub use list::{Order, Seen, Task, list, look};
pub use steward::{Board, Steward, StewardPlan, check_now};
pub(crate) use steward::{Home, drive_spec};
