//! What the service does not use any more it gives back to the system: memory that was in use when more was to be done, and the
//! pages of the program that only the start used (docs/decisions/throughput.md).

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio::task::spawn_blocking;

/// After the start, when what it did is done.
const FIRST: Duration = Duration::from_secs(10);

/// How often, busy or not: it takes a millisecond or two, and a fault for each page of the program that is used again.
const EVERY: Duration = Duration::from_secs(600);

/// Gives back, now and then, until the service ends.
pub(super) async fn keep_small() {
    let mut wait = FIRST;
    loop {
        tokio::time::sleep(wait).await;
        wait = EVERY;
        // Only a panic could come of it, which costs nothing but this.
        let _ = spawn_blocking(|| {
            give_back_heap();
            give_back_program();
        })
        .await;
    }
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "libc has no safe wrapper")]
fn give_back_heap() {
    // SAFETY: it touches only what is free, under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back_heap() {}

/// Takes the program's own pages out of the address space. Those that are used again are mapped again from the page cache, where
/// the kernel may now let go of the others. Whether that was done: without, it is only larger.
#[expect(unsafe_code, reason = "rustix has no safe wrapper either")]
fn give_back_program() -> bool {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let here = give_back_program as fn() -> bool as usize;
    let inode = std::fs::metadata("/proc/self/exe").map_or(0, |program| program.ino());
    let Some((start, end)) = untouched(&smaps, here, inode) else { return false };
    // SAFETY: the mapping is private, of the program's file, and none of its pages was written to, so that what is read of it again
    // is what it was.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) == 0 }
}

/// The addresses around `here` in `/proc/PID/smaps`, if they are code of the file `inode` as it stands there: a debugger's breakpoint
/// is a page of its own, and would be lost.
fn untouched(smaps: &str, here: usize, inode: u64) -> Option<(usize, usize)> {
    let mut lines = smaps.lines();
    let addresses = lines
        .by_ref()
        .find_map(|line| code_of(line, inode).filter(|(start, end)| (*start..*end).contains(&here)))?;
    let written = lines.find_map(|line| line.strip_prefix("Anonymous:"))?;
    (written.trim() == "0 kB").then_some(addresses)
}

/// The addresses of a mapping, by its first line, if it is code of that file that nobody can write to.
fn code_of(line: &str, inode: u64) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (is_code, of) = (words.next()? == "r-xp", words.nth(2)?);
    let address = |text| usize::from_str_radix(text, 16).ok();
    (is_code && of.parse() == Ok(inode)).then_some((address(start)?, address(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
        7f0000000000-7f0000002000 r-xp 00000000 fe:00 9999 /usr/lib/libc.so.6\n\
        Anonymous:             4 kB\n\
        558f4ab7e000-558f4b8ad000 r-xp 00398000 fe:00 2103 /usr/bin/upspool (deleted)\n\
        Size:              13500 kB\n\
        Rss:               10540 kB\n\
        Anonymous:             0 kB\n\
        7ffd1b5f4000-7ffd1b5f6000 r-xp 00000000 00:00 0 [vdso]\n\
        Anonymous:             0 kB\n";

    #[test]
    fn only_the_programs_own_code_as_it_is_in_its_file_is_given_back() {
        let here = 0x558f_4ab8_0000;
        assert_eq!(untouched(SMAPS, here, 2103), Some((0x558f_4ab7_e000, 0x558f_4b8a_d000)));
        assert_eq!(untouched(SMAPS, 0x558f_4b8a_d000, 2103), None, "beyond its end");
        assert_eq!(untouched(SMAPS, here, 2104), None, "another file");
        assert_eq!(untouched(SMAPS, 0x7f00_0000_1000, 9999), None, "somebody wrote to it");
        assert_eq!(untouched(SMAPS, 0x7ffd_1b5f_5000, 2103), None, "of no file");
        assert_eq!(untouched(&SMAPS.replace("r-xp", "rwxp"), here, 2103), None, "it can be written to");
        assert_eq!(untouched(&SMAPS[..200], here, 2103), None, "cut off");
        assert_eq!(untouched("", here, 2103), None);
    }

    #[test]
    fn the_program_runs_on_without_its_pages() {
        assert!(give_back_program(), "its mapping was not found");
        give_back_heap();
    }
}
