//! Which file-like objects the kernel may send in place of `read()`: those of which it is certain that both give the
//! same bytes.
//!
//! Certain is only what the standard library alone decides: exact types of `io` and `tempfile`, with no method
//! replaced, directly on a descriptor. A subclass may decompress or show a part, and `/proc` and `/sys` lie about
//! sizes.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

use crate::sys::open_files;

/// Methods by which a file is read. One that is replaced on an instance may give other bytes than the descriptor.
const READING_METHODS: [&str; 7] = ["read", "readinto", "readall", "seek", "tell", "fileno", "readable"];

/// The rest of a file, from a position to its end.
pub(super) struct PlainFile {
    pub(super) file: File,
    pub(super) offset: i64,
    pub(super) length_bytes: u64,
}

impl PlainFile {
    /// What `filelike.read()` would give, if that is surely the rest of a regular file; `None` if it may be anything
    /// else.
    pub(super) fn of(filelike: &Bound<'_, PyAny>) -> Option<Self> {
        let py = filelike.py();
        // Whatever fails here fails in `read()` as well, where it is reported.
        let opened = Opened::of(&unwrapped(filelike).ok()??).ok()??;
        py.detach(|| opened.rest())
    }
}

/// The file that a wrapper of `tempfile` reads from; anything else as it is. `None` if the wrapper was tampered with.
fn unwrapped<'py>(filelike: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = filelike.py();
    let Some(attribute) = wrapped_in(filelike)? else { return Ok(Some(filelike.clone())) };
    // Such a wrapper keeps methods that were used once among its attributes: only `read` matters, which is its own.
    if has_own(filelike, &["read"])? {
        return Ok(None);
    }
    filelike.getattr(intern!(py, "__dict__"))?.cast_into::<PyDict>()?.get_item(attribute)
}

/// The attribute in which a wrapper of `tempfile` has its file.
fn wrapped_in(filelike: &Bound<'_, PyAny>) -> PyResult<Option<&'static str>> {
    static TEMPORARY: PyOnceLock<[Py<PyType>; 2]> = PyOnceLock::new();
    let py = filelike.py();
    let kind = filelike.get_type();
    // Its class names the module: without it there is no reason to import that.
    if kind.module()? != "tempfile" {
        return Ok(None);
    }
    let [named, spooled] = TEMPORARY
        .get_or_try_init(py, || types(py, "tempfile", ["_TemporaryFileWrapper", "SpooledTemporaryFile"]))?;
    Ok(if kind.is(named) {
        Some("file")
    } else if kind.is(spooled) {
        Some("_file")
    } else {
        None
    })
}

fn types<const COUNT: usize>(
    py: Python<'_>,
    module: &str,
    names: [&str; COUNT],
) -> PyResult<[Py<PyType>; COUNT]> {
    let module = py.import(module)?;
    let found: PyResult<Vec<Py<PyType>>> =
        names.iter().map(|name| Ok(module.getattr(*name)?.cast_into::<PyType>()?.unbind())).collect();
    found?.try_into().map_err(|_| pyo3::exceptions::PyTypeError::new_err("types are missing"))
}

/// Whether any of `names` was set on this very object.
fn has_own(object: &Bound<'_, PyAny>, names: &[&str]) -> PyResult<bool> {
    let own = object.getattr(intern!(object.py(), "__dict__"))?.cast_into::<PyDict>()?;
    if own.is_empty() {
        return Ok(false);
    }
    for name in names {
        if own.contains(PyString::intern(object.py(), name))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A descriptor of our own, and where its reader stands.
struct Opened {
    file: File,
    offset: u64,
}

impl Opened {
    /// `None` unless `filelike` is exactly a file of `io` that may be read.
    fn of(filelike: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        static FILES: PyOnceLock<[Py<PyType>; 3]> = PyOnceLock::new();
        let py = filelike.py();
        let [raw_file, reader, random] =
            FILES.get_or_try_init(py, || types(py, "io", ["FileIO", "BufferedReader", "BufferedRandom"]))?;
        let kind = filelike.get_type();
        let is_random = kind.is(random);
        let raw = if kind.is(raw_file) {
            filelike.clone()
        } else if is_random || kind.is(reader) {
            filelike.getattr(intern!(py, "raw"))?
        } else {
            return Ok(None);
        };
        let is_plain = raw.get_type().is(raw_file)
            && !has_own(&raw, &READING_METHODS)?
            && !has_own(filelike, &READING_METHODS)?
            && raw.call_method0(intern!(py, "readable"))?.is_truthy()?;
        if !is_plain {
            return Ok(None);
        }
        if is_random {
            // Reading would write first what is buffered.
            filelike.call_method0(intern!(py, "flush"))?;
        }
        let offset = filelike.call_method0(intern!(py, "tell"))?.extract()?;
        let number: i32 = raw.call_method0(intern!(py, "fileno"))?.extract()?;
        if number < 0 {
            return Ok(None);
        }
        // SAFETY: the file-like object holds the descriptor open while we duplicate it.
        let file = File::from(open_files::duplicate(unsafe { BorrowedFd::borrow_raw(number) })?);
        Ok(Some(Self { file, offset }))
    }

    /// What is left of a regular file whose size is the truth.
    fn rest(self) -> Option<PlainFile> {
        let metadata = self.file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let size = metadata.len();
        let length_bytes = size.checked_sub(self.offset).filter(|length| *length > 0)?;
        self.ends_at(size).then_some(())?;
        Some(PlainFile { file: self.file, offset: i64::try_from(self.offset).ok()?, length_bytes })
    }

    /// Whether there is a byte before `end`, and none from there: a file of /sys has 4,096 bytes, it says, and of /proc
    /// none.
    fn ends_at(&self, end: u64) -> bool {
        let mut byte = [0];
        let mut read = |at: u64| self.file.read_at(&mut byte, at).ok();
        end.checked_sub(1).and_then(&mut read) == Some(1) && read(end) == Some(0)
    }
}
