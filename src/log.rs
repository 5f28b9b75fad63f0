//! What the server says on standard error, one event a line: `key=value` for people and `grep`, JSON for collectors.
//!
//! ```text
//! time=2026-11-21T05:04:00.123456Z level=WARN pid=4242 message="a worker died" slot=0 how="signal 9 (SIGKILL)"
//! ```

mod output;

use std::backtrace::Backtrace;
use std::fmt::{self, Debug};
use std::io;
use std::panic;
use std::sync::OnceLock;
use std::time::Instant;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use self::output::Output;
use crate::config::{LogFormat, LogLevel, Logging};
use crate::limits::{LOG_FINISH_TIMEOUT, LOG_RETRY_PAUSE};
use crate::sys::standard_streams::StandardStream;

/// The environment variable that chooses what is logged, for example `debug` or `spawning::supervisor=trace`.
pub const FILTER_VARIABLE: &str = "SPAWNING_LOG";

/// The field that people want to see line by line: as text it follows the event instead of standing in it.
const TRACEBACK: &str = "traceback";

/// What [`init`] was told.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();
/// Where all lines of this process go.
static OUTPUT: OnceLock<Output> = OnceLock::new();

fn output() -> &'static Output {
    OUTPUT.get_or_init(|| Output::new(lines_lost))
}

/// Sends the events of this process to standard error, those of its level and above unless
/// [`FILTER_VARIABLE`] says otherwise. The first call in a process decides; others do nothing.
pub fn init(logging: Logging) {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::from_level(level(logging.level)).into())
        .with_env_var(FILTER_VARIABLE)
        .from_env_lossy();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Emit)
        // It could not be read, and printing could panic.
        .log_internal_errors(false)
        .event_format(LogLine { format: logging.format })
        .finish();
    // An error means that somebody has decided already.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = FORMAT.set(logging.format);
        panic::set_hook(Box::new(report_panic));
    }
}

/// Belongs to this process from now on: to be called where a process with a single thread was forked.
pub fn adopt() {
    output().adopt();
}

/// Has a thread write what cannot be written at once, for a process that has more than one anyway.
pub fn start_writer() {
    if let Err(error) = output().start_thread() {
        tracing::warn!(%error, "cannot start the thread that writes the log; some lines may be late");
    }
}

/// When [`retry`] is due in a process without such a thread, because lines wait to be written.
pub fn retry_due(now: Instant) -> Option<Instant> {
    output().is_behind().then(|| now + LOG_RETRY_PAUSE)
}

/// Tries once more to write what could not be written at once. Never waits.
pub fn retry() {
    output().retry();
}

/// Gives the last lines of a process that ends a moment to be written.
pub fn finish() {
    output().finish(LOG_FINISH_TIMEOUT);
}

/// Hands each event over whole; never fails.
struct Emit;

impl io::Write for Emit {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        output().emit(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

/// Writes a line for the person who starts the server, whatever the level; as JSON where every line is, and like any
/// other event where standard error is a file: there nobody knows when it was written.
pub fn say(line: &str) {
    let level = if line.starts_with("spawn: ") { Level::ERROR } else { Level::INFO };
    let bytes = match FORMAT.get() {
        Some(LogFormat::Json) => event(level, &[("message", line.into())]),
        _ if StandardStream::Error.is_file() => {
            let (message, rest) = line.split_once('\n').unwrap_or((line, ""));
            event(level, &[("message", message.into()), (TRACEBACK, rest.into())])
        }
        _ => format!("{line}\n").into_bytes(),
    };
    output().emit(bytes);
}

/// Logs a panic like any other event, with its stack. It is a bug of the server, and ends the task or the request that
/// met it, no more.
///
/// By the shortest way: what panics while a panic is reported ends the process.
fn report_panic(panic: &panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let bug = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = format!("a task of the server panicked at {place}; please report this");
    let stack = Backtrace::force_capture().to_string();
    let values = [("message", message.into()), ("bug", bug.into()), (TRACEBACK, stack.into())];
    output().emit_last(event(Level::ERROR, &values));
}

/// The line that says that lines before it are missing.
fn lines_lost(lines: u64, reason: &str) -> Vec<u8> {
    event(
        Level::WARN,
        &[("message", "log lines were lost".into()), ("lines", lines.into()), ("reason", reason.into())],
    )
}

/// An event's line in the format of all, without the machinery of `tracing`.
fn event(level: Level, values: &[(&'static str, Value)]) -> Vec<u8> {
    let mut fields = Fields::begin(level);
    for (name, value) in values {
        fields.push(name, value.clone());
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = fields.write(FORMAT.get().copied().unwrap_or_default(), &mut text);
    text.into_bytes()
}

/// Writes an event as one line.
struct LogLine {
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::begin(*event.metadata().level());
        event.record(&mut fields);
        fields.write(self.format, &mut writer)
    }
}

/// The fields of an event, in the order in which they are written.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// What every event begins with.
    fn begin(level: Level) -> Self {
        let mut time = String::new();
        // Writing to a string cannot fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        Self(vec![
            ("time", time.into()),
            ("level", level.as_str().into()),
            ("pid", std::process::id().into()),
        ])
    }

    fn write(self, format: LogFormat, writer: &mut impl fmt::Write) -> fmt::Result {
        match format {
            LogFormat::Text => self.write_text(writer),
            LogFormat::Json => self.write_json(writer),
        }
    }

    fn push(&mut self, name: &'static str, value: Value) {
        self.0.push((name, value));
    }

    fn write_text(&self, writer: &mut impl fmt::Write) -> fmt::Result {
        let mut separator = "";
        for (name, value) in self.0.iter().filter(|(name, _)| *name != TRACEBACK) {
            write!(writer, "{separator}{name}={}", Plain(value))?;
            separator = " ";
        }
        writer.write_char('\n')?;
        let traceback =
            self.0.iter().find(|(name, _)| *name == TRACEBACK).and_then(|(_, value)| value.as_str());
        traceback.unwrap_or_default().lines().try_for_each(|line| writeln!(writer, "{line}"))
    }

    fn write_json(self, writer: &mut impl fmt::Write) -> fmt::Result {
        let object: Map<String, Value> =
            self.0.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        writeln!(writer, "{}", Value::Object(object))
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), value.into());
    }
}

/// A value without quotes wherever it can be told from the next pair without them.
struct Plain<'a>(&'a Value);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |text: &str| {
            !text.is_empty()
                && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/' | '+'))
        };
        match self.0 {
            Value::String(text) if is_plain(text) => formatter.write_str(text),
            value => write!(formatter, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let mut fields = Fields::default();
        fields.push("level", "WARN".into());
        fields.push("message", "a \"worker\"\ndied".into());
        fields.push("slot", 0.into());
        fields.push("traceback", "Traceback:\n  File \"a.py\"\n".into());
        fields
    }

    #[test]
    fn an_event_is_one_line_and_its_traceback_follows() {
        let mut text = String::new();
        fields().write_text(&mut text).unwrap();
        let expected = "level=WARN message=\"a \\\"worker\\\"\\ndied\" slot=0\nTraceback:\n  File \"a.py\"\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn in_json_everything_is_in_the_object() {
        let mut text = String::new();
        fields().write_json(&mut text).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["traceback"], "Traceback:\n  File \"a.py\"\n");
        assert_eq!(text.lines().count(), 1);
    }
}
