//! What the system's unit needs for a configuration: looks at the places that it names, for [`model::sandbox`](crate::model::sandbox).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::getxattr;
use serde::Serialize;

use crate::config::{Config, KeySource, Listen, real};
use crate::daemon::folders::plan_of;
use crate::model::sandbox::{DropIn, Inode, Place, Right, Service, drop_in};
use crate::text::shown_bytes;

/// Where the system's unit keeps its state, by StateDirectory=.
const STATE: &str = "/var/lib/upspool";

/// The user of the system's unit.
const USER: &str = "upspool";

/// What the system's unit needs besides what it allows by itself.
#[derive(Debug, Serialize)]
pub(super) struct UnitCheck {
    /// To be pasted into `systemctl edit upspool`; null: the unit will do as it is.
    pub(super) drop_in: Option<String>,
    /// What the service's user may not do all the same.
    pub(super) remarks: Vec<String>,
}

/// None where the configuration is not that of the system's unit, or where the unit itself asks.
pub(super) fn unit(config: &Config) -> Option<UnitCheck> {
    let is_system = config.source.as_ref().is_some_and(|source| source.starts_with("/etc"))
        || config.store.state_dir == Path::new(STATE);
    if !is_system || is_run_by_systemd() {
        return None;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places: Vec<Place> =
        named(config).into_iter().map(|(what, path, right)| look(what, &path, right, &mounts)).collect();
    let (users, groups) = (read("/etc/passwd"), read("/etc/group"));
    let needs: DropIn = drop_in(&places, service(&users, &groups).as_ref());
    Some(UnitCheck {
        drop_in: (!needs.is_empty()).then(|| needs.text(|gid| group_name(&groups, gid))),
        remarks: needs.remarks,
    })
}

/// Whether this is a process that systemd has started itself, as `ExecReload=` does: what it sees of the machine is what its
/// sandbox lets through.
fn is_run_by_systemd() -> bool {
    let said = std::env::var("SYSTEMD_EXEC_PID").ok();
    said.and_then(|pid| pid.parse().ok()) == Some(std::process::id())
}

/// What the configuration names: for people, by its path, with what is done there.
fn named(config: &Config) -> Vec<(String, PathBuf, Right)> {
    let mut named = Vec::new();
    for folder in &config.folders {
        let name = shown_bytes(folder.name.as_bytes());
        let writes = plan_of(config, folder).writes();
        // What is made below a folder is written to it, also where nothing of its own is touched.
        let inside = |path: &Path| path.starts_with(&folder.path);
        let fills = folder.targets().iter().any(|(_, target)| inside(target));
        let right = if writes || fills { Right::CHANGE } else { Right::LIST };
        named.push((format!("the folder {name}"), folder.path.clone(), right));
        for (key, target) in folder.targets().into_iter().filter(|(_, target)| !inside(target)) {
            let key = key.trim_start_matches("folder.");
            named.push((format!("{key} of the folder {name}"), target, Right::CHANGE));
        }
        for (key, program, _) in folder.hooks() {
            let key = key.trim_start_matches("folder.");
            named.push((format!("{key} of the folder {name}"), program.into(), Right::PASS));
        }
        let account = config.accounts.get(&folder.account);
        if let Some(KeySource::File(path)) = account.map(|account| &account.key) {
            named.push((
                format!("the key of the account {}", shown_bytes(folder.account.as_bytes())),
                path.clone(),
                Right::READ,
            ));
        }
        if let Some(path) = account.and_then(|account| account.ca_file.as_ref()) {
            named.push((
                format!("ca_file of the account {}", shown_bytes(folder.account.as_bytes())),
                path.clone(),
                Right::READ,
            ));
        }
    }
    let state = &config.store.state_dir;
    if state != Path::new(STATE) {
        named.push(("the state directory".into(), state.clone(), Right::CHANGE));
    }
    if let Some(Listen::Socket(socket)) = &config.status.listen
        && let Some(directory) = socket.parent()
        && !directory.starts_with(state)
    {
        named.push(("the directory of the page's socket".into(), directory.to_owned(), Right::CHANGE));
    }
    if let Some(token) = config.status.token_file.as_ref().filter(|_| config.status.listen.is_some()) {
        named.push(("the page's token".into(), token.clone(), Right::READ));
    }
    named
}

/// Looks at a place and at the way there.
fn look(what: String, path: &Path, right: Right, mounts: &str) -> Place {
    let path = real(path);
    let mut way: Vec<Inode> = path.ancestors().filter_map(inode).collect();
    way.reverse();
    // What cannot be looked at may be there: nobody is told to make it anew, with an owner and a mode of its own.
    let missing =
        |error: std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let exists = !fs::metadata(&path).is_err_and(missing);
    let mount = mount_of(mounts, &path);
    Place { what, path, right, exists, mount, way }
}

fn inode(path: &Path) -> Option<Inode> {
    let found = fs::metadata(path).ok()?;
    let has_acl = getxattr(path, "system.posix_acl_access", &mut [0; 4_096]).is_ok();
    Some(Inode { path: path.to_owned(), uid: found.uid(), gid: found.gid(), mode: found.mode(), has_acl })
}

/// Where the file system begins in which a path lies, by the text of `/proc/self/mountinfo`; see proc(5).
fn mount_of(mounts: &str, path: &Path) -> PathBuf {
    let points = mounts.lines().filter_map(|line| Some(unescaped(line.split(' ').nth(4)?)));
    let covering = points.filter(|point| path.starts_with(point));
    covering.max_by_key(|point| point.as_os_str().len()).unwrap_or_else(|| "/".into())
}

/// Space, tab, line feed and backslash stand there as `\ooo`.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The unit's user, if this machine has it, by the texts of `/etc/passwd` and `/etc/group`. systemd-sysusers writes it there.
fn service(users: &str, groups: &str) -> Option<Service> {
    let user: Vec<&str> =
        users.lines().map(|line| line.split(':').collect()).find(|fields: &Vec<&str>| fields[0] == USER)?;
    let (uid, gid) = (user.get(2)?.parse().ok()?, user.get(3)?.parse().ok()?);
    let mut gids = BTreeSet::from([gid]);
    for line in groups.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [_, _, gid, members] = fields[..]
            && members.split(',').any(|member| member == USER)
        {
            gids.extend(gid.parse::<u32>());
        }
    }
    Some(Service { user: USER.into(), uid, gids })
}

