use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::store::{Look, NewRequest, SPOOL, Spool, is_left, leave};

fn request(kind: &str, job: i64) -> NewRequest {
    NewRequest { kind: kind.into(), job: Some(JobId(job)), folder: None, argument: None }
}

/// Much later than anything is written here.
fn later() -> Wall {
    Wall(4_000_000_000_000)
}

struct Ground {
    dir: TempDir,
    spool: Spool,
}

fn ground() -> Ground {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    Ground { dir, spool }
}

impl Ground {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(SPOOL).join(name)
    }

    fn leave(&self, token: &str, requests: &[NewRequest]) {
        leave(self.dir.path(), token, requests).unwrap();
    }

    fn look(&mut self) -> Look {
        self.spool.look(Wall(0)).unwrap()
    }

    fn names(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.dir.path().join(SPOOL)).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn the_spool_is_the_groups_and_nobody_elses_whatever_the_umask_and_whatever_it_was() {
    let ground = ground();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let directory = ground.path("");
    assert_eq!(mode(&directory), 0o1770);
    ground.leave("a", &[request("cancel", 1)]);
    assert_eq!(mode(&ground.path("a.ask")), 0o644, "the service is another user");
    for wrong in [0o777, 0o700, 0o1777] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(wrong)).unwrap();
        Spool::open(ground.dir.path()).unwrap();
        assert_eq!(mode(&directory), 0o1770);
    }
    assert_eq!(ground.names(), ["a.ask".to_owned()].into(), "what lies there stays");
}

#[test]
fn a_link_or_a_file_in_the_place_of_the_spool_is_not_used() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let before = mode(other.path());
    symlink(other.path(), dir.path().join(SPOOL)).unwrap();
    Spool::open(dir.path()).unwrap_err();
    leave(dir.path(), "a", &[request("cancel", 1)]).unwrap_err();
    assert_eq!((mode(other.path()), fs::read_dir(other.path()).unwrap().count()), (before, 0));
    fs::remove_file(dir.path().join(SPOOL)).unwrap();
    fs::write(dir.path().join(SPOOL), "").unwrap();
    Spool::open(dir.path()).unwrap_err();
}

#[test]
fn what_was_left_is_found_as_it_was_asked_in_the_order_in_which_it_was() {
    let mut ground = ground();
    let all = NewRequest {
        kind: "resolve".into(),
        job: Some(JobId(i64::MAX)),
        folder: Some(FolderId(7)),
        argument: Some("is file-\u{0} \"ü\"\n".into()),
    };
    // By the same clock: what is made before and after.
    let made = |name: &str| {
        fs::write(ground.dir.path().join(name), "").unwrap();
        let found = fs::metadata(ground.dir.path().join(name)).unwrap();
        Wall(found.ctime() * 1000 + found.ctime_nsec() / 1_000_000)
    };
    let before = made("before");
    ground.leave("0002-b", &[request("retry", 1)]);
    ground.leave("0001-a", &[all.clone(), request("cancel", 2)]);
    let after = made("after");
    assert!(is_left(ground.dir.path(), "0001-a"));
    let look = ground.look();
    assert_eq!((look.refused.as_slice(), look.more), (&[][..], false));
    let asked: Vec<_> = look.asks.iter().map(|ask| (ask.token.as_str(), ask.requests.as_slice())).collect();
    assert_eq!(asked, [("0001-a", &[all, request("cancel", 2)][..]), ("0002-b", &[request("retry", 1)][..])]);
    let me = rustix::process::geteuid().as_raw();
    for ask in &look.asks {
        assert_eq!(ask.by, me);
        assert!((before..=after).contains(&ask.at), "{before:?} {:?} {after:?}", ask.at);
        assert!(is_left(ground.dir.path(), &ask.token), "until it is in the store");
        ground.spool.remove(&ask.token).unwrap();
        assert!(!is_left(ground.dir.path(), &ask.token));
        ground.spool.remove(&ask.token).unwrap();
    }
    assert_eq!(ground.look(), Look::default());
}

