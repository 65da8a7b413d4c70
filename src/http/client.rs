//! Sends requests: by way of a proxy, with retries and redirects, and with an end when the build is interrupted.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::header::{CONTENT_LENGTH, HeaderName, LOCATION};
use ureq::http::{self, Method, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Proxy, SendBody};

use super::reply::{Reading, Reply};
use super::sent_file::{SentFile, SentReader};
use super::{HttpError, Origin, Problem, certificates, proxy, redirect, retry};
use crate::error::error_chain;

/// The most redirects of one request.
const MAX_REDIRECTS: usize = 10;

/// A longer wait before another try is reported.
const MAX_SILENT_WAIT: Duration = Duration::from_secs(1);

/// The time in which a request ends after an interruption.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

/// The settings of a client.
#[derive(Debug, Clone)]
pub struct Options {
    /// Files of certificate authorities that are trusted beside the usual ones.
    pub certificates: Vec<PathBuf>,
    /// The time after which a silent server is given up.
    pub timeout: Duration,
    /// The wait before the second try; it doubles each time.
    pub first_delay: Duration,
    /// Returns a variable of the environment.
    pub variables: fn(&str) -> Option<String>,
    /// Receives the waits before another try.
    pub waits: WaitReport,
}

/// Receives the waits of requests that are longer than a second: the length, and the failure of the last try.
#[derive(Clone, Default)]
pub struct WaitReport(Option<Arc<ReportWait>>);

/// Gets the length of a wait and the failure before it.
type ReportWait = dyn Fn(Duration, &str) + Send + Sync;

impl WaitReport {
    /// Passes each wait to that function.
    pub fn by(report: impl Fn(Duration, &str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }
}

impl fmt::Debug for WaitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "reported" } else { "not reported" })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            timeout: Duration::from_secs(60),
            first_delay: Duration::from_millis(500),
            variables: |name| std::env::var(name).ok(),
            waits: WaitReport::default(),
        }
    }
}

/// A request. It may be sent several times.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: String,
    /// The headers, but for Authorization.
    pub headers: Vec<(HeaderName, String)>,
    /// The credentials, which only the server of the URL gets.
    pub authorization: Option<String>,
    /// The body.
    pub body: RequestBody<'a>,
}

/// The body of a request.
#[derive(Debug, Clone, Copy)]
pub enum RequestBody<'a> {
    /// None.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// A part of a file.
    File(SentFile<'a>),
}

impl Request<'_> {
    /// Returns a request for the content at a URL.
    pub fn get(url: impl Into<String>) -> Self {
        let (headers, body) = (Vec::new(), RequestBody::None);
        Self { method: Method::GET, url: url.into(), headers, authorization: None, body }
    }
}

/// A client. All its requests share connections.
#[derive(Debug)]
pub struct Client {
    options: Options,
    stop: Arc<AtomicBool>,
    agents: Arc<Mutex<HashMap<Option<Proxy>, Agent>>>,
    /// Ends the thread that watches `stop`, when it is dropped.
    watch: Mutex<Option<Sender<()>>>,
}

impl Client {
    /// Makes a client whose requests end when `stop` becomes true.
    pub fn new(options: Options, stop: Arc<AtomicBool>) -> Self {
        Self { options, stop, agents: Arc::default(), watch: Mutex::default() }
    }

    /// Sends a request until it has an answer that another try would not change.
    ///
    /// # Errors
    /// See [`Problem`]. A status that is not temporary is no error.
    pub fn send(&self, request: &Request<'_>) -> Result<Reply, HttpError> {
        self.retrying(request, || self.once(request, &[]))
    }

    /// Sends a request and reads the body of the answer into memory, `limit` bytes at most.
    ///
    /// # Errors
    /// See [`Problem`]. A status that is not temporary is no error.
    pub fn fetch(&self, request: &Request<'_>, limit: u64) -> Result<(Reply, Vec<u8>), HttpError> {
        self.retrying(request, || {
            let mut reply = self.once(request, &[])?;
            let bytes = reply.read(limit)?;
            Ok((reply, bytes))
        })
    }

    /// Tries something until it succeeds or another try is of no use.
    pub(super) fn retrying<T>(
        &self,
        request: &Request<'_>,
        mut attempt: impl FnMut() -> Result<T, Problem>,
    ) -> Result<T, HttpError> {
        let mut tries = 0;
        loop {
            let result = if self.is_stopped() { Err(Problem::Interrupted) } else { attempt() };
            let problem = match result {
                Ok(found) => return Ok(found),
                Err(_) if self.is_stopped() => Problem::Interrupted,
                Err(problem) => problem,
            };
            tries += 1;
            match retry::delay(&problem, tries, self.options.first_delay) {
                Some(delay) => {
                    if let Some(report) = self.options.waits.0.as_ref().filter(|_| delay > MAX_SILENT_WAIT) {
                        report(delay, &error_chain(&problem));
                    }
                    self.wait(delay);
                }
                None => return Err(self.failed(request, problem)),
            }
        }
    }

    /// Returns the error of a request that failed for good.
    pub fn failed(&self, request: &Request<'_>, problem: Problem) -> HttpError {
        let url = redirect::shown_url(&request.url);
        HttpError { url, is_upload: !matches!(request.method, Method::GET | Method::HEAD), problem: Box::new(problem) }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn wait(&self, delay: Duration) {
        let end = Instant::now() + delay;
        while !self.is_stopped() {
            let remaining = end.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return;
            }
            std::thread::sleep(remaining.min(STOP_INTERVAL));
        }
    }

