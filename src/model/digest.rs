//! Digests of a range of a file: are these still the bytes that were sent?

use std::fmt;

use twox_hash::XxHash3_128;

/// The digest of a range of a file. Two are equal only if one [`Algorithm`] made both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Digest {
    /// As `xxhsum -H2` prints it, the most significant byte first.
    Xxh3([u8; 16]),
    /// As `b3sum` prints it.
    Blake3([u8; 32]),
}

/// How a digest is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// XXH3 with 128 bits: tells bytes that changed from bytes that did not, at a fifth of the cost. Whoever may write to a file can
    /// make two contents with one digest, and deceives nobody but himself.
    #[default]
    Xxh3,
    /// BLAKE3: where the bytes of one file are taken for those of another, whose writer may be somebody else.
    Blake3,
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.digest()
    }

    /// What made it, and has to be asked for another one to compare it with.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Digest::Xxh3(_) => Algorithm::Xxh3,
            Digest::Blake3(_) => Algorithm::Blake3,
        }
    }

    /// As it is stored: the length tells which it is.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Digest::Xxh3(bytes) => bytes,
            Digest::Blake3(bytes) => bytes,
        }
    }

    /// One that was stored; nothing if it has the length of none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Digest> {
        let xxh3 = bytes.try_into().map(Digest::Xxh3);
        xxh3.or_else(|_| bytes.try_into().map(Digest::Blake3)).ok()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Makes a digest of bytes that come one after the other.
pub struct Hasher(State);

enum State {
    Xxh3(Box<XxHash3_128>),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Of no bytes so far.
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Xxh3 => State::Xxh3(Box::new(XxHash3_128::new())),
            Algorithm::Blake3 => State::Blake3(Box::default()),
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Xxh3(hasher) => hasher.write(bytes),
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// Of all bytes so far.
    pub fn digest(&self) -> Digest {
        match &self.0 {
            State::Xxh3(hasher) => Digest::Xxh3(hasher.finish_128().to_be_bytes()),
            State::Blake3(hasher) => Digest::Blake3(*hasher.finalize().as_bytes()),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Xxh3(_) => "Hasher(Xxh3)",
            State::Blake3(_) => "Hasher(Blake3)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_what_its_command_prints() {
        // printf upspool | xxhsum -H2 (Debian's xxhash 0.8.1), and the package blake3 of PyPI
        let printed = |algorithm| Digest::of(algorithm, b"upspool").to_string();
        assert_eq!(printed(Algorithm::Xxh3), "1646c9c09e8f420c4d3cb547ba4de8a3");
        assert_eq!(
            printed(Algorithm::Blake3),
            "f434a6372fdef51eda496563fd2bb340d476071706b68aa42817c632936b5339"
        );
    }

    #[test]
    fn pieces_are_the_same_as_the_whole() {
        let bytes: Vec<u8> = (0..100_000).map(|at| (at % 251) as u8).collect();
        for algorithm in [Algorithm::Xxh3, Algorithm::Blake3] {
            for length in [1, 63, 240, 1024, 4096, 99_999] {
                let mut hasher = Hasher::new(algorithm);
                bytes.chunks(length).for_each(|piece| hasher.update(piece));
                assert_eq!(hasher.digest(), Digest::of(algorithm, &bytes), "{length}");
            }
        }
    }

    #[test]
    fn what_is_stored_is_read_again() {
        for algorithm in [Algorithm::Xxh3, Algorithm::Blake3] {
            let digest = Digest::of(algorithm, b"bytes");
            assert_eq!(digest.algorithm(), algorithm);
            assert_eq!(Digest::from_bytes(digest.as_bytes()), Some(digest));
        }
        assert_eq!([0, 15, 31, 33].map(|length| Digest::from_bytes(&vec![0; length])), [None; 4]);
    }
}
