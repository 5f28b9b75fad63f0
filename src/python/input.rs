//! `wsgi.input`: the decoded body of a request as a file to read (PEP 3333).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::gateway::{Body, Share, UploadReader};

/// Every byte is there already, unless uploads are streamed: reading never waits for the client. It ends at the end of
/// the body.
#[pyclass(module = "spawning._core", freelist = 64)]
pub(crate) struct Input {
    source: Source,
}

enum Source {
    Memory(Cursor<Vec<u8>>),
    File(BufReader<io::Take<Stored>>),
    Stream(UploadReader),
}

/// A temporary file, and the room it takes until it is closed.
struct Stored {
    file: File,
    _share: Share,
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Source {
    fn reader(&mut self) -> &mut (dyn BufRead + Send) {
        match self {
            Self::Memory(cursor) => cursor,
            Self::File(reader) => reader,
            Self::Stream(reader) => reader,
        }
    }
}

/// The size argument of the methods: absent, `None` or negative is no bound.
fn bound(size: Option<isize>) -> Option<usize> {
    size.and_then(|size| usize::try_from(size).ok())
}

impl Input {
    pub(super) fn new(body: Body) -> Self {
        let source = match body {
            Body::Empty => Source::Memory(Cursor::default()),
            Body::Memory(bytes) => Source::Memory(Cursor::new(bytes)),
            Body::Stream(reader) => Source::Stream(reader),
            Body::File { file, length_bytes, share } => {
                Source::File(BufReader::new(Stored { file, _share: share }.take(length_bytes)))
            }
        };
        Self { source }
    }

    /// Bytes of the next line, its line feed included, at most `size`.
    fn next_line(&mut self, py: Python<'_>, size: Option<usize>) -> io::Result<Vec<u8>> {
        let reader = self.source.reader();
        py.detach(|| {
            let mut line = Vec::new();
            match size {
                None => reader.read_until(b'\n', &mut line)?,
                Some(size) => reader.take(size as u64).read_until(b'\n', &mut line)?,
            };
            Ok(line)
        })
    }
}

#[pymethods]
impl Input {
    /// At most `size` bytes, or all that is left; `b""` at the end.
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        if let Source::Memory(cursor) = &mut self.source {
            let rest = cursor.fill_buf()?;
            let count = bound(size).unwrap_or(usize::MAX).min(rest.len());
            let bytes = PyBytes::new(py, rest.get(..count).unwrap_or_default());
            cursor.consume(count);
            return Ok(bytes);
        }
        let reader = self.source.reader();
        let bytes = py.detach(|| {
            let mut bytes = Vec::new();
            let limit = bound(size).map_or(u64::MAX, |size| size as u64);
            reader.take(limit).read_to_end(&mut bytes).map(|_| bytes)
        })?;
        Ok(PyBytes::new(py, &bytes))
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

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let line = self.readline(py, None)?;
        if line.as_bytes().is_empty() { Err(PyStopIteration::new_err(())) } else { Ok(line) }
    }
}
