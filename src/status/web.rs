//! The page, with metrics and health, on an address or a Unix socket: who gets in, and what goes with each answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Of};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::{TcpListener, UnixListener};

use super::bounded::Bounded;
use super::views::Views;
use super::{api, health, metrics};
use crate::text::shown;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Nothing from elsewhere, nothing that a name of a file could make run, nothing that frames this page.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What goes with each answer.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Where the page is served, bound.
#[derive(Debug)]
pub enum Door {
    /// At an address.
    Address(TcpListener),
    /// At a Unix socket of this path.
    Socket(UnixListener, PathBuf),
}

impl Door {
    /// At an address.
    ///
    /// # Errors
    /// If it cannot be had: another program has it, or it is not this machine's.
    pub async fn at_address(address: SocketAddr) -> io::Result<Door> {
        TcpListener::bind(address).await.map(Door::Address)
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match self {
            Door::Address(listener) => match listener.local_addr() {
                Ok(address) => format!("http://{address}/"),
                Err(error) => format!("an address that is not known: {error}"),
            },
            Door::Socket(_, path) => shown(path),
        }
    }

    /// At a Unix socket for the service's user and group. An old one that nobody answers at is replaced.
    ///
    /// # Errors
    /// If it cannot be made, somebody answers there, or what lies there is no socket.
    pub fn at_socket(path: &Path) -> io::Result<Door> {
        match std::fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what lies there is no socket"));
            }
            Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                Err(error) => return Err(error),
                Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Door::Socket(listener, path.to_owned()))
    }
}

/// What a request has to show. Kept as a digest, whose comparison takes the same time wherever they differ.
#[derive(Clone, Copy, Debug)]
pub struct Token(blake3::Hash);

impl Token {
    /// This word.
    pub fn new(word: &str) -> Token {
        Token(blake3::hash(word.as_bytes()))
    }

    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let word = shown.and_then(|value| value.split_once(' '));
        word.is_some_and(|(scheme, word)| {
            scheme.eq_ignore_ascii_case("Bearer") && blake3::hash(word.trim().as_bytes()) == self.0
        })
    }
}

/// Who gets in.
#[derive(Debug)]
struct Guard {
    token: Option<Token>,
    /// The names by which it may be asked, besides addresses; none: by any, since no browser gets there.
    names: Option<Vec<String>>,
}

/// Answers until the process ends.
///
/// # Errors
/// If the door fails.
pub async fn serve(door: Door, views: Views, token: Option<Token>) -> io::Result<()> {
    let by_browser = matches!(door, Door::Address(_));
    let names = by_browser.then(|| {
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        vec!["localhost".to_owned(), own]
    });
    let routes = routes(views, Guard { token, names });
    match door {
        Door::Address(listener) => axum::serve(Bounded::new(listener), routes).await,
        Door::Socket(listener, path) => {
            let served = axum::serve(Bounded::new(listener), routes).await;
            // Gone with the service where it ends well; a new start replaces one that is left.
            let _ = std::fs::remove_file(path);
            served
        }
    }
}

fn routes(views: Views, guard: Guard) -> Router {
    Router::new()
        .route("/", get(([(CONTENT_TYPE, "text/html; charset=utf-8")], PAGE)))
        .route("/page.css", get(([(CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)))
        .route("/page.js", get(([(CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)))
        .merge(api::routes(views.clone()))
        .merge(health::routes(views.clone()))
        .merge(metrics::routes(views))
        .layer(from_fn_with_state(Arc::new(guard), check))
}

async fn check(Of(guard): Of<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = admit(&guard, request, next).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn admit(guard: &Guard, request: Request, next: Next) -> Response {
    if let Some(names) = &guard.names
        && !is_own_name(host(&request).as_deref(), names)
    {
        let words = "this name is not mine: ask by an address, by localhost or by the machine's own name\n";
        return (StatusCode::MISDIRECTED_REQUEST, words).into_response();
    }
    if guard.token.is_none_or(|token| token.is_shown(request.headers())) {
        return next.run(request).await;
    }
    let ask = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    match request.uri().path() {
        // Whether it lives is no secret. Nor is what the page is made of: it holds nothing before it has a token, and asks
        // for one.
        "/livez" | "/page.css" | "/page.js" => next.run(request).await,
        "/" => {
            let mut page = next.run(request).await;
            *page.status_mut() = StatusCode::UNAUTHORIZED;
            page.headers_mut().insert(ask.0, ask.1);
            page
        }
        _ => {
            let words =
                "a token is asked for: Authorization: Bearer TOKEN, the word in [status] token_file\n";
            (StatusCode::UNAUTHORIZED, [ask], words).into_response()
        }
    }
}

/// The host that a request is for, without its port.
fn host(request: &Request) -> Option<String> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => request.headers().get(HOST)?.to_str().ok()?.parse::<Authority>().ok()?,
    };
    Some(authority.host().to_ascii_lowercase())
}

/// Whether no page of a stranger can have made a browser ask by this name: the stranger's own name may lead here by
/// now (DNS rebinding), an address or ours is none of theirs.
fn is_own_name(host: Option<&str>, names: &[String]) -> bool {
    let Some(host) = host else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok() || names.iter().any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn only_addresses_and_own_names_are_answered() {
        let names = ["localhost".to_owned(), "Build7.lan".to_owned()];
        let asked = |host: &str| {
            let request = Request::builder().header("host", host).body(Body::empty()).unwrap();
            is_own_name(super::host(&request).as_deref(), &names)
        };
        for host in ["127.0.0.1", "127.0.0.1:9797", "[::1]:9797", "192.0.2.7", "localhost:9797", "build7.lan"]
        {
            assert!(asked(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:9797", "127.0.0.1.evil.example", "", "a b", "build7"]
        {
            assert!(!asked(host), "{host}");
        }
        let absolute = Request::builder().uri("http://evil.example/").header("host", "localhost");
        let absolute = absolute.body(Body::empty()).unwrap();
        assert!(!is_own_name(super::host(&absolute).as_deref(), &names));
        assert!(!is_own_name(None, &names));
    }

    #[test]
    fn only_the_token_is_the_token() {
        let token = Token::new("s3cret-token");
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            token.is_shown(&headers)
        };
        assert!(shown("Bearer s3cret-token") && shown("bearer  s3cret-token"));
        for wrong in [
            "s3cret-token",
            "Bearer",
            "Bearer ",
            "Bearer s3cret-toke",
            "Basic s3cret-token",
            "Bearer S3cret-token",
        ] {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!token.is_shown(&HeaderMap::new()));
        assert!(!format!("{token:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn a_socket_takes_the_place_of_one_that_nobody_answers_at_and_of_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.sock");
        let first = Door::at_socket(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(Door::at_socket(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        Door::at_socket(&path).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert_eq!(Door::at_socket(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn the_page_is_small_and_asks_for_nothing_from_elsewhere() {
        let whole = [PAGE, STYLE, SCRIPT].concat();
        assert!(whole.len() < 50_000, "{} bytes", whole.len());
        for elsewhere in [
            "http:",
            "https:",
            "//cdn",
            "@import",
            "url(",
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!whole.contains(elsewhere), "{elsewhere}");
        }
        // The policy would not let them.
        assert!(!PAGE.contains("<style") && !PAGE.contains(" style=") && !PAGE.contains("onclick"));
    }
}
