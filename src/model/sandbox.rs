//! What a hardened unit has to be opened for: from the places that a configuration names, the drop-in that the system's unit
//! (`systemd/upspool.service`) needs besides what it allows by itself. In words of `systemd.exec(5)` and `systemd.unit(5)`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What the unit lets be written to by itself: StateDirectory= and RuntimeDirectory=.
const WRITABLE: [&str; 2] = ["/var/lib/upspool", "/run/upspool"];

/// What ProtectHome= closes.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// What is there before any service is, whatever is mounted for it.
const EARLY: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

/// The group of root: nothing that a service should be in.
const ROOT: u32 = 0;

/// Rights as in a mode, of one of its three digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right(pub u32);

impl Right {
    /// To read a file.
    pub const READ: Right = Right(0o4);
    /// To go through a directory, or to run a program.
    pub const PASS: Right = Right(0o1);
    /// To list a directory and to open what is in it.
    pub const LIST: Right = Right(0o5);
    /// That, and to make, move and delete there.
    pub const CHANGE: Right = Right(0o7);

    fn words(self) -> &'static str {
        match self {
            Right::READ => "read",
            Right::PASS => "pass through or run",
            Right::LIST => "list",
            _ => "write to",
        }
    }
}

/// A place that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is to the service, for people: `the folder scans`.
    pub what: String,
    /// Absolute, without symbolic links as far as it exists.
    pub path: PathBuf,
    /// What the service does there.
    pub right: Right,
    /// Whether it is there.
    pub exists: bool,
    /// Where the file system begins in which it lies.
    pub mount: PathBuf,
    /// The directories on the way, from the root on, then itself.
    pub way: Vec<Inode>,
}

/// Whose a file or directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its path.
    pub path: PathBuf,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its mode, of which the last nine bits count.
    pub mode: u32,
    /// Whether it has an access list: then the mode does not say who may do what.
    pub has_acl: bool,
}

/// The user as whom the service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub user: String,
    /// Its number.
    pub uid: u32,
    /// All its groups.
    pub gids: BTreeSet<u32>,
}

/// A drop-in, with why for each line; and what no drop-in can mend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropIn {
    /// RequiresMountsFor=, by mount point.
    pub mounts: BTreeMap<PathBuf, String>,
    /// ProtectHome=read-only.
    pub home: Option<String>,
    /// ReadWritePaths=.
    pub writable: BTreeMap<PathBuf, String>,
    /// SupplementaryGroups=, by number.
    pub groups: BTreeMap<u32, String>,
    /// What the service's user may not do all the same, each with its remedy.
    pub remarks: Vec<String>,
}

/// What the unit needs for these places. `service` is none where the user is not known: then nothing is said of groups.
pub fn drop_in(places: &[Place], service: Option<&Service>) -> DropIn {
    let mut needs = DropIn::default();
    let under = |path: &Path, roots: &[&str]| roots.iter().any(|root| path.starts_with(root));
    for place in places {
        let (path, what) = (&place.path, &place.what);
        if quoted(path).is_none() {
            needs.remarks.push(format!("{what} has a name that no unit can hold: give it another"));
            continue;
        }
        if place.mount != Path::new("/") && !under(&place.mount, &EARLY) {
            needs.mounts.entry(place.mount.clone()).or_insert_with(|| format!("{what} lies there"));
        }
        if under(path, &HOMES) && needs.home.is_none() {
            needs.home = Some(format!("{what} lies in a home"));
        }
        if place.right == Right::CHANGE && !under(path, &WRITABLE) {
            needs.writable.entry(path.clone()).or_insert_with(|| format!("{what} is written to"));
        }
        if !place.exists {
            let user = service.map_or("upspool", |service| service.user.as_str());
            // For a shell, and root's: what a unit takes for a word may be a command there.
            let typed = in_shell(&path.to_string_lossy());
            needs.remarks.push(format!(
                "{what} is not there yet, and the unit lets nobody make it: install -d -o {user} -g {user} -m 750 {typed}"
            ));
        }
        if let Some(service) = service {
            let allowed = reach(place, service, &mut needs.groups);
            needs.remarks.extend(allowed.err());
        }
    }
    // Folders of one account name its key each.
    let mut said = BTreeSet::new();
    needs.remarks.retain(|remark| said.insert(remark.clone()));
    let roots: Vec<PathBuf> = needs.writable.keys().cloned().collect();
    // Whoever may write to a directory may write below it.
    needs.writable.retain(|path, _| !roots.iter().any(|root| root != path && path.starts_with(root)));
    needs
}

