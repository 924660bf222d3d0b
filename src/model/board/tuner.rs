//! How many Parts at once fill the link, where `parallel_parts = "auto"` leaves it to us.
//!
//! One connection carries its window once a round trip, so a far server needs several; more than the link needs cost
//! memory and provoke 429s. So the number is tried out: the rate is measured over some time in which every slot is in use,
//! then half as many more are tried, and kept if they brought a tenth more; and so on. Now and then fewer are tried, and
//! kept if they brought as much. What the link does not limit is told apart: the disk, a server that asks for a slower
//! pace, our own limit.

use std::time::Duration;

use super::super::time::Boot;

/// Slots to begin with: what `parallel_parts` is where it is a number.
pub(super) const FIRST: usize = 8;

/// Fewer are not tried: one that is slow would be a large part of them.
const FEWEST: usize = 4;

/// More are not tried: each holds about a MiB, and more connections to one server than this are taken for an attack.
pub(super) const MOST: usize = 32;

/// A connection that is new has to find its pace, and what the kernel buffers for it is no rate of the link: so long, and
/// until so many bytes were taken for each slot (`tcp_wmem` lets a connection hold 4 MiB).
const WARM: Duration = Duration::from_secs(10);
const WARM_BYTES: u64 = 4 << 20;

/// A link that is slow takes long to get warm; the rate is wrong by less and less.
const WARM_AT_LAST: Duration = Duration::from_secs(180);

/// So long the rate is measured.
const MEASURED: Duration = Duration::from_secs(20);

/// Half as many more are worth it if they bring so much.
const GAIN: f64 = 1.10;

/// Fewer will do if they bring so much.
const SAME: f64 = 0.97;

/// So long it stays at what was found.
const REST: Duration = Duration::from_secs(300);

/// What limits the rate, as far as it was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It is being found out.
    Measuring,
    /// More Parts at once bring no more.
    Link,
    /// Parts wait for the file more than for the connection.
    Disk,
    /// The server asked for a slower pace.
    Pace,
    /// `bandwidth_limit`, or as many as are ever sent at once.
    Limit,
}

impl Bound {
    /// As `status` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Bound::Measuring => "measuring",
            Bound::Link => "link",
            Bound::Disk => "disk",
            Bound::Pace => "429",
            Bound::Limit => "limit",
        }
    }
}

