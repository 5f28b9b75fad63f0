//! The files that a worker writes to, which are reopened when they have been renamed.

use std::io;
use std::sync::Arc;

use super::access_log::{Log, Writer};
use crate::config::Config;
use crate::sys::{file, standard_streams};

/// The access log's writing thread and the standard streams of a worker.
#[derive(Debug)]
pub(super) struct Logs {
    config: Arc<Config>,
    access_log: Option<Writer>,
}

impl Logs {
    /// Opens the access log; the standard streams are inherited.
    pub(super) fn open(config: &Arc<Config>) -> io::Result<Self> {
        Ok(Self {
            config: Arc::clone(config),
            access_log: Writer::start(&config.access_log, &config.access_log_format)?,
        })
    }

    /// An access log for one executor; `None` with the log off.
    pub(super) fn access_log(&self) -> Option<Log> {
        self.access_log.as_ref().map(Writer::log)
    }

    /// Reopens all files by name. Nothing is lost: what cannot be opened is written to as before.
    pub(super) fn reopen(&self) {
        let service = &self.config.service;
        if let Err(error) = standard_streams::reopen(service.stdout.as_deref(), service.stderr.as_deref()) {
            tracing::error!(
                %error,
                hint = file::REOPEN_HINT,
                "cannot reopen --stdout and --stderr; still writing to the old files"
            );
        }
        if let Some(writer) = &self.access_log {
            writer.reopen();
        }
    }

    /// Writes what is left. Call it once every executor's log is gone.
    pub(super) fn finish(self) {
        if let Some(writer) = self.access_log {
            writer.finish();
        }
    }
}