fn group_name(groups: &str, gid: u32) -> Option<String> {
    let mut fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields
        .find(|fields| fields.get(2).is_some_and(|text| *text == gid.to_string()))
        .map(|fields| fields[0].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 23 0:35 / /mnt rw shared:2 - tmpfs tmpfs rw
41 40 0:36 / /mnt/my\\040scans rw shared:3 - nfs4 server:/scans rw
";

    #[test]
    fn a_path_lies_in_the_mount_that_covers_most_of_it() {
        for (path, expected) in [
            ("/srv/drop", "/"),
            ("/mnt/drop", "/mnt"),
            ("/mnt/my scans", "/mnt/my scans"),
            ("/mnt/my scans/in", "/mnt/my scans"),
            ("/mnt/my scans too", "/mnt"),
        ] {
            assert_eq!(mount_of(MOUNTS, Path::new(path)), Path::new(expected), "{path}");
        }
        assert_eq!(mount_of("", Path::new("/srv")), Path::new("/"));
        assert_eq!(unescaped(r"/a\134b\04"), Path::new(r"/a\b\04"));
    }

    #[test]
    fn the_units_user_has_the_groups_that_name_it() {
        let users = "root:x:0:0:root:/root:/bin/sh\nupspool:x:990:991::/var/lib/upspool:/usr/sbin/nologin\n";
        let groups = "root:x:0:\nscanners:x:44:eve,upspool\nupspool:x:991:eve\nother:x:45:upspooler\n";
        let service = service(users, groups).unwrap();
        assert_eq!((service.uid, service.gids), (990, BTreeSet::from([44, 991])));
        assert_eq!(group_name(groups, 44).as_deref(), Some("scanners"));
        assert_eq!(group_name(groups, 46), None);
        assert!(super::service("root:x:0:0:::\n\n", groups).is_none());
    }

    #[test]
    fn a_place_is_looked_at_with_its_way_and_without_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let found = look("the folder".into(), &dir.path().join("link"), Right::LIST, MOUNTS);
        assert_eq!((&found.path, found.exists), (&real, true));
        assert_eq!(found.way.first().unwrap().path, Path::new("/"));
        assert_eq!(found.way.len(), real.ancestors().count());
        let missing = look("the folder".into(), &dir.path().join("link/none"), Right::CHANGE, MOUNTS);
        assert_eq!((missing.path, missing.exists), (real.join("none"), false));
        // Not even root may look at this one; whoever may not enter a directory knows as little of what is in it.
        let hidden = look("the folder".into(), &real.join("x".repeat(300)), Right::CHANGE, MOUNTS);
        assert!(hidden.exists, "nobody is to be told to make it anew");
    }
}