/// What happened since the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// Bytes that connections took.
    pub(super) bytes: u64,
    /// Whether every slot is in use.
    pub(super) full: bool,
    /// Parts that wait for their file at this moment, and all of them.
    pub(super) reading: usize,
    pub(super) parts: usize,
    /// The server of an account asked for a slower pace.
    pub(super) paced: bool,
    /// An Upload has to be finished soon.
    pub(super) urgent: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tuner {
    slots: usize,
    /// `bandwidth_limit`, in bytes per second.
    limit: Option<u64>,
    phase: Phase,
    measure: Measure,
    bound: Bound,
    urgent: bool,
    /// Whether it was fewer that were tried last.
    fewer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The rate as it is, to compare with.
    Base,
    /// More are in use than the ones before, which brought this rate.
    More(usize, f64),
    Fewer(usize, f64),
    Rest {
        until: Boot,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Measure {
    /// When slots were all in use first.
    from: Option<Boot>,
    warming: u64,
    /// When it was warm.
    since: Option<Boot>,
    bytes: u64,
    reading: usize,
    parts: usize,
}

impl Tuner {
    pub(super) fn new(limit: Option<u64>) -> Tuner {
        Tuner {
            slots: FIRST,
            limit,
            phase: Phase::Base,
            measure: Measure::default(),
            bound: Bound::Measuring,
            urgent: false,
            fewer: false,
        }
    }

    /// How many Parts may be sent at once.
    pub(super) fn slots(&self) -> usize {
        if self.urgent { self.slots.max(FIRST) } else { self.slots }
    }

    /// Why not more.
    pub(super) fn bound(&self) -> Bound {
        self.bound
    }

    /// Takes what happened since the last sample.
    pub(super) fn observe(&mut self, sample: Sample, now: Boot) {
        self.urgent = sample.urgent;
        if sample.paced {
            self.bound = Bound::Pace;
        } else if self.bound == Bound::Pace {
            self.bound = Bound::Measuring;
        }
        if sample.paced || !sample.full {
            self.measure = Measure::default();
            return;
        }
        if let Some(rate) = self.measure.add(sample, self.slots, now) {
            let measured = std::mem::take(&mut self.measure);
            self.decide(rate, measured.waits_for_the_disk(), now);
        }
    }

    fn decide(&mut self, rate: f64, disk: bool, now: Boot) {
        match self.phase {
            Phase::More(before, at) if rate < at * GAIN => {
                self.slots = before;
                self.rest(Bound::Link, now);
            }
            Phase::Fewer(before, at) => {
                if rate < at * SAME {
                    self.slots = before;
                }
                self.rest(self.bound, now);
            }
            Phase::Rest { until } if now < until => {}
            Phase::Rest { .. } => {
                self.fewer = !self.fewer;
                self.phase = Phase::Base;
                self.next(rate, disk, now);
            }
            Phase::Base | Phase::More(..) => self.next(rate, disk, now),
        }
    }

    /// What to try after `rate` was measured with the slots in use.
    fn next(&mut self, rate: f64, disk: bool, now: Boot) {
        let limited = self.limit.is_some_and(|limit| rate >= 0.9 * limit as f64);
        if self.fewer {
            let slots = (self.slots * 3 / 4).max(FEWEST);
            if slots == self.slots || self.urgent {
                self.rest(self.bound, now);
            } else {
                self.phase = Phase::Fewer(self.slots, rate);
                self.slots = slots;
            }
        } else if disk {
            self.rest(Bound::Disk, now);
        } else if limited || self.slots >= MOST {
            self.rest(Bound::Limit, now);
        } else {
            self.phase = Phase::More(self.slots, rate);
            self.slots = (self.slots + self.slots / 2).min(MOST);
            self.bound = Bound::Measuring;
        }
    }

    fn rest(&mut self, bound: Bound, now: Boot) {
        self.bound = bound;
        self.phase = Phase::Rest { until: now + REST };
    }
}

impl Measure {
    /// The rate in bytes per second, once it is measured.
    fn add(&mut self, sample: Sample, slots: usize, now: Boot) -> Option<f64> {
        let Some(from) = self.from else {
            // Since when they were all in use is not known.
            self.from = Some(now);
            return None;
        };
        let Some(since) = self.since else {
            self.warming += sample.bytes;
            let filled = self.warming >= WARM_BYTES.saturating_mul(slots as u64);
            let warm = now.since(from) >= WARM && filled || now.since(from) >= WARM_AT_LAST;
            self.since = warm.then_some(now);
            return None;
        };
        self.bytes += sample.bytes;
        self.reading += sample.reading;
        self.parts += sample.parts;
        let lasted = now.since(since);
        (lasted >= MEASURED).then(|| self.bytes as f64 / lasted.as_secs_f64())
    }

    fn waits_for_the_disk(&self) -> bool {
        2 * self.reading > self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that carries so much in all, and so much on each connection; with noise.
    struct Link {
        whole: f64,
        each: f64,
        noise: f64,
    }

    struct Run {
        tuner: Tuner,
        now: Boot,
        random: u64,
    }

    impl Run {
        fn new(limit: Option<u64>) -> Run {
            Run { tuner: Tuner::new(limit), now: Boot(1_000_000), random: 0x9E37_79B9 }
        }

        fn noise(&mut self) -> f64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            (self.random % 2001) as f64 / 1000.0 - 1.0
        }

        /// Sends for so many minutes, a sample each five seconds as the engine gives them; the rate of the last minute.
        fn send(&mut self, link: &Link, minutes: u64, change: impl Fn(Sample) -> Sample) -> f64 {
            let (mut last, mut slots) = (0.0, self.tuner.slots());
            for step in 0..minutes * 12 {
                self.now = self.now + Duration::from_secs(5);
                let rate = link.whole.min(link.each * slots as f64) * (1.0 + link.noise * self.noise());
                if step >= (minutes - 1) * 12 {
                    last += rate / 12.0;
                }
                let bytes = (rate * 5.0) as u64;
                let sample = Sample { bytes, full: true, parts: slots, ..Sample::default() };
                self.tuner.observe(change(sample), self.now);
                slots = self.tuner.slots();
            }
            last
        }
    }

    #[test]
    fn it_finds_the_slots_that_fill_the_link_and_not_many_more() {
        // 10 Mbit/s to 10 Gbit/s, and as many connections as fill each, by the window that one has.
        for whole in [1.25e6, 12.5e6, 125e6, 1.25e9] {
            for needed in [1.0, 3.0, 8.0, 12.0, 20.0, 28.0] {
                let link = Link { whole, each: whole / needed, noise: 0.02 };
                let mut run = Run::new(None);
                let rate = run.send(&link, 120, |sample| sample);
                assert!(rate >= 0.9 * whole, "{whole}, {needed}: {rate} with {}", run.tuner.slots());
                let most = (needed * 1.6).max(FIRST as f64);
                assert!(run.tuner.slots() as f64 <= most, "{whole}, {needed}: {}", run.tuner.slots());
                assert!(matches!(run.tuner.bound(), Bound::Link | Bound::Limit | Bound::Measuring));
            }
        }
    }

    #[test]
    fn a_link_that_one_connection_fills_ends_with_few() {
        let mut run = Run::new(None);
        run.send(&Link { whole: 10e6, each: 10e6, noise: 0.0 }, 180, |sample| sample);
        assert_eq!(run.tuner.slots(), FEWEST);
        assert_eq!(run.tuner.bound(), Bound::Link);
    }

    #[test]
    fn a_link_that_becomes_wider_is_used() {
        let mut run = Run::new(None);
        run.send(&Link { whole: 8e6, each: 1e6, noise: 0.01 }, 60, |sample| sample);
        assert!(run.tuner.slots() <= 9, "{}", run.tuner.slots());
        let wider = Link { whole: 20e6, each: 1e6, noise: 0.01 };
        let rate = run.send(&wider, 120, |sample| sample);
        assert!(rate >= 0.9 * wider.whole, "{rate} with {}", run.tuner.slots());
    }

    #[test]
    fn what_is_not_the_links_limit_is_called_by_its_name_and_takes_no_more_slots() {
        let fast = Link { whole: 1e9, each: 10e6, noise: 0.01 };
        let mut disk = Run::new(None);
        disk.send(&fast, 4, |sample| Sample { reading: sample.parts - 1, ..sample });
        assert_eq!((disk.tuner.slots(), disk.tuner.bound()), (FIRST, Bound::Disk));

        let mut limited = Run::new(Some(80_000_000));
        limited.send(&fast, 4, |sample| sample);
        assert_eq!((limited.tuner.slots(), limited.tuner.bound()), (FIRST, Bound::Limit));

        let mut paced = Run::new(None);
        paced.send(&fast, 4, |sample| Sample { paced: true, ..sample });
        assert_eq!((paced.tuner.slots(), paced.tuner.bound()), (FIRST, Bound::Pace));

        let mut widest = Run::new(None);
        widest.send(&fast, 10, |sample| sample);
        assert_eq!((widest.tuner.slots(), widest.tuner.bound()), (MOST, Bound::Limit));
    }

    #[test]
    fn slots_that_are_not_all_in_use_say_nothing() {
        let mut run = Run::new(None);
        run.send(&Link { whole: 1e9, each: 1e6, noise: 0.0 }, 60, |sample| Sample { full: false, ..sample });
        assert_eq!((run.tuner.slots(), run.tuner.bound()), (FIRST, Bound::Measuring));
    }

    #[test]
    fn an_upload_that_expires_soon_has_no_fewer_slots_than_usual() {
        let link = Link { whole: 10e6, each: 10e6, noise: 0.0 };
        let mut run = Run::new(None);
        run.send(&link, 180, |sample| sample);
        assert_eq!(run.tuner.slots(), FEWEST);
        run.send(&link, 1, |sample| Sample { urgent: true, ..sample });
        assert_eq!(run.tuner.slots(), FIRST);
        run.send(&link, 1, |sample| sample);
        assert_eq!(run.tuner.slots(), FEWEST);
    }
}
