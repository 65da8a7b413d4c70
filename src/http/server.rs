//! A web server for tests whose answers a test chooses: it has every fault of real ones.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as the server received it; the names of headers are in lower case.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// The body of an answer.
#[derive(Debug, Clone)]
pub enum Content {
    /// All of it.
    Whole(Vec<u8>),
    /// These bytes of a larger announced body, and then the connection breaks.
    Cut(Vec<u8>, u64),
    /// These bytes again and again without an end or an announced size.
    Endless(Vec<u8>),
    /// A byte each time that long.
    Slow(Vec<u8>, Duration),
    /// Nothing, not even headers, for that long.
    Silent(Duration),
    /// An announced size, and nothing else.
    Announced(u64),
    /// The connection breaks without an answer.
    Broken,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub content: Content,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), content: Content::Whole(body.into()) }
    }

    pub fn content(content: Content) -> Self {
        Self { status: 200, headers: Vec::new(), content }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A running server; its threads end with the process.
#[derive(Debug, Clone)]
pub struct Server {
    pub address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Starts a server on loopback. `answer` gets each request and its number, from 0.
    pub fn start(answer: impl Fn(&Received, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Self { address, received: Arc::default() };
        let (answer, all) = (Arc::new(answer), Arc::clone(&server.received));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, all) = (Arc::clone(&answer), Arc::clone(&all));
                std::thread::spawn(move || {
                    while let Some(request) = read(&stream) {
                        let number = {
                            let mut all = all.lock().unwrap();
                            all.push(request.clone());
                            all.len() - 1
                        };
                        if !write(&stream, &request, answer(&request, number)) {
                            let _ = stream.shutdown(std::net::Shutdown::Both);
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received { method, path, headers, body })
}

/// Returns whether the connection is still of use.
fn write(mut stream: &TcpStream, request: &Received, answer: Answer) -> bool {
    let mut head = format!("HTTP/1.1 {} Status\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let has_body = request.method != "HEAD";
    let length = |length: u64| format!("Content-Length: {length}\r\n\r\n");
    let mut send = |bytes: &[u8]| stream.write_all(bytes).is_ok();
    match answer.content {
        Content::Whole(body) => {
            let own = answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            head += &if own { "\r\n".to_owned() } else { length(body.len() as u64) };
            send(head.as_bytes()) && (!has_body || send(&body))
        }
        Content::Cut(body, announced) => {
            let _ = send((head + &length(announced)).as_bytes()) && send(&body);
            false
        }
        Content::Endless(part) => {
            let _ = send((head + "Connection: close\r\n\r\n").as_bytes());
            while send(&part) {}
            false
        }
        Content::Slow(body, pause) => {
            let mut works = send((head + &length(body.len() as u64)).as_bytes());
            for byte in body {
                std::thread::sleep(pause);
                works = works && send(&[byte]);
            }
            works
        }
        Content::Silent(time) => {
            std::thread::sleep(time);
            false
        }
        Content::Announced(size) => {
            let _ = send((head + &length(size)).as_bytes());
            std::thread::sleep(Duration::from_secs(5));
            false
        }
        Content::Broken => false,
    }
}
