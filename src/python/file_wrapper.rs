//! `wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling").

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Bytes read at once when an application names no size.
const BLOCK_BYTES: usize = 64 * 1024;

/// An iterable over the blocks of a file. Returned from the application as it is, a real file is sent by the kernel.
#[pyclass(module = "spawning._core", freelist = 16)]
pub(crate) struct FileWrapper {
    filelike: Py<PyAny>,
    block_bytes: usize,
}

/// A part of a real file that the kernel can send.
pub(super) struct Sendable {
    pub(super) file: File,
    pub(super) offset: i64,
    pub(super) length_bytes: u64,
}

impl FileWrapper {
    /// From the file's position to its end, if it is a regular file.
    pub(super) fn sendable(&self, py: Python<'_>) -> Option<Sendable> {
        let filelike = self.filelike.bind(py);
        let number: i32 = filelike.call_method0(intern!(py, "fileno")).ok()?.extract().ok()?;
        let offset: i64 = filelike.call_method0(intern!(py, "tell")).ok()?.extract().ok()?;
        if number < 0 {
            return None;
        }
        // SAFETY: the file-like object holds the descriptor open while we duplicate it.
        let file = File::from(unsafe { BorrowedFd::borrow_raw(number) }.as_fd().try_clone_to_owned().ok()?);
        let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let length_bytes = metadata.len().checked_sub(u64::try_from(offset).ok()?)?;
        Some(Sendable { file, offset, length_bytes })
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

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let block = self.filelike.bind(py).call_method1(intern!(py, "read"), (self.block_bytes,))?;
        let at_end = block.cast::<PyBytes>().is_ok_and(|block| block.as_bytes().is_empty());
        if at_end { Err(PyStopIteration::new_err(())) } else { Ok(block) }
    }

    /// Closes the file, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        }
    }
}
