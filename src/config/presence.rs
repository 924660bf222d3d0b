//! Whether what the configuration names is there: folders, keys, `ca_file`.

use std::io::ErrorKind;

use super::fault::{Fault, Faults, Place};
use super::file;
use super::folders::{check_overlap, real};
use super::key::KeySource;
use super::settings::{Account, Config, Folder};

impl Config {
    /// Looks at what the configuration names: folders, keys, `ca_file`. What `run` and `check` do
    /// beyond [`load`](super::load).
    ///
    /// # Errors
    ///
    /// All that is wrong, in the order of the file.
    pub fn check(&self) -> Result<(), Faults> {
        let mut faults = self.check_accounts();
        faults.extend(self.check_folders());
        faults.extend(self.check_token());
        faults.sort_by_key(|fault| file::line_of(&fault.place));
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }

    /// Whether the folders are there, can be read, and do not lie in each other by way of links; one
    /// fault each, `folder-missing`, `folder-unreadable` or `config-invalid`. That there is no folder
    /// at all is a fault too.
    pub fn check_folders(&self) -> Vec<Fault> {
        if self.folders.is_empty() {
            let place = self.source.clone().map_or(Place::Default, Place::File);
            return vec![Fault::new(place, "folder", "there is none to watch").remedy(
                "add a [[folder]] with path and purpose; `upspool run` also takes --watch DIR --purpose P",
            )];
        }
        let mut faults: Vec<Fault> = self.folders.iter().filter_map(missing).collect();
        check_overlap(&self.folders, &self.store, real, &mut faults);
        faults
    }

    /// Whether the token of the page can be read, and by nobody else; one fault, `config-invalid`.
    pub fn check_token(&self) -> Option<Fault> {
        self.status.listen.as_ref()?;
        let path = self.status.token_file.clone()?;
        let fault =
            |message: String| Fault::new(self.status.token_place.clone(), "status.token_file", message);
        if let Err(why) = self.status.token() {
            return Some(fault(why.to_string()).remedy(
                "put one word alone into a file that the service may read, e.g. from `openssl rand -hex 32`",
            ));
        }
        let unwise = KeySource::File(path).unwise()?;
        Some(fault(unwise).remedy("chmod it to 0640 or less, and change the token"))
    }

    /// Whether the accounts that folders use have a key that can be read and a `ca_file` that can be
    /// opened; one fault each, `key-missing` or `config-invalid`.
    pub fn check_accounts(&self) -> Vec<Fault> {
        let is_used = |account: &&Account| self.folders.iter().any(|folder| folder.account == account.name);
        self.accounts.values().filter(is_used).flat_map(check_account).collect()
    }
}

fn check_account(account: &Account) -> Vec<Fault> {
    let mut faults = Vec::new();
    // The start reads it, and so does the reload.
    if !account.key.is_withheld()
        && let Err(why) = account.key.read()
    {
        faults.push(
            Fault::new(account.key_place.clone(), format!("{}.key_file", account.table()), why.to_string())
                .remedy("put the key alone into a file that the service may read, and say key_file")
                .code("key-missing"),
        );
    }
    if let Some(ca_file) = &account.ca_file {
        // To open a pipe would wait for its other end.
        let opened = match std::fs::metadata(ca_file) {
            Ok(found) if !found.is_file() => Err("it is not a regular file".to_owned()),
            Ok(_) => std::fs::File::open(ca_file).map(drop).map_err(|why| why.to_string()),
            Err(why) => Err(why.to_string()),
        };
        if let Err(why) = opened {
            let message = format!("{} cannot be read: {why}", ca_file.display());
            faults.push(Fault::new(
                account.ca_place.clone(),
                format!("{}.ca_file", account.table()),
                message,
            ));
        }
    }
    faults
}

fn missing(folder: &Folder) -> Option<Fault> {
    let path = folder.path.display();
    let (code, message, remedy) = match std::fs::metadata(&folder.path) {
        Err(why) if why.kind() == ErrorKind::NotFound => {
            ("folder-missing", format!("{path} does not exist"), "create it, or mount what holds it")
        }
        Err(why) => ("folder-unreadable", format!("{path}: {why}"), "let the service's user reach it"),
        Ok(found) if !found.is_dir() => (
            "folder-missing",
            format!("{path} is not a directory"),
            "name the directory that holds the files",
        ),
        Ok(_) => match std::fs::read_dir(&folder.path) {
            Err(why) => ("folder-unreadable", format!("{path}: {why}"), "let the service's user read it"),
            Ok(_) => return None,
        },
    };
    Some(Fault::new(folder.place.clone(), "folder.path", message).remedy(remedy).code(code))
}
