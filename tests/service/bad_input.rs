//! Each wrong thing, as a user would do it: one clear line with the place and the remedy, the right code, and the rest
//! goes on.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output};

use upspool::model::job::State;

use crate::harness::{Bench, noise};

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One run that must end with 78 and one line that says all of `expected`.
fn refused(bench: &Bench, expected: &[&str]) {
    // With an end, should it be taken after all.
    let output = bench.command(&["run", "--once", "--timeout", "20s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", words(&output));
    let lines: Vec<String> = words(&output).lines().map(str::to_owned).collect();
    let fits = |line: &&String| expected.iter().all(|word| line.contains(word));
    assert!(lines.iter().any(|line| fits(&line)), "{expected:?} in {lines:#?}");
    let checked = bench.command(&["check"]).output().unwrap();
    assert_eq!(checked.status.code(), Some(78), "check agrees: {}", words(&checked));
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_with_its_line_and_the_remedy() {
    for (table, expected) in [
        ("[upload]\nparalel_parts = 4\n", &["upspool.toml:", "paralel_parts", "parallel_parts"][..]),
        ("[upload]\nparallel_parts = \"four\"\n", &["upspool.toml:", "upload.parallel_parts"]),
        ("[upload]\npart_size = \"64 bananas\"\n", &["upspool.toml:", "upload.part_size", "MiB"]),
        ("[upload]\npart_size = \"65 MiB\"\n", &["upspool.toml:", "upload.part_size", "64 MiB"]),
        ("[retry]\nmax_delay = \"30 parsecs\"\n", &["upspool.toml:", "retry.max_delay"]),
        (
            "[upload]\nbandwidth_limit = \"0 MB/s\"\n",
            &["upspool.toml:", "upload.bandwidth_limit", "20 MiB/s"],
        ),
        ("[status]\nlisten = \"0.0.0.0:9797\"\n", &["upspool.toml:", "status.listen", "token_file"]),
    ] {
        let mut bench = Bench::new().await;
        bench.tables = table.into();
        refused(&bench, expected);
    }
}

#[tokio::test]
async fn a_wrong_folder_is_refused() {
    let mut bench = Bench::new().await;
    bench.folders = format!("[[folder]]\npath = {:?}\npurpose = \"batch\"\n", bench.path("nowhere"));
    refused(&bench, &["nowhere", "folder"]);

    std::fs::write(bench.path("a-file"), b"x").unwrap();
    bench.folders = format!("[[folder]]\npath = {:?}\npurpose = \"batch\"\n", bench.path("a-file"));
    refused(&bench, &["a-file", "directory"]);

    std::fs::create_dir(bench.path("drop").join("inner")).unwrap();
    bench.folders =
        format!("[[folder]]\npath = {:?}\npurpose = \"batch\"\n", bench.path("drop").join("inner"));
    refused(&bench, &["inner", "drop"]);

    std::fs::create_dir(bench.path("second")).unwrap();
    bench.folders =
        format!("[[folder]]\npath = {:?}\nname = \"drop\"\npurpose = \"batch\"\n", bench.path("second"));
    refused(&bench, &["drop", "name"]);
}

#[tokio::test]
async fn a_wrong_key_source_is_refused_and_no_other_is_tried() {
    let mut bench = Bench::new().await;
    bench.env.insert("OPENAI_API_KEY".into(), upspool_emulator::DEFAULT_KEY.into());
    for (content, expected) in [
        (&b""[..], "empty"),
        (b"\n", "empty"),
        (b"sk-one\nsk-two\n", "line"),
        (b"sk-\x07bell\n", "character"),
    ] {
        std::fs::write(bench.path("key"), content).unwrap();
        refused(&bench, &["key", expected]);
    }
    std::fs::remove_file(bench.path("key")).unwrap();
    refused(&bench, &["key"]);

    // No source at all.
    let bare = Bench::new().await;
    let output = bare
        .plain_command(&["run", "--watch", bare.path("drop").to_str().unwrap(), "--purpose", "user_data"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(words(&output).contains("OPENAI_API_KEY"), "{}", words(&output));
}

#[tokio::test]
async fn plain_http_to_another_host_is_refused() {
    let mut bench = Bench::new().await;
    bench.api = "base_url = \"http://api.example.com/v1\"\n".into();
    refused(&bench, &["http", "plain_http"]);
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_used_is_refused() {
    let bench = Bench::new().await;
    // Root may write anywhere but below a file.
    std::fs::write(bench.state_dir(), b"not a directory").unwrap();
    let output = bench.command(&["run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", words(&output));
    assert!(words(&output).contains(bench.state_dir().to_str().unwrap()), "{}", words(&output));
    std::fs::remove_file(bench.state_dir()).unwrap();

    bench.drop_file("a", b"x");
    assert_eq!(bench.once(&[]).await.0, 0);
    let database = bench.state_dir().join("upspool.db");
    std::fs::write(&database, b"this is no database, and nobody may overwrite it").unwrap();
    for wal in ["upspool.db-wal", "upspool.db-shm"] {
        let _ = std::fs::remove_file(bench.state_dir().join(wal));
    }
    let output = bench.command(&["run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", words(&output));
    assert!(words(&output).contains("upspool.db"), "{}", words(&output));
    let mut files = std::fs::read_dir(bench.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    let aside = files.find(|path| path.to_str().unwrap().contains("upspool.db.corrupt-")).unwrap();
    assert!(std::fs::read(aside).unwrap().starts_with(b"this is no database"), "set aside as it was");
}

#[tokio::test]
async fn files_that_cannot_be_sent_fail_alone_with_their_code() {
    let bench = Bench::new().await;
    bench.drop_file("empty", b"");
    let huge = bench.path("huge");
    std::fs::File::create(&huge).unwrap().set_len(8 * 1024 * 1024 * 1024 + 1).unwrap();
    std::fs::rename(&huge, bench.path("drop").join("huge")).unwrap();
    let closed = bench.drop_file("closed", b"secret");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o0)).unwrap();
    let good = bench.drop_file("good", b"good");
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 1, "{printed}");
    let code_of = |record: upspool::store::Record| (record.state, record.error.map(|error| error.code));
    assert_eq!(code_of(bench.record("empty").await), (State::Failed, Some("file-empty".into())));
    assert_eq!(code_of(bench.record("huge").await), (State::Failed, Some("file-too-large".into())));
    assert_eq!(bench.record("good").await.state, State::Stored);
    // Root reads what it may not: the same with another user is tried where there is one.
    let state = bench.record("closed").await;
    if rustix::process::geteuid().is_root() {
        assert_eq!(state.state, State::Stored);
    } else {
        assert_eq!(code_of(state), (State::Failed, Some("file-unreadable".into())));
    }
    assert!(good.is_file());
}

#[tokio::test]
async fn what_is_no_regular_file_is_never_opened_nor_waited_for() {
    let bench = Bench::new().await;
    let drop_folder = bench.path("drop");
    let fifo = drop_folder.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(drop_folder.join("socket")).unwrap();
    symlink("/etc/passwd", drop_folder.join("link")).unwrap();
    symlink(".", drop_folder.join("loop")).unwrap();
    symlink("/dev/zero", drop_folder.join("device")).unwrap();
    bench.drop_file("good", &noise(1000, 1));
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    assert_eq!(bench.records().await.len(), 1);
    assert_eq!(bench.emulator.files().len(), 1);
}
