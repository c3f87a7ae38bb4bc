use super::*;

/// A bottleneck in virtual time, a millisecond at a time: a queue with tail drop, weather behind it, and perhaps a TCP flow beside us.
struct Bottleneck {
    rate_bit_s: f64,
    buffer: Duration,
    light: Duration,
    loss: f64,
    word: u64,
    /// Whose packet waits, and when it was sent.
    queue: VecDeque<(bool, u64)>,
    credit: f64,
}

/// What came of a run.
#[derive(Debug)]
struct Outcome {
    /// Shares of the link in its last half, ours and TCP's.
    ours: f64,
    tcp: f64,
    /// Share of ours that the queue dropped then.
    dropped: f64,
    /// How long packets waited then: at the middle, and at the worst of a hundred.
    waited_ms: u64,
    waited_long_ms: u64,
}

/// Reno: one packet more each round trip, half at a loss.
struct Tcp {
    window: f64,
    threshold: f64,
    under_way: u64,
    halved_at: u64,
    /// Answers under way: when they arrive, and whether the packet was lost.
    answers: VecDeque<(u64, bool, u64)>,
}

const PACKET: usize = 1500;

impl Bottleneck {
    fn new(mbit_s: f64, buffer_ms: u64, light_ms: u64, loss: f64) -> Self {
        let (buffer, light) = (Duration::from_millis(buffer_ms), Duration::from_millis(light_ms));
        Self { rate_bit_s: mbit_s * 1e6, buffer, light, loss, word: 7, queue: VecDeque::new(), credit: 0.0 }
    }

    fn hits(&mut self) -> bool {
        self.word = self.word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.word >> 11) as f64 / (1u64 << 53) as f64) < self.loss
    }

    #[expect(clippy::too_many_lines, reason = "a millisecond from its beginning to its end")]
    fn run(&mut self, seconds: u64, with_tcp: bool) -> Outcome {
        let light = self.light.as_millis() as u64;
        let at = |ms: u64| Instant(ms * 1_000_000);
        let mut governor = Governor::new(10_000_000_000, 0.01, at(0));
        let mut tcp = Tcp { window: 10.0, threshold: 1e9, under_way: 0, halved_at: 0, answers: VecDeque::new() };
        let room = (self.rate_bit_s * self.buffer.as_secs_f64() / (PACKET * 8) as f64) as usize + 1;
        let (mut budget, mut sent, mut counter) = (0.0, VecDeque::new(), 0u64);
        // What arrives there: when, and which. What is reported: when, horizon, its sending, its arrival, and how many came.
        let (mut arriving, mut reports) = (VecDeque::<(u64, u64, u64)>::new(), VecDeque::new());
        let (mut came, mut horizon, mut last) = (0u64, (0, 0, 0), (0u64, 0u64));
        let (mut ours, mut theirs, mut dropped, mut offered) = (0u64, 0u64, 0u64, 0u64);
        let mut waits = Vec::new();
        for ms in 0..seconds * 1000 {
            let late = ms >= seconds * 500;
            budget = (budget + governor.rate_bit_s() as f64 / 1000.0).min(64.0 * (PACKET * 8) as f64);
            while budget >= (PACKET * 8) as f64 {
                budget -= (PACKET * 8) as f64;
                governor.sent(PACKET);
                counter += 1;
                offered += u64::from(late);
                if self.queue.len() < room {
                    sent.push_back(counter);
                    self.queue.push_back((true, ms));
                } else {
                    dropped += u64::from(late);
                }
            }
            while with_tcp && (tcp.under_way as f64) < tcp.window {
                tcp.under_way += 1;
                if self.queue.len() < room {
                    self.queue.push_back((false, ms));
                } else {
                    tcp.answers.push_back((
                        ms + 2 * light + self.queue.len() as u64 * 12_000_000 / self.rate_bit_s as u64,
                        true,
                        ms,
                    ));
                }
            }
            self.credit += self.rate_bit_s / 1000.0;
            while self.credit >= (PACKET * 8) as f64
                && let Some((is_ours, since)) = self.queue.pop_front()
            {
                self.credit -= (PACKET * 8) as f64;
                let lost = self.hits();
                if is_ours {
                    let number = sent.pop_front().unwrap();
                    ours += u64::from(late);
                    if late {
                        waits.push(ms - since);
                    }
                    if !lost {
                        arriving.push_back((ms + light, number, since));
                    }
                } else {
                    theirs += u64::from(late);
                    tcp.answers.push_back((ms + 2 * light, lost, since));
                }
            }
            if self.queue.is_empty() {
                self.credit = 0.0;
            }
            while let Some((_, number, since)) = arriving.pop_front_if(|(at, ..)| *at <= ms) {
                came += 1;
                horizon = (number, since, ms);
            }
            if ms % 50 == 0 && horizon.0 > 0 {
                reports.push_back((ms + light, horizon, came));
            }
            while let Some((_, (number, since, arrived), came)) = reports.pop_front_if(|(at, ..)| *at <= ms) {
                if number > last.0 {
                    let round_trip = Some(Duration::from_millis(arrived - since + light));
                    let heard =
                        Heard { arrived: at(arrived), round_trip, passed: number - last.0, came: came - last.1 };
                    governor.heard(heard, at(ms));
                    last = (number, came);
                }
            }
            tcp.turn(ms, light);
        }
        waits.sort_unstable();
        let carried = self.rate_bit_s * seconds as f64 / 2.0 / (PACKET * 8) as f64;
        Outcome {
            ours: ours as f64 / carried,
            tcp: theirs as f64 / carried,
            dropped: dropped as f64 / offered.max(1) as f64,
            waited_ms: waits.get(waits.len() / 2).copied().unwrap_or(0),
            waited_long_ms: waits.get(waits.len() * 99 / 100).copied().unwrap_or(0),
        }
    }
}

