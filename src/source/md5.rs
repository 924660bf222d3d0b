//! MD5, by AWS-LC's assembler: that library is here for TLS anyway. It takes four fifths of the time of the best in safe Rust
//! (docs/decisions/throughput.md), and MD5 is what sets the pace of a large file on a fast link.

use std::mem::MaybeUninit;

use aws_lc_sys::{MD5_CTX, MD5_Final, MD5_Init, MD5_Update};

/// An MD5 of the bytes so far.
pub(super) struct Md5(MD5_CTX);

#[expect(unsafe_code, reason = "aws-lc-rs wraps no MD5")]
impl Md5 {
    pub(super) fn new() -> Md5 {
        let mut context = MaybeUninit::<MD5_CTX>::zeroed();
        // SAFETY: the pointer is to a context of our own; all zeros are one, and it has no other states than plain numbers.
        unsafe {
            MD5_Init(context.as_mut_ptr());
            Md5(context.assume_init())
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        // SAFETY: `bytes` is readable for its whole length, and nothing keeps the pointer.
        unsafe { MD5_Update(&mut self.0, bytes.as_ptr().cast(), bytes.len()) };
    }

    /// In lower-case hex, as the API takes it.
    pub(super) fn hex(mut self) -> String {
        let mut digest = [0; 16];
        // SAFETY: sixteen bytes are what it writes.
        unsafe { MD5_Final(digest.as_mut_ptr(), &mut self.0) };
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use md5::Digest as _;

    use super::*;

    fn other(bytes: &[u8]) -> String {
        md5::Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn it_agrees_with_another_implementation_however_the_bytes_come() {
        let bytes: Vec<u8> = (0..70_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        // Blocks are of 64 bytes, and the length is added in a last one from 56 on.
        for length in (0..200).chain([4095, 4096, 65_535, 65_536, 70_000]) {
            for piece in [1, 55, 56, 63, 64, 65, 4096, 70_000] {
                let mut hasher = Md5::new();
                bytes[..length].chunks(piece).for_each(|piece| hasher.update(piece));
                assert_eq!(hasher.hex(), other(&bytes[..length]), "{length} bytes by {piece}");
            }
        }
    }

    #[test]
    fn it_agrees_with_rfc_1321() {
        let mut hasher = Md5::new();
        hasher.update(b"message digest");
        assert_eq!(hasher.hex(), "f96b697d7cb7938d525a2f31aaf161d0");
        assert_eq!(Md5::new().hex(), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
