//! From what was said to what is in force: defaults, and what only shows when two keys are
//! compared.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::{Host, Url};

use super::fault::{Fault, Place, Warning};
use super::key::KeySource;
use super::layers::Places;
use super::raw::{AutoOr, Raw, RawApi, RawRetry, RawStatus, RawUpload};
use super::settings::{
    Account, Auth, Config, DEFAULT_ACCOUNT, Log, LogFormat, PartSize, Query, Retry, Status, Store, Upload,
    table_of,
};
use super::units::{Rate, Size, Time, show_time};
use super::{Overrides, Sources, folders};

/// Builds the configuration. It holds only if no fault was pushed: a value at fault counts as not
/// said.
pub(super) fn validate(
    raw: Raw,
    source: Option<PathBuf>,
    sources: &Sources,
    overrides: &Overrides,
    places: &Places,
    faults: &mut Vec<Fault>,
) -> Config {
    let mut warnings = Vec::new();
    let api_account = account(DEFAULT_ACCOUNT, &raw.api, &raw.api, sources, places);
    check_server("api", &raw.api, &api_account, places, faults, &mut warnings);
    let mut accounts = std::collections::BTreeMap::new();
    for (name, said) in &raw.accounts {
        let prefix = format!("accounts.{name}");
        let account = account(name, said, &raw.api, sources, places);
        check_server(&prefix, said, &account, places, faults, &mut warnings);
        // Which server was meant is then a guess, and a wrong one would hand it the key.
        if said.base_url.is_none()
            && !places.said(&format!("{prefix}.base_url"))
            && api_account.base_url != BASE_URL
        {
            faults.push(
                Fault::new(
                    places.of(&prefix),
                    format!("{prefix}.base_url"),
                    format!("is missing, while [api] goes to {}", api_account.base_url),
                )
                .remedy(format!(
                    "say which server this account's key is for, e.g. base_url = \"{BASE_URL}\""
                )),
            );
        }
        accounts.insert(name.clone(), account);
    }
    accounts.insert(DEFAULT_ACCOUNT.to_owned(), api_account);
    for account in accounts.values() {
        if let Some(message) = account.key.unwise() {
            let key = format!("{}.key_file", account.table());
            let warning = Fault::new(account.key_place.clone(), key, message);
            warnings.push(Warning(warning.remedy("chmod it to 0640 or less")));
        }
    }

    let (state_dir, place) = state_dir(&raw, source.as_deref(), sources, overrides, places, faults);
    let checksum = raw.upload.checksum.unwrap_or(true);
    let folders = match &overrides.watch {
        Some((path, purpose)) => {
            folders::from_flags(path, purpose, faults, &mut warnings).into_iter().collect()
        }
        None => folders::from_file(raw.folder, &accounts, checksum, places, faults, &mut warnings),
    };
    let store = Store { state_dir, keep_history: or(raw.store.keep_history, days(90)), place };
    folders::check_overlap(&folders, &store, folders::spelt, faults);

    Config {
        source,
        accounts,
        upload: upload(&raw.upload),
        retry: retry(&raw.retry, places, faults),
        store,
        log: Log {
            level: raw.log.level.unwrap_or_else(|| "info".into()),
            format: raw.log.format.unwrap_or(LogFormat::Auto),
        },
        status: status(raw.status, places, faults),
        folders,
        warnings,
    }
}

pub(super) fn or(said: Option<Time>, default: Duration) -> Duration {
    said.map_or(default, |Time(time)| time)
}

pub(super) const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

const BASE_URL: &str = "https://api.openai.com/v1";

fn account(name: &str, said: &RawApi, api: &RawApi, sources: &Sources, places: &Places) -> Account {
    let is_api = name == DEFAULT_ACCOUNT;
    let prefix = table_of(name);
    let time = |pick: fn(&RawApi) -> Option<Time>, default| or(pick(said).or(pick(api)), default);
    let key_file = said.key_file.as_deref();
    let key = if is_api {
        KeySource::of_api(key_file, sources)
    } else {
        KeySource::of_account(name, key_file, sources)
    };
    let key_place = match &key {
        KeySource::Credential(_) => Place::Variable("CREDENTIALS_DIRECTORY".into()),
        KeySource::Environment(_) => Place::Variable("OPENAI_API_KEY".into()),
        KeySource::File(_) | KeySource::Missing(_) => places.of(&format!("{prefix}.key_file")),
    };
    Account {
        name: name.to_owned(),
        base_url: said.base_url.as_deref().map_or_else(|| BASE_URL.to_owned(), normalise),
        key,
        organization: said.organization.clone(),
        project: said.project.clone(),
        auth: said.auth.unwrap_or(Auth::Bearer),
        query: Query(said.query.clone().unwrap_or_default()),
        ca_file: said.ca_file.clone(),
        connect_timeout: time(|api| api.connect_timeout, Duration::from_secs(10)),
        stall_timeout: time(|api| api.stall_timeout, Duration::from_secs(60)),
        answer_timeout: time(|api| api.answer_timeout, Duration::from_secs(120)),
        // The server puts up to 8 GB together.
        complete_timeout: time(|api| api.complete_timeout, Duration::from_secs(600)),
        key_place,
        ca_place: places.of(&format!("{prefix}.ca_file")),
    }
}

