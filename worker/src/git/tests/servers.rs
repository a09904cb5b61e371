//! Real git servers on loopback: `git daemon`, and smart HTTP as a bridge to `git http-backend`.
//! Both accept on a port that the system chose and serve until dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

/// How a server fails once with a push; afterwards it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Takes the push and closes the connection without answering.
    LoseAnswer = 1,
    /// Closes the connection without taking the push.
    LoseRequest = 2,
}

/// A listening server.
pub(super) struct Server {
    port: u16,
    stop: Arc<AtomicBool>,
    fault: Arc<AtomicU32>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// `git daemon` for everything below `root`, one process per connection.
    pub(super) fn daemon(root: &Path) -> Self {
        let root = root.to_owned();
        Self::start(move |stream, _| {
            let input: OwnedFd = stream.try_clone().unwrap().into();
            let output: OwnedFd = stream.into();
            let base = format!("--base-path={}", root.display());
            let arguments = ["daemon", "--inetd", "--export-all", "--enable=receive-pack"];
            let _ = Command::new("git")
                .args(arguments)
                .arg(base)
                .stdin(Stdio::from(input))
                .stdout(Stdio::from(output))
                .stderr(Stdio::null())
                .status();
        })
    }

    /// Smart HTTP for everything below `root`.
    pub(super) fn http(root: &Path) -> Self {
        let root = root.to_owned();
        Self::start(move |stream, fault| {
            // A client that goes away is the client's affair.
            let _ = serve(&stream, &root, fault);
            let _ = stream.shutdown(Shutdown::Both);
        })
    }

    fn start(handle: impl Fn(TcpStream, &AtomicU32) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let fault = Arc::new(AtomicU32::new(0));
        let (stopped, armed) = (Arc::clone(&stop), Arc::clone(&fault));
        let handle = Arc::new(handle);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (handle, armed) = (Arc::clone(&handle), Arc::clone(&armed));
                std::thread::spawn(move || handle(stream, &armed));
            }
        });
        Self { port, stop, fault, accepting: Some(accepting) }
    }

    /// The next push meets this fault (HTTP only).
    pub(super) fn arm(&self, fault: Fault) {
        self.fault.store(fault as u32, Ordering::SeqCst);
    }

    pub(super) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// One request per connection: enough for git, which opens another one.
fn serve(stream: &TcpStream, root: &PathBuf, fault: &AtomicU32) -> std::io::Result<()> {
    let request = read_request(stream)?;
    let is_push = request.method == "POST" && request.path.ends_with("git-receive-pack");
    let armed = if is_push { fault.swap(0, Ordering::SeqCst) } else { 0 };
    if armed == Fault::LoseRequest as u32 {
        return Ok(());
    }
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "tester")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.header(header) {
            command.env(variable, value);
        }
    }
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().unwrap();
    let body = request.body;
    let feeding = std::thread::spawn(move || input.write_all(&body));
    let output = child.wait_with_output()?;
    let _ = feeding.join();
    if armed == Fault::LoseAnswer as u32 {
        return Ok(());
    }
    write_response(stream, &output.stdout)
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    };
    if request.header("expect").is_some() {
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            request.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = request.header("content-length").and_then(|n| n.parse().ok()) {
        request.body = vec![0; length];
        reader.read_exact(&mut request.body)?;
    }
    Ok(request)
}

/// Turns a CGI answer into an HTTP one.
fn write_response(mut stream: &TcpStream, cgi: &[u8]) -> std::io::Result<()> {
    let split = cgi.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(cgi.len());
    let head = String::from_utf8_lossy(&cgi[..split]).into_owned();
    let body = cgi.get(split + 4..).unwrap_or_default();
    let mut status = "200 OK";
    let mut headers = String::new();
    for line in head.lines() {
        match line.strip_prefix("Status: ") {
            Some(found) => status = found,
            None => headers += &format!("{line}\r\n"),
        }
    }
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}