    /// Sends a request once, with further headers, and follows redirects.
    pub(super) fn once(&self, request: &Request<'_>, further: &[(HeaderName, String)]) -> Result<Reply, Problem> {
        let wrong = |_| Problem::Url(request.url.chars().take(200).collect());
        let first: Uri = request.url.parse().map_err(wrong)?;
        let origin = Origin::of(&first).ok_or_else(|| Problem::Url(redirect::without_secrets(&first)))?;
        let mut uri = first;
        for _ in 0..=MAX_REDIRECTS {
            let is_for_origin = Origin::of(&uri).as_ref() == Some(&origin);
            let reply = self.exchange(request, &uri, further, is_for_origin)?;
            if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
                return reply.refuse_temporary();
            }
            let Some(location) = reply.header(LOCATION) else { return Ok(reply) };
            let host = reply.reading.host.clone();
            if !matches!(request.method, Method::GET | Method::HEAD) && !matches!(reply.status, 307 | 308) {
                let problem = format!("an upload with the status {}", reply.status);
                return Err(Problem::Redirect { host, problem });
            }
            uri = redirect::target(&uri, location).map_err(|problem| Problem::Redirect { host, problem })?;
        }
        let problem = format!("more than {MAX_REDIRECTS} times");
        Err(Problem::Redirect { host: uri.host().unwrap_or_default().to_owned(), problem })
    }

    /// Sends one request to one server.
    fn exchange(
        &self,
        request: &Request<'_>,
        uri: &Uri,
        further: &[(HeaderName, String)],
        is_for_origin: bool,
    ) -> Result<Reply, Problem> {
        let host = uri.authority().map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or_default());
        let reading = Reading { host: host.to_owned(), timeout: self.options.timeout, stop: Arc::clone(&self.stop) };
        let mut built = http::Request::builder().method(request.method.clone()).uri(uri.clone());
        for (name, value) in request.headers.iter().chain(further) {
            built = built.header(name, value);
        }
        if let Some(authorization) = request.authorization.as_ref().filter(|_| is_for_origin) {
            built = built.header(http::header::AUTHORIZATION, authorization);
        }
        let wrong = |error: http::Error| Problem::Url(error.to_string());
        let agent = self.agent(uri)?;
        let answer = match request.body {
            RequestBody::None => agent.run(built.body(()).map_err(wrong)?),
            RequestBody::Bytes(bytes) => agent.run(built.body(bytes).map_err(wrong)?),
            RequestBody::File(sent) => {
                let mut reader = SentReader::new(sent);
                let built = built.header(CONTENT_LENGTH, sent.size).body(SendBody::from_reader(&mut reader));
                let answer = agent.run(built.map_err(wrong)?);
                if let Some(problem) = reader.problem.take() {
                    return Err(problem);
                }
                answer
            }
        };
        let answer = answer.map_err(|error| reading.problem(error))?;
        let (parts, body) = answer.into_parts();
        Ok(Reply { status: parts.status.as_u16(), uri: uri.clone(), headers: parts.headers, body, reading })
    }

    /// Returns the connections for a URL, by its proxy.
    fn agent(&self, uri: &Uri) -> Result<Agent, Problem> {
        let proxy = proxy::of(uri, &self.options.variables)?;
        let mut agents = lock(&self.agents);
        if let Some(agent) = agents.get(&proxy) {
            return Ok(agent.clone());
        }
        let certificates = match uri.scheme_str() {
            Some("https") => certificates::trusted(&self.options.variables, &self.options.certificates)?,
            // A host without certificates can still get what needs none.
            _ => certificates::trusted(&self.options.variables, &self.options.certificates).unwrap_or_default(),
        };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&certificates))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let timeout = Some(self.options.timeout);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy.clone())
            .tls_config(tls)
            .user_agent(concat!("runner/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(timeout.map(|timeout| timeout.min(Duration::from_secs(20))))
            .timeout_connect(timeout.map(|timeout| timeout.min(Duration::from_secs(30))))
            .timeout_per_read(timeout)
            .timeout_per_write(timeout)
            .build();
        let agent = Agent::new_with_config(config);
        agents.insert(proxy, agent.clone());
        drop(agents);
        self.watch()?;
        Ok(agent)
    }

    /// Starts the thread that ends all requests when the build is interrupted.
    fn watch(&self) -> Result<(), Problem> {
        let mut watch = lock(&self.watch);
        if watch.is_some() {
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel::<()>();
        let (stop, agents) = (Arc::clone(&self.stop), Arc::clone(&self.agents));
        let watcher = move || {
            while let Err(RecvTimeoutError::Timeout) = receiver.recv_timeout(STOP_INTERVAL) {
                if stop.load(Ordering::SeqCst) {
                    lock(&agents).drain().for_each(|(_, agent)| agent.shutdown());
                }
            }
        };
        let started = std::thread::Builder::new().name("http-watch".to_owned()).spawn(watcher);
        started.map_err(|source| Problem::File { action: "start a thread", source })?;
        *watch = Some(sender);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
