//! `wsgi.input`: the decoded body of a request as a file to read (PEP 3333).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice, PyTuple};

use super::interpreter;
use crate::gateway::{Body, Share, UploadReader};

/// Every byte is there already, unless uploads are streamed: reading never waits for the client. It ends at the end of
/// the body. To the standard library it is an `io.BufferedIOBase` that is read forwards only.
#[pyclass(module = "spawning._core", freelist = 64)]
pub(crate) struct Input {
    source: BodySource,
}

enum BodySource {
    Memory(Cursor<Vec<u8>>),
    File(BufReader<io::Take<StoredBody>>),
    Stream(UploadReader),
    Closed,
}

/// A temporary file, and the room it takes until it is closed.
struct StoredBody {
    file: File,
    _share: Share,
}

impl Read for StoredBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl BodySource {
    fn reader(&mut self) -> PyResult<&mut (dyn BufRead + Send)> {
        match self {
            Self::Memory(cursor) => Ok(cursor),
            Self::File(reader) => Ok(reader),
            Self::Stream(reader) => Ok(reader),
            Self::Closed => Err(PyValueError::new_err("I/O operation on closed file.")),
        }
    }

    /// Whether what goes wrong is the client's doing.
    fn is_from_client(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

/// The size argument of the methods: absent, `None` or negative is no bound.
fn bound(size: Option<isize>) -> Option<usize> {
    size.and_then(|size| usize::try_from(size).ok())
}

impl Input {
    pub(super) fn new(body: Body) -> Self {
        let source = match body {
            Body::Empty => BodySource::Memory(Cursor::default()),
            Body::Memory(bytes) => BodySource::Memory(Cursor::new(bytes)),
            Body::Stream(reader) => BodySource::Stream(reader),
            Body::File { file, length_bytes, share } => {
                BodySource::File(BufReader::new(StoredBody { file, _share: share }.take(length_bytes)))
            }
        };
        Self { source }
    }

    /// Makes it one of the standard library's files for `isinstance`.
    pub(super) fn register(py: Python<'_>) -> PyResult<()> {
        let base = py.import("io")?.getattr("BufferedIOBase")?;
        base.call_method1("register", (py.get_type::<Self>(),)).map(drop)
    }

    /// What `read` makes of the source, without the interpreter.
    fn with_reader<T: Send>(
        &mut self,
        py: Python<'_>,
        read: impl FnOnce(&mut (dyn BufRead + Send)) -> io::Result<T> + Send,
    ) -> PyResult<T> {
        let is_from_client = self.source.is_from_client();
        let reader = self.source.reader()?;
        interpreter::detach(py, || read(reader))
            .map_err(|error| if is_from_client { client_error(py, &error) } else { error.into() })
    }

    /// Bytes of the next line, its line feed included, at most `size`.
    fn next_line(&mut self, py: Python<'_>, size: Option<usize>) -> PyResult<Vec<u8>> {
        self.with_reader(py, |reader| {
            let mut line = Vec::new();
            match size {
                None => reader.read_until(b'\n', &mut line)?,
                Some(size) => reader.take(size as u64).read_until(b'\n', &mut line)?,
            };
            Ok(line)
        })
    }

    /// At most `size` bytes, of those that one look at the source finds.
    fn next_bytes(&mut self, py: Python<'_>, size: Option<usize>) -> PyResult<Vec<u8>> {
        self.with_reader(py, |reader| {
            let found = reader.fill_buf()?;
            let count = size.unwrap_or(usize::MAX).min(found.len());
            let bytes = found.get(..count).unwrap_or_default().to_vec();
            reader.consume(count);
            Ok(bytes)
        })
    }
}

/// Puts `bytes` at the beginning of a writable buffer.
fn copy_into(view: &Bound<'_, PyAny>, bytes: &Bound<'_, PyBytes>) -> PyResult<usize> {
    let length = bytes.as_bytes().len();
    view.set_item(PySlice::new(view.py(), 0, isize::try_from(length)?, 1), bytes)?;
    Ok(length)
}

/// A writable buffer as a view of single bytes, and how many these are.
fn writable<'py>(buffer: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, usize)> {
    let view = PyMemoryView::from(buffer)?.call_method1(intern!(buffer.py(), "cast"), ("B",))?;
    let length = view.len()?;
    Ok((view, length))
}

/// What reading raises when the client has broken off, or sent what is no body.
fn client_error(py: Python<'_>, error: &io::Error) -> PyErr {
    let name = match error.kind() {
        io::ErrorKind::ConnectionAborted => "ClientDisconnected",
        io::ErrorKind::TimedOut => "ClientTimeout",
        _ => "ClientError",
    };
    let raised =
        py.import("spawning.errors").and_then(|errors| errors.getattr(name)?.call1((error.to_string(),)));
    raised.map_or_else(|error| error, PyErr::from_value)
}

/// What a file says that cannot do what is asked.
fn unsupported(py: Python<'_>, what: &str) -> PyErr {
    let raised = py.import("io").and_then(|io| io.getattr("UnsupportedOperation")?.call1((what,)));
    raised.map_or_else(|error| error, PyErr::from_value)
}

#[pymethods]
impl Input {
    /// At most `size` bytes, or all that is left; `b""` at the end.
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        if let BodySource::Memory(cursor) = &mut self.source {
            let rest = cursor.fill_buf()?;
            let count = bound(size).unwrap_or(usize::MAX).min(rest.len());
            let bytes = PyBytes::new(py, rest.get(..count).unwrap_or_default());
            cursor.consume(count);
            return Ok(bytes);
        }
        let bytes = self.with_reader(py, |reader| {
            let mut bytes = Vec::new();
            let limit = bound(size).map_or(u64::MAX, |size| size as u64);
            reader.take(limit).read_to_end(&mut bytes).map(|_| bytes)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// At most `size` bytes of those that are there, without waiting for more than one; `b""` at the end.
    #[pyo3(signature = (size = None, /))]
    fn read1<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.next_bytes(py, bound(size))?))
    }

