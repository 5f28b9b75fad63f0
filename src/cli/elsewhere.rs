//! Options of other servers (gunicorn, uWSGI, uvicorn, waitress, `mod_wsgi`), and what to write here.

/// Their long names, and what a hint says instead.
const ADVICE: &[(&[&str], &str)] = &[
    (&["--workers", "--num-workers", "--concurrency"], "write --processes NUMBER, or -s"),
    (&["--worker-class"], "there are no worker classes: threads (--threads NUMBER), or --green gevent"),
    (&["--worker-connections"], "write --connections-max NUMBER"),
    (
        &["--timeout", "--harakiri"],
        "write --request-timeout SECONDS for a request; --stuck-timeout is for a process",
    ),
    (&["--graceful-timeout", "--timeout-graceful-shutdown"], "write --deadman-timeout SECONDS"),
    (&["--keep-alive", "--timeout-keep-alive"], "write --keepalive-timeout SECONDS"),
    (
        &["--preload", "--preload-app"],
        "leave it out: every worker loads the application, so that HUP brings new code",
    ),
    (&["--pythonpath"], "write --python-path PATH, once for each"),
    (&["--app-dir"], "write --chdir DIRECTORY"),
    (&["--root-path", "--url-prefix", "--mount", "--mount-point"], "write --script-name PATH"),
    (&["--reload-dir", "--reload-include", "--reload-extra-file"], "write --watch PATH"),
    (&["--reload-engine", "--poll"], "write --reload poll"),
    (&["--access-logfile", "--access-log"], "write --access-log-file FILE"),
    (&["--access-logformat"], "write --access-log-format FORMAT"),
    (&["--error-logfile", "--log-file", "--logto"], "write --stderr FILE"),
    (&["--pid"], "write --pidfile FILE"),
    (&["--daemon"], "write --daemonize"),
    (&["--user", "--group", "--uid", "--gid"], "write --chuid USER:GROUP"),
    (&["--umask"], "write --unix-mode MODE for sockets; files are the service manager's UMask="),
    (&["--forwarded-allow-ips", "--trusted-proxy"], "write --trusted-proxies LIST"),
    (&["--check-config"], "write --check"),
    (&["--module", "--wsgi", "--wsgi-file", "--callable"], "name the application alone: spawn mysite.wsgi"),
    (&["--http", "--http-socket", "--listen"], "write --bind ADDRESS"),
    (&["--socket", "--uds", "--unix-socket"], "write --bind unix:PATH"),
    (&["--fd"], "write --bind fd://NUMBER"),
    (&["--limit-request-line"], "write --request-line-bytes-max BYTES"),
    (&["--limit-request-fields"], "write --header-count-max NUMBER"),
    (&["--limit-max-requests"], "write --max-requests NUMBER"),
    (&["--keyfile", "--certfile", "--ssl-keyfile", "--ssl-certfile"], "let a proxy in front speak TLS"),
    (
        &["--settings"],
        "write -f spawning.django_factory.config_factory mysite.settings, or spawn mysite.wsgi",
    ),
];

/// What to write instead of the option `name` of another server.
pub(super) fn advice(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-");
    ADVICE.iter().find(|(names, _)| names.contains(&name.as_str())).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::super::options;
    use super::*;

    #[test]
    fn no_option_of_ours_is_taken_for_anothers_and_every_advice_names_one() {
        let known = |word: &str| options().iter().any(|option| option.long == word);
        for (names, advice) in ADVICE {
            assert!(names.iter().all(|name| !known(name)), "{names:?}");
            for word in advice.split([' ', ',', ')', ':', ';']).filter(|word| word.starts_with("--")) {
                assert!(known(word.trim_start_matches('(')), "{word}");
            }
        }
        assert!(advice("--worker_class").is_some(), "in any spelling");
    }
}
