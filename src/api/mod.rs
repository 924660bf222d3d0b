//! Hand 3: HTTP. Nothing else in the house knows that there is an HTTP library.
//!
//! In the order in which a request meets them:
//!
//! - `server`: where requests go and how long to wait, and the address of each;
//! - `connect`: the connections, and why there are none;
//! - `client`: one method for each operation of the API;
//! - `key`: the header that carries the key, and that it stands nowhere else;
//! - `wire`: the JSON that goes out and comes in;
//! - `body`: the bytes of a Part on their way out, and whether they still move;
//! - `limit`: how fast all of them may go;
//! - `exchange`: from a request to a whole answer, or to a failure;
//! - `pacing`: what the headers of an answer say about when to come again;
//! - `refusal`: what the body of an error says.
//!
//! A method returns when there is a whole answer or none can be expected; it neither repeats a request nor judges. To
//! cancel one, drop its future: the connection is closed. The only clock here is the runtime's, for timeouts.

mod body;
mod client;
mod connect;
mod exchange;
mod key;
mod limit;
mod pacing;
mod refusal;
mod server;
mod wire;

pub use client::{Client, NewUpload};
pub use connect::ClientError;
pub use limit::Limiter;
pub use server::{Auth, Server};
