//! Temporary files: where bytes go that are too many for memory.

use std::env;
use std::path::{self, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, Description, RawOptions, checks, ranges};
use crate::limits::{RESPONSE_SPILL_BYTES_MAX, SPILL_BYTES_MAX};

const FLAG: &str = "--spill-directory";
/// For large files that are needed briefly (file-hierarchy(7)); `/tmp` is often memory.
const DIRECTORY: &str = "/var/tmp";

/// Where temporary files are, and how large they may grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spill {
    /// The directory of the temporary files, which have no names.
    pub directory: PathBuf,
    /// Bytes of all temporary files of one process.
    pub bytes_max: u64,
    /// Bytes of the file of one response, for a slow client.
    pub response_bytes_max: u64,
}

impl Default for Spill {
    fn default() -> Self {
        let chosen = env::var_os("TMPDIR").filter(|directory| !directory.is_empty()).map(PathBuf::from);
        let usual = || PathBuf::from(DIRECTORY);
        let last = |directory: PathBuf| if directory.is_dir() { directory } else { env::temp_dir() };
        Self {
            directory: chosen.unwrap_or_else(|| last(usual())),
            bytes_max: SPILL_BYTES_MAX,
            response_bytes_max: RESPONSE_SPILL_BYTES_MAX,
        }
    }
}

/// Default and bounds of the option that is no number.
pub(super) fn describe(flag: &str) -> Option<Description> {
    (flag == FLAG).then(|| Description {
        default: format!("TMPDIR or {DIRECTORY}"),
        bounds: "a writable directory".to_owned(),
    })
}

/// Green threads cannot wait for a client within `read()`: they share one thread of the operating system.
pub(super) fn stream_uploads(raw: &RawOptions, threads: usize) -> Result<bool, ConfigError> {
    if raw.stream_uploads && threads == 0 {
        let fault = "not with green threads, --threads 0, at least 1";
        let hint = "leave --stream-uploads out: bodies are complete before green threads see them";
        return Err(ConfigError::new("--stream-uploads", fault, hint));
    }
    Ok(raw.stream_uploads)
}

pub(super) fn spill(raw: &RawOptions) -> Result<Spill, ConfigError> {
    let directory = match raw.spill_directory.as_deref() {
        Some(word) => directory(word).map_err(|fault| {
            ConfigError::new(
                FLAG,
                fault,
                "name a directory on a disk with room, that the server's user may write",
            )
        })?,
        // Not asked for, so not insisted on: small bodies need no file.
        None => Spill::default().directory,
    };
    Ok(Spill {
        directory,
        bytes_max: ranges::SPILL_BYTES_MAX.read(raw.spill_bytes_max.as_deref())?,
        response_bytes_max: ranges::RESPONSE_SPILL_BYTES_MAX.read(raw.response_spill_bytes_max.as_deref())?,
    })
}

/// The path is made absolute because an application may change its directory before the first file is made.
fn directory(word: &str) -> Result<PathBuf, String> {
    checks::writable_directory(Path::new(word))?;
    path::absolute(word).map_err(|cause| format!("{word:?} cannot be found: {cause}"))
}
