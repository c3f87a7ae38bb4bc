use super::*;

/// A bottleneck in virtual time, a millisecond at a time: a queue with tail drop, weather behind it, and perhaps a TCP flow beside us.
struct Bottleneck {
    rate_bit_s: f64,
    buffer: Duration,
    light: Duration,
    loss: f64,
    word: u64,
    /// When we begin, and when the other leaves, in seconds.
    begins_s: u64,
    leaves_s: u64,
    /// For so long each second we neither send nor hear: what was said then is heard late.
    sleeps_ms: u64,
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

/// Who is beside us.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Beside {
    Nobody,
    /// One packet more each round trip, half at a loss.
    Reno,
    /// As RFC 9438 has it: what it had at its last loss is soon there again, at 0.7 after one.
    Cubic,
}

struct Tcp {
    cubic: bool,
    window: f64,
    threshold: f64,
    /// CUBIC's: the window at the last loss, when that was, and what Reno would have.
    window_most: f64,
    epoch: u64,
    back: f64,
    friendly: f64,
    under_way: u64,
    halved_at: u64,
    /// Answers under way: when they arrive, and whether the packet was lost.
    answers: VecDeque<(u64, bool, u64)>,
}

const PACKET: usize = 1500;

impl Bottleneck {
    fn new(mbit_s: f64, buffer_ms: u64, light_ms: u64, loss: f64) -> Self {
        let (buffer, light) = (Duration::from_millis(buffer_ms), Duration::from_millis(light_ms));
        let (begins_s, leaves_s) = (0, u64::MAX / 1000);
        Self {
            rate_bit_s: mbit_s * 1e6,
            buffer,
            light,
            loss,
            word: 7,
            begins_s,
            leaves_s,
            sleeps_ms: 0,
            queue: VecDeque::new(),
            credit: 0.0,
        }
    }

