//! The other end of the wire, as a script.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A peer on a real socket.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Request line and headers, with the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The how-manieth connection of the peer it came on.
    pub(crate) connection: usize,
}

impl Peer {
    /// Takes whole requests on any number of connections, and gives `replies` in turn.
    pub(crate) async fn replying<const N: usize>(replies: [Vec<u8>; N]) -> Peer {
        let replies = Arc::new(Mutex::new(Vec::from(replies).into_iter()));
        Peer::start(move |mut stream, connection, requests| {
            let replies = replies.clone();
            async move {
                while let Some(mut request) = read_request(&mut stream).await {
                    request.connection = connection;
                    requests.lock().unwrap().push(request);
                    let reply = replies.lock().unwrap().next().expect("a reply for each request");
                    stream.write_all(&reply).await.unwrap();
                }
            }
        })
        .await
    }

    /// Gives each connection to `script`.
    pub(crate) async fn doing<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Peer
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Peer::start(move |stream, _, _| script(stream)).await
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    async fn start<F>(
        script: impl Fn(TcpStream, usize, Arc<Mutex<Vec<Request>>>) -> F + Send + 'static,
    ) -> Peer
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let seen = requests.clone();
        let task = tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(script(stream, connection, seen.clone()));
            }
        });
        Peer { address, requests, task }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Request {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The next request of a connection; none when the client closed it.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let head = read_head(stream).await?;
    let mut request = Request { head, body: Vec::new(), connection: 0 };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).await.ok()?;
    Some(request)
}

/// Byte by byte, so that nothing of the body is taken.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// A whole answer.
pub(crate) fn reply(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
