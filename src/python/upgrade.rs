//! The connection of a request that asks for another protocol, in its environ.

use std::os::fd::IntoRawFd;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::gateway;

/// What `spawning.upgrade` takes the connection over by. The application is done with it when this is collected.
#[pyclass(module = "spawning._core")]
pub(super) struct UpgradeHandle {
    upgrade: gateway::Upgrade,
    early: Vec<u8>,
}

impl UpgradeHandle {
    /// Offers the connection, and the bytes that came `early`, to the application: as `spawning.socket`, and as
    /// `werkzeug.socket`, where simple-websocket and what is built on it look for it.
    pub(super) fn offer(
        environ: Bound<'_, PyDict>,
        upgrade: gateway::Upgrade,
        early: Vec<u8>,
    ) -> PyResult<Bound<'_, PyDict>> {
        let py = environ.py();
        let class = py.import("spawning.upgrade")?.getattr(intern!(py, "UpgradeSocket"))?;
        let socket = class.call1((Self { upgrade, early },))?;
        environ.set_item(intern!(py, "spawning.socket"), &socket)?;
        environ.set_item(intern!(py, "werkzeug.socket"), socket)?;
        Ok(environ)
    }
}

#[pymethods]
impl UpgradeHandle {
    /// The descriptor and the bytes that came early.
    fn take<'py>(&mut self, py: Python<'py>) -> PyResult<(i32, Bound<'py, PyBytes>)> {
        let descriptor = self.upgrade.take()?;
        Ok((descriptor.into_raw_fd(), PyBytes::new(py, &std::mem::take(&mut self.early))))
    }
}
