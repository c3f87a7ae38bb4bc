//! What a world is like: drawn from its seed, or fixed by a scenario file.
//!
//! The seed also draws which faults exist at all, so that some worlds are only crashes and some only rot. A scenario
//! (`scenarios/*.toml`) fixes some of it; its lines are `name = number`. It must not know how faults come about.

use crate::chance::Chance;

/// The scenarios by name.
pub const SCENARIOS: &[(&str, &str)] = &[
    ("crashes", include_str!("../../../scenarios/crashes.toml")),
    ("rot", include_str!("../../../scenarios/rot.toml")),
    ("away", include_str!("../../../scenarios/away.toml")),
    ("restless", include_str!("../../../scenarios/restless.toml")),
    ("losses", include_str!("../../../scenarios/losses.toml")),
    ("link", include_str!("../../../scenarios/link.toml")),
    ("releases", include_str!("../../../scenarios/releases.toml")),
    ("releases_far", include_str!("../../../scenarios/releases_far.toml")),
    ("beyond_promise", include_str!("../../../scenarios/beyond_promise.toml")),
];

/// Shape, habits and hardships of a world. Likelihoods are per thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Data shards.
    pub k: u8,
    /// Parity shards.
    pub m: u8,
    /// Drives beyond k + m. With these, where a manifest lies hangs on a random signature, and a run does not repeat
    /// to the letter.
    pub spare: u8,
    /// Nanoseconds between two ticks of the source's clock.
    pub tick: u64,
    /// Changes of the source per thousand calls of a walk.
    pub restless: u64,
    /// Runs that die.
    pub crash: u64,
    /// Runs in which one call fails.
    pub fault: u64,
    /// Backups during which too few drives are there.
    pub away: u64,
    /// Backups during which a drive is missing.
    pub missing: u64,
    /// Backups during which a drive dies, is full or fails to sync.
    pub moods: u64,
    /// Rounds in which drives are damaged.
    pub damage: u64,
    /// Rounds with a repair.
    pub repair: u64,
    /// Rounds in which the machine's state is lost.
    pub loss: u64,
    /// Rounds in which snapshots are forgotten, or what only forgotten ones need is released. No seed draws it: that is a scenario's.
    pub release: u64,
    /// Whether damage may go beyond what redundancy promises: 0 or 1.
    pub beyond_promise: u64,
    /// Whether the vault is far, at the other end of a link: 0 or 1. What the link is like is drawn apart.
    pub link: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut chance = Chance::named(seed, "plan", 0);
        let (k, m) = *chance.pick(&[(1, 1), (2, 1), (2, 2), (4, 2), (3, 1), (1, 2), (2, 0)]);
        let spare = if chance.per_mille(200) { 1 + u8::try_from(chance.below(3)).unwrap_or(0) } else { 0 };
        let mut some = |values: &[u64]| *chance.pick(values);
        Self {
            k,
            m,
            spare,
            tick: some(&[1, 4_000_000, 10_000_000]),
            restless: some(&[0, 0, 4, 25]),
            crash: some(&[0, 300, 600, 900]),
            fault: some(&[0, 0, 150, 400]),
            away: some(&[0, 100, 300]),
            missing: some(&[0, 200]),
            moods: some(&[0, 0, 250]),
            damage: some(&[0, 300, 700]),
            repair: some(&[150, 500]),
            loss: some(&[0, 0, 120]),
            release: 0,
            beyond_promise: 0,
            link: 0,
        }
    }

    /// The plan of a seed with what the lines of a scenario fix.
    ///
    /// # Errors
    /// The line that is none.
    pub fn of_scenario(seed: u64, text: &str) -> Result<Self, String> {
        let mut plan = Self::draw(seed);
        for line in text.lines().map(|l| l.split('#').next().unwrap_or("").trim()).filter(|l| !l.is_empty()) {
            let wrong = || format!("{line:?} is no line of a scenario");
            let (name, value) = line.split_once('=').ok_or_else(wrong)?;
            let value: u64 = value.trim().parse().map_err(|_| wrong())?;
            let small = || u8::try_from(value).map_err(|_| wrong());
            match name.trim() {
                "k" => plan.k = small()?,
                "m" => plan.m = small()?,
                "spare" => plan.spare = small()?,
                "tick" => plan.tick = value,
                "restless" => plan.restless = value,
                "crash" => plan.crash = value,
                "fault" => plan.fault = value,
                "away" => plan.away = value,
                "missing" => plan.missing = value,
                "moods" => plan.moods = value,
                "damage" => plan.damage = value,
                "repair" => plan.repair = value,
                "loss" => plan.loss = value,
                "release" => plan.release = value,
                "beyond_promise" => plan.beyond_promise = value,
                "link" => plan.link = value,
                _ => return Err(wrong()),
            }
        }
        Ok(plan)
    }

    /// Number of drives.
    pub fn drives(&self) -> usize {
        usize::from(self.k) + usize::from(self.m) + usize::from(self.spare)
    }
}
