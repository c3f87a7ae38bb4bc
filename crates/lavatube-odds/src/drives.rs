//! Drives as they grow old. It must not know codes.

use lavatube_base::Chance;

/// How often drives fail at which age, as factors on their mean rate, a year each; what is older fails as in the last year.
#[derive(Debug, Clone, PartialEq)]
pub struct Ages(Vec<f64>);

impl Ages {
    /// Always the same.
    pub fn flat() -> Self {
        Self(vec![1.0])
    }

    /// A bathtub: some die young, and from the sixth year on more and more do, up to six times as many in the twelfth: 1.4 % become 8 %, within the peaks of 4 to
    /// 14 % that were seen late in drives' lives.
    pub fn bathtub() -> Self {
        Self(vec![1.2, 0.9, 0.8, 0.8, 1.0, 1.4, 1.9, 2.5, 3.2, 4.0, 5.0, 6.0])
    }

    /// These; `None` unless there is one and all are finite and not negative.
    pub fn of(factors: Vec<f64>) -> Option<Self> {
        (!factors.is_empty() && factors.iter().all(|factor| factor.is_finite() && *factor >= 0.0))
            .then_some(Self(factors))
    }

    /// The factor at an age.
    pub fn factor(&self, years: f64) -> f64 {
        let at = (years.max(0.0) as usize).min(self.0.len() - 1);
        self.0[at]
    }
}

/// The drives of a vault: where each is, of whom, and how old.
#[derive(Debug, Clone)]
pub(crate) struct Drives {
    /// When each was put in, in years; `None` while its place is empty.
    pub since: Vec<Option<f64>>,
    /// Places that are to be filled: when, and which.
    pub coming: Vec<(f64, usize)>,
}

impl Drives {
    pub fn new(count: u32) -> Self {
        Self { since: vec![Some(0.0); count as usize], coming: Vec::new() }
    }

    pub fn alive(&self) -> u32 {
        self.since.iter().flatten().count().try_into().unwrap_or(u32::MAX)
    }

    /// Failures a year of all that live.
    pub fn failures(&self, now: f64, yearly: f64, ages: &Ages) -> f64 {
        self.since.iter().flatten().map(|since| yearly * ages.factor(now - since)).sum()
    }

    /// Those that fail by themselves within `step` years; how many.
    pub fn age(
        &mut self,
        now: f64,
        step: f64,
        yearly: f64,
        ages: &Ages,
        replaced_after: Option<f64>,
        chance: &mut Chance,
    ) -> u32 {
        let mut gone = 0;
        for place in 0..self.since.len() {
            let fails = |since: f64| -f64::exp_m1(-yearly * ages.factor(now - since) * step);
            if self.since[place].is_some_and(|since| chance.hits(fails(since))) {
                self.lose(place, now, replaced_after);
                gone += 1;
            }
        }
        gone
    }

    /// One is gone.
    pub fn lose(&mut self, place: usize, now: f64, replaced_after: Option<f64>) {
        self.since[place] = None;
        self.coming.extend(replaced_after.map(|after| (now + after, place)));
    }

    /// New ones are put in whose time has come.
    pub fn replace(&mut self, now: f64) {
        for (at, place) in std::mem::take(&mut self.coming) {
            if at <= now {
                self.since[place] = Some(at);
            } else {
                self.coming.push((at, place));
            }
        }
    }
}