    /// Fills a writable buffer as far as the body goes; returns how many bytes that were.
    fn readinto(&mut self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (view, length) = writable(buffer)?;
        let bytes = self.read(py, Some(isize::try_from(length)?))?;
        copy_into(&view, &bytes)
    }

    /// The same with what `read1()` gives.
    fn readinto1(&mut self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (view, length) = writable(buffer)?;
        let bytes = self.read1(py, Some(isize::try_from(length)?))?;
        copy_into(&view, &bytes)
    }

    /// The next line with its line feed, at most `size` bytes of it; `b""` at the end.
    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.next_line(py, bound(size))?))
    }

    /// The lines that are left; with a `hint`, no more once that many bytes are read.
    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&mut self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let lines = PyList::empty(py);
        let hint = bound(hint).filter(|hint| *hint > 0).unwrap_or(usize::MAX);
        let mut total = 0;
        while total < hint {
            let line = self.next_line(py, None)?;
            if line.is_empty() {
                break;
            }
            total += line.len();
            lines.append(PyBytes::new(py, &line))?;
        }
        Ok(lines)
    }

    fn __iter__(mut slf: PyRefMut<'_, Self>) -> PyResult<PyRefMut<'_, Self>> {
        slf.source.reader()?;
        Ok(slf)
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let line = self.readline(py, None)?;
        if line.as_bytes().is_empty() { Err(PyStopIteration::new_err(())) } else { Ok(line) }
    }

    fn __enter__(mut slf: PyRefMut<'_, Self>) -> PyResult<PyRefMut<'_, Self>> {
        slf.source.reader()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&mut self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }

    /// Lets go of what is left of the body. The connection does not depend on it.
    fn close(&mut self) {
        self.source = BodySource::Closed;
    }

    #[getter]
    fn closed(&self) -> bool {
        matches!(self.source, BodySource::Closed)
    }

    fn readable(&mut self) -> PyResult<bool> {
        self.source.reader().map(|_| true)
    }

    fn writable(&mut self) -> PyResult<bool> {
        self.source.reader().map(|_| false)
    }

    /// False: a body is read once, from its start to its end.
    fn seekable(&mut self) -> PyResult<bool> {
        self.source.reader().map(|_| false)
    }

    fn isatty(&mut self) -> PyResult<bool> {
        self.source.reader().map(|_| false)
    }

    /// Does nothing: there is nothing to write.
    fn flush(&mut self) -> PyResult<()> {
        self.source.reader().map(drop)
    }

    #[staticmethod]
    #[pyo3(signature = (*_arguments))]
    fn seek(py: Python<'_>, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported(py, "seek"))
    }

    #[staticmethod]
    fn tell(py: Python<'_>) -> PyResult<()> {
        Err(unsupported(py, "tell"))
    }

    #[staticmethod]
    #[pyo3(signature = (*_arguments))]
    fn truncate(py: Python<'_>, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(unsupported(py, "truncate"))
    }

    #[staticmethod]
    fn fileno(py: Python<'_>) -> PyResult<()> {
        Err(unsupported(py, "fileno"))
    }

    #[staticmethod]
    fn detach(py: Python<'_>) -> PyResult<()> {
        Err(unsupported(py, "detach"))
    }

    #[staticmethod]
    fn write(py: Python<'_>, _data: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(unsupported(py, "write"))
    }

    #[staticmethod]
    fn writelines(py: Python<'_>, _lines: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(unsupported(py, "write"))
    }
}
