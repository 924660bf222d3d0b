//! What the service does not need any more it gives back to the system: memory that was in use when more was to be done, and the
//! pages of the program that only the start used, two fifths of it (docs/decisions/throughput.md).

use std::time::Duration;

use tokio::task::spawn_blocking;

/// After the start, when what it did is done.
const FIRST: Duration = Duration::from_secs(10);

/// How often: it costs a millisecond, and a few microseconds for each page of the program that is used again.
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
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let here = give_back_program as fn() -> bool as usize;
    let Some((start, end)) =
        maps.lines().filter_map(program).find(|(start, end)| (*start..*end).contains(&here))
    else {
        return false;
    };
    // SAFETY: the mapping is private, of a file, and was never written to, so that what is read of it again is what it was.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) == 0 }
}

/// The addresses of a line of `/proc/PID/maps`, if it is code of a file that nobody can write to.
fn program(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (is_code, inode) = (words.next()? == "r-xp", words.nth(2)?);
    let address = |text| usize::from_str_radix(text, 16).ok();
    (is_code && inode != "0").then_some((address(start)?, address(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_a_file_is_the_program() {
        let code = "558f4ab7e000-558f4b8ad000 r-xp 00398000 fe:00 2103 /usr/bin/upspool";
        assert_eq!(program(code), Some((0x558f_4ab7_e000, 0x558f_4b8a_d000)));
        for other in [
            "558f4ab7e000-558f4b8ad000 r--p 00398000 fe:00 2103 /usr/bin/upspool",
            "558f4ab7e000-558f4b8ad000 rwxp 00398000 fe:00 2103 /usr/bin/upspool",
            "7ffd1b5f4000-7ffd1b5f6000 r-xp 00000000 00:00 0 [vdso]",
            "558f4ab7e000 r-xp",
            "",
        ] {
            assert_eq!(program(other), None, "{other}");
        }
    }

    #[test]
    fn the_program_runs_on_without_its_pages() {
        assert!(give_back_program(), "its mapping was not found");
        give_back_heap();
        assert_eq!(program("1000-2000 r-xp 0 0 7"), Some((0x1000, 0x2000)));
    }
}
