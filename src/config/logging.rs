//! What is logged, and how: the words of `--log-level`, `--log-format` and `--access-log-format`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Description, RawOptions};
use crate::limits::ACCESS_LOG_FORMAT_BYTES_MAX;

const LEVEL: &str = "--log-level";
const FORMAT: &str = "--log-format";
const ACCESS: &str = "--access-log-format";

const COMMON: &str = r#"%h %l %u %t "%r" %s %b"#;
const COMBINED: &str = r#"%h %l %u %t "%r" %s %b "%{Referer}i" "%{User-Agent}i""#;
const DEFAULT: &str = r#"%h %l %u %t "%r" %s %b "%{Referer}i" "%{User-Agent}i" %D%{cut}x"#;
const ATOMS: &str =
    "%h %l %u %t %r %m %U %q %H %s %b %B %f %a %T %D %L %M %p %X %% %{cut}x %{Name}i %{Name}o %{NAME}e";

/// What the server says of itself, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// What is not worth a line.
    pub level: LogLevel,
    /// How a line is written.
    pub format: LogFormat,
}

/// The least important events that are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What somebody must mend.
    Error,
    /// What somebody should look at.
    Warn,
    /// What has changed.
    #[default]
    Info,
    /// What may explain something.
    Debug,
    /// Everything.
    Trace,
}

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `key=value`, for people and grep.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What a line of the access log tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLogFormat {
    /// These parts, one after the other.
    Text(Vec<LogPart>),
    /// An object with what is usually asked for.
    Json,
}

/// A part of a line. What is not known is a dash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogPart {
    /// These characters.
    Literal(String),
    /// The client's address.
    Client,
    /// Nothing: a dash, where others had the name that identd told.
    Nothing,
    /// The user of Basic authentication (RFC 7617), as the client says.
    User,
    /// When the request ended, in brackets.
    Time,
    /// The request line.
    RequestLine,
    /// The method.
    Method,
    /// The path as sent, without its query.
    Path,
    /// The query, without its question mark.
    Query,
    /// The protocol, `HTTP/1.1`.
    Protocol,
    /// The target as sent, path and query.
    Target,
    /// The status code.
    Status,
    /// Bytes of the response's body.
    Bytes,
    /// The same, but a dash for none.
    BytesOrDash,
    /// How long it took, in whole seconds.
    TakenS,
    /// In seconds, with six decimals.
    TakenDecimalS,
    /// In milliseconds.
    TakenMs,
    /// In microseconds.
    TakenUs,
    /// ` cut` behind a response that ended before its end, and nothing behind any other.
    Cut,
    /// The same as Apache's letter: `X` for one that was cut, `+` where the connection lives on, `-` where not.
    Connection,
    /// The worker's process id.
    Pid,
    /// A field of the request, by its name.
    RequestField(String),
    /// A field of the response, by its name.
    ResponseField(String),
}

impl AccessLogFormat {
    /// Whether a line tells of the response's fields.
    pub fn wants_response_fields(&self) -> bool {
        let Self::Text(parts) = self else { return false };
        parts.iter().any(|part| matches!(part, LogPart::ResponseField(_)))
    }
}

impl Default for AccessLogFormat {
    fn default() -> Self {
        Self::Text(parts(DEFAULT).unwrap_or_default())
    }
}

/// Default and bounds of the options read here.
pub(super) fn describe(flag: &str) -> Option<Description> {
    let (default, bounds) = match flag {
        LEVEL => ("info", "error, warn, info, debug or trace"),
        FORMAT => ("text", "text or json"),
        ACCESS => (DEFAULT, "common, combined, json, or text with atoms"),
        _ => return None,
    };
    Some(Description { default: default.to_owned(), bounds: bounds.to_owned() })
}

pub(super) fn read(raw: &RawOptions) -> Result<Logging, ConfigError> {
    Ok(Logging { level: level(raw.log_level.as_deref())?, format: format(raw.log_format.as_deref())? })
}

fn level(word: Option<&str>) -> Result<LogLevel, ConfigError> {
    match word {
        Some("error" | "critical") => Ok(LogLevel::Error),
        Some("warn" | "warning") => Ok(LogLevel::Warn),
        None | Some("info") => Ok(LogLevel::Info),
        Some("debug") => Ok(LogLevel::Debug),
        Some("trace") => Ok(LogLevel::Trace),
        Some(word) => Err(ConfigError::new(
            LEVEL,
            format!("{word:?} is not a log level"),
            format!("choose error, warn, info, debug or trace, for example {LEVEL} debug"),
        )),
    }
}

