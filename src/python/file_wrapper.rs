//! `wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling").

use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::plain_file::PlainFile;

/// Bytes read at once when an application names no size.
const BLOCK_BYTES: usize = 64 * 1024;

/// An iterable over the blocks of a file. Returned from the application as it is, a plain file is sent by the kernel.
#[pyclass(module = "spawning._core", freelist = 16)]
pub(crate) struct FileWrapper {
    filelike: Py<PyAny>,
    block_bytes: usize,
}

impl FileWrapper {
    /// What is left of the file, if the kernel can send that.
    pub(super) fn plain_file(&self, py: Python<'_>) -> Option<PlainFile> {
        PlainFile::of(self.filelike.bind(py))
    }
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, block_size = BLOCK_BYTES, /))]
    fn new(filelike: Py<PyAny>, block_size: usize) -> Self {
        Self { filelike, block_bytes: block_size.max(1) }
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// The next block as `read()` gives it; the end is whatever is empty, of bytes or of text.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let block = self.filelike.bind(py).call_method1(intern!(py, "read"), (self.block_bytes,))?;
        // None is no end: a file that would block has nothing to give now.
        let at_end = !block.is_none() && !block.is_truthy()?;
        if at_end { Err(PyStopIteration::new_err(())) } else { Ok(block) }
    }

    /// Whether the file has positions, so that a range need not be read from its start.
    fn seekable(&self, py: Python<'_>) -> PyResult<bool> {
        let filelike = self.filelike.bind(py);
        match filelike.getattr_opt(intern!(py, "seekable"))? {
            Some(seekable) => seekable.call0()?.is_truthy(),
            None => filelike.hasattr(intern!(py, "seek")),
        }
    }

    /// The file's own `seek()`.
    #[pyo3(signature = (*arguments))]
    fn seek<'py>(&self, py: Python<'py>, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.filelike.bind(py).getattr(intern!(py, "seek"))?.call1(arguments)
    }

    /// The file's own `tell()`.
    fn tell<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.filelike.bind(py).call_method0(intern!(py, "tell"))
    }

    /// Closes the file, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        }
    }
}