/// Whether the service gets there, with which group if it takes one more.
fn reach(place: &Place, service: &Service, groups: &mut BTreeMap<u32, String>) -> Result<(), String> {
    for inode in &place.way {
        let right = if inode.path == place.path { place.right } else { Right::PASS };
        let grants = |shift: u32| (inode.mode >> shift) & right.0 == right.0;
        let is_member = service.gids.contains(&inode.gid) || groups.contains_key(&inode.gid);
        let is_granted = match () {
            () if inode.has_acl || service.uid == 0 => true,
            () if inode.uid == service.uid => grants(6),
            () if is_member => grants(3),
            () => grants(0),
        };
        if is_granted {
            continue;
        }
        let is_stranger = inode.uid != service.uid && !is_member;
        if is_stranger && inode.gid != ROOT && grants(3) {
            groups.insert(inode.gid, format!("{} is its group's alone", place.what));
            continue;
        }
        let (user, verb) = (&service.user, right.words());
        let path = inode.path.display();
        let directory =
            if inode.path == place.path { String::new() } else { format!(", on the way to {}", place.what) };
        return Err(format!(
            "{user} may not {verb} {path}{directory} (mode {:03o}): give it to a group of {user} by chgrp, with chmod g+{}",
            inode.mode & 0o777,
            match right {
                Right::READ => "r",
                Right::PASS => "x",
                Right::LIST => "rx",
                _ => "rwx",
            }
        ));
    }
    Ok(())
}

impl DropIn {
    /// Whether the unit will do as it is.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty() && self.home.is_none() && self.writable.is_empty() && self.groups.is_empty()
    }

    /// The drop-in as a file, with `group_name` for the groups that have one.
    pub fn text(&self, group_name: impl Fn(u32) -> Option<String>) -> String {
        let mut text = String::new();
        let mut say = |line: String| text.extend([line.as_str(), "\n"]);
        if !self.mounts.is_empty() {
            say("[Unit]".into());
        }
        for (path, why) in &self.mounts {
            say(format!("# {why}"));
            say(format!("RequiresMountsFor={}", quoted(path).unwrap_or_default()));
        }
        if self.home.is_some() || !self.writable.is_empty() || !self.groups.is_empty() {
            say("[Service]".into());
        }
        if let Some(why) = &self.home {
            say(format!("# {why}"));
            say("ProtectHome=read-only".into());
        }
        for (path, why) in &self.writable {
            say(format!("# {why}"));
            // With «-» one that is missing at the start keeps nobody else's files back.
            say(format!("ReadWritePaths={}", quoted_as(path, "-").unwrap_or_default()));
        }
        for (gid, why) in &self.groups {
            say(format!("# {why}"));
            say(format!("SupplementaryGroups={}", group_name(*gid).unwrap_or_else(|| gid.to_string())));
        }
        text
    }
}

/// A path as a word of a unit; none if it cannot be one. Units are UTF-8 and lines, and `%` begins a specifier.
fn quoted(path: &Path) -> Option<String> {
    quoted_as(path, "")
}

