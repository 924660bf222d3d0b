//! Chance that can be repeated.

/// xorshift64, Marsaglia 2003. Nothing depends on its quality.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + (self.next() >> 11) % (high - low + 1)
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.within(0, 99) < percent
    }

    pub fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        let at = self.within(0, choices.len() as u64 - 1);
        choices[usize::try_from(at).unwrap_or(0)].clone()
    }
}
