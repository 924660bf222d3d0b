//! The page that people look at, where `[status] listen` asks for one.

use tracing::info;

use super::Error;
use crate::config::{Listen, Status};
use crate::status::web::{Door, Token};

/// Binds it before anything else is begun, so that what keeps it from being there ends the start.
///
/// # Errors
/// If its place cannot be had.
pub(super) async fn open(status: &Status) -> Result<Option<(Door, Option<Token>)>, Error> {
    let Some(listen) = &status.listen else { return Ok(None) };
    let token = match status.token() {
        Ok(token) => token.map(|token| Token::new(token.expose())),
        // The check of the configuration has just read it.
        Err(why) => {
            return Err(Error::System { what: "the token".into(), source: std::io::Error::other(why) });
        }
    };
    let door = match listen {
        Listen::Address(address) => Door::at_address(*address).await,
        Listen::Socket(path) => Door::at_socket(path),
    };
    let door = door.map_err(|source| Error::Listen { listen: listen.clone(), source })?;
    let at = door.place();
    info!(event = "status-page", listen = at, token = token.is_some(), "the page is served at {at}");
    Ok(Some((door, token)))
}
