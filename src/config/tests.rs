//! The configuration as a whole: what goes in, what is in force, and each line that is printed.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// Enough to make a configuration whole, so that only what a case is about is at fault.
const FOLDER: &str = "[[folder]]\npath = \"/srv/drop/batch\"\npurpose = \"batch\"\n";

struct Case {
    dir: TempDir,
    sources: Sources,
    overrides: Overrides,
}

impl Case {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("upspool.toml");
        std::fs::write(&file, text).unwrap();
        let case = Self {
            sources: Sources { config_flag: Some(file), ..Sources::default() },
            dir,
            overrides: Overrides::default(),
        };
        let home = case.dir.path().to_owned();
        case.env("HOME", home)
    }

    fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.sources.env.insert(name.into(), value.into());
        self
    }

    fn watch(mut self, path: impl Into<PathBuf>, purpose: &str) -> Self {
        self.overrides.watch = Some((path.into(), purpose.into()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        path
    }

    fn load(&self) -> Result<Config, Faults> {
        load(&self.sources, &self.overrides)
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// The lines that are printed, with the case's directory as `DIR`.
    fn faults(&self) -> Vec<String> {
        self.load().err().map(|faults| self.lines(&faults.0)).unwrap_or_default()
    }

    fn lines(&self, faults: &[Fault]) -> Vec<String> {
        let dir = self.dir.path().to_str().unwrap();
        faults.iter().map(|fault| fault.to_string().replace(dir, "DIR")).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let faults: Vec<Fault> = self.config().warnings.into_iter().map(|warning| warning.0).collect();
        self.lines(&faults)
    }
}

fn sample() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/upspool.toml")).unwrap()
}

/// The sample with `# key = value` brought to life.
fn uncommented() -> String {
    let sample = sample();
    let lines = sample.lines().map(|line| {
        let setting = line.strip_prefix("# ").filter(|rest| {
            let key = rest.split(" = ").next().unwrap_or_default();
            key.len() < rest.len() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        });
        setting.unwrap_or(line.trim_start_matches("#     ")).to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_says_the_defaults() {
    let sample = Case::new(&sample()).config();
    let plain = Case::new("").watch("/srv/drop/batch", "batch").config();
    assert_eq!(sample.upload, plain.upload);
    assert_eq!(sample.retry, plain.retry);
    assert_eq!(sample.log, plain.log);
    assert_eq!(sample.status, plain.status);
    assert_eq!(sample.store.keep_history, plain.store.keep_history);
    let [mut said, expected] = [sample.folders[0].clone(), plain.folders[0].clone()];
    said.place = expected.place.clone();
    said.finish_places = expected.finish_places.clone();
    assert_eq!(said, expected);
    let [said, expected] = [&sample.accounts["default"], &plain.accounts["default"]].map(|account| {
        let mut account = account.clone();
        (account.key_place, account.ca_place) = (Place::Default, Place::Default);
        format!("{account:?}")
    });
    assert_eq!(said, expected);
    assert_eq!(sample.warnings, []);
}

#[test]
fn the_sample_has_every_key_and_each_is_as_it_may_be() {
    let text = uncommented();
    let config = Case::new(&text).config();
    assert_eq!(config.accounts["eu"].base_url, "https://eu.api.openai.com/v1");
    assert_eq!(config.upload.bandwidth_limit, Some(20 << 20));

    let said: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
    for (table, keys) in schema::TABLES {
        for key in *keys {
            assert!(said.contains(key.name), "{table}.{} is not in the sample", key.name);
        }
    }
}

#[test]
fn every_fault_is_one_line_that_says_where_what_and_what_to_do() {
    for (text, expected) in [
        (
            "[upload]\nparalel_parts = 4",
            "2: upload.paralel_parts: unknown key; did you mean \"parallel_parts\"?",
        ),
        ("[upload]\nmax_delay = \"1m\"", "2: upload.max_delay: unknown key; it belongs in [retry]"),
        ("[retry]\nxyz = 1", "2: retry.xyz: unknown key; [retry] has first_delay, max_delay, give_up_after"),
        ("[uplaod]\nchecksum = true", "1: uplaod: unknown key; did you mean \"upload\"?"),
        ("part_size = \"auto\"", "1: part_size: unknown key; it belongs in [upload]"),
        ("[xyz]", "1: xyz: unknown key; there are api, upload, retry, store, log, status, folder, accounts"),
        (
            "[api]\napi_key = \"sk-secret\"",
            "2: api.api_key: unknown key; a key does not stand in the configuration: put it in a file and say key_file",
        ),
        ("upload = 3", "1: upload: is not a table; write [upload] on a line of its own"),
        (
            "[folder]\npath = \"/a\"",
            "1: folder: is not a list of tables; write [[folder]], with two brackets",
        ),
        (
            "[upload]\nparallel_parts = \"12\"",
            "2: upload.parallel_parts: \"12\" is not a whole number from 1 to 256, or \"auto\"; write 12 without quotes",
        ),
        (
            "[upload]\nparallel_parts = 0",
            "2: upload.parallel_parts: 0 is not a whole number from 1 to 256, or \"auto\"; for example 8",
        ),
        ("[upload]\nchecksum = \"yes\"", "2: upload.checksum: \"yes\" is not true or false"),
        (
            "[upload]\npart_size = \"64 bananas\"",
            "2: upload.part_size: \"64 bananas\" is not a size from 1 MiB to 64 MiB, or \"auto\": no unit \"bananas\"; units are B, KB, MB, GB, TB, KiB, MiB, GiB, TiB; for example \"16 MiB\"",
        ),
        (
            "[upload]\npart_size = 65",
            "2: upload.part_size: 65 is not a size from 1 MiB to 64 MiB, or \"auto\"; for example \"16 MiB\"",
        ),
        (
            "[retry]\ngive_up_after = \"30 parsecs\"",
            "2: retry.give_up_after: \"30 parsecs\" is not a time from 1ms to 365d: no unit \"parsecs\"; units are ms, s, m, h, d, w; for example \"10s\" or \"1h 30m\"",
        ),
        (
            "[api]\nstall_timeout = 60",
            "2: api.stall_timeout: 60 is not a time from 1ms to 1d; for example \"10s\" or \"1h 30m\"",
        ),
        (
            "[retry]\nfirst_delay = \"20m\"",
            "2: retry.first_delay: first_delay 20m is longer than max_delay 15m; make first_delay the shorter one",
        ),
        ("[api]\nauth = \"basic\"", "2: api.auth: \"basic\" is not one of \"bearer\", \"api-key\""),
        (
            "[api]\nbase_url = \"ftp://x\"",
            "2: api.base_url: \"ftp://x\" is not an http or https URL; for example \"https://api.openai.com/v1\"",
        ),
        (
            "[api]\nbase_url = \"https://u:secret@x\"",
            "2: api.base_url: the value holds a user or a password, which belong in key_file; for example \"https://api.openai.com/v1\"",
        ),
        (
            "[api]\nbase_url = \"https://x/?a=b\"",
            "2: api.base_url: \"https://x/?a=b\" holds a query, which belongs in the key query; for example \"https://api.openai.com/v1\"",
        ),
        (
            "[api]\nbase_url = \"http://10.0.0.1/v1\"",
            "2: api.base_url: http sends the key to 10.0.0.1 unencrypted; use https, or say plain_http = true if that network is trusted",
        ),
        (
            "[api]\nkey_file = \"sk-secret\"",
            "2: api.key_file: the value is not an absolute path; for example \"/etc/upspool/openai-api-key\"",
        ),
        ("[api]\nproject = \"\"", "2: api.project: \"\" is empty; for example \"proj_…\""),
        (
            "[api.query]\napi-version = 3",
            "1: api.query: 3 is not a text, as the value of api-version must be; for example { api-version = \"2024-10-21\" }",
        ),
        (
            "[accounts.EU]",
            "1: accounts: \"EU\" is not an account's name: a-z, 0-9, _ and - only; for example [accounts.eu]",
        ),
        (
            "[accounts.default]",
            "1: accounts.default: is the name of the account of [api]; give it another name",
        ),
        ("[accounts.eu]\nkeyfile = 1", "2: accounts.eu.keyfile: unknown key; did you mean \"key_file\"?"),
        (
            "[api]\nbase_url = \"https://proxy/v1\"\n[accounts.eu]",
            "3: accounts.eu.base_url: is missing, while [api] goes to https://proxy/v1; say which server this account's key is for, e.g. base_url = \"https://api.openai.com/v1\"",
        ),
        (
            "[log]\nlevel = \"verbose\"",
            "2: log.level: \"verbose\" is not one of off, error, warn, info, debug, trace; for example \"info\", or \"info,upspool=debug\"",
        ),
        (
            "[log]\nformat = \"xml\"",
            "2: log.format: \"xml\" is not one of \"auto\", \"journald\", \"text\", \"json\"",
        ),
        (
            "[store]\nstate_dir = \"state\"",
            "2: store.state_dir: \"state\" is not an absolute path; for example \"/var/lib/upspool\"",
        ),
        (
            "[store]\nstate_dir = \"/srv\"",
            "2: store.state_dir: /srv holds the folder /srv/drop/batch; keep the state elsewhere",
        ),
        (
            "[store]\nstate_dir = \"/srv/drop/batch/\"",
            "2: store.state_dir: /srv/drop/batch/ is the folder /srv/drop/batch; keep the state elsewhere",
        ),
        (
            "[status]\nlisten = \"9797\"",
            "2: status.listen: \"9797\" is not an address with a port, or unix:/PATH; for example \"127.0.0.1:9797\", or \"unix:/var/lib/upspool/page.sock\"",
        ),
        (
            "[status]\nlisten = \"0.0.0.0:9797\"",
            "2: status.listen: other machines reach 0.0.0.0:9797, and would see the names of files without a token; say token_file, or listen on 127.0.0.1, [::1] or unix:/PATH",
        ),
        (
            "[status]\nlisten = \"unix:page.sock\"",
            "2: status.listen: \"unix:page.sock\" is not an absolute path; for example \"127.0.0.1:9797\", or \"unix:/var/lib/upspool/page.sock\"",
        ),
        (
            "[upload]\nbandwidth_limit = \"0 MiB/s\"",
            "2: upload.bandwidth_limit: \"0 MiB/s\" is not a rate from 1 KiB/s; for example \"20 MiB/s\"",
        ),
    ] {
        // The folder comes last, so that the lines of the case stay.
        let text = if text.starts_with("[folder]") { text.to_owned() } else { format!("{text}\n{FOLDER}") };
        assert_eq!(Case::new(&text).faults(), [format!("DIR/upspool.toml:{expected}")], "{text}");
    }
}

#[test]
fn every_fault_of_a_folder_is_one_line() {
    for (text, expected) in [
        ("account = \"eu\"", "4: folder.account: there is no account \"eu\"; add [accounts.eu]"),
        (
            "recursive = \"true\"",
            "4: folder.recursive: \"true\" is not true or false; write true without quotes",
        ),
        ("watch = \"inotify\"", "4: folder.watch: \"inotify\" is not one of \"auto\", \"events\", \"poll\""),
        (
            "poll_interval = \"200ms\"",
            "4: folder.poll_interval: \"200ms\" is not a time from 1s to 1d; for example \"10s\" or \"1h 30m\"",
        ),
        (
            "expires_after = \"31d\"",
            "4: folder.expires_after: \"31d\" is not a time from 1h to 30d; for example \"7d\"",
        ),
        (
            "include = []",
            "4: folder.include: the list is empty, so that nothing would match; for example [\"*.jsonl\", \"done/**\"]",
        ),
        (
            "exclude = [\"a[\"]",
            "4: folder.exclude: \"a[\" is not a pattern: error parsing glob '**/a[': unclosed character class; missing ']'; for example [\"*.jsonl\", \"done/**\"]",
        ),
        (
            "exclude = \"*.tmp\"",
            "4: folder.exclude: \"*.tmp\" is not a list of texts; for example [\"*.jsonl\", \"done/**\"]",
        ),
        (
            "mime_type = \"jsonl\"",
            "4: folder.mime_type: \"jsonl\" is not of the form type/subtype; for example \"text/jsonl\"",
        ),
        (
            "after_upload = { mvoe = \"x\" }",
            "4: folder.after_upload: a table is not one of \"keep\", \"delete\", { move = \"DIRECTORY\" }",
        ),
        (
            "[[folder]]\npath = \"/srv/other\"\npurpose = \"batch\"\nafter_upload = { move = \"done/../..\" }",
            "7: folder.after_upload: done/../.. holds \"..\"; say a directory in the folder, as \"done\", or an absolute one",
        ),
        ("preflight = \"on\"", "4: folder.preflight: \"on\" is not one of \"off\", \"warn\", \"reject\""),
        (
            "follow_symlinks = \"all\"",
            "4: folder.follow_symlinks: \"all\" is not true, false or \"anywhere\"",
        ),
        ("dedupe = \"yes\"", "4: folder.dedupe: \"yes\" is not true or false"),
        (
            "[[folder]]\npath = \"/srv/other\"\npurpose = \"batch\"\non_stored = [\"x\"]",
            "7: folder.on_stored: \"x\" is not an absolute path; name the program by its whole path; no shell reads this",
        ),
        (
            "[[folder]]\npath = \"drop\"\npurpose = \"a b\"",
            "5: folder.path: \"drop\" is not an absolute path; for example \"/srv/drop/batch\"\n6: folder.purpose: \"a b\" holds blanks or control characters; for example \"batch\"",
        ),
        (
            "[[folder]]",
            "4: folder.path: is missing; for example path = \"/srv/drop/batch\"\n4: folder.purpose: is missing; for example purpose = \"batch\"",
        ),
        (
            "[[folder]]\npath = \"/srv/drop/../x\"\npurpose = \"batch\"",
            "5: folder.path: \"/srv/drop/../x\" holds \"..\"; for example \"/srv/drop/batch\"",
        ),
        (
            "[[folder]]\npath = \"/srv/drop/batch/a\"\npurpose = \"batch\"",
            "5: folder.path: /srv/drop/batch/a lies in the folder /srv/drop/batch; no folder may hold another",
        ),
        (
            "[[folder]]\npath = \"/srv/drop\"\npurpose = \"batch\"",
            "5: folder.path: /srv/drop holds the folder /srv/drop/batch; no folder may hold another",
        ),
        (
            "[[folder]]\npath = \"/srv/drop/./batch/\"\npurpose = \"batch\"\nname = \"b\"",
            "5: folder.path: /srv/drop/batch is the same directory as /srv/drop/batch; watch it once",
        ),
        (
            "[[folder]]\npath = \"/srv/other/batch\"\npurpose = \"batch\"",
            "5: folder.name: \"batch\" is the name of /srv/drop/batch too; give /srv/other/batch another name",
        ),
        (
            "[[folder]]\npath = \"/\"\npurpose = \"batch\"",
            "5: folder.name: / has no name that could be the folder's; say name = \"…\"",
        ),
    ] {
        let expected: Vec<String> = expected.lines().map(|line| format!("DIR/upspool.toml:{line}")).collect();
        assert_eq!(Case::new(&format!("{FOLDER}{text}")).faults(), expected, "{text}");
    }
    // A sibling whose name begins alike lies not in it.
    Case::new(&format!("{FOLDER}[[folder]]\npath = \"/srv/drop/batch-2\"\npurpose = \"batch\"")).config();
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_file() {
    let case = Case::new("[upload]\nchecksum = 1\n[folder]\n[api]\nauth = 3\nxyz = 1\n")
        .env("UPSPOOL__UPLOAD__PARALLEL_PARTS", "lots")
        .env("UPSPOOL__STORE__STATE_DIR", "relative");
    let faults = case.faults();
    let places: Vec<&str> = faults.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let file = |line: u32| format!("DIR/upspool.toml:{line}");
    assert_eq!(
        places,
        [
            &*file(2),
            &*file(3),
            &*file(5),
            &*file(6),
            "UPSPOOL__STORE__STATE_DIR",
            "UPSPOOL__UPLOAD__PARALLEL_PARTS"
        ]
    );
}

#[test]
fn a_slip_of_syntax_is_told_with_its_column() {
    let faults = Case::new("[upload]\nchecksum = yes\n").faults();
    assert_eq!(faults, ["DIR/upspool.toml:2:12: string values must be quoted, expected literal string"]);
    let faults = Case::new("[log]\nlevel = \"info\"\nlevel = \"warn\"\n").faults();
    assert_eq!(faults, ["DIR/upspool.toml:3:1: duplicate key"]);
}

#[test]
fn a_variable_that_cannot_be_is_told_by_its_name() {
    for (name, value, expected) in [
        (
            "UPSPOOL__UPLOAD__PARALEL_PARTS",
            "4",
            "unknown variable; did you mean UPSPOOL__UPLOAD__PARALLEL_PARTS?",
        ),
        (
            "UPSPOOL__FOLDER__PATH",
            "/a",
            "folders and accounts cannot come from the environment; put them into the configuration file",
        ),
        (
            "UPSPOOL__ACCOUNTS__EU__AUTH",
            "bearer",
            "folders and accounts cannot come from the environment; put them into the configuration file",
        ),
        (
            "UPSPOOL__UPLOAD__PARALLEL_PARTS",
            "lots",
            "upload.parallel_parts: \"lots\" is not a whole number from 1 to 256, or \"auto\"; for example 8",
        ),
        ("UPSPOOL__UPLOAD__CHECKSUM", "yes", "upload.checksum: \"yes\" is not true or false"),
        ("UPSPOOL__STATUS__LISTEN", "[::1]:1", ""),
        (
            "OPENAI_BASE_URL",
            "here",
            "api.base_url: \"here\" is not a URL; for example \"https://api.openai.com/v1\"",
        ),
        ("UPSPOOL_CONFIG", "/nowhere", ""),
    ] {
        let expected: Vec<String> =
            if expected.is_empty() { Vec::new() } else { vec![format!("{name}: {expected}")] };
        // --config is stronger than UPSPOOL_CONFIG, so that the last is no fault.
        assert_eq!(Case::new(FOLDER).env(name, value).faults(), expected);
    }
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let mut case = Case::new("");
    case.sources.config_flag = Some("/nowhere/a.toml".into());
    let rest = "/nowhere/a.toml does not exist; name a file that is there, or none to use the usual places";
    assert_eq!(case.faults(), [format!("--config: {rest}")]);
    case.sources.config_flag = None;
    let case = case.env("UPSPOOL_CONFIG", "/nowhere/a.toml");
    assert_eq!(case.faults(), [format!("UPSPOOL_CONFIG: {rest}")]);
    let case = case.env("UPSPOOL_CONFIG", "/");
    assert_eq!(case.faults(), ["/: cannot be read: Is a directory (os error 21)"]);
}

#[test]
fn the_users_file_is_found_without_being_named() {
    let mut case = Case::new("");
    case.sources.config_flag = None;
    assert_eq!(case.config().source, None);
    std::fs::create_dir_all(case.path(".config/upspool")).unwrap();
    let file = case.write(".config/upspool/upspool.toml", "[upload]\nparallel_parts = 3\n");
    assert_eq!(case.config().source, Some(file));
    assert_eq!(case.config().upload.parallel_parts, Some(3));
}

#[test]
fn environment_beats_file_beats_sdk_variables_beats_default() {
    let server = |case: &Case| case.config().accounts["default"].base_url.clone();
    let case = Case::new("");
    assert_eq!(server(&case), "https://api.openai.com/v1");
    let case = case.env("OPENAI_BASE_URL", "");
    assert_eq!(server(&case), "https://api.openai.com/v1");
    let case = case.env("OPENAI_BASE_URL", "https://sdk/v1/");
    assert_eq!(server(&case), "https://sdk/v1");
    case.write("upspool.toml", "[api]\nbase_url = \"https://file/\"\nquery = { a = \"1\" }\n");
    assert_eq!(server(&case), "https://file");
    let case = case.env("UPSPOOL__API__BASE_URL", "https://env").env("UPSPOOL__API__QUERY", "{ b = \"2\" }");
    assert_eq!(server(&case), "https://env");
    assert_eq!(case.config().accounts["default"].query, Query([("b".into(), "2".into())].into()));

    let case = Case::new("[store]\nstate_dir = \"/from/file\"\n");
    assert_eq!(case.config().store.state_dir, Path::new("/from/file"));
    let mut case = case.env("UPSPOOL__STORE__STATE_DIR", "/from/env");
    assert_eq!(case.config().store.state_dir, Path::new("/from/env"));
    case.overrides.state_dir = Some("/from/flag".into());
    assert_eq!(case.config().store.state_dir, Path::new("/from/flag"));
}

#[test]
fn the_environment_is_text_and_is_read_as_what_the_key_is() {
    let config = Case::new("")
        .env("UPSPOOL__UPLOAD__PARALLEL_PARTS", "4")
        .env("UPSPOOL__UPLOAD__CHECKSUM", "false")
        .env("UPSPOOL__UPLOAD__PART_SIZE", "16 MiB")
        .env("UPSPOOL__RETRY__MAX_DELAY", "1h 30m")
        .env("OPENAI_ORG_ID", "org-1")
        .config();
    assert_eq!((config.upload.parallel_parts, config.upload.checksum), (Some(4), false));
    assert_eq!(config.upload.part_size, PartSize::Bytes(16 << 20));
    assert_eq!(config.retry.max_delay, Duration::from_secs(5400));
    assert_eq!(config.accounts["default"].organization.as_deref(), Some("org-1"));
}

#[test]
fn names_in_a_query_stay_as_they_are() {
    let case = Case::new("[api]\nquery = { Api-Version = \"1\", \"a.B[0]\" = \"2\" }\n");
    let names: Vec<String> = case.config().accounts["default"].query.0.keys().cloned().collect();
    assert_eq!(names, ["Api-Version", "a.B[0]"]);
}

#[test]
fn the_state_lies_where_its_configuration_suggests() {
    let state = |case: &Case| case.config().store.state_dir;
    let case = Case::new("");
    assert_eq!(state(&case), case.path(".local/state/upspool"));
    let case = case.env("XDG_STATE_HOME", "/xdg");
    assert_eq!(state(&case), Path::new("/xdg/upspool"));
    let case = case.env("STATE_DIRECTORY", "/var/lib/private/upspool:/var/lib/other");
    assert_eq!(state(&case), Path::new("/var/lib/private/upspool"));
    let mut case = Case::new("");
    case.sources.env.clear();
    assert_eq!(
        case.faults(),
        [
            "DIR/upspool.toml: store.state_dir: is not said, and neither XDG_STATE_HOME nor HOME is set; for example state_dir = \"/var/lib/upspool\", or --state-dir"
        ]
    );
}

#[test]
fn accounts_take_the_timeouts_of_api_and_nothing_else() {
    let case = Case::new(
        "[api]\nstall_timeout = \"5s\"\nanswer_timeout = \"6s\"\norganization = \"org-1\"\nauth = \"api-key\"\n\
         query = { a = \"b\" }\nkey_file = \"/k\"\n[accounts.eu]\nanswer_timeout = \"7s\"\n",
    )
    .env("OPENAI_API_KEY", "sk-1");
    let eu = &case.config().accounts["eu"];
    assert_eq!((eu.stall_timeout, eu.answer_timeout), (Duration::from_secs(5), Duration::from_secs(7)));
    assert_eq!((eu.organization.as_deref(), eu.auth, eu.query.0.len()), (None, Auth::Bearer, 0));
    assert!(matches!(eu.key, KeySource::Missing(_)), "{:?}", eu.key);
}

#[test]
fn watch_takes_its_folder_alone_and_the_rest_of_the_file() {
    let config =
        Case::new("[upload]\nparallel_parts = 2\n[[folder]]\nxyz = 1\n").watch("/srv/in", "vision").config();
    let names: Vec<_> = config.folders.iter().map(|folder| (&*folder.name, &*folder.purpose)).collect();
    assert_eq!((names, config.upload.parallel_parts), (vec![("in", "vision")], Some(2)));
    let faults = Case::new("").watch("/srv/in", "a\nb").faults();
    assert_eq!(faults, [r#"--purpose: "a\nb" holds blanks or control characters; for example batch"#]);
}

#[test]
fn what_is_unwise_is_a_warning() {
    let case = Case::new("[[folder]]\npath = \"/srv/x\"\npurpose = \"new-one\"\n");
    let purpose = "DIR/upspool.toml:3: folder.purpose: \"new-one\" is not one of assistants, batch, fine-tune, vision, user_data, evals; it is sent as it stands";
    assert_eq!(case.warnings(), [purpose]);

    let case = Case::new("[api]\nplain_http = true\nbase_url = \"http://proxy/v1\"\n");
    assert_eq!(
        case.warnings(),
        ["DIR/upspool.toml:3: api.base_url: http sends the key to proxy unencrypted"]
    );
    for loopback in ["http://localhost:8080/v1", "http://127.0.0.1", "http://[::1]:1/v1"] {
        let case = Case::new(&format!("[api]\nbase_url = \"{loopback}\"\n"));
        assert_eq!(case.warnings(), [] as [&str; 0]);
        assert_eq!(case.config().accounts["default"].base_url, loopback);
    }

    let case = Case::new("");
    let key = case.write("key", "sk-1\n");
    case.write("upspool.toml", &format!("[api]\nkey_file = {key:?}\n"));
    assert_eq!(case.warnings(), [] as [&str; 0]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        case.warnings(),
        [
            "DIR/upspool.toml:2: api.key_file: DIR/key can be read or written by everyone (mode 0644); chmod it to 0640 or less"
        ]
    );
}

#[test]
fn folders_that_are_not_there_are_told_apart() {
    let case = Case::new("");
    assert_eq!(
        case.lines(&case.config().check_folders()),
        [
            "DIR/upspool.toml: folder: there is none to watch; add a [[folder]] with path and purpose; `upspool run` also takes --watch DIR --purpose P"
        ]
    );
    let file = case.write("file", "");
    let text = |path: &Path| format!("[[folder]]\npath = {path:?}\npurpose = \"batch\"\n");
    case.write("upspool.toml", &(text(&case.path("gone")) + &text(&file)));
    let faults = case.config().check_folders();
    assert_eq!(
        case.lines(&faults),
        [
            "DIR/upspool.toml:2: folder.path: DIR/gone does not exist; create it, or mount what holds it",
            "DIR/upspool.toml:5: folder.path: DIR/file is not a directory; name the directory that holds the files"
        ]
    );
    assert!(faults.iter().all(|fault| fault.code == "folder-missing"));
    case.write("upspool.toml", &text(case.dir.path()));
    assert_eq!(case.config().check_folders(), []);
}

#[test]
fn a_link_does_not_hide_that_folders_lie_in_each_other() {
    let case = Case::new("").env("OPENAI_API_KEY", "sk-1");
    std::fs::create_dir_all(case.path("a/b")).unwrap();
    std::os::unix::fs::symlink(case.path("a/b"), case.path("link")).unwrap();
    let text = |name: &str| format!("[[folder]]\npath = {:?}\npurpose = \"batch\"\n", case.path(name));
    case.write("upspool.toml", &(text("a") + &text("link")));
    assert_eq!(
        case.lines(&case.config().check().unwrap_err().0),
        ["DIR/upspool.toml:5: folder.path: DIR/link lies in the folder DIR/a; no folder may hold another"]
    );
    // The state directory may lie in a folder: it is left out of it later.
    case.write("upspool.toml", &format!("[store]\nstate_dir = {:?}\n{}", case.path("a/b"), text("a")));
    case.config();
}

#[test]
fn the_key_comes_from_the_first_source_that_is_named_and_from_no_other() {
    let case = Case::new(FOLDER);
    let read = |case: &Case| {
        let config = case.config();
        let account = &config.accounts["default"];
        account
            .key
            .read()
            .map(|key| key.expose().to_owned())
            .map_err(|_| case.lines(&config.check_accounts()).join("\n"))
    };
    let remedy = "; put the key alone into a file that the service may read, and say key_file";
    let missing = "DIR/upspool.toml: api.key_file: no key: no key_file, no credential openai-api-key, no OPENAI_API_KEY";
    assert_eq!(read(&case), Err(format!("{missing}{remedy}")));
    assert_eq!(case.config().check_accounts()[0].code, "key-missing");

    let case = case.env("OPENAI_API_KEY", "sk-env");
    assert_eq!(read(&case).unwrap(), "sk-env");
    let empty = case.env("OPENAI_API_KEY", "");
    assert_eq!(
        read(&empty),
        Err(format!("OPENAI_API_KEY: api.key_file: the variable OPENAI_API_KEY is empty{remedy}"))
    );
    let credentials = empty.dir.path().to_owned();
    let case = empty.env("OPENAI_API_KEY", "sk-env").env("CREDENTIALS_DIRECTORY", credentials);
    assert_eq!(read(&case).unwrap(), "sk-env");
    case.write("openai-api-key", "sk-credential\n");
    assert_eq!(read(&case).unwrap(), "sk-credential");
    case.write("openai-api-key", "\n");
    assert_eq!(
        read(&case),
        Err(format!(
            "CREDENTIALS_DIRECTORY: api.key_file: the systemd credential DIR/openai-api-key is empty{remedy}"
        ))
    );
    let key_file = case.path("key");
    case.write("upspool.toml", &format!("{FOLDER}[api]\nkey_file = {key_file:?}\n"));
    assert_eq!(
        read(&case),
        Err(format!(
            "DIR/upspool.toml:5: api.key_file: the file DIR/key cannot be read: No such file or directory (os error 2){remedy}"
        ))
    );
    let source = case.config().accounts["default"].key.clone();
    case.write("key", "sk-file \r\n");
    assert_eq!(source.read().unwrap().expose(), "sk-file");
    // Read again, not remembered.
    case.write("key", "sk-other");
    assert_eq!(source.read().unwrap().expose(), "sk-other");
}

#[test]
fn an_accounts_key_is_its_own() {
    let case =
        Case::new(&format!("[accounts.eu]\n{FOLDER}account = \"eu\"\n")).env("OPENAI_API_KEY", "sk-env");
    let faults = case.config().check_accounts();
    assert_eq!(
        case.lines(&faults),
        [
            "DIR/upspool.toml:1: accounts.eu.key_file: no key: no key_file, no credential openai-api-key.eu; put the key alone into a file that the service may read, and say key_file"
        ]
    );
    let credentials = case.dir.path().to_owned();
    let case = case.env("CREDENTIALS_DIRECTORY", credentials);
    let path = case.write("openai-api-key.eu", "sk-eu");
    assert_eq!(
        case.config().accounts["eu"].key.to_string(),
        format!("the systemd credential {}", path.display())
    );
    assert_eq!(case.config().check_accounts(), []);
}

#[test]
fn what_cannot_be_a_key_is_refused_without_being_shown() {
    for (content, why) in [
        ("sk-secret\nsk-two", "holds several lines; a key is one"),
        ("sk-sec ret", "holds blanks or characters that are not visible ASCII"),
        (" sk-secret", "holds blanks or characters that are not visible ASCII"),
        ("sk-sécret", "holds blanks or characters that are not visible ASCII"),
        ("\u{feff}sk-secret", "holds blanks or characters that are not visible ASCII"),
        ("sk-secret\0", "holds blanks or characters that are not visible ASCII"),
        ("", "is empty"),
    ] {
        let source = KeySource::Environment(content.to_owned().into());
        let error = source.read().unwrap_err();
        assert_eq!(error.to_string(), format!("the variable OPENAI_API_KEY {why}"));
        assert!(!format!("{source:?} {error:?}").contains("sk-"), "{content:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let error = KeySource::File(dir.path().to_owned()).read().unwrap_err();
    assert!(error.to_string().ends_with("is not a regular file"), "{error}");
    let key = KeySource::Environment("sk-secret".to_owned().into()).read().unwrap();
    assert_eq!(format!("{key:?}"), "ApiKey(hidden)");
}

#[test]
fn a_ca_file_must_be_readable() {
    let case =
        Case::new(&format!("[api]\nca_file = \"/nowhere/ca.pem\"\n{FOLDER}")).env("OPENAI_API_KEY", "sk-1");
    assert_eq!(
        case.lines(&case.config().check_accounts()),
        [
            "DIR/upspool.toml:2: api.ca_file: /nowhere/ca.pem cannot be read: No such file or directory (os error 2)"
        ]
    );
}

#[test]
fn the_token_of_the_page_is_readable_by_the_service_and_not_by_everyone() {
    let fault = |content: Option<&str>, mode: u32| {
        let case = Case::new("");
        let token = case.path("token");
        if let Some(content) = content {
            std::fs::write(&token, content).unwrap();
            std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let text = format!("[status]\nlisten = \"0.0.0.0:9797\"\ntoken_file = {token:?}\n{FOLDER}");
        std::fs::write(case.path("upspool.toml"), text).unwrap();
        let fault = case.config().check_token().map(|fault| fault.to_string());
        fault.map(|fault| fault.replace(case.dir.path().to_str().unwrap(), "DIR"))
    };
    let one_word =
        "put one word alone into a file that the service may read, e.g. from `openssl rand -hex 32`";
    assert_eq!(fault(Some("a-token\n"), 0o640), None);
    assert_eq!(
        fault(Some(" \n"), 0o640).unwrap(),
        format!("DIR/upspool.toml:3: status.token_file: the file DIR/token is empty; {one_word}")
    );
    let missing = fault(None, 0).unwrap();
    assert!(missing.contains("the file DIR/token cannot be read: No such file"), "{missing}");
    assert_eq!(
        fault(Some("a-token"), 0o644).unwrap(),
        "DIR/upspool.toml:3: status.token_file: DIR/token can be read or written by everyone (mode 0644); \
         chmod it to 0640 or less, and change the token"
    );
}
