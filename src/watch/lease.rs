//! Whether anyone has a file open for writing.
//!
//! The kernel refuses a read lease while any process has the file open for writing, or mapped so: an exact answer, on
//! local file systems, to the owner of the file and to who has CAP_LEASE.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// What the kernel said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Writers {
    /// Nobody has it open for writing.
    None,
    /// Somebody has.
    Some,
    /// It would not say.
    Untold,
}

/// Missing in libc; the same on every machine that this is built for.
const F_SETSIG: libc::c_int = 10;

/// Asks for a read lease on a file that was opened read-only, and gives it back at once: a writer that opens the file
/// while it is held has to wait for it, or is refused if it asked not to wait.
pub(super) fn writers(file: &File) -> Writers {
    // A lease that is broken is told of by a signal. The default, SIGIO, ends a process that does not expect it.
    if control(file, F_SETSIG, libc::SIGURG).is_err() {
        return Writers::Untold;
    }
    match control(file, libc::F_SETLEASE, libc::F_RDLCK) {
        // Should it not be given back here, closing the file gives it back.
        Ok(()) => match control(file, libc::F_SETLEASE, libc::F_UNLCK) {
            Ok(()) | Err(_) => Writers::None,
        },
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Writers::Some,
        // Not ours and no CAP_LEASE, or a file system without leases.
        Err(_) => Writers::Untold,
    }
}

#[expect(unsafe_code, reason = "neither std nor rustix has the lease calls of fcntl")]
fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and these commands take a plain integer.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_writer_is_noticed_for_as_long_as_it_has_the_file_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert_eq!(writers(&reader), Writers::Some);
        drop(writer);
        assert_eq!(writers(&reader), Writers::None);
        let other_reader = File::open(&path).unwrap();
        assert_eq!(writers(&reader), Writers::None, "readers do not matter");
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(
            writers(&other_reader),
            Writers::Some,
            "the lease was given back, so that a writer could come"
        );
        drop(writer);
    }

    #[test]
    fn a_descriptor_that_cannot_have_a_lease_tells_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(writers(&File::open(directory.path()).unwrap()), Writers::Untold);
    }
}
