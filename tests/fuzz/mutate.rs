//! Inputs that are nearly right.

/// What breaks things, wherever it stands.
const TOKENS: [&[u8]; 44] = [
    b"\0",
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"\x1b[31m",
    b"\xff\xfe",
    b"\xc3",
    b"\xf0\x9f\x98",
    "\u{202e}".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{feff}".as_bytes(),
    b"\\u0000",
    b"\\ud800",
    b"\\n",
    b"\"",
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"#",
    b"%00",
    b"%",
    b"../",
    b"/",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"0.1",
    b"NaN",
    b"inf",
    b"99999999999999999999999999",
    b"\"\"\"",
    b"error",
    b"id",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"Sun, 06 Nov 1994 08:49:37 GMT",
];

/// Most bytes that an input grows to.
const LONGEST: usize = 8 * 1024;

pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Mutator {
        Mutator(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// xorshift64, Marsaglia 2003.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `end`; 0 of 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 11) % (end.max(1) as u64)).unwrap()
    }

    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Any bytes at all.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// One of the seeds, changed in a few places.
    pub fn mutant<S: AsRef<[u8]>>(&mut self, seeds: &[S]) -> Vec<u8> {
        let mut input = self.of(seeds).as_ref().to_vec();
        for _ in 0..self.below(6) {
            self.change(&mut input, seeds);
        }
        input.truncate(LONGEST);
        input
    }

    fn change<S: AsRef<[u8]>>(&mut self, input: &mut Vec<u8>, seeds: &[S]) {
        let at = self.below(input.len() + 1);
        let to = (at + self.below(16)).min(input.len());
        match self.below(9) {
            0 => input.truncate(at),
            1 if at < input.len() => input[at] ^= 1 << self.below(8),
            2 if at < input.len() => input[at] = self.next().to_le_bytes()[0],
            3 => drop(input.drain(at..to)),
            4 => drop(input.splice(at..at, self.of(&TOKENS).iter().copied())),
            5 => drop(input.splice(at..to, self.of(&TOKENS).iter().copied())),
            6 => {
                let other = self.of(seeds).as_ref();
                let from = self.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            7 => {
                let times = 1 << self.below(9);
                let piece: Vec<u8> = input[at..to].repeat(times);
                input.splice(at..at, piece);
            }
            _ => {
                let noise = self.bytes(8);
                input.splice(at..to, noise);
            }
        }
    }
}
