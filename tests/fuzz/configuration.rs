//! Configuration files.

use std::collections::BTreeMap;

use upspool::config::{Overrides, Sources, load};

use crate::{Session, is_one_line};

const SEEDS: [&str; 6] = [
    include_str!("../../config/upspool.toml"),
    "[api]\nbase_url = \"http://127.0.0.1:1/v1\"\nkey_file = \"/k\"\nstall_timeout = \"1h 30m\"\n\
     query = { a = \"b\" }\nauth = \"api-key\"\n[accounts.eu]\nbase_url = \"https://eu.example/v1\"\n",
    "[upload]\npart_size = \"16 MiB\"\nparallel_parts = 8\nbandwidth_limit = \"20 MiB/s\"\nchecksum = true\n\
     [retry]\nfirst_delay = \"500ms\"\nmax_delay = \"15m\"\ngive_up_after = \"24h\"\n",
    "[[folder]]\npath = \"/srv/drop\"\npurpose = \"batch\"\ninclude = [\"**\", \"*.{a,b}\"]\nexclude = [\"[!x-z]?\"]\n\
     after_upload = { move = \"done\" }\nreceipt = { dir = \"/r\" }\non_stored = [\"/bin/true\", \"x\"]\n",
    "[[folder]]\npath = \"/a\"\npurpose = \"evals\"\nsettle = \"2s\"\nexisting = \"skip\"\nexpires_after = \"30d\"\n\
     [[folder]]\npath = \"/a/b\"\npurpose = \"x\"\naccount = \"eu\"\nwatch = \"poll\"\n",
    "[store]\nstate_dir = \"/var/lib/upspool\"\nkeep_history = \"90d\"\n[log]\nlevel = \"info\"\nformat = \"json\"\n\
     [status]\nlisten = \"[::1]:9797\"\ntoken_file = \"/t\"\n",
];

/// What a shell may have in its environment for it.
const VARIABLES: [&str; 8] = [
    "UPSPOOL__UPLOAD__PARALLEL_PARTS",
    "UPSPOOL__API__BASE_URL",
    "UPSPOOL__API__QUERY",
    "UPSPOOL__LOG__LEVEL",
    "UPSPOOL__",
    "UPSPOOL__API__NO_SUCH__KEY",
    "OPENAI_BASE_URL",
    "OPENAI_ORG_ID",
];

#[test]
fn configuration_files() {
    use std::os::unix::ffi::OsStringExt;

    let (mut session, mut mutator) = Session::new("configuration");
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("upspool.toml");
    let sane: Vec<&[u8]> = vec![b"4", b"http://127.0.0.1/v1", b"debug", b"{ a = \"b\" }", b"[1]"];
    while session.goes_on() {
        let input = mutator.mutant(&SEEDS);
        std::fs::write(&path, &input).unwrap();
        let mut env = BTreeMap::new();
        if mutator.below(4) == 0 {
            let mut value = mutator.mutant(&sane);
            value.retain(|byte| *byte != 0);
            env.insert((*mutator.of(&VARIABLES)).into(), std::ffi::OsString::from_vec(value));
        }
        let sources = Sources { config_flag: Some(path.clone()), env };
        if let Err(faults) = load(&sources, &Overrides::default()) {
            assert!(!faults.0.is_empty(), "refused without a word: {}", input.escape_ascii());
            for fault in &faults.0 {
                is_one_line(&fault.to_string(), &input);
            }
        }
    }
    session.end();
}
