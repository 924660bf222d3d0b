//! An account of the configuration becomes a client of the API.

use std::fmt;

use secrecy::SecretString;
use url::Url;

use crate::api::{Auth, Client, ClientError, Server};
use crate::config::{self, Account, KeyError};
use crate::model::job::Code;

/// Why an account cannot be used as it stands. Displays as one line with the account's name.
#[derive(Debug)]
pub struct AccountError {
    /// Which.
    pub account: String,
    /// Why.
    pub cause: Cause,
}

/// Why an account cannot be used.
#[derive(Debug)]
pub enum Cause {
    /// There is no key, or none that could be one.
    Key(KeyError),
    /// The client cannot be made.
    Client(ClientError),
}

impl AccountError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self.cause {
            Cause::Key(_) | Cause::Client(ClientError::Key) => Code::KeyMissing,
            Cause::Client(_) => Code::ConfigInvalid,
        }
    }
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {}: ", self.account)?;
        match &self.cause {
            Cause::Key(error) => error.fmt(f),
            Cause::Client(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AccountError {}

/// The server of an account, with all that its requests carry but the key.
///
/// # Panics
/// If `base_url` is no URL, which [`config::load`] lets nobody say.
pub fn server_of(account: &Account) -> Server {
    Server {
        base_url: Url::parse(&account.base_url).expect("the configuration takes only what parses"),
        auth: match account.auth {
            config::Auth::Bearer => Auth::Bearer,
            config::Auth::ApiKey => Auth::ApiKey,
        },
        organization: account.organization.clone(),
        project: account.project.clone(),
        query: account.query.0.clone().into_iter().collect(),
        ca_file: account.ca_file.clone(),
        connect_timeout: account.connect_timeout,
        stall_timeout: account.stall_timeout,
        answer_timeout: account.answer_timeout,
        complete_timeout: account.complete_timeout,
    }
}

/// The key of an account as it is now.
///
/// # Errors
/// If there is none that can be used.
pub fn key_of(account: &Account) -> Result<SecretString, AccountError> {
    let key = account.key.read();
    let key =
        key.map_err(|error| AccountError { account: account.name.clone(), cause: Cause::Key(error) })?;
    Ok(key.expose().to_owned().into())
}

/// A client of an account, with its key as it is now.
///
/// # Errors
/// If there is no usable key, or no client can be made.
pub fn client_of(account: &Account) -> Result<Client, AccountError> {
    let failed = |error| AccountError { account: account.name.clone(), cause: Cause::Client(error) };
    Client::new(server_of(account), key_of(account)?).map_err(failed)
}
