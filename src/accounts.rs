//! Clients for the accounts of a configuration.

use std::fmt;

use secrecy::SecretString;
use url::Url;

use crate::api::{Auth, Client, ClientError, Server};
use crate::config;
use crate::model::job::Code;

/// Why there is no client for an account: one line.
#[derive(Debug)]
pub struct AccountError {
    account: String,
    /// The stable code.
    pub code: Code,
    message: String,
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {}: {}; {}", self.account, self.message, self.code.remedy())
    }
}

impl std::error::Error for AccountError {}

/// Where requests of an account go, and how.
///
/// # Errors
/// If the base URL is not one; the configuration has checked it before.
pub fn server_of(account: &config::Account) -> Result<Server, AccountError> {
    let fault = |error: url::ParseError| AccountError {
        account: account.name.clone(),
        code: Code::ConfigInvalid,
        message: format!("base_url {}: {error}", account.base_url),
    };
    Ok(Server {
        base_url: Url::parse(&account.base_url).map_err(fault)?,
        auth: match account.auth {
            config::Auth::Bearer => Auth::Bearer,
            config::Auth::ApiKey => Auth::ApiKey,
        },
        organization: account.organization.clone(),
        project: account.project.clone(),
        query: account.query.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        ca_file: account.ca_file.clone(),
        connect_timeout: account.connect_timeout,
        stall_timeout: account.stall_timeout,
        answer_timeout: account.answer_timeout,
        complete_timeout: account.complete_timeout,
    })
}

/// The key of an account, read now.
///
/// # Errors
/// If its source is missing, empty or holds no key.
pub fn key_of(account: &config::Account) -> Result<SecretString, AccountError> {
    let key = account.key.read().map_err(|error| AccountError {
        account: account.name.clone(),
        code: Code::KeyMissing,
        message: error.to_string(),
    })?;
    Ok(SecretString::from(key.expose().to_owned()))
}

/// A client of an account. Connects nowhere yet.
///
/// # Errors
/// If there is no key, or no certificates.
pub fn client_of(account: &config::Account) -> Result<Client, AccountError> {
    let fault = |error: ClientError| AccountError {
        account: account.name.clone(),
        code: Code::ConfigInvalid,
        message: error.to_string(),
    };
    Client::new(server_of(account)?, key_of(account)?).map_err(fault)
}
