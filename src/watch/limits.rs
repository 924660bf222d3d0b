//! The kernel's limits of inotify, in words that say what to do.

use std::fs;

use super::hints::Deaf;

/// The limit that stands in the way, as it is now; 0 where there is none or it cannot be read.
pub(super) fn in_force(deaf: &Deaf) -> u64 {
    setting(deaf).map_or(0, |name| {
        let read = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).unwrap_or_default();
        read.trim().parse().unwrap_or(0)
    })
}

fn setting(deaf: &Deaf) -> Option<&'static str> {
    match deaf {
        Deaf::Watches => Some("max_user_watches"),
        Deaf::Instances => Some("max_user_instances"),
        Deaf::Gone | Deaf::Failed(_) => None,
    }
}

/// Why a folder with so many directories is polled, and what would change that.
pub(super) fn explain(deaf: &Deaf, directories: u64) -> String {
    let limit = in_force(deaf);
    match (deaf, setting(deaf)) {
        (Deaf::Watches, Some(setting)) => {
            let enough = limit.saturating_add(directories).max(limit.saturating_mul(2)).next_power_of_two();
            format!(
                "no inotify watches are left: this folder needs {directories}, and fs.inotify.{setting} is {limit} \
                 for all programs of this user together; raise it with: sysctl -w fs.inotify.{setting}={enough}"
            )
        }
        (_, Some(setting)) => {
            let enough = limit.saturating_mul(2).next_power_of_two();
            format!(
                "no inotify instances are left: fs.inotify.{setting} is {limit} for all programs of this user \
                 together; raise it with: sysctl -w fs.inotify.{setting}={enough}"
            )
        }
        (Deaf::Failed(message), None) => format!("cannot be watched: {message}"),
        _ => "cannot be watched".to_owned(),
    }
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
