//! The `environ` of a request (PEP 3333), built straight from the connection's bytes.
//!
//! What is the same for every request of a connection is in a dict that is copied; names of header fields are
//! translated once and remembered.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::{FileWrapper, Input};
use crate::config::Config;
use crate::gateway::{Body, ConnectionFacts};
use crate::http::{BodyFraming, Forwarded, RequestHead, Scheme, Version};
use crate::limits::HEADER_NAMES_REMEMBERED_MAX;

/// With one entry more a dict grows, and has room for about twenty header fields.
const DICT_ENTRIES_BEFORE_GROWTH: usize = 21;

/// What is the same for every request of a process.
pub(super) struct Template {
    common: Py<PyDict>,
    script_name: String,
}

impl Template {
    pub(super) fn new(py: Python<'_>, config: &Config) -> PyResult<Self> {
        let script_name = config.application.script_name.clone();
        let common = PyDict::new(py);
        common.set_item(intern!(py, "SCRIPT_NAME"), latin_1(py, script_name.as_bytes())?)?;
        common.set_item(intern!(py, "SERVER_SOFTWARE"), concat!("Spawning/", env!("CARGO_PKG_VERSION")))?;
        common.set_item(intern!(py, "wsgi.version"), (1, 0))?;
        common.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "http"))?;
        common.set_item(intern!(py, "wsgi.errors"), py.import("sys")?.getattr("stderr")?)?;
        common.set_item(intern!(py, "wsgi.multithread"), config.threads != 1)?;
        common.set_item(intern!(py, "wsgi.multiprocess"), config.processes > 1)?;
        common.set_item(intern!(py, "wsgi.run_once"), false)?;
        common.set_item(intern!(py, "wsgi.input_terminated"), true)?;
        common.set_item(intern!(py, "wsgi.file_wrapper"), py.get_type::<FileWrapper>())?;
        Ok(Self { common: common.unbind(), script_name })
    }

    /// What one thread builds environs with.
    pub(super) fn environs<'py>(&self, py: Python<'py>) -> Environs<'py> {
        Environs {
            common: self.common.bind(py).clone(),
            script_name: self.script_name.clone(),
            local: None,
            peer: None,
            names: HashMap::new(),
        }
    }
}

