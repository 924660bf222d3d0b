//! What an emulator is to be like.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::dialect::Dialect;
use crate::emulator::Emulator;
use crate::faults::{Fault, ScriptFile};
use crate::limits::Limits;
use crate::shared::Shared;
use crate::storage::Storage;
use crate::variants::Variants;

/// The key that is accepted if none is set.
pub const DEFAULT_KEY: &str = "sk-emulator";

/// What an emulator is to be like.
#[derive(Debug)]
pub struct Builder {
    address: SocketAddr,
    keys: Vec<String>,
    storage: Storage,
    limits: Limits,
    variants: Variants,
    dialect: Dialect,
    faults: Vec<Fault>,
    skew_ms: i64,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            keys: Vec::new(),
            storage: Storage::default(),
            limits: Limits::default(),
            variants: Variants::default(),
            dialect: Dialect::default(),
            faults: Vec::new(),
            skew_ms: 0,
        }
    }
}

impl Builder {
    /// Where to listen; a free port of 127.0.0.1 if not said.
    #[must_use]
    pub fn listen(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// Accepts this key; [`DEFAULT_KEY`] only if none is said.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Where content goes; memory if not said.
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Other limits.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// How long an Upload lives.
    #[must_use]
    pub fn upload_lifetime(mut self, lifetime: Duration) -> Self {
        self.limits.upload_lifetime = lifetime;
        self
    }

    /// Other choices where the documentation is silent.
    #[must_use]
    pub fn variants(self, variants: Variants) -> Self {
        Self { variants, ..self }
    }

    /// Azure's paths, header, ids, limits and variants.
    #[must_use]
    pub fn azure(self) -> Self {
        Self { dialect: Dialect::Azure, limits: Limits::azure(), variants: Variants::azure(), ..self }
    }

    /// A clock that is wrong by this much, in seconds.
    #[must_use]
    pub fn skew(self, seconds: i64) -> Self {
        Self { skew_ms: seconds.saturating_mul(1000), ..self }
    }

    /// A fault from the start.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// All that a script file says.
    #[must_use]
    pub fn script(mut self, script: ScriptFile) -> Self {
        self.limits = script.limits.unwrap_or(self.limits);
        self.variants = script.variants.unwrap_or(self.variants);
        self.faults.extend(script.fault);
        self
    }

    /// Listens and serves, with threads of its own, so that nothing the caller does holds it up.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on, or the folder for content cannot be made.
    #[expect(clippy::unused_async, reason = "the emulator is started from async tests, and may come to wait")]
    pub async fn start(self) -> io::Result<Emulator> {
        if let Storage::Disk(folder) = &self.storage {
            std::fs::create_dir_all(folder)?;
        }
        let keys = if self.keys.is_empty() { vec![DEFAULT_KEY.to_owned()] } else { self.keys };
        let shared = Shared::new(self.dialect, self.limits, self.storage, keys, self.variants, self.skew_ms);
        shared.script.add(self.faults);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("emulator")
            .enable_all()
            .build()?;
        Emulator::on(shared, self.address, runtime)
    }
}

/// Reads a script file.
///
/// # Errors
///
/// It cannot be read, or is not a script.
pub fn read_script(path: &Path) -> io::Result<ScriptFile> {
    let text = std::fs::read_to_string(path)?;
    toml::from_str(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