fn normalise(base_url: &str) -> String {
    let url = Url::parse(base_url).map_or_else(|_| base_url.to_owned(), |url| url.to_string());
    url.trim_end_matches('/').to_owned()
}

/// Unencrypted, the key can be read by everyone on the way.
fn check_server(
    prefix: &str,
    said: &RawApi,
    account: &Account,
    places: &Places,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Warning>,
) {
    let Ok(url) = Url::parse(&account.base_url) else { return };
    if url.scheme() != "http" || is_loopback(&url) {
        return;
    }
    let key = format!("{prefix}.base_url");
    let host = url.host_str().unwrap_or_default();
    let fault = Fault::new(places.of(&key), key, format!("http sends the key to {host} unencrypted"));
    if said.plain_http == Some(true) {
        warnings.push(Warning(fault));
    } else {
        faults.push(fault.remedy("use https, or say plain_http = true if that network is trusted"));
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn upload(said: &RawUpload) -> Upload {
    Upload {
        part_size: match said.part_size {
            Some(AutoOr::Is(Size(bytes))) => PartSize::Bytes(bytes),
            Some(AutoOr::Auto(_)) | None => PartSize::Auto,
        },
        parallel_parts: match said.parallel_parts {
            Some(AutoOr::Is(parts)) => Some(parts),
            Some(AutoOr::Auto(_)) => None,
            None => Some(8),
        },
        bandwidth_limit: said.bandwidth_limit.map(|Rate(bytes)| bytes),
        checksum: said.checksum.unwrap_or(true),
    }
}

fn retry(said: &RawRetry, places: &Places, faults: &mut Vec<Fault>) -> Retry {
    let retry = Retry {
        first_delay: or(said.first_delay, Duration::from_millis(500)),
        max_delay: or(said.max_delay, Duration::from_secs(15 * 60)),
        give_up_after: or(said.give_up_after, days(1)),
    };
    if retry.first_delay > retry.max_delay {
        let key = if said.first_delay.is_some() { "retry.first_delay" } else { "retry.max_delay" };
        let (first, max) = (show_time(retry.first_delay), show_time(retry.max_delay));
        faults.push(
            Fault::new(places.of(key), key, format!("first_delay {first} is longer than max_delay {max}"))
                .remedy("make first_delay the shorter one"),
        );
    }
    retry
}

/// Whoever reaches the page sees the names of files.
fn status(said: RawStatus, places: &Places, faults: &mut Vec<Fault>) -> Status {
    let key = "status.token_file";
    let token_place = if places.said(key) { places.of(key) } else { Place::Default };
    if let Some(listen) = said.listen.as_ref().filter(|listen| !listen.is_local())
        && said.token_file.is_none()
        && !places.said(key)
    {
        faults.push(
            Fault::new(
                places.of("status.listen"),
                "status.listen",
                format!("other machines reach {listen}, and would see the names of files without a token"),
            )
            .remedy("say token_file, or listen on 127.0.0.1, [::1] or unix:/PATH"),
        );
    }
    Status { listen: said.listen, token_file: said.token_file, token_place }
}

/// The state directory, and where it was said.
fn state_dir(
    raw: &Raw,
    source: Option<&Path>,
    sources: &Sources,
    overrides: &Overrides,
    places: &Places,
    faults: &mut Vec<Fault>,
) -> (PathBuf, Place) {
    if let Some(said) = &overrides.state_dir {
        return (std::path::absolute(said).unwrap_or_else(|_| said.clone()), Place::Flag("--state-dir"));
    }
    if let Some(said) = &raw.store.state_dir {
        return (said.clone(), places.of("store.state_dir"));
    }
    if let Some(given) = by_systemd(sources) {
        return (given, Place::Variable("STATE_DIRECTORY".into()));
    }
    if source.is_some_and(|file| file.starts_with("/etc")) {
        return ("/var/lib/upspool".into(), Place::Default);
    }
    match sources.base_directory("XDG_STATE_HOME", ".local/state") {
        Some(base) => (base.join("upspool"), Place::Default),
        // One that is at fault was complained of already.
        None if places.said("store.state_dir") => (PathBuf::new(), Place::Default),
        None => {
            faults.push(
                Fault::new(
                    places.of("store"),
                    "store.state_dir",
                    "is not said, and neither XDG_STATE_HOME nor HOME is set",
                )
                .remedy("for example state_dir = \"/var/lib/upspool\", or --state-dir"),
            );
            (PathBuf::new(), Place::Default)
        }
    }
}

/// `StateDirectory=` in the unit. systemd gives several with colons between them.
fn by_systemd(sources: &Sources) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let all = sources.path("STATE_DIRECTORY")?;
    let first = all.as_os_str().as_bytes().split(|byte| *byte == b':').next()?;
    Some(PathBuf::from(OsStr::from_bytes(first))).filter(|path| path.is_absolute())
}
