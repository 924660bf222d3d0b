//! The kernel's limits of inotify, in words that say what to do.

use std::fs;

use super::hints::Deaf;
use crate::text::shown;

/// The limit that stands in the way, as it is now; 0 where there is none or it cannot be read.
pub(super) fn in_force(deaf: &Deaf) -> u64 {
    strictest(deaf).map_or(0, |(_, limit)| limit)
}

/// The setting that stands in the way: that of the machine, or a lower one of the user namespace, as in a container.
fn strictest(deaf: &Deaf) -> Option<(&'static str, u64)> {
    let settings = match deaf {
        Deaf::Watches => ["fs.inotify.max_user_watches", "user.max_inotify_watches"],
        Deaf::Instances => ["fs.inotify.max_user_instances", "user.max_inotify_instances"],
        Deaf::Gone | Deaf::Silent(_) | Deaf::Failed(_) => return None,
    };
    let read = |name: &'static str| {
        let read = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
        Some((name, read.trim().parse().ok()?))
    };
    settings.into_iter().filter_map(read).min_by_key(|(_, limit)| *limit).or(Some((settings[0], 0)))
}

/// Why a folder with so many directories is polled, and what would change that.
pub(super) fn explain(deaf: &Deaf, directories: u64) -> String {
    let (what, need) = match deaf {
        Deaf::Watches => ("watches", directories),
        Deaf::Instances => ("instances", 1),
        Deaf::Failed(message) => return format!("cannot be watched: {message}"),
        Deaf::Silent(path) => {
            return format!("changes are found by scans that no event told of, as of {}", shown(path));
        }
        Deaf::Gone => return "cannot be watched: it is gone".to_owned(),
    };
    let (setting, limit) = strictest(deaf).unwrap_or_default();
    let enough = limit.saturating_add(need).max(limit.saturating_mul(2)).next_power_of_two();
    format!(
        "no inotify {what} are left: this folder needs {need}, and {setting} is {limit} for all programs of this user \
         together; raise it with: sysctl -w {setting}={enough}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_with_the_number_needed_and_the_remedy() {
        let said = explain(&Deaf::Watches, 5_000_000);
        assert!(said.contains("needs 5000000"), "{said}");
        assert!(said.contains("fs.inotify.max_user_watches is "), "{said}");
        let (_, enough) = said.rsplit_once("sysctl -w fs.inotify.max_user_watches=").unwrap();
        assert!(enough.parse::<u64>().unwrap() >= 5_000_000, "{said}");
        assert!(explain(&Deaf::Instances, 1).contains("sysctl -w fs.inotify.max_user_instances="));
    }
}
