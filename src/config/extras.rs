//! Python libraries that some options need beside the server.

use super::{Config, ConfigError};

/// A library that an option needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extra {
    /// The name of its module.
    pub module: &'static str,
    flag: &'static str,
    /// What of this distribution brings it, as pip names it.
    name: &'static str,
}

impl Config {
    /// The libraries without which this configuration cannot be served.
    pub fn extras(&self) -> Vec<Extra> {
        let green = self.green.as_ref().map(|green| Extra {
            module: green.library.module(),
            flag: "--threads",
            name: "green",
        });
        let coverage =
            self.coverage.then_some(Extra { module: "coverage", flag: "--coverage", name: "coverage" });
        green.into_iter().chain(coverage).collect()
    }
}

impl Extra {
    /// The complaint that it is not installed.
    pub fn missing(&self) -> ConfigError {
        let Self { module, flag, name } = self;
        let fault = match *flag {
            "--threads" => {
                format!("0, green mode, needs the Python library {module}, which is not installed")
            }
            _ => format!("needs the Python library {module}, which is not installed"),
        };
        ConfigError::new(*flag, fault, format!("pip install Spawning[{name}]"))
    }
}
