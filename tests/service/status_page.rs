//! What people look at in a browser and what machines scrape, asked of the real service.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use upspool_emulator::{Calls, Operation, Reply};

use crate::harness::{Bench, PATIENCE, Service, noise};

/// Every route that is asked without a parameter.
const ROUTES: [&str; 9] = [
    "/",
    "/page.css",
    "/page.js",
    "/api/status",
    "/api/folders",
    "/api/jobs",
    "/api/codes",
    "/metrics",
    "/livez",
];

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The values of a metric, by its labels as they are written.
    fn metric(&self, name: &str) -> BTreeMap<String, f64> {
        let lines = self.body.lines().filter_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            let labels = key.strip_prefix(name)?;
            (labels.is_empty() || labels.starts_with('{'))
                .then(|| (labels.to_owned(), value.parse().unwrap()))
        });
        lines.collect()
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}

/// Asks with these lines of the head, after `Connection`.
async fn ask(address: &str, line: &str, head: &str) -> Answer {
    let request = format!("{line} HTTP/1.1\r\nConnection: close\r\n{head}\r\n");
    let address = address.to_owned();
    let ask = move || {
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(stream, &request)
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// Asks as a browser on this machine would.
pub async fn get(address: &str, path: &str) -> Answer {
    ask(address, &format!("GET {path}"), &format!("Host: {address}\r\n")).await
}

/// Asks until the answer is as it should be.
async fn get_until(address: &str, path: &str, what: &str, found: impl Fn(&Answer) -> bool) -> Answer {
    let mut last = None;
    let asking = async {
        loop {
            let answer = get(address, path).await;
            if found(&answer) {
                return answer;
            }
            last = Some(answer);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    answer.unwrap_or_else(|_| panic!("{path} does not become {what}: {last:?}"))
}

/// The address that the kernel gave to `listen = "127.0.0.1:0"`.
pub async fn address(service: &Service) -> String {
    let line = service.wait_event("status-page").await;
    let place = line["listen"].as_str().unwrap();
    place.strip_prefix("http://").and_then(|place| place.strip_suffix('/')).unwrap().to_owned()
}

async fn bench() -> Bench {
    let mut bench = Bench::new().await;
    bench.tables = "[status]\nlisten = \"127.0.0.1:0\"\n".into();
    bench
}

#[tokio::test]
async fn every_route_answers_what_it_says_and_nothing_lets_strangers_in() {
    let bench = bench().await;
    let path = bench.drop_file("a <b>.bin", &noise(1000, 1));
    let service = bench.start();
    service.wait_stored(1).await;
    let address = address(&service).await;
    for (route, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/api/status", "application/json"),
        ("/api/codes", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
    ] {
        let answer = get(&address, route).await;
        assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, kind), "{route}");
    }
    let ready = get_until(&address, "/readyz", "ready", |answer| answer.status == 200).await;
    assert_eq!((ready.body.as_str(), get(&address, "/livez").await.body.as_str()), ("ok\n", "ok\n"));

    // The row is written a moment after the line of the log.
    let stored = |answer: &Answer| answer.json()["jobs"][0]["state"] == "stored";
    let jobs = get_until(&address, "/api/jobs?limit=1", "stored", stored).await.json();
    let file = bench.emulator.files()[0].id.clone();
    assert_eq!(
        (&jobs["jobs"][0]["file_id"], &jobs["jobs"][0]["relative_path"]),
        (&file.into(), &"a <b>.bin".into())
    );
    assert_eq!(get(&address, "/api/jobs?state=failed,unresolved").await.json()["jobs"], Value::Array(vec![]));
    let counted = |answer: &Answer| answer.json()["folders"][0]["counts"]["stored"] == 1;
    let folders = get_until(&address, "/api/folders", "counted", counted).await.json();
    let counts = folders["folders"][0]["counts"].as_object().unwrap();
    assert_eq!((counts.len(), counts.values().map(|one| one.as_u64().unwrap()).sum::<u64>()), (9, 1));
    assert_eq!(get(&address, "/api/status").await.json()["folders"][0]["name"], "drop");
    let hex: String = path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(get(&address, &format!("/api/why/{hex}")).await.json()["answer"], "stored");
    assert!(
        get(&address, "/api/codes").await.json()["key-rejected"].as_str().unwrap().contains("check the key")
    );

    for (line, status) in [
        ("GET /api/jobs?limit=0", 400),
        ("GET /api/jobs?limit=501", 400),
        ("GET /api/jobs?state=lost", 400),
        ("GET /api/jobs?colour=red", 400),
        ("GET /api/why/zz", 400),
        ("GET /nothing", 404),
        ("GET /page/page.js", 404),
        ("GET /../etc/passwd", 404),
        ("POST /api/status", 405),
        ("OPTIONS /api/status", 405),
        ("DELETE /", 405),
        ("PUT /api/jobs", 405),
        ("PATCH /metrics", 405),
        ("TRACE /", 405),
        ("UPSPOOL /livez", 405),
        ("HEAD /", 200),
    ] {
        let head = format!("Host: {address}\r\nOrigin: http://evil.example\r\n");
        let answer = ask(&address, line, &head).await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.headers[name], value, "{line}");
        }
        let policy = &answer.headers["content-security-policy"];
        assert!(
            policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        let loose =
            answer.headers.keys().find(|name| name.starts_with("access-control") || *name == "set-cookie");
        assert_eq!(loose, None, "{line}");
    }
    assert_eq!(service.stop().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_name_that_leads_here_by_a_strangers_doing_is_answered_with_nothing() {
    let bench = bench().await;
    let service = bench.start();
    let address = address(&service).await;
    let port = address.rsplit_once(':').unwrap().1;
    for route in ROUTES {
        for host in ["evil.example".to_owned(), format!("localhost.evil.example:{port}"), String::new()] {
            let answer = ask(&address, &format!("GET {route}"), &format!("Host: {host}\r\n")).await;
            assert_eq!(answer.status, 421, "{route} by {host}");
            assert!(!answer.body.contains("drop"), "{answer:?}");
        }
        let line = format!("GET http://evil.example{route}");
        assert_eq!(ask(&address, &line, &format!("Host: {address}\r\n")).await.status, 421, "{line}");
        for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "[::1]".into()] {
            let answer = ask(&address, &format!("GET {route}"), &format!("Host: {host}\r\n")).await;
            assert_eq!(answer.status, 200, "{route} by {host}");
        }
    }
}

#[tokio::test]
async fn without_the_token_nothing_is_told_but_that_it_lives() {
    let mut bench = bench().await;
    let token = bench.path("token");
    std::fs::write(&token, "s3cret-of-the-page\n").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    bench.tables.push_str(&format!("token_file = {token:?}\n"));
    let service = bench.start();
    let address = address(&service).await;
    let with = |route: &'static str, token: &'static str| {
        let head = format!("Host: {address}\r\n{token}");
        let address = address.clone();
        async move { ask(&address, &format!("GET {route}"), &head).await }
    };
    for route in ROUTES.into_iter().chain(["/readyz", "/nothing"]) {
        for wrong in [
            "",
            "Authorization: Bearer s3cret\r\n",
            "Authorization: Basic s3cret-of-the-page\r\n",
            "Cookie: token=s3cret-of-the-page\r\n",
        ] {
            let answer = with(route, wrong).await;
            // What the page is made of is the same for everyone, and the page has to ask for the token.
            let expected = if ["/livez", "/page.css", "/page.js"].contains(&route) { 200 } else { 401 };
            assert_eq!(answer.status, expected, "{route} with {wrong:?}");
            if expected == 401 {
                assert_eq!(answer.headers["www-authenticate"], "Bearer");
                assert!(!answer.body.contains("drop"), "{answer:?}");
            }
        }
        let found = if route == "/nothing" { 404 } else { 200 };
        assert_eq!(
            with(route, "Authorization: Bearer s3cret-of-the-page\r\n").await.status,
            found,
            "{route}"
        );
    }
    assert!(with("/", "").await.body.contains("<form id=\"ask\""), "the page asks for it");
    // In a URL it would stand in histories and logs.
    assert_eq!(with("/api/status?token=s3cret-of-the-page", "").await.status, 401);
    let (_, log) = service.stop().await;
    assert!(!format!("{log:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_unix_socket_serves_the_same_to_those_of_its_group() {
    let mut bench = Bench::new().await;
    let socket: PathBuf = bench.path("page.sock");
    bench.tables = format!("[status]\nlisten = \"unix:{}\"\n", socket.display());
    let service = bench.start();
    service.wait_event("ready").await;
    let ask = |route: &'static str| {
        let socket = socket.clone();
        let ask = move || {
            let stream = UnixStream::connect(&socket).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            exchange(stream, &format!("GET {route} HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n"))
        };
        tokio::task::spawn_blocking(ask)
    };
    for route in ROUTES {
        assert_eq!(ask(route).await.unwrap().status, 200, "{route}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o660);
    // What a kill leaves behind is replaced.
    service.kill().await;
    assert!(socket.exists());
    let service = bench.start();
    service.wait_event("ready").await;
    assert_eq!(ask("/livez").await.unwrap().status, 200);
    assert_eq!(service.stop().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_hold_or_a_pause_is_not_ready_and_says_why_and_is_no_reason_to_restart() {
    let bench = bench().await;
    bench.set_key("sk-nobody-knows-this-one");
    bench.drop_file("a.bin", &noise(1000, 1));
    let service = bench.start();
    service.wait_event("hold").await;
    let address = address(&service).await;
    let ready = get(&address, "/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.starts_with("hold: account default: key-rejected: "), "{ready:?}");
    assert!(ready.body.contains("; check the key"), "{ready:?}");
    assert_eq!(get(&address, "/livez").await.status, 200);
    let metrics = get(&address, "/metrics").await;
    let key = "{scope=\"account\",code=\"key-rejected\"}".to_owned();
    let one = BTreeMap::from([(key, 1.0)]);
    assert_eq!(
        (metrics.metric("upspool_hold_active"), metrics.metric("upspool_holds_total")),
        (one.clone(), one)
    );
    let oldest = metrics.metric("upspool_oldest_queued_seconds");
    assert!(oldest.contains_key("{folder=\"drop\"}"), "{oldest:?}");
    bench.set_key(upspool_emulator::DEFAULT_KEY);
    service.wait_stored(1).await;
    get_until(&address, "/readyz", "ready", |answer| answer.status == 200).await;
    assert_eq!(get(&address, "/metrics").await.metric("upspool_hold_active"), BTreeMap::new());

    let mut pause = bench.command(&["pause", "--folder", "drop"]);
    let paused = tokio::task::spawn_blocking(move || pause.output().unwrap()).await.unwrap();
    assert!(paused.status.success(), "{paused:?}");
    let ready = get_until(&address, "/readyz", "paused", |answer| answer.status == 503).await;
    assert_eq!(ready.body, "paused: folder drop; `upspool resume` goes on\n");
    assert_eq!(get(&address, "/metrics").await.metric("upspool_folder_paused")["{folder=\"drop\"}"], 1.0);
}

#[tokio::test]
async fn counters_grow_with_what_happens_and_no_label_holds_a_path() {
    let mut bench = bench().await;
    bench.tables.push_str("[upload]\npart_size = \"1 MiB\"\n");
    bench.emulator.fault(Calls::of(Operation::Part).nth(1).meet(Reply::status(503)));
    bench.drop_file("sub dir/precious name.bin", &noise(3 * 1024 * 1024, 1));
    bench.drop_file("small.bin", &noise(1000, 2));
    let service = bench.start();
    service.wait_stored(2).await;
    let address = address(&service).await;
    let stored = |answer: &Answer| {
        answer.metric("upspool_jobs").get("{folder=\"drop\",state=\"stored\"}") == Some(&2.0)
    };
    let metrics = get_until(&address, "/metrics", "stored", stored).await;
    let bytes = (3 * 1024 * 1024 + 1000) as f64;
    let folder = |value: f64| BTreeMap::from([("{folder=\"drop\"}".to_owned(), value)]);
    assert_eq!(metrics.metric("upspool_stored_total"), folder(2.0));
    assert_eq!(metrics.metric("upspool_stored_bytes_total"), folder(bytes));
    assert_eq!(metrics.metric("upspool_sent_bytes_total"), folder(bytes));
    let retries = metrics.metric("upspool_retries_total");
    assert_eq!(retries, BTreeMap::from([("{code=\"server-error\"}".to_owned(), 1.0)]));
    let operations = metrics.metric("upspool_operations_total");
    assert_eq!(operations["{operation=\"complete\",outcome=\"done\"}"], 2.0, "{operations:?}");
    let parts = metrics.metric("upspool_operation_duration_seconds_count");
    assert!(parts["{operation=\"part\"}"] + parts["{operation=\"whole\"}"] >= 5.0, "{parts:?}");
    assert_eq!(metrics.metric("upspool_engine_up"), BTreeMap::from([(String::new(), 1.0)]));
    for line in metrics.body.lines().filter(|line| !line.starts_with('#')) {
        assert!(!line.contains('/') && !line.contains("precious") && !line.contains("sub dir"), "{line}");
    }
    let found = |by: &str| format!("{{folder=\"drop\",by=\"{by}\"}}");
    assert_eq!(metrics.metric("upspool_found_total"), BTreeMap::from([(found("start"), 2.0)]));
    // From now on what comes is told by events.
    let scan = "upspool_folder_last_scan_timestamp_seconds";
    get_until(&address, "/metrics", "scanned", |answer| !answer.metric(scan).is_empty()).await;
    bench.drop_file("later.bin", &noise(1000, 3));
    service.wait_stored(3).await;
    let all = BTreeMap::from([(found("start"), 2.0), (found("event"), 1.0)]);
    assert_eq!(get(&address, "/metrics").await.metric("upspool_found_total"), all);
    assert_eq!(service.stop().await.0.code(), Some(0));
}

#[tokio::test]
async fn clients_that_do_not_go_on_hold_up_neither_the_service_nor_its_commands() {
    let bench = bench().await;
    let service = bench.start();
    let address = address(&service).await;
    // More than are served at once; each with half a request, or one whose answer it never reads.
    let mut clients = Vec::new();
    for number in 0..100 {
        let mut client = TcpStream::connect(&address).unwrap();
        let end = if number % 2 == 0 { "" } else { "\r\n" };
        write!(client, "GET /page.js HTTP/1.1\r\nHost: localhost\r\n{end}").unwrap();
        clients.push(client);
    }
    bench.drop_file("a.bin", &noise(1000, 1));
    service.wait_stored(1).await;
    let mut status = bench.command(&["status"]);
    let asked = tokio::task::spawn_blocking(move || status.output().unwrap()).await.unwrap();
    assert!(asked.status.success(), "{asked:?}");
    drop(clients);
    assert_eq!(get(&address, "/livez").await.status, 200);
    assert_eq!(service.stop().await.0.code(), Some(0));
}

#[tokio::test]
async fn however_many_come_only_so_many_are_let_in() {
    let bench = bench().await;
    let service = bench.start();
    let address = address(&service).await;
    let open = || std::fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap().count();
    // What the service opens for itself it has opened when its engine answers.
    assert_eq!(get(&address, "/api/status").await.status, 200);
    let before = open();
    let clients: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let let_in = async {
        while open() < before + 32 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, let_in).await.unwrap();
    // Whoever else would be let in is so by the time that one of them is answered.
    let mut first = &clients[0];
    write!(first, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let now = open();
    // The store's readers come and go.
    assert!(now <= before + 32 + 16, "{now} descriptors, and {before} before");
    drop(clients);
    assert_eq!(service.stop().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_request_without_measure_is_refused_and_the_next_is_answered() {
    let bench = bench().await;
    let service = bench.start();
    let address = address(&service).await;
    let long = "61".repeat(40_000);
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    for (line, more, status) in [
        // The longest path that Linux has, and one that nobody has.
        (format!("GET /api/why/{}", "61".repeat(4096)), String::new(), 200),
        (format!("GET /api/why/{long}"), String::new(), 414),
        (format!("GET /?{}", "a".repeat(70_000)), String::new(), 414),
        ("GET /".to_owned(), many, 431),
        ("GET /".to_owned(), format!("X: {}\r\n", "y".repeat(1_000_000)), 431),
    ] {
        let answer = ask(&address, &line, &format!("Host: {address}\r\n{more}")).await;
        assert_eq!(answer.status, status, "{:.40} with {} bytes", line, line.len() + more.len());
        assert_eq!(get(&address, "/livez").await.status, 200);
    }
    assert_eq!(service.stop().await.0.code(), Some(0));
}

#[tokio::test]
async fn every_metric_is_explained() {
    let mut bench = bench().await;
    bench.tables.push_str("[upload]\npart_size = \"1 MiB\"\n");
    bench.drop_file("a.bin", &noise(3 * 1024 * 1024, 1));
    let service = bench.start();
    service.wait_stored(1).await;
    let metrics = get(&address(&service).await, "/metrics").await;
    let told = metrics.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let told: std::collections::BTreeSet<&str> = told.collect();
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATING.md")).unwrap();
    // The first column of the table.
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let rows = rows.flat_map(|names| names.split(['`', ',', ' '])).filter(|name| name.contains('_'));
    let explained =
        rows.filter(|name| name.starts_with("upspool_") || name.starts_with("process_")).collect();
    assert_eq!(told, explained);
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_and_is_worth_another_try() {
    let mut bench = Bench::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    bench.tables = format!("[status]\nlisten = \"{address}\"\n");
    let (status, log) = bench.start().ended().await;
    assert_eq!(status.code(), Some(75), "{log}");
    let words = format!("cannot listen on {address} ([status] listen): Address already in use");
    assert!(log.contains(&words), "{log}");
    bench.tables = "[status]\nlisten = \"0.0.0.0:0\"\n".into();
    let (status, log) = bench.start().ended().await;
    assert_eq!(status.code(), Some(78), "{log}");
    assert!(log.contains("without a token; say token_file"), "{log}");
}