    /// 0 to 1.
    fn chance(&mut self) -> f64 {
        self.word = self.word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.word >> 11) as f64 / (1u64 << 53) as f64
    }

    #[expect(clippy::too_many_lines, reason = "a millisecond from its beginning to its end")]
    fn run(&mut self, seconds: u64, beside: Beside) -> Outcome {
        let light = self.light.as_millis() as u64;
        let at = |ms: u64| Instant(ms * 1_000_000);
        let mut governor = Governor::new(10_000_000_000, 0.01, at(self.begins_s * 1000));
        let with_tcp = beside != Beside::Nobody;
        let mut tcp = Tcp::new(beside == Beside::Cubic);
        let room = (self.rate_bit_s * self.buffer.as_secs_f64() / (PACKET * 8) as f64) as usize + 1;
        let (mut budget, mut sent, mut counter) = (0.0, VecDeque::new(), 0u64);
        // What arrives there: when, and which. What is reported: when, horizon, its sending, its arrival, and how many came.
        let (mut arriving, mut reports) = (VecDeque::<(u64, u64, u64)>::new(), VecDeque::new());
        let (mut came, mut horizon, mut last) = (0u64, (0, 0, 0), (0u64, 0u64));
        let (mut ours, mut theirs, mut dropped, mut offered) = (0u64, 0u64, 0u64, 0u64);
        let mut waits = Vec::new();
        for ms in 0..seconds * 1000 {
            let late = ms >= seconds * 500;
            let asleep = ms % 1000 < self.sleeps_ms;
            let begun = if ms >= self.begins_s * 1000 && !asleep { 1.0 } else { 0.0 };
            budget = (budget + begun * governor.rate_bit_s() as f64 / 1000.0).min(64.0 * (PACKET * 8) as f64);
            // Who comes first in a millisecond is chance: else one of both always finds the queue full.
            let mut due = (budget / (PACKET * 8) as f64) as u64;
            budget -= (due * PACKET as u64 * 8) as f64;
            let stays = with_tcp && ms < self.leaves_s * 1000;
            let mut tcp_due = if stays { (tcp.window - tcp.under_way as f64).ceil().max(0.0) as u64 } else { 0 };
            while due + tcp_due > 0 {
                let is_full = self.queue.len() >= room;
                if self.chance() * (due + tcp_due) as f64 >= due as f64 {
                    tcp_due -= 1;
                    tcp.under_way += 1;
                    let told = ms + 2 * light + self.queue.len() as u64 * 12_000_000 / self.rate_bit_s as u64;
                    if is_full {
                        tcp.answers.push_back((told, true, ms));
                    } else {
                        self.queue.push_back((false, ms));
                    }
                    continue;
                }
                due -= 1;
                governor.sent(PACKET);
                counter += 1;
                offered += u64::from(late);
                if is_full {
                    dropped += u64::from(late);
                } else {
                    sent.push_back(counter);
                    self.queue.push_back((true, ms));
                }
            }
            self.credit += self.rate_bit_s / 1000.0;
            while self.credit >= (PACKET * 8) as f64
                && let Some((is_ours, since)) = self.queue.pop_front()
            {
                self.credit -= (PACKET * 8) as f64;
                let lost = self.chance() < self.loss;
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
            while let Some((_, (number, since, arrived), came)) = reports.pop_front_if(|(at, ..)| *at <= ms && !asleep)
            {
                if number > last.0 {
                    let arrived = if self.sleeps_ms > 0 { ms - light } else { arrived };
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
    fn new(cubic: bool) -> Self {
        let (window, threshold) = (10.0, 1e9);
        let answers = VecDeque::new();
        Self {
            cubic,
            window,
            threshold,
            window_most: 0.0,
            epoch: 0,
            back: 0.0,
            friendly: 0.0,
            under_way: 0,
            halved_at: 0,
            answers,
        }
    }

    fn turn(&mut self, ms: u64, light: u64) {
        while let Some((_, lost, since)) = self.answers.pop_front_if(|(at, ..)| *at <= ms) {
            self.under_way -= 1;
            if lost {
                if since >= self.halved_at {
                    self.window_most = if self.window < self.window_most { self.window * 0.85 } else { self.window };
                    self.window = (self.window * if self.cubic { 0.7 } else { 0.5 }).max(2.0);
                    (self.threshold, self.friendly) = (self.window, self.window);
                    self.back = ((self.window_most - self.window).max(0.0) / 0.4).cbrt();
                    (self.halved_at, self.epoch) = (ms.max(2 * light), ms);
                }
            } else if self.window < self.threshold {
                self.window += 1.0;
            } else if self.cubic {
                let ahead = (ms - self.epoch + ms - since) as f64 / 1000.0;
                let aim = 0.4 * (ahead - self.back).powi(3) + self.window_most;
                self.window += (aim.clamp(self.window, 1.5 * self.window) - self.window) / self.window;
                self.friendly += 0.53 / self.window;
                self.window = self.window.max(self.friendly);
            } else {
                self.window += 1.0 / self.window;
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
        let outcome = Bottleneck::new(mbit_s, buffer_ms, light_ms, loss).run(400, Beside::Nobody);
        let case = format!("{mbit_s} {buffer_ms} {light_ms} {loss}: {outcome:?}");
        assert!(outcome.ours > 0.9, "{case}");
        assert!(outcome.dropped < 0.005, "{case}");
        let target = (2 * light_ms / 8).clamp(15, 150);
        assert!(outcome.waited_ms <= target && outcome.waited_long_ms <= 3 * target, "{case}");
    }
}

#[test]
fn a_queue_too_short_to_be_seen_is_seen_by_its_drops() {
    let outcome = Bottleneck::new(20.0, 10, 300, 0.02).run(400, Beside::Nobody);
    assert!(outcome.ours > 0.85 && outcome.dropped < 0.05, "{outcome:?}");
}

#[test]
fn a_tcp_flow_beside_it_keeps_its_share_and_does_not_take_all() {
    // A queue of one round trip, half of one, and of several; who comes first; where the flow is CUBIC's, and where Reno's.
    for (mbit_s, buffer_ms, light_ms, beside, begins_s) in [
        (20.0, 100, 50, Beside::Cubic, 0),
        (20.0, 100, 50, Beside::Cubic, 60),
        (20.0, 600, 300, Beside::Cubic, 0),
        (20.0, 600, 300, Beside::Cubic, 60),
        (100.0, 20, 10, Beside::Cubic, 0),
        (10.0, 400, 50, Beside::Cubic, 0),
        (20.0, 100, 50, Beside::Reno, 0),
        (20.0, 600, 300, Beside::Reno, 0),
        (20.0, 300, 300, Beside::Reno, 60),
    ] {
        let outcome = Bottleneck { begins_s, ..Bottleneck::new(mbit_s, buffer_ms, light_ms, 0.0) }.run(600, beside);
        let case = format!("{mbit_s} {buffer_ms} {light_ms} {beside:?} {begins_s}: {outcome:?}");
        assert!(outcome.tcp > 0.25 && outcome.ours > 0.25, "{case}");
        assert!(outcome.tcp + outcome.ours > 0.9, "{case}");
        assert!(outcome.dropped < 0.02, "{case}");
    }
}

#[test]
fn weather_does_not_make_it_give_way_to_a_flow_that_cannot_use_the_link() {
    for light_ms in [50, 300] {
        let outcome = Bottleneck::new(20.0, 2 * light_ms, light_ms, 0.01).run(400, Beside::Cubic);
        assert!(outcome.ours > 0.85 && outcome.tcp > 0.02, "{outcome:?}");
        assert!(outcome.waited_ms <= 50, "{outcome:?}");
    }
}

#[test]
fn when_the_flow_beside_it_has_gone_the_queue_is_short_again() {
    for (mbit_s, buffer_ms, light_ms) in
        [(20.0, 100, 50), (20.0, 600, 300), (20.0, 300, 300), (20.0, 200, 25), (5.0, 1000, 50)]
    {
        let mut bottleneck = Bottleneck { leaves_s: 100, ..Bottleneck::new(mbit_s, buffer_ms, light_ms, 0.0) };
        let outcome = bottleneck.run(240, Beside::Cubic);
        let case = format!("{mbit_s} {buffer_ms} {light_ms}: {outcome:?}");
        assert!(outcome.ours > 0.95 && outcome.dropped < 0.001, "{case}");
        let target = (2 * light_ms / 8).clamp(15, 150);
        assert!(outcome.waited_ms <= target && outcome.waited_long_ms <= 3 * target, "{case}");
    }
}

#[test]
fn a_machine_that_is_busy_with_other_things_is_not_taken_for_a_queue() {
    for (light_ms, loss) in [(50, 0.0), (50, 0.01), (300, 0.0)] {
        let mut bottleneck = Bottleneck { sleeps_ms: 100, ..Bottleneck::new(20.0, 2 * light_ms, light_ms, loss) };
        let outcome = bottleneck.run(200, Beside::Nobody);
        assert!(outcome.ours > 0.7 && outcome.dropped < 0.001, "{light_ms} {loss}: {outcome:?}");
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