fn format(word: Option<&str>) -> Result<LogFormat, ConfigError> {
    match word {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(word) => Err(ConfigError::new(
            FORMAT,
            format!("{word:?} is not a log format"),
            format!("choose text or json, for example {FORMAT} json"),
        )),
    }
}

/// The format of access log lines; that of all other lines decides when there is no word for it.
pub(super) fn access(word: Option<&str>, logging: Logging) -> Result<AccessLogFormat, ConfigError> {
    let text = match (word, logging.format) {
        (Some("json"), _) | (None, LogFormat::Json) => return Ok(AccessLogFormat::Json),
        (None, LogFormat::Text) => DEFAULT,
        (Some("common"), _) => COMMON,
        (Some("combined"), _) => COMBINED,
        (Some(word), _) => word,
    };
    parts(text).map(AccessLogFormat::Text).map_err(|fault| {
        ConfigError::new(ACCESS, fault, format!("choose common, combined, json, or of {ATOMS}"))
    })
}

/// Takes a format apart. Apache's `%h`, `%>s` and `%{Name}i` are understood, and gunicorn's `%(h)s` and `%({name}i)s`.
fn parts(format: &str) -> Result<Vec<LogPart>, String> {
    if format.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if format.len() > ACCESS_LOG_FORMAT_BYTES_MAX {
        return Err(format!("too long with {} bytes, at most {ACCESS_LOG_FORMAT_BYTES_MAX}", format.len()));
    }
    if format.chars().any(char::is_control) {
        return Err(format!("{format:?} holds a control character"));
    }
    let (mut parts, mut rest) = (Vec::new(), format);
    let mut literal = String::new();
    while let Some((before, behind)) = rest.split_once('%') {
        literal.push_str(before);
        let (atom, after) = atom(behind)?;
        match atom {
            Atom::Percent => literal.push('%'),
            Atom::Part(part) => {
                if !literal.is_empty() {
                    parts.push(LogPart::Literal(std::mem::take(&mut literal)));
                }
                parts.push(part);
            }
        }
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(LogPart::Literal(literal));
    }
    Ok(parts)
}

enum Atom {
    Percent,
    Part(LogPart),
}

/// The atom that begins behind a percent sign, and what follows it.
fn atom(text: &str) -> Result<(Atom, &str), String> {
    if let Some(inner) = text.strip_prefix('(') {
        let (inner, after) = inner.split_once(")s").ok_or_else(|| unknown(text))?;
        let (atom, nothing) = bare_atom(inner)?;
        return if nothing.is_empty() { Ok((atom, after)) } else { Err(unknown(text)) };
    }
    // Which of several requests is meant makes no difference where there are no internal redirects.
    bare_atom(text.strip_prefix(['<', '>']).unwrap_or(text))
}

fn bare_atom(text: &str) -> Result<(Atom, &str), String> {
    if let Some(inner) = text.strip_prefix('{') {
        let (name, after) = inner.split_once('}').ok_or_else(|| unknown(text))?;
        let mut letters = after.chars();
        let part = match letters.next() {
            Some('i') if !name.is_empty() => LogPart::RequestField(name.to_owned()),
            Some('o') if !name.is_empty() => LogPart::ResponseField(name.to_owned()),
            Some('e') => environ(name)?,
            Some('x') if name == "cut" => LogPart::Cut,
            _ => return Err(unknown(text)),
        };
        return Ok((Atom::Part(part), letters.as_str()));
    }
    let mut letters = text.chars();
    let part = match letters.next() {
        Some('%') => return Ok((Atom::Percent, letters.as_str())),
        Some('h') => LogPart::Client,
        Some('l') => LogPart::Nothing,
        Some('u') => LogPart::User,
        Some('t') => LogPart::Time,
        Some('r') => LogPart::RequestLine,
        Some('m') => LogPart::Method,
        Some('U') => LogPart::Path,
        Some('q') => LogPart::Query,
        Some('H') => LogPart::Protocol,
        Some('X') => LogPart::Connection,
        Some('s') => LogPart::Status,
        Some('b') => LogPart::BytesOrDash,
        Some('B') => LogPart::Bytes,
        Some('f') => LogPart::RequestField("referer".to_owned()),
        Some('a') => LogPart::RequestField("user-agent".to_owned()),
        Some('T') => LogPart::TakenS,
        Some('D') => LogPart::TakenUs,
        Some('L') => LogPart::TakenDecimalS,
        Some('M') => LogPart::TakenMs,
        Some('p') => LogPart::Pid,
        _ => return Err(unknown(text)),
    };
    Ok((Atom::Part(part), letters.as_str()))
}

