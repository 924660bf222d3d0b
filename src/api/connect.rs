//! The two sets of connections of a client, and why there are none.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, ClientBuilder, redirect, retry};
use thiserror::Error;
use url::{Host, Url};

use super::exchange::causes;
use super::server::Server;

/// How long an idle connection is kept. Many servers close theirs after 15 s or more; a request that crosses such a close
/// is lost, and nobody can tell whether the server took it.
const IDLE: Duration = Duration::from_secs(10);

/// Why there can be no client for a server.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Not a base that paths can be added to.
    #[error("base_url must be http:// or https:// with a host, and without user or password")]
    BaseUrl,
    /// The file of `ca_file` cannot be read.
    #[error("cannot read ca_file {}: {error}", path.display())]
    CaUnreadable {
        /// As configured.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// The file of `ca_file` holds no certificate, or one that is none.
    #[error("ca_file {} holds no usable certificate in PEM form: {message}", path.display())]
    CaUnusable {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The host trusts nobody, so no server can be trusted.
    #[error("this host has no CA certificates: install the package ca-certificates")]
    NoRoots,
    /// The key is empty or has characters that no key has. Never says which.
    #[error("the key is empty or holds spaces, line breaks or characters other than ASCII")]
    Key,
    /// A setting cannot be sent as a header.
    #[error("{name} holds characters that cannot be sent in a header")]
    Header {
        /// The setting.
        name: &'static str,
    },
    /// The HTTP library refuses.
    #[error("cannot set up HTTP: {message}")]
    Setup {
        /// The chain of causes.
        message: String,
    },
}

/// Parts and small requests do not share connections, but for the complete of a large file, which takes one that its Parts left: a
/// create must not wait for a Part's window to recover, and the number of either is bounded by the one who asks.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) parts: reqwest::Client,
    pub(super) small: reqwest::Client,
}

impl Connections {
    pub(super) fn new(server: &Server) -> Result<Connections, ClientError> {
        let url = &server.base_url;
        let named = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !named {
            return Err(ClientError::BaseUrl);
        }
        let headers = headers(server)?;
        let extra = extra_roots(server)?;
        let plain = url.scheme() == "http";
        let client = || {
            let builder = || builder(server, &headers);
            let without_roots = || builder().tls_certs_only([]).build().map_err(setup);
            // No proxy either stands between us and this machine, so there is no TLS to need roots for.
            if plain && is_loopback(url) {
                return without_roots();
            }
            match builder().tls_certs_merge(extra.clone()).build().map_err(setup) {
                Err(ClientError::NoRoots) if plain => without_roots(),
                // It is only taken apart here, and nothing else depends on the configuration.
                Err(ClientError::Setup { message }) if !extra.is_empty() => Err(unusable(server, message)),
                built => built,
            }
        };
        Ok(Connections { parts: client()?, small: client()? })
    }
}

fn builder(server: &Server, headers: &HeaderMap) -> ClientBuilder {
    let builder = reqwest::Client::builder();
    // Proxies come from the usual environment; none of them is the way to this machine.
    let builder = if is_loopback(&server.base_url) { builder.no_proxy() } else { builder };
    builder
        .http1_only()
        .user_agent(concat!("upspool/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers.clone())
        // The key goes nowhere but to the server that was configured.
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .connect_timeout(server.connect_timeout)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        // The default of 30 s would end Parts that a slow server holds back. Neither `timeout` nor `read_timeout`: both
        // run while a healthy body is being sent.
        .tcp_user_timeout(server.stall_timeout)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn headers(server: &Server) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    let settings = [
        ("organization", "openai-organization", &server.organization),
        ("project", "openai-project", &server.project),
    ];
    for (name, header, value) in settings {
        if let Some(value) = value {
            let value = HeaderValue::from_str(value).map_err(|_| ClientError::Header { name })?;
            headers.insert(HeaderName::from_static(header), value);
        }
    }
    Ok(headers)
}

fn extra_roots(server: &Server) -> Result<Vec<Certificate>, ClientError> {
    let Some(path) = &server.ca_file else { return Ok(Vec::new()) };
    let pem = std::fs::read(path).map_err(|error| ClientError::CaUnreadable { path: path.clone(), error })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if certificates.is_empty() => Err(unusable(server, "it has none".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(server, causes(&error))),
    }
}

fn unusable(server: &Server, message: String) -> ClientError {
    ClientError::CaUnusable { path: server.ca_file.clone().unwrap_or_default(), message }
}

fn setup(error: reqwest::Error) -> ClientError {
    let message = causes(&error);
    // The verifier has no better way to say so. Should its words change, `Setup` still carries them.
    if message.contains("No CA certificates") { ClientError::NoRoots } else { ClientError::Setup { message } }
}
