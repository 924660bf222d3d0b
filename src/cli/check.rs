//! `check`: what is in force, before the service starts.

use std::io::Write;

use clap::Args;
use serde::Serialize;

use super::failure::{FAILED, Failure};
use super::look::{Style, Text};
use super::online::{Trial, try_account};
use super::output::Output;
use super::sandbox::{UnitCheck, unit};
use super::survey::{FolderCheck, survey};
use super::{Common, at};
use crate::config::{Account, Config, Faults, PartSize};
use crate::daemon::folders::check_hooks;
use crate::record::SCHEMA;
use crate::store::{DATABASE, Store};
use crate::text::{setting, shown, shown_bytes, size};

/// What `check` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Changes nothing and creates nothing. Exits with 78 if the configuration is wrong, with one line for each fault.

Examples:
  upspool check
  upspool check --online               asks the server of each account for one File
  upspool --config new.toml check --json
  upspool check --json | jq -r '.unit.drop_in // empty'    what the system's unit has to be opened for")]
pub struct Arguments {
    /// Send one request for each account that a folder uses
    #[arg(long)]
    online: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct CheckJson {
    schema: u32,
    configuration: Option<String>,
    state_dir: String,
    /// Whether a store is there already.
    store: bool,
    upload: UploadJson,
    retry: RetryJson,
    status_listen: Option<String>,
    accounts: Vec<AccountJson>,
    folders: Vec<FolderCheck>,
    /// What the system's unit needs; null where the configuration is another's.
    unit: Option<UnitCheck>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct UploadJson {
    part_bytes: Option<u64>,
    /// None: "auto".
    parallel_parts: Option<usize>,
    bandwidth_limit: Option<u64>,
    checksum: bool,
}

#[derive(Debug, Serialize)]
struct RetryJson {
    first_delay_ms: u128,
    max_delay_ms: u128,
    give_up_after_ms: u128,
}

#[derive(Debug, Serialize)]
struct AccountJson {
    name: String,
    base_url: String,
    /// Where the key comes from; never the key.
    key_from: String,
    organization: Option<String>,
    project: Option<String>,
    /// Whether a folder uses it.
    used: bool,
    /// What came of the request; null if none was sent.
    online: Option<Trial>,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let config = at::configuration(common, None)?;
    for warning in &config.warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    config.check()?;
    let unusable = check_hooks(&config);
    if !unusable.is_empty() {
        return Err(Faults(unusable).into());
    }
    let check = look(&config, arguments.online).await?;
    let failed = check.accounts.iter().filter_map(|account| account.online.as_ref()).any(|trial| !trial.ok);
    let mut output = Output::new();
    if arguments.json {
        output.json(&check)?;
    } else {
        print(&mut output, &check)?;
    }
    output.flush()?;
    Ok(if failed { FAILED } else { 0 })
}

async fn look(config: &Config, online: bool) -> Result<CheckJson, Failure> {
    let state_dir = &config.store.state_dir;
    let store = match Store::open_for_asking(state_dir).await {
        Ok(store) => Some(store),
        // `run` would end by it.
        Err(fault) if fault.is_damage() => return Err(Failure::Damaged(fault)),
        // Without a store, or with one of another version, all that lies there counts as new.
        Err(_) => None,
    };
    let mut folders = Vec::new();
    for folder in &config.folders {
        folders.push(survey(config, folder, store.as_ref()).await?);
    }
    let mut accounts = Vec::new();
    for account in config.accounts.values() {
        let used = config.folders.iter().any(|folder| folder.account == account.name);
        let trial = if online && used { Some(try_account(config, account).await) } else { None };
        accounts.push(account_json(account, used, trial));
    }
    Ok(CheckJson {
        schema: SCHEMA,
        configuration: config.source.as_deref().map(shown),
        state_dir: shown(state_dir),
        store: state_dir.join(DATABASE).exists(),
        upload: UploadJson {
            part_bytes: match config.upload.part_size {
                PartSize::Auto => None,
                PartSize::Bytes(bytes) => Some(bytes),
            },
            parallel_parts: config.upload.parallel_parts,
            bandwidth_limit: config.upload.bandwidth_limit,
            checksum: config.upload.checksum,
        },
        retry: RetryJson {
            first_delay_ms: config.retry.first_delay.as_millis(),
            max_delay_ms: config.retry.max_delay.as_millis(),
            give_up_after_ms: config.retry.give_up_after.as_millis(),
        },
        status_listen: config.status.listen.as_ref().map(ToString::to_string),
        accounts,
        folders,
        unit: unit(config),
        warnings: config.warnings.iter().map(ToString::to_string).collect(),
    })
}

fn account_json(account: &Account, used: bool, online: Option<Trial>) -> AccountJson {
    AccountJson {
        name: account.name.clone(),
        base_url: account.base_url.clone(),
        key_from: account.key.to_string(),
        organization: account.organization.clone(),
        project: account.project.clone(),
        used,
        online,
    }
}

fn print(output: &mut Output, check: &CheckJson) -> Result<(), Failure> {
    let none = "none, the defaults are in force";
    fact(output, "configuration", check.configuration.as_deref().unwrap_or(none))?;
    let there = if check.store { "" } else { " (`upspool run` makes the store there)" };
    fact(output, "state directory", &format!("{}{there}", check.state_dir))?;
    let upload = &check.upload;
    let part = upload
        .part_bytes
        .map_or_else(|| "sized by the file".to_owned(), |bytes| format!("of {}", size(bytes)));
    let limit =
        upload.bandwidth_limit.map_or_else(String::new, |limit| format!(", at most {}/s", size(limit)));
    let checksum = if upload.checksum { "MD5 checked by the server" } else { "no checksum" };
    let slots = upload.parallel_parts.map_or_else(|| "as many as fill the link".into(), |n| n.to_string());
    fact(output, "Parts", &format!("{slots} in parallel, {part}{limit}, {checksum}"))?;
    let retry = &check.retry;
    fact(
        output,
        "retries",
        &format!(
            "after {}, doubling up to {}; given up after {} without progress",
            millis(retry.first_delay_ms),
            millis(retry.max_delay_ms),
            millis(retry.give_up_after_ms)
        ),
    )?;
    fact(output, "status page", check.status_listen.as_deref().unwrap_or("none"))?;
    for account in check.accounts.iter().filter(|account| account.used) {
        print_account(output, account)?;
    }
    for folder in &check.folders {
        folder.print(output)?;
    }
    check.unit.as_ref().map_or(Ok(()), |unit| print_unit(output, unit))
}

fn print_unit(output: &mut Output, unit: &UnitCheck) -> Result<(), Failure> {
    if let Some(drop_in) = &unit.drop_in {
        let title = output.styled(Style::Bold, "systemd unit");
        output.line(format_args!("\n{title}  needs this drop-in: `systemctl edit upspool`\n"))?;
        output.line(format_args!("{}", drop_in.trim_end()))?;
    }
    for (index, remark) in unit.remarks.iter().enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        let title = output.styled(Style::Red, "systemd unit");
        output.line(format_args!("{gap}{title}  {remark}"))?;
    }
    Ok(())
}

fn print_account(output: &mut Output, account: &AccountJson) -> Result<(), Failure> {
    let title = Text::styled(Style::Bold, format!("account {}", shown_bytes(account.name.as_bytes())));
    output.line(format_args!(""))?;
    output.text(&title.and(format!("  {}", shown_bytes(account.base_url.as_bytes()))), 0, 2)?;
    fact(output, "  key", &format!("from {}", account.key_from))?;
    for (name, value) in [("  organization", &account.organization), ("  project", &account.project)] {
        if let Some(value) = value {
            fact(output, name, &shown_bytes(value.as_bytes()))?;
        }
    }
    let Some(trial) = &account.online else { return Ok(()) };
    let request = trial
        .request_id
        .as_ref()
        .map_or_else(String::new, |id| format!(", request {}", shown_bytes(id.as_bytes())));
    if trial.ok {
        let ok = Text::styled(Style::Green, "ok").and(format!(", {} ms{request}", trial.duration_ms));
        return styled_fact(output, "  online", ok);
    }
    let message = shown_bytes(trial.message.as_deref().unwrap_or_default().as_bytes());
    let failed = Text::styled(Style::Red, trial.code.unwrap_or("failed"))
        .and(format!(": {message} ({} ms{request})", trial.duration_ms));
    styled_fact(output, "  online", failed)?;
    fact(output, "  remedy", trial.remedy.unwrap_or_default())
}

pub(super) fn fact(output: &mut Output, name: &str, value: &str) -> Result<(), Failure> {
    styled_fact(output, name, Text::new(value))
}

/// A name and what is true of it, on as many lines as that needs.
pub(super) fn styled_fact(output: &mut Output, name: &str, value: Text) -> Result<(), Failure> {
    let hanging = if output.look.columns.is_some_and(|columns| columns < 60) { 4 } else { 19 };
    output.text(&Text::new(format!("{name:<19}")).and_all(value), 0, hanging)
}

fn millis(millis: u128) -> String {
    setting(std::time::Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}