fn quoted_as(path: &Path, prefix: &str) -> Option<String> {
    let text = Some(path.as_os_str()).and_then(OsStr::to_str)?;
    if text.chars().any(char::is_control) {
        return None;
    }
    let text = text.replace('%', "%%");
    let is_plain = |one: char| !one.is_whitespace() && !matches!(one, '"' | '\'' | '\\' | ';' | '#');
    if text.chars().all(is_plain) {
        return Some(format!("{prefix}{text}"));
    }
    Some(format!("\"{prefix}{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// A path as a word of a shell.
fn in_shell(path: &str) -> String {
    let is_plain = |one: char| one.is_alphanumeric() || matches!(one, '_' | '-' | '.' | '/');
    if path.chars().all(is_plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: u32 = 990;

    fn service() -> Service {
        Service { user: "upspool".into(), uid: SERVICE, gids: BTreeSet::from([SERVICE]) }
    }

    fn inode(path: &str, uid: u32, gid: u32, mode: u32) -> Inode {
        Inode { path: path.into(), uid, gid, mode, has_acl: false }
    }

    /// A place that everybody may read, on the root.
    fn place(path: &str, right: Right) -> Place {
        let mode = if right == Right::CHANGE { 0o777 } else { 0o755 };
        Place {
            what: format!("the folder {}", path.rsplit('/').next().unwrap()),
            path: path.into(),
            right,
            exists: true,
            mount: "/".into(),
            way: vec![inode("/", 0, 0, 0o755), inode(path, 0, 0, mode)],
        }
    }

    fn text(places: &[Place]) -> String {
        let needs = drop_in(places, Some(&service()));
        assert_eq!(needs.remarks, Vec::<String>::new());
        needs.text(|gid| (gid == 44).then(|| "scanners".into()))
    }

    #[test]
    fn folders_that_are_only_read_need_nothing() {
        let needs = drop_in(
            &[place("/srv/drop", Right::LIST), place("/etc/upspool/key", Right::READ)],
            Some(&service()),
        );
        assert!(needs.is_empty() && needs.remarks.is_empty(), "{needs:?}");
        assert_eq!(needs.text(|_| None), "");
        // What the unit has writable by itself.
        assert!(drop_in(&[place("/var/lib/upspool", Right::CHANGE)], None).is_empty());
    }

    #[test]
    fn each_need_is_a_line_with_its_reason() {
        let mut scans = place("/mnt/scans/in", Right::CHANGE);
        scans.mount = "/mnt/scans".into();
        scans.way[1] = inode("/mnt/scans/in", 1000, 44, 0o770);
        let expected = "\
[Unit]
# the folder in lies there
RequiresMountsFor=/mnt/scans
[Service]
# the folder drop lies in a home
ProtectHome=read-only
# the folder in is written to
ReadWritePaths=-/mnt/scans/in
# the folder in is its group's alone
SupplementaryGroups=scanners
";
        assert_eq!(text(&[place("/home/eve/drop", Right::LIST), scans]), expected);
    }

    #[test]
    fn what_lies_below_a_writable_place_is_not_named_again() {
        let places = ["/srv/drop/done", "/srv/drop", "/srv/drop2", "/var/lib/upspool/page"];
        let needs = drop_in(&places.map(|path| place(path, Right::CHANGE)), Some(&service()));
        let named: Vec<_> = needs.writable.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(named, ["/srv/drop", "/srv/drop2"]);
    }

    #[test]
    fn the_first_match_of_owner_group_and_others_says_who_may() {
        // Owner, group, mode; the group that helps, or what is said.
        let cases = [
            (SERVICE, 44, 0o700, Ok(None)),
            (1000, SERVICE, 0o750, Ok(None)),
            (1000, 44, 0o750, Ok(Some(44))),
            (1000, 44, 0o755, Ok(None)),
            // The owner's digit counts for the owner, also where the group's would help.
            (SERVICE, 44, 0o070, Err("may not list /srv/drop (mode 070)")),
            (1000, SERVICE, 0o700, Err("chmod g+rx")),
            (1000, 44, 0o700, Err("by chgrp")),
            // Nobody should be made a member of root's group.
            (0, 0, 0o750, Err("may not list")),
        ];
        for (uid, gid, mode, expected) in cases {
            let mut drop = place("/srv/drop", Right::LIST);
            drop.way[1] = inode("/srv/drop", uid, gid, mode);
            let needs = drop_in(&[drop.clone()], Some(&service()));
            match expected {
                Ok(group) => {
                    assert_eq!(needs.groups.keys().next().copied(), group, "{uid} {gid} {mode:o}");
                    assert_eq!(needs.remarks, Vec::<String>::new());
                }
                Err(words) => assert!(needs.remarks[0].contains(words), "{mode:o}: {:?}", needs.remarks),
            }
            // With an access list the mode does not tell, and without a user nothing does.
            drop.way[1].has_acl = true;
            assert_eq!(drop_in(&[drop.clone()], Some(&service())), DropIn::default());
            drop.way[1].has_acl = false;
            assert_eq!(drop_in(&[drop], None), DropIn::default());
        }
    }

    #[test]
    fn a_group_that_one_place_needs_serves_the_next() {
        let mut drop = place("/srv/scans/drop", Right::CHANGE);
        drop.way.insert(1, inode("/srv/scans", 0, 44, 0o710));
        drop.way[2] = inode("/srv/scans/drop", 1000, 44, 0o2770);
        let needs = drop_in(&[drop.clone()], Some(&service()));
        assert_eq!(needs.groups.keys().copied().collect::<Vec<_>>(), [44]);
        drop.way[1].mode = 0o700;
        let needs = drop_in(&[drop], Some(&service()));
        assert!(
            needs.remarks[0]
                .contains("may not pass through or run /srv/scans, on the way to the folder drop"),
            "{needs:?}"
        );
    }

    #[test]
    fn what_is_not_there_yet_is_to_be_made_first() {
        let done = Place { exists: false, ..place("/srv/done", Right::CHANGE) };
        // Two folders may name it, in other words or in the same.
        let needs = drop_in(&[done.clone(), done], Some(&service()));
        assert_eq!(needs.remarks.len(), 1);
        assert!(needs.remarks[0].ends_with("install -d -o upspool -g upspool -m 750 /srv/done"), "{needs:?}");
        assert_eq!(needs.writable.len(), 1);
    }

    #[test]
    fn what_is_said_to_be_typed_is_for_a_shell_and_what_is_said_to_be_edited_for_a_unit() {
        for (path, typed) in [
            ("/srv/$(reboot)", "'/srv/$(reboot)'"),
            ("/srv/a;b `c` & d", "'/srv/a;b `c` & d'"),
            ("/srv/it's", "'/srv/it'\\''s'"),
            ("/srv/100%", "'/srv/100%'"),
        ] {
            let needs = drop_in(&[Place { exists: false, ..place(path, Right::CHANGE) }], Some(&service()));
            assert!(needs.remarks[0].ends_with(&format!(" -m 750 {typed}")), "{needs:?}");
        }
        let mut closed = place("/srv/100%", Right::LIST);
        closed.way[1].mode = 0o700;
        let needs = drop_in(&[closed], Some(&service()));
        assert!(needs.remarks[0].starts_with("upspool may not list /srv/100% (mode 700)"), "{needs:?}");
    }

    #[test]
    fn paths_are_words_of_a_unit() {
        let cases = [
            ("/srv/drop", Some("/srv/drop")),
            ("/srv/my files", Some("\"/srv/my files\"")),
            ("/srv/100%", Some("/srv/100%%")),
            (r#"/srv/a"b\c"#, Some(r#""/srv/a\"b\\c""#)),
            ("/srv/Über", Some("/srv/Über")),
            ("/srv/two\nlines", None),
        ];
        for (path, expected) in cases {
            assert_eq!(quoted(Path::new(path)).as_deref(), expected, "{path:?}");
        }
        let needs = drop_in(&[place("/srv/two\nlines", Right::CHANGE)], None);
        assert!(needs.is_empty() && needs.remarks[0].contains("no unit can hold"), "{needs:?}");
        let spaced = drop_in(&[place("/srv/my files", Right::CHANGE)], None);
        assert!(spaced.text(|_| None).contains("\nReadWritePaths=\"-/srv/my files\"\n"), "{spaced:?}");
    }

    #[test]
    fn what_is_mounted_early_needs_no_waiting_for() {
        for (mount, expected) in [("/", 0), ("/run", 0), ("/dev/shm", 0), ("/srv", 1)] {
            let drop = Place { mount: mount.into(), ..place("/srv/drop", Right::LIST) };
            assert_eq!(drop_in(&[drop], None).mounts.len(), expected, "{mount}");
        }
    }
}