#[test]
fn what_claims_to_be_an_ask_and_is_none_is_taken_away_with_the_reason() {
    let mut ground = ground();
    let outside = ground.dir.path().join("secret");
    fs::write(&outside, r#"{"version":1,"requests":[{"kind":"pause"}]}"#).unwrap();
    let write = |name: &str, text: &str| fs::write(ground.path(name), text).unwrap();
    write("empty.ask", "");
    write("garbage.ask", "\u{1b}[31m what is this?");
    write("deep.ask", &format!(r#"{{"version":1,"requests":{}"#, "[".repeat(60_000)));
    write("later.ask", r#"{"version":2,"wishes":[]}"#);
    write("typo.ask", r#"{"version":1,"requests":[{"kind":"pause","fodler":1}]}"#);
    write("nothing.ask", r#"{"version":1,"requests":[]}"#);
    write("long.ask", &format!(r#"{{"version":1,"requests":[{{"kind":"{}"}}]}}"#, "x".repeat(70_000)));
    let many = vec![r#"{"kind":"pause"}"#; 501].join(",");
    write("many.ask", &format!(r#"{{"version":1,"requests":[{many}]}}"#));
    symlink(&outside, ground.path("link.ask")).unwrap();
    fs::hard_link(&outside, ground.path("hard.ask")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        ground.path("fifo.ask"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    drop(std::os::unix::net::UnixListener::bind(ground.path("socket.ask")).unwrap());
    fs::create_dir(ground.path("directory.ask")).unwrap();
    fs::create_dir_all(ground.path("full.ask/inside")).unwrap();
    ground.leave("good", &[request("cancel", 1)]);

    let look = ground.look();
    assert_eq!(look.asks.iter().map(|ask| ask.token.as_str()).collect::<Vec<_>>(), ["good"]);
    let why = |name: &str| {
        let found = look.refused.iter().find(|one| one.name == name);
        found.unwrap_or_else(|| panic!("{name} is not told of: {look:?}")).clone()
    };
    for (name, words) in [
        ("empty.ask", "EOF"),
        ("garbage.ask", "it says"),
        ("deep.ask", "it says"),
        ("later.ask", "version 2"),
        ("typo.ask", "fodler"),
        ("nothing.ask", "0 requests"),
        ("long.ask", "larger than 65536 bytes"),
        ("many.ask", "501 requests"),
        ("link.ask", "symbolic link"),
        ("hard.ask", "other names"),
        ("fifo.ask", "no regular file"),
        ("socket.ask", "no regular file"),
        ("directory.ask", "no regular file"),
        ("full.ask", "no regular file"),
    ] {
        let refused = why(name);
        assert!(refused.why.contains(words), "{name}: {}", refused.why);
        assert!(refused.why.len() < 300 && !refused.why.contains('\u{1b}'), "{name}: {}", refused.why);
        assert_eq!(refused.stays, name == "full.ask", "{name}");
    }
    assert_eq!(ground.names(), ["full.ask".to_owned(), "good.ask".to_owned()].into());
    assert!(outside.exists(), "what a link leads to is nobody's ask");
}

#[test]
fn what_is_no_ask_and_claims_to_be_none_stays_where_it_is() {
    let mut ground = ground();
    for name in ["report.pdf", ".hidden", ".new", "ask", ".ask", "a b.ask", ".0001-a.new"] {
        fs::write(ground.path(name), "somebody's").unwrap();
    }
    let look = ground.look();
    let told: BTreeSet<_> = look.refused.iter().map(|one| (one.name.as_str(), one.stays)).collect();
    assert_eq!(told, [("report.pdf", true), ("ask", true), ("a b.ask", true)].into());
    assert_eq!((look.asks, ground.names().len()), (vec![], 7));
    // A command that was killed while it wrote does not come back.
    let look = ground.spool.look(later()).unwrap();
    assert_eq!((look.asks, ground.names().len()), (vec![], 5));
    assert!(!ground.path(".0001-a.new").exists() && ground.path("report.pdf").exists());
}

#[test]
fn a_flood_is_taken_in_pieces_and_hides_nothing() {
    let mut ground = ground();
    for number in 0..1500 {
        fs::write(ground.path(&format!("noise-{number}")), "").unwrap();
        fs::create_dir_all(ground.path(&format!("{number:05}.ask/inside"))).unwrap();
    }
    for number in 0..600 {
        let token = format!("x{number:05}");
        fs::write(ground.path(&format!("{token}.ask")), r#"{"version":1,"requests":[{"kind":"pause"}]}"#)
            .unwrap();
    }
    let (mut found, mut looks) = (BTreeSet::new(), 0);
    loop {
        looks += 1;
        assert!(looks < 40, "only {} found", found.len());
        let look = ground.look();
        assert!(look.asks.len() + look.refused.len() <= 1024 && look.asks.len() <= 256, "{looks}");
        for ask in &look.asks {
            ground.spool.remove(&ask.token).unwrap();
            assert!(found.insert(ask.token.clone()), "{} twice", ask.token);
        }
        if !look.more {
            break;
        }
    }
    assert_eq!(found.len(), 600, "in one pass, whatever lies between them");
    assert!(looks > 8, "{looks}");
}

#[tokio::test]
async fn a_file_that_is_read_again_since_a_crash_left_it_is_no_second_request() {
    let fixture = Fixture::new().await;
    let mut spool = Spool::open(fixture.dir.path()).unwrap();
    leave(fixture.dir.path(), "a", &[request("cancel", 1), request("retry", 1)]).unwrap();
    let ask = spool.look(Wall(0)).unwrap().asks.remove(0);
    fixture.store.write(&Write::Spooled(Box::new(ask.clone()))).await.unwrap();
    let rows = fixture.store.pending_requests(0).await.unwrap();
    let asked: Vec<_> = rows.iter().map(|row| (row.request.clone(), row.by, row.at)).collect();
    let me = Some(ask.by);
    assert_eq!(asked, [(request("cancel", 1), me, ask.at), (request("retry", 1), me, ask.at)]);
    let answer = Write::Answer { request: rows[0].id, at: Wall(9), done: true, answer: "done".into() };
    fixture.store.write(&answer).await.unwrap();

    // The file was not removed: the next service finds it as it was.
    let fixture = fixture.crash().await;
    let mut spool = Spool::open(fixture.dir.path()).unwrap();
    let again = spool.look(Wall(0)).unwrap().asks.remove(0);
    assert_eq!(again, ask);
    fixture.store.write(&Write::Spooled(Box::new(again))).await.unwrap();
    assert_eq!(fixture.store.pending_requests(0).await.unwrap(), rows[1..], "neither again nor anew");
    let answered = fixture.store.spooled_request("a", 0).await.unwrap().unwrap();
    assert_eq!(
        (answered.id, answered.done, answered.answer.as_deref()),
        (rows[0].id, Some(true), Some("done"))
    );
    assert_eq!(fixture.store.spooled_request("a", 1).await.unwrap(), Some(rows[1].clone()));
    assert_eq!(fixture.store.spooled_request("a", 2).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_asked_of_a_damaged_store_is_not_asked_of_the_new_one() {
    let fixture = Fixture::new().await;
    let (dir, folders) = (fixture.dir.path().to_owned(), [(PathBuf::from("/srv/a"), "a".to_owned())]);
    Spool::open(&dir).unwrap();
    leave(&dir, "a", &[request("cancel", 1)]).unwrap();
    fs::create_dir_all(dir.join(SPOOL).join("full.ask/inside")).unwrap();
    fs::write(dir.join(SPOOL).join("report.pdf"), "somebody's").unwrap();
    fixture.store.close().await;
    let Fixture { lock, dir: kept, .. } = fixture;
    drop(lock);
    fs::write(dir.join(crate::store::DATABASE), "no database").unwrap();
    crate::store::rebuild(&dir, &folders, at(0).wall).await.unwrap();
    assert!(!is_left(&dir, "a"), "job 1 may be another one now");
    assert!(dir.join(SPOOL).join("report.pdf").exists());
    drop(kept);
}