/// Gives every key that each request sets its place in the template, and the copies room for a request's header fields:
/// replacing a value is cheaper than adding a key, and growing the dict while it is filled costs most.
fn make_room(py: Python<'_>, template: &Bound<'_, PyDict>, has_peer_address: bool) -> PyResult<()> {
    let mut keys =
        vec!["REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "RAW_URI", "SERVER_PROTOCOL"];
    if has_peer_address {
        keys.extend(["REMOTE_ADDR", "REMOTE_PORT"]);
    }
    for key in keys.into_iter().chain(["wsgi.input"]) {
        template.set_item(PyString::intern(py, key), py.None())?;
    }
    // A dict keeps the room that it once had, and so do its copies. Keys that are no str would make it slower for ever.
    let fillers: Vec<String> =
        (template.len()..=DICT_ENTRIES_BEFORE_GROWTH).map(|it| it.to_string()).collect();
    fillers.iter().try_for_each(|filler| template.set_item(filler, py.None()))?;
    fillers.iter().try_for_each(|filler| template.del_item(filler))
}

/// Builds environs for one thread.
pub(super) struct Environs<'py> {
    common: Bound<'py, PyDict>,
    /// The path below which the application is mounted, if no proxy names another.
    script_name: String,
    /// The template for connections to one address: with one listener, for all.
    local: Option<(Option<SocketAddr>, Bound<'py, PyDict>)>,
    /// The last client: behind a proxy, every client.
    peer: Option<(IpAddr, Bound<'py, PyString>)>,
    /// Field names as sent, and the keys they become; `None` for fields that are dropped.
    names: HashMap<Box<[u8]>, Option<Bound<'py, PyString>>>,
}

impl<'py> Environs<'py> {
    /// The environ of one request.
    pub(super) fn build(
        &mut self,
        py: Python<'py>,
        head: &RequestHead,
        body: Body,
        connection: &ConnectionFacts,
        forwarded: Option<&Forwarded>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.template_for(py, connection.local)?.copy()?;
        environ.set_item(intern!(py, "REQUEST_METHOD"), method(py, head.method())?)?;
        let target = latin_1(py, head.target())?;
        // The asterisk of `OPTIONS *` is no path.
        let path = if head.path() == b"*" { b"" } else { head.path() };
        let prefix = forwarded.and_then(|forwarded| forwarded.prefix.as_deref()).map(percent_decoded);
        if let Some(prefix) = &prefix {
            environ.set_item(intern!(py, "SCRIPT_NAME"), latin_1(py, prefix)?)?;
        }
        let prefix = prefix.as_deref().unwrap_or(self.script_name.as_bytes());
        match percent_decoded(path) {
            Cow::Borrowed(path) if path == head.target() && prefix.is_empty() => {
                environ.set_item(intern!(py, "PATH_INFO"), &target)?;
            }
            path => environ.set_item(intern!(py, "PATH_INFO"), latin_1(py, below(&path, prefix))?)?,
        }
        environ.set_item(intern!(py, "QUERY_STRING"), latin_1(py, head.query())?)?;
        environ.set_item(intern!(py, "REQUEST_URI"), &target)?;
        environ.set_item(intern!(py, "RAW_URI"), target)?;
        let protocol = match head.version() {
            Version::Http10 => intern!(py, "HTTP/1.0"),
            Version::Http11 => intern!(py, "HTTP/1.1"),
        };
        environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol)?;
        if let Some(peer) = connection.peer {
            environ.set_item(intern!(py, "REMOTE_ADDR"), self.peer_address(py, peer.ip()))?;
            environ.set_item(intern!(py, "REMOTE_PORT"), peer.port().to_string())?;
        }
        self.add_fields(py, &environ, head)?;
        if let (Some(host), false) = (head.host(), head.target().starts_with(b"/")) {
            // RFC 9112 section 3.2.2: the authority of an absolute target replaces whatever Host says.
            environ.set_item(intern!(py, "HTTP_HOST"), latin_1(py, host)?)?;
        }
        if connection.is_tls {
            environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
        }
        if let Some(forwarded) = forwarded {
            self.overrule(py, &environ, head, connection, forwarded)?;
        }
        if head.framing() == BodyFraming::Chunked && !matches!(body, Body::Stream(_)) {
            // The body is complete, so its length is known, and frameworks that read only CONTENT_LENGTH see it. Of one
            // on its way nothing may be said: it is not empty.
            environ.set_item(intern!(py, "CONTENT_LENGTH"), body.length_bytes().to_string())?;
        }
        environ.set_item(intern!(py, "wsgi.input"), Input::new(body))?;
        Ok(environ)
    }

    fn template_for(&mut self, py: Python<'py>, local: Option<SocketAddr>) -> PyResult<&Bound<'py, PyDict>> {
        if self.local.as_ref().is_none_or(|(known, _)| *known != local) {
            let template = self.common.copy()?;
            let (name, port) = match local {
                Some(address) => (address.ip().to_string(), address.port().to_string()),
                // A unix socket has neither, and PEP 3333 demands both.
                None => ("localhost".to_owned(), "80".to_owned()),
            };
            if local.is_none() {
                // Nor has its peer an address; applications that look it up do not expect it to be missing (RFC 3875
                // section 4.1.8).
                template.set_item(intern!(py, "REMOTE_ADDR"), intern!(py, ""))?;
            }
            template.set_item(intern!(py, "SERVER_NAME"), name)?;
            template.set_item(intern!(py, "SERVER_PORT"), port)?;
            make_room(py, &template, local.is_some())?;
            self.local = Some((local, template));
        }
        self.local
            .as_ref()
            .map(|(_, template)| template)
            .ok_or_else(|| PyRuntimeError::new_err("no template"))
    }

    fn peer_address(&mut self, py: Python<'py>, address: IpAddr) -> Bound<'py, PyString> {
        match &self.peer {
            Some((known, text)) if *known == address => text.clone(),
            _ => {
                let text = PyString::new(py, &address.to_string());
                self.peer = Some((address, text.clone()));
                text
            }
        }
    }

    /// Puts what trusted proxies say in the place of what the connection and the head say.
    fn overrule(
        &mut self,
        py: Python<'py>,
        environ: &Bound<'py, PyDict>,
        head: &RequestHead,
        connection: &ConnectionFacts,
        forwarded: &Forwarded,
    ) -> PyResult<()> {
        if let Some(client) = forwarded.client {
            environ.set_item(intern!(py, "REMOTE_ADDR"), self.peer_address(py, client.address))?;
            match client.port {
                Some(port) => environ.set_item(intern!(py, "REMOTE_PORT"), port.to_string())?,
                // The port of the connection is the proxy's.
                None => environ
                    .call_method1(intern!(py, "pop"), (intern!(py, "REMOTE_PORT"), py.None()))
                    .map(drop)?,
            }
        }
        if let Some(scheme) = forwarded.scheme {
            let scheme = match scheme {
                Scheme::Http => intern!(py, "http"),
                Scheme::Https => intern!(py, "https"),
            };
            environ.set_item(intern!(py, "wsgi.url_scheme"), scheme)?;
        }
        if let Some(host) = &forwarded.host {
            environ.set_item(intern!(py, "HTTP_HOST"), latin_1(py, host)?)?;
        }
        if let Some(name) = forwarded.server_name() {
            environ.set_item(intern!(py, "SERVER_NAME"), latin_1(py, name)?)?;
        }
        let scheme = if connection.is_tls { Scheme::Https } else { Scheme::Http };
        if let Some(port) = forwarded.server_port(head.host(), scheme) {
            environ.set_item(intern!(py, "SERVER_PORT"), port.to_string())?;
        }
        Ok(())
    }

    fn add_fields(
        &mut self,
        py: Python<'py>,
        environ: &Bound<'py, PyDict>,
        head: &RequestHead,
    ) -> PyResult<()> {
        for (name, value) in head.headers() {
            let Some(key) = self.key(py, name) else { continue };
            let value = latin_1(py, value)?;
            // By its length, not by the object: of "" and of texts of one character there is only one each.
            let keys = environ.len();
            // SAFETY: a dict, a str and a str, all alive; the result is borrowed from the dict, which keeps it.
            let first = unsafe { ffi::PyDict_SetDefault(environ.as_ptr(), key.as_ptr(), value.as_ptr()) };
            if first.is_null() {
                return Err(PyErr::fetch(py));
            }
            if environ.len() == keys {
                join(py, environ, &key, &value)?;
            }
        }
        Ok(())
    }

    fn key(&mut self, py: Python<'py>, name: &[u8]) -> Option<Bound<'py, PyString>> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let key = environ_key(name).map(|key| PyString::intern(py, &key));
        if self.names.len() < HEADER_NAMES_REMEMBERED_MAX {
            self.names.insert(name.into(), key.clone());
        }
        key
    }
}

/// A field that is repeated is one list (RFC 9110 section 5.3), for cookies with their own separator (RFC 6265
/// section 5.4).
fn join(
    py: Python<'_>,
    environ: &Bound<'_, PyDict>,
    key: &Bound<'_, PyString>,
    value: &Bound<'_, PyString>,
) -> PyResult<()> {
    let Some(held) = environ.get_item(key)? else { return Ok(()) };
    let separator = if key.is(intern!(py, "HTTP_COOKIE")) { intern!(py, "; ") } else { intern!(py, ", ") };
    environ.set_item(key, held.add(separator)?.add(value)?)
}

/// The key of a field, `None` for one that no application may see: names with an underscore could pass for others
/// (CVE-2015-0219), `Proxy` for an environment variable (CVE-2016-5385), and the framing is the server's business.
fn environ_key(name: &[u8]) -> Option<String> {
    if name.contains(&b'_') {
        return None;
    }
    let upper: String = name
        .iter()
        .map(|byte| if *byte == b'-' { '_' } else { char::from(byte.to_ascii_uppercase()) })
        .collect();
    match upper.as_str() {
        "CONTENT_TYPE" | "CONTENT_LENGTH" => Some(upper),
        "PROXY" | "TRANSFER_ENCODING" => None,
        _ => Some(format!("HTTP_{upper}")),
    }
}

fn method<'py>(py: Python<'py>, method: &[u8]) -> PyResult<Bound<'py, PyString>> {
    Ok(match method {
        b"GET" => intern!(py, "GET").clone(),
        b"POST" => intern!(py, "POST").clone(),
        b"HEAD" => intern!(py, "HEAD").clone(),
        b"PUT" => intern!(py, "PUT").clone(),
        other => latin_1(py, other)?,
    })
}

/// Bytes as PEP 3333 wants them in a `str`: one code point each.
fn latin_1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    let length = ffi::Py_ssize_t::try_from(bytes.len())?;
    // SAFETY: the pointer and the length are of one live slice; the result is a new reference to a str, or null.
    let text = unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), length, std::ptr::null());
        Bound::from_owned_ptr_or_err(py, text)?
    };
    // SAFETY: PyUnicode_DecodeLatin1 returns nothing but str.
    Ok(unsafe { text.cast_into_unchecked() })
}

/// What of a path lies below `prefix`; of one that lies elsewhere all of it, as a proxy may have taken the prefix off.
fn below<'a>(path: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    path.strip_prefix(prefix).filter(|rest| matches!(rest, [] | [b'/', ..])).unwrap_or(path)
}

/// `%2F` becomes `/`, as CGI demands (RFC 3875 section 4.1.5); a `%` without two digits stays.
fn percent_decoded(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'%', [high, low, ..]) => {
                hex_digit(*high).zip(hex_digit(*low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        decoded.push(byte.unwrap_or(first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    Cow::Owned(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
