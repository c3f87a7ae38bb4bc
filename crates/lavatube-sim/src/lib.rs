//! Floor 4: the real client, link and vault in one thread, one seed and virtual time.
//!
//! A seed draws a [`World`]: its drives, its source, its hardships, and when who dies. The world lives through rounds of
//! torment, in which nothing may ever be wrong, and a calm, in which all must become well; `invariants/` says what wrong
//! and well are. What fails is found again by its seed. Walks all of docs/WALK.md. Where the plan says so (`link = 1`), the
//! vault is far and everything crosses a link; elsewhere a function call takes its place.
//!
//! | file | is |
//! |---|---|
//! | `chance`, `plan` | the seed: streams of chance, and what a world is like |
//! | `wires`, `book` | clock, trace and fuse; what left the depositor and what was receipted |
//! | `seams/` | source, sink, state, spool, desk, drive, pipeline and far side, with all the faults their contracts allow |
//! | `depositor`, `reader` | the rooms composed as `lavatube-node` composes them |
//! | `link/` | both ends of a link on the real engine, whoever reads over it, and the dark between them |
//! | `atlas` | physical faults, within what redundancy promises |
//! | `world`, `rounds`, `releases`, `inspect` | what there is, what happens, and the onlooker who compares |
//! | `invariants/` | what must hold, one checker a file |
//! | `sabotage` | planted bugs, to show that the simulator sees |

mod atlas;
mod book;
pub mod chance;
mod depositor;
mod inspect;
mod invariants;
mod link;
mod plan;
mod reader;
mod releases;
mod rounds;
mod sabotage;
mod seams;
mod wires;
mod world;

pub use plan::{Plan, SCENARIOS};
pub use sabotage::Sabotage;
pub use wires::{Fuse, Telling, When};
pub use world::World;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a seed is run with.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Rounds of torment.
    pub rounds: u64,
    /// What is planted, if anything.
    pub sabotage: Option<Sabotage>,
    /// How much of the story is kept.
    pub telling: Telling,
}

/// How a world ended.
#[derive(Debug)]
pub struct Ended {
    /// All seam calls that were traced.
    pub calls: u64,
    /// BLAKE3 over them and their outcomes.
    pub trace: [u8; 32],
    /// Snapshots that were reported.
    pub snapshots: usize,
    /// The story, when it was kept.
    pub story: Vec<String>,
    /// What was wrong, if anything was.
    pub wrong: Option<String>,
}

/// Lives the life of `seed` as it is drawn.
pub fn live(seed: u64, settings: Settings) -> Ended {
    live_as(seed, Plan::draw(seed), settings)
}

/// Lives the life of `seed` in a world like `plan`.
pub fn live_as(seed: u64, plan: Plan, settings: Settings) -> Ended {
    run(seed, plan, settings, |world| world.live(settings.rounds))
}

/// Lives through two backups of which the second dies as `fuse` says, and a calm. Says also whether it died.
pub fn live_until(seed: u64, plan: Plan, fuse: Fuse) -> (Ended, bool) {
    let mut died = false;
    let settings = Settings { rounds: 0, sabotage: None, telling: Telling::Nothing };
    let ended = run(seed, plan, settings, |world| {
        died = world.live_until(fuse)?;
        Ok(())
    });
    (ended, died)
}

/// Lives until all drives are put back to an older state, and with `forks` go on from there behind this machine's back.
pub fn live_put_back(seed: u64, plan: Plan, forks: bool) -> Ended {
    let settings = Settings { rounds: 0, sabotage: None, telling: Telling::Nothing };
    run(seed, plan, settings, |world| world.live_put_back(forks))
}

fn run(seed: u64, plan: Plan, settings: Settings, life: impl FnOnce(&mut World) -> Result<(), String>) -> Ended {
    let mut world = match World::new(seed, plan, settings.sabotage, settings.telling) {
        Ok(world) => world,
        Err(e) => {
            let wrong = Some(format!("no world could be made: {e}"));
            return Ended { calls: 0, trace: [0; 32], snapshots: 0, story: Vec::new(), wrong };
        }
    };
    world.wires.tell(|| format!("seed {seed}: {plan:?}"));
    let wrong = match catch_unwind(AssertUnwindSafe(|| life(&mut world))) {
        Ok(verdict) => verdict.err(),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Some(format!("a room panicked: {}", text.unwrap_or_default()))
        }
    };
    let (calls, trace) = world.wires.trace();
    Ended { calls, trace, snapshots: world.reported.len(), story: world.wires.story(), wrong }
}
