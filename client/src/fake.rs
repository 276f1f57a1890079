//! A stand-in for fleetd in tests: HTTP by hand on a unix socket, answers from a function.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

/// A request.
pub struct Asked {
    /// Method, a space, and path with query.
    pub line: String,
    /// The body.
    pub body: String,
}

/// An answer.
pub enum Answer {
    /// A status and a body.
    Whole(u16, String),
    /// A body and how old it is.
    Aged(u32, String),
    /// A status and a body, of a change that was received and checked at some time.
    Timed(u16, String),
    /// Lines of a stream, which then stays open.
    Lines(Vec<String>),
    /// Lines of a stream, which then breaks.
    BrokenLines(Vec<String>),
    /// A body, after which the connection is closed.
    Last(String),
    /// None: the connection is closed.
    Nothing,
}

/// A fleetd that listens until dropped.
pub struct Fake {
    /// For `--endpoint`.
    pub endpoint: String,
    /// Every request so far, `METHOD PATH` and then its body, if any.
    pub asked: Arc<Mutex<Vec<String>>>,
    _directory: TempDir,
    _server: JoinSet<()>,
}

impl Fake {
    /// Listens on a socket of its own.
    pub fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fleet.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (asked, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let log = Arc::clone(&asked);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                connections.spawn(async move { serve(stream, &*answer, &log).await });
            }
        });
        Self { endpoint: format!("unix://{}", path.display()), asked, _directory: directory, _server: server }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(stream: UnixStream, answer: &(impl Fn(&Asked) -> Answer + Send + Sync), log: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read(&mut stream).await {
        log.lock().unwrap().push(format!("{} {}", asked.line, asked.body).trim_end().to_owned());
        let (lines, open) = match answer(&asked) {
            Answer::Whole(status, body) => {
                whole(&mut stream, status, "", &body).await;
                continue;
            }
            Answer::Aged(age, body) => {
                whole(&mut stream, 200, &format!("Fleet-Age: {age}\r\n"), &body).await;
                continue;
            }
            Answer::Timed(status, body) => {
                whole(&mut stream, status, "Fleet-Received: 10\r\nFleet-Checked: 20\r\n", &body).await;
                continue;
            }
            Answer::Last(body) => return whole(&mut stream, 200, "", &body).await,
            Answer::Nothing => return,
            Answer::Lines(lines) => (lines, true),
            Answer::BrokenLines(lines) => (lines, false),
        };
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        for line in lines {
            // In two chunks, as lines may be cut anywhere.
            let (one, other) = line.split_at(line.len() / 2);
            for chunk in [one, &format!("{other}\n")].into_iter().filter(|chunk| !chunk.is_empty()) {
                let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
                stream.write_all(chunk.as_bytes()).await.unwrap();
            }
        }
        if open {
            // Until the client hangs up.
            let _ = stream.read_u8().await;
        }
        return;
    }
}

async fn read(stream: &mut BufReader<UnixStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        match header.trim().to_lowercase().split_once(": ") {
            None => break,
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").replace("/fleet/v1", "");
    Some(Asked { line, body: String::from_utf8(body).ok()? })
}

async fn whole(stream: &mut BufReader<UnixStream>, status: u16, headers: &str, body: &str) {
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let answer = format!("HTTP/1.1 {status} X\r\n{headers}{length}\r\n{body}");
    // The client may have gone.
    let _ = stream.write_all(answer.as_bytes()).await;
}