/// What `environ` holds under a name when the application is called. What it adds itself is not seen here.
fn environ(name: &str) -> Result<LogPart, String> {
    let field = |name: &str| LogPart::RequestField(name.to_ascii_lowercase().replace('_', "-"));
    Ok(match name {
        "REMOTE_ADDR" => LogPart::Client,
        "REQUEST_METHOD" => LogPart::Method,
        "PATH_INFO" => LogPart::Path,
        "QUERY_STRING" => LogPart::Query,
        "REQUEST_URI" | "RAW_URI" => LogPart::Target,
        "SERVER_PROTOCOL" => LogPart::Protocol,
        "CONTENT_TYPE" | "CONTENT_LENGTH" => field(name),
        _ => match name.strip_prefix("HTTP_").filter(|rest| !rest.is_empty()) {
            Some(rest) => field(rest),
            None => {
                return Err(format!(
                    "%{{{name}}}e: of environ there are HTTP_*, CONTENT_LENGTH, CONTENT_TYPE, PATH_INFO, QUERY_STRING, \
                     REMOTE_ADDR, REQUEST_METHOD, REQUEST_URI and SERVER_PROTOCOL"
                ));
            }
        },
    })
}

fn unknown(text: &str) -> String {
    let shown: String = text.chars().take(20).collect();
    format!("\"%{}\" begins with no atom", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> LogPart {
        LogPart::Literal(text.to_owned())
    }

    #[test]
    fn both_spellings_mean_the_same() {
        let apache = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" %T/%D%% %{X-A}o %{HTTP_X_ID}e"#;
        let gunicorn = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%({Referer}i)s" %(T)s/%(D)s%% %({X-A}o)s %({HTTP_X_ID}e)s"#;
        assert_eq!(parts(apache), parts(gunicorn));
        assert_eq!(
            parts("[%h]%%%m"),
            Ok(vec![literal("["), LogPart::Client, literal("]%"), LogPart::Method])
        );
        assert_eq!(parts("%{HTTP_X_ID}e"), Ok(vec![LogPart::RequestField("x-id".to_owned())]));
        assert_eq!(parts("no atoms"), Ok(vec![literal("no atoms")]));
    }

    #[test]
    fn every_atom_of_the_list_is_one() {
        for atom in ATOMS.replace("%%", "").replace("NAME", "HTTP_NAME").split_whitespace() {
            assert!(
                matches!(parts(atom).as_deref(), Ok([part]) if !matches!(part, LogPart::Literal(_))),
                "{atom}"
            );
        }
    }

    #[test]
    fn what_is_no_atom_is_refused_with_the_list() {
        let long = "x".repeat(ACCESS_LOG_FORMAT_BYTES_MAX + 1);
        for (word, fault) in [
            ("", "must not be empty"),
            ("%h %z", "\"%z\" begins with no atom"),
            ("100%", "\"%\" begins with no atom"),
            ("%(h)", "begins with no atom"),
            ("%(hx)s", "begins with no atom"),
            ("%{Name}x", "begins with no atom"),
            ("%{Name", "begins with no atom"),
            ("%{}i", "begins with no atom"),
            ("%{wsgi.input}e", "of environ there are HTTP_*"),
            ("a\nb", "holds a control character"),
            (&long, "too long with 4097 bytes, at most 4096"),
        ] {
            let refused = access(Some(word), Logging::default()).unwrap_err();
            assert!(refused.fault.contains(fault), "{word}: {refused}");
            assert!(refused.hint.contains("%{Name}i"), "{refused}");
            assert_eq!(refused.to_string().lines().count(), 2, "{refused}");
        }
        assert!(parts(&long[1..]).is_ok());
    }

    #[test]
    fn json_lines_have_json_access_lines_unless_told_otherwise() {
        let json = Logging { format: LogFormat::Json, ..Logging::default() };
        assert_eq!(access(None, json), Ok(AccessLogFormat::Json));
        assert_eq!(access(Some("json"), Logging::default()), Ok(AccessLogFormat::Json));
        assert_eq!(access(None, Logging::default()), Ok(AccessLogFormat::default()));
        assert_eq!(access(Some("common"), json), access(Some(COMMON), json));
    }

    #[test]
    fn levels_and_formats_are_words() {
        assert_eq!(level(Some("warning")), Ok(LogLevel::Warn));
        assert_eq!(level(None), Ok(LogLevel::Info));
        assert_eq!(level(Some("INFO")).unwrap_err().fault, "\"INFO\" is not a log level");
        assert_eq!(format(Some("json")), Ok(LogFormat::Json));
        assert_eq!(format(Some("xml")).unwrap_err().fault, "\"xml\" is not a log format");
    }
}