impl Tcp {
    fn turn(&mut self, ms: u64, light: u64) {
        while let Some((_, lost, since)) = self.answers.pop_front_if(|(at, ..)| *at <= ms) {
            self.under_way -= 1;
            if !lost {
                self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
            } else if since >= self.halved_at {
                self.window = (self.window / 2.0).max(2.0);
                (self.threshold, self.halved_at) = (self.window, ms.max(2 * light));
            }
        }
    }
}

#[test]
fn the_table_is_the_drawing() {
    use Happening::{Crowded, CrowdedForLong, Drained};
    use State::{Competing, Starting, Steady};
    let drawn = [(Starting, Crowded, Steady), (Steady, CrowdedForLong, Competing), (Competing, Drained, Steady)];
    for state in [Starting, Steady, Competing] {
        for happening in [Crowded, CrowdedForLong, Drained] {
            let arrow = drawn.iter().find(|(from, what, _)| (*from, *what) == (state, happening));
            assert_eq!(state.next(happening), arrow.map_or(state, |(_, _, to)| *to), "{state:?} {happening:?}");
        }
    }
}

#[test]
fn alone_it_fills_the_link_and_keeps_the_queue_short_whatever_is_lost() {
    // Rate, buffer, light one way, loss.
    for (mbit_s, buffer_ms, light_ms, loss) in [
        (20.0, 500, 1300, 0.0),
        (20.0, 500, 1300, 0.05),
        (20.0, 500, 1300, 0.1),
        (100.0, 200, 300, 0.02),
        (5.0, 300, 25, 0.0),
        (50.0, 100, 10, 0.01),
    ] {
        let outcome = Bottleneck::new(mbit_s, buffer_ms, light_ms, loss).run(400, false);
        let case = format!("{mbit_s} {buffer_ms} {light_ms} {loss}: {outcome:?}");
        assert!(outcome.ours > 0.9, "{case}");
        assert!(outcome.dropped < 0.005, "{case}");
        let target = (2 * light_ms / 8).clamp(15, 150);
        assert!(outcome.waited_ms <= target && outcome.waited_long_ms <= 3 * target, "{case}");
    }
}

#[test]
fn a_queue_too_short_to_be_seen_is_seen_by_its_drops() {
    let outcome = Bottleneck::new(20.0, 10, 300, 0.02).run(400, false);
    assert!(outcome.ours > 0.85 && outcome.dropped < 0.05, "{outcome:?}");
}

#[test]
fn a_tcp_flow_beside_it_keeps_its_share_and_does_not_take_all() {
    for (mbit_s, buffer_ms, light_ms) in [(20.0, 200, 25), (50.0, 100, 20), (10.0, 400, 50)] {
        let outcome = Bottleneck::new(mbit_s, buffer_ms, light_ms, 0.0).run(600, true);
        let case = format!("{mbit_s} {buffer_ms} {light_ms}: {outcome:?}");
        assert!(outcome.tcp > 0.35 && outcome.ours > 0.15, "{case}");
        assert!(outcome.tcp + outcome.ours > 0.85, "{case}");
    }
}

#[test]
fn what_is_not_used_does_not_grow() {
    let at = |ms: u64| Instant(ms * 1_000_000);
    let mut governor = Governor::new(1_000_000_000, 0.01, at(0));
    for step in 1..200 {
        (0..10).for_each(|_| governor.sent(100));
        let heard =
            Heard { arrived: at(step * 100), round_trip: Some(Duration::from_millis(50)), passed: 10, came: 10 };
        governor.heard(heard, at(step * 100));
    }
    assert_eq!(governor.rate_bit_s(), FIRST_BIT_S as u64);
}
